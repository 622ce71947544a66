#!/bin/bash
# models [--all]: fetches the example models by checksum and converts them to ONNX (.deps/models).
source "$(dirname "$0")/lib.sh"
fetch=(bash scripts/models/fetch.sh "$DEPS")
case ${1:-} in
  "" | --all) ;;
  *) die "models: unknown argument \"$1\" (only --all)" ;;
esac
if "${fetch[@]}" --present "$@"; then exit 0; fi
step models-python "Python packages for the model conversion" \
  make_venv "$DEPS/venv" "$ROOT/scripts/models/requirements.txt"
step models "fetch and convert the example models" "${fetch[@]}" "$@"
