#!/usr/bin/env bash
# Serve the Dagster UI and the sandbox, and watch the catalogue, in the foreground until Ctrl-C; called by `make up`.
set -euo pipefail
cd "$(dirname "$0")/.."

export REFRESH_UPSTREAM=${REFRESH_UPSTREAM:-sandbox}

# REFRESH_UI_PORT and REFRESH_SANDBOX_PORT, from the environment or .env. Asked before anything is started, so that
# nothing is left half started where a port is taken; a sandbox that is served already is used.
ports=$(.venv/bin/python -m refresh_pipelines.cli.ports)
read -r ui_port sandbox_port start_sandbox <<<"$ports"
# Dagster posts what lies in $DAGSTER_HOME/logs whatever dagster.yaml says of telemetry, unless this is set.
export DAGSTER_DISABLE_TELEMETRY=yes

# Several processes that start on an empty folder at once race for its tables, and one of them dies.
# The folder printed is this one, or the one that REFRESH_DATA_DIR has moved history to.
DAGSTER_HOME=$(.venv/bin/python -m refresh_pipelines.orchestration.instance)
export DAGSTER_HOME

ui='' sandbox='' watcher=''
# Each step gives the servers ten seconds: the first lets them end their children, the others leave nothing behind,
# also where SIGINT is ignored (a background start) or a run is still in a server's process group.
stop() {
  trap '' INT TERM HUP
  set +e # all of it, also when the terminal is gone and nothing can be printed
  echo "Stopping ..."
  for group in $ui $sandbox $watcher; do kill -INT "$group" 2>/dev/null; done
  for signal in TERM KILL 0; do
    for _ in 1 2 3 4 5 6 7 8 9 10; do
      alive=''
      for group in $ui $sandbox $watcher; do kill -0 -- "-$group" 2>/dev/null && alive=yes; done
      [ -z "$alive" ] && return
      sleep 1
    done
    for group in $ui $sandbox $watcher; do kill -$signal -- "-$group" 2>/dev/null; done
  done
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

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
.venv/bin/dagster dev -w workspace.yaml -h 127.0.0.1 -p "$ui_port" &
ui=$!
set +m

echo "Dagster UI: http://127.0.0.1:$ui_port (Ctrl-C stops everything)"
# A wait for either of two processes, in the words of the bash that macOS has; `wait` lets a signal through at once.
while kill -0 "$ui" 2>/dev/null && { [ -z "$sandbox" ] || kill -0 "$sandbox" 2>/dev/null; }; do
  sleep 1 &
  wait $! || true
  # Not a server: without it everything runs on, and a change waits for "Reload" in the UI.
  if [ -n "$watcher" ] && ! kill -0 "$watcher" 2>/dev/null; then
    echo "The catalogue is no longer watched; start again, or reload in the UI after a change." >&2
    watcher=''
  fi
done
echo "A server has stopped; stopping the other." >&2
exit 1
