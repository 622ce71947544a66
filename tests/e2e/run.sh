#!/bin/bash
# run.sh FILE…: one or more files of end-to-end tests, with the Python that has the clients.
set -euo pipefail
cd "$(dirname "$0")"
exec "${MAYFLY_TEST_PYTHON:-${MAYFLY_DEPS:-../../.deps}/venv-test/bin/python}" -B -m pytest -q -p no:cacheprovider "$@"
