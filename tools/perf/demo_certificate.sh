#!/usr/bin/env bash
# A certificate for measuring over TLS, and its key, made now and worth nothing elsewhere.
#
#   tools/perf/demo_certificate.sh DIR
#
# Writes DIR/demo.pem and DIR/demo.key: ECDSA P-256, signed by itself, for localhost, 127.0.0.1 and
# ::1, for 30 days. Exit code: 0; 1 where openssl cannot; 2 usage.
set -euo pipefail

case "${1:-}" in
    -h|--help) sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 0 ;;
esac
if [ $# -ne 1 ] || [ ! -d "$1" ]; then
    echo "demo_certificate.sh: '${1:-}' is not a folder; see --help" >&2
    exit 2
fi
command -v openssl >/dev/null || {
    echo "demo_certificate.sh: openssl is not installed; apt-get install openssl" >&2
    exit 1
}
umask 077
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=localhost \
    -addext subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1 \
    -keyout "$1/demo.key" -out "$1/demo.pem" 2>"$1/demo.log" || {
    echo "demo_certificate.sh: openssl: $(tail -n 1 "$1/demo.log")" >&2
    exit 1
}
rm -f "$1/demo.log"
