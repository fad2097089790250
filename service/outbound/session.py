"""Shell: how this program asks others over HTTP: the trust, patience and name that all requests share."""

import ssl
from typing import Final

import aiohttp

from service import __version__
from service.errors import UserError

# More than the lanes of one process ask at once: one that waited for a connection would be counted before it starts.
CONNECTIONS: Final = 256


def http_session(ca_file: str = "") -> aiohttp.ClientSession:
    """The process's one session to Graph and the login; the caller closes it. UserError for an unusable `ca_file`.

    No cookies: a gateway's would pin all requests to one place. No proxies or passwords from the environment.
    """
    trust = _trust(ca_file)
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=CONNECTIONS, ttl_dns_cache=60, ssl=trust or True),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": f"callstream/{__version__}"},
        timeout=aiohttp.ClientTimeout(total=60, sock_connect=10),
        trust_env=False,
    )


def _trust(ca_file: str) -> ssl.SSLContext | None:
    """The system's certificate authorities and those of the file; None for the system's alone."""
    if not ca_file:
        return None
    context = ssl.create_default_context()
    try:
        context.load_verify_locations(cafile=ca_file)
    except (OSError, ssl.SSLError) as exc:
        why = "holds no PEM certificate" if isinstance(exc, ssl.SSLError) else f"cannot be read ({exc.strerror})"
        raise UserError(f"Setting graph.ca_file: {ca_file} {why}.") from None
    return context
