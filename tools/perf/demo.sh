#!/bin/sh
# What `make run` shows: a server, and 20,000 connections of mixed protocols that beat once a second
# for 20 seconds, some of them mute. Ends by itself; prints what happened, and leaves a page.
#
#   tools/perf/demo.sh [pulseload flags]        (a flag given here wins)
set -eu
cd "$(dirname "$0")/../.."
build=${BUILD:-build}
out=$build/run
mkdir -p "$out"
: >"$out/server.log"

"$build/pulsewheel" --listen auto://127.0.0.1:0 --max-connections 25000 \
    --heartbeat-interval 1s --heartbeat-timeout 3s --on-message echo \
    --stats-json "$out/server.json" --stats-interval 1s >"$out/server.log" 2>&1 &
server=$!
trap 'kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true' EXIT
trap 'exit 130' INT TERM

port=""
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    port=$(sed -n 's/.*listening on .*:\([0-9]*\)$/\1/p' "$out/server.log" | head -n 1)
    [ -n "$port" ] && break
    kill -0 "$server" 2>/dev/null || break
    sleep 0.1
done
if [ -z "$port" ]; then
    echo "demo.sh: the server did not start; $out/server.log says why:" >&2
    tail -n 5 "$out/server.log" >&2
    exit 1
fi

"$build/pulseload" --target "auto://127.0.0.1:$port" --connections 20000 --connect-rate 10000/s \
    --mix ws=50,ws-json=20,jsonl=20,tcp=10 --behaviour beat=90,idle=5,mute=5 \
    --heartbeat-interval 1s --duration 20s --server-pid "$server" \
    --server-stats "$out/server.json" --report "$out/report.html" --json "$out/report.json" "$@"
