// The queue: order, its three bounds, and one answer for each message.
import assert from "node:assert/strict";
import test from "node:test";

import {Outbox} from "../../../tools/client/js/src/outbox.js";
import {seeded} from "./world.mjs";

function filled(bounds) {
  const outbox = new Outbox({messagesMax: 3, bytesMax: 100, ageMaxMs: 1000, overflow: "newest",
    ...bounds});
  const answers = [];
  const push = (id, bytes = 10, queuedAt = 0) => outbox.push({frame: String(id), bytes,
    confirm: false, queuedAt,
    answer: ({status, reason}) => answers.push(`${id} ${status} ${reason}`)});
  return {outbox, push, answers};
}

test("the newest is refused where there is no room", () => {
  const {outbox, push, answers} = filled({});
  [1, 2, 3, 4].forEach((id) => push(id));
  assert.deepEqual(answers, ["4 dropped count"]);
  assert.deepEqual([outbox.size, outbox.bytes], [3, 30]);
  outbox.shift();
  push(5, 81);
  push(6, 80);
  assert.deepEqual(answers.slice(1), ["5 dropped bytes"]);
  assert.deepEqual([outbox.shift().frame, outbox.shift().frame, outbox.shift().frame],
      ["2", "3", "6"]);
  assert.deepEqual([outbox.size, outbox.bytes, outbox.shift()], [0, 0, undefined]);
});

test("or the oldest give way, as many as it takes", () => {
  const {outbox, push, answers} = filled({overflow: "oldest"});
  [1, 2, 3, 4].forEach((id) => push(id));
  push(5, 90);
  assert.deepEqual(answers, ["1 dropped count", "2 dropped count", "3 dropped bytes"]);
  push(6, 101);  // none would make room for it
  assert.deepEqual(answers.slice(3), ["6 dropped bytes"]);
  assert.deepEqual([outbox.size, outbox.bytes], [2, 100]);
});

test("what is too old goes, and is known beforehand", () => {
  const {outbox, push, answers} = filled({});
  push(1, 10, 500);
  push(2, 10, 600);
  assert.equal(outbox.expiresAt(), 1500);
  outbox.expire(1499);
  assert.deepEqual(answers, []);
  outbox.expire(1500);
  assert.deepEqual(answers, ["1 dropped age"]);
  outbox.clear("closed");
  assert.deepEqual(answers.slice(1), ["2 dropped closed"]);
  assert.equal(outbox.expiresAt(), Infinity);
});

test("one that is put back is the oldest again", () => {
  const {outbox, push} = filled({});
  push(1);
  push(2);
  const first = outbox.shift();
  outbox.unshift(first);
  assert.deepEqual([outbox.size, outbox.bytes, outbox.shift().frame], [2, 20, "1"]);
});

test("it holds none that has left", () => {
  const {outbox, push} = filled({messagesMax: 300, bytesMax: 1e6});
  for (let id = 0; id < 255; ++id) push(id);
  for (let id = 0; id < 250; ++id) {
    const item = outbox.shift();
    assert(!outbox.items.includes(item), `${id}`);
  }
});

test("it does as a plain array does, over 100,000 steps", () => {
  const random = seeded(11);
  for (const overflow of ["newest", "oldest"]) {
    const bounds = {messagesMax: 600, bytesMax: 30_000, ageMaxMs: 5000, overflow};
    const outbox = new Outbox(bounds);
    let model = [], now = 0;
    const mine = [], its = [];
    for (let id = 0; id < 50_000; ++id) {
      now += random() * 20;
      const bytes = Math.floor(random() * 120);
      const drop = (one, reason) => its.push(`${one.id} ${reason}`);
      const size = () => model.reduce((sum, one) => sum + one.bytes, 0);
      while (model.length > 0 && now >= model[0].at + bounds.ageMaxMs) drop(model.shift(), "age");
      outbox.expire(now);
      if (random() < 0.48) {
        const got = outbox.shift(), wanted = model.shift();
        assert.equal(got?.frame, wanted && String(wanted.id));
        if (got && random() < 0.1) {
          outbox.unshift(got);
          model.unshift(wanted);
        }
        continue;
      }
      const one = {id, bytes, at: now};
      const why = () => model.length >= bounds.messagesMax ? "count"
          : size() + bytes > bounds.bytesMax ? "bytes" : "";
      for (let reason = why(); reason && overflow === "oldest"; reason = why()) {
        drop(model.shift(), reason);
      }
      if (why()) drop(one, why());
      else model.push(one);
      outbox.push({frame: String(id), bytes, confirm: false, queuedAt: now,
        answer: ({reason}) => mine.push(`${id} ${reason}`)});
      assert.equal(outbox.size, model.length);
      assert(outbox.size <= bounds.messagesMax && outbox.bytes <= bounds.bytesMax);
    }
    assert.deepEqual(mine, its);
    assert.equal(outbox.bytes, model.reduce((sum, one) => sum + one.bytes, 0));
  }
});
