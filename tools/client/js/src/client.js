// The client: keeps one connection, or comes back to one by the policy of each cause, and answers
// every message that it is given.
//
//     idle --connect()--> connecting --welcome--> open --end--> waiting --> connecting ...
//                             any of them --close(), or a terminal cause--> closed
//
// While another server takes over (move_to) two links are there: `link` serves until `next` is
// welcomed. The state is open as long as `link` is.

import {Alarm, Patience, defaultEnvironment} from "./environment.js";
import {isDuration} from "./backoff.js";
import {Link} from "./link.js";
import {LATE_MS} from "./heartbeat.js";
import {NatProbes} from "./nat_probes.js";
import {Outbox} from "./outbox.js";
import {Retries, policies} from "./policy.js";
import {Session, tokenOf} from "./session.js";
import {TOKEN_BYTES_MAX, checkIdentity, encode, hello, moveTarget, utf8Bytes} from "./wire.js";

/** @typedef {import("../index.js").Answer} Answer */
/** @typedef {import("../index.js").Cause} Cause */
/** @typedef {import("../index.js").ClientState} ClientState */
/** @typedef {import("../index.js").Identity} Identity */
/** @typedef {import("../index.js").Options} Options */
/** @typedef {import("../index.js").Payload} Payload */
/** @typedef {import("../index.js").ServerMessage} ServerMessage */
/** @typedef {import("../index.js").Welcome} Welcome */

const DEFAULTS = {
  connectTimeoutMs: 10_000,
  welcomeTimeoutMs: 10_000,
  tokenTimeoutMs: 30_000,
  answerTimeoutMs: 5000,   // of a ping; longer where round trips are
  misses: 3,               // in a row, until the server is taken for gone
  stableMs: 10_000,        // that a connection must last for earlier ends to be forgotten
  bufferedMax: 1 << 20,    // bytes in the socket, beyond which messages wait in the queue
};
/** @type {import("../index.js").QueueBounds} */
const QUEUE = {messagesMax: 1000, bytesMax: 1 << 20, ageMaxMs: 60_000, overflow: "newest"};
const BACKLOG_MIN = 16_384;    // however small the queue; not measured
const PUMP_MS = 50;            // a socket says nothing when its buffer empties: it is asked
const ONLINE_SPREAD_MS = 1000; // over which the clients of one network come back with it
const OFFLINE_HOLD_MS = 60_000;  // navigator.onLine may be wrong: it delays a try by this at most
const MOVE_TRIES = 3;          // of another server, before the own address is tried again
const EXPIRING_MS = 60_000;    // what a server says beforehand, where what it says is not a time
const EXPIRING_TRIES = 3;      // to get a new token, before the old one ends

/** An event of the client; `detail` is what it is about. */
export class PulseEvent extends Event {
  /** @param {string} type @param {any} [detail] */
  constructor(type, detail) {
    super(type);
    this.detail = detail;
  }
}

/** Why a client that was to be open is closed for good. */
export class PulseError extends Error {
  /** @param {Cause} cause */
  constructor(cause) {
    super(`pulsewheel: ${cause.name}${cause.message ? `: ${cause.message}` : ""}`);
    this.name = "PulseError";
    this.reason = cause;
  }
}

/**
 * Those that are given: one that is undefined leaves its default.
 * @template {object} Some
 * @param {Some | undefined} some
 * @returns {Partial<Some>}
 */
function givenOf(some) {
  const entries = Object.entries(some ?? {}).filter(([, value]) => value !== undefined);
  return /** @type {Partial<Some>} */ (Object.fromEntries(entries));
}

/** @param {Record<string, any>} values @param {string[]} names */
function checkNumbers(values, names) {
  for (const name of names) {
    const value = values[name];
    if (typeof value !== "number" || !(value > 0)) {
      throw new RangeError(`${name}: ${value} is not a number above 0`);
    }
  }
}

/** @param {import("../index.js").QueueBounds} queue */
function checkQueue(queue) {
  checkNumbers(queue, ["bytesMax", "ageMaxMs"]);
  if (queue.messagesMax !== 0) checkNumbers(queue, ["messagesMax"]);
  if (!["newest", "oldest"].includes(queue.overflow)) {
    throw new RangeError(`overflow: '${queue.overflow}' is not newest, oldest`);
  }
}

export class PulseClient extends EventTarget {
  /** @param {Options} options */
  constructor(options) {
    super();
    const given = /** @type {Options} */ (givenOf(options));
    this.options = {...DEFAULTS, ...given};
    checkNumbers(this.options, Object.keys(DEFAULTS));
    checkIdentity(options);
    this.environment = {...defaultEnvironment(), ...givenOf(options.environment)};
    this.WebSocket = options.WebSocket ?? globalThis.WebSocket;
    if (typeof this.WebSocket !== "function") {
      throw new TypeError("WebSocket: there is none here; give a constructor, such as that of ws");
    }
    this.urls = typeof options.url === "string" ? [options.url] : [...options.url];
    if (this.urls.length === 0) throw new RangeError("url: there is none");
    const {user, device, labels, profile} = options;
    /** @type {Identity} */
    this.identity = {user, device, labels, profile};
    /** Grows where the identity is another: a link that was greeted before is told. */
    this.identityVersion = 0;
    if (typeof options.token !== "function") checkToken(options.token);
    this.token = options.token;
    if (typeof (options.resume ?? true) !== "boolean") {
      throw new TypeError("resume: must be true or false");
    }
    if (typeof (options.natProbes ?? false) !== "boolean") {
      throw new TypeError("natProbes: must be true or false");
    }
    this.nat = options.natProbes ? this.#natProbes() : undefined;
    /**
     * What the next connection goes on with, where the server has such a thing.
     * @type {Session | undefined}
     */
    this.session = undefined;

    /** @type {ClientState} */
    this.state = "idle";
    /** @type {Link | undefined} */
    this.link = undefined;
    /** @type {Link | undefined} the one that is to take its place */
    this.next = undefined;
    /**
     * Those that wait for the rest of their answers.
     * @type {Set<Link>}
     */
    this.retired = new Set();
    this.urlIndex = 0;
    /** Own addresses in a row that are not to be tried again. */
    this.refusedUrls = 0;
    /** @type {string | undefined} where a goodbye has sent the client */
    this.movedTo = undefined;
    this.moveFailures = 0;
    /**
     * Of connect(), until the end.
     * @type {undefined | {promise: Promise<Welcome>, resolve: (welcome: Welcome) => void,
     *                     reject: (error: Error) => void}}
     */
    this.ready = undefined;
    this.renewToken = false;
    this.tokenCause = "connect";
    /**
     * Tokens that are waited for: each is given up by a call of this.
     * @type {Set<(why: string) => void>}
     */
    this.tokenWaits = new Set();
    /**
     * A new token for that connection is on its way, or rests until it is asked for again.
     * @type {{link: Link, alarm: Alarm | undefined} | undefined}
     */
    this.renewal = undefined;
    /** Tries that were given up know it by this. */
    this.attempts = 0;

    const queue = {...QUEUE, ...givenOf(options.queue)};
    checkQueue(queue);
    this.outbox = new Outbox(queue);
    this.backlogMax = Math.max(this.options.bufferedMax, queue.bytesMax, BACKLOG_MIN);
    this.retries = new Retries(policies(options.policies), this.environment.random);
    this.retryAlarm = new Alarm(this.environment, () => this.#attempt());
    this.stableAlarm = new Alarm(this.environment, () => this.retries.reset());
    this.pumpAlarm = new Alarm(this.environment, () => this.#pump());
    this.expiryAlarm = new Alarm(this.environment, () => this.#expire());
    /** Before then the server does not want the client back. */
    this.notBefore = 0;
    /** @type {(() => void) | undefined} */
    this.unwatch = undefined;
  }

  #natProbes() {
    const {environment, WebSocket, options} = this;
    return new NatProbes({environment, WebSocket, options,
      getToken: (cause) => this.#getToken(cause),
      tell: (type, detail) => this.#tell(type, detail)});
  }

  // ------------------------------------------------------------------------- what is asked of it

  /** @returns {Promise<Welcome>} of the first welcome; fails once the client is closed for good */
  connect() {
    if (this.ready) return this.ready.promise;
    let settle = {};
    const promise = new Promise((resolve, reject) => { settle = {resolve, reject}; });
    promise.catch(() => {});  // those who listen to events need not look at it
    this.ready = /** @type {any} */ ({promise, ...settle});
    this.retries.reset();
    this.movedTo = undefined;
    this.refusedUrls = 0;
    this.renewToken = false;
    this.tokenCause = "connect";
    this.unwatch = this.environment.watch((event) => this.#lifecycle(event));
    this.#attempt();
    return promise;
  }

  /**
   * Sends a message, or keeps it until there is a connection. It is answered once.
   * @param {Payload} payload
   * @param {{confirm?: boolean}} options
   * @returns {Promise<Answer>}
   */
  send(payload, {confirm = false} = {}) {
    const {frame, bytes} = encode(payload);
    return new Promise((answer) => {
      if (this.state === "closed") return answer({status: "dropped", reason: "closed"});
      const queuedAt = this.environment.now();
      this.outbox.expire(queuedAt);
      this.outbox.push({frame, bytes, confirm, queuedAt, answer});
      this.#pump();
    });
  }

  /**
   * Says who this is from now on, and at once where there is a connection.
   * @param {Partial<Identity> & {token?: Options["token"]}} change
   * @returns {Promise<Welcome | undefined>} the welcome, or undefined where there is no connection
   */
  async login({token, ...change}) {
    const identity = {...this.identity, ...change};
    checkIdentity(identity);
    this.identity = identity;
    if (token !== undefined) this.token = token;
    ++this.identityVersion;
    const {link} = this;
    return link?.phase === "open" ? this.#greetAgain(link) : undefined;
  }

  // Where a server wants tokens, a hello without one changes no login. One whose token came late
  // says what holds by then, not what a later login() has replaced.
  /** @param {Link} link @returns {Promise<Welcome>} */
  async #greetAgain(link) {
    const token = this.token === undefined ? undefined : await this.#getToken("login");
    return welcomeOf(await link.greetAgain(hello(this.identity, token)), link.url);
  }

  /** Ends it: messages that wait are dropped, and nothing is tried any more until connect(). */
  close() {
    this.#finish({name: "closed"});
  }

  /**
   * What waits.
   * @returns {{messages: number, bytes: number}}
   */
  get queued() {
    return {messages: this.outbox.size, bytes: this.outbox.bytes};
  }

  /** Round trip of a ping, smoothed; undefined before the first. */
  get rttMs() {
    return this.link?.heartbeat.rttMs;
  }

  // -------------------------------------------------------------------------------------- tries

  async #attempt() {
    const attempt = ++this.attempts;
    this.retryAlarm.clear();
    if (this.link && this.movedTo === undefined) return this.#leaveForHome(this.link);
    if (!this.link) this.#become("connecting");
    let token;
    try {
      token = await this.#getToken(this.tokenCause);
    } catch (error) {
      if (attempt !== this.attempts) return;
      return this.#tryFailed({name: "token_failed", message: String(error)});
    }
    if (attempt !== this.attempts) return;  // closed meanwhile, or begun anew
    if (!this.link) this.#become("connecting");
    const url = this.movedTo ?? this.urls[this.urlIndex % this.urls.length];
    const link = new Link(this, url, this.#hello(url, token));
    link.identityVersion = this.identityVersion;
    const {next} = this;
    if (this.link) this.next = link;
    else this.link = link;
    if (next && next !== this.next) next.end({name: "closed"});
  }

  // It is not to be moved any more, and its old connection is served yet, beside which its own
  // server might refuse another of the same user and device. What is not confirmed goes along.
  /** @param {Link} old */
  #leaveForHome(old) {
    old.moveTo = undefined;
    old.end({name: "moved"});
  }

  /** @param {string} url @param {string | undefined} token */
  #hello(url, token) {
    return hello(this.identity, token, this.#resumption(url), this.nat && {});
  }

  // A server to which a goodbye has just sent the client has nothing of its session.
  /** @param {string} url */
  #resumption(url) {
    const {session} = this;
    if (this.options.resume === false) return undefined;
    if (!session || this.link) return {};
    return this.movedTo === undefined || session.url === url ? session.hello() : {};
  }

  /** @param {string} cause @returns {Promise<string | undefined>} */
  #getToken(cause) {
    const {token} = this;
    if (typeof token !== "function") return Promise.resolve(checkToken(token));
    return new Promise((resolve, reject) => {
      const giveUp = (/** @type {string} */ why) => {
        end();
        reject(new Error(why));
      };
      const patience = new Patience(this.environment, () => giveUp("took too long"), LATE_MS);
      const end = () => {
        patience.end();
        this.tokenWaits.delete(giveUp);
      };
      this.tokenWaits.add(giveUp);
      patience.begin(this.options.tokenTimeoutMs);
      Promise.resolve({cause, renew: this.renewToken}).then(token).then(checkToken)
          .then(resolve, reject).finally(end);
    });
  }

  /** @param {Cause} cause of a try of another server, or of the only one */
  #tryFailed(cause) {
    const elsewhere = this.movedTo !== undefined;
    if (!elsewhere) ++this.urlIndex;
    if (elsewhere && ++this.moveFailures >= MOVE_TRIES) this.movedTo = undefined;
    this.#again(cause, elsewhere, !elsewhere && cause.name !== "token_failed");
  }

  /**
   * @param {Cause} cause
   * @param {boolean} elsewhere it is that of another server, and no verdict on the own one
   * @param {boolean} isOfUrl it is the verdict on one of the own addresses
   */
  #again(cause, elsewhere = false, isOfUrl = false) {
    const canRenewToken = typeof this.token === "function";
    const {retry, delayMs, attempt, renewToken} = this.retries.decide(cause, {canRenewToken});
    if (isOfUrl) this.refusedUrls = retry ? 0 : this.refusedUrls + 1;
    const isLeft = isOfUrl && this.refusedUrls < this.urls.length;
    if (!retry && !elsewhere && !isLeft) return this.#finish(cause);
    if (!retry) this.movedTo = undefined;
    this.renewToken ||= renewToken;
    this.tokenCause = cause.name;
    this.#wait(cause, delayMs, attempt);
  }

  /** @param {Cause} cause @param {number} delayMs @param {number} attempt */
  #wait(cause, delayMs, attempt) {
    const {attempts} = this;
    if (!this.link) this.#become("waiting");
    if (attempts !== this.attempts) return;  // a listener has closed it
    this.notBefore = cause.retryAfterMs === undefined ? 0 : this.environment.now() + delayMs;
    const held = this.environment.isOnline() ? delayMs : Math.max(delayMs, OFFLINE_HOLD_MS);
    this.retryAlarm.in(held);
    this.#tell("retry", {cause, delayMs: held, attempt});
  }

  /** @param {import("../index.js").LifecycleEvent} event */
  #lifecycle(event) {
    if (event === "online" && this.state === "waiting") {
      const soon = this.environment.now() + this.environment.random() * ONLINE_SPREAD_MS;
      this.retryAlarm.set(Math.min(this.retryAlarm.at, Math.max(soon, this.notBefore)));
    }
    // Timers may have slept: what is due is done now.
    if (event === "wake") for (const alarm of [this.retryAlarm, this.expiryAlarm]) alarm.check();
    else this.nat?.moved();
    this.link?.wake();
    this.next?.wake();
  }

  // ----------------------------------------------------------------------- what its links report

  /** @param {Link} link @param {ServerMessage} welcome */
  linkWelcomed(link, welcome) {
    const old = link === this.next ? this.link : undefined;
    this.link = link;
    this.next = undefined;
    this.moveFailures = 0;
    this.refusedUrls = 0;
    this.renewToken = false;
    this.tokenCause = "connect";
    this.stableAlarm.in(this.options.stableMs);
    const detail = welcomeOf(welcome, link.url);
    const resumed = this.#resume(link, welcome);
    if (old) this.retired.add(old);
    this.#become("open");
    if (link === this.link) this.#tell("welcome", detail);
    if (link === this.link && resumed) this.#tell("resumed", resumed);
    if (link !== this.link) return;  // a listener has closed it
    this.ready?.resolve(detail);
    this.nat?.welcomed(link, welcome);
    this.#pump();
    old?.retire();
    if (link.identityVersion === this.identityVersion || link.phase !== "open") return;
    this.#greetAgain(link).catch((error) => {
      if (link === this.link) this.#tell("error", {message: String(error)});
    });
  }

  // Before anything new is sent. Returns what the application is told, where there was a session.
  /** @param {Link} link @param {any} welcome */
  #resume(link, welcome) {
    const token = tokenOf(welcome);
    const before = this.session;
    const resumed = welcome.resume?.resumed === true && token === before?.token
        ? before?.resume(welcome.resume) : undefined;
    if (before && resumed) {
      link.session = before;
      before.url = link.url;
      link.sendAgain(resumed.again);
      const {lost, again} = resumed;
      return {resumed: true, lost, resent: again.length, unconfirmed: 0};
    }
    // One that the server goes on with, by counts that cannot be, has no count here: the next
    // connection asks for a new one.
    const isNew = token !== undefined && welcome.resume.resumed !== true;
    this.session = link.session = isNew ? new Session(token, link.url) : undefined;
    if (!before) return undefined;
    const {why: said} = welcome.resume ?? {};
    const why = typeof said === "string" ? said : "new";
    return {resumed: false, lost: undefined, resent: 0, unconfirmed: before.drop(why), why};
  }

  /** @param {Link} link */
  keepsSession(link) {
    return this.state !== "closed" && link === this.link && link.session === this.session &&
        link.moveTo === undefined;
  }

  linkConfirmed() {
    this.#pump();
  }

  /** @param {Link} link @param {ServerMessage} goodbye @param {string} moveTo */
  linkMoved(link, goodbye, moveTo) {
    if (link !== this.link || link.isRetired) return;
    const mayMove = this.#mayMove(moveTo);
    if (link !== this.link) return;  // it has closed the client
    if (!mayMove) {
      return link.end({name: "moved", code: goodbye.code, retryAfterMs: goodbye.retry_after_ms});
    }
    link.moveTo = moveTo;
    this.#moveTo(moveTo);
    const cause = {name: "moved", code: goodbye.code, retryAfterMs: goodbye.retry_after_ms, moveTo};
    this.#again(cause);
  }

  /** @param {string} url */
  #mayMove(url) {
    const {allowMove} = this.options;
    try {
      return allowMove === undefined || Boolean(allowMove(url));
    } catch (error) {
      this.#tell("error", {message: `allowMove: ${error}`});
      return false;
    }
  }

  /** @param {string} url */
  #moveTo(url) {
    this.movedTo = url;
    this.moveFailures = 0;
  }

  /** @param {Link} link @param {ServerMessage | string | ArrayBuffer} message */
  linkHeard(link, message) {
    if (typeof message === "string") return this.#tell("message", {kind: "text", data: message});
    if (isBytes(message)) return this.#tell("message", {kind: "binary", data: message});
    if (message.type === "data") return this.#tell("message", {kind: "data", data: message});
    if (link !== this.link) return;
    switch (message.type) {
      case "expiring":
        return this.#expiring(link, isDuration(message.in_ms) ? message.in_ms : EXPIRING_MS);
      case "interval":
        return this.#tell("interval",
            {intervalMs: message.interval_ms, timeoutMs: message.timeout_ms});
      case "goodbye":
        return this.#tell("goodbye", {reason: message.reason ?? "", code: message.code,
          retryAfterMs: message.retry_after_ms, moveTo: message.move_to});
      default:
        return this.#tell("error", {code: message.code, message: message.message});
    }
  }

  /** @param {Link} link */
  linkMissed(link) {
    this.#tell("missed", {misses: link.heartbeat.misses, of: this.options.misses});
  }

  /** @param {Link} link @param {Cause} cause */
  linkEnded(link, cause) {
    this.retired.delete(link);
    if (link === this.next) {
      this.next = undefined;
      return this.#tryFailed(cause);
    }
    if (link !== this.link) return;
    this.link = undefined;
    this.nat?.lost(link, cause.name);
    this.#endRenewal();
    const wasOpen = this.state === "open";
    if (wasOpen) this.stableAlarm.clear();
    if (link.moveTo !== undefined) {  // another is to take over already, whatever this ended of
      this.link = this.next;
      this.next = undefined;
      return this.#become(this.link ? "connecting" : "waiting");
    }
    const {attempts} = this;
    if (wasOpen) this.#tell("lost", {cause});
    if (attempts !== this.attempts) return;  // a listener has closed it
    const target = cause.moveTo === undefined ? undefined : moveTarget(cause.moveTo, link.url);
    const mayMove = target !== undefined && this.#mayMove(target);
    if (attempts !== this.attempts) return;
    if (mayMove) {
      this.#moveTo(target);
      return this.#again(cause);
    }
    if (wasOpen) return this.#again(cause);
    this.#tryFailed(cause);
  }

  /** @param {Link} link @param {number} inMs */
  #expiring(link, inMs) {
    this.#tell("expiring", {inMs});
    this.#renew(link, inMs);
  }

  /**
   * The token ends soon: another is asked for, and given.
   * @param {Link} link
   * @param {number} inMs
   */
  async #renew(link, inMs) {
    if (typeof this.token !== "function" || this.renewal?.link === link) return;
    this.#endRenewal();
    /** @type {{link: Link, alarm: Alarm | undefined}} */
    const renewal = {link, alarm: undefined};
    this.renewal = renewal;
    await this.#tryRenewal(renewal, inMs);
    if (this.renewal === renewal) this.renewal = undefined;
  }

  /** @param {{link: Link, alarm: Alarm | undefined}} renewal @param {number} inMs */
  async #tryRenewal(renewal, inMs) {
    const {link} = renewal;
    this.renewToken = true;
    for (let tries = 1; tries <= EXPIRING_TRIES && link.phase === "open"; ++tries) {
      try {
        const token = await this.#getToken("expiring");
        if (link.phase !== "open") return;
        const welcome = await link.greetAgain(hello(this.identity, token));
        this.renewToken = false;
        return this.#tell("welcome", welcomeOf(welcome, link.url));
      } catch (error) {
        if (link.phase !== "open") return;
        this.#tell("error", {message: `no new token: ${error}`});
        await new Promise((resolve) => {
          renewal.alarm = new Alarm(this.environment, () => resolve(undefined));
          renewal.alarm.in(inMs / (2 * EXPIRING_TRIES));
        });
      }
    }
  }

  #endRenewal() {
    this.renewal?.alarm?.clear();
    this.renewal = undefined;
  }

  // -------------------------------------------------------------------------------------- messages

  #expire() {
    this.outbox.expire(this.environment.now());
    this.expiryAlarm.set(this.outbox.expiresAt());
  }

  #pump() {
    const {outbox, options} = this;
    outbox.expire(this.environment.now());
    while (outbox.size > 0 && this.link?.takesMessages) {
      if (this.link.buffered >= options.bufferedMax) {
        this.pumpAlarm.in(PUMP_MS);
        break;
      }
      const item = /** @type {import("./outbox.js").Item} */ (outbox.first);
      // Asking for room may call a listener, which may close the client. linkConfirmed() goes on.
      if (!this.link.hasRoom(item, outbox.bounds)) break;
      outbox.shift();
      if (this.link.sendItem(item)) continue;
      outbox.unshift(item);
      break;
    }
    this.expiryAlarm.set(outbox.expiresAt());
  }

  // -------------------------------------------------------------------------------------- the rest

  /** @param {ClientState} state */
  #become(state) {
    if (this.state === state) return;
    const before = this.state;
    this.state = state;
    this.#tell("state", {state, before});
  }

  /** @param {string} type @param {any} detail */
  #tell(type, detail) {
    this.dispatchEvent(new PulseEvent(type, detail));
  }

  /** @param {Cause} cause */
  #finish(cause) {
    if (this.state === "closed") return;
    ++this.attempts;
    for (const alarm of [this.retryAlarm, this.stableAlarm, this.pumpAlarm, this.expiryAlarm]) {
      alarm.clear();
    }
    for (const giveUp of [...this.tokenWaits]) giveUp("the client is closed");
    this.#endRenewal();
    this.nat?.stop();
    this.unwatch?.();
    this.unwatch = undefined;
    const {link, next, ready} = this;
    this.link = this.next = this.ready = undefined;
    for (const one of this.retired) one.end(cause);
    next?.end(cause);
    link?.end(cause);
    this.session?.drop(cause.name);
    this.session = undefined;
    this.outbox.clear(cause.name === "closed" ? "closed" : "ended");
    ready?.reject(new PulseError(cause));
    this.#become("closed");
    this.#tell("end", {cause});
  }
}

/** @param {any} message @returns {message is ArrayBuffer} */
const isBytes = (message) => message instanceof ArrayBuffer || ArrayBuffer.isView(message);

/** @param {unknown} token @returns {string | undefined} */
function checkToken(token) {
  if (token === undefined || token === null) return undefined;
  if (typeof token !== "string") throw new TypeError("token: is not a string");
  const bytes = utf8Bytes(token);
  if (bytes > TOKEN_BYTES_MAX) {
    throw new RangeError(`token: has ${bytes} bytes; at most ${TOKEN_BYTES_MAX} are taken`);
  }
  return token;
}

/** @param {ServerMessage} welcome @param {string} url @returns {Welcome} */
function welcomeOf(welcome, url) {
  return {
    url,
    conn: welcome.conn ?? "",
    intervalMs: Number(welcome.interval_ms),
    timeoutMs: Number(welcome.timeout_ms),
    user: welcome.user,
    device: welcome.device,
    session: welcome.session,
  };
}
