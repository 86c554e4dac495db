// What travels: hellos, texts of the server, close words, hints, addresses.
import assert from "node:assert/strict";
import test from "node:test";

import * as wire from "../../../tools/client/js/src/wire.js";

test("a text of the server is an object with a type of its own", () => {
  assert.deepEqual(wire.parse('{"type":"pong","seq":7}'), {type: "pong", seq: 7});
  assert.equal(wire.parse(' {"type":"welcome"}').type, "welcome");
  for (const text of ["", "PONG", "[1]", "{", '{"type":"hello"}', '{"type":7}', '{"a":1}',
    "null"]) {
    assert.equal(wire.parse(text), undefined, text);
  }
  // Number() and String() of that throw.
  const odd = '{"valueOf":1,"toString":1}';
  assert.deepEqual(wire.parse(`{"type":"pong","seq":${odd}}`), {type: "pong"});
  assert.deepEqual(wire.parse(`{"type":"data","seq":${odd}}`).seq, JSON.parse(odd), "not of ours");
});

test("what the server would take for the protocol's is not sent as text", () => {
  for (const text of ["PING", "ping", '{"type":"goodbye"}', '\n{"type":"heartbeat"}']) {
    assert.throws(() => wire.encode(text), /protocol itself/, text);
  }
  for (const text of ["", "Ping", "PING ", '{"type":"chat"}', '{"a":1}', '"ping"']) {
    assert.equal(wire.encode(text).frame, text);
  }
  // It reads them until they are malformed: it would answer with an error, and count none of them.
  for (const text of ['{"type":"data"}}', '{"type":"data"} x', '{"type":"ping","type":"chat"}',
    '{"ty\\u0070e":"hello",}', '{"a":[1,{"b":"}"}],"\\\\":7,"type" :\t"ack"',
    '{"a":tru,"type":"data"}']) {
    assert.throws(() => wire.encode(text), /protocol itself/, text);
  }
  for (const text of ["{", '{"type', '{"type":"', '{"type":"dat', '{"type":"chat","type":"data"}',
    '{"type":7,"ping":1}', '{"a":{"type":"ping"}}', '{"a":"\\"type\\":\\"data\\""}',
    '{"a":[}],"type":"data"',
    '{} {"type":"data"}', `{"a":"${"\\n".repeat(1e6)}`]) {
    assert.equal(wire.encode(text).frame, text);
  }
});

test("bytes are counted as they travel, and copied", () => {
  assert.equal(wire.encode("h\u00e9\u{1f600}").bytes, 7);
  const bytes = new Uint8Array([0, 1, 2, 3]);
  const {frame, bytes: count} = wire.encode(bytes.subarray(1, 3));
  bytes[1] = 9;
  assert.deepEqual([frame, count], [new Uint8Array([1, 2]), 2]);
  assert.deepEqual(wire.encode(bytes.buffer).frame, bytes);
  assert.equal(wire.encode({a: 1, type: "mine"}).frame, '{"a":1,"type":"data"}');
  assert.equal(wire.encode({a: 1, toJSON: () => ({type: "hello"})}).frame, '{"a":1,"type":"data"}');
  for (const wrong of [undefined, null, 7, [1], true]) {
    assert.throws(() => wire.encode(wrong), TypeError);
  }
});

test("an object may be of any depth and size: the server takes it for the application's", () => {
  const deep = JSON.parse('{"a":'.repeat(65) + "1" + "}".repeat(65));
  for (const object of [deep, {fill: "x".repeat(1 << 20)}]) {
    assert.deepEqual(JSON.parse(wire.encode(object).frame), {...object, type: "data"});
  }
});

test("a hello has what is known, and what is too long is refused here", () => {
  assert.equal(wire.hello({}, undefined), '{"type":"hello"}');
  assert.equal(wire.hello({user: "u", device: "d", labels: {a: "b"}, profile: "mobile"}, "t"),
      '{"type":"hello","user":"u","device":"d","labels":{"a":"b"},"profile":"mobile","token":"t"}');
  wire.checkIdentity({user: "u".repeat(128), device: "", labels: {["n".repeat(64)]: ""}});
  // 512 bytes of all labels as the server keeps them: name=value, a space between two, and of a
  // space, '=', '%' or control character three bytes.
  const four = (last) => ({a: "v".repeat(64), b: "v".repeat(64), c: "v".repeat(64),
    ["n".repeat(64)]: "v".repeat(64), ["m".repeat(64)]: "v".repeat(64), z: last});
  wire.checkIdentity({labels: {...four("v".repeat(46)), y: ""}});
  wire.checkIdentity({labels: {...four(" =%\x7f".repeat(3) + "v".repeat(10)), y: ""}});
  for (const wrong of [{labels: {...four("v".repeat(47)), y: ""}},
    {labels: {...four(" =%\x7f".repeat(3) + "v".repeat(11)), y: ""}},
    {user: 7}, {device: ["d"]}, {profile: {}}, {labels: "ring"}, {labels: ["a"]},
    {user: ""}, {user: "\u00e9".repeat(65)}, {device: "d".repeat(65)},
    {labels: {a: 7}}, {labels: {a: "v".repeat(65)}},
    {labels: Object.fromEntries(Array.from({length: 17}, (_, at) => [`n${at}`, ""]))}]) {
    assert.throws(() => wire.checkIdentity(wrong), JSON.stringify(wrong));
  }
});

test("close words are the server's, or another program's", () => {
  const of = (words) => Object.values(wire.parseCloseWords(words));
  const none = undefined;
  assert.deepEqual(of("idle_timeout"), ["idle_timeout", none, none, none]);
  assert.deepEqual(of("going_away; retry_after_ms=1500"), ["going_away", 1500, none, none]);
  assert.deepEqual(of("going_away; retry_after_ms=0"), ["going_away", none, none, none]);
  assert.deepEqual(of("moved: wss://b.example:9000; retry_after_ms=7"),
      ["moved", 7, "wss://b.example:9000", none]);
  assert.deepEqual(of("moved: wss://b.example:9000; at noon; retry_after_ms=7"),
      ["moved", 7, "wss://b.example:9000", none]);
  assert.deepEqual(of("protocol_error: a bad mask"), ["protocol_error", none, none, "a bad mask"]);
  assert.deepEqual(of(""), ["", none, none, none]);
  assert.deepEqual(of("Going away."), ["", none, none, "Going away."]);
});

test("Retry-After is seconds or a date that is to come", () => {
  assert.equal(wire.parseRetryAfter("7", 0), 7000);
  assert.equal(wire.parseRetryAfter(" 120 ", 0), 120_000);
  const at = 1445412480_000;
  for (const date of ["Wed, 21 Oct 2015 07:28:00 GMT", "Wednesday, 21-Oct-15 07:28:00 GMT",
    "Wed Oct 21 07:28:00 2015"]) {
    assert.equal(wire.parseRetryAfter(date, at - 10_000), 10_000, date);
    assert.equal(wire.parseRetryAfter(date, at + 10_000), undefined, date);
  }
  assert.equal(wire.parseRetryAfter("Wed Oct  1 07:28:00 2015", at - 20 * 86400_000), undefined);
  assert.equal(wire.parseRetryAfter("Thu Oct  1 07:28:00 2015", at - 20 * 86400_000 - 1), 1);
  assert.equal(wire.parseRetryAfter("Monday, 06-Nov-94 08:49:37 GMT", at), undefined, "1994");
  assert.equal(wire.parseRetryAfter("Thu, 31 Dec 2015 23:59:60 GMT", at), 6193920_000);
  for (const wrong of [undefined, null, "", "0", "soon", "-1x", "1.5", "in 2030", "2030 s",
    "Wed, 31 Feb 2030 07:28:00 GMT", "Wed, 21 Okt 2030 07:28:00 GMT",
    "Wed, 21 Oct 2030 24:00:00 GMT", "Wed, 21 Oct 2030 07:28:00 CET", "2030-10-21T07:28:00Z"]) {
    assert.equal(wire.parseRetryAfter(wrong, 0), undefined, `${wrong}`);
  }
});

test("a client is moved to addresses of WebSockets, and never out of TLS", () => {
  assert.equal(wire.moveTarget("wss://b.example:9000", "ws://a"), "wss://b.example:9000/");
  assert.equal(wire.moveTarget("ws://b.example/x", "ws://a"), "ws://b.example/x");
  assert.equal(wire.moveTarget("auto://b.example:9", "ws://a"), "ws://b.example:9/");
  assert.equal(wire.moveTarget("auto://b.example:9", "wss://a"), "wss://b.example:9/");
  for (const target of ["tls+auto://b.example:9", "TLS+ws://b.example:9"]) {
    for (const from of ["ws://a", "wss://a"]) {
      assert.equal(wire.moveTarget(target, from), "wss://b.example:9/", target);
    }
  }
  for (const wrong of ["ws://b.example", "tcp://b.example:9", "b.example", "", "javascript:0",
    "wss://", "wss://[x"]) {
    assert.equal(wire.moveTarget(wrong, "wss://a"), undefined, wrong);
  }
});
