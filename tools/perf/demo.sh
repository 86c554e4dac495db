#!/bin/sh
# What `make run` shows: a server, and 20,000 connections of mixed protocols that beat once a second
# for 20 seconds, some of them mute. Ends by itself; prints what happened, and leaves a page.
#
#   tools/perf/demo.sh [pulseload flags]        (a flag given here wins)
#
# Everything it writes is below build/run/, made anew by each run: report.html, report.json, and the
# server's log and statistics.
set -eu
cd "$(dirname "$0")/../.."
case "${1:-}" in -h|--help) sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 0 ;; esac
build=${BUILD:-build}
out=$build/run
for program in pulsewheel pulseload; do
    [ -x "$build/$program" ] && continue
    echo "demo.sh: $build/$program is missing; run make first" >&2
    exit 2
done
mkdir -p "$out"
rm -f "$out/server.log" "$out/server.json" "$out/server.group"
rm -f "$out/report.html" "$out/report.json"
. tools/perf/server.sh
trap 'exit 130' INT TERM
start_server --listen auto://127.0.0.1:0 --max-connections 25000 \
    --heartbeat-interval 1s --heartbeat-timeout 3s --on-message echo \
    --stats-json "$out/server.json" --stats-interval 1s
port=$(sed -n 's/.*listening on .*:\([0-9]*\)$/\1/p' "$out/server.log" | head -n 1)

if [ $# -eq 0 ]; then
    echo "20,000 connections, held for 20 s: done in about 30 s. A server of your own flags and"
    echo "load: build/pulsewheel --help, build/pulseload --help, make run ARGS='--duration 1m'."
else
    echo "20,000 connections, held for 20 s, but for what you give:"
    echo "  $*"
fi
echo
"$build/pulseload" --target "auto://127.0.0.1:$port" --connections 20000 --connect-rate 10000/s \
    --mix ws=50,ws-json=20,jsonl=20,tcp=10 --behaviour beat=90,idle=5,mute=5 \
    --heartbeat-interval 1s --duration 20s --server-pid "$server" \
    --server-stats "$out/server.json" --report "$out/report.html" --json "$out/report.json" "$@"
