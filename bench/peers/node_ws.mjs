// Node's ws (npm) as a heartbeat server, with the package that tests/clients/ installs.
//
//   node node_ws.mjs PORT TIMEOUT_S      0: no peer is evicted
import {createRequire} from 'node:module';

const {WebSocketServer} = createRequire(new URL('../../tests/clients/', import.meta.url))('ws');
const [port, timeoutSeconds] = process.argv.slice(2).map(Number);

const server = new WebSocketServer({
  host: '127.0.0.1',
  port,
  backlog: 4096,             // Node asks for 511 by default
  perMessageDeflate: false,  // costs memory and CPU; this is the default, too
});
server.on('listening', () => console.log('listening'));

server.on('connection', (peer) => {
  peer.isAlive = true;
  peer.on('pong', () => { peer.isAlive = true; });
  peer.on('message', (data, isBinary) => peer.send(data, {binary: isBinary}));
  peer.on('error', () => {});
});

// The way that its README shows to detect broken connections: at each interval what did not
// answer the ping of the one before is terminated. A peer that falls silent ends after one to two
// intervals, and so never before TIMEOUT_S.
if (timeoutSeconds > 0) {
  setInterval(() => {
    for (const peer of server.clients) {
      if (!peer.isAlive) {
        peer.terminate();
        continue;
      }
      peer.isAlive = false;
      peer.ping();
    }
  }, timeoutSeconds * 1000);
}
