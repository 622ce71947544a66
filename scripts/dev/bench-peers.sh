#!/bin/bash
# bench-peers [ARGUMENTS]: builds release and Triton's back end and runs bench/peers.py: Mayfly beside Triton, FastAPI, MLServer
# and KServe. Each is installed by pip, pinned, into build/peers/ (1.5 GB in all). Writes build/bench/peers.json.
source "$(dirname "$0")/lib.sh"
need_root bench-peers
verb setup build models
build_preset release triton_onnx_native
exec python3 -B bench/peers.py "$@"
