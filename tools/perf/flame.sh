#!/bin/sh
# Draws a flame graph of the server, on a core or off it; see --help.
exec python3 "$(dirname "$0")/measuring" flame "$@"
