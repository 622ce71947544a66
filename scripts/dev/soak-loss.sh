#!/bin/bash
# soak-loss [--events N] [--seed N]: rollouts, kills and scale-downs under load against the release binary; not one request may
# be lost (tests/soak/loss.py). 1,000 events by default. Writes build/bench/loss.json.
source "$(dirname "$0")/lib.sh"
need_root soak-loss
verb setup build
step test-python "Python for the tests" make_venv "$DEPS/venv-test" "$ROOT/scripts/test-requirements.txt"
exec "$DEPS/venv-test/bin/python" -B tests/soak/loss.py --results build/bench/loss.json "$@"
