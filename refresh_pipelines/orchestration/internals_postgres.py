"""More of `internals`: Dagster's history in PostgreSQL. Watched by the same test.

Imported where history is in PostgreSQL only.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dagster as dg

from refresh_pipelines import log
from refresh_pipelines.orchestration.server import away
from refresh_pipelines.redact import redact
from refresh_pipelines.settings import Settings
from refresh_pipelines.warehouse.postgres_errors import REFUSED

if TYPE_CHECKING:
    import sqlalchemy
    from sqlalchemy.engine.interfaces import Dialect

# Between two tries to reach a server that is away.
_PAUSE = 1.0
_THEN = "What was loaded stays loaded, and the next refresh makes up for its event."


def hold_open(instance: dg.DagsterInstance, settings: Settings) -> None:
    """Have this instance keep its connections, and wait for a server that is away; nothing where there is none.

    Dagster connects anew for each statement, and gives up after ten seconds. A run that has loaded its rows should
    outlive that the server is started anew before it could say so; it waits as long as for the warehouse. Holds as
    long as the instance: a run writes its last events when our code has ended.
    """
    import sqlalchemy  # noqa: PLC0415 - half a second, which who only shows definitions need not spend

    stores: tuple[Any, ...] = (instance.event_log_storage, instance.run_storage)
    for store in stores:
        engine, url = getattr(store, "_engine", None), getattr(store, "postgres_url", None)
        if url and isinstance(engine, sqlalchemy.Engine) and isinstance(engine.pool, sqlalchemy.NullPool):
            store._engine = _engine(url, settings)


def _engine(url: str, settings: Settings) -> sqlalchemy.Engine:
    import sqlalchemy  # noqa: PLC0415

    # As Dagster's own for its webserver; one that was cut is found before it is used.
    engine = sqlalchemy.create_engine(
        url, isolation_level="AUTOCOMMIT", pool_size=1, max_overflow=-1, pool_pre_ping=True
    )
    sqlalchemy.event.listen(engine, "do_connect", _Patience(settings).connect)
    return engine


@dataclass
class _Patience:
    """Connects, and waits while the server is away. Having waited in vain, it does not wait again until it is back."""

    settings: Settings
    exhausted: bool = False

    def connect(self, dialect: Dialect, _record: object, words: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """Do what SQLAlchemy would do, again and again.

        Raises:
            WarehouseBusy: the server was away for all the time.
        """
        begun, waited, seconds = time.monotonic(), 0.0, self.settings.lock_timeout.total_seconds()
        driver: Any = dialect.loaded_dbapi
        while True:
            try:
                made = dialect.connect(*words, **options)
            except driver.OperationalError as error:
                if not waited:
                    self._say(f"waiting for the server of Dagster's history: {error}")
                waited = time.monotonic() - begun
                if self.exhausted or waited >= seconds or REFUSED.search(str(error)):
                    self.exhausted = True
                    # Not the driver's: of that Dagster would try again, and print each try.
                    raise away(self.settings, str(error), _THEN) from None
                time.sleep(min(_PAUSE, seconds))
            else:
                self.exhausted = False
                if waited:
                    self._say(f"the server of Dagster's history is back after {waited:.0f} s")
                return made

    def _say(self, text: str) -> None:
        log.event("log", redact(" ".join(text.split()))[:300], level="warning", logger=__name__)
