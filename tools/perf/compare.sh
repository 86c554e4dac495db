#!/bin/sh
# Is B slower than A? Flags, backends, programs or revisions, in runs that take turns; see --help.
exec python3 "$(dirname "$0")/measuring" compare "$@"
