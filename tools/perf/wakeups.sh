#!/bin/sh
# How often the server wakes for each heartbeat, and how long it waits for a core; see --help.
exec python3 "$(dirname "$0")/measuring" wakeups "$@"
