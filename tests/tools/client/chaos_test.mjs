// The client in worlds of chance: 1,000 seeds, and a cut at every boundary of one run. In each,
// every message is answered once, in order, and the bounds hold; when the trouble is over, it is
// open. A world is replayed by its seed: SEEDS=17..17 node --test chaos_test.mjs
import assert from "node:assert/strict";
import test from "node:test";

import {AWAY, Stage} from "./stage.mjs";

const [first, last] = (process.env.SEEDS ?? "1..1000").split("..").map(Number);
const TROUBLE_MS = 60_000;
const CALM_MS = 400_000;
const FINE = {connects: "accept", onHello: undefined};

function pick(world, choices) { return choices[Math.floor(world.random() * choices.length)]; }

function faultsOf(stage) {
  const {world, home, away} = stage;
  const servers = [home, away];
  const sockets = () => servers.flatMap((server) => server.sockets);
  const forAWhile = (server, member, value, most) => {
    server[member] = value;
    world.in(world.between(0, most), () => { server[member] = FINE[member]; });
  };
  return [
    () => sockets().forEach((socket) => socket.cut()),
    () => sockets().forEach((socket) => socket.cut(pick(world, [1001, 1011, 1012, 1013]))),
    () => sockets().forEach((socket) => socket.deafen()),
    () => forAWhile(pick(world, servers), "connects", "refuse", 20_000),
    () => forAWhile(pick(world, servers), "connects", "hang", 15_000),
    () => forAWhile(pick(world, servers), "onHello", () => true, 5000),
    () => { pick(world, servers).stalledUntil = world.now + world.between(0, 8000); },
    () => sockets().forEach((socket) => socket.server.goodbye(socket, {code: 1001,
      reason: "going_away", retry_after_ms: Math.floor(world.between(1, 9000))})),
    () => sockets().forEach((socket) => socket.server.goodbye(socket, {code: 4011, reason: "moved",
      move_to: socket.server === home ? AWAY : home.url,
      retry_after_ms: Math.floor(world.between(0, 3000))})),
    () => sockets().forEach((socket) => socket.server.send(socket, {type: "interval",
      interval_ms: Math.floor(world.between(500, 20_000)), timeout_ms: 60_000})),
    () => world.freeze(world.between(10, 30_000)),
    () => { world.throttleMs = pick(world, [0, 0, 1000, 60_000]); },
    () => world.tell(pick(world, ["wake", "network", "online", "offline"])),
    () => { world.online = !world.online; world.tell(world.online ? "online" : "offline"); },
    () => { const socket = stage.socket; socket.bufferedAmount = pick(world, [0, 5000]); },
  ];
}

async function live(seed) {
  const overflow = seed % 2 ? "newest" : "oldest";
  const stage = new Stage({seed, answerTimeoutMs: 1500, misses: 3, connectTimeoutMs: 4000,
    welcomeTimeoutMs: 3000, bufferedMax: 4000,
    queue: {messagesMax: 25, bytesMax: 6000, ageMaxMs: 20_000, overflow},
    policies: {connect_timeout: {tries: Infinity,
      delay: {shape: "linear", baseMs: 500, capMs: 5000, jitter: "equal"}},
    welcome_timeout: {tries: Infinity,
      delay: {shape: "exponential", baseMs: 500, capMs: 5000, jitter: "full"}}}});
  const {world} = stage;
  stage.away = world.server(AWAY);
  stage.home.keepsOpen = world.chance(0.5);
  const faults = faultsOf(stage);
  stage.client.connect();
  for (let at = world.between(0, 500); at < TROUBLE_MS; at += world.between(0, 500)) {
    world.at(at, () => stage.send({confirm: world.chance(0.3),
      bytes: Math.floor(world.between(0, world.chance(0.02) ? 7000 : 400))}));
  }
  for (let at = 0; at < TROUBLE_MS; at += world.between(0, 12_000)) {
    world.at(at, () => pick(world, faults)());
  }
  await stage.run(TROUBLE_MS);
  Object.assign(world, {online: true, throttleMs: 0});
  for (const socket of world.sockets) socket.bufferedAmount = 0;
  world.tell("online");
  await stage.run(CALM_MS);
  assert.equal(stage.client.state, "open");
  assert.equal(stage.client.queued.messages, 0);
  const whole = world.sockets.filter(({isUp, isDeaf, isRead}) => isUp && !isDeaf && isRead);
  assert.equal(whole.length, 1);
  stage.check();
  return stage;
}

test(`seeds ${first} to ${last}: a message is answered once, the client comes back`, async () => {
  const sums = {};
  for (let seed = first; seed <= last; ++seed) {
    const stage = await live(seed).catch((error) => {
      error.message = `seed ${seed}: ${error.message}`;
      throw error;
    });
    for (const {status, reason} of stage.results.values()) {
      const name = status === "dropped" ? `dropped: ${reason}` : status;
      sums[name] = (sums[name] ?? 0) + 1;
    }
    sums.connections = (sums.connections ?? 0) + stage.of("welcome").length;
  }
  console.log(`REPORT ${JSON.stringify(sums)}`);
  for (const name of ["sent", "received", "unconfirmed", "dropped: count", "dropped: bytes",
    "dropped: age"]) {
    if (last - first >= 100) assert(sums[name] > 0, `none was ${name}: the worlds are too kind`);
  }
});

// One run, each time broken at another of its events.
async function scripted(cutAt, cut) {
  const stage = new Stage({seed: 5, answerTimeoutMs: 1000, misses: 2, connectTimeoutMs: 3000});
  const {world} = stage;
  stage.away = world.server(AWAY);
  stage.client.connect();
  for (let at = 0; at < 8000; at += 400) {
    world.at(at, () => stage.send({confirm: at % 800 === 0}));
  }
  world.at(3000, () => stage.home.sockets.forEach((socket) => stage.home.goodbye(socket,
      {code: 4011, reason: "moved", move_to: AWAY, retry_after_ms: 300})));
  world.at(6000, () => stage.away.sockets.forEach((socket) => stage.away.goodbye(socket,
      {code: 1001, reason: "going_away", retry_after_ms: 700})));
  world.beforeEvent = (number) => {
    if (number === cutAt) world.sockets.filter(({isUp}) => isUp).forEach(cut);
  };
  await stage.run(120_000);
  stage.check();
  assert.equal(stage.client.state, "open", `cut at event ${cutAt}`);
  return world.handled;
}

test("a cut at every boundary of a run: heard, unheard, or with a close frame", async () => {
  let runs = 0;
  for (const cut of [(socket) => socket.cut(), (socket) => socket.deafen(),
    (socket) => socket.endFromServer(1012)]) {
    const events = Math.min(400, await scripted(-1, cut));
    for (let at = 0; at < events; ++at, ++runs) await scripted(at, cut);
  }
  console.log(`REPORT ${runs} runs, each cut at another event`);
  assert(runs > 300, `${runs}`);
});
