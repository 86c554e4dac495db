// A world for the JavaScript client: its clock, its timers, its network and servers that speak the
// protocol, all from a seed. Nothing here waits or looks at a real clock.
//
// Events happen one at a time, in the order of their instants. A page may be frozen: its timers and
// what its sockets receive come when it is thawed, timers first, which is the worse order.

/** A generator of numbers in [0, 1) (mulberry32). */
export function seeded(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

const settle = () => new Promise((resolve) => setImmediate(resolve));

export class World {
  constructor(seed = 1) {
    this.random = seeded(seed);
    this.now = 0;
    this.order = 0;
    this.events = [];       // of all kinds, unordered: there are few
    this.handled = 0;
    this.frozenUntil = 0;
    this.throttleMs = 0;    // timers of the page come at multiples of this
    this.online = true;
    this.natMs = Infinity;  // a connection that was silent for longer is forgotten on its way
    this.natResets = false; // and its next frame has a reset; else it goes nowhere
    this.watchers = new Set();
    this.servers = new Map();
    this.sockets = [];      // all that were made
    this.beforeEvent = () => {};
    const world = this;
    this.WebSocket = class extends FakeSocket {
      constructor(url, protocols) { super(world, url, protocols); }
    };
    this.environment = {
      now: () => this.now,
      wallNow: () => 1.7e12 + this.now,
      random: seeded(seed ^ 0x5eed),
      setTimeout: (action, ms) => this.at(this.pageTime(this.now + ms), action, "timer"),
      clearTimeout: (event) => this.drop(event),
      isOnline: () => this.online,
      watch: (tell) => {
        this.watchers.add(tell);
        return () => this.watchers.delete(tell);
      },
    };
  }

  pageTime(at) {
    return this.throttleMs ? Math.ceil(at / this.throttleMs) * this.throttleMs : at;
  }
  /** @param {"timer" | "page" | "world"} kind page: what a socket of the page receives */
  at(at, action, kind = "world") {
    const event = {at, action, kind, order: ++this.order};
    this.events.push(event);
    return event;
  }
  in(ms, action, kind) { return this.at(this.now + ms, action, kind); }
  drop(event) {
    const index = this.events.indexOf(event);
    if (index >= 0) this.events.splice(index, 1);
  }
  freeze(ms) { this.frozenUntil = this.now + ms; }
  tell(event) { for (const watcher of [...this.watchers]) watcher(event); }

  // When an event happens, as an order: its instant, and at one instant timers first.
  when(event) {
    const at = event.kind === "world" ? event.at : Math.max(event.at, this.frozenUntil);
    return {at, rank: event.kind === "timer" ? 0 : 1};
  }
  next() {
    let first, firstWhen;
    for (const event of this.events) {
      const when = this.when(event);
      if (!first || when.at < firstWhen.at || (when.at === firstWhen.at &&
          (when.rank - firstWhen.rank || event.order - first.order) < 0)) {
        [first, firstWhen] = [event, when];
      }
    }
    return first && {event: first, at: firstWhen.at};
  }
  async run(until, isDone = () => false) {
    await settle();
    for (;;) {
      const next = this.next();
      if (!next || next.at > until || isDone()) break;
      this.now = Math.max(this.now, next.at);
      this.drop(next.event);
      this.beforeEvent(this.handled++);
      next.event.action();
      await settle();
    }
    if (!isDone()) this.now = Math.max(this.now, until);
  }

  between(least, most) { return least + (most - least) * this.random(); }
  chance(share) { return this.random() < share; }

  server(url, behaviour = {}) {
    const server = new FakeServer(this, url, behaviour);
    this.servers.set(server.url, server);
    return server;
  }
}

export class FakeServer {
  constructor(world, url, behaviour) {
    this.world = world;
    this.url = new URL(url).href;
    this.connects = "accept";    // refuse: a reset; hang: no answer; or a status of HTTP
    this.retryAfter = undefined; // of that status
    this.latencyMs = [5, 100];
    this.intervalMs = 10_000;
    this.timeoutMs = 30_000;
    this.uploadBytesPerS = Infinity;  // that leave a socket; what waits is its bufferedAmount
    this.stalledUntil = 0;       // it reads nothing until then, and loses nothing
    this.userOfToken = undefined;  // (token) => user: it wants tokens (PROTOCOL.md, "Tokens")
    this.sessions = undefined;   // token -> a session that can be resumed: a Map, if it has such
    this.keptMax = Infinity;     // messages that it keeps of each
    this.onHello = undefined;    // (socket, hello) => true if it has answered
    this.nat = undefined;        // it takes side connections: {network}, and what is known of it
    this.sides = [];             // of those, all
    this.natReports = [];
    this.hellos = [];
    this.data = [];              // {id, conn}, in the order of arrival
    this.pings = [];             // {at, conn}
    this.conns = 0;
    this.unread = [];
    this.onMessage = undefined;
    Object.assign(this, behaviour);
  }
  get sockets() {
    return this.world.sockets.filter((socket) => socket.server === this && socket.isUp);
  }
  latency() { return this.world.between(...this.latencyMs); }
  send(socket, message) {
    socket.toPage(typeof message === "string" ? message : JSON.stringify(message));
  }
  // A goodbye, and a close frame behind it; nothing that comes after it is read.
  goodbye(socket, {code, reason, ...more}) {
    this.send(socket, {type: "goodbye", code, reason, ...more});
    socket.isRead = false;
    if (!this.keepsOpen) socket.endFromServer(code, reason);
  }
  receive(socket, data) {
    this.unread.push([socket, data]);
    this.readAll();
  }
  readAll() {
    if (this.world.now < this.stalledUntil) {
      return void this.world.at(this.stalledUntil, () => this.readAll());
    }
    for (const [socket, data] of this.unread.splice(0)) this.read(socket, data);
  }
  read(socket, data) {
    if (!socket.isRead) return;
    if (data.close) return this.closed(socket, data.close.code);
    const message = typeof data === "string" && data.startsWith("{") ? JSON.parse(data) : {};
    if (this.onMessage?.(socket, message)) return;
    if (message.type === "hello") {
      this.hellos.push(message);
      if (this.onHello?.(socket, message)) return;
      if (message.probe && this.nat) return this.takeSide(socket);
      if (message.nat?.kept_ms) this.natReports.push(message.nat);
      const session = this.userOfToken ? this.judge(socket, message) : {};
      if (!session) return;
      socket.conn ??= `${this.url}#${++this.conns}`;
      const resume = this.sessions && !socket.session ? this.resume(socket, message) : undefined;
      this.send(socket, {type: "welcome", conn: socket.conn, interval_ms: this.intervalMs,
        timeout_ms: this.timeoutMs, ...session, resume, nat: this.nat ?? undefined});
      if (resume?.resumed) for (const {text} of socket.session.kept) this.send(socket, text);
    } else if (message.type === "ping") {
      this.pings.push({at: this.world.now, conn: socket.conn});
      this.send(socket, {type: "pong", seq: message.seq});
    } else if (message.type === "ack") {
      if (socket.session) this.acknowledge(socket.session, message.received);
    } else if (message.type === "data") {
      this.data.push({id: message.id, conn: socket.conn});
      if (socket.session) ++socket.session.received;
      if (this.echoes) this.send(socket, data);
    }
  }
  // PROTOCOL.md, "Side connections".
  takeSide(socket) {
    this.sides.push(socket);
    this.send(socket, {type: "welcome", conn: `${this.url}#${++this.conns}`,
      interval_ms: 1_800_000, timeout_ms: 1_920_000,
      nat: {network: this.nat.network, probe: true}});
  }
  // PROTOCOL.md, "Resuming": an old connection of the session is read no more.
  resume(socket, {resume}) {
    if (!resume) return undefined;
    const before = this.sessions.get(resume.token);
    const isIt = before !== undefined && resume.last_seq <= before.sent;
    if (before && !isIt) throw new Error(`last_seq ${resume.last_seq} of ${before.sent}`);
    const token = isIt ? resume.token : `token${this.sessions.size + 1}`;
    const session = isIt ? before : {sent: 0, received: 0, kept: []};
    this.sessions.set(token, session);
    const old = session.socket;
    session.socket = socket;
    socket.session = session;
    if (old) {
      old.session = undefined;
      this.goodbye(old, {code: 4008, reason: "taken_over"});
    }
    if (!isIt) return {token, resumed: false, why: resume.token && "unknown"};
    this.acknowledge(session, resume.last_seq);
    const from = session.sent - session.kept.length + 1;
    return {token, resumed: true, received: session.received, from,
      lost: from - 1 - resume.last_seq};
  }
  // A close frame of the page: but for one that says that it comes back its session is over.
  closed(socket, code) {
    socket.isRead = false;
    if (code === 4000) return;
    for (const [token, session] of this.sessions ?? []) {
      if (session === socket.session) this.sessions.delete(token);
    }
  }
  acknowledge({kept}, seq) { while (kept.length > 0 && kept[0].seq <= seq) kept.shift(); }
  /** A message of the application, also while the session has no connection. */
  push(session, message) {
    const text = JSON.stringify({type: "data", ...message});
    session.kept.push({seq: ++session.sent, text});
    while (session.kept.length > this.keptMax) session.kept.shift();
    if (session.socket?.isUp) this.send(session.socket, text);
  }
  // Without a token a hello changes nothing of a login; with one the user is the token's.
  judge(socket, {token, user, device, labels}) {
    const its = token === undefined ? socket.login?.user : this.userOfToken(token);
    if (user !== undefined && user !== its) {
      const word = token === undefined && !socket.login ? "no_token" : "wrong_user";
      this.send(socket, {type: "error", code: 4001, message: `${word}: not this user`});
      this.goodbye(socket, {code: 4001, reason: "unauthorized"});
      return undefined;
    }
    if (token === undefined) return {};
    const session = socket.login?.user === its ? "refreshed" : "new";
    socket.login = {user: its, device, labels};
    return {user: its, device, session};
  }
}

class FakeSocket {
  constructor(world, url, protocols) {
    if (!/^wss?:/.test(url)) throw new SyntaxError(`'${url}' is not an address of a WebSocket`);
    Object.assign(this, {world, url, protocols, readyState: 0, bufferedAmount: 0, isRead: true,
      isUp: false, leavesAt: 0, toServerAt: 0, toPageAt: 0, handed: []});
    this.server = world.servers.get(new URL(url).href);
    world.sockets.push(this);
    world.in(this.latency(), () => this.arrive());
  }
  latency() { return this.server?.latency() ?? this.world.between(5, 100); }

  arrive() {
    if (this.readyState !== 0) return;
    const connects = this.server?.connects ?? "refuse";
    if (connects === "hang" || this.isDeaf) return;
    if (connects !== "accept") {
      return void this.world.in(this.latency(), () => this.refuse(connects), "page");
    }
    this.isUp = true;
    this.passedAt = this.world.now;
    this.toPageSoon(() => {
      if (this.readyState !== 0) return;
      this.readyState = 1;
      this.onopen?.({});
    });
  }
  refuse(why) {
    if (this.readyState !== 0) return;
    this.readyState = 3;
    const status = Number(why);
    this.onerror?.({message: status ? `Unexpected server response: ${status}` : ""});
    this.onclose?.({code: 1006, reason: ""});
  }
  send(frame) {
    if (this.readyState === 0) throw new Error("InvalidStateError");
    if (this.readyState !== 1) return;  // as browsers do: into nothing
    this.handed.push(frame);
    this.world.onHanded?.(this, frame);
    const bytes = frame.length;
    const rate = this.server?.uploadBytesPerS ?? Infinity;
    if (rate === Infinity) return this.leave(frame);
    this.bufferedAmount += bytes;
    this.leavesAt = Math.max(this.leavesAt, this.world.now) + 1000 * bytes / rate;
    this.world.at(this.leavesAt, () => {
      if (this.isStuck) return;
      this.bufferedAmount -= bytes;
      this.leave(frame);
    });
  }
  // Whether its network still knows it.
  passes() {
    const {now, natMs, natResets} = this.world;
    const isForgotten = now - this.passedAt > natMs;
    this.passedAt = now;
    if (isForgotten) natResets ? this.cut() : this.deafen();
    return !isForgotten;
  }
  leave(frame) {
    if (this.isDeaf || !this.isUp || !this.passes()) return;
    this.toServerAt = Math.max(this.toServerAt, this.world.now + this.latency());
    this.world.at(this.toServerAt, () => {
      if (this.isUp && !this.isDeaf) this.server.receive(this, frame);
    });
  }
  toPage(text) { this.toPageSoon(() => this.onmessage?.({data: text})); }
  toPageSoon(action) {
    if (this.isUp && !this.isDeaf && !this.passes()) return;
    this.toPageAt = Math.max(this.toPageAt, this.world.now + this.latency());
    this.world.at(this.toPageAt, () => {
      if (!this.isDeaf && this.readyState < 3 && this.isUp) action();
    }, "page");
  }
  close(code) {
    if (code !== undefined && code !== 1000 && !(code >= 3000 && code < 5000)) {
      throw new Error("InvalidAccessError");
    }
    if (this.readyState >= 2) return;
    if (this.isUp && !this.isDeaf && this.readyState === 1) {
      this.toServerAt = Math.max(this.toServerAt, this.world.now + this.latency());
      this.world.at(this.toServerAt, () => this.server.receive(this, {close: {code}}));
    }
    this.readyState = 2;
    this.closedWith = code;
    this.isUp = false;
    this.world.in(this.latency(), () => this.ended(code ?? 1006, ""), "page");
  }
  ended(code, reason) {
    if (this.readyState === 3) return;
    this.readyState = 3;
    this.isUp = false;
    this.onclose?.({code, reason});
  }
  endFromServer(code, reason = "") {
    this.toPageSoon(() => this.ended(code, reason));
  }
  /** The path breaks: what is on its way is lost, and both ends hear of it. */
  cut(code = 1006) {
    if (this.readyState === 3) return;
    this.isUp = false;
    this.world.in(this.latency(), () => this.ended(code, ""), "page");
  }
  /** The same, and neither hears of it. */
  deafen() { this.isDeaf = true; }
  /** Nothing leaves it any more, or comes. */
  stick() { this.isStuck = this.isDeaf = true; }
}
