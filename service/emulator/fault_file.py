"""Scripted faults from a file: a JSON list of them, or TOML with a table `[[faults]]` for each."""

import tomllib
from pathlib import Path
from typing import Any

import orjson

from service.errors import UserError


def read_faults(path: Path) -> tuple[dict[str, Any], ...]:
    """What the file holds, in its order. `UserError` when it cannot be read or holds something else."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as exc:
        why = exc.strerror if isinstance(exc, OSError) else "it is no UTF-8 text"
        raise UserError(f"The faults in {path} cannot be read: {why}.") from None
    try:
        value = tomllib.loads(text) if path.suffix == ".toml" else orjson.loads(text)
    except RecursionError:
        raise UserError(f"The faults in {path} are nested too deep.") from None
    except ValueError as exc:  # neither form, or a number with more digits than Python reads
        form = "TOML" if path.suffix == ".toml" else "JSON"
        raise UserError(f"The faults in {path} are not {form}: {exc}.") from None
    faults = value.get("faults") if isinstance(value, dict) else value
    if not isinstance(faults, list) or not all(isinstance(one, dict) for one in faults):
        raise UserError(f"{path} must hold a list of faults, in TOML one table [[faults]] for each.")
    return tuple(faults)
