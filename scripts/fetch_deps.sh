#!/bin/bash
# Fetches the model runtime (ONNX Runtime's shared library and licences, from its Python wheel) and its C headers (from a Go
# module that carries them; the first includes the second) into $MAYFLY_DEPS/onnxruntime (default .deps/). Each final file is
# checked against scripts/deps.sha256.
# With --present it fetches nothing: exit 0 if every file is there and right.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."
deps=${MAYFLY_DEPS:-$PWD/.deps}
sums=$PWD/scripts/deps.sha256
onnxruntime_version=1.32.0
header_module=github.com/yalue/onnxruntime_go@v1.27.0

present() { [ -d "$deps" ] && (cd "$deps" && sha256sum --check --status "$sums" 2>/dev/null); }

fetch_library() {
  local python=python3
  [ ! -x /usr/bin/python3 ] || python=/usr/bin/python3
  "$python" -m pip download --disable-pip-version-check --no-input --no-deps --only-binary :all: \
    --python-version 311 --implementation cp --platform manylinux_2_28_x86_64 \
    -d "$tmp" "onnxruntime==$onnxruntime_version"
  "$python" -m zipfile -e "$tmp"/onnxruntime-*.whl "$tmp/wheel"
  place "$tmp/wheel/onnxruntime/capi/libonnxruntime.so.$onnxruntime_version"
  place "$tmp/wheel/onnxruntime/LICENSE"
  place "$tmp/wheel/onnxruntime/ThirdPartyNotices.txt"
}

# The checksum database is not asked: the file that we take is checked against our own sum.
fetch_header() {
  mkdir "$tmp/go"
  printf 'module fetch\n\ngo 1.19\n' >"$tmp/go/go.mod"
  local answer dir
  answer=$(cd "$tmp/go" && GOFLAGS='-mod=mod -modcacherw' GOTOOLCHAIN=local GOWORK=off GONOSUMDB='*' GONOSUMCHECK=1 \
    GOMODCACHE="$tmp/modcache" go mod download -json "$header_module")
  dir=$(sed -n 's/^[[:space:]]*"Dir": "\(.*\)",\{0,1\}$/\1/p' <<<"$answer")
  [ -n "$dir" ] || { echo "go mod download gave no folder: $answer" >&2; exit 1; }
  place "$dir/onnxruntime_c_api.h"
  place "$dir/onnxruntime_ep_c_api.h"
}

# Renames into place only what is complete, so that an interrupted fetch leaves no half file.
place() {
  local name
  name=$(basename "$1")
  install -m 0644 "$1" "$deps/onnxruntime/.$name.part"
  mv -f "$deps/onnxruntime/.$name.part" "$deps/onnxruntime/$name"
}

if present; then exit 0; fi
[ "${1:-}" != --present ] || exit 1
mkdir -p "$deps/onnxruntime"
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
fetch_library
fetch_header
if ! (cd "$deps" && sha256sum --check --quiet "$sums"); then
  echo "a fetched file differs from scripts/deps.sha256; do not use it: delete $deps/onnxruntime and try again" >&2
  exit 1
fi
