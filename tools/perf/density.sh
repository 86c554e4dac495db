#!/usr/bin/env bash
# What an idle connection costs: bytes of RSS, and bytes of kernel memory above a socket that was
# accepted and left alone. Both ends are on this machine; prints a table, --json the report.
#
#   tools/perf/density.sh [--connections N] [--backend io_uring|epoll|auto]
#                         [--protocol tcp|ws|jsonl|wss|tls+tcp|tls+jsonl] [--port N] [--login]
#                         [--tls-idle openssl|frozen] [--json] [--out DIR]
#
# Leaves a directory as the other scripts do, in build/perf/ or DIR: report.txt, report.json,
# environment.json, and the server's log and last statistics.
#
# RSS bytes per connection are the server's RSS with N connections open, less its RSS when empty,
# divided by N; empty is after 64 connections have come and gone, which read its code from the file.
# The kernel's bytes are what is charged to a cgroup of the server's own (memory_group.py), less the
# same of a server that only accepts (bare_server.py). Where no such cgroup can be made, which
# usually takes root, they are not printed. With --login every connection logs in, as a user of its
# own with a name of 16 bytes, a device and two labels. With TLS the certificate is made anew
# (demo_certificate.sh), clients are frozen, and the server is measured in both ways to keep an idle
# connection, one after the other, unless --tls-idle names one: each in a folder of DIR, and --json
# prints both reports. Exit code 1 when a bar is missed: 100 B of RSS, 300 B of a logged-in one,
# 150 B more with TLS that is frozen, 16 KiB with OpenSSL's, which is what HAProxy plans, 260 B of
# kernel memory a connection.
set -euo pipefail
cd "$(dirname "$0")/../.."

connections=100000 backend=auto protocol=tcp port=9100 json=no out=
users=() tls=() load_tls=() tls_idle= bar=100 command="${0##*/} $*" given=("$@")
while [ $# -gt 0 ]; do
    case "$1" in
        --connections|--backend|--protocol|--port|--out|--tls-idle)
            [ $# -gt 1 ] || { echo "density.sh: $1 needs a value; see --help" >&2; exit 2; }
            name=${1#--}
            declare "${name//-/_}=$2"; shift 2 ;;
        --login) users=(--users); bar=300; shift ;;
        --json) json=yes; shift ;;
        -h|--help) sed -n '2,23s/^# \{0,1\}//p' "$0"; exit 0 ;;
        *) echo "density.sh: '$1' is not an option; see --help" >&2; exit 2 ;;
    esac
done
[ "${#users[@]}" -eq 0 ] || users+=("$connections")
case "$protocol:$tls_idle" in
    wss:openssl|tls+*:openssl) tls=(yes) bar=16384 ;;
    wss:frozen|tls+*:frozen) tls=(yes) bar=$((bar + 150)) ;;
    wss:|tls+*:) tls=(yes) ;;
    *:) ;;
    *) echo "density.sh: --tls-idle $tls_idle: must be openssl or frozen, of a protocol over TLS;" \
           "see --help" >&2; exit 2 ;;
esac
build=${BUILD:-build}
for program in pulsewheel pulseload; do
    [ -x "$build/$program" ] && continue
    echo "density.sh: $build/$program is missing; run make first" >&2
    exit 2
done

out=${out:-$build/perf/density-$(date +%Y%m%d-%H%M%S)}
mkdir -p "$out"
if [ "${#tls[@]}" -gt 0 ] && [ -z "$tls_idle" ]; then
    code=0 one=
    end_one() { [ -z "$one" ] || { kill "$one" && wait "$one"; } 2>/dev/null || true; }
    trap end_one EXIT
    for mode in openssl frozen; do
        [ "$json" = yes ] || echo "--tls-idle $mode:"
        tools/perf/density.sh "${given[@]}" --tls-idle "$mode" --out "$out/$mode" &
        one=$!
        wait "$one" || code=$?
        one=
    done
    exit "$code"
fi
work=$(mktemp -d)
if [ "${#tls[@]}" -gt 0 ]; then
    tls=(--tls-cert "$work/demo.pem" --tls-key "$work/demo.key" --tls-idle "$tls_idle")
    load_tls=(--tls-idle frozen)
fi
started=()
cleanup() {
    for pid in "${started[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${started[@]}"; do wait "$pid" 2>/dev/null || true; done
    for group in "$work"/*.group; do
        [ -e "$group" ] && tools/perf/memory_group.py remove "$group"
    done
    rm -rf "$work"
}
trap cleanup EXIT
[ "${#tls[@]}" -eq 0 ] || tools/perf/demo_certificate.sh "$work"

say() { [ "$json" = yes ] || echo "$*" >&2; }
# In the background only: the command takes the place of the subshell, whose pid is then its own.
in_group() { exec tools/perf/memory_group.py run "$work/$1.group" "${@:2}"; }
kernel_bytes() { tools/perf/memory_group.py bytes "$work/$1.group"; }
rss_bytes() { awk '/^VmRSS:/ {print $2 * 1024}' "/proc/$1/status"; }
wait_for() { # FILE TEXT
    for _ in $(seq 100); do grep -q "$2" "$1" 2>/dev/null && return 0; sleep 0.1; done
    echo "density.sh: waited 10 s for '$2':" >&2; cat "$1" >&2; exit 1
}
# Connects all, silently; returns when all are open. The clients stay until they are killed.
load() { # PORT SCHEME FLAGS...
    "$build/pulseload" --target "$2://127.0.0.1:$1" --connections "$connections" --progress \
        --heartbeat-interval 0 --duration 10m "${@:3}" >"$out/load.out" 2>"$out/load.err" &
    clients=$!
    started+=("$clients")
    for _ in $(seq 600); do
        grep -q ' hold: ' "$out/load.err" && return 0
        kill -0 "$clients" 2>/dev/null || break
        sleep 0.5
    done
    echo "density.sh: not all of $connections connected:" >&2
    tail -n 3 "$out/load.err" >&2
    exit 1
}
stop() { kill "$1" 2>/dev/null || true; wait "$1" 2>/dev/null || true; }

say "1/2  $connections connections to a server that only accepts"
mkfifo "$work/hold"
in_group bare python3 tools/perf/bare_server.py "$port" "$connections" \
    <"$work/hold" >"$work/bare.out" &
bare=$!
started+=("$bare")
exec 9>"$work/hold"
wait_for "$work/bare.out" listening
sleep 2
bare_before=$(kernel_bytes bare)
load "$port" tcp --tcp-only
sleep 2
bare_after=$(kernel_bytes bare)
stop "$clients"
exec 9>&-
wait "$bare" 2>/dev/null || true

say "2/2  $connections connections to pulsewheel ($protocol)"
port=$((port + 1))
in_group server "$build/pulsewheel" --listen "$protocol://127.0.0.1:$port" --backend "$backend" \
    --max-connections "$connections" --heartbeat-interval 10m --heartbeat-timeout 30m \
    --log-format text --stats-json "$work/stats" --stats-interval 1s "${tls[@]}" \
    >"$out/server.log" 2>&1 &
server=$!
started+=("$server")
wait_for "$out/server.log" "127.0.0.1:$port"
"$build/pulseload" --target "$protocol://127.0.0.1:$port" --connections 64 --duration 1s --quiet \
    "${load_tls[@]}"
sleep 2
rss_empty=$(rss_bytes "$server")
server_before=$(kernel_bytes server)
load "$port" "$protocol" "${users[@]}" "${load_tls[@]}"
for _ in $(seq 10); do  # its report is up to an interval old
    sleep 1
    tail -n 1 "$work/stats" | grep -q "\"connections\": *$connections\b" && break
done
sleep 2
rss_full=$(rss_bytes "$server")
server_after=$(kernel_bytes server)
tail -n 1 "$work/stats" >"$out/server.json"
stop "$clients"
stop "$server"

tools/perf/density_report.py --out "$out" --command "tools/perf/$command" "$json" \
    "$connections" "$out/server.json" "$rss_empty" "$rss_full" "$bare_before" "$bare_after" \
    "$server_before" "$server_after" "$bar"
