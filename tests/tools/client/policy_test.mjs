// The policy table: which row a cause finds, and what comes of ends in a row.
import assert from "node:assert/strict";
import {readFileSync} from "node:fs";
import test from "node:test";

import {DEFAULT_POLICIES, Retries, find, policies} from "../../../tools/client/js/src/policy.js";
import {seeded} from "./world.mjs";

const ROOT = new URL("../../../", import.meta.url);
const read = (path) => readFileSync(new URL(path, ROOT), "utf8");
// Name -> code, of proto/PROTOCOL.md.
const reasons = new Map([...read("proto/PROTOCOL.md").split("## Why a connection ends")[1]
    .matchAll(/^\| `(\w+)` \| (\d{4}) \|$/gm)].map(([, name, code]) => [name, Number(code)]));

test("every reason of the server finds a row of its own or of its code", () => {
  assert(reasons.size > 30);
  for (const [name, code] of reasons) {
    if (code === 1000) continue;  // nothing is sent
    const {row} = find(DEFAULT_POLICIES, {name, code});
    assert.notEqual(row, "close_other", name);
  }
});

test("every name of the table is a reason, a code, a status or an end of our own", () => {
  const own = new Set(["connect_timeout", "refused", "welcome_timeout", "hello_refused",
    "hello_put_off", "token_failed", "bad_url", "silent", "moved"]);
  for (const name of Object.keys(DEFAULT_POLICIES)) {
    assert(own.has(name) || reasons.has(name) || /^(close|http)_(\d{3,4}|[45]xx|other)$/.test(name),
        name);
  }
});

test("a row is found by name, then by code or class of status", () => {
  const row = (cause) => find(DEFAULT_POLICIES, cause).row;
  assert.equal(row({name: "kicked", code: 4005}), "kicked");
  assert.equal(row({name: "server_full", code: 1013}), "close_1013");
  assert.equal(row({name: "close_4321", code: 4321}), "close_other");
  assert.equal(row({name: "http_429", status: 429}), "http_429");
  assert.equal(row({name: "http_400", status: 400}), "http_4xx");
  assert.equal(row({name: "http_502", status: 502}), "http_5xx");
  assert.equal(row({name: "http_301", status: 301}), "http_other");
  assert.equal(row({name: "toString"}), "close_other");
});

test("what must not be tried again is not", () => {
  for (const cause of [
    {name: "http_400", status: 400}, {name: "http_403", status: 403},
    {name: "http_404", status: 404},
    {name: "kicked", code: 4005}, {name: "taken_over", code: 4008}, {name: "bad_url"},
    {name: "duplicate_login", code: 4009}, {name: "protocol_error", code: 1002},
    {name: "close_1008", code: 1008}, {name: "unauthorized", code: 4001},
    {name: "http_401", status: 401}]) {
    assert.equal(new Retries(DEFAULT_POLICIES, seeded(1)).decide(cause).retry, false, cause.name);
  }
});

test("tries are counted by cause, and forgotten once a connection lasts", () => {
  const retries = new Retries(DEFAULT_POLICIES, seeded(2));
  const timeout = {name: "connect_timeout"};
  const delays = [1, 2, 3, 4, 5].map((attempt) => {
    const step = retries.decide(timeout);
    assert.deepEqual([step.retry, step.attempt], [true, attempt]);
    return step.delayMs;
  });
  delays.forEach((ms, at) => {
    const plain = Math.min(10_000, 2000 * (at + 1));
    assert(ms >= plain / 2 && ms <= plain, `${ms} of ${plain}`);
  });
  assert.equal(retries.decide({name: "refused"}).retry, true, "another cause has tries of its own");
  assert.equal(retries.decide(timeout).retry, false);
  retries.reset();
  assert.deepEqual([retries.decide(timeout).retry, retries.attempt], [true, 1]);
});

test("at once is at once also behind other ends, and not twice in a row", () => {
  const retries = new Retries(DEFAULT_POLICIES, () => 0.999);
  for (let i = 0; i < 5; ++i) retries.decide({name: "refused"});
  const moved = {name: "moved", code: 4011};
  assert.deepEqual([0, 1, 2, 3].map(() => retries.decide(moved).delayMs), [0, 999, 1998, 3996]);
  assert.equal(retries.decide({...moved, retryAfterMs: 50_000}).delayMs, 50_000);
});

test("503 and 429 are tried three times, not before Retry-After", () => {
  for (const status of [429, 503]) {
    const retries = new Retries(DEFAULT_POLICIES, seeded(status));
    const cause = {name: `http_${status}`, status, retryAfterMs: 9000};
    for (let i = 0; i < 3; ++i) {
      const {retry, delayMs} = retries.decide(cause);
      assert(retry && delayMs >= 9000 && delayMs <= 120_000, `${delayMs}`);
    }
    assert.equal(retries.decide(cause).retry, false);
  }
});

test("a token is renewed only where a function gives one", () => {
  for (const cause of [{name: "unauthorized", code: 4001}, {name: "token_expired", code: 4006},
    {name: "http_401", status: 401}]) {
    const retries = new Retries(DEFAULT_POLICIES, seeded(3));
    const step = retries.decide(cause, {canRenewToken: true});
    assert.deepEqual([step.retry, step.renewToken, step.delayMs], [true, true, 0]);
    retries.decide(cause, {canRenewToken: true});
    assert.equal(retries.decide(cause, {canRenewToken: true}).retry, false);
  }
});

test("rows of the caller's replace the table's, and are checked", () => {
  const kicked = {tries: 2, delay: {shape: "linear", baseMs: 5, capMs: 5}};
  assert.equal(policies({kicked}).kicked, kicked);
  assert.equal(policies().kicked, DEFAULT_POLICIES.kicked);
  assert.throws(() => policies({a: {tries: -1, delay: {shape: "immediate"}}}), /tries/);
  assert.throws(() => policies({a: {tries: 1, delay: {shape: "cubic"}}}), /'cubic' is not/);
  assert.throws(() => policies({a: {tries: 1, delay: {shape: "linear", baseMs: 5, capMs: 1}}}),
      /capMs/);
});

test("README.md has the table as it is", () => {
  const readme = read("tools/client/js/README.md");
  for (const [name, {tries, delay, token}] of Object.entries(DEFAULT_POLICIES)) {
    const line = readme.split("\n").find((text) => text.startsWith("|") &&
        text.split("|")[1].includes(`\`${name}\``));
    assert(line, `no row for ${name}`);
    const times = tries === Infinity ? "always" : tries === 0 ? "never" : String(tries);
    const wait = tries === 0 ? "" : delay.shape + (delay.baseMs === undefined ? "" :
        `, ${delay.baseMs / 1000} s to ${delay.capMs / 1000} s, ${delay.jitter}`);
    const cells = line.split("|").slice(2, 4).map((cell) => cell.trim());
    assert.deepEqual(cells, [times + (token ? ", with a new token" : ""), wait], name);
  }
});
