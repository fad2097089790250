"""What every group of settings is made of."""

from typing import Annotated

import msgspec

# Of seconds 11 days: what is longer, or infinite, is no timeout, and its milliseconds leave Kafka's 32 bits.
Positive = Annotated[float, msgspec.Meta(gt=0, le=1_000_000)]
Count = Annotated[int, msgspec.Meta(ge=1)]
Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]


class Group(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A group of settings; an unknown name is refused at start."""
