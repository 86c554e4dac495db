// Sessions that are resumed (PROTOCOL.md, "Resuming"): 1,000 seeds, and a cut at every event of a
// run. Nothing is lost, nothing comes twice, the order is kept, in both directions; what a bound
// drops is reported. A world is replayed by its seed: SEEDS=17..17 node --test resume_test.mjs
import assert from "node:assert/strict";
import test from "node:test";

import {Session} from "../../../tools/client/js/src/session.js";
import {AWAY, HOME, Stage} from "./stage.mjs";

const [first, last] = (process.env.SEEDS ?? "1..1000").split("..").map(Number);
const upTo = (count) => Array.from({length: count}, (_, index) => index + 1);

function resumable(options = {}, behaviour = {}) {
  const stage = new Stage({answerTimeoutMs: 1500, misses: 2, connectTimeoutMs: 4000,
    welcomeTimeoutMs: 3000, user: "u", queue: {ageMaxMs: 600_000}, ...options});
  Object.assign(stage.home, {sessions: new Map(), ...behaviour});
  stage.pushed = 0;
  stage.received = [];
  stage.client.addEventListener("message", ({detail}) => stage.received.push(detail.data.n));
  return stage;
}

/** The server has something for the client, whether or not it is there: it knows its session. */
function push(stage) {
  const [session] = [...stage.home.sessions.values()].slice(-1);
  if (session && stage.of("welcome").length > 0) stage.home.push(session, {n: ++stage.pushed});
}

const BOUNDS = ["count", "bytes", "age"];

// `isBounded`: the bounds of its queue may have dropped some, and said so.
function checkWhole(stage, isBounded = false) {
  assert.equal(stage.client.state, "open");
  assert.deepEqual(stage.received, upTo(stage.pushed), "what the server sent");
  const read = stage.home.data.map(({id}) => id);
  const isDropped = (id) => stage.results.get(id)?.status === "dropped";
  assert.deepEqual(read, upTo(stage.sent).filter((id) => !isDropped(id)), "what the client sent");
  for (const [id, {status, reason}] of stage.results) {
    if (status === "dropped" && isBounded && BOUNDS.includes(reason)) continue;
    assert(status === "sent" || status === "received", `${id} is ${status}`);
  }
  assert.equal(stage.results.size, stage.sent, "each is answered");
  for (const given of stage.answers.values()) assert.equal(given.length, 1, "and once");
  for (const {resumed, lost} of stage.of("resumed")) assert(resumed && lost === 0);
}

const CUTS = [
  (socket) => socket.cut(),
  (socket) => socket.deafen(),
  (socket) => socket.endFromServer(1012),
];

async function live(seed) {
  const isTight = seed % 3 === 0;
  const overflow = seed % 2 ? "newest" : "oldest";
  const stage = resumable(isTight
      ? {seed, queue: {messagesMax: 8, bytesMax: 2000, ageMaxMs: 5000, overflow}} : {seed});
  const {world} = stage;
  stage.client.connect();
  for (let at = world.between(0, 900); at < 30_000; at += world.between(0, 900)) {
    const most = isTight ? world.chance(0.05) ? 3000 : 400 : 1;
    world.at(at, () => stage.send({confirm: world.chance(0.3),
      bytes: Math.floor(world.between(0, most))}));
  }
  for (let at = world.between(0, 900); at < 30_000; at += world.between(0, 900)) {
    world.at(at, () => push(stage));
  }
  for (let at = 500; at < 30_000; at += world.between(0, 5000)) {
    world.at(at, () => {
      const cut = CUTS[Math.floor(world.random() * CUTS.length)];
      for (const socket of stage.home.sockets) cut(socket);
    });
  }
  for (let at = 500; at < 30_000; at += world.between(0, 20_000)) {
    world.at(at, () => {
      const [member, value, fine] = world.chance(0.5)
          ? ["connects", "refuse", "accept"] : ["stalledUntil", world.now + 4000, 0];
      stage.home[member] = value;
      world.in(3000, () => { stage.home[member] = fine; });
    });
  }
  await stage.run(600_000);
  checkWhole(stage, isTight);
  return stage;
}

test(`seeds ${first} to ${last}: nothing is lost or doubled, in both directions`, async () => {
  const sums = {messages: 0, pushed: 0, resumed: 0, resent: 0, count: 0, bytes: 0, age: 0};
  for (let seed = first; seed <= last; ++seed) {
    const stage = await live(seed).catch((error) => {
      error.message = `seed ${seed}: ${error.message}`;
      throw error;
    });
    const resumed = stage.of("resumed");
    sums.messages += stage.sent;
    sums.pushed += stage.pushed;
    sums.resumed += resumed.length;
    sums.resent += resumed.reduce((sum, {resent}) => sum + resent, 0);
    for (const {reason} of stage.results.values()) if (reason) ++sums[reason];
  }
  console.log(`REPORT ${JSON.stringify(sums)}`);
  if (last - first < 100) return;
  assert(sums.resumed > 1000 && sums.resent > 100, JSON.stringify(sums));
  for (const bound of BOUNDS) assert(sums[bound] > 0, `none was dropped by ${bound}: too kind`);
});

async function scripted(cutAt, cut) {
  const stage = resumable({seed: 3});
  const {world} = stage;
  stage.client.connect();
  for (let at = 0; at < 3000; at += 250) {
    world.at(at, () => stage.send({confirm: at % 500 === 0}));
    world.at(at + 500, () => push(stage));
  }
  world.beforeEvent = (number) => {
    if (number === cutAt) for (const socket of stage.home.sockets) cut(socket);
  };
  await stage.run(100_000);
  checkWhole(stage);
  return world.handled;
}

test("a cut at every event of a run: heard, unheard, or with a close frame", async () => {
  let runs = 0;
  for (const cut of CUTS) {
    const events = Math.min(200, await scripted(-1, cut));
    for (let at = 0; at < events; ++at, ++runs) {
      await scripted(at, cut).catch((error) => {
        error.message = `cut ${CUTS.indexOf(cut)} at event ${at}: ${error.message}`;
        throw error;
      });
    }
  }
  console.log(`REPORT ${runs} runs, each cut at another event`);
  assert(runs > 200, `${runs}`);
});

test("a server that reads late that links were given up keeps the session", async () => {
  const stage = resumable();
  await stage.open();
  stage.home.stalledUntil = stage.world.now + 20_000;
  stage.send();
  await stage.run(120_000);
  const causes = stage.of("retry").map(({cause}) => cause.name);
  assert(causes.includes("silent") && causes.includes("welcome_timeout"), `${causes}`);
  push(stage);
  await stage.run(10_000);
  checkWhole(stage);
});

test("what the server keeps no more is reported, and the rest comes in order", async () => {
  const stage = resumable({}, {keptMax: 3});
  await stage.open();
  stage.home.sockets[0].deafen();
  for (let i = 0; i < 8; ++i) push(stage);
  await stage.run(120_000);
  assert.deepEqual(stage.received, [6, 7, 8]);
  push(stage);
  await stage.run(100);
  stage.home.sockets.forEach((socket) => socket.cut());
  await stage.run(120_000);
  assert.deepEqual(stage.received, [6, 7, 8, 9]);
  assert.deepEqual(stage.of("resumed").map(({resumed, lost}) => [resumed, lost]),
      [[true, 5], [true, 0]], "both count from there on");
});

test("a session that is over: what was sent is unconfirmed, and counting begins anew", async () => {
  const stage = resumable();
  await stage.open();
  stage.home.stalledUntil = Infinity;
  stage.send({confirm: true});
  stage.send();
  await stage.run(10);
  stage.home.sessions.clear();
  stage.home.unread = [];
  stage.home.stalledUntil = 0;
  stage.home.sockets.forEach((socket) => socket.cut());
  await stage.run(120_000);
  assert.deepEqual([...stage.results].map(([id, {status}]) => [id, status]),
      [[2, "sent"], [1, "unconfirmed"]]);
  assert.equal(stage.results.get(1).reason, "unknown");
  assert.deepEqual(stage.of("resumed").map(({resumed, unconfirmed, why}) =>
    [resumed, unconfirmed, why]), [[false, 2, "unknown"]]);
  push(stage);
  stage.home.sockets.forEach((socket) => socket.cut());
  stage.send({confirm: true});
  await stage.run(120_000);
  assert.deepEqual(stage.received, [1]);
  assert.equal(stage.results.get(3).status, "received");
  assert.equal(stage.of("resumed").at(-1).resumed, true);
});

test("what may have to be sent again is bounded, and what waits has an answer", async () => {
  const queue = {messagesMax: 4, bytesMax: 1 << 16, ageMaxMs: 5000};
  const stage = resumable({queue, answerTimeoutMs: 60_000});
  await stage.open();
  stage.home.stalledUntil = Infinity;
  for (let i = 0; i < 12; ++i) stage.send();
  assert.equal(stage.client.link.unconfirmed.length, 4);
  await stage.run(10_000);
  const of = (status) => [...stage.results].filter(([, one]) => one.status === status).length;
  assert.equal(of("sent"), 4);
  assert.equal(of("dropped"), 8);
  const reasons = [...stage.results.values()].map(({reason}) => reason);
  assert.equal(reasons.filter((reason) => reason === "count").length, 4);
  assert.equal(reasons.filter((reason) => reason === "age").length, 4);
});

test("it asks for confirmation by itself: what is kept does not grow", async () => {
  const stage = resumable();
  await stage.open();
  for (let i = 0; i < 500; ++i) {
    stage.send();
    await stage.run(20);
    assert(stage.client.link.unconfirmed.length < 64);
  }
  const {pings} = stage.home;
  assert(pings.length < 30, `${pings.length} pings for 500 messages`);
});

test("acknowledges each 32nd, or a second after one, and no more than that", async () => {
  const stage = resumable();
  await stage.open();
  const acks = [];
  stage.home.onMessage = (_, {type, received}) => void (type === "ack" && acks.push(received));
  push(stage);
  await stage.run(900);
  assert.deepEqual(acks, []);
  await stage.run(500);
  assert.deepEqual(acks, [1]);
  for (let i = 0; i < 70; ++i) push(stage);
  await stage.run(3000);
  assert.deepEqual(acks, [1, 33, 65, 71]);
  assert.equal([...stage.home.sessions.values()][0].kept.length, 0);
});

test("a move begins another session, and the old one's messages have their answers", async () => {
  const stage = resumable();
  const away = stage.world.server(AWAY, {sessions: new Map()});
  stage.home.keepsOpen = true;
  await stage.open();
  stage.send({confirm: true});
  stage.home.goodbye(stage.home.sockets[0], {code: 4011, reason: "moved", move_to: AWAY});
  await stage.run(20_000);
  assert.deepEqual(away.hellos[0].resume, {});
  assert.equal(stage.results.size, 1);
  assert.equal(stage.client.session, stage.client.link.session);
  away.sockets[0].cut();
  await stage.run(20_000);
  assert.deepEqual(stage.of("resumed").map(({resumed}) => resumed), [false, true], "its home now");
});

// The server has counted less than it has answered for: it cannot be gone on with, and what came
// before comes no second time.
test("a session by counts that cannot be is given up, and the next one is new", async () => {
  const stage = resumable();
  let loses = true;
  stage.home.onMessage = (_, {type}) => loses && type === "data";
  await stage.open();
  stage.send({confirm: true});
  await stage.run(1000);
  assert.equal(stage.results.get(1).status, "received");
  loses = false;
  for (let i = 0; i < 3; ++i) {
    push(stage);
    await stage.run(250);
    stage.home.sockets.forEach((socket) => socket.cut());
    await stage.run(10_000);
  }
  assert.equal(stage.home.sessions.size, 2);
  assert.deepEqual(stage.received, [1, 2, 3]);
  assert.deepEqual(stage.of("resumed").map(({resumed}) => resumed), [false, true]);
  stage.send();
  await stage.run(1000);
  assert.deepEqual(stage.home.data.map(({id}) => id), [2]);
  const odd = {valueOf: 1, toString: 1};  // Number() of that throws
  assert.equal(new Session("t", HOME).resume({received: odd, from: 1}), undefined);
});

test("resume: false asks for nothing, and a server without it is told nothing more", async () => {
  const without = resumable({resume: false});
  await without.open();
  assert.equal(without.home.hellos[0].resume, undefined);
  const plain = resumable({}, {sessions: undefined});
  await plain.open();
  plain.send();
  await plain.run(5000);
  assert.equal(plain.client.link.unconfirmed.length, 0);
  assert.equal(plain.of("resumed").length, 0);
  assert.throws(() => resumable({resume: "yes"}), TypeError);
});

test("a welcome that says what cannot be ends the session, and is not believed", () => {
  const item = {frame: "", bytes: 1, confirm: true, queuedAt: 0, answer() {}};
  for (const resume of [{received: -1, from: 1}, {received: 2, from: 1}, {received: 0, from: 0},
    {received: "0", from: 1}, {received: 0}, {received: 0, from: 1.5}]) {
    const session = new Session("t", "ws://a");
    session.unconfirmed.push(item);
    assert.equal(session.resume(resume), undefined, JSON.stringify(resume));
    assert.equal(session.unconfirmed.length, 1);
  }
});
