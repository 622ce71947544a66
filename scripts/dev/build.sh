#!/bin/bash
# build [PRESET]: configures and builds one CMake preset into build/PRESET; release by default.
source "$(dirname "$0")/lib.sh"
preset=${1:-release}
[[ $preset =~ ^(release|dev|tsan|fuzz)$ ]] || die "build: no preset \"$preset\" (release, dev, tsan, fuzz)"
verb setup
build_preset "$preset"
