// How long to wait before a try: shapes, jitters, hints.
import assert from "node:assert/strict";
import test from "node:test";

import {HINT_MAX_MS, delayMs, jittered, plainDelay} from "../../../tools/client/js/src/backoff.js";
import {seeded} from "./world.mjs";

const exponential = {shape: "exponential", baseMs: 1000, capMs: 60_000, jitter: "full"};

test("shapes grow as they say, up to the cap", () => {
  const of = (delay) => [1, 2, 3, 4, 7, 1e6].map((attempt) => plainDelay(delay, attempt));
  assert.deepEqual(of(exponential), [1000, 2000, 4000, 8000, 60_000, 60_000]);
  assert.deepEqual(of({shape: "linear", baseMs: 2000, capMs: 10_000}),
      [2000, 4000, 6000, 8000, 10_000, 10_000]);
  assert.deepEqual(of({shape: "immediate", baseMs: 500, capMs: 3000}),
      [0, 500, 1000, 2000, 3000, 3000]);
  assert.deepEqual(of({shape: "immediate"}).slice(0, 3), [0, 1000, 2000]);
});

test("full jitter is uniform from 0, equal jitter from half", () => {
  const random = seeded(7);
  for (const [jitter, least] of [["full", 0], ["equal", 0.5]]) {
    const drawn = Array.from({length: 20_000}, () => jittered(1000, jitter, random) / 1000);
    assert(Math.min(...drawn) >= least && Math.max(...drawn) < 1);
    // Kolmogorov-Smirnov against uniform: beyond 0.0136 once in a thousand of other seeds.
    const sorted = drawn.map((value) => (value - least) / (1 - least)).sort((a, b) => a - b);
    const distance = Math.max(...sorted.map((value, at) => Math.abs(value - at / sorted.length)));
    assert(distance < 0.0136, `${jitter}: ${distance}`);
  }
  assert.equal(jittered(1000, "none", random), 1000);
});

test("a hint is kept to, and that of HTTP is spread", () => {
  const random = seeded(8);
  for (let i = 0; i < 1000; ++i) {
    assert.equal(delayMs(exponential, 1, {ms: 7000, spread: false}, random), 7000);
    const spread = delayMs(exponential, 1, {ms: 7000, spread: true}, random);
    assert(spread >= 7000 && spread <= 10_500, `${spread}`);
    // A server that hints too little does not undo the backoff.
    const later = delayMs(exponential, 10, {ms: 1, spread: false}, random);
    assert(later >= 1 && later <= 60_000);
  }
  assert.equal(delayMs({...exponential, jitter: "none"}, 4, {ms: 1, spread: false}, random), 8000);
  assert.equal(delayMs(exponential, 1, {ms: 1e15, spread: false}, random), HINT_MAX_MS);
});

test("a hint that is not a time is none", () => {
  for (const ms of ["soon", "5", NaN, Infinity, -5, null, {}]) {
    for (let attempt = 1; attempt < 4; ++attempt) {
      assert.equal(delayMs({...exponential, jitter: "none"}, attempt, {ms, spread: true}, () => 0),
          1000 * 2 ** (attempt - 1), `${ms}`);
    }
  }
});
