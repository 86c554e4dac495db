// Serves the presence board, and passes the server's presence stream on to it:
//
//     node serve.mjs [--listen 127.0.0.1:8080] [--server ws://127.0.0.1:9000]
//                    [--admin http://127.0.0.1:9100] [--admin-token-file FILE]
//
// A browser must not reach the admin endpoint, which can close connections: this shows it one path
// of it, and keeps the token. Each page that is open is one of the 32 that may follow presence.
import {readFile} from "node:fs/promises";
import http from "node:http";
import {fileURLToPath} from "node:url";
import {parseArgs} from "node:util";

const ROOT = new URL("../../", import.meta.url);  // tools/client/
const BOARD = "/examples/presence/";
const FILES = /^\/(examples\/presence|js|js\/src)\/[a-z_]+\.(html|css|js)$/;
const TYPES = {html: "text/html", css: "text/css", js: "text/javascript"};
const UNTYPED = "application/octet-stream";

const {values: options} = parseArgs({options: {
  listen: {type: "string", default: "127.0.0.1:8080"},
  server: {type: "string", default: "ws://127.0.0.1:9000"},
  admin: {type: "string", default: "http://127.0.0.1:9100"},
  "admin-token-file": {type: "string"},
}});
const token = options["admin-token-file"] &&
    (await readFile(options["admin-token-file"], "utf8")).split("\n")[0].trim();

function send(response, status, type, body) {
  response.writeHead(status, {"Content-Type": `${type}; charset=utf-8`, "Cache-Control": "no-cache",
    "Content-Security-Policy": "default-src 'self'; connect-src 'self' ws: wss:; img-src data:",
    "X-Content-Type-Options": "nosniff"});
  response.end(body);
}

// The stream of one page: begun where that page was, ended when either end ends it.
function passPresence(request, response) {
  const headers = {Accept: "text/event-stream"};
  if (token) headers.Authorization = `Bearer ${token}`;
  if (request.headers["last-event-id"]) headers["Last-Event-ID"] = request.headers["last-event-id"];
  const upstream = http.get(new URL("/api/v1/presence", options.admin), {headers}, (stream) => {
    const type = stream.headers["content-type"] ?? UNTYPED;
    response.writeHead(stream.statusCode, {"Content-Type": type, "Cache-Control": "no-store"});
    stream.pipe(response);
    stream.on("error", () => response.destroy());
  });
  upstream.on("error", () => {
    if (response.headersSent) response.destroy();
    else send(response, 503, "text/plain", "the admin endpoint does not answer\n");
  });
  response.on("close", () => upstream.destroy());
}

async function sendFile(path, response) {
  if (!FILES.test(path)) return send(response, 404, "text/plain", "there is no such file\n");
  try {
    const body = await readFile(fileURLToPath(new URL(path.slice(1), ROOT)));
    send(response, 200, TYPES[path.split(".").at(-1)], body);
  } catch {
    send(response, 404, "text/plain", "there is no such file\n");
  }
}

const server = http.createServer((request, response) => {
  const path = request.url.split("?")[0];
  if (path === "/presence") return passPresence(request, response);
  if (path === "/settings.json") {
    return send(response, 200, "application/json", JSON.stringify({server: options.server}));
  }
  if (path === "/") return response.writeHead(302, {Location: BOARD}).end();
  sendFile(path === BOARD ? `${BOARD}index.html` : path, response);
});
const [, host, port] = /^(.*):(\d+)$/.exec(options.listen) ?? [];
if (port === undefined) {
  console.error(`--listen ${options.listen}: is not HOST:PORT`);
  process.exit(2);
}
server.listen(Number(port), host, () => {
  console.log(`http://${host}:${server.address().port}${BOARD}`);
});
