"""Right answers made wrong: links that lead elsewhere or in circles, collections left out, pages without items.

JSON documents in, JSON documents out; nothing here does I/O.
"""

from typing import Any
from urllib.parse import urlsplit, urlunsplit

NEXT_LINK = "nextLink"
COLLECTIONS = ("value", "sessions", "participants_v2")
EMPTY_MARK = "emulatorEmptyPage"

Document = dict[str, Any]


def with_foreign_links(document: Document, host: str) -> Document:
    """Every link to more leads to `host` (a name, or name and port), path and query as they were."""
    return {
        name: urlunsplit(urlsplit(value)._replace(netloc=host)) if name.endswith(NEXT_LINK) else value
        for name, value in document.items()
    }


def with_looping_link(document: Document, own_url: str) -> Document:
    """The page's link to more leads to the page itself."""
    return {**document, "@odata.nextLink": own_url}


def without_collections(document: Document) -> Document:
    """What was asked for is not there: `value` of a page, the expanded collections of a record, and their links."""
    return {
        name: value
        for name, value in document.items()
        if name not in COLLECTIONS and not name.endswith((NEXT_LINK, "nextlink"))
    }


def with_empty_page_first(document: Document, own_url: str, mark: int) -> Document:
    """A page without items, as OData allows; its link leads to the page that was asked for."""
    joint = "&" if "?" in own_url else "?"
    return {**document, "value": [], "@odata.nextLink": f"{own_url}{joint}{EMPTY_MARK}={mark}"}
