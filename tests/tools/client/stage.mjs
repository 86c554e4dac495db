// A client in a world, and what is watched of it: each answer of each message, every event.
import assert from "node:assert/strict";

import {PulseClient} from "../../../tools/client/js/index.js";
import {World} from "./world.mjs";

export const HOME = "ws://home.example/";
export const AWAY = "ws://away.example/";
const EVENTS = ["state", "welcome", "message", "interval", "goodbye", "expiring", "missed", "error",
  "lost", "resumed", "retry", "nat", "end"];

export class Stage {
  constructor({seed = 1, ...options} = {}) {
    this.world = new World(seed);
    this.home = this.world.server(HOME);
    this.events = [];
    this.answers = new Map();   // id -> every answer that it was given
    this.handedIds = [];        // in the order in which sockets took them
    this.world.onHanded = (_, frame) => {
      const {id} = JSON.parse(frame);
      if (id !== undefined) this.handedIds.push(id);
    };
    this.client = new PulseClient({url: HOME, WebSocket: this.world.WebSocket,
      environment: this.world.environment, ...options});
    for (const name of EVENTS) {
      this.client.addEventListener(name, ({detail}) =>
        this.events.push({name, at: this.world.now, ...detail}));
    }
    // A promise hides a second answer: the queue is given a witness of each.
    const {outbox} = this.client;
    const push = outbox.push.bind(outbox);
    outbox.push = (item) => {
      const {answer} = item;
      const {id} = JSON.parse(item.frame);
      const given = [];
      this.answers.set(id, given);
      item.answer = (one) => {
        given.push({...one, at: this.world.now, queued: outbox.size, bytes: outbox.bytes});
        answer(one);
      };
      push(item);
    };
    this.sent = 0;
    this.results = new Map();   // id -> what its promise gave
  }
  send({confirm = false, bytes = 0} = {}) {
    const id = ++this.sent;
    this.client.send({id, fill: "x".repeat(bytes)}, {confirm})
        .then((answer) => this.results.set(id, answer));
    return id;
  }
  run(ms, isDone) { return this.world.run(this.world.now + ms, isDone); }
  async open() {
    this.client.connect();
    await this.run(20_000, () => this.client.state === "open");
    assert.equal(this.client.state, "open");
  }
  of(name) { return this.events.filter((event) => event.name === name); }
  get socket() { return this.world.sockets.at(-1); }

  /** What holds of every message at the end of every world. */
  check({isOver = true} = {}) {
    const {messagesMax, bytesMax, ageMaxMs} = this.client.outbox.bounds;
    const read = [...this.world.servers.values()].flatMap((server) => server.data);
    const ids = read.map(({id}) => id);
    assert.equal(new Set(ids).size, ids.length, "none is read twice");
    for (const conn of new Set(read.map((one) => one.conn))) {
      const of = read.filter((one) => one.conn === conn).map(({id}) => id);
      assert.deepEqual(of, [...of].sort((a, b) => a - b), `in order on ${conn}`);
    }
    assert.deepEqual(this.handedIds, [...new Set(this.handedIds)].sort((a, b) => a - b),
        "handed over once, in the order of send()");
    const handed = new Set(this.handedIds), known = new Set(ids);
    for (const [id, given] of this.answers) {
      assert(given.length <= 1, `${id} has ${given.length} answers`);
      if (isOver) assert.equal(given.length, 1, `${id} has no answer`);
      if (given.length === 0) continue;
      const [{status, reason, queued, bytes}] = given;
      assert.equal(this.results.get(id)?.status, status, `the promise of ${id}`);
      assert.equal(handed.has(id), status !== "dropped", `${id} is ${status}`);
      if (status === "received") assert(known.has(id), `${id} was confirmed, and not read`);
      if (reason === "count") assert(queued >= messagesMax - 1, `${id}: ${queued} were queued`);
      assert(queued <= messagesMax && bytes <= bytesMax, "the bounds hold");
    }
    for (const {status, reason} of this.results.values()) {
      assert(reason !== "age" || status === "dropped", `${ageMaxMs} ms`);
    }
    assert.equal(this.answers.size, this.sent, "each was taken in, or answered");
  }
}
