// One socket, from its connect to its end: the greeting, heartbeats, messages both ways.
//
//     connecting --opens--> greeting --welcome--> open --> ended
//         |                    |                    |
//         +-- too long, refused, closed, silent ----+--> owner.linkEnded(link, cause), once
//
// A goodbye ends it at once, but for one that names another server: then it is kept until that one
// welcomes the client (make before break), or the server closes it. Messages wait meanwhile: not
// every server reads on behind its goodbye. What is heard after the end is dropped.

import {Alarm, Patience} from "./environment.js";
import {Heartbeat, LATE_MS} from "./heartbeat.js";
import {ACK_MS} from "./session.js";
import {
  SUBPROTOCOL, isInterval, moveTarget, parse, parseCloseWords, parseRetryAfter, ping, pong,
  utf8Bytes,
} from "./wire.js";

/** @typedef {import("../index.js").Cause} Cause */
/** @typedef {import("../index.js").Environment} Environment */
/** @typedef {import("../index.js").ServerMessage} ServerMessage */
/** @typedef {import("./outbox.js").Item} Item */
/**
 * @typedef {object} Hello
 * @property {string} text
 * @property {(welcome: ServerMessage) => void} welcomed
 * @property {(error: Error) => void} refused
 */

/**
 * @typedef {object} Owner
 * @property {Environment} environment
 * @property {any} WebSocket
 * @property {{connectTimeoutMs: number, welcomeTimeoutMs: number, answerTimeoutMs: number,
 *             misses: number}} options
 * @property {number} backlogMax a quarter of the bytes that messages may have waiting in the socket
 * @property {(link: Link, welcome: ServerMessage) => void} linkWelcomed
 * @property {(link: Link, goodbye: ServerMessage, moveTo: string) => void} linkMoved
 * @property {(link: Link, message: ServerMessage | string | ArrayBuffer) => void} linkHeard
 * @property {(link: Link, cause: Cause) => void} linkEnded
 * @property {(link: Link) => void} linkMissed
 * @property {() => void} linkConfirmed some of `unconfirmed` are
 * @property {(link: Link) => boolean} keepsSession it may be resumed, now that the link ends
 */

const OPEN = 1;  // WebSocket.OPEN
const CLOSED = 1000;
/** The client comes back: a server that reads this yet keeps the session (PROTOCOL.md). */
const COMES_BACK = 4000;
const PUT_OFF_MAX = 5;  // tries of a hello that the server puts off (1013)
const PUT_OFF_MS = 1000;
const CLOSE_EVENT_MS = 100;  // behind an error, until a close event is not waited for any more
const CODE_PUT_OFF = 1013;
const CODE_INVALID = 1007;
const CONFIRM_MESSAGES = 32;  // that may have to be sent again, until it is asked for them
const CONFIRM_BYTES = 1 << 16;

export class Link {
  /** @param {Owner} owner @param {string} url @param {string} hello */
  constructor(owner, url, hello) {
    this.owner = owner;
    this.environment = owner.environment;
    this.url = url;
    /** @type {"connecting" | "greeting" | "open" | "ended"} */
    this.phase = "connecting";
    /** Another link has its place; it waits for the rest of its answers. */
    this.isRetired = false;
    /** Of the identity that it was greeted with. */
    this.identityVersion = 0;
    this.conn = "";
    this.openedAt = 0;
    /** @type {ServerMessage | undefined} */
    this.goodbye = undefined;
    /**
     * Where its goodbye has sent the client, which goes there.
     * @type {string | undefined}
     */
    this.moveTo = undefined;
    /** @type {{status: number, retryAfterMs?: number} | undefined} */
    this.refusal = undefined;
    /**
     * Hellos in their order, of which the first is out.
     * @type {Hello[]}
     */
    this.hellos = [];
    this.putOff = 0;
    /** Messages that had not left were before it, when that was last looked at. */
    this.isHelloBehind = false;
    /**
     * Sent and not yet confirmed: by a pong of that number or above.
     * @type {{item: Item, seq: number}[]}
     */
    this.unconfirmed = [];
    this.unconfirmedBytes = 0;
    /** Of them, those whose sender waits for it. */
    this.confirmations = 0;
    this.confirmingSeq = 0;
    /** The last ping that has an answer. */
    this.answeredSeq = 0;
    /**
     * Where the server lets it be resumed, from the welcome on: then all that is sent is kept until
     * it is confirmed.
     * @type {import("./session.js").Session | undefined}
     */
    this.session = undefined;
    /** Bytes that the socket still had when it was last looked at. */
    this.bufferedSeen = 0;
    /** At the last poll it had some: a ping from then on is behind them. */
    this.hadBacklog = false;
    /** Some have left since. */
    this.hasMoved = false;

    const {options, environment} = owner;
    this.heartbeat = new Heartbeat({...options, random: environment.random});
    this.beat = new Alarm(environment, () => this.#poll());
    this.patience = new Patience(environment, () => this.#tooLong(), LATE_MS);
    this.again = new Alarm(environment, () => this.#sendHello());
    this.acknowledge = new Alarm(environment, () => this.#acknowledge());
    this.retirement = new Alarm(environment, () => this.end({name: "closed"}));
    this.failure = new Alarm(environment, () => this.#closed(1006, ""));
    this.hellos.push({text: hello, welcomed: (welcome) => this.#welcomed(welcome),
      refused: () => {}});  // its end says it
    this.#connect();
  }

  // --------------------------------------------------------------------------------- the socket

  #connect() {
    try {
      this.socket = new this.owner.WebSocket(this.url, [SUBPROTOCOL]);
    } catch (error) {
      // An address that no socket takes, or ws: in a page of https:.
      const message = String(/** @type {any} */ (error)?.message ?? error);
      queueMicrotask(() => this.end({name: "bad_url", message}));
      return;
    }
    const {socket} = this;
    socket.binaryType = "arraybuffer";
    socket.onopen = () => this.#opened();
    socket.onmessage = (/** @type {{data: any}} */ {data}) => this.#heard(data);
    socket.onclose = (/** @type {any} */ event) => this.#closed(event.code, event.reason ?? "");
    socket.onerror = (/** @type {any} */ event) => this.#failed(event);
    // Of Node's `ws` alone: the answer to an upgrade that is refused.
    socket.on?.("unexpected-response", (/** @type {any} */ _, /** @type {any} */ response) => {
      const header = response.headers["retry-after"];
      const retryAfterMs = parseRetryAfter(header, this.environment.wallNow());
      this.refusal = {status: response.statusCode, retryAfterMs};
      this.#closed(1006, "");
    });
    this.patience.begin(this.owner.options.connectTimeoutMs);
  }

  #opened() {
    this.phase = "greeting";
    this.patience.begin(this.owner.options.welcomeTimeoutMs);
    this.#sendHello();
  }

  // `ws` has words for a status where nothing listens to its event. A close event follows, but
  // where a connection fails under Node 20's own WebSocket.
  #failed(/** @type {any} */ event) {
    const status = /Unexpected server response: (\d{3})/.exec(String(event?.message ?? ""));
    if (status) this.refusal ??= {status: Number(status[1])};
    this.failure.in(CLOSE_EVENT_MS);
  }

  /** @param {number} code @param {string} words */
  #closed(code, words) {
    if (this.phase === "connecting") {
      const {refusal} = this;
      return this.end(refusal ? {name: `http_${refusal.status}`, ...refusal} : {name: "refused"});
    }
    this.end(this.goodbye ? this.#causeOf(this.goodbye) : causeOfClose(code, words));
  }

  /** @param {ServerMessage} goodbye @returns {Cause} */
  #causeOf({reason, code, retry_after_ms, move_to}) {
    return {name: reason || `close_${code}`, code, retryAfterMs: retry_after_ms, moveTo: move_to};
  }

  #tooLong() {
    // A later hello may wait behind messages: whether those move, heartbeats judge.
    const isBehind = this.isHelloBehind;
    this.isHelloBehind = this.phase === "open" && this.buffered > 0;
    if (isBehind || this.isHelloBehind) {
      return this.patience.begin(this.owner.options.welcomeTimeoutMs);
    }
    this.end({name: this.phase === "connecting" ? "connect_timeout" : "welcome_timeout"});
  }

  /**
   * Ends it, once.
   * @param {Cause} cause
   * @param {boolean} [cut] without a closing handshake: the other end does not answer
   */
  end(cause, cut = false) {
    if (this.phase === "ended") return;
    this.phase = "ended";
    for (const alarm of [this.beat, this.again, this.acknowledge, this.retirement, this.failure]) {
      alarm.clear();
    }
    this.patience.end();
    this.#letGo(cut, cause.name === "closed" ? CLOSED : COMES_BACK);
    this.#leave(cause);
    const error = new Error(`the connection ended: ${cause.name}`);
    for (const {refused} of this.hellos.splice(0)) refused(error);
    this.owner.linkEnded(this, cause);
  }

  // What is not confirmed waits for the next connection, or has its answer.
  /** @param {Cause} cause */
  #leave(cause) {
    const left = this.unconfirmed.splice(0).map(({item}) => item);
    this.unconfirmedBytes = 0;
    if (this.session && this.owner.keepsSession(this)) {
      this.session.unconfirmed = left;
      return;
    }
    for (const item of left) {
      if (item.confirm) item.answer({status: "unconfirmed", reason: cause.name});
    }
  }

  /** @param {boolean} cut @param {number} code */
  #letGo(cut, code) {
    const {socket} = this;
    if (!socket) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.onerror = () => {};  // an error that has no listener ends a process of Node's
    try {
      if (typeof socket.terminate === "function" && (cut || socket.readyState < OPEN)) {
        socket.terminate();
      } else {
        socket.close(socket.readyState === OPEN ? code : undefined);
      }
    } catch {
      // It is closed already.
    }
  }

  // --------------------------------------------------------------------------------- the greeting

  /**
   * Another hello, once those before it are answered: other labels, a new token.
   * @param {string} text
   * @returns {Promise<ServerMessage>}
   */
  greetAgain(text) {
    return new Promise((welcomed, refused) => {
      if (this.phase !== "open") return refused(new Error("the connection ended"));
      this.hellos.push({text, welcomed, refused});
      if (this.hellos.length > 1) return;
      this.patience.begin(this.owner.options.welcomeTimeoutMs);
      this.#sendHello();
    });
  }

  #sendHello() {
    this.isHelloBehind = this.phase === "open" && this.buffered > 0;
    if (this.hellos.length > 0) this.#send(this.hellos[0].text);
  }

  /** @param {(hello: Hello) => void} answer */
  #helloAnswered(answer) {
    const hello = this.hellos.shift();
    this.putOff = 0;
    this.again.clear();
    this.patience.end();
    if (hello) answer(hello);
    if (this.hellos.length === 0 || this.phase === "ended") return;
    this.patience.begin(this.owner.options.welcomeTimeoutMs);
    this.#sendHello();
  }

  /** @param {ServerMessage} welcome */
  #welcomed(welcome) {
    if (this.phase !== "greeting") return;
    this.phase = "open";
    this.openedAt = this.environment.now();
    this.conn = welcome.conn ?? "";
    this.owner.linkWelcomed(this, welcome);
  }

  // An error while a hello is out is about that: before the welcome nothing else is sent, and
  // afterwards nothing that the server answers with one. It takes an object that it does not read,
  // such as one more than 64 deep, for the application's (proto/PROTOCOL.md, "JSON objects").
  /** @param {ServerMessage} error */
  #refused({code, message = ""}) {
    const words = `the server refused the hello: ${code} ${message}`;
    if (code === CODE_PUT_OFF && !/^(duplicate|user_full)/.test(message)) {
      if (++this.putOff < PUT_OFF_MAX) {
        const ms = PUT_OFF_MS * 2 ** (this.putOff - 1);
        this.patience.begin(ms + this.owner.options.welcomeTimeoutMs);
        return this.again.in(ms * (0.5 + 0.5 * this.environment.random()));
      }
      if (this.phase === "greeting") return this.end({name: "hello_put_off", code, message});
    }
    if (this.phase === "greeting") {
      // Otherwise the goodbye is on its way, and says why.
      if (code === CODE_INVALID) this.end({name: "hello_refused", message});
      return;
    }
    this.#helloAnswered(({refused}) => refused(new Error(words)));
  }

  // --------------------------------------------------------------------------------- bytes in

  /** @param {any} data */
  #heard(data) {
    const message = typeof data === "string" ? parse(data) : undefined;
    const now = this.environment.now();
    this.heartbeat.heard(now, message?.type === "pong" ? Number(message.seq) : undefined);
    if (message === undefined || message.type === "data") this.#count(data);
    this.#take(message ?? data, now);
    if (this.phase === "open") this.#rearm();
  }

  // A message of the application is counted before it is handed over: what that does may fail.
  /** @param {any} data */
  #count(data) {
    const {session} = this;
    if (!session || this.phase !== "open") return;
    const bytes = typeof data === "string" ? utf8Bytes(data) : Number(data.byteLength ?? 0);
    if (session.count(bytes)) return this.#acknowledge();
    if (!(this.acknowledge.at < Infinity)) this.acknowledge.in(ACK_MS);
  }

  // A server that asks on and reads nothing must not fill this end's memory. Beyond what messages
  // may have waiting its pings go unanswered, and acks wait.
  #mayAnswer() {
    return this.buffered / 4 <= this.owner.backlogMax;
  }

  #acknowledge() {
    this.acknowledge.clear();
    if (!this.takesMessages || !this.session) return;
    if (!this.#mayAnswer()) return this.acknowledge.in(ACK_MS);
    const ack = this.session.ack();
    if (ack !== undefined) this.#send(ack);
  }

  /** @param {any} message @param {number} now */
  #take(message, now) {
    switch (message.type) {
      case "welcome":
        if (this.phase !== "open") return this.#start(message, now);
        if (isInterval(message.interval_ms)) {
          this.heartbeat.retime(now, message.interval_ms, message.timeout_ms);
        }
        return this.#helloAnswered(({welcomed}) => welcomed(message));
      case "interval":
        if (!isInterval(message.interval_ms)) {
          return this.owner.linkHeard(this, {type: "error", message: notInterval(message)});
        }
        if (this.phase !== "open") return;  // the welcome has what holds
        this.heartbeat.retime(now, message.interval_ms, message.timeout_ms);
        return this.owner.linkHeard(this, message);
      case "pong":
        this.answeredSeq = Math.max(this.answeredSeq, Number(message.seq) || 0);
        return this.#confirm(Number(message.seq));
      case "ping":
        if (this.#mayAnswer()) this.#send(pong(message));
        return;
      case "goodbye":
        return this.#told(message);
      case "error":
        if (this.hellos.length > 0) this.#refused(message);
        return this.owner.linkHeard(this, message);
      default:  // data, expiring, and what is the application's
        return this.owner.linkHeard(this, message);
    }
  }

  /** @param {any} welcome the first @param {number} now */
  #start(welcome, now) {
    if (!isInterval(welcome.interval_ms)) {
      return this.end({name: "protocol_error", message: notInterval(welcome)});
    }
    this.heartbeat.start(now, welcome.interval_ms, welcome.timeout_ms);
    this.#helloAnswered(({welcomed}) => welcomed(welcome));
  }

  /** @param {ServerMessage} goodbye */
  #told(goodbye) {
    if (this.goodbye) return;  // it has gone by the first already
    this.goodbye = goodbye;
    this.owner.linkHeard(this, goodbye);
    const target = goodbye.move_to === undefined
        ? undefined : moveTarget(goodbye.move_to, this.url);
    if (target !== undefined && this.phase === "open") {
      return this.owner.linkMoved(this, goodbye, target);
    }
    this.end(this.#causeOf(goodbye));
  }

  // --------------------------------------------------------------------------------- bytes out

  /** Whether a message that is sent now has a chance: behind its goodbye a server may read none. */
  get takesMessages() {
    return this.phase === "open" && !this.goodbye && this.socket.readyState === OPEN;
  }

  get buffered() {
    return Number(this.socket?.bufferedAmount ?? 0);
  }

  /** @param {string | Uint8Array} frame @returns {boolean} whether the socket took it */
  #send(frame) {
    if (this.socket?.readyState !== OPEN) return false;
    this.#lookAtBacklog();
    try {
      this.socket.send(frame);
      return true;
    } catch {
      return false;
    } finally {
      this.bufferedSeen = this.buffered;
    }
  }

  // Between two of our own sends the bytes of a socket only leave. Their number at two polls would
  // not show it: while the application goes on to send, it stays.
  #lookAtBacklog() {
    const {buffered} = this;
    if (buffered < this.bufferedSeen) this.hasMoved = true;
    this.bufferedSeen = buffered;
  }

  /**
   * A message of the application. False: it is still the caller's.
   * @param {Item} item
   */
  sendItem(item) {
    if (!this.takesMessages || !this.#send(item.frame)) return false;
    if (!item.confirm) item.answer({status: "sent"});
    this.#await(item);
    return true;
  }

  // The server reads in order: the answer to a later ping shows that it has read this.
  /** @param {Item} item */
  #await(item) {
    if (!item.confirm && !this.session) return;
    if (!this.session) item.frame = "";  // it is not sent again
    this.unconfirmed.push({item, seq: this.heartbeat.seq + 1});
    this.unconfirmedBytes += item.bytes;
    if (item.confirm) ++this.confirmations;
    if (this.#wantsToConfirm()) this.#askToConfirm();
  }

  /**
   * What was sent on the connection before, in its order, and may not have come. What the socket
   * does not take waits for the next one.
   * @param {Item[]} items
   */
  sendAgain(items) {
    for (const item of items) {
      if (this.phase === "open") this.#send(item.frame);
      this.#await(item);
    }
  }

  // Who asked to have a message confirmed waits for that; the rest has time, but not for ever.
  #wantsToConfirm() {
    return this.confirmations > 0 || this.unconfirmed.length >= CONFIRM_MESSAGES ||
        this.unconfirmedBytes >= CONFIRM_BYTES;
  }

  /**
   * Whether so much more may be sent before some is confirmed. Where it may not, that is asked for.
   * @param {Item} item
   * @param {import("../index.js").QueueBounds} bounds
   */
  hasRoom(item, {messagesMax, bytesMax}) {
    const {length} = this.unconfirmed;
    if (length === 0 || !(item.confirm || this.session)) return true;
    const isFull = length >= messagesMax ||
        (this.session !== undefined && this.unconfirmedBytes + item.bytes > bytesMax);
    if (isFull) this.#askToConfirm();
    return !isFull;
  }

  // One ping at a time asks for all that was sent before it.
  #askToConfirm() {
    if (this.confirmingSeq !== 0 || this.unconfirmed.length === 0 || this.phase !== "open") return;
    this.confirmingSeq = this.heartbeat.seq + 1;
    this.heartbeat.hurry();
    this.#poll();
  }

  /** @param {number} seq */
  #confirm(seq) {
    let count = 0;
    while (count < this.unconfirmed.length && this.unconfirmed[count].seq <= seq) ++count;
    if (this.session) this.session.confirmed += count;
    for (const {item} of this.unconfirmed.splice(0, count)) {
      this.unconfirmedBytes -= item.bytes;
      if (!item.confirm) continue;
      --this.confirmations;
      item.answer({status: "received"});
    }
    if (this.confirmingSeq === 0 || seq < this.confirmingSeq) return;
    this.confirmingSeq = 0;
    if (this.phase !== "open") return;
    if (this.isRetired && this.unconfirmed.length === 0) return this.end({name: "closed"});
    if (this.isRetired || this.#wantsToConfirm()) this.#askToConfirm();
    this.owner.linkConfirmed();
  }

  /** It has no place any more: ends it, once what it sent is confirmed or can wait no longer. */
  retire() {
    this.isRetired = true;
    if (this.unconfirmed.length === 0) return this.end({name: "closed"});
    this.#askToConfirm();
    this.retirement.in(this.heartbeat.waitMs());
  }

  // --------------------------------------------------------------------------------- heartbeats

  /** The page is seen again, or its network changed: a beat, and then a judgement. */
  wake() {
    if (this.phase !== "open") return;
    this.heartbeat.wake(this.environment.now());
    this.#poll();
  }

  /** Pings now. The number of that ping, which `answeredSeq` reaches; 0: it is not open. */
  ask() {
    if (this.phase !== "open") return 0;
    this.heartbeat.hurry();
    this.#poll();
    return this.phase === "open" ? this.heartbeat.seq : 0;
  }

  /**
   * It beats so often at least.
   * @param {number} intervalMs
   */
  bound(intervalMs) {
    this.heartbeat.bound(this.environment.now(), intervalMs);
    if (this.phase === "open") this.#rearm();
  }

  #poll() {
    if (this.phase !== "open") return;
    const now = this.environment.now();
    this.#lookAtBacklog();
    const hasBacklog = this.bufferedSeen > 0;
    // Without a backlog what leaves proves nothing: a system takes much that reaches no server.
    const uploads = this.hasMoved && (hasBacklog || this.hadBacklog);
    const step = this.heartbeat.poll(now, {uploads});
    this.hadBacklog = hasBacklog;
    this.hasMoved = false;
    if (step.missed) this.owner.linkMissed(this);
    if (step.gone) return this.end({name: "silent"}, true);
    if (step.ping !== undefined) this.#send(ping(step.ping));
    this.#rearm();
  }

  #rearm() {
    this.beat.set(this.heartbeat.dueAt());
  }
}

/** @param {ServerMessage} message */
const notInterval = ({type, interval_ms}) =>
  `the server's ${type} has no interval: interval_ms is ${JSON.stringify(interval_ms)}`;

/** @param {number} code @param {string} words @returns {Cause} */
function causeOfClose(code, words) {
  const {reason, retryAfterMs, moveTo, message} = parseCloseWords(words);
  return {name: reason || `close_${code}`, code, retryAfterMs, moveTo, message};
}
