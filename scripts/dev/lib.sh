# shellcheck shell=bash
# Helpers of the verbs: paths, messages, progress, and the steps that several verbs share. Sourced, never run.
# Fails loudly: every verb runs under `set -euo pipefail`; a failed step prints the end of its log and exits 1.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
DEPS=${MAYFLY_DEPS:-$ROOT/.deps}
RUN_DIR=$ROOT/.run
LOGS=$ROOT/build/logs
MAYFLY=$ROOT/build/release/bin/mayfly
cd "$ROOT"

say() { printf '%s\n' "$*"; }
title() { printf '\n== %s\n' "$*"; }
die() {
  printf './dev: %s\n' "$*" >&2
  exit 1
}

# need_root VERB: for verbs that start or end servers; says so before anything is installed or built.
need_root() {
  [ "$(id -u)" -eq 0 ] || die "$1 needs root, because the server makes namespaces and cgroups: sudo ./dev $1"
}

# verb NAME...: run other verbs in the given order.
verb() {
  local v
  for v in "$@"; do bash "$ROOT/scripts/dev/$v.sh"; done
}

# show_elapsed LABEL PID: until PID ends, a spinner on a terminal; else a line at 2 s and then every 30 s.
show_elapsed() {
  local label=$1 pid=$2 start=$SECONDS ticks=0 last=0 elapsed
  local -r wheel='|/-\'
  while kill -0 "$pid" 2>/dev/null; do
    sleep 0.1
    ticks=$((ticks + 1))
    elapsed=$((SECONDS - start))
    [ "$elapsed" -ge 2 ] || continue
    if [ -t 1 ]; then
      printf '\r\033[K%s  %s (%d s)' "${wheel:ticks % 4:1}" "$label" "$elapsed"
    elif [ "$last" -eq 0 ] || [ $((elapsed - last)) -ge 30 ]; then
      say "..  $label (${elapsed} s)"
      last=$elapsed
    fi
  done
  [ ! -t 1 ] || printf '\r\033[K'
}

# step NAME LABEL COMMAND...: runs the command with its output in build/logs/NAME.log and shows that it lives.
# The command gets a process group of its own, so that ^C ends all of it (background jobs of a script ignore ^C).
step() {
  local name=$1 label=$2 start=$SECONDS pid code=0
  local log=$LOGS/$1.log
  shift 2
  mkdir -p "$LOGS"
  set -m
  (set -euo pipefail && "$@") >"$log" 2>&1 </dev/null &
  pid=$!
  set +m
  # shellcheck disable=SC2064
  trap "kill -TERM -- -$pid 2>/dev/null; exit 130" INT TERM
  show_elapsed "$label" "$pid"
  wait "$pid" || code=$?
  trap - INT TERM
  if [ "$code" -ne 0 ]; then
    say "FAILED  $label (exit $code); the end of ${log#"$ROOT"/}:" >&2
    tail -n 40 "$log" | sed 's/^/    /' >&2
    exit 1
  fi
  say "ok  $label ($((SECONDS - start)) s)"
}

# system_python: Debian's own interpreter where it exists; a different one in PATH may lack venv or pip.
system_python() { if [ -x /usr/bin/python3 ]; then echo /usr/bin/python3; else command -v python3; fi; }

# make_venv DIR REQUIREMENTS: a virtual environment with exactly these packages; a stamp makes the second call free.
make_venv() {
  local dir=$1 requirements=$2 want
  want=$(sha256sum <"$requirements")
  [ "$(cat "$dir/.requirements" 2>/dev/null)" != "$want" ] || return 0
  rm -rf "$dir"
  "$(system_python)" -m venv "$dir"
  "$dir/bin/pip" install --disable-pip-version-check --no-input -r "$requirements"
  printf '%s\n' "$want" >"$dir/.requirements"
}

# build_preset PRESET [TARGET]: configure and build into build/PRESET.
build_preset() {
  local preset=$1 target=${2:-all}
  configure_and_build() {
    cmake --preset "$preset" -DMAYFLY_DEPS_DIR="$DEPS"
    ninja -C "build/$preset" "$target"
  }
  step "build-$preset" "build $preset" configure_and_build
}

version() { sed -n 's/^project(mayfly VERSION \([0-9.]*\).*/\1/p' CMakeLists.txt; }

# server_pid: the process id of the server that `./dev run` started, if it still runs and is our binary; else fails.
server_pid() {
  local pid exe
  pid=$(cat "$RUN_DIR/server.pid" 2>/dev/null) || return 1
  [[ $pid =~ ^[0-9]+$ ]] || return 1
  exe=$(readlink "/proc/$pid/exe" 2>/dev/null) || return 1
  [ "${exe% (deleted)}" = "$MAYFLY" ] || return 1
  echo "$pid"
}
