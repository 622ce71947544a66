#!/bin/bash
# Measures the release build: bench/run.py has the arguments, the targets, and writes build/bench/serve.json.
set -euo pipefail
cd "$(dirname "$0")/.."
exec python3 bench/run.py "$@"
