// The policy table: for each cause of an end, whether to try again, how often, and after what wait.
//
// Pure. A browser shows a page no status of a refused upgrade, and no error of a connection that
// failed: both are `refused` there. Node's `ws` shows the status and Retry-After (http_NNN).

import {delayMs} from "./backoff.js";

/** @typedef {import("../index.js").Cause} Cause */
/** @typedef {import("../index.js").Policy} Policy */
/** @typedef {import("../index.js").Delay} Delay */
/** @typedef {{policy: Policy, row: string}} Found */

/** @type {Policy} */
const NEVER = Object.freeze({tries: 0, delay: Object.freeze({shape: "immediate"})});

/** @param {number} tries @param {number} baseMs @param {number} capMs @returns {Policy} */
const linear = (tries, baseMs, capMs) =>
  Object.freeze({tries, delay: Object.freeze({shape: "linear", baseMs, capMs, jitter: "equal"})});

/**
 * @param {number} tries @param {number} baseMs @param {number} capMs
 * @param {"full" | "equal"} jitter
 * @returns {Policy}
 */
const exponential = (tries, baseMs, capMs, jitter = "full") =>
  Object.freeze({tries, delay: Object.freeze({shape: "exponential", baseMs, capMs, jitter})});

/** @param {number} tries @returns {Policy} */
const immediate = (tries) => Object.freeze({tries, delay: Object.freeze(
    {shape: "immediate", baseMs: 1000, capMs: 60_000, jitter: "full"})});

const USUAL = exponential(Infinity, 1000, 60_000);
/** With a new token, if there is a function that gives one. */
const ASK_TOKEN = Object.freeze({...immediate(2), token: /** @type {const} */ ("renew")});

/**
 * Rows by cause. `tries` counts ends of that cause in a row, until a connection has lasted.
 * @type {Readonly<Record<string, Policy>>}
 */
export const DEFAULT_POLICIES = Object.freeze({
  // ------------------------------------------------------------------------ no connection came up
  connect_timeout: linear(5, 2000, 10_000),
  refused: USUAL,
  http_401: ASK_TOKEN,
  http_429: exponential(3, 5000, 120_000),
  http_503: exponential(3, 2000, 120_000),
  http_4xx: NEVER,
  http_5xx: exponential(3, 2000, 120_000),
  http_other: NEVER,
  welcome_timeout: exponential(5, 2000, 60_000),
  hello_refused: NEVER,
  hello_put_off: exponential(5, 2000, 60_000),
  token_failed: exponential(5, 2000, 60_000),
  bad_url: NEVER,

  // ---------------------------------------------------------------------------- a connection ended
  silent: immediate(Infinity),  // it answered no heartbeat: its server or the network is gone
  moved: immediate(Infinity),
  max_lifetime: immediate(Infinity),
  going_away: USUAL,
  hard_stop: USUAL,
  idle_timeout: immediate(Infinity),
  handshake_timeout: exponential(5, 2000, 60_000),
  slow_upload: exponential(Infinity, 5000, 120_000),
  slow_reader: exponential(Infinity, 5000, 120_000),
  message_rate: exponential(Infinity, 5000, 120_000),
  user_message_rate: exponential(Infinity, 5000, 120_000),
  message_too_big: exponential(3, 2000, 60_000),
  user_full: exponential(3, 10_000, 120_000),
  unauthorized: ASK_TOKEN,
  token_expired: ASK_TOKEN,

  // Terminal: to come back would take the place of the other, or do the same wrong again.
  kicked: NEVER,
  taken_over: NEVER,
  duplicate_login: NEVER,
  wrong_protocol: NEVER,
  protocol_error: NEVER,
  invalid_data: NEVER,
  too_many_offences: NEVER,
  untrusted_source: NEVER,

  // ------------------------------------- close codes, where no reason of ours came with one
  close_1000: USUAL,
  close_1001: USUAL,
  close_1002: NEVER,
  close_1003: NEVER,
  close_1006: USUAL,  // no close frame: the network, or the end of a process
  close_1007: NEVER,
  close_1008: NEVER,
  close_1009: exponential(3, 2000, 60_000),
  close_1010: NEVER,
  close_1011: exponential(Infinity, 2000, 120_000),
  close_1012: USUAL,
  close_1013: exponential(Infinity, 5000, 120_000),
  close_1014: exponential(Infinity, 2000, 120_000),
  close_1015: exponential(5, 5000, 120_000),
  close_4001: ASK_TOKEN,
  close_4002: exponential(5, 2000, 60_000),
  close_4003: immediate(Infinity),
  close_4005: NEVER,
  close_4006: ASK_TOKEN,
  close_4008: NEVER,
  close_4009: NEVER,
  close_4010: exponential(3, 10_000, 120_000),
  close_4012: immediate(Infinity),
  close_4013: exponential(Infinity, 5000, 120_000),  // an idle clock, which would close it again
  close_other: exponential(Infinity, 2000, 120_000),
});

/**
 * The row for a cause: its own, or that of its close code or of its class of status.
 * @param {Readonly<Record<string, Policy>>} table
 * @param {Cause} cause
 * @returns {Found}
 */
export function find(table, cause) {
  const names = [cause.name];
  if (cause.status !== undefined) {
    const of = Math.floor(cause.status / 100);
    names.push(of === 4 || of === 5 ? `http_${of}xx` : "http_other");
  }
  if (cause.code !== undefined) names.push(`close_${cause.code}`, "close_other");
  const row = names.find((name) => Object.hasOwn(table, name)) ?? "close_other";
  return {policy: table[row], row};
}

/** Counts ends, and decides about each. */
export class Retries {
  /**
   * @param {Readonly<Record<string, Policy>>} table
   * @param {() => number} random
   */
  constructor(table, random) {
    this.table = table;
    this.random = random;
    /** Ends in a row. */
    this.attempt = 0;
    /** @type {Map<string, number>} by row */
    this.counts = new Map();
  }

  /** A connection has lasted: what was before it counts no more. */
  reset() {
    this.attempt = 0;
    this.counts.clear();
  }

  /**
   * What to do about an end.
   * @param {Cause} cause
   * @param {{canRenewToken?: boolean}} able
   * @returns {{retry: boolean, delayMs: number, attempt: number, renewToken: boolean}}
   */
  decide(cause, {canRenewToken = false} = {}) {
    const {policy, row} = find(this.table, cause);
    const count = (this.counts.get(row) ?? 0) + 1;
    this.counts.set(row, count);
    ++this.attempt;
    // A goodbye that moves the client, say, is not slower for refusals before it.
    const nth = policy.delay.shape === "immediate" ? count : this.attempt;
    const renewToken = policy.token === "renew";
    const retry = count <= policy.tries && (!renewToken || canRenewToken);
    const hint = cause.retryAfterMs === undefined
        ? undefined : {ms: cause.retryAfterMs, spread: cause.status !== undefined};
    return {
      retry,
      delayMs: delayMs(policy.delay, nth, hint, this.random),
      attempt: this.attempt,
      renewToken,
    };
  }
}

/**
 * The default table with rows of the caller's; throws where one cannot be meant.
 * @param {Record<string, Policy>} [own]
 * @returns {Readonly<Record<string, Policy>>}
 */
export function policies(own = {}) {
  for (const [name, {tries, delay}] of Object.entries(own)) {
    if (!(tries >= 0)) throw new RangeError(`policies: ${name}: tries must be 0 or more`);
    const {shape} = delay;
    if (!["immediate", "linear", "exponential"].includes(shape)) {
      throw new RangeError(`policies: ${name}: '${shape}' is not immediate, linear, exponential`);
    }
    if (!["none", "equal", "full"].includes(delay.jitter ?? "none")) {
      throw new RangeError(`policies: ${name}: '${delay.jitter}' is not none, equal, full`);
    }
    if (shape !== "immediate" && !(delay.baseMs > 0 && delay.capMs >= delay.baseMs)) {
      throw new RangeError(`policies: ${name}: baseMs must be above 0, and capMs not below it`);
    }
  }
  return Object.freeze({...DEFAULT_POLICIES, ...own});
}
