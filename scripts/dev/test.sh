#!/bin/bash
# test: everything that must hold, from nothing. The tree's own rules, unit tests under ASan and UBSan (build/dev), then
# end-to-end tests against the release binary with real clients (build/release, label e2e).
source "$(dirname "$0")/lib.sh"
need_root test
bash scripts/check_tree.sh
verb setup models
step test-python "Python clients for the end-to-end tests" make_venv "$DEPS/venv-test" "$ROOT/scripts/test-requirements.txt"
step test-tools "gRPC tools for the end-to-end tests" bash scripts/fetch_tools.sh
step h2spec "build the conformance suite of HTTP/2" bash scripts/h2spec.sh fetch
build_preset dev
build_preset release

failed=()
title "unit tests (ASan, UBSan)"
ctest --test-dir build/dev --output-on-failure -j2 -LE e2e || failed+=(unit)
title "end-to-end tests (release)"
MAYFLY_TEST_PYTHON=$DEPS/venv-test/bin/python \
  ctest --test-dir build/release --output-on-failure --no-tests=error -L e2e || failed+=(end-to-end)
[ "${#failed[@]}" -eq 0 ] || die "failed: ${failed[*]} tests"
