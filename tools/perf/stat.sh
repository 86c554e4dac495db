#!/bin/sh
# What a heartbeat costs the CPU: cycles, instructions, misses, switches; see --help.
exec python3 "$(dirname "$0")/measuring" stat "$@"
