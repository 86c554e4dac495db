#!/bin/sh
# Records where the server's threads spend their time, on a core and off it; see --help.
exec python3 "$(dirname "$0")/measuring" record "$@"
