#!/usr/bin/env bash
# Make .venv with this package and its pinned dependencies in it; called by the Makefile, safe to repeat.
# With the argument `dev` also what the tests and checks need, with `postgres` PostgreSQL itself.
set -euo pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-python3}

fail() {
  echo "$1" >&2
  exit 1
}

usable() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; }

# python3 may be old, as Apple's is, beside a newer one with its number in the name.
if [ "$python" = python3 ] && ! usable python3; then
  for python in python3.13 python3.12 python3.11 python3.10 python3; do if usable "$python"; then break; fi; done
fi
"$python" -c '' 2>/dev/null || fail "Cannot run '$python'. Install Python 3.10 or newer, or name one: make PYTHON=/path/to/python"
version=$("$python" -c 'import platform; print(platform.python_version())')
usable "$python" || fail "'$python' is Python $version; 3.10 or newer is needed. Name one: make PYTHON=/path/to/python"

# An environment of another Python, or of one that is gone, cannot be repaired, only made again.
minor='import sys; print(sys.version_info[:2])'
if [ -e .venv ] && [ "$(.venv/bin/python -c "$minor" 2>/dev/null)" != "$("$python" -c "$minor")" ]; then rm -rf .venv; fi

if [ "${1:-}" = dev ]; then
  what='.[dev]'
  echo "Installing what tests and checks need (once)"
elif [ "${1:-}" = postgres ]; then
  what='.[postgres]'
  echo "Installing PostgreSQL into .venv (once)"
else
  what=.
  echo "Installing into .venv (Python $version; once, about a minute)"
fi

# The lock as constraints: it pins whatever is asked for, and asks for nothing itself.
if command -v uv >/dev/null; then
  [ -e .venv ] || uv venv --quiet --python "$python" .venv
  uv pip install --quiet --python .venv/bin/python --constraint requirements.lock -e "$what"
else
  # ensurepip is what Debian and Ubuntu keep in a package of its own; without it `venv` stops half-way.
  "$python" -c 'import venv, ensurepip' 2>/dev/null ||
    fail "'$python' lacks the venv module. On Debian and Ubuntu: apt install python${version%.*}-venv. Or install uv."
  # Run also over an unfinished environment: it puts back what is missing and leaves the rest.
  [ -n "${1:-}" ] || "$python" -m venv .venv
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-compile --constraint requirements.lock -e "$what"
  # pip compiles one file at a time; here each core takes part. A file that is no Python of this version is no error.
  .venv/bin/python -m compileall -q -j 0 .venv/lib >/dev/null || true
fi
