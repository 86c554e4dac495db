#!/bin/sh
# Installs what is missing from Debian 12's packages; called by the Makefile, harmless to repeat.
#
#   tools/install-deps.sh [build|clients|bench|deb|fuzz|tidy]...      (default: build)
#
# Touches no network when nothing is missing. Needs root or sudo only when something is.
set -eu

# What compiles and tests the programs. Headers first, then the tools that tests run.
build="g++ ar:binutils python3 openssl ip:iproute2
       pkg:liburing-dev pkg:libsimdjson-dev pkg:libfmt-dev
       pkg:libspdlog-dev pkg:libcli11-dev pkg:libtomlplusplus-dev pkg:nlohmann-json3-dev
       pkg:libssl-dev zlib.h:zlib1g-dev pkg:libcpp-httplib-dev pkg:prometheus-cpp-dev
       pkg:python3-jsonschema pkg:libgtest-dev pkg:systemtap-sdt-dev"
# Other people's WebSocket clients, what checks the types of our own, a proxy, and what scrapes
# metrics, sends alerts and collects logs. What is not available skips a test; the build goes on.
clients="node:nodejs npm tsc:node-typescript chromium pkg:python3-websockets go:golang-go
         pkg:golang-github-gorilla-websocket-dev pkg:nginx-light gnutls-cli:gnutls-bin
         promtool:prometheus amtool:prometheus-alertmanager rsyslogd:rsyslog"
bench="pkg:valgrind pkg:libbenchmark-dev pkg:libboost-dev pkg:libconcurrentqueue-dev"
fuzz="clang++-19:clang-19 pkg:libclang-rt-19-dev"
tidy="clang-tidy-19 clang-format-19"
deb="dpkg-shlibdeps:dpkg-dev"

missing="" with_clients=""
want() { # PROGRAM, PROGRAM:PACKAGE or pkg:PACKAGE
    case "$1" in
        pkg:*) package="${1#pkg:}"; present="$package" ;;
        *.h:*) package="${1#*:}"; present="$package" ;;
        *:*) package="${1#*:}"; command -v "${1%%:*}" >/dev/null 2>&1 && return 0; present="" ;;
        *) package="$1"; command -v "$1" >/dev/null 2>&1 && return 0; present="" ;;
    esac
    if [ -n "$present" ] && [ -f "/var/lib/dpkg/info/$present.list" ]; then return 0; fi
    if [ -n "$present" ] && ls /var/lib/dpkg/info/"$present":*.list >/dev/null 2>&1; then
        return 0
    fi
    missing="$missing $package"
}
for group in "${@:-build}"; do
    case "$group" in
        build) list="$build" ;; bench) list="$bench" ;; fuzz) list="$fuzz" ;; tidy) list="$tidy" ;;
        clients) list="$clients" with_clients=1 ;;
        deb) list="$deb" ;;
        *) echo "install-deps: '$group' is not a group; see its head" >&2
           exit 2 ;;
    esac
    for entry in $list; do want "$entry"; done
done

log=$(mktemp)
trap 'rm -f "$log"' EXIT
export DEBIAN_FRONTEND=noninteractive
explain() {
    echo "install-deps: $1" >&2
    echo "install-deps: run as an administrator, then try again: apt-get install -y$missing" >&2
}
become_root() {
    if ! command -v apt-get >/dev/null 2>&1; then
        explain "these packages are missing and this is no Debian system:$missing"
        return 1
    fi
    if [ "$(id -u)" = 0 ]; then sudo=""
    elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then sudo="sudo"
    else
        explain "these packages are missing and installing needs root:$missing"
        return 1
    fi
}
install() { # PACKAGE...
    $sudo apt-get install -y -q --no-install-recommends "$@" >>"$log" 2>&1
}
debian_packages() { # what is missing
    [ -n "$missing" ] || return 0
    become_root || return 1
    exec 9<"$0" && flock 9 # make may ask for two groups at once, apt bears one
    echo "install-deps: installing$missing"
    $sudo apt-get update -q >"$log" 2>&1 || true # if it matters, installing fails too
    install $missing && return 0
    tail -n 20 "$log" >&2
    explain "apt-get failed (its last lines are above)"
    [ -n "$with_clients" ] || return 1
    echo "install-deps: installing those that can be had, one by one" >&2
    for package in $missing; do install "$package" || echo "  not to be had: $package" >&2; done
    return 1
}
npm_packages() { # what tests/clients/package-lock.json names, into tests/clients/node_modules
    cd "$(dirname "$0")/../tests/clients"
    npm ls >/dev/null 2>&1 && return 0
    echo "install-deps: installing the npm packages of tests/clients"
    npm ci --ignore-scripts --no-audit --no-fund --fetch-retries=1 --fetch-retry-mintimeout=1000 \
        --fetch-timeout=60000 >"$log" 2>&1 && return 0
    tail -n 5 "$log" >&2
    echo "install-deps: npm failed (its last lines are above)" >&2
    return 1
}

outcome=0
debian_packages || outcome=1
if [ -n "$with_clients" ]; then npm_packages || outcome=1; fi
exit "$outcome"
