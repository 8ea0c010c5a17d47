"""A process that writes records into a log: `python -m … PATH MOST NAME COUNT`, ready when it has said so."""

from __future__ import annotations

import sys
from pathlib import Path

from refresh_pipelines.log.file import LogFile


def main(path, most, name, count):
    file = LogFile(Path(path), int(most))
    # Not by the workbench's means, which load the engine.
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.read()
    for number in range(int(count)):
        file.append(f"2026-11-22T12:00:00.000Z {name} {number} {'x' * (number % 400)}|")


if __name__ == "__main__":
    main(*sys.argv[1:])
