"""The error tree: every error this program raises on purpose, branched by what the caller should do.

    CallstreamError
    ├── Retriable            the same input may succeed later
    │   ├── RecordNotFound       404: not ready yet, or gone; the notification's age decides
    │   ├── GraphUnavailable     5xx, timeouts, cut or non-JSON bodies
    │   ├── TenantMustWait       429, 403, no token: nothing of this tenant can succeed now
    │   └── Unforeseen           a bug of ours, met on one record
    ├── SetAside             this input can never succeed: dead letter
    │   └── NotACallRecord
    └── UserError            a person must change something; one sentence that says what

`reason` is a metric label, a log field and a dead-letter header: short, from a closed set.
"""

from typing import ClassVar


class CallstreamError(Exception):
    """Root of every error this program raises on purpose."""

    reason: ClassVar[str] = "internal"


class Retriable(CallstreamError):
    """The same input may succeed later."""

    reason = "retriable"


class RecordNotFound(Retriable):
    """Graph answered 404 for a call record: not ready (up to 150 minutes) or gone (30 days), the same answer for both.

    Source: https://learn.microsoft.com/graph/callrecords-api-faq
    """

    reason = "not_found"


class GraphUnavailable(Retriable):
    """Graph did not give a usable answer: 5xx, timeout, connection lost, cut or non-JSON body, a refused link."""

    reason = "graph_unavailable"

    def __init__(self, message: str, retry_after_seconds: float = 0.0) -> None:
        """`retry_after_seconds`: how long Graph asked to be left alone with this record; 0 where it did not."""
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class TenantMustWait(Retriable):
    """Nothing of this tenant can succeed before `wait_seconds` have passed; not an attempt of any one record.

    `cause` is one of `throttled`, `forbidden`, `no_token`, `outage`.
    """

    reason = "tenant_waits"

    def __init__(self, cause: str, wait_seconds: float, detail: str = "") -> None:
        super().__init__(detail or cause)
        self.cause = cause
        self.wait_seconds = wait_seconds


class Unforeseen(Retriable):
    """A bug of ours, met on one record. Tried again, in case it passes, then set aside; the others go on."""

    reason = "internal"


class SetAside(CallstreamError):
    """This input can never succeed; it goes to the dead-letter topic with its reason."""

    reason = "set_aside"


class NotACallRecord(SetAside):
    """A body that is no call record (an object with `id` and `version`).

    `kind` is one of `empty`, `html`, `not_json`, `cut_json`, `odata_error`, `list`, `not_an_object`, `no_id`,
    `no_version`, `too_deep`, `too_many`. `code` is Graph's error code when `kind` is `odata_error`, else empty.
    """

    reason = "not_a_call_record"

    def __init__(self, kind: str, detail: str, code: str = "") -> None:
        super().__init__(detail)
        self.kind = kind
        self.code = code


class UserError(CallstreamError):
    """Something a person can put right. The message is one sentence that says what to change.

    `exit_code` is 2 for wrong use or wrong input, 1 when the answer is "no" or "broken".
    """

    reason = "user"

    def __init__(self, message: str, exit_code: int = 2) -> None:
        super().__init__(message)
        self.exit_code = exit_code
