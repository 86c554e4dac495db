#!/usr/bin/env bash
# What an idle connection costs: the server's RSS above its empty self, and kernel memory above a
# socket that was accepted and left alone. Both ends are on this machine; prints a table, --json an
# object.
#
#   tools/perf/density.sh [--connections N] [--backend io_uring|epoll] [--port N] [--json]
#
# Two runs with the same clients, one after the other: against a server that only accepts
# (bare_server.py), then against pulsewheel. Kernel memory is the growth of live slab objects, for
# which it must run as root and nothing else should. Exit code 1 when a bar is missed: 100 B of RSS,
# 260 B of kernel memory a connection.
set -euo pipefail
cd "$(dirname "$0")/../.."

connections=100000 backend=auto port=9100 json=no
while [ $# -gt 0 ]; do
    case "$1" in
        --connections) connections=$2; shift 2 ;;
        --backend) backend=$2; shift 2 ;;
        --port) port=$2; shift 2 ;;
        --json) json=yes; shift ;;
        -h|--help) sed -n '2,12s/^# \{0,1\}//p' "$0"; exit 0 ;;
        *) echo "density.sh: '$1' is no option; see --help" >&2; exit 2 ;;
    esac
done
build=${BUILD:-build}
for program in pulsewheel pulseload; do
    [ -x "$build/$program" ] && continue
    echo "density.sh: $build/$program is missing; run make first" >&2
    exit 2
done

work=$(mktemp -d)
started=()
cleanup() {
    for pid in "${started[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${started[@]}"; do wait "$pid" 2>/dev/null || true; done
    rm -rf "$work"
}
trap cleanup EXIT

say() { [ "$json" = yes ] || echo "$*" >&2; }
# What live objects of all slab caches occupy, their share of the pages' waste included. Not `Slab`
# of /proc/meminfo: that also counts pages kept for later, which the first run fills for the second.
kernel_bytes() {
    awk 'NR > 2 {sum += $2 * $6 * 4096 / $5} END {printf "%.0f\n", sum}' /proc/slabinfo
}
rss_bytes() { awk '/^VmRSS:/ {print $2 * 1024}' "/proc/$1/status"; }
settle() { sync; echo 2 > /proc/sys/vm/drop_caches 2>/dev/null || true; sleep 2; }
wait_for() { # FILE TEXT
    for _ in $(seq 100); do grep -q "$2" "$1" 2>/dev/null && return 0; sleep 0.1; done
    echo "density.sh: waited 10 s for '$2':" >&2; cat "$1" >&2; exit 1
}
# Connects everybody, silently; returns when all are open. The clients stay until they are killed.
load() {
    "$build/pulseload" --target "tcp://127.0.0.1:$1" --connections "$connections" \
        --heartbeat-interval 0 --duration 10m >"$work/load.out" 2>"$work/load.err" &
    clients=$!
    started+=("$clients")
    for _ in $(seq 600); do
        open=$(tail -n 1 "$work/load.err" 2>/dev/null | awk '{print $3 + 0}')
        [ "${open:-0}" -ge "$connections" ] && return 0
        kill -0 "$clients" 2>/dev/null || break
        sleep 0.5
    done
    echo "density.sh: only ${open:-0} of $connections connected:" >&2
    tail -n 3 "$work/load.err" >&2
    exit 1
}
stop() { kill "$1" 2>/dev/null || true; wait "$1" 2>/dev/null || true; }

say "1/2  $connections connections to a server that only accepts"
mkfifo "$work/hold"
python3 tools/perf/bare_server.py "$port" "$connections" <"$work/hold" >"$work/bare.out" &
bare=$!
started+=("$bare")
exec 9>"$work/hold"
wait_for "$work/bare.out" listening
settle
bare_before=$(kernel_bytes)
load "$port"
settle
bare_after=$(kernel_bytes)
stop "$clients"
exec 9>&-
wait "$bare" 2>/dev/null || true
settle

say "2/2  $connections connections to pulsewheel"
port=$((port + 1))
"$build/pulsewheel" --listen "tcp://127.0.0.1:$port" --backend "$backend" \
    --max-connections "$connections" --heartbeat-interval 10m --heartbeat-timeout 30m \
    --stats-json "$work/stats" --stats-interval 1s >"$work/server.out" 2>&1 &
server=$!
started+=("$server")
wait_for "$work/server.out" "127.0.0.1:$port"
settle
rss_before=$(rss_bytes "$server")
server_before=$(kernel_bytes)
load "$port"
settle
rss_after=$(rss_bytes "$server")
server_after=$(kernel_bytes)
read -r live used < <(tail -n 1 "$work/stats" | python3 -c '
import json, sys
stats = json.load(sys.stdin)
print(stats["total"]["connections"], stats["backend"])')
stop "$clients"
stop "$server"

python3 - "$json" "$connections" "$live" "$used" $((rss_after - rss_before)) "$rss_before" \
    $((bare_after - bare_before)) $((server_after - server_before)) <<'PY'
import json
import sys

as_json = sys.argv[1] == "yes"
connections, live = int(sys.argv[2]), int(sys.argv[3])
backend = sys.argv[4]
rss, rss_empty, bare, server = (int(word) for word in sys.argv[5:9])
result = {
    "connections": live,
    "backend": backend,
    "server_rss_empty_bytes": rss_empty,
    "server_rss_bytes_per_connection": round(rss / connections, 1),
    "kernel_bytes_per_bare_connection_both_ends": round(bare / connections, 1),
    "kernel_bytes_per_connection_both_ends": round(server / connections, 1),
    "kernel_bytes_above_bare_per_connection": round((server - bare) / connections, 1),
}
met = {
    "server_rss_bytes_per_connection": 100,
    "kernel_bytes_above_bare_per_connection": 260,
}
missed = [name for name, bar in met.items() if result[name] > bar]
if as_json:
    print(json.dumps(dict(result, missed=missed)))
else:
    for name, value in result.items():
        bar = f"   bar {met[name]}: {'missed' if name in missed else 'met'}" if name in met else ""
        print(f"  {name.replace('_', ' '):<46} {value:>12}{bar}")
if live != connections:
    print(f"density.sh: {live} of {connections} were held", file=sys.stderr)
sys.exit(1 if missed or live != connections else 0)
PY
