"""What holds for every test: no network beyond this machine, no settings of the person who runs it."""

from __future__ import annotations

import gc
import os
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest
from filelock import FileLock

if TYPE_CHECKING:
    from refresh_pipelines_tests.command_home import Home
    from refresh_pipelines_tests.dagster_bench import Bench
    from refresh_pipelines_tests.postgres import Server

hypothesis.settings.register_profile("local", deadline=None, max_examples=30)
# The same examples in every run, so that a failure comes from the change and not from the draw.
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, max_examples=30)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "local")

# A shell starts background jobs deaf to SIGINT, and every process a test starts and interrupts would be deaf as well.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Some machines set it, users do not: every process a test starts would compile all modules anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Tests make and delete tens of thousands of small files, and databases that sync each step to the disk.
_MEMORY = Path("/dev/shm")
_ENOUGH = 4 * 1024**3

_LOOPBACK = {"localhost", "::1", "0.0.0.0", "::", ""}
_refused: list[str] = []


class NetworkRefused(RuntimeError):
    """A test reached for another machine. Not an OSError: our code answers those as trouble of an upstream."""


def _refuse_network(event: str, args: tuple[object, ...]) -> None:
    # An audit hook sees every Python socket, in any thread or library, and leaves sockets themselves alone: servers
    # on loopback, multiprocessing and asyncio work as always. It does not reach into child processes or C libraries.
    if event in {"socket.connect", "socket.sendto"}:
        address = args[1]
        host = address[0] if isinstance(address, tuple) else ""  # anything else is the path of a Unix socket
    elif event in {"socket.getaddrinfo", "socket.gethostbyname"}:
        host = args[0]
    else:
        return
    name = host.decode() if isinstance(host, bytes) else str(host or "")
    if name not in _LOOPBACK and not name.startswith("127."):
        _refused.append(f"{event} {name}")
        raise NetworkRefused(f"Tests do not leave this machine: {event} to {name!r}")


sys.addaudithook(_refuse_network)


def pytest_collection_finish() -> None:
    """Have garbage collected more rarely: with all of Dagster loaded each full look takes most of a second."""
    gc.set_threshold(50_000, 20, 100)


@pytest.fixture(autouse=True)
def refused_connections() -> Iterator[list[str]]:
    """Fail a test that reached for the network, also where the code under test swallowed the refusal."""
    _refused.clear()
    yield _refused
    assert not _refused, f"reached for the network: {_refused}"


def _take_away_settings() -> None:
    for name in list(os.environ):
        if (
            name.startswith("REFRESH_")
            or name in {"DAGSTER_HOME", "FRED_API_KEY"}
            or name.lower() in {"http_proxy", "https_proxy", "all_proxy", "no_proxy"}
            or name in {"REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"}
        ):
            del os.environ[name]


@pytest.fixture(autouse=True)
def _clean_environment() -> Iterator[None]:
    """Take away settings and keys, and proxies, which would be asked for loopback addresses too.

    Afterwards again: a command that a test calls sets some for the processes it starts, and what is made once for all
    tests of a file is made before this.
    """
    _take_away_settings()
    yield
    _take_away_settings()


@pytest.fixture(autouse=True)
def _no_log() -> Iterator[None]:
    """Have no test write into the log that a command of another one has begun."""
    yield
    from refresh_pipelines import log  # noqa: PLC0415

    log.switch_off()


@pytest.fixture(scope="session")
def empty_history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the storage of a Dagster instance in which nothing has happened; all workers share it."""
    from refresh_pipelines_tests.dagster_bench import make_empty_history  # noqa: PLC0415 - imports Dagster

    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "history"
    with FileLock(folder.with_suffix(".lock")):
        if not folder.exists():
            new = own / "new history"  # a half one is nobody's
            new.mkdir()
            make_empty_history(new).rename(folder)
        return folder


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Server]:
    """Return a PostgreSQL server of this worker; it takes a second to make."""
    from refresh_pipelines_tests.postgres import Server  # noqa: PLC0415 - only who needs it has a driver loaded

    with tempfile.TemporaryDirectory(prefix="postgres-") as folder:
        server = Server(Path(folder))
        try:
            yield server
        finally:
            server.stop()


@pytest.fixture
def postgres(postgres_server: Server) -> Iterator[str]:
    """Return the URL of an empty database."""
    with postgres_server.database() as name:
        yield postgres_server.url(name)


@pytest.fixture(scope="session")
def empty_postgres_history(postgres_server: Server) -> Iterator[str]:
    """Return the name of a database with Dagster's tables, in which nothing has happened."""
    from dagster_postgres import DagsterPostgresStorage  # noqa: PLC0415

    from refresh_pipelines.postgres_url import for_dagster  # noqa: PLC0415

    with postgres_server.database() as name:
        DagsterPostgresStorage(for_dagster(postgres_server.url(name)))
        yield name


@pytest.fixture
def postgres_history(postgres_server: Server, empty_postgres_history: str) -> Iterator[str]:
    """Return the URL of a history in which nothing has happened, with a password that nobody asks for."""
    with postgres_server.database(empty_postgres_history) as name:
        yield postgres_server.url(name).replace("@", ":planted5ecret@")


@pytest.fixture
def bench(tmp_path: Path, empty_history: Path) -> Iterator[Bench]:
    """Return a place to run refreshes through Dagster."""
    from refresh_pipelines_tests.dagster_bench import Bench  # noqa: PLC0415 - imports Dagster

    with Bench(tmp_path, empty_history) as bench:
        yield bench


@pytest.fixture
def retrying(bench: Bench) -> Bench:
    """Return the bench with a fred_fx that tries twice, without a wait."""
    bench.edit("commodities/fred_fx", "freshness:", "retry: {attempts: 2, delay: 0s}\nfreshness:")
    return bench


@pytest.fixture
def home(tmp_path: Path, empty_history: Path) -> Iterator[Home]:
    """Return a root folder for commands that need Dagster."""
    from refresh_pipelines.sandbox import Sandbox  # noqa: PLC0415
    from refresh_pipelines.settings import SAMPLES  # noqa: PLC0415
    from refresh_pipelines_tests.command_home import Home  # noqa: PLC0415 - imports Dagster

    with Sandbox(SAMPLES) as sandbox:
        yield Home(tmp_path, empty_history, sandbox)


@pytest.fixture
def ran(record_property: Callable[[str, object], None]) -> Callable[[str, str], None]:
    """Return what counts a payload that ran, `own` or `recorded`, for the summary below."""
    return lambda source, kind: record_property("conformance", f"{source} {kind}")


# Minutes of waiting each: begun last, one of them would be what everybody waits for.
_LONGEST = (
    "test_soak_e2e.py", "test_herds_e2e.py", "test_failing_live.py", "test_daemon_ticks.py",
    "test_catalogue_changes.py", "test_e2e.py", "test_supervised.py", "test_stuck_e2e.py", "test_machine_trouble.py",
    "test_dead_host.py", "test_kill_matrix.py", "test_embedded_e2e.py", "test_first_start.py", "test_api_live.py",
)  # fmt: skip


def pytest_configure() -> None:
    """Keep the folders of tests in memory where there is plenty that programs may be started from."""
    _take_away_settings()
    # A forked child leaves alone what its parent had not collected: closing a DuckDB there waits for threads that only
    # the parent has, or crashes.
    os.register_at_fork(after_in_child=gc.freeze)
    if "PYTEST_DEBUG_TEMPROOT" not in os.environ and _MEMORY.is_dir() and os.access(_MEMORY, os.W_OK):
        room = os.statvfs(_MEMORY)
        if room.f_bavail * room.f_frsize >= _ENOUGH and not room.f_flag & os.ST_NOEXEC:
            os.environ["PYTEST_DEBUG_TEMPROOT"] = str(_MEMORY)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the longest files first; the others stay in their order."""
    rank = {name: number for number, name in enumerate(_LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.name, len(rank)))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many payloads the conformance tests ran, whichever worker ran them."""
    properties = (item for report in terminalreporter.stats.get("passed", []) for item in report.user_properties)
    counts = Counter(value for name, value in properties if name == "conformance")
    for source in sorted({value.split()[0] for value in counts}):
        own, recorded = counts[f"{source} own"], counts[f"{source} recorded"]
        terminalreporter.write_line(f"conformance: {source} {own} own, {recorded} recorded")
