#!/bin/sh
# Installs everything that belongs to the programs, or removes it; `make install` calls it.
#
#   BUILD=build PREFIX=/usr/local DESTDIR= SYSCONFDIR=/etc \
#       tools/deploy/install.sh install|uninstall PROGRAM...
#
# Man pages, completions and the commented settings are what the programs print of themselves. A
# file of settings that is there is kept, and one that was changed is not removed. Debugging
# symbols are kept with STRIP=true.
set -eu

action="$1"
shift
here=$(dirname "$0")
root="${DESTDIR-}${PREFIX:-/usr/local}"
config="${DESTDIR-}${SYSCONFDIR:-/etc}/pulsewheel/pulsewheel.toml"
share="$root/share"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# MODE FILE TARGET: one file; its folders are made, and removed if nothing is left in them.
place() {
    if [ "$action" = install ]; then
        install -D -m "$1" "$2" "$3"
    else
        rm -f "$3"
        rmdir -p --ignore-fail-on-non-empty "$(dirname "$3")" 2>/dev/null || true
    fi
}
# PROGRAM KIND TARGET: what a program prints of itself.
generated() {
    if [ "$action" = install ]; then "${BUILD:-build}/$1" --generate "$2" >"$work/text"; fi
    place 644 "$work/text" "$3"
}
compressed() {
    if [ "$action" = install ]; then
        "${BUILD:-build}/$1" --generate "$2" | gzip -9 -n >"$work/text.gz"
    fi
    place 644 "$work/text.gz" "$3"
}
# NAME TARGET: a file of this folder, with the paths of this installation in it.
configured() {
    sed -e "s|@PREFIX@|${PREFIX:-/usr/local}|g" -e "s|@SYSCONFDIR@|${SYSCONFDIR:-/etc}|g" \
        "$here/$1" >"$work/configured"
    place 644 "$work/configured" "$2"
}

if [ "$action" = uninstall ] && [ -e "$config" ]; then
    if "$root/bin/pulsewheel" --generate config | cmp -s - "$config"; then
        place 644 - "$config"
    else
        echo "kept $config, which was changed"
    fi
fi
for program in "$@"; do
    if [ "$action" = install ]; then
        install -D -m 755 "${BUILD:-build}/$program" "$work/$program"
        "${STRIP:-strip}" "$work/$program"
    fi
    place 755 "$work/$program" "$root/bin/$program"
    compressed "$program" man "$share/man/man1/$program.1.gz"
    generated "$program" bash "$share/bash-completion/completions/$program"
    generated "$program" zsh "$share/zsh/site-functions/_$program"
    generated "$program" fish "$share/fish/vendor_completions.d/$program.fish"
done
configured pulsewheel.service "$root/lib/systemd/system/pulsewheel.service"
configured pulsewheel.socket "$root/lib/systemd/system/pulsewheel.socket"
for example in sysctl.conf limits.conf; do
    place 644 "$here/$example" "$share/doc/pulsewheel/examples/$example"
done
for file in README.md alerts.yml alerts_test.yml alertmanager.yml dashboard.json fluentd.conf \
    otel-collector.yaml prometheus.yml rsyslog.conf traces.compose.yaml vector.toml; do
    place 644 "$here/../observe/$file" "$share/doc/pulsewheel/observe/$file"
done
place 644 "$here/README.md" "$share/doc/pulsewheel/README.md"
if [ "$action" = install ]; then
    if [ -e "$config" ]; then
        echo "kept $config"
    else
        generated pulsewheel config "$config"
    fi
fi
