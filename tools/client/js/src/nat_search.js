// Which silences a network bears: a search by side connections, each of which is silent for a while
// and then has an answer or none.
//
// Pure: the caller has the clock, the sockets and the judgement whether a sample counts. It is
// core/heartbeat/nat_search.h in JavaScript, and both are tested with the same silences. Each round
// tries two or three silences at once, which split what is left on a log scale: 30 s to 30 min in
// three rounds, eight silences and less than an hour; one at a time would take two.

/** The shortest silence that is of interest, which each network is taken to bear. */
export const SILENCE_MIN_MS = 30_000;
/** The longest that a server lets a side connection keep. */
export const SILENCE_MAX_MS = 1_800_000;
/** What was found is within this factor of a silence that was not borne. */
const FACTOR = 1.1;
const MARGIN_SHARE = 20;
const MARGIN_MIN_MS = 3000;

/**
 * Silences in milliseconds: one that was borne, 0 where none is known, and a longer one that was
 * not, 0 where none was tried that was not.
 * @typedef {{keptMs: number, lostMs: number}} Silences
 */

/** @param {unknown} ms */
const isSilence = (ms) => Number.isInteger(ms) && Number(ms) >= SILENCE_MIN_MS &&
    Number(ms) <= SILENCE_MAX_MS;

/**
 * What is said of a network; undefined if it cannot be.
 * @param {any} said
 * @returns {Silences | undefined}
 */
export function silencesOf({kept_ms: keptMs, lost_ms: lostMs = 0}) {
  if (!isSilence(keptMs) || (lostMs !== 0 && !(isSilence(lostMs) && lostMs > keptMs))) {
    return undefined;
  }
  return {keptMs, lostMs};
}

/**
 * The longest interval of heartbeats that goes with a silence that was borne.
 * @param {number} keptMs
 */
export const intervalOf = (keptMs) =>
  keptMs - Math.max(Math.floor(keptMs / MARGIN_SHARE), MARGIN_MIN_MS);

export class NatSearch {
  /** @param {Silences} [hint] what others have found, which one silence is to confirm */
  constructor(hint) {
    /** @type {Silences} So far. `keptMs` is SILENCE_MIN_MS at the least, which is not tried. */
    this.found = {keptMs: SILENCE_MIN_MS, lostMs: 0};
    /** @type {Silences | undefined} */
    this.hint = hint && hint.keptMs > SILENCE_MIN_MS ? hint : undefined;
    /**
     * The silences that are to be tried now, each on a connection of its own, shortest first; those
     * that are tried and are not among them any more need no result. Empty: it is done.
     * @type {number[]}
     */
    this.round = this.hint ? [this.hint.keptMs] : this.#plan();
  }

  get isDone() {
    return this.round.length === 0;
  }

  /**
   * A connection that was silent for so long had an answer, or had none although its device was on
   * the network. A silence of which the answer is known already is not noted.
   * @param {number} silenceMs
   * @param {boolean} kept
   */
  note(silenceMs, kept) {
    const {found, hint} = this;
    if (silenceMs <= found.keptMs || silenceMs >= this.#upperMs()) return;
    if (kept) found.keptMs = silenceMs;
    else found.lostMs = silenceMs;
    if (kept && silenceMs === hint?.keptMs) found.lostMs = hint.lostMs;
    this.hint = undefined;
    this.round = this.round.filter((each) => each > found.keptMs && each < this.#upperMs());
    if (this.round.length === 0) this.round = this.#plan();
  }

  #upperMs() {
    return this.found.lostMs === 0 ? SILENCE_MAX_MS + 1 : this.found.lostMs;
  }

  // Into so many parts that two rounds follow at most, or one, or none.
  #plan() {
    const {keptMs, lostMs} = this.found;
    const ratio = (lostMs === 0 ? SILENCE_MAX_MS : lostMs) / keptMs;
    // A step less than a thousandth is one of rounding.
    const steps = Math.log(ratio) / Math.log(FACTOR) - 1e-3;
    let parts = 3;
    if (steps <= 1) parts = 1;
    else if (steps <= 4) parts = Math.ceil(steps);
    else if (steps <= 16) parts = Math.ceil(Math.sqrt(steps));
    return Array.from({length: parts - 1},
        (_, i) => Math.floor(keptMs * ratio ** ((i + 1) / parts)));
  }
}
