#!/usr/bin/env bash
# One million WebSocket connections (or N: 2M are two) on one machine, both ends: ramp, hold at 30 s
# heartbeats, silence a tenth of them at once, watch the eviction and the peers beside it, drain.
# Prints the table that the README quotes; --json prints an object.
#
#   tools/perf/million.sh [--connections N] [--heartbeat-interval SECONDS] [--hold TIME]
#                         [--backend io_uring|epoll] [--connect-rate PACE] [--port N] [--out DIR]
#                         [--protocol ws|wss] [--tls-idle frozen|openssl] [--scrape] [--json]
#
# A million pairs take about 9 GiB of kernel memory. With --protocol wss clients are frozen, and so
# is the server's end, unless --tls-idle says otherwise; the certificate is made anew. RSS bytes per
# connection are the server's RSS with all connections open, less its RSS before the first, divided
# by them; the kernel's are what is charged to a cgroup of the server's own, counted alike
# (memory_group.py), or not printed. With --scrape its /metrics are read each second, and the table
# has how long that took in the hold. Exit code 1 when a peer that beat was evicted, a silent one
# was not, or not all were held to the end.
set -euo pipefail
cd "$(dirname "$0")/../.."

# Two cores set up 12,000 to 15,000 pairs a second; asked for more than they can, a run is INVALID.
connections=1000000 heartbeat_interval=30
backend=io_uring hold=10m connect_rate= port=9200 protocol=ws tls_idle= scrape=no json=no
build=${BUILD:-build}
out=$build/million
while [ $# -gt 0 ]; do
    case "$1" in
        --connections|--heartbeat-interval|--backend|--hold|--connect-rate|--port|--out|\
        --protocol|--tls-idle)
            [ $# -gt 1 ] || { echo "million.sh: $1 needs a value; see --help" >&2; exit 2; }
            name=${1#--}
            declare "${name//-/_}=$2"; shift 2 ;;
        --scrape) scrape=yes; shift ;;
        --json) json=yes; shift ;;
        -h|--help) sed -n '2,17s/^# \{0,1\}//p' "$0"; exit 0 ;;
        *) echo "million.sh: '$1' is not an option; see --help" >&2; exit 2 ;;
    esac
done
connections=${connections/%M/000000} connections=${connections/%k/000}
heartbeat_s=${heartbeat_interval%s}
if ! [[ $connections =~ ^[1-9][0-9]*$ && $heartbeat_s =~ ^[1-9][0-9]*$ ]]; then
    echo "million.sh: $connections connections, a heartbeat each $heartbeat_interval: give a" \
        "number of connections (900k, 2M) and whole seconds; see --help" >&2
    exit 2
fi
case "$protocol:$tls_idle" in
    ws:) rate_default=10000/s pair_kib=10 takes="15 minutes" ;;
    # Each is a whole handshake at both ends.
    wss:|wss:frozen) rate_default=1500/s pair_kib=11 takes="25 minutes" ;;
    wss:openssl) rate_default=1500/s pair_kib=25 takes="25 minutes" ;;
    ws:*) echo "million.sh: --tls-idle $tls_idle: is of TLS; give --protocol wss; see --help" >&2
          exit 2 ;;
    wss:*) echo "million.sh: --tls-idle $tls_idle: must be frozen or openssl; see --help" >&2
           exit 2 ;;
    *) echo "million.sh: --protocol $protocol: must be ws or wss; see --help" >&2; exit 2 ;;
esac
connect_rate=${connect_rate:-$rate_default}
for program in pulsewheel pulseload; do
    [ -x "$build/$program" ] && continue
    echo "million.sh: $build/$program is missing; run make first" >&2
    exit 2
done
free_kib=$(awk '/^MemAvailable:/ {print $2}' /proc/meminfo)
if [ $((connections * pair_kib)) -gt "$free_kib" ]; then
    echo "million.sh: $connections pairs take about $((connections * pair_kib / 1024)) MiB and" \
        "$((free_kib / 1024)) MiB are available; give --connections less" >&2
    exit 2
fi
# One descriptor a connection, in each of the two.
descriptors_max=$(cat /proc/sys/fs/nr_open)
if [ $((connections + 1000)) -gt "$descriptors_max" ]; then
    echo "million.sh: a process may have $descriptors_max descriptors here, and $connections" \
        "connections need one each; as root: sysctl -w fs.nr_open=$((connections + 100000))" >&2
    exit 2
fi
mkdir -p "$out"
python3 tools/perf/measuring environment "$out"
rm -f "$out"/server.* "$out"/run.* "$out"/report.html "$out"/summary.txt "$out"/progress.txt \
    "$out"/scrapes.json

. tools/perf/server.sh
admin=() scrapes=
work=$(mktemp -d)  # a socket's path is short
leave() {  # with the server: stop_server
    [ -z "$scrapes" ] || kill "$scrapes" 2>/dev/null || true
    # Where this is ended by SIGTERM, the load that it waited for.
    for child in $(cat "/proc/$$/task/$$/children" 2>/dev/null || true); do
        kill "$child" 2>/dev/null || true
    done
    rm -rf "$work"
}
trap leave EXIT
[ "$scrape" = no ] || admin=(--admin "unix:$work/admin")
tls=() load_tls=()
if [ "$protocol" = wss ]; then
    tools/perf/demo_certificate.sh "$work"
    tls=(--tls-cert "$work/demo.pem" --tls-key "$work/demo.key" --tls-idle "${tls_idle:-frozen}")
    load_tls=(--tls-idle frozen)
fi
start_server --listen "$protocol://127.0.0.1:$port" "${tls[@]}" --backend "$backend" \
    --max-connections $((connections + 1000)) \
    --heartbeat-interval "${heartbeat_s}s" --heartbeat-timeout "$((3 * heartbeat_s))s" \
    --stats-json "$out/server.json" --stats-interval 1s "${admin[@]}"
if [ "$scrape" = yes ]; then
    tools/perf/scrapes.py "$work/admin" "$out/scrapes.json" &
    scrapes=$!
fi
# A terminal is shown the live table; elsewhere a line a second goes into a file.
if [ -t 2 ]; then
    progress=() progress_file=/dev/stderr
else
    progress=(--progress) progress_file=$out/progress.txt
fi
echo "million.sh: $connections connections at $connect_rate, held for $hold, drained;" \
    "$takes by default" >&2
# The silence comes a minute into the hold; the hold goes on past its end.
"$build/pulseload" --target "$protocol://127.0.0.1:$port" "${load_tls[@]}" \
    --connections "$connections" --connect-rate "$connect_rate" --connect-timeout 60s \
    --duration "$hold" --heartbeat-interval "${heartbeat_s}s" \
    --storm "silence=$((connections / 10))@1m" \
    --server-pid "$server" --server-stats "$out/server.json" "${progress[@]}" \
    --json "$out/run.json" --report "$out/report.html" --hlog "$out/run.hlog" \
    >"$out/summary.txt" 2>"$progress_file" && code=0 || code=$?
if [ ! -s "$out/run.json" ]; then
    [ -t 2 ] || cat "$progress_file" >&2
    cat "$out/summary.txt" >&2
    exit 1
fi
stop_server
python3 tools/perf/million.py "$out" "$connections" "$json"
echo "pulseload ended with code $code; its page is $out/report.html" >&2
