"""The validation handshake, made as Graph makes it, with both URLs (graph-contract 2), and who it is that answers."""

import ssl
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import quote_plus, urlsplit

import aiohttp
from yarl import URL

from service.doctor.case import Case, connection_text
from service.doctor.finding import Look, broken, ok, warn
from service.doctor.public_url import BY_HUB, trust

# Graph's limits (graph-contract 2, 3.2): it gives a handshake 10 s and calls an answer slow after 3 s.
LONGEST_SECONDS = 10.0
SLOW_SECONDS = 3.0
MOST_BYTES = 64 * 1024
OWN_SENTENCE = "Only POST is understood here."
PROXY_TODO = (
    "A proxy or ingress answers instead of callstream: let it forward POST with path and query unchanged, "
    "without a login, a redirect or a page of its own."
)


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    seconds: float

    @property
    def content_type(self) -> str:
        """Without its parameters, in lower case."""
        return self.headers.get("Content-Type", "").partition(";")[0].strip().lower()

    @property
    def is_ours(self) -> bool:
        """Whether callstream says so itself; a proxy may have taken the header away."""
        return self.headers.get("Server") == "callstream" or OWN_SENTENCE.encode() in self.body


async def check(case: Case) -> Iterable[Look]:
    """Both URLs; the first that is not right is told."""
    if case.settings.event_hub.hub:
        return [ok(BY_HUB)]
    wish = case.wish(next(iter(case.settings.tenants.values())))
    context: ssl.SSLContext | bool = trust(case) if case.public_url.scheme == "https" else True
    timeout = aiohttp.ClientTimeout(total=LONGEST_SECONDS + 2)
    seconds = 0.0
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=context), cookie_jar=aiohttp.DummyCookieJar(), timeout=timeout
    ) as http:
        for url in (wish.notification_url, wish.lifecycle_url):
            token = f"Validation: callstream doctor {uuid.uuid4()} + 100% a/b=c&d é"
            try:
                answer = await _post(http, f"{url}&validationToken={quote_plus(token)}")
            except TimeoutError:
                return [_silent(urlsplit(url).path)]
            except (aiohttp.ClientError, OSError) as exc:
                seen = f"{urlsplit(url).path} cannot be asked: {connection_text(exc)}."
                return [broken(seen, PROXY_TODO)]
            if (trouble := judge(urlsplit(url).path, answer, token)) is not None:
                return [trouble]
            seconds = max(seconds, answer.seconds)
        return [await _identified(http, wish.notification_url, seconds)]


async def _post(http: aiohttp.ClientSession, url: str, method: str = "POST") -> Answer:
    started = time.monotonic()
    headers = {"Content-Type": "text/plain; charset=utf-8"}
    async with http.request(method, URL(url, encoded=True), headers=headers, allow_redirects=False) as reply:
        body = await reply.content.read(MOST_BYTES)
        return Answer(reply.status, reply.headers.copy(), body, time.monotonic() - started)


async def _identified(http: aiohttp.ClientSession, url: str, seconds: float) -> Look:
    """Answered right, and by callstream? A GET tells: nothing else has its sentence."""
    seen = f"/notifications and /lifecycle answer the validation token, the slower in {seconds:.2f} s."
    try:
        answer = await _post(http, url, "GET")
    except (aiohttp.ClientError, OSError, TimeoutError):
        answer = Answer(0, {}, b"", 0.0)
    if answer.is_ours:
        return ok(seen)
    todo = "Nothing, if a proxy hides it; else see what public_url leads to: notifications would be lost there."
    return warn(f"{seen} Whether that is callstream cannot be seen (GET: {answer.status}).", todo)


def _silent(path: str) -> Look:
    todo = "See what stands between Graph and the receiver, and whether the receiver's process gets any CPU."
    return broken(f"{path} does not answer the validation token within {LONGEST_SECONDS:g} s.", todo)


def judge(path: str, answer: Answer, token: str) -> Look | None:
    """What is wrong with the answer to `token` as Graph judges it; None when nothing is."""
    kind = answer.content_type or "no content type"
    if answer.seconds > LONGEST_SECONDS:
        return _silent(path)
    if 300 <= answer.status < 400:
        target = answer.headers.get("Location", "nowhere")[:200]
        seen = f"{path} answers {answer.status}, a redirect to {target}, which Graph does not follow."
        return broken(seen, "Set receiver.public_url to where the redirect leads, or take it away." + _login(target))
    if answer.status in (502, 503, 504):
        seen = f"{path} answers {answer.status}: a proxy stands there and does not reach callstream."
        return broken(seen, "Point its backend at the receiver (receiver.port), and see that it runs.")
    if answer.status in (401, 403, 407):
        seen = (
            f"{path} answers {answer.status}: something in front of callstream asks for a login or blocks the request."
        )
        return broken(seen, "Let Graph pass without a login: the clientState tells its notifications from others.")
    if answer.status == 404:
        seen = f"{path} answers 404" + (" from callstream itself." if answer.is_ours else ".")
        todo = "Forward exactly /notifications and /lifecycle; a path in public_url must be stripped by the proxy."
        return broken(seen, todo)
    if answer.status != 200:
        return broken(f"{path} answers {answer.status} where Graph wants 200.", PROXY_TODO)
    if answer.body != token.encode():
        return _wrong_body(path, answer, token)
    if kind != "text/plain":
        return broken(f"{path} answers as {kind} where Graph wants text/plain.", PROXY_TODO)
    if answer.seconds > SLOW_SECONDS:
        seen = f"{path} answers right, but after {answer.seconds:.1f} s; from 3 s on Graph counts an answer as slow."
        return warn(seen, "Give the receiver CPU, or look at the proxy in front of it.")
    return None


def _wrong_body(path: str, answer: Answer, token: str) -> Look:
    if token[:20].encode() in answer.body or quote_plus(token)[:20].encode() in answer.body:
        return broken(f"{path} gives the validation token back changed.", PROXY_TODO)
    what = "a web page" if "html" in answer.content_type else "something else"
    return broken(f"{path} answers 200 with {what}, not with the validation token: another site is there.", PROXY_TODO)


def _login(target: str) -> str:
    return " It looks like a login page: Graph has none." if "login" in target.lower() or "oauth" in target else ""
