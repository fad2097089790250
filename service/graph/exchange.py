"""Shell: one read of Graph until it is answered: budgets, token, tries in place, and what each answer means for whom.

The waits between tries are a loop of our own and not stamina's: stamina sleeps on the machine's time, ours are seconds
of the one clock, and a server's `Retry-After` goes before both.
"""

import random
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Generic, Literal, TypeVar

import aiohttp
from yarl import URL

from service import memory
from service.clock import Clock
from service.errors import GraphUnavailable, NotACallRecord, RecordNotFound, TenantMustWait
from service.graph.auth import Tokens
from service.graph.budget import RecordBudget, TenantGates
from service.graph.protocol import error_code, printable, read_headers, without_token
from service.graph.room import Stay
from service.metrics import Metrics
from service.outbound.answers import Kind, interpret
from service.outbound.body import BodyCut, BodyTooLarge, paused, read_body, real_timeout
from service.settings import Graph, Tenant

Value = TypeVar("Value")

FIRST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 5.0
# A record whose pages are arriving waits so long for its tenant in place, rather than begin again later.
SHORT_WAIT: Final = 10.0
MOST_ERROR_BYTES: Final = 64 * 1024
ERROR_BODY_SECONDS: Final = 2.0
NO_TIMEOUT: Final = aiohttp.ClientTimeout(total=None)
# Kinds of NotACallRecord that are a broken answer rather than another resource: asking again may help.
BROKEN: Final = ("empty", "html", "not_json", "cut_json", "odata_error")
OUTCOMES: Final = {
    "not_found": "not_found",
    "unauthorized": "unauthorized",
    "forbidden": "forbidden",
    "throttled": "throttled",
    "refused": "refused",
}
CONSENT: Final = "Graph answered 403: the application needs the permission CallRecords.Read.All, with admin consent."


class RecordTooLarge(BodyTooLarge):
    """All pages of one record together have more bytes than allowed."""

    setting = "graph.max_record_bytes"


class Rejected(GraphUnavailable):
    """Graph answered a 4xx that asking again will not change: an option, an id or a link it does not take."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


@dataclass(frozen=True)
class Subject:
    """On whose behalf and for which record is asked."""

    tenant_name: str
    tenant: Tenant
    call_id: str
    is_under_way: Callable[[], bool]
    """Whether pages of this record have arrived."""
    stay: Stay
    """What the answers' bodies are counted on; whoever asks lets them go."""

    @property
    def key(self) -> str:
        """The record, unique over tenants."""
        return f"{self.tenant.id}/{self.call_id}".lower()


@dataclass(frozen=True)
class Good(Generic[Value]):
    """A body, decoded."""

    value: Value


@dataclass(frozen=True)
class Bad:
    """Anything else. `kept_waiting`: it broke off after we had not read on, for want of room; Graph has not failed."""

    kind: Kind | Literal["kept_waiting"]
    outcome: str
    """Label of graph_seconds."""
    sentence: str
    status: int = 0
    retry_after_seconds: float | None = None
    error: NotACallRecord | None = None


@dataclass(frozen=True)
class _Ready:
    """What a request needs before it starts."""

    token: str
    is_probe: bool


@dataclass
class _Tries:
    failed: int = 0
    throttled: int = 0
    kept_waiting: int = 0
    has_new_token: bool = False


class Exchange:
    """Asks Graph for one thing at a time; safe to use from many tasks."""

    def __init__(
        self,
        http: aiohttp.ClientSession,
        tokens: Tokens,
        settings: Graph,
        gates: TenantGates,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._http = http
        self._tokens = tokens
        self._settings = settings
        self._gates = gates
        self._clock = clock
        self._metrics = metrics
        self._records = RecordBudget(settings.record_requests_per_20s, clock)

    async def get(self, subject: Subject, call: str, url: str, decode: Callable[[bytes], Value]) -> Value:
        """What `decode` makes of the body at `url`. `call` is the label of graph_seconds.

        `decode` may raise NotACallRecord and nothing else; a broken body is asked for again. Raises RecordNotFound,
        Rejected, NotACallRecord, TenantMustWait, GraphUnavailable. Cancelling it leaves nothing behind.
        """
        tries = _Tries()
        while True:
            ready = await self._ready(subject)
            answer = await self._ask(subject, call, url, ready, decode)
            if isinstance(answer, Good):
                return answer.value
            await self._after(answer, subject, ready.token, tries)

    async def _ready(self, subject: Subject) -> _Ready:
        """A token, and a place in both budgets. Raises TenantMustWait."""
        name = subject.tenant_name
        while True:
            try:
                self._gates.check(name)
                token = await self._token(subject)
                await self._records.window(subject.key).acquire()
                await self._gates.acquire(name)
                self._records.window(subject.key).starts_only_now()
                return _Ready(token, self._gates.start(name))
            except TenantMustWait as wait:
                if not subject.is_under_way() or wait.wait_seconds > SHORT_WAIT:
                    raise
                await self._clock.sleep(wait.wait_seconds)

    async def _token(self, subject: Subject) -> str:
        try:
            return await self._tokens.token(subject.tenant)
        except TenantMustWait as wait:
            self._gates.must_wait(subject.tenant_name, wait.cause, wait.wait_seconds, str(wait))
            raise

    async def _ask(
        self, subject: Subject, call: str, url: str, ready: _Ready, decode: Callable[[bytes], Value]
    ) -> Good[Value] | Bad:
        """One request, measured, and told to the tenant's gate."""
        started, held, waits = self._clock.now(), subject.stay.held, subject.stay.waits
        try:
            answer = await self._attempt(url, ready.token, subject.stay, decode)
            if isinstance(answer, Bad):
                subject.stay.give_back(held)
                if answer.kind == "failed" and subject.stay.waits > waits:
                    answer = replace(answer, kind="kept_waiting")
            self._count(subject, call, answer, self._clock.now() - started)
        finally:
            if ready.is_probe:
                self._gates.probe_ended(subject.tenant_name)
        return answer

    def _count(self, subject: Subject, call: str, answer: Good[Value] | Bad, seconds: float) -> None:
        outcome = "ok" if isinstance(answer, Good) else answer.outcome
        self._metrics.graph_seconds.labels(call, outcome).observe(seconds)
        kind = "ok" if isinstance(answer, Good) else answer.kind
        if kind == "failed":
            self._gates.failed(subject.tenant_name, subject.key)
        elif kind in ("ok", "not_found", "rejected", "not_a_record"):
            self._gates.succeeded(subject.tenant_name)

    async def _attempt(self, url: str, token: str, stay: Stay, decode: Callable[[bytes], Value]) -> Good[Value] | Bad:
        try:
            body = await self._body(url, token, stay)
        except TimeoutError:
            return Bad("failed", "timeout", "Graph did not answer in time.")
        except BodyTooLarge as exc:
            return Bad("refused", "refused", f"Graph's answer was refused: {exc} (setting {exc.setting}).")
        except (aiohttp.ClientPayloadError, BodyCut) as exc:
            return Bad("failed", "cut", f"Graph's answer was cut ({type(exc).__name__}).")
        except (aiohttp.ClientError, OSError) as exc:
            return Bad("failed", "error", f"Graph cannot be reached ({type(exc).__name__}).")
        if isinstance(body, Bad):
            return body
        try:
            memory.let_go(len(body))
            return Good(decode(body))
        except NotACallRecord as exc:
            if exc.kind in BROKEN:
                return Bad("failed", "cut" if exc.kind == "cut_json" else "error", f"Graph answered 200, but {exc}.")
            return Bad("not_a_record", "error", str(exc), error=exc)

    async def _body(self, url: str, token: str, stay: Stay) -> bytes | Bad:
        """One request. Raises TimeoutError, BodyTooLarge, BodyCut, aiohttp's errors and OSError."""
        headers = read_headers(token, str(uuid.uuid4()))
        async with (
            real_timeout(self._clock, self._settings.request_timeout_seconds) as timeout,
            self._http.get(
                # As it is: writing a next link anew would change what Graph made opaque.
                URL(url, encoded=True),
                headers=headers,
                allow_redirects=False,
                auto_decompress=False,
                timeout=NO_TIMEOUT,
            ) as response,
        ):
            meaning = interpret(response.status, response.headers, self._clock.now())
            if meaning.kind == "ok":

                async def took(size: int) -> None:
                    if stay.held + size > (most := self._settings.max_record_bytes):
                        raise RecordTooLarge(f"the pages of the record are larger than {most} bytes")
                    if not stay.takes(size):
                        with paused(timeout):
                            await stay.wait(size)

                return without_token(await read_body(response, self._settings.max_body_bytes, took), token)
            sentence = await _sentence(response, self._clock)
            outcome = OUTCOMES.get(meaning.kind, "error")
            return Bad(meaning.kind, outcome, sentence, response.status, meaning.retry_after_seconds)

    async def _after(self, bad: Bad, subject: Subject, token: str, tries: _Tries) -> None:
        """Raises what the caller has to know; returns when the same request should be made once more."""
        match bad.kind:
            case "not_found":
                raise RecordNotFound(bad.sentence)
            case "rejected":
                raise Rejected(bad.status, bad.sentence)
            case "not_a_record" if bad.error is not None:
                raise bad.error
            case "unauthorized":
                self._renew_token(bad, subject, token, tries)
            case "forbidden":
                # What is granted stands in the token: one from before the consent is refused until it ends.
                self._tokens.invalidate(subject.tenant, token)
                raise self._must_wait(subject, "forbidden", None, CONSENT)
            case "throttled":
                seconds = None if bad.retry_after_seconds is None else max(1.0, bad.retry_after_seconds)
                error = self._must_wait(subject, "throttled", seconds, bad.sentence)
                tries.throttled += 1
                if tries.throttled >= self._settings.tries:
                    raise error
            case "failed":
                await self._pause(bad, subject, tries)
            case "kept_waiting" if tries.kept_waiting < self._settings.tries:
                tries.kept_waiting += 1
            case _:
                raise GraphUnavailable(bad.sentence)

    def _renew_token(self, bad: Bad, subject: Subject, token: str, tries: _Tries) -> None:
        """401: a new token and the same request, once."""
        self._tokens.invalidate(subject.tenant, token)
        if tries.has_new_token:
            raise self._must_wait(subject, "no_token", None, f"{bad.sentence} It refused a new token as well.")
        tries.has_new_token = True

    def _must_wait(self, subject: Subject, cause: str, seconds: float | None, sentence: str) -> TenantMustWait:
        wait = self._gates.must_wait(subject.tenant_name, cause, seconds, sentence)
        return TenantMustWait(cause, wait, sentence)

    async def _pause(self, bad: Bad, subject: Subject, tries: _Tries) -> None:
        """The growing, jittered wait before the next try.

        Where there is none, raises TenantMustWait if the failures have become the tenant's, which is no attempt of this
        record, else GraphUnavailable.
        """
        tries.failed += 1
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 3.0 ** (tries.failed - 1)) * random.uniform(0.5, 1.0)  # noqa: S311
        pause = bad.retry_after_seconds if bad.retry_after_seconds is not None else pause
        if tries.failed >= self._settings.tries or pause > LONGEST_PAUSE:
            self._gates.check(subject.tenant_name)
            raise GraphUnavailable(bad.sentence, bad.retry_after_seconds or 0.0)
        await self._clock.sleep(pause)


async def _sentence(response: aiohttp.ClientResponse, clock: Clock) -> str:
    """Status, code and request id: what Graph's support asks for. The message is for people and may hold anything.

    The status has said what to do already, so a body that does not come changes nothing.
    """
    try:
        async with real_timeout(clock, ERROR_BODY_SECONDS):
            code = error_code(await read_body(response, MOST_ERROR_BYTES))
    except (TimeoutError, BodyCut, BodyTooLarge, aiohttp.ClientError, OSError):
        code = ""
    request_id = printable(response.headers.get("request-id"))
    return (
        f"Graph answered {response.status}"
        + f" {code}".rstrip()
        + (f" (request-id {request_id})." if request_id else ".")
    )
