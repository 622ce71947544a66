#!/bin/bash
# soak [MINUTES] [--seed N]: everything at once against the release binary, 10 minutes by default (tests/soak/soak.py): no answer
# may be wrong, memory and descriptors must be flat in the end. Writes build/bench/soak.json.
source "$(dirname "$0")/lib.sh"
need_root soak
verb setup build models
step test-python "Python for the tests" make_venv "$DEPS/venv-test" "$ROOT/scripts/test-requirements.txt"
exec "$DEPS/venv-test/bin/python" -B tests/soak/soak.py --results build/bench/soak.json "$@"
