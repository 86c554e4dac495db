#!/bin/sh
# System calls of the server for each heartbeat, by name; see --help.
exec python3 "$(dirname "$0")/measuring" syscalls "$@"
