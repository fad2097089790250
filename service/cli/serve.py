"""`callstream serve`: settings, logs, and the service until it is told to stop."""

from pathlib import Path

from service import app, logs
from service.cli.common import settings_of


async def serve_command(role: str, config: Path | None) -> int:
    """Runs the roles of the comma-separated list. `UserError` when settings or ports do not fit."""
    settings = settings_of(config)
    logs.set_up(settings.log)
    await app.serve(settings, [name.strip() for name in role.split(",") if name.strip()])
    return 0
