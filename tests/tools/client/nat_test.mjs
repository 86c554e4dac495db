// What a network bears, found out by side connections (nat_search.js, nat_probes.js): never by the
// connection itself, from no sample that does not count, and in worlds of chance.
import assert from "node:assert/strict";
import test from "node:test";

import {NatSearch, intervalOf, silencesOf} from "../../../tools/client/js/src/nat_search.js";
import {AWAY, Stage} from "./stage.mjs";

const NETWORK = "192.0.2.0/24";
const HOUR_MS = 3_600_000;
const [first, last] = (process.env.SEEDS ?? "1..150").split("..").map(Number);

/** The silences that were tried, and what was found. */
function search(truthMs, hint) {
  const search = new NatSearch(hint);
  const tried = [];
  while (!search.isDone) {
    const {round} = search;
    tried.push(...round);
    for (const ms of round) search.note(ms, ms <= truthMs);
  }
  return {tried, ...search.found};
}

// The same as tests/core/nat_search_test.cc has: both clients try the same.
test("it tries these silences", () => {
  assert.deepEqual(search(65_000).tried,
      [117446, 459785, 42198, 59358, 83494, 64643, 70399, 76667]);
  assert.deepEqual(search(2_000_000).tried,
      [117446, 459785, 646746, 909732, 1279655, 1393598, 1517688, 1652827]);
});

test("it ends within a tenth of the truth, and confirms that by one silence", () => {
  for (let truth = 30_000; truth < 4_000_000; truth *= 1.01) {
    const {tried, keptMs, lostMs} = search(truth);
    assert(keptMs <= truth && keptMs * 1.1 >= Math.min(truth, 1_800_000) * 0.999, `${truth}`);
    assert(lostMs === 0 || lostMs > truth);
    assert(tried.length <= 8);
    const again = search(truth, {keptMs, lostMs});
    if (keptMs > 30_000) assert.deepEqual(again.tried, [keptMs]);
    assert.deepEqual([again.keptMs, again.lostMs], [keptMs, lostMs]);
  }
  assert.equal(search(190_000, {keptMs: 1_200_000, lostMs: 0}).tried[0], 1_200_000);
  assert(search(190_000, {keptMs: 1_200_000, lostMs: 0}).keptMs * 1.1 >= 190_000);
});

test("what others say is checked", () => {
  assert.deepEqual(silencesOf({kept_ms: 90_000}), {keptMs: 90_000, lostMs: 0});
  for (const said of [{}, {kept_ms: 1000}, {kept_ms: "90000"}, {kept_ms: 90_000, lost_ms: 80_000},
    {kept_ms: 1_900_000}, {kept_ms: 90_000.5}]) {
    assert.equal(silencesOf(said), undefined, JSON.stringify(said));
  }
  assert.deepEqual([intervalOf(30_000), intervalOf(600_000)], [27_000, 570_000]);
});

function probing(natMs, {seed = 1, nat = {network: NETWORK}, intervalMs = 30_000, ...options} =
    {}) {
  const stage = new Stage({seed, natProbes: true, ...options});
  Object.assign(stage.home, {nat, intervalMs, timeoutMs: 3 * intervalMs});
  stage.world.natMs = natMs;
  return stage;
}
const found = (stage) => stage.of("nat")[0];

function checkFound(stage, natMs, what = "") {
  const {keptMs, network} = found(stage) ?? assert.fail(`nothing was found: ${what}`);
  assert.equal(network, NETWORK);
  assert(keptMs <= natMs, `${what}: ${keptMs} of ${natMs}`);
  assert(keptMs * 1.1 >= Math.min(natMs, 1_800_000) * 0.999, `${what}: ${keptMs} of ${natMs}`);
}

test("it finds what the network bears within the hour, and loses no connection by it", async () => {
  for (const natMs of [45_000, 65_000, 190_000, 320_000, 880_000, Infinity]) {
    for (const natResets of [false, true]) {
      const stage = probing(natMs);
      stage.world.natResets = natResets;
      await stage.open();
      const from = stage.world.now;
      await stage.run(2 * HOUR_MS, () => stage.of("nat").length > 0);
      checkFound(stage, natMs, `${natMs}`);
      const {at, probes, keptMs, lostMs} = found(stage);
      assert(at - from < HOUR_MS, `${natMs}: ${at - from} ms`);
      assert(probes <= 8, `${natMs}: ${probes}`);
      assert.equal(probes, stage.home.sides.length);
      assert.deepEqual(stage.of("lost"), []);
      await stage.run(1000);
      assert.deepEqual(stage.home.natReports,
          [lostMs === 0 ? {kept_ms: keptMs} : {kept_ms: keptMs, lost_ms: lostMs}]);
      assert.deepEqual(stage.home.sides.filter(({isUp, isDeaf}) => isUp && !isDeaf), []);
      await stage.run(HOUR_MS);
      assert.equal(stage.home.sides.length, probes, "and that is all");
    }
  }
});

test("it says so in its hello, and tries nothing where it is not asked to", async () => {
  const stage = probing(190_000);
  await stage.open();
  assert.deepEqual(stage.home.hellos[0].nat, {});
  for (const stage of [probing(190_000, {natProbes: false}), probing(190_000, {nat: null})]) {
    await stage.open();
    await stage.run(HOUR_MS);
    assert.equal(stage.world.sockets.length, 1);
    assert.deepEqual(stage.of("nat"), []);
  }
  assert.throws(() => new Stage({natProbes: 1}), TypeError);
});

test("where others have found it one silence confirms it", async () => {
  const stage = probing(190_000, {nat: {network: NETWORK, kept_ms: 179_912, lost_ms: 195_931}});
  await stage.open();
  await stage.run(300_000);
  const {probes, keptMs, lostMs} = found(stage);
  assert.deepEqual([probes, keptMs, lostMs], [1, 179_912, 195_931]);
});

test("what others say wrongly costs it silences, and no connection", async () => {
  for (const kept_ms of [40_000, 179_912, 1_700_000]) {
    const stage = probing(100_000, {nat: {network: NETWORK, kept_ms}});
    await stage.open();
    await stage.run(2 * HOUR_MS, () => stage.of("nat").length > 0);
    checkFound(stage, 100_000, `${kept_ms}`);
    assert.deepEqual(stage.of("lost"), []);
  }
});

test("it beats within what it found, whatever the interval, and remembers it", async () => {
  const natMemory = new Map();
  const stage = probing(190_000, {natMemory});
  await stage.open();
  await stage.run(HOUR_MS);
  const {keptMs} = found(stage);
  for (const [index, intervalMs] of [[0, 600_000], [1, 30_000]]) {
    const later = probing(190_000, {natMemory, intervalMs, seed: 2});
    await later.open();
    await later.run(HOUR_MS);
    assert.deepEqual(later.of("lost"), [], `${intervalMs}`);
    assert.equal(later.home.sides.length, 0, "it is not tried again");
    assert.equal(later.home.natReports[0].kept_ms, keptMs);
    const {pings} = later.home;
    const gaps = pings.slice(1).map(({at}, i) => at - pings[i].at);
    const most = Math.max(...gaps);
    assert(most <= Math.min(intervalMs, intervalOf(keptMs)) + 200, `${index}: ${most}`);
  }
  // Without it the network forgets the connection.
  const lost = probing(190_000, {natProbes: false, intervalMs: 600_000});
  await lost.open();
  await lost.run(HOUR_MS);
  assert(lost.of("lost").length > 0);
});

test("what is remembered for more than a week, or is not a record, is not gone by", async () => {
  for (const record of [{keptMs: 90_000, lostMs: 0, at: 1.7e12 - 8 * 86_400_000}, {keptMs: "x"},
    {keptMs: 90_000, lostMs: 0, at: 1.8e12}, 7]) {
    const stage = probing(190_000, {natMemory: new Map([[NETWORK, record]])});
    await stage.open();
    await stage.run(HOUR_MS);
    checkFound(stage, 190_000);
  }
});

test("a store that fails is told, and stops nothing", async () => {
  const fail = () => { throw new Error("full"); };
  const stage = probing(190_000, {natMemory: {get: fail, set: fail, delete: fail}});
  await stage.open();
  await stage.run(HOUR_MS);
  checkFound(stage, 190_000);
  assert.match(stage.of("error")[0].message, /natMemory: Error: full/);
});

test("a network that bears less than is remembered is found out anew", async () => {
  const natMemory = new Map([[NETWORK, {keptMs: 1_000_000, lostMs: 0, at: 1.7e12}]]);
  const stage = probing(100_000, {natMemory, intervalMs: 900_000});
  await stage.open();
  await stage.run(6 * HOUR_MS);
  assert.equal(stage.of("lost").length, 3, "three connections in a row");
  checkFound(stage, 100_000);
  assert.equal(natMemory.get(NETWORK).keptMs, found(stage).keptMs);
});

test("a silence that was broken, or a page that slept, is tried again", async () => {
  for (const spoil of [(stage) => stage.home.send(stage.home.sides[0], {type: "data"}),
    (stage) => stage.home.goodbye(stage.home.sides[0], {code: 1001, reason: "going_away"}),
    (stage) => stage.home.sides[0].endFromServer(1012),
    (stage) => stage.world.freeze(200_000)]) {
    const stage = probing(190_000);
    await stage.open();
    await stage.run(200_000, () => stage.home.sides.length === 2);
    await stage.run(20_000);
    assert.equal(stage.home.sides.length, 2);
    spoil(stage);
    await stage.run(2 * HOUR_MS, () => stage.of("nat").length > 0);
    checkFound(stage, 190_000);
    assert(found(stage).probes > 6, `${found(stage).probes}`);
  }
});

// Until shortly before the shorter of the first two silences is over.
async function asleep(natMs) {
  const stage = probing(natMs);
  await stage.open();
  await stage.run(200_000, () => stage.home.sides.length === 2);
  await stage.run(117_000);
  return stage;
}

test("where the connection has no answer either the sample does not count", async () => {
  // The device has moved: both are gone, and no word of it.
  const moved = await asleep(900_000);
  for (const socket of moved.world.sockets) socket.deafen();
  await moved.run(2 * HOUR_MS, () => moved.of("nat").length > 0);
  assert.equal(moved.of("lost").length, 1);
  checkFound(moved, 900_000, "moved");
  // The server stands still.
  const stalled = await asleep(900_000);
  stalled.home.stalledUntil = stalled.world.now + 14_000;
  await stalled.run(2 * HOUR_MS, () => stalled.of("nat").length > 0);
  assert.deepEqual(stalled.of("lost"), []);
  checkFound(stalled, 900_000, "stalled");
});

test("an answer that comes behind the connection's still counts", async () => {
  // What was lost in an outage is sent again late; and the page may sleep when it comes.
  for (const [lateMs, frozenAt] of [[16_500, Infinity], [40_000, 31_500]]) {
    const stage = await asleep(900_000);
    const {home, world} = stage;
    home.onMessage = (socket, {type, seq}) => {
      if (type !== "ping" || socket !== home.sides[0]) return false;
      world.in(lateMs, () => home.send(socket, {type: "pong", seq}));
      if (frozenAt < Infinity) world.in(frozenAt, () => world.freeze(60_000));
      return true;
    };
    await stage.run(2 * HOUR_MS, () => stage.of("nat").length > 0);
    assert.deepEqual(stage.of("lost"), []);
    checkFound(stage, 900_000, `${lateMs}`);
  }
});

test("a change of networks that the page is told of ends what is tried", async () => {
  const stage = probing(190_000);
  await stage.open();
  await stage.run(100_000);
  const {length} = stage.home.sides;
  stage.world.tell("network");
  await stage.run(1000);
  assert.deepEqual(stage.home.sides.filter(({isUp}) => isUp), []);
  await stage.run(2 * HOUR_MS, () => stage.of("nat").length > 0);
  checkFound(stage, 190_000);
  assert(stage.home.sides.length > length);
});

test("a server that has no room is asked again, and one that knows of none is not", async () => {
  const busy = probing(190_000);
  let refusals = 0;
  busy.home.onHello = (socket, {probe}) => {
    if (!probe || refusals >= 5) return false;
    ++refusals;
    busy.home.send(socket, {type: "error", code: 1013, message: "try again later"});
    return true;
  };
  await busy.open();
  await busy.run(3 * HOUR_MS, () => busy.of("nat").length > 0);
  assert.equal(refusals, 5);
  checkFound(busy, 190_000);
  const strange = probing(190_000);
  strange.home.onHello = (socket, {probe}) => {
    const welcome = {type: "welcome", interval_ms: 30_000, timeout_ms: 90_000};
    if (probe) strange.home.send(socket, welcome);
    return probe;
  };
  await strange.open();
  await strange.run(3 * HOUR_MS);
  assert(strange.home.hellos.filter(({probe}) => probe).length <= 2);
  assert.equal(found(strange), undefined);
  assert.equal(strange.client.state, "open");
});

test("it gives up after so many that do not count", async () => {
  const stage = probing(190_000);
  stage.home.onHello = (socket, {probe}) => {
    if (probe) socket.endFromServer(1012);
    return probe;
  };
  await stage.open();
  await stage.run(20 * HOUR_MS);
  assert.equal(stage.home.hellos.filter(({probe}) => probe).length, 40);
  assert.deepEqual([found(stage), stage.of("lost").length], [undefined, 0]);
});

test("close() ends what is tried, and its token is that of a connection", async () => {
  const causes = [];
  const stage = probing(190_000, {user: "u", token: ({cause}) => {
    causes.push(cause);
    return "t";
  }});
  await stage.open();
  await stage.run(100_000);
  assert.deepEqual(causes, ["connect", "probe", "probe"]);
  const hellos = stage.home.hellos.filter(({probe}) => probe);
  assert.deepEqual(hellos[0], {type: "hello", probe: true, token: "t"});
  stage.client.close();
  await stage.run(HOUR_MS);
  assert.deepEqual(stage.world.sockets.filter(({isUp}) => isUp), []);
  assert.equal(stage.home.hellos.filter(({probe}) => probe).length, hellos.length);
});

// Moves, stalls, cuts, goodbyes, restarts, frozen pages. What is found is right all the same.
async function live(seed) {
  const natMs = [65_000, 190_000, 320_000, 880_000, Infinity][seed % 5];
  const stage = probing(natMs, {seed});
  const {world, home} = stage;
  home.latencyMs = [5, 400];
  const away = world.server(AWAY, {nat: {network: NETWORK}, intervalMs: 30_000, timeoutMs: 90_000});
  const up = () => world.sockets.filter(({isUp}) => isUp);
  const faults = [
    () => up().forEach((socket) => socket.deafen()),
    () => up().forEach((socket) => socket.cut()),
    () => { home.stalledUntil = away.stalledUntil = world.now + world.between(0, 14_000); },
    () => up().forEach((socket) => socket.server.goodbye(socket, {code: 1001,
      reason: "going_away", retry_after_ms: 1000})),
    () => up().filter(({server}) => server.sides.every((side) => !up().includes(side)))
        .forEach((socket) => socket.server.goodbye(socket, {code: 4011, reason: "moved",
          move_to: socket.server === home ? AWAY : home.url, retry_after_ms: 0})),
    () => world.freeze(world.between(0, 100_000)),
    () => world.tell(["network", "online", "wake"][seed % 3]),
  ];
  stage.client.connect();
  for (let at = 0; at < 3 * HOUR_MS; at += world.between(0, HOUR_MS)) {
    world.at(at, () => faults[Math.floor(world.random() * faults.length)]());
  }
  await stage.run(9 * HOUR_MS, () => stage.of("nat").length > 0 && world.now > 3 * HOUR_MS);
  for (const each of stage.of("nat")) {
    // What passes last before a silence, and first behind it, is up to a flight away.
    assert(each.keptMs <= natMs && (each.lostMs === 0 || each.lostMs + 400 > natMs),
        `${each.keptMs} to ${each.lostMs} of ${natMs}`);
  }
  return stage;
}

test(`seeds ${first} to ${last}: what is found is right, whatever happens`, async () => {
  const sums = {found: 0, probes: 0, lost: 0};
  for (let seed = first; seed <= last; ++seed) {
    const stage = await live(seed).catch((error) => {
      error.message = `seed ${seed}: ${error.message}`;
      throw error;
    });
    sums.found += stage.of("nat").length > 0;
    sums.probes += found(stage)?.probes ?? 0;
    sums.lost += stage.of("lost").length;
  }
  console.log(`REPORT ${JSON.stringify(sums)}`);
  assert(sums.found >= 0.9 * (last - first + 1), `${sums.found}`);
});
