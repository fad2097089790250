"""The wire to a subscriber: a handshake, or a POST of items, to HTTP or to an event hub (graph-contract 2, 3.3, 5)."""

import asyncio
import time
import uuid
from typing import Any
from urllib.parse import quote_plus

import aiohttp
import orjson
from yarl import URL

from service.clock import Clock
from service.emulator.hubs import SCHEME, Hubs
from service.emulator.options import DeliveryOptions
from service.emulator.refusals import Refusal

LARGEST_ANSWER_BYTES = 4096
HANDSHAKE_TEXT = "Validation: Testing client application reachability for subscription"


class Poster:
    """Says one thing to one URL and hears what comes back; what follows from that is decided elsewhere."""

    def __init__(self, options: DeliveryOptions, clock: Clock, session: aiohttp.ClientSession, hubs: Hubs) -> None:
        self._options = options
        self._clock = clock
        self._session = session
        self._hubs = hubs

    async def shake_hands(self, url: str) -> None:
        """Validates a notification URL; 400 when it does not echo the decoded token as text/plain in time."""
        if url.startswith(SCHEME):
            await self._hubs.probe(url)
            return
        token = f"{HANDSHAKE_TEXT} Request-Id: {uuid.uuid4()} 1+1%2B=/"
        joint = "&" if "?" in url else "?"
        # quote_plus, because Graph writes a space as `+` and a plus as `%2B`; `encoded` keeps yarl from changing it.
        target = URL(f"{url}{joint}validationToken={quote_plus(token)}", encoded=True)
        limit = self.real(self._options.handshake_seconds)
        headers = {"Content-Type": "text/plain; charset=utf-8"}
        try:
            async with (
                asyncio.timeout(limit),
                self._session.post(target, headers=headers, allow_redirects=False) as got,
            ):
                body = await got.content.read(LARGEST_ANSWER_BYTES)
                problem = _handshake_problem(got.status, got.content_type, body, token)
        except TimeoutError:
            problem = "Subscription validation request timed out."
        except aiohttp.ClientError as exc:
            problem = f"Subscription validation request failed: {type(exc).__name__}."
        if problem:
            raise Refusal(400, "ValidationError", problem)

    async def post(self, url: str, items: list[dict[str, Any]]) -> tuple[int, float]:
        """Status (0: no answer) and the machine's seconds it took; listens as long as a repeated attempt may take."""
        began = time.monotonic()
        if url.startswith(SCHEME):
            return (202 if await self._hubs.write(url, items) else 0), 0.0  # Graph judges no hub by its speed
        body = orjson.dumps({"value": items})
        headers = {"Content-Type": "application/json; charset=utf-8"}
        target = URL(url, encoded=True)
        try:
            async with (
                asyncio.timeout(self.real(self._options.retry_answer_seconds)),
                self._session.post(target, data=body, headers=headers, allow_redirects=False) as answer,
            ):
                return answer.status, time.monotonic() - began
        except (TimeoutError, aiohttp.ClientError):
            return 0, time.monotonic() - began

    def real(self, seconds: float) -> float:
        """The machine's seconds of a limit, never below the least."""
        return max(self._clock.real_seconds(seconds), self._options.least_real_seconds)


def _handshake_problem(status: int, content_type: str, body: bytes, token: str) -> str:
    """What is wrong with a handshake's answer, as Graph words it; empty when nothing is."""
    if status != 200:
        return f"Subscription validation request failed. HTTP status code is '{status}', must be 200."
    if content_type != "text/plain":
        return f"Subscription validation request failed. Content type is '{content_type}', must be 'text/plain'."
    if body != token.encode():
        return "Subscription validation request failed. The response body is not the decoded validation token."
    return ""
