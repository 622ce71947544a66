#!/bin/bash
# setup: installs those system packages that are missing (apt) and fetches the pinned dependencies.
# Installs nothing and needs no root when everything is there.
source "$(dirname "$0")/lib.sh"

packages=(clang-19 lld-19 libclang-rt-19-dev clang-format-19 cmake ninja-build ccache pkg-config dpkg-dev
  libboost1.81-dev libnghttp2-dev libprotobuf-dev protobuf-compiler libssl-dev libsqlite3-dev libseccomp-dev
  libsimdjson-dev libfmt-dev libcli11-dev libyaml-cpp-dev libstb-dev libcurl4-openssl-dev libgtest-dev libgmock-dev nlohmann-json3-dev
  zlib1g-dev python3-venv python3-pip curl openssl ca-certificates git)
# Any Go from 1.19 that is in PATH will do: it downloads one module and builds the tools of the tests.
command -v go >/dev/null || packages+=(golang-go)

missing_packages() {
  local p
  for p in "${packages[@]}"; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || echo "$p"
  done
}

install_packages() {
  local as_root=()
  [ "$(id -u)" -eq 0 ] || as_root=(sudo -n)
  local apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300)
  "${apt[@]}" update
  "${apt[@]}" install -y --no-install-recommends "$@"
}

mapfile -t missing < <(missing_packages)
if [ "${#missing[@]}" -gt 0 ]; then
  command -v apt-get >/dev/null || die "this needs Debian's apt-get to install: ${missing[*]}"
  if [ "$(id -u)" -ne 0 ] && ! sudo -n true 2>/dev/null; then
    die "packages are missing and this user is not root; as root: apt-get install ${missing[*]}"
  fi
  step apt "install ${#missing[@]} system packages" install_packages "${missing[@]}"
fi
if ! bash scripts/fetch_deps.sh --present; then
  step fetch "fetch the model runtime" bash scripts/fetch_deps.sh
fi
