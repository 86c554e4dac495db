// What lets a client come back to its session (proto/PROTOCOL.md, "Resuming"): what both ends have
// counted, and the messages that were sent and are not known to have come.
//
// Pure: time is a parameter. While there is a connection its link has these messages; in between
// they are here, in their order. Each keeps its one answer: of those that are lost with the session
// it is given here.

/** @typedef {import("./outbox.js").Item} Item */
/** @typedef {{token?: string, last_seq?: number}} ResumeHello */

/** So many messages, or so many bytes, are acknowledged at once; fewer after a while. */
const ACK_MESSAGES = 32;
const ACK_BYTES = 16_384;
export const ACK_MS = 1000;

/** @param {unknown} value @returns {value is number} */
const isCount = (value) => Number.isSafeInteger(value) && Number(value) >= 0;

export class Session {
  /** @param {string} token @param {string} url where it is */
  constructor(token, url) {
    this.token = token;
    this.url = url;
    /** Of the server's messages. */
    this.received = 0;
    this.acknowledged = 0;
    this.unacknowledgedBytes = 0;
    /** Of the client's, that the server is known to have. */
    this.confirmed = 0;
    /**
     * Behind those, sent on a connection that has ended.
     * @type {Item[]}
     */
    this.unconfirmed = [];
  }

  /** @returns {ResumeHello} what the next hello says of it */
  hello() {
    return {token: this.token, last_seq: this.received};
  }

  /**
   * A message of the server has come. True: it is time to acknowledge, without waiting for more.
   * @param {number} bytes
   */
  count(bytes) {
    ++this.received;
    this.unacknowledgedBytes += bytes;
    return this.received - this.acknowledged >= ACK_MESSAGES ||
        this.unacknowledgedBytes >= ACK_BYTES;
  }

  /** @returns {string | undefined} what acknowledges all; undefined: nothing new has come */
  ack() {
    if (this.acknowledged === this.received) return undefined;
    this.acknowledged = this.received;
    this.unacknowledgedBytes = 0;
    return `{"type":"ack","received":${this.received}}`;
  }

  /**
   * The welcome of a connection that goes on with it. Undefined, and nothing is done: it says what
   * cannot be, and the session is over.
   * @param {any} resume its object
   * @returns {{lost: number, again: Item[]} | undefined} messages of the server that did not come,
   *     and those that are to be sent again
   */
  resume({received, from}) {
    if (!isCount(received) || !isCount(from)) return undefined;
    const known = received - this.confirmed;
    if (known < 0 || known > this.unconfirmed.length || from <= this.received) return undefined;
    for (const item of this.unconfirmed.splice(0, known)) {
      if (item.confirm) item.answer({status: "received"});
    }
    this.confirmed = received;
    const lost = from - 1 - this.received;
    this.received = from - 1;
    this.acknowledged = this.received;
    this.unacknowledgedBytes = 0;
    return {lost, again: this.unconfirmed.splice(0)};
  }

  /**
   * It is over. Those that were not asked to be confirmed have had their answer: "sent".
   * @param {string} reason
   * @returns {number} how many may be lost
   */
  drop(reason) {
    const dropped = this.unconfirmed.splice(0);
    for (const item of dropped) if (item.confirm) item.answer({status: "unconfirmed", reason});
    return dropped.length;
  }
}

/**
 * The token of a welcome; undefined if its session cannot be resumed.
 * @param {any} welcome
 * @returns {string | undefined}
 */
export function tokenOf({resume}) {
  return typeof resume?.token === "string" && resume.token !== "" ? resume.token : undefined;
}
