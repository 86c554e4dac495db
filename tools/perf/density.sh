#!/usr/bin/env bash
# What an idle connection costs: the server's RSS above its empty self, and kernel memory above a
# socket that was accepted and left alone. Both ends are on this machine; prints a table, --json an
# object.
#
#   tools/perf/density.sh [--connections N] [--backend io_uring|epoll] [--protocol tcp|ws|jsonl]
#                         [--port N] [--json]
#
# Two runs with the same clients, one after the other: against a server that only accepts
# (bare_server.py), then against pulsewheel. Kernel memory is the growth of the slab caches that
# sockets, their files and their place in an epoll set or a ring come from; reading them takes root,
# and nothing else should open sockets meanwhile. Exit code 1 when a bar is missed: 100 B of RSS,
# 260 B of kernel memory a connection.
set -euo pipefail
cd "$(dirname "$0")/../.."

connections=100000 backend=auto protocol=tcp port=9100 json=no
while [ $# -gt 0 ]; do
    case "$1" in
        --connections) connections=$2; shift 2 ;;
        --backend) backend=$2; shift 2 ;;
        --protocol) protocol=$2; shift 2 ;;
        --port) port=$2; shift 2 ;;
        --json) json=yes; shift ;;
        -h|--help) sed -n '2,14s/^# \{0,1\}//p' "$0"; exit 0 ;;
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
# What live objects occupy, their share of the pages' waste included. Not `Slab` of /proc/meminfo:
# that also counts pages kept for later, which the first run fills for the second; nor all caches,
# since others (inodes, page cache) move by more than what is measured.
kernel_bytes() {
    awk '$1 ~ /^(TCP|TCPv6|sock_inode_cache|filp|dentry|lsm_.*_cache)$/ ||
         $1 ~ /^(ep_head|eventpoll_.*|io_kiocb|kmalloc-(cg-)?[0-9]+)$/ ||
         $1 ~ /^(skbuff_.*|request_sock_TCP|tw_sock_TCP)$/ {
             sum += $2 * $6 * 4096 / $5
         }
         END {printf "%.0f\n", sum}' /proc/slabinfo
}
rss_bytes() { awk '/^VmRSS:/ {print $2 * 1024}' "/proc/$1/status"; }
# What a processor keeps for itself of a cache counts as live until the cache is shrunk.
settle() {
    sync
    echo 2 > /proc/sys/vm/drop_caches 2>/dev/null || true
    sleep 2
    for cache in /sys/kernel/slab/*/shrink; do echo 1 > "$cache" 2>/dev/null || true; done
}
wait_for() { # FILE TEXT
    for _ in $(seq 100); do grep -q "$2" "$1" 2>/dev/null && return 0; sleep 0.1; done
    echo "density.sh: waited 10 s for '$2':" >&2; cat "$1" >&2; exit 1
}
# Connects everybody, silently; returns when all are open. The clients stay until they are killed.
load() { # PORT SCHEME FLAGS...
    "$build/pulseload" --target "$2://127.0.0.1:$1" --connections "$connections" --progress \
        --heartbeat-interval 0 --duration 10m "${@:3}" >"$work/load.out" 2>"$work/load.err" &
    clients=$!
    started+=("$clients")
    for _ in $(seq 600); do
        grep -q ' hold: ' "$work/load.err" && return 0
        kill -0 "$clients" 2>/dev/null || break
        sleep 0.5
    done
    echo "density.sh: not all of $connections connected:" >&2
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
load "$port" tcp --tcp-only
settle
bare_after=$(kernel_bytes)
stop "$clients"
exec 9>&-
wait "$bare" 2>/dev/null || true
settle

say "2/2  $connections connections to pulsewheel ($protocol)"
port=$((port + 1))
"$build/pulsewheel" --listen "$protocol://127.0.0.1:$port" --backend "$backend" \
    --max-connections "$connections" --heartbeat-interval 10m --heartbeat-timeout 30m \
    --stats-json "$work/stats" --stats-interval 1s >"$work/server.out" 2>&1 &
server=$!
started+=("$server")
wait_for "$work/server.out" "127.0.0.1:$port"
settle
# The code of a handshake is read from its file once, with the first peer: it is no connection's.
"$build/pulseload" --target "$protocol://127.0.0.1:$port" --connections 64 --duration 1s --quiet
settle
rss_before=$(rss_bytes "$server")
server_before=$(kernel_bytes)
load "$port" "$protocol"
settle
rss_after=$(rss_bytes "$server")
server_after=$(kernel_bytes)
for _ in $(seq 10); do  # its account is up to an interval old
    tail -n 1 "$work/stats" | grep -q "\"connections\": *$connections\b" && break
    sleep 1
done
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
