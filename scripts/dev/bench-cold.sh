#!/bin/bash
# bench-cold [ARGUMENTS]: builds release and runs bench/cold.py: what a start costs, what 10,000 endpoints at zero cost, beside a
# plain worker and Triton. Writes build/bench/cold.json and a picture of the phases, build/bench/cold.svg.
source "$(dirname "$0")/lib.sh"
need_root bench-cold
verb setup build
bash scripts/dev/models.sh --all
build_preset release triton_onnx_native
code=0
python3 -B bench/cold.py "$@" || code=$?
[ ! -f build/bench/cold.json ] || python3 -B bench/cold_report.py build/bench/cold.json build/bench/cold.svg
exit "$code"
