// The model of the presence board: snapshots, changes, and which of them are news.
import assert from "node:assert/strict";
import test from "node:test";

import {Presence} from "../../../tools/client/examples/presence/presence.js";

const rows = (presence) => presence.rows().map(({user, state, sessions}) =>
  `${user} ${state} ${sessions}`);
const change = (user, kind, generation, sequence) => ({user, change: kind, generation, sequence});

test("a snapshot, and changes after it, by generation and sequence", () => {
  const presence = new Presence();
  presence.take({user: "bob", state: "online", sessions: 2, generation: 5, sequence: 3});
  presence.take({user: "ann", state: "suspect", sessions: 1, generation: 1, sequence: 2});
  assert.deepEqual(rows(presence), ["ann suspect 1", "bob online 2"]);
  assert.equal(presence.take(change("bob", "left", 5, 3)), false, "the snapshot has it");
  assert.equal(presence.take(change("bob", "left", 5, 4)), true);
  assert.equal(presence.take(change("ann", "well", 1, 3)), true);
  assert.deepEqual(rows(presence), ["ann online 1", "bob online 1"]);
  presence.take(change("bob", "offline", 5, 5));
  presence.take(change("ann", "joined", 1, 4));
  assert.deepEqual(rows(presence), ["ann online 2", "bob offline 0"]);
  presence.take(change("bob", "online", 6, 1));
  presence.take(change("ann", "replaced", 1, 5));
  presence.take(change("ann", "suspect", 1, 6));
  assert.deepEqual(rows(presence), ["ann suspect 2", "bob online 1"]);
  presence.begin();
  assert.deepEqual(rows(presence), []);
});

test("of those that left the last twenty are kept, the last one first", () => {
  const presence = new Presence();
  for (let at = 0; at < 1000; ++at) {
    presence.take(change(`u${at}`, "online", 1, 1));
    presence.take(change(`u${at}`, "offline", 1, 2));
  }
  assert.deepEqual([rows(presence).length, rows(presence)[0]], [20, "u999 offline 0"]);
});
