"""Connections that another thread can cut, so that a time limit also ends a wait for an upstream that says nothing.

A signal ends such a wait, but only the main thread gets signals. requests offers no way to a connection that is in use,
urllib3 a place to say what its pools are made of: `PoolManager.pool_classes_by_scheme`.
"""

from __future__ import annotations

import socket
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection

from refresh_pipelines.limit import interruptible


@contextmanager
def cut_off_when_over(session: requests.Session) -> Iterator[None]:
    """Have a time limit cut what a session asks inside; nothing on the main thread, whose waits a signal ends."""
    if threading.current_thread() is threading.main_thread():
        yield
        return
    adapter = CutOff()
    for scheme in ("http://", "https://"):
        session.mount(scheme, adapter)
    with interruptible(adapter.cut):
        yield


class CutOff(HTTPAdapter):
    """Sends as requests does; `cut` ends whatever goes on over its connections."""

    def __init__(self) -> None:
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        super().__init__()

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        """Make the pools, as requests asks for them."""
        super().init_poolmanager(*args, **options)
        self._watch(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        """Return the pools for a proxy, as requests asks for them."""
        manager = super().proxy_manager_for(proxy, **options)
        self._watch(manager)
        return manager

    def cut(self) -> None:
        """Shut all connections down; who waits at one has an error."""
        for one in list(self._sockets):
            with suppress(OSError):
                # Not that of a TLS socket, which takes away what the other thread reads with.
                socket.socket.shutdown(one, socket.SHUT_RDWR)

    def _watch(self, manager: PoolManager) -> None:
        sockets = self._sockets

        class Plain(HTTPConnection):
            def connect(self) -> None:
                super().connect()
                sockets.add(self.sock)

        class Secure(HTTPSConnection):
            def connect(self) -> None:
                super().connect()
                sockets.add(self.sock)

        class PlainPool(HTTPConnectionPool):
            ConnectionCls = Plain

        class SecurePool(HTTPSConnectionPool):
            ConnectionCls = Secure

        manager.pool_classes_by_scheme = {"http": PlainPool, "https": SecurePool}
