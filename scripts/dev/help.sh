#!/bin/bash
# Lists the verbs.
set -euo pipefail
cat <<'TEXT'
./dev VERB: everything that this tree can do. Works on a bare Debian 12. run, stop, test,
bench* and soak* need root (sudo ./dev VERB); the others only to install what is missing.

  run                 install, fetch, build, start a server on 127.0.0.1:8080, deploy a model, ask it twice
  stop                end that server
  test                everything that must hold: the tree's rules, unit tests under ASan, end-to-end tests
  bench [ARGS]        build release and measure (bench/run.sh)
  bench-peers [ARGS]  Mayfly beside Triton, FastAPI, MLServer and KServe, installed from pinned packages
  bench-overload      ten times more requests than one instance can serve: goodput, latencies, memory
  bench-cold [ARGS]   cold starts, bursts, 10,000 endpoints at zero; beside a plain worker and Triton
  soak [MINUTES]      everything at once, 10 minutes: no wrong answer, memory and descriptors flat in the end
  soak-loss [ARGS]    1,000 rollouts, kills and scale-downs under load: not one request may be lost
  soak-cold [ARGS]    10,000 times from zero to an answer: all right, and nothing left in the end
  build [PRESET]      build one preset: release (default), dev, tsan, fuzz
  fuzz [SECONDS]      run each fuzz target for SECONDS (default 30) from its corpus
  fmt [--check]       format the C++ files, or say which are not
  lint                the tree's rules and the format
  package             a Debian package and a tarball in dist/
  setup               install the missing system packages, fetch the pinned dependencies
  models [--all]      fetch and convert the example models (--all: the 90 MB text model too)

Logs of long steps are in build/logs/. MAYFLY_DEPS=DIR keeps fetched dependencies elsewhere than .deps/.
TEXT
