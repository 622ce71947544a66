#!/bin/bash
# bench-overload [ARGUMENTS]: builds release and runs bench/overload.py: ten times more requests than one instance can serve.
# Writes build/bench/overload.json.
source "$(dirname "$0")/lib.sh"
need_root bench-overload
verb setup build
exec python3 -B bench/overload.py "$@"
