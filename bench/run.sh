#!/bin/bash
# Measures the release build against the numbers in DESIGN.md: bench/run.py has the arguments and writes build/bench/serve.json.
set -euo pipefail
cd "$(dirname "$0")/.."
exec python3 bench/run.py "$@"
