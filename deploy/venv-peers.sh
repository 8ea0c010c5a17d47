#!/usr/bin/env bash
# Make .venv-peers, what `make bench` compares with; called by the Makefile, safe to repeat.
set -euo pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-python3}
[ -x .venv-peers/bin/python ] || "$python" -m venv .venv-peers
echo "Installing the peers of the benchmarks into .venv-peers (once)"
.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check -r benchmarks/peers/requirements.txt
# Otherwise the first round would pay for compiling what later ones find compiled.
.venv-peers/bin/python -m compileall -q -j 0 .venv-peers/lib >/dev/null || true
