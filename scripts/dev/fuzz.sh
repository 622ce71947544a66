#!/bin/bash
# fuzz [SECONDS]: runs every fuzz target for SECONDS (30) from tests/corpus/NAME, under ASan and UBSan.
# What it finds is kept in build/fuzz/found: NAME-crash-…, and new inputs in build/fuzz/corpus/NAME.
source "$(dirname "$0")/lib.sh"
seconds=${1:-30}
[[ $seconds =~ ^[1-9][0-9]*$ ]] || die "fuzz: \"$seconds\" is no number of seconds"
verb setup
build_preset fuzz fuzzers
mapfile -t targets < <(find build/fuzz/bin -type f -name '*_fuzz' -executable | sort)
[ "${#targets[@]}" -gt 0 ] || die "fuzz: the preset built no *_fuzz program"
mkdir -p build/fuzz/found
failed=()
for target in "${targets[@]}"; do
  name=$(basename "$target")
  corpus=(build/fuzz/corpus/"$name")
  mkdir -p "${corpus[0]}"
  [ ! -d "tests/corpus/$name" ] || corpus+=("tests/corpus/$name")
  title "$name, $seconds s"
  log=$LOGS/$name.log
  if "$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
    -artifact_prefix="build/fuzz/found/$name-" "${corpus[@]}" >"$log" 2>&1; then
    grep -E '^stat::(number_of_executed_units|average_exec_per_sec|new_units_added)' "$log"
  else
    failed+=("$name")
    tail -n 40 "$log"
  fi
done
[ "${#failed[@]}" -eq 0 ] || die "fuzz: ${failed[*]} failed; the inputs are in build/fuzz/found"
