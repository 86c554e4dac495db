#!/bin/sh
# What this machine should have otherwise to hold many connections: changes nothing; see --help.
exec python3 "$(dirname "$0")/measuring" hostcheck "$@"
