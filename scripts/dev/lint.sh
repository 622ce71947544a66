#!/bin/bash
# lint: the tree's own rules, the format, and the scripts' syntax.
source "$(dirname "$0")/lib.sh"
bash scripts/check_tree.sh
for script in dev .ci/run scripts/*.sh scripts/*/*.sh; do bash -n "$script"; done
bash scripts/dev/fmt.sh --check
say "lint: everything is right"
