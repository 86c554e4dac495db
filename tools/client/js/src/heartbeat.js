// When to beat, and when a server that answers no beat is gone: a state machine.
//
// Pure: time is a parameter, in milliseconds of a clock that only goes forwards.
//
//     start() --> beats once an interval; each is a ping, the oldest unanswered one is waited for
//     its wait ends on time   -> a miss, and another ping at once; misses in a row: gone
//     its wait ends late      -> not a miss: the page was frozen, its tab throttled, the machine
//                                asleep, and the answer may lie unread. Another ping, a new wait
//     anything is received    -> no misses; what is waited for has its whole wait again
//
// Late ends are bounded as well (LATE_MAX): in a tab whose timers always come late, a server that
// answers none of so many pings is gone, too.

/** An end of a wait that comes this much later than it should is not a miss. */
export const LATE_MS = 1000;
/** Late ends in a row, with nothing received, that are borne. */
export const LATE_MAX = 3;
/** Longest wait for an answer that round trips ask for. */
const WAIT_MAX_MS = 60_000;

/** @typedef {{ping?: number, missed?: boolean, gone?: boolean}} Step */

export class Heartbeat {
  /** @param {{answerTimeoutMs: number, misses: number, random: () => number}} options */
  constructor({answerTimeoutMs, misses, random}) {
    this.answerTimeoutMs = answerTimeoutMs;
    this.missesMax = misses;
    this.random = random;
    this.intervalMs = Infinity;
    /** Of the network: it is not silent for longer, whatever the server's interval. */
    this.boundMs = Infinity;
    this.timeoutMs = Infinity;
    this.beatAt = Infinity;
    /** Number of the last ping. */
    this.seq = 0;
    this.sentAt = 0;
    /** @type {{seq: number, endsAt: number} | undefined} */
    this.waiting = undefined;
    this.misses = 0;
    this.lateEnds = 0;
    /**
     * Of round trips, smoothed as RFC 6298 2 says.
     * @type {number | undefined}
     */
    this.rttMs = undefined;
    this.deviationMs = 0;
  }

  /**
   * The server has named its deadlines. The first beat is spread, so that a crowd that came at one
   * moment does not beat at one moment.
   * @param {number} now @param {number} intervalMs @param {number} timeoutMs
   */
  start(now, intervalMs, timeoutMs) {
    this.intervalMs = intervalMs;
    this.timeoutMs = timeoutMs;
    this.beatAt = now + this.everyMs() * (0.5 + 0.5 * this.random());
  }

  /**
   * It has named others: the next beat comes no later than they demand.
   * @param {number} now @param {number} intervalMs @param {number} timeoutMs
   */
  retime(now, intervalMs, timeoutMs) {
    this.intervalMs = intervalMs;
    this.timeoutMs = timeoutMs;
    this.beatAt = Math.min(this.beatAt, now + this.everyMs());
  }

  /**
   * The network does not bear a silence that is longer.
   * @param {number} now @param {number} boundMs
   */
  bound(now, boundMs) {
    this.boundMs = boundMs;
    this.beatAt = Math.min(this.beatAt, now + this.everyMs());
  }

  /** Between two beats. */
  everyMs() {
    return Math.min(this.intervalMs, this.boundMs);
  }

  /** When poll() has something to do. */
  dueAt() {
    return Math.min(this.beatAt, this.waiting?.endsAt ?? Infinity);
  }

  /** How long an answer is waited for. */
  waitMs() {
    const measured = this.rttMs === undefined ? 0 : this.rttMs + 4 * this.deviationMs;
    return Math.max(this.answerTimeoutMs, Math.min(WAIT_MAX_MS, measured));
  }

  /**
   * What is to be done at `now`. `uploads`: bytes have left since the last call, so that a ping may
   * still wait behind a long message of our own.
   * @param {number} now
   * @param {{uploads?: boolean}} seen
   * @returns {Step}
   */
  poll(now, {uploads = false} = {}) {
    /** @type {Step} */
    const step = {};
    let again = false;
    if (this.waiting && now >= this.waiting.endsAt) {
      if (uploads) {
        this.waiting.endsAt = now + this.waitMs();
      } else {
        this.#endWait(now, this.waiting.endsAt, step);
        if (step.gone) return step;
        again = true;
      }
    }
    if (again || now >= this.beatAt) step.ping = this.#ping(now);
    return step;
  }

  /** @param {number} now @param {number} endsAt @param {Step} step */
  #endWait(now, endsAt, step) {
    this.waiting = undefined;
    if (now - endsAt > LATE_MS) {
      step.gone = ++this.lateEnds > LATE_MAX;
    } else {
      step.missed = true;
      step.gone = ++this.misses >= this.missesMax;
    }
  }

  /** @param {number} now */
  #ping(now) {
    this.sentAt = now;
    this.beatAt = now + this.everyMs();
    ++this.seq;
    this.waiting ??= {seq: this.seq, endsAt: now + this.waitMs()};
    return this.seq;
  }

  /** The next poll() sends a ping, also if it is not time for one. */
  hurry() {
    this.beatAt = -Infinity;
  }

  /**
   * The page is seen again, or the network is another: a beat before any judgement. One that is
   * out already is that beat, unless its wait is over.
   * @param {number} now
   */
  wake(now) {
    if (this.waiting && now < this.waiting.endsAt) return;
    if (this.waiting) {
      this.waiting = undefined;
      ++this.lateEnds;
    }
    this.hurry();
  }

  /**
   * Something of the server has come; `seq`: it is the answer to that ping.
   * @param {number} now
   * @param {number} [seq]
   */
  heard(now, seq) {
    this.misses = 0;
    this.lateEnds = 0;
    if (seq !== undefined && seq === this.seq) this.#measure(now - this.sentAt);
    if (!this.waiting) return;
    if (seq !== undefined && seq >= this.waiting.seq) {
      this.waiting = undefined;
    } else {
      this.waiting.endsAt = now + this.waitMs();
    }
  }

  /** @param {number} sample */
  #measure(sample) {
    if (this.rttMs === undefined) {
      this.rttMs = sample;
      this.deviationMs = sample / 2;
    } else {
      this.deviationMs += (Math.abs(this.rttMs - sample) - this.deviationMs) / 4;
      this.rttMs += (sample - this.rttMs) / 8;
    }
  }
}
