"""What a session was measured on: machine and versions, for the head of its table."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

_SHOWN = ("dagster", "duckdb", "pyarrow", "psycopg", "dlt", "ingestr", "sling")
_ASK = f"""
import importlib.metadata as m, json, platform
found = {{"python": platform.python_version()}}
for name in {_SHOWN!r}:
    try: found[name] = m.version(name)
    except m.PackageNotFoundError: pass
print(json.dumps(found))
"""


def machine() -> dict[str, Any]:
    """Return processor, cores that this process may use, memory and system."""
    return {
        "cpu": _model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1024**3, 1),
        "system": f"{platform.system()} {platform.release()}",
        "load_before": round(os.getloadavg()[0], 2),
    }


def _model() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def stolen_seconds() -> float:
    """Return the CPU seconds that the hypervisor has kept from this machine since it started; 0 where nobody counts."""
    with suppress(OSError, ValueError, IndexError):
        steal = int(Path("/proc/stat").read_text().split()[8])
        return steal / os.sysconf("SC_CLK_TCK")
    return 0.0


def versions(peers: Path) -> dict[str, dict[str, str]]:
    """Return the versions of what matters in our environment and in the peers', which is left out where it is not."""
    import sys  # noqa: PLC0415

    found = {"own": _installed(Path(sys.executable))}
    python = peers / "bin" / "python"
    if python.exists():
        found["peers"] = _installed(python)
    return found


def _installed(python: Path) -> dict[str, str]:
    done = subprocess.run([python, "-c", _ASK], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)
