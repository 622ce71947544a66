#!/bin/bash
# bench [ARGUMENTS]: builds release, fetches all models and runs bench/run.sh; results are in build/bench/*.json.
source "$(dirname "$0")/lib.sh"
[ -f bench/run.sh ] || die "bench: this tree has no bench/run.sh"
need_root bench
verb setup
verb build
bash scripts/dev/models.sh --all
exec bash bench/run.sh "$@"
