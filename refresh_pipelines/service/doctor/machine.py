"""Traps of the machine: disk, rights, folders on a network, clock, and what killed processes have left."""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import NamedTuple

import psutil

from refresh_pipelines.heartbeat import life_of
from refresh_pipelines.service.doctor.traps import Finding, Place, trap
from refresh_pipelines.sweep import old_staging
from refresh_pipelines.worker import workers

LEAST_FREE = 1_000_000_000
_LATER = timedelta(minutes=2)
_NETWORK = ("nfs", "cifs", "smb", "afs", "9p", "fuse.sshfs", "fuse.s3fs", "fuse.rclone", "glusterfs", "ceph", "davfs")

DISK = trap(
    "disk-full", "wrong", "Less than 1 GB is free on the disk of the data folder; refreshes fail when it is full.",
    "Make room, or set REFRESH_DATA_DIR to a folder on another disk.",
)  # fmt: skip
NOT_WRITABLE = trap(
    "not-writable", "wrong", "Something in the data folder cannot be written by who runs this.",
    "Give the folder to the user of the service: `chown -R USER FOLDER`.",
)  # fmt: skip
FOREIGN = trap(
    "foreign-owner", "wrong", "Something in the data folder belongs to another user; one of the two cannot write it.",
    "Run all commands as one user, and give the folder to that one: `chown -R USER FOLDER`.",
)  # fmt: skip
SECRETS = trap(
    "readable-secrets", "advice", "Every user of the machine can read .env, where keys and passwords are.",
    "`chmod 600 .env`.",
)  # fmt: skip
NETWORK = trap(
    "network-folder", "wrong", "The data folder is on a network, where locks and SQLite files cannot be relied on.",
    "Set REFRESH_DATA_DIR to a folder on a disk of this machine.",
)  # fmt: skip
CLOCK = trap(
    "clock-set-back", "wrong", "Something was recorded at a time that is still to come: the clock was set back.",
    "Set the clock (`timedatectl`); until it has caught up, ticks may be left out.",
)  # fmt: skip
DEAD = trap(
    "dead-run", "wrong", "The process of a run was killed, and nobody has ended the run yet.",
    "Any command does: `refresh history`. If it happens again, see whether the machine runs out of memory.",
)  # fmt: skip
OWNER = trap(
    "stale-owner", "advice", "A lock's side file names a process that is gone. The lock itself is free.",
    "Nothing needs to be done; the next refresh writes it anew.",
)  # fmt: skip
STAGING = trap(
    "old-staging", "advice", "A folder of staged rows is older than a day and no run is at work on it.",
    "Nothing needs to be done: `refresh/retention` removes it within a day. Or delete the folder.",
)  # fmt: skip


class Mount(NamedTuple):
    """A file system and where it is mounted."""

    folder: str
    kind: str


def mounts() -> list[Mount]:
    """Return the file systems of this machine."""
    return [Mount(one.mountpoint, one.fstype) for one in psutil.disk_partitions(all=True)]


def disk(place: Place, least: int = LEAST_FREE) -> Iterator[Finding]:
    """Look whether there is room."""
    with suppress(FileNotFoundError):
        free = shutil.disk_usage(place.settings.data_dir).free
        if free < least:
            yield Finding(DISK, f"{free / 1e9:.1f} GB free at {place.settings.data_dir}")


def rights(place: Place) -> Iterator[Finding]:
    """Look who may write the data folder and who may read the keys."""
    folder = place.settings.data_dir
    for path in [folder, *sorted(folder.glob("*"))] if folder.exists() else []:
        with suppress(FileNotFoundError):
            owner = path.stat().st_uid
            if not os.access(path, os.W_OK):
                yield Finding(NOT_WRITABLE, str(path))
            elif owner != os.geteuid():
                yield Finding(FOREIGN, f"{path} belongs to user {owner}, this is user {os.geteuid()}")
    keys = place.settings.root / ".env"
    if keys.exists() and keys.stat().st_mode & stat.S_IROTH:
        yield Finding(SECRETS, f"{keys} has mode {stat.S_IMODE(keys.stat().st_mode):o}")


def file_system(place: Place, read: Callable[[], Sequence[Mount]] = mounts) -> Iterator[Finding]:
    """Look whether the data folder is on a disk of this machine."""
    folder = place.settings.data_dir
    above = [mount for mount in read() if folder.is_relative_to(mount.folder)]
    nearest = max(above, key=lambda mount: len(mount.folder), default=None)
    if nearest and nearest.kind.lower().startswith(_NETWORK):
        yield Finding(NETWORK, f"{folder} is on {nearest.kind}, mounted at {nearest.folder}")


def clock(place: Place) -> Iterator[Finding]:
    """Look whether anything is known from a time to come."""
    beat = life_of(place.settings.data_dir).at
    known = {"life sign of the daemon": beat, "run": place.health.newest_run if place.health else None}
    for what, at in known.items():
        if at and at - place.now > _LATER:
            yield Finding(CLOCK, f"the newest {what} is of {at:%Y-%m-%d %H:%M:%S} UTC, now is {place.now:%H:%M:%S}")


def leavings(place: Place) -> Iterator[Finding]:
    """Look for what killed processes have left."""
    folder = place.settings.data_dir
    found = workers(folder)
    for one in found:
        if not one.alive:
            yield Finding(DEAD, f"run {one.run_id[:8]}, process {one.pid}")
    for path in sorted(folder.rglob("*.lock.owner")):
        with suppress(OSError, ValueError, KeyError):
            said = json.loads(path.read_text())
            if not psutil.pid_exists(int(said["pid"])):
                yield Finding(OWNER, f"{path.name} names PID {said['pid']} since {said['since']}")
    for staged in old_staging(folder, place.now):
        yield Finding(STAGING, str(staged))
