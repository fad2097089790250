"""Settings: `groups` and `kafka` what they are, `reading` where values come from, `checks` what must hold between them.

Everything is checked before anything opens; a mistake raises `UserError` with one sentence.
"""

from service.settings.checks import GUID, parse_delays
from service.settings.groups import (
    ROLES,
    Admin,
    ClientState,
    Credential,
    Graph,
    Keeper,
    Lanes,
    Log,
    Privacy,
    Raw,
    Receiver,
    Retry,
    Settings,
    Tenant,
    Treatment,
)
from service.settings.kafka import Connection, EventHub, Kafka
from service.settings.reading import CONFIG_FILE_VARIABLE, PREFIX, load
from service.settings.secret import Secret

__all__ = [
    "CONFIG_FILE_VARIABLE",
    "GUID",
    "PREFIX",
    "ROLES",
    "Admin",
    "ClientState",
    "Connection",
    "Credential",
    "EventHub",
    "Graph",
    "Kafka",
    "Keeper",
    "Lanes",
    "Log",
    "Privacy",
    "Raw",
    "Receiver",
    "Retry",
    "Secret",
    "Settings",
    "Tenant",
    "Treatment",
    "load",
    "parse_delays",
]
