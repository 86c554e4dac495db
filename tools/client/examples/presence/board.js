// The presence board: draws the server's presence stream, and holds a connection of one's own.
import {PulseClient} from "../../js/index.js";
import {Presence} from "./presence.js";

const CHANGES_SHOWN = 20;
const RETRY_MS = 2000;
const CHANGES = {
  online: "is online", offline: "is offline", suspect: "does not answer", well: "answers again",
  joined: "is here on one more device", left: "has left one device",
  replaced: "came back", refreshed: "says something else",
};

const byId = (id) => document.getElementById(id);
const presence = new Presence();
let client;
let drawn = false;

function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function setState(id, state, text) {
  byId(id).dataset.state = state;
  setText(byId(`${id}-text`), text);
}

// --------------------------------------------------------------------------------- who is here

function draw() {
  drawn = false;
  const rows = presence.rows();
  const here = rows.filter(({state}) => state !== "offline").length;
  setText(byId("summary"), `${here} online, ${rows.length - here} left lately.`);
  const body = byId("users").tBodies[0];
  rows.forEach(({user, state, sessions}, at) => {
    const row = body.rows[at] ?? makeRow(body);
    setText(row.cells[0], user);
    setText(row.cells[1], state);
    setText(row.cells[2], String(sessions));
    row.cells[1].dataset.state = state;
    row.classList.toggle("you", user === client?.identity.user);
  });
  while (body.rows.length > rows.length) body.deleteRow(-1);
}

function makeRow(body) {
  const row = body.insertRow();
  const name = document.createElement("th");
  name.scope = "row";
  row.append(name);
  row.insertCell();
  row.insertCell().className = "number";
  return row;
}

// Many changes of one moment are drawn once.
function drawSoon() {
  if (drawn) return;
  drawn = true;
  setTimeout(draw, 50);
}

function tellChange({user, change, at, device}) {
  const item = document.createElement("li");
  const time = document.createElement("time");
  time.dateTime = at;
  time.textContent = new Date(at).toLocaleTimeString();
  item.append(time, `${user}${device ? `, ${device},` : ""} ${CHANGES[change] ?? change}`);
  byId("changes").prepend(item);
  byId("no-changes").hidden = true;
  while (byId("changes").children.length > CHANGES_SHOWN) byId("changes").lastChild.remove();
}

// EventSource comes back by itself, with the id of the last event, unless it was refused.
function follow() {
  const source = new EventSource("/presence");
  const on = (name, take) => source.addEventListener(name, ({data}) => {
    take(JSON.parse(data));
    drawSoon();
  });
  on("snapshot", () => presence.begin());
  on("user", (user) => presence.take(user));
  on("live", () => {
    presence.isWhole = true;
    setState("feed", "open", "Live");
  });
  on("change", (change) => {
    setState("feed", "open", "Live");
    if (presence.take(change)) tellChange(change);
  });
  source.addEventListener("error", () => {
    setState("feed", "waiting", presence.isWhole ? "Old: the server is away" : "Connecting");
    if (source.readyState !== EventSource.CLOSED) return;
    setTimeout(follow, RETRY_MS);
  });
}

// ----------------------------------------------------------------------------------------- you

const STATES = {connecting: "Connecting", open: "Connected", waiting: "Away",
  closed: "Not connected"};

function watchClient() {
  client.addEventListener("state", ({detail: {state}}) => {
    setState("link", state, STATES[state]);
    if (state === "open" || state === "connecting") setText(byId("link-more"), "");
    const isOver = state === "closed";
    byId("leave").disabled = isOver;
    for (const id of ["enter", "user", "device"]) byId(id).disabled = !isOver;
    drawSoon();
  });
  client.addEventListener("retry", ({detail: {cause, delayMs}}) => {
    setText(byId("link-more"), `${words(cause)}; tries again in ${(delayMs / 1000).toFixed(1)} s.`);
  });
  client.addEventListener("end", ({detail: {cause}}) => {
    setText(byId("link-more"), cause.name === "closed" ? "" : `${words(cause)}; not tried again.`);
  });
}

// The causes that people meet; README.md of the client has all.
const CAUSES = {close_1006: "The connection broke", refused: "The server does not answer",
  silent: "The server does not answer", going_away: "The server restarts",
  taken_over: "You are here in another place, with the same device",
  kicked: "You were asked to leave", moved: "Another server takes over"};
const words = ({name, message}) =>
  CAUSES[name] ?? message ?? `It ended: ${name.replaceAll("_", " ")}`;

byId("join").addEventListener("submit", async (submit) => {
  submit.preventDefault();
  setText(byId("join-error"), "");
  const user = byId("user").value.trim(), device = byId("device").value.trim();
  try {
    const {server} = await (await fetch("/settings.json")).json();
    client = new PulseClient({url: server, user, device: device || undefined});
    watchClient();
    client.connect();
  } catch (error) {
    setText(byId("join-error"), error.message);
  }
});
byId("leave").addEventListener("click", () => client.close());
follow();
