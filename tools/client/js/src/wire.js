// What travels: the JSON objects of proto/PROTOCOL.md in WebSocket text messages, and what the end
// of a socket says about why it ended.
//
// Pure: no clock, no socket.

import {isDuration} from "./backoff.js";

/** @typedef {import("../index.js").Payload} Payload */
/** @typedef {import("../index.js").ServerMessage} ServerMessage */

export const SUBPROTOCOL = "pulse.v1.json";

/** Most bytes of a token, a user, a device: a longer one is refused before it is sent. */
export const TOKEN_BYTES_MAX = 4096;
const USER_BYTES_MAX = 128;
const DEVICE_BYTES_MAX = 64;
const LABELS_MAX = 16;
const LABEL_BYTES_MAX = 64;
const LABELS_BYTES_MAX = 512;

const encoder = new TextEncoder();
const SERVER_TYPES = new Set(["ping", "pong", "welcome", "interval", "goodbye", "error",
  "expiring", "data"]);
const RESERVED_TYPES = new Set([...SERVER_TYPES, "heartbeat", "hello", "ack"]);
/** Members that are texts or numbers. An object in their place could throw wherever it is used. */
const SCALARS = ["seq", "ts", "conn", "interval_ms", "timeout_ms", "in_ms", "retry_after_ms",
  "code", "reason", "message", "move_to", "user", "device", "session"];

/** @param {string} text */
export const utf8Bytes = (text) => encoder.encode(text).length;

/** @param {unknown} value */
const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);

/**
 * The first `type` of an object, as the server reads it: also of one that is malformed behind that,
 * which it would answer with an error, and not count.
 * @param {string} text
 * @returns {string | undefined}
 */
function firstType(text) {
  if (!/^[ \t\r\n]*\{/.test(text)) return undefined;
  const marks = /[{}[\]"\\]/g;
  const value = /[ \t\r\n]*:[ \t\r\n]*("?)/y;
  let depth = 0;
  for (let mark = marks.exec(text); mark; mark = marks.exec(text)) {
    const [found] = mark;
    if (found === "\\") ++marks.lastIndex;
    else if (found === "{" || found === "[") ++depth;
    else if (found !== '"' && --depth === 0) return undefined;
    if (found !== '"') continue;
    value.lastIndex = marks.lastIndex = endOfString(text, mark.index);
    const colon = depth === 1 ? value.exec(text) : null;
    if (colon === null || unescaped(text.slice(mark.index, marks.lastIndex)) !== "type") continue;
    const at = value.lastIndex - 1;
    return colon[1] ? unescaped(text.slice(at, endOfString(text, at))) : undefined;
  }
  return undefined;
}

/**
 * Behind its closing quote.
 * @param {string} text @param {number} begin
 */
function endOfString(text, begin) {
  const marks = /["\\]/g;
  marks.lastIndex = begin + 1;
  for (let mark = marks.exec(text); mark; mark = marks.exec(text)) {
    if (mark[0] === '"') return marks.lastIndex;
    ++marks.lastIndex;
  }
  return text.length;
}

/** @param {string} quoted @returns {string | undefined} */
function unescaped(quoted) {
  try {
    return JSON.parse(quoted);
  } catch {
    return undefined;
  }
}

/** @param {string} text */
function parseObject(text) {
  if (!/^\s*\{/.test(text)) return undefined;
  try {
    const value = JSON.parse(text);
    return isObject(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

/**
 * A text of the server. Undefined: it is the application's. A hint that is not a time, or none, is
 * left out, and so is a member of the protocol's that is an object and should not be.
 * @param {string} text
 * @returns {ServerMessage | undefined}
 */
export function parse(text) {
  const value = parseObject(text);
  if (!value || !SERVER_TYPES.has(value.type)) return undefined;
  if (value.type === "data") return value;
  for (const name of SCALARS) if (typeof value[name] === "object") delete value[name];
  if (value.type === "goodbye" && !isHint(value.retry_after_ms)) delete value.retry_after_ms;
  return value;
}

/**
 * A hint of no time at all asks for nothing: a crowd would come at one moment.
 * @param {unknown} ms
 * @returns {ms is number}
 */
const isHint = (ms) => isDuration(ms) && ms > 0;

/**
 * Whether an interval can be kept to: a server names whole milliseconds.
 * @param {unknown} ms
 * @returns {ms is number}
 */
export const isInterval = (ms) => isDuration(ms) && ms >= 1;

/**
 * Whether the server would take a text for one of the protocol's.
 * @param {string} text
 */
export function isReserved(text) {
  if (text === "PING" || text === "ping") return true;
  return RESERVED_TYPES.has(firstType(text) ?? "");
}

/**
 * What is given to a socket for a payload, and how many bytes that is; the caller may go on to
 * change what it gave. An object is a `data` object.
 * @param {Payload} payload
 * @returns {{frame: string | Uint8Array, bytes: number}}
 */
export function encode(payload) {
  if (typeof payload === "string") {
    if (isReserved(payload)) {
      throw new TypeError("send: this text is a message of the protocol itself; send an object");
    }
    return {frame: payload, bytes: utf8Bytes(payload)};
  }
  if (payload instanceof ArrayBuffer) {
    return {frame: new Uint8Array(payload.slice(0)), bytes: payload.byteLength};
  }
  if (ArrayBuffer.isView(payload)) {
    const {buffer, byteOffset, byteLength} = payload;
    return {frame: new Uint8Array(buffer, byteOffset, byteLength).slice(), bytes: byteLength};
  }
  if (!isObject(payload)) {
    throw new TypeError("send: takes a string, bytes or an object");
  }
  // A function toJSON of the payload would make another text of it.
  const {toJSON} = payload;
  const plain = typeof toJSON === "function" ? {toJSON: undefined} : {};
  const frame = JSON.stringify({...payload, ...plain, type: "data"});
  return {frame, bytes: utf8Bytes(frame)};
}

/** @param {number} seq */
export const ping = (seq) => `{"type":"ping","seq":${seq}}`;

/**
 * Of a ping, with what that has of these.
 * @param {ServerMessage} message
 */
export const pong = ({seq, ts}) => JSON.stringify({type: "pong", seq, ts});

/**
 * @param {import("../index.js").Identity} identity
 * @param {string | undefined} token
 * @param {import("./session.js").ResumeHello} [resume]
 * @param {{}} [nat] it finds out what its network bears
 */
export function hello(identity, token, resume, nat) {
  const {user, device, labels, profile} = identity;
  return JSON.stringify({type: "hello", user, device, labels, profile, token, resume, nat});
}

/**
 * Throws where a server would answer a hello of this with an error.
 * @param {import("../index.js").Identity} identity
 */
export function checkIdentity({user, device, labels, profile}) {
  for (const [name, value] of Object.entries({user, device, profile})) {
    if (value !== undefined && typeof value !== "string") {
      throw new TypeError(`${name}: must be a string`);
    }
  }
  if (user !== undefined && (user.length === 0 || utf8Bytes(user) > USER_BYTES_MAX)) {
    throw new RangeError(`user: must have 1 to ${USER_BYTES_MAX} bytes`);
  }
  if (device !== undefined && utf8Bytes(device) > DEVICE_BYTES_MAX) {
    throw new RangeError(`device: must have at most ${DEVICE_BYTES_MAX} bytes`);
  }
  if (labels !== undefined && !isObject(labels)) throw new TypeError("labels: must be an object");
  const pairs = Object.entries(labels ?? {});
  if (pairs.length > LABELS_MAX) throw new RangeError(`labels: must be at most ${LABELS_MAX}`);
  for (const [name, value] of pairs) {
    if (typeof value !== "string") throw new TypeError(`labels: '${name}' must be a string`);
    if (utf8Bytes(name) > LABEL_BYTES_MAX || utf8Bytes(value) > LABEL_BYTES_MAX) {
      throw new RangeError(`labels: '${name}' or its value has over ${LABEL_BYTES_MAX} bytes`);
    }
  }
  const bytes = utf8Bytes(pairs.map((pair) => pair.map(escaped).join("=")).join(" "));
  if (bytes > LABELS_BYTES_MAX) {
    throw new RangeError(`labels: have ${bytes} bytes together; at most ${LABELS_BYTES_MAX}`);
  }
}

/**
 * As long as the server keeps a name or value: proto/labels.h.
 * @param {string} text
 */
const escaped = (text) => text.replace(/[\0- =%\x7f]/g, "%00");

/**
 * What a close frame's words say: "moved: wss://b.example:9000; retry_after_ms=1500".
 * @param {string} words
 */
export function parseCloseWords(words) {
  const retry = /(?:^|; )retry_after_ms=(\d{1,10})$/.exec(words);
  const rest = retry ? words.slice(0, retry.index) : words;
  const name = /^[a-z][a-z_]*(?=$|: )/.exec(rest);
  const detail = name ? rest.slice(name[0].length + 2).split(";")[0] : rest;
  const isMove = name?.[0] === "moved";
  return {
    reason: name ? name[0] : "",
    retryAfterMs: retry && isHint(Number(retry[1])) ? Number(retry[1]) : undefined,
    moveTo: isMove && detail ? detail : undefined,
    message: !isMove && detail ? detail : undefined,
  };
}

/**
 * A `Retry-After` in milliseconds: seconds, or a date (RFC 9110 10.2.3). Undefined: it is neither,
 * or that time is over.
 * @param {string | null | undefined} header
 * @param {number} wallNowMs
 */
export function parseRetryAfter(header, wallNowMs) {
  if (!header) return undefined;
  const text = header.trim();
  const isSeconds = /^\d{1,9}$/.test(text);
  const ms = isSeconds ? Number(text) * 1000 : parseHttpDate(text, wallNowMs) - wallNowMs;
  return isHint(ms) ? ms : undefined;
}

const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const DATES = [
  /^[A-Z][a-z]{2}, (?<day>\d\d) (?<month>[A-Z][a-z]{2}) (?<year>\d{4}) (?<time>[\d:]{8}) GMT$/,
  /^[A-Z][a-z]{5,8}, (?<day>\d\d)-(?<month>[A-Z][a-z]{2})-(?<year>\d\d) (?<time>[\d:]{8}) GMT$/,
  /^[A-Z][a-z]{2} (?<month>[A-Z][a-z]{2}) (?<day>[ \d]\d) (?<time>[\d:]{8}) (?<year>\d{4})$/,
];

/**
 * A date of HTTP (RFC 9110 5.6.7: the form of today, and two that are read besides) in milliseconds
 * since 1970; NaN if it is none. Date.parse() takes much more for one, such as "1.5".
 * @param {string} text
 * @param {number} wallNowMs of two digits of a year: at most 50 years behind it
 */
function parseHttpDate(text, wallNowMs) {
  const parts = DATES.map((form) => form.exec(text)?.groups).find((groups) => groups);
  const time = /^([01]\d|2[0-3]):([0-5]\d):([0-5]\d|60)$/.exec(parts?.time ?? "");
  if (!parts || !time) return NaN;
  const [hours, minutes, seconds] = time.slice(1).map(Number);
  const month = MONTHS.indexOf(parts.month);
  const day = Number(parts.day);
  let year = Number(parts.year);
  if (parts.year.length === 2) {
    const now = new Date(wallNowMs).getUTCFullYear();
    year += now - now % 100;
    if (year > now + 50) year -= 100;
  }
  const midnight = new Date(Date.UTC(year, month, day));
  if (midnight.getUTCMonth() !== month || midnight.getUTCDate() !== day) return NaN;
  return midnight.getTime() + ((hours * 60 + minutes) * 60 + seconds) * 1000;
}

/**
 * Where a goodbye sends its reader; undefined if that is not an address that a WebSocket reaches,
 * or if it would leave TLS. `auto:` is the server's own scheme for a listener of all protocols,
 * `tls+` that of one behind TLS.
 * @param {unknown} target
 * @param {string} from
 */
export function moveTarget(target, from) {
  if (typeof target !== "string") return undefined;
  const secure = /^(wss|https):/i.test(from);
  const url = target.replace(/^tls\+(auto|ws):/i, "wss:")
      .replace(/^auto:/i, secure ? "wss:" : "ws:");
  if (!/^wss?:\/\/[^/]/i.test(url) || (secure && /^ws:/i.test(url))) return undefined;
  try {
    return new URL(url).href;
  } catch {
    return undefined;
  }
}
