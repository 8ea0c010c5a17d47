#!/usr/bin/env bash
# Serve the Dagster UI, the API and the sandbox, and watch the catalogue, until Ctrl-C; called by `make up`.
# With PROFILE=postgres also PostgreSQL, for history and warehouse.
set -euo pipefail
cd "$(dirname "$0")/.."

export REFRESH_UPSTREAM=${REFRESH_UPSTREAM:-sandbox}

# REFRESH_UI_PORT, REFRESH_API_PORT and REFRESH_SANDBOX_PORT, from the environment or .env. Asked before anything is
# started, so that nothing is left half started where a port is taken; a sandbox that is served already is used.
ports=$(.venv/bin/python -m refresh_pipelines.cli.ports)
read -r ui_port sandbox_port start_sandbox api_port <<<"$ports"

ui='' sandbox='' watcher='' api='' database=''
# Each step gives the servers ten seconds: the first lets them end their children, the others leave nothing behind,
# also where SIGINT is ignored (a background start) or a run is still in a server's process group.
stop_servers() {
  for group in $ui $sandbox $watcher $api; do kill -INT "$group" 2>/dev/null; done
  for signal in TERM KILL 0; do
    for _ in 1 2 3 4 5 6 7 8 9 10; do
      alive=''
      for group in $ui $sandbox $watcher $api; do kill -0 -- "-$group" 2>/dev/null && alive=yes; done
      [ -z "$alive" ] && return
      sleep 1
    done
    for group in $ui $sandbox $watcher $api; do kill -$signal -- "-$group" 2>/dev/null; done
  done
}
stop() {
  trap '' INT TERM HUP
  set +e # all of it, also when the terminal is gone and nothing can be printed
  [ -z "$ui$sandbox$watcher$api$database" ] || echo "Stopping ..."
  stop_servers
  # Last: what has been stopped before writes its last words into it.
  [ -z "$database" ] || .venv/bin/python -m refresh_pipelines.service.embedded stop
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

case ${PROFILE:-} in
'') ;;
postgres)
  database=yes
  settings=$(.venv/bin/python -m refresh_pipelines.service.embedded start)
  if [ -n "$settings" ]; then
    echo "PostgreSQL runs in the data folder. Other terminals need this, or .env has it without \`export\`:"
    while IFS= read -r line; do
      export "$line"
      echo "  export '$line'"
    done <<<"$settings"
  else
    echo "REFRESH_INSTANCE and REFRESH_WAREHOUSE are set: PROFILE=postgres adds nothing."
  fi
  ;;
*)
  echo "PROFILE=$PROFILE: expected postgres" >&2
  exit 2
  ;;
esac

# Several processes that start on an empty folder at once race for its tables, and one of them dies.
# The folder printed is this one, or where REFRESH_DATA_DIR or REFRESH_INSTANCE have moved it; with history in
# PostgreSQL a second line has its address as Dagster needs it.
history=$(.venv/bin/python -m refresh_pipelines.orchestration.instance)
DAGSTER_HOME=$(head -n 1 <<<"$history")
export DAGSTER_HOME
REFRESH_INSTANCE=$(tail -n +2 <<<"$history")
if [ -n "$REFRESH_INSTANCE" ]; then export REFRESH_INSTANCE; else unset REFRESH_INSTANCE; fi
# Dagster posts what lies in $DAGSTER_HOME/logs whatever dagster.yaml says of telemetry, unless this is set.
export DAGSTER_DISABLE_TELEMETRY=yes

# Job control gives each server a process group of its own: Ctrl-C reaches this script alone, which then tells each
# server once. Without it bash starts background processes deaf to SIGINT, and Dagster then ignores SIGTERM with it.
set -m
# It recommends `dg dev`, which is not installed.
export PYTHONWARNINGS="${PYTHONWARNINGS:+$PYTHONWARNINGS,}ignore:Function \`dev_command\` is superseded"
if [ "$start_sandbox" = yes ]; then
  REFRESH_SANDBOX_PORT=$sandbox_port .venv/bin/refresh sandbox &
  sandbox=$!
fi
# Before the definitions are loaded, so that no change falls between what they read and what it compares with.
.venv/bin/python -m refresh_pipelines.cli.watch "$ui_port" &
watcher=$!
.venv/bin/refresh api --port "$api_port" >/dev/null &
api=$!
# Runs that are forked from a template (REFRESH_LAUNCHER) are in no group of ours, and end when this script has.
export _REFRESH_RUNS_END_WITH=$$
.venv/bin/dagster dev -w workspace.yaml -h 127.0.0.1 -p "$ui_port" &
ui=$!
set +m

echo "Dagster UI: http://127.0.0.1:$ui_port, status page: http://127.0.0.1:$api_port (Ctrl-C stops everything)"
# A wait for either of two processes, in the words of the bash that macOS has; `wait` lets a signal through at once.
while kill -0 "$ui" 2>/dev/null && { [ -z "$sandbox" ] || kill -0 "$sandbox" 2>/dev/null; }; do
  sleep 1 &
  wait $! || true
  # Not a server: without it everything runs on, and a change waits for "Reload" in the UI.
  if [ -n "$watcher" ] && ! kill -0 "$watcher" 2>/dev/null; then
    echo "The catalogue is no longer watched; start again, or reload in the UI after a change." >&2
    watcher=''
  fi
  if [ -n "$api" ] && ! kill -0 "$api" 2>/dev/null; then
    echo "The API has ended; the rest goes on. \`refresh api\` starts it again." >&2
    api=''
  fi
done
echo "A server has stopped; stopping the other." >&2
exit 1
