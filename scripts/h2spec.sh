#!/bin/bash
# h2spec.sh fetch: builds h2spec, the conformance suite of HTTP/2, into $MAYFLY_DEPS/bin (default .deps/bin), from the
#   Go modules that scripts/h2spec/go.sum pins. Does nothing if it is there.
# h2spec.sh run ADDRESS:PORT PATH [FLAG...]: all its cases, strict, against a server; PATH takes GET and POST
#   and waits for their bodies: an early refusal is an answer too, but not one that the cases expect. Exit 0
#   if nothing fails but the one deliberate exception: 3.5/2, "invalid connection preface", since on a port that speaks
#   HTTP/1.1 too, bytes that are no preface are an HTTP/1.1 request, and get its answer 400 before the connection closes.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
deps=${MAYFLY_DEPS:-$here/../.deps}
tool=$deps/bin/h2spec

case ${1:-} in
fetch)
  [ ! -x "$tool" ] || exit 0
  tmp=$(mktemp -d)
  trap 'rm -rf "$tmp"' EXIT
  mkdir -p "$deps/bin"
  # The checksum database is not asked: go.sum holds the sums.
  (cd "$here/h2spec" && GOFLAGS='-mod=readonly -modcacherw' GOTOOLCHAIN=local GOWORK=off GONOSUMDB='*' \
    GOMODCACHE="$tmp/modcache" GOCACHE="$tmp/cache" go build -o "$tmp/h2spec" github.com/summerwind/h2spec/cmd/h2spec)
  mv -f "$tmp/h2spec" "$tool"
  ;;
run)
  address=$2 path=$3
  shift 3
  out=$("$tool" --strict -o 5 -h "${address%:*}" -p "${address##*:}" -P "$path" "$@") || true
  failures=$(sed -n '/^Failures/,$p' <<<"$out" | grep '×' | sed 's/^ *//' || true)
  unexpected=$(grep -v '^× 2: Sends invalid connection preface$' <<<"$failures" || true)
  tail -n 1 <<<"$out"
  if [ -n "$unexpected" ] || ! grep -q ' passed, ' <<<"$out"; then
    printf '%s\n' "$out"
    exit 1
  fi
  ;;
*)
  echo "usage: h2spec.sh fetch | run ADDRESS:PORT PATH [FLAG...]" >&2
  exit 2
  ;;
esac
