#!/bin/bash
# Builds the tools that the end-to-end tests need from pinned Go modules into $MAYFLY_DEPS/tools (default .deps/tools): grpcurl and
# ghz (gRPC clients; the latest versions that Debian 12's Go builds), versitygw (an S3 server) and crane (an OCI registry). The
# last two need a newer Go: where the one in PATH is older, it downloads the Go toolchain that they name, as a module.
# A stamp names the versions that are there, so that the second call is free.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."
deps=${MAYFLY_DEPS:-$PWD/.deps}
modules=(github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.8.9 github.com/bojand/ghz/cmd/ghz@v0.117.0)
newer=(github.com/versity/versitygw/cmd/versitygw@v1.8.0 github.com/google/go-containerregistry/cmd/crane@v0.20.6)
toolchain=golang.org/toolchain@v0.0.1-go1.26.8.linux-amd64
stamp=$deps/tools/.modules
[ "$(cat "$stamp" 2>/dev/null)" != "${modules[*]} ${newer[*]}" ] || exit 0
mkdir -p "$deps/tools"
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

# A Go that builds `newer`: the one in PATH from 1.26 on, else the toolchain module's, whose programs come without their x bit.
newer_go() {
  local minor dir
  minor=$(go version | sed -n 's/^go version go1\.\([0-9]*\).*/\1/p')
  if [ "${minor:-0}" -ge 26 ]; then
    command -v go
    return
  fi
  printf 'module fetch\n\ngo 1.19\n' >"$tmp/go.mod"
  dir=$(cd "$tmp" && GOFLAGS='-mod=mod -modcacherw' GOWORK=off GOMODCACHE="$tmp/modcache" go mod download -json "$toolchain" |
    sed -n 's/^[[:space:]]*"Dir": "\(.*\)",\{0,1\}$/\1/p')
  rm "$tmp/go.mod"
  [ -n "$dir" ] || { echo "fetch_tools: go mod download gave no folder for $toolchain" >&2; exit 1; }
  find "$dir/bin" "$dir/pkg/tool" -type f -exec chmod 0755 {} +
  echo "$dir/bin/go"
}

for module in "${modules[@]}"; do
  # Outside of any module, so that only the tool's own list of versions and checksums counts.
  (cd "$tmp" && GOFLAGS=-modcacherw GOTOOLCHAIN=local GOWORK=off GOBIN="$deps/tools" go install "$module")
done
go=$(newer_go)
for module in "${newer[@]}"; do
  (cd "$tmp" && GOFLAGS=-modcacherw GOTOOLCHAIN=local GOWORK=off GOBIN="$deps/tools" "$go" install "$module")
done
printf '%s\n' "${modules[*]} ${newer[*]}" >"$stamp"
