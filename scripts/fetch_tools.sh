#!/bin/bash
# Builds the gRPC tools that the end-to-end tests speak with, grpcurl and ghz, from pinned Go modules into $MAYFLY_DEPS/tools
# (default .deps/tools). Only tests need them. The versions are the latest that Debian 12's Go builds.
# A stamp names the versions that are there, so that the second call is free.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."
deps=${MAYFLY_DEPS:-$PWD/.deps}
modules=(github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.8.9 github.com/bojand/ghz/cmd/ghz@v0.117.0)
stamp=$deps/tools/.modules
[ "$(cat "$stamp" 2>/dev/null)" != "${modules[*]}" ] || exit 0
mkdir -p "$deps/tools"
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
for module in "${modules[@]}"; do
  # Outside of any module, so that only the tool's own list of versions and checksums counts.
  (cd "$tmp" && GOFLAGS=-modcacherw GOTOOLCHAIN=local GOWORK=off GOBIN="$deps/tools" go install "$module")
done
printf '%s\n' "${modules[*]}" >"$stamp"
