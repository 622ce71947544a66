#!/bin/bash
# run: from nothing to an answer. Installs, fetches, builds, starts the server on 127.0.0.1:8080, deploys an image classifier,
# asks it cold and warm, and shows that nothing runs afterwards. A second run reuses all of it.
source "$(dirname "$0")/lib.sh"
need_root run
address=127.0.0.1:8080
export MAYFLY_SERVER=http://$address
unset MAYFLY_KEY

free_port() { ! (exec 3<>"/dev/tcp/${address%:*}/${address#*:}") 2>/dev/null; }
ready() { curl -fsS -o /dev/null --max-time 2 "$MAYFLY_SERVER/v2/health/ready" 2>/dev/null; }

start_server() {
  mkdir -p "$RUN_DIR"
  if pid=$(server_pid); then
    if [ "$(readlink "/proc/$pid/exe")" = "$MAYFLY" ] && ready; then
      say "ok  the server runs (pid $pid)"
      return
    fi
    say "    the program was rebuilt: starting the server anew"
    verb stop
  fi
  free_port || die "another program listens on $address, which the example needs; end it (ss -ltnp shows it) and try again"
  setsid "$MAYFLY" serve --data "$RUN_DIR/data" --listen "$address" >>"$RUN_DIR/server.log" 2>&1 </dev/null &
  pid=$!
  echo "$pid" >"$RUN_DIR/server.pid"
  local attempt
  for attempt in $(seq 100); do
    if ready; then
      say "ok  server started (pid $pid, log .run/server.log)"
      return
    fi
    [ -d "/proc/$pid" ] || break
    sleep 0.1
  done
  tail -n 20 "$RUN_DIR/server.log" | sed 's/^/    /' >&2
  die "the server is not ready after $((attempt / 10)) s; the end of .run/server.log is above"
}

models=$DEPS/models
deploy=(deploy efficientnet "$models/efficientnet_lite0.onnx" --labels "$models/imagenet_labels.json"
  --image-input resize=224,crop=0.875,mean=127,scale=0.0078125,layout=nchw --idle 3s)

# The same files with the same settings are not deployed again; the server still has to know the endpoint.
deploy_model() {
  local stamp=$RUN_DIR/efficientnet.deployed want
  want=$({ echo "${deploy[@]}"; cat "${deploy[2]}" "${deploy[4]}"; } | sha256sum)
  if [ "$(cat "$stamp" 2>/dev/null)" = "$want" ] && "$MAYFLY" get efficientnet >/dev/null 2>&1; then
    say "ok  efficientnet is deployed"
    return
  fi
  "$MAYFLY" "${deploy[@]}"
  echo "$want" >"$stamp"
}

instances() {
  curl -fsS --max-time 2 "$MAYFLY_SERVER/admin/v1/instances" |
    /usr/bin/python3 -c 'import json, sys; print(len(json.load(sys.stdin)["instances"]))'
}

wait_for_zero() {
  local attempt
  for attempt in $(seq 100); do
    [ "$(instances)" != 0 ] || return 0
    sleep 0.1
  done
  die "instances still run after $((attempt / 10)) s, although the model is idle; see .run/server.log"
}

verb setup build models
title "server"
start_server
title "deploy"
deploy_model
wait_for_zero
title "first request: no instance runs, so one is started for it"
"$MAYFLY" invoke efficientnet --image "$models/coffee.png"
title "second request: the instance is warm"
"$MAYFLY" invoke efficientnet --image "$models/coffee.png"
title "now"
"$MAYFLY" top --once
wait_for_zero
title "after 3 s without requests"
"$MAYFLY" top --once

title "try next"
say "  build/release/bin/mayfly invoke efficientnet --image ${models#"$ROOT"/}/chelsea.png"
say "  build/release/bin/mayfly top"
say "  build/release/bin/mayfly logs efficientnet"
say "and to end the server: ./dev stop"
