// The presence board: its model (snapshots, changes, which of them are news), and what serves it.
import assert from "node:assert/strict";
import {spawn} from "node:child_process";
import {once} from "node:events";
import http from "node:http";
import test from "node:test";
import {fileURLToPath} from "node:url";

import {Presence} from "../../../tools/client/examples/presence/presence.js";

const EXAMPLE = new URL("../../../tools/client/examples/presence/", import.meta.url);

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

test("a change costs the same, however many users there are", () => {
  const presence = new Presence();
  let looks = 0;
  for (const name of ["values", "entries", "keys", "forEach", Symbol.iterator]) {
    const method = presence.users[name];
    presence.users[name] = function (...given) {
      ++looks;
      return method.apply(this, given);
    };
  }
  for (let at = 0; at < 100; ++at) {
    presence.take({user: `u${at}`, state: "online", sessions: 1, generation: 1, sequence: 1});
  }
  for (let at = 0; at < 50; ++at) presence.take(change(`u${at}`, "offline", 1, 2));
  presence.take(change("u49", "online", 2, 1));
  presence.take(change("u48", "offline", 2, 1));  // again, and now the last
  assert.equal(looks, 0);
  const left = Array.from({length: 18}, (_, at) => `u${47 - at} offline 0`);
  assert.deepEqual(rows(presence).slice(51), ["u48 offline 0", ...left]);
  presence.begin();
  presence.take(change("u1", "offline", 1, 2));
  assert.deepEqual(rows(presence), ["u1 offline 0"]);
});

test("an answer of the admin endpoint without a type is passed on", async () => {
  const admin = http.createServer((_, response) => {
    response.writeHead(429);
    response.end("too many");
  });
  await new Promise((resolve) => { admin.listen(0, "127.0.0.1", resolve); });
  const serve = spawn(process.execPath, [fileURLToPath(new URL("serve.mjs", EXAMPLE)),
    "--listen", "127.0.0.1:0", "--admin", `http://127.0.0.1:${admin.address().port}`],
    {stdio: ["ignore", "pipe", "inherit"]});
  try {
    const [line] = await once(serve.stdout, "data");
    for (let i = 0; i < 2; ++i) {
      const answer = await fetch(new URL("/presence", String(line).trim()));
      assert.deepEqual([answer.status, await answer.text(), answer.headers.get("content-type")],
          [429, "too many", "application/octet-stream"]);
    }
  } finally {
    serve.kill();
    admin.closeAllConnections();
    admin.close();
  }
});
