// Types of pulsewheel-client. The code below src/ is checked against them (tsc --checkJs).

/** A string, bytes, or an object, which travels as {"type":"data", ...}. */
export type Payload = string | ArrayBuffer | ArrayBufferView | {[key: string]: unknown};

/** What became of a message. It is given once, and the promise of send() never fails. */
export type Answer =
  /** Given to the socket of a connection that the server had welcomed. */
  | {status: "sent"}
  /** With `confirm`: the server has read it. */
  | {status: "received"}
  /** With `confirm`: it was sent, and the connection ended before the server answered for it. */
  | {status: "unconfirmed"; reason: string}
  /** Never sent: a bound of the queue, close(), or the end of all tries. */
  | {status: "dropped"; reason: "count" | "bytes" | "age" | "closed" | "ended"};

export interface Identity {
  user?: string;
  device?: string;
  labels?: Record<string, string>;
  /** Of the server's heartbeat profiles: realtime, standard, mobile, powersave. */
  profile?: string;
}

export interface TokenRequest {
  /** Why one is wanted: "connect", "login", "expiring", "probe", or the cause of the last end. */
  cause: string;
  /** The server did not take the last one, or it ends soon: one from a cache will not do. */
  renew: boolean;
}

export type TokenSource = string | ((request: TokenRequest) => string | Promise<string>);

/** Why a connection ended, or did not come up. `name` is that of a row of the policy table. */
export interface Cause {
  name: string;
  /** Close code. */
  code?: number;
  /** Of HTTP, where it can be seen. */
  status?: number;
  retryAfterMs?: number;
  moveTo?: string;
  message?: string;
}

export type Delay =
  | {shape: "immediate"; baseMs?: number; capMs?: number; jitter?: Jitter}
  | {shape: "linear" | "exponential"; baseMs: number; capMs: number; jitter?: Jitter};

export type Jitter = "none" | "equal" | "full";

export interface Policy {
  /** Ends of this cause in a row after which it is tried again; 0: never, Infinity: always. */
  readonly tries: number;
  readonly delay: Readonly<Delay>;
  /** Only if `token` is a function, which is asked for another one. */
  readonly token?: "renew";
}

export interface QueueBounds {
  /** Messages. [1000] */
  messagesMax: number;
  /** Bytes of all of them. [1 MiB] */
  bytesMax: number;
  /** [60 s] */
  ageMaxMs: number;
  /** Which ones are dropped when there is no room. [newest] */
  overflow: "newest" | "oldest";
}

export type LifecycleEvent = "wake" | "online" | "offline" | "network";

/** For tests: time, chance and a page's life. */
export interface Environment {
  /** Milliseconds of a clock that only goes forwards. */
  now(): number;
  wallNow(): number;
  /** In [0, 1). */
  random(): number;
  setTimeout(action: () => void, ms: number): any;
  clearTimeout(timer: any): void;
  isOnline(): boolean;
  watch(tell: (event: LifecycleEvent) => void): () => void;
}

export interface Options extends Identity {
  /**
   * ws: or wss:. Of several, the next is tried after one that did not welcome the client; it ends
   * once the policies try none of them again.
   */
  url: string | string[];
  token?: TokenSource;
  /** Whether to go on with the session after a connection was lost, where the server can. [true] */
  resume?: boolean;
  /** A constructor of WebSockets. [globalThis.WebSocket] */
  WebSocket?: any;
  /** Rows that replace those of DEFAULT_POLICIES. */
  policies?: Record<string, Policy>;
  queue?: Partial<QueueBounds>;
  /** Whether a goodbye may send the client there. Never from wss: to ws:. [anywhere] */
  allowMove?: (url: string) => boolean;
  /** Until the socket is open. [10 s] */
  connectTimeoutMs?: number;
  /** From there until the welcome, and of each later hello. [10 s] */
  welcomeTimeoutMs?: number;
  /** Of a function that gives tokens. [30 s] */
  tokenTimeoutMs?: number;
  /** Of a ping; longer where round trips are. [5 s] */
  answerTimeoutMs?: number;
  /** Pings in a row without an answer after which the server is gone. [3] */
  misses?: number;
  /** That a connection must last for earlier ends to be forgotten. [10 s] */
  stableMs?: number;
  /** Bytes in the socket beyond which messages wait in the queue. [1 MiB] */
  bufferedMax?: number;
  /**
   * Whether to find out for how long the network bears silence, by side connections, where the
   * server takes such (--nat-probes). Up to three are open at a time, for less than an hour. [false]
   */
  natProbes?: boolean;
  /** What was found, by network, such as in localStorage. [a Map of 20 networks] */
  natMemory?: NatMemory;
  environment?: Partial<Environment>;
}

/** As a Map is; what it gives is checked, and forgotten after a week. */
export interface NatMemory {
  get(network: string): NatRecord | undefined;
  set(network: string, record: NatRecord): unknown;
  delete(network: string): unknown;
}

export interface NatRecord {
  /** A silence that was borne. */
  keptMs: number;
  /** A longer one that was not; 0: none was tried that was not. */
  lostMs: number;
  /** When it was found, of Date.now(). */
  at: number;
}

export interface Welcome {
  url: string;
  conn: string;
  intervalMs: number;
  timeoutMs: number;
  user?: string;
  device?: string;
  session?: "new" | "took_over" | "refreshed" | "resumed";
}

/** An object of the server: proto/PROTOCOL.md. */
export interface ServerMessage {
  type: string;
  seq?: number | string;
  conn?: string;
  interval_ms?: number;
  timeout_ms?: number;
  user?: string;
  device?: string;
  session?: "new" | "took_over" | "refreshed" | "resumed";
  code?: number;
  reason?: string;
  message?: string;
  retry_after_ms?: number;
  move_to?: string;
  in_ms?: number;
  [key: string]: unknown;
}

export type ClientState = "idle" | "connecting" | "open" | "waiting" | "closed";

export interface ClientEvents {
  /** Of the client. */
  state: {state: ClientState; before: ClientState};
  /** Of each connection, and of each later hello that is welcomed. */
  welcome: Welcome;
  /**
   * Of each connection after the first, where the one before could be resumed. `lost`: messages of
   * the server that it did not keep, undefined if they are not known; `resent`: messages of the
   * client that were sent again; `unconfirmed`: those that were sent, and may have come or not.
   */
  resumed: {
    resumed: boolean; lost: number | undefined; resent: number; unconfirmed: number; why?: string;
  };
  message:
    | {kind: "text"; data: string}
    | {kind: "binary"; data: ArrayBuffer}
    | {kind: "data"; data: ServerMessage};
  interval: {intervalMs: number; timeoutMs: number};
  goodbye: {reason: string; code?: number; retryAfterMs?: number; moveTo?: string};
  /** The token ends in so long; a function that gives tokens is asked for another one. */
  expiring: {inMs: number};
  /** With `natProbes`: what the network bears was found. `probes`: side connections that it took. */
  nat: {network: string; keptMs: number; lostMs: number; probes: number};
  /** A ping was not answered in time. */
  missed: {misses: number; of: number};
  /** What the server reported, or why there is no new token. */
  error: {code?: number; message: string};
  /** A connection ended. */
  lost: {cause: Cause};
  /** It is tried again after `delayMs`. */
  retry: {cause: Cause; delayMs: number; attempt: number};
  /** It is not tried any more. */
  end: {cause: Cause};
}

export class PulseEvent<Name extends keyof ClientEvents = keyof ClientEvents> extends Event {
  readonly detail: ClientEvents[Name];
}

/** Why connect() fails: `reason` is the cause that no policy tries again, or close(). */
export class PulseError extends Error {
  readonly reason: Cause;
}

export class PulseClient extends EventTarget {
  /** Fails if the options cannot be meant. */
  constructor(options: Options);

  readonly state: ClientState;
  readonly queued: {messages: number; bytes: number};
  /** Round trip of a ping, smoothed; undefined before the first. */
  readonly rttMs: number | undefined;

  /** Resolves with the first welcome; rejects with a PulseError at the end of all tries. */
  connect(): Promise<Welcome>;

  /** Throws a TypeError for what cannot be sent, and for a text that is one of the protocol's. */
  send(payload: Payload, options?: {confirm?: boolean}): Promise<Answer>;

  /**
   * Says who this is from now on, with a token if it has one. Resolves with the welcome, undefined
   * where there is none yet; rejects where the server refuses it or the connection ends.
   */
  login(change: Partial<Identity> & {token?: TokenSource}): Promise<Welcome | undefined>;

  /** Ends it. Messages that wait are dropped; connect() begins anew. */
  close(): void;

  addEventListener<Name extends keyof ClientEvents>(
    name: Name, listener: (event: PulseEvent<Name>) => void,
    options?: boolean | AddEventListenerOptions): void;
  addEventListener(
    name: string, listener: EventListenerOrEventListenerObject | null,
    options?: boolean | AddEventListenerOptions): void;
  removeEventListener<Name extends keyof ClientEvents>(
    name: Name, listener: (event: PulseEvent<Name>) => void,
    options?: boolean | EventListenerOptions): void;
  removeEventListener(
    name: string, listener: EventListenerOrEventListenerObject | null,
    options?: boolean | EventListenerOptions): void;
}

/** Rows by cause, as README.md has them. */
export const DEFAULT_POLICIES: Readonly<Record<string, Policy>>;
