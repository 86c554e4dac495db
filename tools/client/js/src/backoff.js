// How long to wait before the next try.
//
// Pure: the source of randomness is given, in [0, 1).
//
// The jitters are those of "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015): full is
// uniform from 0 to the delay, equal from half of it. Full spreads a crowd that lost its server at
// one moment most evenly; equal never retries at once.

/** @typedef {import("../index.js").Delay} Delay */

/** Longer hints are taken for this: a server that is wrong by a unit must not silence a client. */
export const HINT_MAX_MS = 3600_000;

/** What an immediate try falls back to from the second in a row on, so that none is made hot. */
const AFTER_IMMEDIATE = {baseMs: 1000, capMs: 30_000};

/**
 * Whether a server can have meant it as a time: of what it sends nothing is known.
 * @param {unknown} ms
 * @returns {ms is number}
 */
export const isDuration = (ms) => typeof ms === "number" && Number.isFinite(ms) && ms >= 0;

/**
 * Before jitter. `attempt` is 1 for the first try after an end.
 * @param {Delay} delay
 * @param {number} attempt
 */
export function plainDelay(delay, attempt) {
  if (delay.shape === "linear") return Math.min(delay.capMs, delay.baseMs * attempt);
  if (delay.shape === "exponential") return exponential(delay.baseMs, delay.capMs, attempt);
  if (attempt <= 1) return 0;
  const {baseMs, capMs} = {...AFTER_IMMEDIATE, ...delay};
  return exponential(baseMs, capMs, attempt - 1);
}

/** @param {number} baseMs @param {number} capMs @param {number} attempt */
function exponential(baseMs, capMs, attempt) {
  return Math.min(capMs, baseMs * 2 ** Math.min(attempt - 1, 40));
}

/**
 * @param {number} ms
 * @param {"none" | "equal" | "full"} jitter
 * @param {() => number} random
 */
export function jittered(ms, jitter, random) {
  if (jitter === "full") return ms * random();
  if (jitter === "equal") return ms / 2 + (ms / 2) * random();
  return ms;
}

/**
 * The wait before try number `attempt`. What the server asked for is kept to: a goodbye gives each
 * peer another time already, a Retry-After gives all the same, whole seconds, and is spread by half
 * of itself. From the second try in a row on the longer of hint and backoff counts.
 * @param {Delay} delay
 * @param {number} attempt
 * @param {{ms: number, spread: boolean} | undefined} hint
 * @param {() => number} random
 */
export function delayMs(delay, attempt, hint, random) {
  const own = jittered(plainDelay(delay, attempt), delay.jitter ?? "none", random);
  if (!hint || !isDuration(hint.ms)) return Math.round(own);
  const asked = Math.min(HINT_MAX_MS, hint.ms);
  const kept = hint.spread ? asked + (asked / 2) * random() : asked;
  return Math.round(attempt > 1 ? Math.max(kept, own) : kept);
}
