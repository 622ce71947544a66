#!/bin/bash
# stop: ends the server that `./dev run` started. It answers what it has begun first: at most 30 s, we wait 35 s.
source "$(dirname "$0")/lib.sh"
[ ! -f "$RUN_DIR/server.pid" ] || need_root stop
if ! pid=$(server_pid); then
  rm -f "$RUN_DIR/server.pid"
  say "no server of this tree runs"
  exit 0
fi
# Not `kill -0`: where nobody reaps orphans (some containers) an ended server stays as a zombie, which has no /proc/PID/exe.
wait_for_end() {
  local attempt
  for attempt in $(seq 350); do
    server_pid >/dev/null || return 0
    sleep 0.1
  done
  echo "the server (pid $pid) still runs after 35 s; see .run/server.log, or end it with: kill -KILL $pid"
  return 1
}
kill -TERM "$pid"
step stop "end the server (pid $pid)" wait_for_end
rm -f "$RUN_DIR/server.pid"
