#!/usr/bin/env bash
# Write requirements.lock from pyproject.toml: one file for every supported Python and platform. Called by `make lock`.
set -euo pipefail
cd "$(dirname "$0")/.."

# uv, because pip can only resolve for the Python it runs on.
PATH=$PATH:$PWD/.venv/bin
command -v uv >/dev/null || { echo "make lock needs uv: .venv/bin/pip install uv" >&2; exit 1; }

new=$(mktemp)
trap 'rm -f "$new"' EXIT
# uv reads the pins that are in the file it writes and keeps those that still fit.
cp requirements.lock "$new" 2>/dev/null || true
uv pip compile --quiet --universal --python-version 3.10 --no-python-downloads --extra dev \
  --no-header --no-annotate --no-emit-index-url --no-emit-find-links "$@" pyproject.toml --output-file "$new" >/dev/null
{
  echo "# Pins for running and developing, for every Python from 3.10 on and every platform."
  echo "# Written by \`make lock\` from pyproject.toml: edit that file, not this one."
  grep -v '^#' "$new"
} >requirements.lock
echo "requirements.lock: $(grep -c '==' requirements.lock) pins"
