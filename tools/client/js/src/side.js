// One side connection: it greets, is silent for a while, and asks for one answer.
//
//     connecting --opens--> greeting --welcome--> asleep --> waking --> ended
//
// kept: the answer came. silent: there was none yet, and it goes on to wait for it. broken: the
// connection broke. Whether the two count is for its owner to judge, which ends it. void: it says
// nothing of the network, since it was not silent, or was closed in order, or this page slept.
// busy: to be tried later. unsupported: not on this server.

import {Alarm} from "./environment.js";
import {LATE_MS} from "./heartbeat.js";
import {SUBPROTOCOL, parse, ping} from "./wire.js";

/** @typedef {"kept" | "silent" | "broken" | "void" | "busy" | "unsupported"} Outcome */

const OPEN = 1;  // WebSocket.OPEN
const CLOSED = 1000;
const ABNORMAL = 1006;  // no close frame
const CODE_TRY_LATER = 1013;
const SEQ = 1;

export class Side {
  /**
   * @param {object} plan
   * @param {import("../index.js").Environment} plan.environment
   * @param {any} plan.WebSocket
   * @param {string} plan.url
   * @param {string} plan.hello
   * @param {number} plan.silenceMs
   * @param {number} plan.greetingMs until it must be welcomed
   * @param {number} plan.answerMs until the answer must be there
   * @param {(outcome: Outcome) => void} ended once, and once before where it is silent
   */
  constructor(plan, ended) {
    this.plan = plan;
    this.ended = ended;
    /** @type {"connecting" | "greeting" | "asleep" | "waking" | "ended"} */
    this.phase = "connecting";
    this.wokeAt = 0;
    this.alarm = new Alarm(plan.environment, (late) => this.#due(late));
    try {
      this.socket = new plan.WebSocket(plan.url, [SUBPROTOCOL]);
    } catch {
      queueMicrotask(() => this.#end("unsupported"));
      return;
    }
    const {socket} = this;
    socket.onopen = () => this.#opened();
    socket.onmessage = (/** @type {{data: any}} */ {data}) => this.#heard(data);
    socket.onclose = (/** @type {{code: number}} */ {code}) => this.#closed(code);
    socket.onerror = () => {};  // a close follows
    this.alarm.in(plan.greetingMs);
  }

  /** Ends it without an outcome. */
  end() {
    if (this.phase === "ended") return;
    this.phase = "ended";
    this.alarm.clear();
    const {socket} = this;
    if (!socket) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    try {
      if (typeof socket.terminate === "function" && socket.readyState < OPEN) socket.terminate();
      else socket.close(socket.readyState === OPEN ? CLOSED : undefined);
    } catch {
      // It is closed already.
    }
  }

  /** @param {Outcome} outcome */
  #end(outcome) {
    if (this.phase === "ended") return;
    this.end();
    this.ended(outcome);
  }

  #opened() {
    this.phase = "greeting";
    this.#send(this.plan.hello);
  }

  /** @param {string} text */
  #send(text) {
    try {
      this.socket.send(text);
    } catch {
      // Its end is reported by the socket, or by the alarm.
    }
  }

  /** @param {any} data */
  #heard(data) {
    const message = typeof data === "string" ? parse(data) : undefined;
    switch (this.phase) {
      case "greeting":
        return this.#answered(message);
      case "asleep":
        return this.#end("void");  // it was not silent
      case "waking":
        if (message?.type === "pong" && message.seq === SEQ) return this.#end("kept");
        if (message?.type === "goodbye") return this.#end("void");
    }
  }

  /** @param {any} message */
  #answered(message) {
    switch (message?.type) {
      case "welcome":
        // One that does not know of side connections has taken it for another client.
        if (message.nat?.probe !== true) return this.#end("unsupported");
        if (!(message.interval_ms >= this.plan.silenceMs)) return this.#end("unsupported");
        this.phase = "asleep";
        return this.alarm.in(this.plan.silenceMs);
      case "error":
        return this.#end(message.code === CODE_TRY_LATER ? "busy" : "unsupported");
      case "goodbye":
        return this.#end("busy");
    }
  }

  /** @param {number} late */
  #due(late) {
    if (this.phase === "connecting" || this.phase === "greeting") return this.#end("busy");
    // This page or machine has slept, and what it would have seen is not known.
    if (late > LATE_MS) return this.#end("void");
    if (this.phase === "waking") return this.ended("silent");
    this.phase = "waking";
    this.wokeAt = this.plan.environment.now();
    this.alarm.in(this.plan.answerMs);
    this.#send(ping(SEQ));
  }

  /** @param {number} code */
  #closed(code) {
    if (this.phase === "connecting" || this.phase === "greeting") return this.#end("busy");
    this.#end(code === ABNORMAL ? "broken" : "void");
  }
}
