#!/bin/bash
# soak-cold [--cycles N] [--kill] [--seed N]: 10,000 times from zero to an answer against the release binary (tests/soak/cold.py):
# every answer must be right, and nothing may be left of the instances in the end. Writes build/bench/soak-cold.json.
source "$(dirname "$0")/lib.sh"
need_root soak-cold
verb setup build
step test-python "Python for the tests" make_venv "$DEPS/venv-test" "$ROOT/scripts/test-requirements.txt"
exec "$DEPS/venv-test/bin/python" -B tests/soak/cold.py --results build/bench/soak-cold.json "$@"
