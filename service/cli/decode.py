"""`callstream decode`: a record as Graph sends it, on a file or on standard input, into what would be published."""

import re
import sys
from pathlib import Path

from service.errors import NotACallRecord, UserError
from service.record.decode import OddValues, decode_record
from service.record.encode import EventEncoder, encode_summary
from service.record.flatten import Flattened, flatten
from service.record.model import CallRecord

NIL_TENANT = "00000000-0000-0000-0000-000000000000"

_GUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


def decode_command(file: str, tenant: str = NIL_TENANT, summary: bool = False) -> int:
    """Writes events (or the summary) to standard output, one JSON a line, and what was odd to standard error.

    `-` is standard input. Returns the exit code.
    """
    try:
        record, odd = _read(file, tenant)
    except UserError as error:
        print(f"callstream decode: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    _tell(record, odd)
    _write(flatten(tenant, record), summary)
    return 0


def _read(file: str, tenant: str) -> tuple[CallRecord, OddValues]:
    if not _GUID.fullmatch(tenant):
        raise UserError("--tenant must be a GUID, like 00000000-0000-0000-0000-000000000000.")
    name = "standard input" if file == "-" else file
    try:
        body = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except FileNotFoundError:
        raise UserError(f"There is no file {file}.") from None
    except IsADirectoryError:
        raise UserError(f"{file} is a folder; give the file that holds the call record.") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read: {getattr(error, 'strerror', None) or error}.") from None
    try:
        return decode_record(body, thorough=True)
    except NotACallRecord as error:
        raise UserError(f"{name} is no call record: {error}.") from None


def _tell(record: CallRecord, odd: OddValues) -> None:
    for value in odd:
        print(f"{value.path}: {value.kind}: {value.found}", file=sys.stderr)  # noqa: T201
    if more := odd.counts.total() - len(odd):
        print(f"and {more:,} more odd values", file=sys.stderr)  # noqa: T201
    links = {"sessions": record.sessions_next_link, "participants_v2": record.participants_next_link}
    for name, link in links.items():
        if link is not None:
            print(  # noqa: T201
                f"warning: this is not all of the record: there are further pages of {name} ({name}@odata.nextLink)",
                file=sys.stderr,
            )


def _write(flattened: Flattened, summary: bool) -> None:
    out = sys.stdout.buffer
    if summary:
        out.write(encode_summary(flattened.summary) + b"\n")
    else:
        encoder = EventEncoder()
        for event in flattened.events():
            out.write(encoder.encode(event) + b"\n")
    out.flush()
