// The live page: reads /api/v1/stream, an event with all figures each second, and draws it.
//
//     watch()    connects, again and again; the token of a server that wants one lives in here only
//     take()     a new event; show() draws the last one, unless the page is paused or hidden
//
// Rates are differences of counters between two events of one start of the server. A browser's
// EventSource cannot send a token, so that the stream is read by fetch.
"use strict";

const HISTORY = 121;            // events that are kept: two minutes and the one before
const RATE_EVENTS = 3;          // over which a rate is taken
const STALE_MS = 3500;          // without an event, figures are said to be old
const SILENT_MS = 10000;        // without a byte, the connection is given up
const RETRY_MS = [500, 5000];   // before it is tried again: at first, and at most
const CLOSED_SHOWN = 20;
const CLOSED_EVERY_MS = 2000;
const EVICTIONS = new Set(["idle_timeout", "slow_upload"]);
const TIMES = {
  eviction_delay: "Eviction, behind its deadline",
  probe_round_trip: "Round trip of a probe",
  batch_connections: "Connections read, in a turn",
  turn_time: "Turn",
  turn_cpu: "Turn, CPU time",
  wheel_slice: "Judging, in a turn",
  wheel_slice_cpu: "Judging, CPU time",
};

const byId = (id) => document.getElementById(id);
const events = [];
let token = "";
let lastEventAt = 0;
let paused = false;

// ------------------------------------------------------------------------------------------ text

const whole = new Intl.NumberFormat("en", {maximumFractionDigits: 0});
const tenths = new Intl.NumberFormat("en", {maximumFractionDigits: 1});
const number = (value) => (value < 10 ? tenths : whole).format(value);

function duration(us) {
  if (us < 1000) return `${number(us)} µs`;
  if (us < 1e6) return `${tenths.format(us / 1e3)} ms`;
  return seconds(us / 1e6);
}

function seconds(s) {
  if (s < 120) return `${number(s)} s`;
  if (s < 7200) return `${whole.format(Math.floor(s / 60))} min`;
  if (s < 172800) return `${tenths.format(s / 3600)} h`;
  return `${tenths.format(s / 86400)} days`;
}

function bytes(count) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  for (; count >= 1024 && unit + 1 < units.length; ++unit) count /= 1024;
  return `${number(count)} ${units[unit]}`;
}

// ---------------------------------------------------------------------------------------- tables

const setText = (node, text) => {
  if (node.textContent !== text) node.textContent = text;
};

// A cell is a text, or {text, bar: 0..1, kind: the class of its cell}. The first heads its row.
function setCell(cell, value) {
  const {text, bar, kind} = typeof value === "object" ? value : {text: value};
  cell.className = kind || "";
  if (bar === undefined) return setText(cell, text);
  if (!cell.querySelector(".bar")) {
    const track = document.createElement("span");
    track.className = "bar";
    track.setAttribute("aria-hidden", "true");
    track.append(document.createElement("i"));
    cell.replaceChildren(track, document.createElement("span"));
  }
  cell.querySelector("i").style.width = `${Math.round(100 * Math.min(1, Math.max(0, bar)))}%`;
  setText(cell.lastChild, text);
}

// Rows are kept and changed, so that a reader or a selection stays where it is.
function fill(id, rows, none) {
  const body = byId(id).tBodies[0];
  const columns = byId(id).tHead.rows[0].cells.length;
  if (rows.length === 0) rows = [[none, ...Array(columns - 1).fill("")]];
  while (body.rows.length > rows.length) body.lastChild.remove();
  rows.forEach((cells, at) => {
    let row = body.rows[at];
    if (!row) {
      row = body.insertRow();
      const head = document.createElement("th");
      head.scope = "row";
      row.append(head);
      for (let column = 1; column < columns; ++column) row.insertCell();
    }
    cells.forEach((value, column) => {
      setCell(row.cells[column], value);
      if (value.kind === "number") byId(id).tHead.rows[0].cells[column].className = "number";
    });
  });
}

const right = (text) => ({text, kind: "number"});

// ----------------------------------------------------------------------------------------- rates

const last = () => events[events.length - 1];

// What `read` of an event grew by in a second, over the last few events; undefined before two.
function rate(read, behind = 0) {
  const to = events.length - 1 - behind;
  const from = Math.max(0, to - RATE_EVENTS);
  if (to <= from) return undefined;
  const time = events[to].uptime_s - events[from].uptime_s;
  return time > 0 ? Math.max(0, (read(events[to]) - read(events[from])) / time) : undefined;
}

const rateText = (value) => (value === undefined ? "…" : number(value));
const counterRate = (name) => rateText(rate((event) => event.total[name] || 0));

// ---------------------------------------------------------------------------------------- pieces

// Of those that go on: the newest, and the network that has most of it.
function anomalyText(anomalies) {
  if (anomalies.length === 0) return "none goes on (--on-anomaly)";
  const {series, prefix} = anomalies[0];
  return series.replaceAll("_", " ") + (prefix ? `, most from ${prefix.of}` : "");
}

function showTiles(event) {
  const total = event.total;
  const cpu = rate((each) => each.cpu_s);
  const tiles = [
    ["Connections", number(event.connections), `of at most ${number(event.max_connections)}`],
    ["Heartbeats a second", counterRate("heartbeats_received"), "pings of peers"],
    ["Probes a second", counterRate("probes_sent"),
      `${counterRate("probe_answers")} answered`],
    ["Evictions a second", counterRate("evicted"), `${number(total.evicted)} since the start`],
    ["Accepted a second", counterRate("accepted"), `${counterRate("closed")} closed`],
    ["Refused a second", counterRate("refused"), `${number(total.refused)} since the start`],
    ["Judge lag", duration(total.judge_lag_us), `at most ${duration(total.judge_lag_max_us)}`],
    ["CPU", cpu === undefined ? "…" : `${number(100 * cpu)} %`, "of one core"],
    ["Resident memory", bytes(event.rss_bytes), ""],
    ["Anomalies", number(event.anomalies.length), anomalyText(event.anomalies)],
  ];
  const list = byId("tiles");
  tiles.forEach(([name, value, note], at) => {
    if (!list.children[at]) {
      const tile = document.createElement("div");
      tile.append(document.createElement("dt"), document.createElement("dd"));
      tile.lastChild.append(document.createElement("span"), document.createElement("small"));
      list.append(tile);
    }
    const [term, data] = list.children[at].children;
    setText(term, name);
    setText(data.firstChild, value);
    setText(data.lastChild, note);
  });
}

const SVG = "http://www.w3.org/2000/svg";

function svg(name, attributes, parent) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  parent.append(node);
  return node;
}

// The part of a ring between two shares of a turn, clockwise from the top.
function sectorPath(inner, outer, from, to) {
  const point = (radius, share) => {
    const angle = 2 * Math.PI * share;
    return `${(200 + radius * Math.sin(angle)).toFixed(2)} ` +
        `${(200 - radius * Math.cos(angle)).toFixed(2)}`;
  };
  return `M${point(inner, from)}L${point(outer, from)}` +
      `A${outer} ${outer} 0 0 1 ${point(outer, to)}` +
      `L${point(inner, to)}A${inner} ${inner} 0 0 0 ${point(inner, from)}Z`;
}

const RINGS = {lower: {inner: 140, outer: 192}, upper: {inner: 88, outer: 132}};

function makeWheel(event) {
  const wheel = byId("wheel");
  for (const [level, ring] of Object.entries(RINGS)) {
    const count = event.wheel[level].entries.length;
    ring.sectors = event.wheel[level].entries.map((_, at) => {
      const d = sectorPath(ring.inner, ring.outer, at / count, (at + 1) / count);
      svg("path", {d, class: "base"}, wheel);
      return svg("path", {d, "fill-opacity": 0}, wheel);
    });
    ring.hand = svg("g", {class: "hand jump"}, wheel);
    svg("line", {x1: 200, x2: 200, y1: 200 - ring.inner + 6, y2: 200 - ring.outer - 4}, ring.hand);
    ring.turns = event.wheel[level].hand;
  }
  svg("text", {x: 200, y: 196, class: "big"}, wheel).id = "wheel-entries";
  svg("text", {x: 200, y: 218, class: "soft"}, wheel).textContent = "entries";
}

function showWheel(event) {
  if (!RINGS.lower.sectors) makeWheel(event);
  for (const [level, ring] of Object.entries(RINGS)) {
    const {entries, hand} = event.wheel[level];
    const most = Math.max(1, ...entries);
    entries.forEach((count, at) => {
      const share = count === 0 ? 0 : 0.15 + 0.85 * Math.sqrt(count / most);
      ring.sectors[at].setAttribute("fill-opacity", share.toFixed(3));
    });
    // Never backwards: a hand that passes the top goes on. After a restart it jumps.
    const ahead = (((hand - ring.turns) % 1) + 1) % 1;
    ring.hand.classList.toggle("jump", ahead > 0.5 || events.length < 2);
    ring.turns += ahead;
    ring.hand.style.transform = `rotate(${(360 * ring.turns).toFixed(3)}deg)`;
  }
  const sum = (level) => event.wheel[level].entries.reduce((all, count) => all + count, 0);
  const {lower, upper} = event.wheel;
  setText(byId("wheel-entries"), number(sum("lower") + sum("upper")));
  setText(byId("wheel-summary"),
      `${number(sum("lower"))} entries in the outer ring, level 0, one turn of which is ` +
      `${seconds(lower.span_s)}; ${number(sum("upper"))} in the inner one, level 1, ` +
      `${seconds(upper.span_s)}. The fuller a sector is, the stronger its colour.`);
  const rows = [];
  for (const [name, level] of [["0", lower], ["1", upper]]) {
    const width = level.span_s / level.entries.length;
    level.entries
        .map((count, at) => [count, ((at / level.entries.length - level.hand + 1) % 1)])
        .filter(([count]) => count > 0)
        .sort((a, b) => a[1] - b[1])
        .forEach(([count, share]) => {
          const from = share * level.span_s;
          const when = share > 1 - 1 / level.entries.length
              ? "now" : `${seconds(from)} to ${seconds(from + width)}`;
          rows.push([name, when, right(number(count))]);
        });
  }
  fill("sectors", rows, "The wheel is empty");
}

function showBeats() {
  const beats = [];
  for (let behind = events.length - 2; behind >= 0; --behind)
    beats.push(rate((event) => event.total.heartbeats_received, behind) || 0);
  const most = Math.max(1, ...beats);
  const x = (at) => 400 - (beats.length - 1 - at) * 400 / (HISTORY - 2);
  const points = beats.map((beat, at) =>
    `${x(at).toFixed(1)},${(116 - 110 * beat / most).toFixed(1)}`);
  const chart = byId("beats");
  if (!chart.firstChild) {
    svg("polygon", {}, chart);
    svg("polyline", {}, chart);
  }
  if (beats.length > 0) {
    chart.firstChild.setAttribute("points", `${x(0)},120 ${points.join(" ")} 400,120`);
    chart.lastChild.setAttribute("points", points.join(" "));
  }
  const now = beats.length > 0 ? number(beats[beats.length - 1]) : "…";
  setText(byId("beats-summary"), `${now} now; at most ${number(Math.max(0, ...beats))} in ` +
      `the last ${seconds(beats.length)}.`);
  const rows = [];
  for (let ago = 0; ago < beats.length; ago += 10)
    rows.push([String(ago), right(number(beats[beats.length - 1 - ago]))]);
  fill("beats-table", rows, "Nothing yet");
}

function showProtocols(event) {
  const counts = Object.entries(event.by_protocol).sort((a, b) => b[1] - a[1]);
  const all = counts.reduce((sum, [, count]) => sum + count, 0);
  fill("protocols", counts.map(([name, count]) =>
    [name, right(number(count)), {text: `${number(100 * count / all)} %`, bar: count / all}]),
  "None is connected");
}

function showEnds(event) {
  const rows = [];
  for (const [member, word] of [["closed_by_reason", "closed"], ["refused_by_reason", "refused"]]) {
    for (const [reason, count] of Object.entries(event.total[member])) {
      const kind = word === "closed" && EVICTIONS.has(reason) ? "evicted" : word;
      const speed = rate((each) => each.total[member][reason] || 0);
      rows.push({count, cells: [reason, kind, right(rateText(speed)), right(number(count))]});
    }
  }
  rows.sort((a, b) => (b.cells[1] === "evicted") - (a.cells[1] === "evicted") || b.count - a.count);
  fill("ends", rows.map((row) => row.cells), "None has ended");
}

// Every distribution of the server: an object with a count and percentiles.
function showTimes(event) {
  const rows = [];
  for (const [name, one] of Object.entries(event.total)) {
    if (one === null || typeof one !== "object" || !Number.isInteger(one.count)) continue;
    const shown = (of) => (`${of}_us` in one ? duration(one[`${of}_us`]) : number(one[of]));
    const at = (of) => right(one.count > 0 ? shown(of) : "none yet");
    rows.push([TIMES[name] || name.replaceAll("_", " "), at("p50"), at("p90"), at("p99"),
      at("p99_9"), at("max"), right(number(one.count))]);
  }
  fill("times", rows, "Nothing is measured");
}

function showReactors(event) {
  fill("reactors", event.reactors.map((reactor, at) => {
    const waited = rate((each) => each.reactors[at].wait_s);
    const busy = waited === undefined ? undefined : Math.min(1, Math.max(0, 1 - waited));
    const turns = rate((each) => each.reactors[at].turns);
    const state = reactor.state === "serving"
        ? {text: busy === undefined ? "…" : `${number(100 * busy)} %`, bar: busy || 0}
        : {text: reactor.state, bar: 0};
    return [String(reactor.reactor), state, right(number(reactor.connections)),
      right(rateText(turns)), right(duration(reactor.judge_lag_us)),
      right(duration(reactor.judge_lag_max_us)), right(duration(reactor.turn_p99_us)),
      right(duration(reactor.turn_max_us))];
  }), "None");
}

// ------------------------------------------------------------------------------ those that ended

let closedKnown = "";  // of which start, and how many had ended, when they were read last
let closedDueAt = 0;

async function readClosed(event) {
  const known = `${event.pid} ${event.total.closed}`;
  if (known === closedKnown || performance.now() < closedDueAt) return;
  closedKnown = known;
  closedDueAt = performance.now() + CLOSED_EVERY_MS;
  try {
    const response = await ask(`/api/v1/closed?limit=${CLOSED_SHOWN}`, AbortSignal.timeout(8000));
    if (!response.ok) throw new Error(`status ${response.status}`);
    const {closed, kept} = await response.json();
    setText(byId("closed-summary"), kept > 0
        ? `The last ${closed.length} of ${number(kept)} that the server remembers (--ledger).`
        : "The server remembers none (--ledger).");
    fill("closed", closed.map((one) => [one.id, new Date(one.closed_at).toLocaleTimeString(),
      one.reason, {text: one.cause, kind: "text"}, one.protocol, one.address || "not known",
      right(one.lasted_ms === null ? "not known" : duration(1000 * one.lasted_ms))]), "None");
  } catch {
    closedKnown = "";  // the stream says whether the server is there
  }
}

// --------------------------------------------------------------------------------- the whole page

function show() {
  const event = last();
  if (!event || paused || document.hidden) return;
  byId("figures").hidden = false;
  setText(byId("about"), `${event.version} · ${event.backend} · ` +
      `${event.listening.join(", ")} · process ${event.pid} · up ${seconds(event.uptime_s)}` +
      (event.state === "serving" ? "" : ` · ${event.state}`));
  document.title = `${number(event.connections)} · Pulsewheel`;
  showTiles(event);
  showWheel(event);
  showBeats();
  showProtocols(event);
  showEnds(event);
  showTimes(event);
  showReactors(event);
  readClosed(event);
}

function take(event) {
  const before = last();
  const same = before && before.pid === event.pid && before.uptime_s <= event.uptime_s;
  if (!same) events.length = 0;  // counters began anew
  events.push(event);
  if (events.length > HISTORY) events.shift();
  lastEventAt = performance.now();
  setLink("live", "Live");
  show();
}

// `state`: connecting, live, or stale. The text is read out where it changes.
function setLink(state, text) {
  const link = byId("link");
  if (link.dataset.state !== state) link.dataset.state = state;
  setText(byId("link-text"), text);
  byId("figures").classList.toggle("stale", state === "stale");
  if (state !== "stale") setText(byId("link-age"), "");
}

function checkAge() {
  if (lastEventAt === 0) return;
  const age = performance.now() - lastEventAt;
  if (age < STALE_MS) return;
  if (byId("link").dataset.state === "live") setLink("stale", "Stale: the server says nothing");
  setText(byId("link-age"), `since ${seconds(age / 1000)}`);
}

// ------------------------------------------------------------------------------------ the stream

function ask(path, signal) {
  const headers = token ? {Authorization: `Bearer ${token}`} : {};
  return fetch(path, {headers, signal, cache: "no-store"});
}

// Server-Sent Events, of which this stream has the members event and data.
function handle(text) {
  const members = {};
  for (const line of text.split("\n")) {
    const colon = line.indexOf(": ");
    if (colon > 0) members[line.slice(0, colon)] = line.slice(colon + 2);
  }
  if (members.event === "status") take(JSON.parse(members.data));
  if (members.event === "dropped") throw new Error("this page read too slowly");
}

// Reads the stream until it ends; the error says why it did.
async function follow() {
  const abort = new AbortController();
  let watchdog = setTimeout(() => abort.abort(), SILENT_MS);
  try {
    const response = await ask("/api/v1/stream", abort.signal);
    if (response.status === 401) return "token";
    if (!response.ok) {
      const {offender, reason} = (await response.json()).error;
      throw new Error(`${offender} ${reason}`);
    }
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
      const {done, value} = await reader.read();
      if (done) throw new Error("the server has ended the stream");
      clearTimeout(watchdog);
      watchdog = setTimeout(() => abort.abort(), SILENT_MS);
      const parts = (text + value).split("\n\n");
      text = parts.pop();
      parts.forEach(handle);
    }
  } catch (error) {
    if (abort.signal.aborted) return "the server says nothing";
    return error instanceof TypeError ? "the server does not answer" : error.message;
  } finally {
    clearTimeout(watchdog);
    abort.abort();
  }
}

// A token is asked for, and waited for.
function askForToken() {
  const form = byId("login");
  setText(byId("login-error"), token ? "That is not a token of this server." : "");
  setLink(lastEventAt > 0 ? "stale" : "connecting", "Waiting for a token");
  token = "";
  form.hidden = false;
  byId("token").focus();
  return new Promise((resolve) => {
    form.onsubmit = (submit) => {
      submit.preventDefault();
      const given = byId("token").value.trim();
      byId("token").value = "";
      if (/[^\x21-\x7e]/.test(given)) {  // no header takes it
        return setText(byId("login-error"), "A token has no spaces, and no letters but ASCII.");
      }
      token = given;
      form.hidden = true;
      resolve();
    };
  });
}

async function watch() {
  let wait = RETRY_MS[0];
  for (;;) {
    const before = lastEventAt;
    const why = await follow();
    if (why === "token") {
      await askForToken();
      continue;
    }
    if (lastEventAt !== before) wait = RETRY_MS[0];
    setLink(lastEventAt > 0 ? "stale" : "connecting", `${lastEventAt > 0 ? "Stale: " : ""}` +
        `${why}; trying again`);
    await new Promise((resolve) => setTimeout(resolve, wait));
    wait = Math.min(2 * wait, RETRY_MS[1]);
  }
}

byId("pause").addEventListener("click", () => {
  paused = !paused;
  byId("pause").setAttribute("aria-pressed", String(paused));
  show();
});
document.addEventListener("visibilitychange", show);
setInterval(checkAge, 1000);
watch();
