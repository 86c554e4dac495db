// Node's `ws` as a client: `node node_ws.mjs URL DEFLATING_URL BEATING_URL`. stage.py says how
// it is heard.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import WebSocket from 'ws';

const [url, deflatingUrl, beatingUrl] = process.argv.slice(2);
const kTimeoutMs = 4000; // --heartbeat-timeout of the server that beats
const kMessageBytesMax = 1 << 20; // --max-message-bytes of all

// A connection whose messages wait in a queue; next() takes one, ended() its close.
class Peer {
  constructor(address = url, protocols = [], options = {}) {
    this.began = performance.now();
    this.socket = new WebSocket(address, protocols,
                                { perMessageDeflate: false, maxPayload: 1 << 24, ...options });
    this.messages = [];
    this.pings = 0;
    this.socket.on('message', (data, isBinary) => this.push(isBinary ? data : data.toString()));
    this.socket.on('ping', () => ++this.pings);
    this.end = new Promise((resolve) => this.socket.on(
        'close', (code, reason) => resolve([code, reason.toString()])));
    this.opened = once(this.socket, 'open');
    this.opened.catch(() => {});
    this.socket.on('error', () => {});
  }
  static async open(...rest) {
    const peer = new Peer(...rest);
    await peer.opened;
    return peer;
  }
  push(message) {
    if (this.waiting) this.waiting(message);
    else this.messages.push(message);
    this.waiting = undefined;
  }
  next() {
    if (this.messages.length > 0) return this.messages.shift();
    return new Promise((resolve) => { this.waiting = resolve; });
  }
  async echoes(message) {
    this.socket.send(message);
    assert.deepEqual(await this.next(), message);
  }
  async closes(code, reason) {
    this.socket.close(code, reason);
    return (await this.end)[0];
  }
}

// The status of an upgrade that is refused.
async function refusal(options) {
  const peer = new Peer(url, [], options);
  const [, response] = await once(peer.socket, 'unexpected-response');
  return response.statusCode;
}

const checks = {
  async echoes_text() {
    const peer = await Peer.open();
    for (const text of ['', 'a', 'h\u00e9llo \u4e16\u754c \u{1f600}', 'x'.repeat(125),
                        'y'.repeat(126), '\u00e9'.repeat(40000)]) {
      await peer.echoes(text);
    }
    assert.equal(await peer.closes(1000), 1000);
  },
  async echoes_binary() {
    const peer = await Peer.open();
    for (const bytes of [0, 1, 125, 126, 127, 65535, 65536]) {
      await peer.echoes(Buffer.alloc(bytes, 'bytes \0\xff', 'latin1'));
    }
    assert.equal(await peer.closes(1000), 1000);
  },
  async echoes_many_in_order() {
    const peer = await Peer.open();
    for (let i = 0; i < 2000; ++i) peer.socket.send(`message ${i} ${'.'.repeat(i % 300)}`);
    for (let i = 0; i < 2000; ++i) {
      assert.equal(await peer.next(), `message ${i} ${'.'.repeat(i % 300)}`);
    }
    await peer.closes();
  },
  async echoes_a_megabyte() {
    const peer = await Peer.open();
    await peer.echoes('m'.repeat(kMessageBytesMax));
    await peer.echoes(Buffer.alloc(kMessageBytesMax, 'binary \0\xfe', 'latin1'));
    await peer.closes();
  },
  async refuses_more_with_1009() {
    const peer = await Peer.open();
    peer.socket.send('m'.repeat(kMessageBytesMax + 1));
    assert.equal((await peer.end)[0], 1009);
  },
  async joins_fragments() {
    const peer = await Peer.open();
    peer.socket.send('one, ', { fin: false });
    peer.socket.ping('between');
    peer.socket.send('', { fin: false });
    await once(peer.socket, 'pong');
    peer.socket.send('two \u4e16', { fin: true });
    assert.equal(await peer.next(), 'one, two \u4e16');
    peer.socket.send(Buffer.from([0, 255]), { fin: false });
    peer.socket.send(Buffer.alloc(70000, 7), { fin: true });
    assert.deepEqual(await peer.next(), Buffer.concat([Buffer.from([0, 255]),
                                                       Buffer.alloc(70000, 7)]));
    await peer.closes();
  },
  async answers_pings() {
    const peer = await Peer.open();
    for (const payload of ['', 'payload', 'p'.repeat(125)]) {
      peer.socket.ping(payload);
      assert.equal((await once(peer.socket, 'pong'))[0].toString(), payload);
    }
    await peer.closes();
  },
  async answers_close_codes() {
    for (const code of [1000, 1001, 1003, 1011, 3000, 4000, 4999]) {
      const peer = await Peer.open();
      assert.equal(await peer.closes(code, 'said by the client'), code);
    }
    const silent = await Peer.open();
    assert.equal(await silent.closes(), 1005); // a close frame without a code
  },
  async refuses_bad_utf8_with_1007() {
    const peer = await Peer.open();
    peer.socket.send(Buffer.from([0x61, 0xc3, 0x28]), { binary: false });
    assert.equal((await peer.end)[0], 1007);
  },
  async refuses_an_unmasked_frame_with_1002() {
    const peer = await Peer.open();
    peer.socket._socket.write(Buffer.from([0x81, 0x01, 0x61]));
    assert.equal((await peer.end)[0], 1002);
  },
  async speaks_pulse_v1_json() {
    const peer = await Peer.open(url, ['other.v2', 'pulse.v1.json']);
    assert.equal(peer.socket.protocol, 'pulse.v1.json');
    peer.socket.send('{"type":"hello","user":"u1","device":"node"}');
    const welcome = JSON.parse(await peer.next());
    assert.equal(welcome.type, 'welcome');
    assert.match(welcome.conn, /^r\d+-\d{6}-\d+$/);
    assert.equal(welcome.interval_ms, 30000);
    assert.equal(welcome.timeout_ms, 90000);
    peer.socket.send('{"type":"ping","seq":7,"ts":1700000000123}');
    assert.deepEqual(JSON.parse(await peer.next()), { type: 'pong', seq: 7, ts: 1700000000123 });
    peer.socket.send('PING');
    assert.equal(await peer.next(), 'PONG');
    await peer.echoes('{"type":"data","body":[1,2,3]}');
    peer.socket.send('{"type":"hello","profile":"unknown"}');
    assert.equal(JSON.parse(await peer.next()).type, 'error');
    await peer.closes();
  },
  async speaks_pulse_v1_binary() {
    const peer = await Peer.open(url, ['pulse.v1.binary', 'pulse.v1.json']);
    assert.equal(peer.socket.protocol, 'pulse.v1.binary');
    peer.socket.send(Buffer.from([0xb7, 1, 0, 2, 0, 0, 0, 9, 0x68, 0x69]));
    assert.deepEqual(await peer.next(), Buffer.from([0xb7, 2, 0, 2, 0, 0, 0, 9, 0x68, 0x69]));
    await peer.closes();
  },
  async deflates() {
    const peer = await Peer.open(deflatingUrl, [], { perMessageDeflate: { threshold: 0 } });
    assert.match(peer.socket.extensions, /^permessage-deflate/);
    for (const text of ['', 'a', 'again and again '.repeat(5000), 'm'.repeat(kMessageBytesMax)]) {
      await peer.echoes(text);
    }
    await peer.echoes(Buffer.from(Array.from({ length: 50000 }, () => Math.random() * 256)));
    const before = peer.socket._socket.bytesRead;
    await peer.echoes('z'.repeat(100000));
    assert(peer.socket._socket.bytesRead - before < 5000, 'the echo came compressed');
    peer.socket.send('m'.repeat(kMessageBytesMax + 1)); // about a kilobyte on the wire
    assert.equal((await peer.end)[0], 1009);
  },
  async deflates_as_each_side_asks() {
    for (const asked of [{ serverNoContextTakeover: true }, { clientNoContextTakeover: true },
                         { serverMaxWindowBits: 10 }, { clientMaxWindowBits: 9 }]) {
      const peer = await Peer.open(deflatingUrl, [],
                                   { perMessageDeflate: { threshold: 0, ...asked } });
      for (let i = 0; i < 3; ++i) await peer.echoes(`in turn ${i} `.repeat(3000));
      await peer.closes();
    }
  },
  async does_not_deflate_unasked() {
    const peer = await Peer.open(url, [], { perMessageDeflate: true });
    assert.equal(peer.socket.extensions, '');
    await peer.echoes('x'.repeat(5000));
    await peer.closes();
  },
  async refuses_other_origins() {
    assert.equal(await refusal({ origin: 'http://evil.example' }), 403);
    const peer = await Peer.open(url, [], { origin: 'http://allowed.example' });
    await peer.echoes('from a page that may');
    await peer.closes();
  },
  // The two below began before all others, and took as long as the server's timeout.
  async lives_by_answering_probes() {
    await sleep(Math.max(0, idle.began + kTimeoutMs + 500 - performance.now()));
    assert(idle.pings >= 3, `probed ${idle.pings} times`);
    await idle.echoes('still here');
    await idle.closes();
  },
  async is_evicted_when_it_answers_no_probe() {
    assert.deepEqual(await deaf.end, [4003, 'idle_timeout']);
    assert(deaf.pings >= 2, `probed ${deaf.pings} times`);
    assert(performance.now() - deaf.began >= kTimeoutMs);
  },
  async hears_the_server_go() {
    const peer = await Peer.open();
    const speaker = await Peer.open(url, ['pulse.v1.json']);
    console.log('DRAIN');
    const [code, reason] = await peer.end;
    assert.equal(code, 1001);
    assert.match(reason, /^going_away/);
    assert.equal((await speaker.end)[0], 1001);
    const goodbye = JSON.parse(await speaker.next());
    assert.equal(goodbye.type, 'goodbye');
    assert.equal(goodbye.code, 1001);
    assert(goodbye.retry_after_ms > 0);
  },
};

const idle = await Peer.open(beatingUrl);
const deaf = await Peer.open(beatingUrl, [], { autoPong: false });
for (const [name, check] of Object.entries(checks)) {
  const hang = sleep(30000, 'hang', { ref: false });
  try {
    if (await Promise.race([check(), hang]) === 'hang') throw new Error('no end within 30 s');
    console.log(`ok ${name}`);
  } catch (error) {
    console.log(`FAILED ${name}: ${String(error.message ?? error).replaceAll('\n', ' | ')}`);
  }
}
console.log('DONE');
process.exit(0);
