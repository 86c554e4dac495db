// Many clients of tools/client/js in one process, for tests/system/js_crowd_test.py:
//
//     node js_crowd.mjs URL COUNT OPTIONS      OPTIONS: JSON, of each client
//
// A line of its input is an order; each is answered by a line of JSON:
//
//     status    what all of them are and had
//     send      each sends a message and asks for its confirmation
//     mark      gaps are counted anew
//     end       all are closed, and the process ends
import {createInterface} from "node:readline";
import WebSocket from "ws";

import {PulseClient} from "../../tools/client/js/index.js";

const [url, count, options] = process.argv.slice(2);
const sums = {welcomes: 0, missed: 0, retries: 0, lost: {}, ended: {}, answers: {}, pending: 0,
  moves: 0, gaps: 0};
const add = (object, name) => { object[name] = (object[name] ?? 0) + 1; };

// The sockets of one client. Where the last that is open ends, there is a gap: from the call that
// closes it on, or from its end where the server closes it.
function counted() {
  let open = 0;
  return class extends WebSocket {
    constructor(...given) {
      super(...given);
      this.on("open", () => {
        ++open;
        this.counts = true;
      });
      this.on("close", () => this.leave());
    }
    leave() {
      if (!this.counts) return;
      this.counts = false;
      if (--open === 0) ++sums.gaps;
    }
    close(...given) {
      this.leave();
      super.close(...given);
    }
    terminate() {
      this.leave();
      super.terminate();
    }
  };
}

const clients = Array.from({length: Number(count)}, (_, at) => {
  const client = new PulseClient({url, WebSocket: counted(), user: `u${at}`, device: "node",
    ...JSON.parse(options ?? "{}")});
  client.addEventListener("welcome", () => ++sums.welcomes);
  client.addEventListener("missed", () => ++sums.missed);
  client.addEventListener("retry", () => ++sums.retries);
  client.addEventListener("lost", ({detail}) => add(sums.lost, detail.cause.name));
  client.addEventListener("end", ({detail}) => add(sums.ended, detail.cause.name));
  client.addEventListener("goodbye", ({detail}) => { if (detail.moveTo) ++sums.moves; });
  client.connect();
  return client;
});

const orders = {
  status() {
    const states = {}, urls = {};
    for (const client of clients) {
      add(states, client.state);
      if (client.state === "open") add(urls, client.link.url);
    }
    return {states, urls, ...sums};
  },
  send() {
    clients.forEach((client, at) => {
      ++sums.pending;
      client.send({from: at}, {confirm: true}).then(({status, reason}) => {
        --sums.pending;
        add(sums.answers, status === "dropped" ? reason : status);
      });
    });
    return {};
  },
  mark() {
    sums.gaps = 0;
    return {};
  },
  end() {
    for (const client of clients) client.close();
    setTimeout(() => process.exit(0), 100);
    return {};
  },
};
for await (const line of createInterface({input: process.stdin})) {
  console.log(JSON.stringify(orders[line]()));
}
