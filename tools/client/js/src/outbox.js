// Messages that wait for a connection: first in, first out, bounded by count, bytes and age.
//
// Pure: time is a parameter. Each message is answered once: by the one who takes it out, or here,
// where a bound drops it.

/** @typedef {import("../index.js").Answer} Answer */
/**
 * @typedef {object} Item
 * @property {string | Uint8Array} frame
 * @property {number} bytes
 * @property {boolean} confirm
 * @property {number} queuedAt
 * @property {(answer: Answer) => void} answer
 */

const COMPACT_AT = 256;  // taken items at the head of the array until it is moved up
/** In the place of one that was taken, which another may hold on to, and this must not. */
const GONE = /** @type {Item} */ (/** @type {unknown} */ (undefined));

export class Outbox {
  /**
   * @param {{messagesMax: number, bytesMax: number, ageMaxMs: number,
   *          overflow: "newest" | "oldest"}} bounds
   */
  constructor(bounds) {
    this.bounds = bounds;
    /** @type {Item[]} */
    this.items = [];
    this.head = 0;
    this.bytes = 0;
  }

  get size() {
    return this.items.length - this.head;
  }

  /**
   * Takes one in, or answers it; where the oldest give way, answers those.
   * @param {Item} item
   */
  push(item) {
    const {messagesMax, bytesMax, overflow} = this.bounds;
    if (item.bytes > bytesMax || messagesMax === 0) {
      return item.answer({status: "dropped", reason: messagesMax === 0 ? "count" : "bytes"});
    }
    while (this.size >= messagesMax || this.bytes + item.bytes > bytesMax) {
      const reason = this.size >= messagesMax ? "count" : "bytes";
      if (overflow === "newest") return item.answer({status: "dropped", reason});
      /** @type {Item} */ (this.shift()).answer({status: "dropped", reason});
    }
    this.items.push(item);
    this.bytes += item.bytes;
  }

  /** @returns {Item | undefined} the oldest */
  get first() {
    return this.items[this.head];
  }

  /** @returns {Item | undefined} the oldest, which leaves */
  shift() {
    if (this.size === 0) return undefined;
    const item = this.items[this.head];
    this.items[this.head++] = GONE;
    this.bytes -= item.bytes;
    if (this.head >= COMPACT_AT && this.head * 2 >= this.items.length) {
      this.items.splice(0, this.head);
      this.head = 0;
    }
    return item;
  }

  /**
   * It could not be sent: it is the oldest again.
   * @param {Item} item
   */
  unshift(item) {
    if (this.head > 0) this.items[--this.head] = item;
    else this.items.unshift(item);
    this.bytes += item.bytes;
  }

  /** When expire() has something to do. */
  expiresAt() {
    return this.size === 0 ? Infinity : this.items[this.head].queuedAt + this.bounds.ageMaxMs;
  }

  /**
   * Drops those that are too old.
   * @param {number} now
   */
  expire(now) {
    while (now >= this.expiresAt()) {
      /** @type {Item} */ (this.shift()).answer({status: "dropped", reason: "age"});
    }
  }

  /**
   * Drops all.
   * @param {"closed" | "ended"} reason
   */
  clear(reason) {
    for (let item = this.shift(); item; item = this.shift()) {
      item.answer({status: "dropped", reason});
    }
  }
}
