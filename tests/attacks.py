"""What strangers send to the public port: bytes as they are, and what is expected to come of them.

Every attack carries notices that would be good if they were believed (`GOOD`, under ids of its own), so that whatever
gets through shows in Kafka.
"""

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.shell.receiving import STATE, TENANT
from tests.shell.receiving import item as notice

MARK = "INJECTED"
SMUGGLED = "bad0bad0-0000-4000-8000-000000000000"
"""The call id of every notice that must not arrive although its `clientState` is right."""


@dataclass(frozen=True)
class Attack:
    """One connection's bytes. `statuses` are the answers allowed for its first request, 0 for none at all."""

    name: str
    sent: bytes
    reason: str
    """Label of `receiver_rejected_total` that must move, by one. `not_http` and `cut` stand for each other: whether a
    body's framing is seen to be wrong before its handler starts depends on how the bytes arrive.
    """
    statuses: tuple[int, ...] = (400,)
    stays_open: bool = False
    """Whether the peer must close its side for the site to be done with it."""


BODY = json.dumps({"value": [notice(SMUGGLED)]}).encode()


def post(*headers: str, body: bytes = BODY, target: str = "/notifications", version: str = "HTTP/1.1") -> bytes:
    """A request with the usual headers and these; `Content-Length` only where it is given."""
    lines = [f"POST {target} {version}", "Host: x", "Content-Type: application/json", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


def chunked(body: bytes = BODY) -> bytes:
    """The body as one chunk and the end."""
    return b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)


LENGTH = f"Content-Length: {len(BODY)}"
CLOSE = "Connection: close"
INNER = post(LENGTH)

FRAMING = (
    Attack("length and chunked", post(LENGTH, "Transfer-Encoding: chunked", body=chunked()), "not_http"),
    Attack(
        "chunked hides a request",
        post("Content-Length: 5", "Transfer-Encoding: chunked", body=b"0\r\n\r\n" + INNER),
        "not_http",
    ),
    Attack("two lengths that differ", post(LENGTH, "Content-Length: 0"), "not_http"),
    Attack("two lengths in one", post(f"Content-Length: {len(BODY)}, 0"), "not_http"),
    Attack("a negative length", post("Content-Length: -1"), "not_http"),
    Attack("a signed length", post(f"Content-Length: +{len(BODY)}"), "not_http"),
    Attack("a length in hex", post("Content-Length: 0x10"), "not_http"),
    Attack("a length of 30 digits", post("Content-Length: " + "9" * 30), "not_http"),
    Attack("an unknown encoding", post("Transfer-Encoding: xchunked", body=chunked()), "not_http"),
    Attack("gzip, then chunked", post("Transfer-Encoding: gzip, chunked", body=chunked()), "not_http"),
    Attack("nothing, then chunked", post("Transfer-Encoding: ,chunked", body=chunked()), "not_http"),
    Attack("an empty transfer coding", post("Transfer-Encoding:", LENGTH), "not_http"),
    Attack("chunked, then another", post("Transfer-Encoding: chunked, identity", body=chunked()), "not_http"),
    Attack(
        "a chunk size that overflows", post("Transfer-Encoding: chunked", body=b"F" * 20 + b"\r\n" + BODY), "not_http"
    ),
    Attack("a chunk size that is none", post("Transfer-Encoding: chunked", body=b"zz\r\n" + BODY), "not_http"),
    Attack("a chunk that is longer than said", post("Transfer-Encoding: chunked", body=b"1\r\n" + BODY), "not_http"),
    Attack("a space before the colon", post(f"Content-Length : {len(BODY)}"), "not_http"),
    Attack("a folded header", post(LENGTH, "X-A: b\r\n c: d"), "not_http"),
    Attack("a NUL in a header", post(LENGTH, "X-A: b\x00c"), "not_http"),
    Attack("bare line feeds", INNER.replace(b"\r\n", b"\n"), "not_http", (400, 202)),
    Attack("a bare carriage return", post(LENGTH, "X-A: b\rX-B: c"), "not_http"),
    Attack("a header of 20,000 characters", post(LENGTH, "X-A: " + "a" * 20_000), "not_http"),
    Attack("a thousand headers", post(LENGTH, *(f"X-{number}: a" for number in range(1000))), "not_http"),
    Attack("a path of 70,000 characters", post(LENGTH, target="/" + "a" * 70_000), "not_http"),
    Attack(
        "a handshake of 70,000 characters",
        post(LENGTH, target="/lifecycle?validationToken=" + "a" * 70_000),
        "not_http",
    ),
    Attack("HTTP of version 9.9", post(LENGTH, version="HTTP/9.9"), "not_http"),
    Attack("HTTP of version 0.9", b"GET /notifications\r\n", "unfinished", (0,), stays_open=True),
    Attack("a TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)), "not_http"),
    Attack("nothing but NUL", bytes(5000), "not_http"),
    Attack("HTTP/2 without asking", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(30), "not_http"),
    Attack("lines that look like a log", f'{{"level":"error","event":"{MARK}"}}\r\n'.encode() * 3, "not_http"),
    Attack("an expectation nobody knows", post(LENGTH, f"Expect: {MARK}", CLOSE), "not_http", (417,)),
    Attack("a body shorter than said", post(f"Content-Length: {len(BODY) + 10}"), "cut", (0, 400), stays_open=True),
    Attack("half a request", INNER[:60], "unfinished", (0,), stays_open=True),
)

MEANING = (
    Attack("a body too large, as said", post("Content-Length: 5000000000"), "too_large", (413,)),
    Attack(
        "a body too large, unsaid",
        post("Transfer-Encoding: chunked", body=chunked(b" " * 300_000)),
        "too_large",
        (413,),
    ),
    Attack(
        "a gzip bomb",
        post("Content-Encoding: gzip", "Content-Length: 200", body=gzip.compress(bytes(10**6))[:200]),
        "content_type",
        (415,),
    ),
    Attack(
        "a good body, gzip",
        post("Content-Encoding: gzip", f"Content-Length: {len(gzip.compress(BODY))}", body=gzip.compress(BODY)),
        "content_type",
        (415,),
    ),
    *(
        Attack(
            f"the encoding {first}, then {second}",
            post(f"Content-Encoding: {first}", f"Content-Encoding: {second}", LENGTH),
            "content_type",
            (415,),
        )
        for first, second in (("identity", "gzip"), ("gzip", "identity"), ("", "br"))
    ),
    Attack("another content type", INNER.replace(b"application/json", b"text/plain"), "content_type", (415,)),
    Attack("a form", INNER.replace(b"application/json", b"multipart/form-data; boundary=x"), "content_type", (415,)),
    *(
        Attack(f"{method} is not POST", INNER.replace(b"POST", method.encode(), 1), "method", (405,))
        for method in ("GET", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND")
    ),
    Attack("a method in lower case", INNER.replace(b"POST", b"post", 1), "not_http", (400, 405)),
    Attack("a method nobody knows", INNER.replace(b"POST", b"STEAL", 1), "not_http"),
    Attack("a tunnel", INNER.replace(b"POST /notifications", b"CONNECT evil.example:443", 1), "not_http"),
    *(
        Attack(f"the path {target}", post(LENGTH, target=target), "path", (404,))
        for target in (
            *("/", "/metrics", "/status", "/notifications/", "//notifications", "/NOTIFICATIONS", "/notifications%00"),
            *("/notifications/../metrics", "/%2e%2e/notifications", "/notifications;x=1", "/notifications%2f"),
            *("/notifications\\..", "http://evil.example/metrics", "/livez", "/.git/config", "/a?validationToken=x"),
        )
    ),
    Attack("the path *", post(LENGTH, target="*"), "not_http"),
    Attack(
        "JSON so wide that it is not read",
        post("Content-Length: 220012", body=b'{"value":0' + b"," * 220_001 + b"}"),
        "too_many",
        (413,),
    ),
    Attack("no JSON", post("Content-Length: 9", body=b'{"value":'), "not_json"),
    Attack(
        "JSON 100,000 deep", post("Content-Length: 200000", body=b"[" * 100_000 + b"]" * 100_000), "not_a_collection"
    ),
    Attack(
        "a value 50,000 deep",
        post("Content-Length: 100011", body=b'{"value":' + b"[" * 50_000 + b"]" * 50_000 + b"}}"),
        "not_json",
    ),
    Attack("no collection", post("Content-Length: 2", body=b"[]"), "not_a_collection"),
    Attack(
        "more items than are taken",
        post(f"Content-Length: {10 + 6 * 1001}", body=b'{"value":[' + b"12345," * 1001),
        "not_json",
    ),
    Attack(
        "wide JSON",
        post("Content-Length: 220012", body=b'{"value":[' + b",".join([b"0"] * 110_000) + b"] }"),
        "too_many",
        (413,),
    ),
    *(
        Attack(f"a genuine notice hidden by a later {name}", post(f"Content-Length: {len(body)}", body=body), reason)
        for name, body, reason in (
            ("value", BODY[:-1] + b',"value":[]}', "not_a_collection"),
            ("value in escapes", BODY[:-1] + b',"v\\u0061lue":[]}', "not_a_collection"),
            ("100 names", BODY[:-1] + b',"a\\"":0' * 100 + b"}", "not_a_collection"),
        )
    ),
    Attack(
        "a name that stands 10,000 times",
        post("Content-Length: 110012", body=b'{"value":0,' + b'"value":0,' * 11_000 + b"}"),
        "not_a_collection",
    ),
)

ODD_IDS: tuple[Any, ...] = (
    *(
        "",
        " ",
        "x",
        "..",
        "../../users",
        "%2e%2e",
        SMUGGLED + "/sessions",
        SMUGGLED + "?$expand=x",
        "{" + SMUGGLED + "}",
    ),
    *(SMUGGLED + "\x00", SMUGGLED + "\n", "\n" + SMUGGLED, SMUGGLED.replace("-", ""), SMUGGLED.replace("b", "\uff42")),
    *(10**400, -1, 1.5, True, None, [SMUGGLED], {"id": SMUGGLED}),
)
RESOURCES = (
    *(
        "users/1",
        "communications/calls/1",
        f"communications/callRecords/{SMUGGLED}/../../users",
        "communications/callRecords/..%2f",
    ),
    *(
        f"https://evil.example/communications/callRecords/{SMUGGLED}",
        f"//evil.example/communications/callRecords/{SMUGGLED}",
    ),
    *(
        f"communications/callRecords('{SMUGGLED}')/sessions",
        f"communications/callRecords/{SMUGGLED}#",
        f"communications\\callRecords\\{SMUGGLED}",
    ),
    f"communications/callRecords/{TENANT}",  # another id than resourceData's
)


def unentitled() -> Iterator[tuple[str, Any]]:
    """Items that must not come in, each with the reason they are counted under."""
    other = "bad0bad0-1111-4222-8333-444455556666"
    for state in (
        None,
        "",
        "forged",
        STATE[:-1],
        STATE + "=",
        STATE.swapcase(),
        " " + STATE,
        STATE + "\x00",
        [STATE],
        {},
        1,
        "é" * 200,
        "k1." + "A" * 43,
    ):
        yield "client_state", notice(SMUGGLED, clientState=state)
        yield "client_state", {**notice(SMUGGLED, clientState=state), "lifecycleEvent": "reauthorizationRequired"}
    for tenant in (
        None,
        "",
        other,
        TENANT + " ",
        "{" + TENANT + "}",
        TENANT.replace("c", "\u0441"),
        [TENANT],
        f"evil\r\n{MARK}",
    ):
        yield "tenant", notice(SMUGGLED, tenantId=tenant)
    for identifier in ODD_IDS:
        yield "call_id", notice(SMUGGLED, resource=None, resourceData={"id": identifier})
    for resource in RESOURCES:
        yield "resource", notice(SMUGGLED, resource=resource)
    for event in ("missed", MARK + "\n"):
        yield "malformed", {**notice(SMUGGLED), "lifecycleEvent": event, "subscriptionId": "../x"}
    for nonsense in (None, 0, "x", [], True, 1e308):
        yield "malformed", nonsense
