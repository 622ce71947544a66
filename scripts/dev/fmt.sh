#!/bin/bash
# fmt [--check]: formats the C++ files with clang-format-19; --check only names those that differ and fails.
source "$(dirname "$0")/lib.sh"
mode=(-i)
case ${1:-} in
  "") ;;
  --check) mode=(--dry-run -Werror) ;;
  *) die "fmt: unknown argument \"$1\" (only --check)" ;;
esac
command -v clang-format-19 >/dev/null || die "fmt: clang-format-19 is missing; ./dev setup installs it"
git ls-files -z '*.h' '*.cc' | xargs -0 -r clang-format-19 "${mode[@]}"
