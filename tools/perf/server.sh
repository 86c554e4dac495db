# Sourced by demo.sh and million.sh: a server in a memory cgroup of its own, ended with the script.
# Requires: $build (where the programs are) and $out (an existing folder). Sets $server, its pid.
# The log is $out/server.log. Where the script has a function leave, that is called first.

# start_server FLAGS...: returns when the server listens; where it does not, reports and exits.
start_server() {
    : >"$out/server.log"
    tools/perf/memory_group.py run "$out/server.group" \
        "$build/pulsewheel" --log-format text "$@" >"$out/server.log" 2>&1 &
    server=$!
    trap stop_server EXIT
    tries=0
    until grep -q 'listening on' "$out/server.log"; do
        if [ "$tries" -ge 100 ] || ! kill -0 "$server" 2>/dev/null; then
            echo "${0##*/}: the server did not start; $out/server.log has the reason:" >&2
            tail -n 5 "$out/server.log" >&2
            exit 1
        fi
        sleep 0.1
        tries=$((tries + 1))
    done
}

stop_server() {
    trap - EXIT
    if declare -F leave >/dev/null; then leave; fi
    kill "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
    if [ -e "$out/server.group" ]; then tools/perf/memory_group.py remove "$out/server.group"; fi
}
