// When to beat, and when a server is gone: on time, late, frozen, throttled, uploading.
import assert from "node:assert/strict";
import test from "node:test";

import {Heartbeat, LATE_MAX, LATE_MS} from "../../../tools/client/js/src/heartbeat.js";
import {seeded} from "./world.mjs";

function started({answerTimeoutMs = 1000, misses = 3, intervalMs = 10_000} = {}) {
  const heartbeat = new Heartbeat({answerTimeoutMs, misses, random: () => 0.999999});
  heartbeat.start(0, intervalMs, 3 * intervalMs);
  return heartbeat;
}

test("the first beat is spread over half an interval, and then there is one an interval", () => {
  const random = seeded(3);
  for (let i = 0; i < 1000; ++i) {
    const one = new Heartbeat({answerTimeoutMs: 1000, misses: 3, random});
    one.start(100, 10_000, 30_000);
    assert(one.dueAt() >= 5100 && one.dueAt() <= 10_100);
  }
  const heartbeat = started();
  let now = heartbeat.dueAt();
  for (let seq = 1; seq < 100; ++seq) {
    assert.deepEqual(heartbeat.poll(now), {ping: seq});
    heartbeat.heard(now + 50, seq);
    assert.equal(heartbeat.dueAt(), now + 10_000);
    now += 10_000;
  }
});

test("misses in a row end it, each with another ping at once", () => {
  const heartbeat = started();
  let now = heartbeat.dueAt();
  assert.equal(heartbeat.poll(now).ping, 1);
  const steps = [[2, true, false], [3, true, false], [undefined, true, true]];
  for (const [ping, missed, gone] of steps) {
    now += 1000;
    assert.equal(heartbeat.dueAt(), now);
    const step = heartbeat.poll(now);
    assert.deepEqual([step.ping, step.missed, step.gone], [ping, missed, gone]);
  }
});

test("an answer is waited for as long as was asked for, also where that is long", () => {
  const heartbeat = started({answerTimeoutMs: 90_000});
  assert.equal(heartbeat.waitMs(), 90_000);
  heartbeat.poll(heartbeat.dueAt());
  heartbeat.heard(heartbeat.sentAt + 80_000, 1);
  assert.equal(heartbeat.waitMs(), 90_000, "round trips ask for no more than a minute");
});

test("whatever is received ends a row of misses", () => {
  const heartbeat = started();
  let now = heartbeat.dueAt();
  heartbeat.poll(now);
  for (let i = 0; i < 50; ++i) {
    now += 999;
    heartbeat.heard(now);  // data: the pong is behind it
    assert.deepEqual(heartbeat.poll(now).missed, undefined);
    assert.equal(heartbeat.misses, 0);
  }
});

test("beats go on while an answer is waited for: the server's deadline does not wait", () => {
  const heartbeat = started({answerTimeoutMs: 5000, intervalMs: 1000});
  const first = heartbeat.dueAt();
  for (let i = 0; i < 5; ++i) assert.equal(heartbeat.poll(first + 1000 * i).ping, i + 1);
  assert.equal(heartbeat.misses, 0);
  assert.deepEqual(heartbeat.poll(first + 5000).missed, true);
});

test("a late end of a wait is not a miss, and too many of them are", () => {
  const heartbeat = started();
  let now = heartbeat.dueAt();
  heartbeat.poll(now);
  for (let late = 1; late <= LATE_MAX; ++late) {
    now += 1000 + LATE_MS + 1;
    const step = heartbeat.poll(now);
    assert.equal(step.missed, undefined);
    assert(!step.gone && step.ping === late + 1, JSON.stringify(step));
  }
  assert.equal(heartbeat.misses, 0);
  now += 60_000;
  assert.equal(heartbeat.poll(now).gone, true);
});

test("a frozen page beats before it judges, and what lay unread counts", () => {
  const heartbeat = started();
  const now = heartbeat.dueAt();
  heartbeat.poll(now);
  const thawed = now + 3600_000;
  assert.deepEqual([heartbeat.poll(thawed).ping, heartbeat.misses], [2, 0]);
  heartbeat.heard(thawed + 1, 1);  // the answer of an hour ago: not to this ping
  assert.equal(heartbeat.poll(thawed + 1001).missed, true);
  heartbeat.heard(thawed + 1010, 3);
  assert.equal(heartbeat.misses, 0);
});

test("a wake makes one beat, however often it is called", () => {
  const heartbeat = started();
  heartbeat.wake(10);
  assert.equal(heartbeat.poll(10).ping, 1);
  for (let now = 20; now < 1010; now += 10) {
    heartbeat.wake(now);
    assert.equal(heartbeat.poll(now).ping, undefined, "one is out");
  }
  assert.equal(heartbeat.poll(1010).missed, true, "and does not put the judgement off");
  heartbeat.wake(1010 + 5000);
  const step = heartbeat.poll(6010);
  assert.deepEqual([step.ping, step.missed, heartbeat.misses], [3, undefined, 1]);
});

test("a ping behind an upload that moves is waited for", () => {
  const heartbeat = started();
  let now = heartbeat.dueAt();
  heartbeat.poll(now);
  for (let i = 0; i < 20; ++i) {
    now += 1000;
    assert.equal(heartbeat.poll(now, {uploads: true}).missed, undefined);
  }
  now += 1000;
  assert.equal(heartbeat.poll(now, {uploads: false}).missed, true);
});

test("another interval holds at once where it is shorter", () => {
  const heartbeat = started();
  heartbeat.retime(1000, 2000, 6000);
  assert.equal(heartbeat.dueAt(), 3000);
  heartbeat.poll(3000);
  heartbeat.heard(3010, 1);
  heartbeat.retime(3100, 60_000, 120_000);
  assert.equal(heartbeat.dueAt(), 5000, "the next beat was promised");
  heartbeat.poll(5000);
  heartbeat.heard(5010, 2);
  assert.equal(heartbeat.dueAt(), 65_000);
});

test("slow round trips lengthen the wait, as RFC 6298 smooths them", () => {
  const heartbeat = started({answerTimeoutMs: 100});
  let now = heartbeat.dueAt();
  for (let i = 0; i < 50; ++i) {
    const {ping} = heartbeat.poll(now);
    heartbeat.heard(now + 80, ping);
    now = heartbeat.dueAt();
  }
  assert(Math.abs(heartbeat.rttMs - 80) < 0.01 && heartbeat.waitMs() === 100);
  const {ping} = heartbeat.poll(now);
  heartbeat.heard(now + 400, ping);
  assert(heartbeat.rttMs === 120 && Math.abs(heartbeat.waitMs() - (120 + 4 * 80)) < 1);
});
