#!/bin/sh
# Installs what is missing from Debian 12's packages; called by the Makefile, harmless to repeat.
#
#   tools/install-deps.sh [build|bench|fuzz|tidy]...      (default: build)
#
# Touches no network when nothing is missing. Needs root or sudo only when something is.
set -eu

# What compiles and tests the programs. Headers first, then the tools that tests run.
build="g++ ar:binutils python3 pkg:liburing-dev pkg:libsimdjson-dev pkg:libfmt-dev pkg:libspdlog-dev
       pkg:libcli11-dev pkg:libtomlplusplus-dev pkg:nlohmann-json3-dev pkg:libssl-dev
       zlib.h:zlib1g-dev pkg:libgtest-dev"
bench="pkg:libbenchmark-dev pkg:libboost-dev pkg:libconcurrentqueue-dev valgrind"
fuzz="clang++-19:clang-19 pkg:libclang-rt-19-dev"
tidy="clang-tidy-19 clang-format-19"

missing=""
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
        *) echo "install-deps: '$group' is no group; use build, bench, fuzz or tidy" >&2; exit 2 ;;
    esac
    for entry in $list; do want "$entry"; done
done
[ -n "$missing" ] || exit 0

explain() {
    echo "install-deps: $1" >&2
    echo "install-deps: run as an administrator, then try again: apt-get install -y$missing" >&2
    exit 1
}
command -v apt-get >/dev/null 2>&1 ||
    explain "these packages are missing and this is no Debian system:$missing"
if [ "$(id -u)" = 0 ]; then sudo=""
elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then sudo="sudo"
else explain "these packages are missing and installing needs root:$missing"; fi

echo "install-deps: installing$missing"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
export DEBIAN_FRONTEND=noninteractive
{
    $sudo apt-get update -q && $sudo apt-get install -y -q --no-install-recommends $missing
} >"$log" 2>&1 || {
    tail -n 20 "$log" >&2
    explain "apt-get failed (its last lines are above)"
}
