#!/bin/sh
# One flag over a range of values: a table and a plot; see --help.
exec python3 "$(dirname "$0")/measuring" sweep "$@"
