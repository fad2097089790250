"""Durations as Microsoft's SDKs write them, in Graph's own form.

The Python SDK writes a `timedelta` as `0:02:20.638930` or `1 day, 0:00:01`, the .NET one a `TimeSpan` as
`1.00:00:01.5`. Graph speaks ISO 8601 (graph-contract 7.8), and the SDKs read nothing else back.
"""

import re
from typing import Final

# Every Edm.Duration of the session's tree (graph-contract 7.3, 7.4).
DURATIONS: Final = frozenset(
    (
        "averageAudioNetworkJitter",
        "averageFreezeDuration",
        "averageJitter",
        "averageRoundTripTime",
        "maxAudioNetworkJitter",
        "maxJitter",
        "maxRoundTripTime",
        "rmsFreezeDuration",
        "roundTripTime",
    )
)
_TIMESPAN: Final = re.compile(
    r"(?:(?P<signed_days>-?\d+) days?, |(?P<sign>-)?(?:(?P<days>\d+)\.)?)"
    r"(?P<hours>\d{1,2}):(?P<minutes>\d\d):(?P<seconds>\d\d(?:\.\d+)?)"
)


def as_iso(text: str) -> str:
    """`0:00:00.036000` → `PT0.036S`; any other text stays as it is.

    Python writes minus one second as `-1 day, 23:59:59`: days count down, the clock counts up.
    """
    match = _TIMESPAN.fullmatch(text)
    if match is None:
        return text
    whole, _, fraction = match["seconds"].partition(".")
    scale = 10 ** len(fraction)
    clock = (int(match["hours"]) * 3600 + int(match["minutes"]) * 60 + int(whole)) * scale + int(fraction or 0)
    total = int(match["signed_days"] or match["days"] or 0) * 86_400 * scale + clock
    is_negative = (match["sign"] is not None) != (total < 0)
    seconds, rest = divmod(abs(total), scale)
    digits = f"{rest:0{len(fraction)}}".rstrip("0") if fraction else ""
    return f"{'-' if is_negative else ''}PT{seconds}{'.' + digits if digits else ''}S"
