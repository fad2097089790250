"""Shell: the first link: settings as `serve` reads and checks them. Opens the session that later links use."""

from collections.abc import Iterable

from service.app import check_roles
from service.doctor.case import Case
from service.doctor.finding import Look, broken, ok
from service.errors import UserError
from service.kafka.topics import Topics
from service.outbound.session import http_session
from service.settings import ROLES, load
from service.signin.clouds import endpoints

TODO = "Change that, then run `callstream doctor` again."


async def check(case: Case) -> Iterable[Look]:
    """One line that names the setting."""
    try:
        case.settings = load(case.environ, case.config)
        case.graph = endpoints(case.settings.graph)
        check_roles(case.settings, ROLES)
        session = http_session(case.settings.graph.ca_file)
    except UserError as exc:
        return [broken(str(exc), TODO)]
    case.topics = Topics.of(case.settings)
    case.http = await case.stack.enter_async_context(session)
    return [ok(_seen(case))]


def _seen(case: Case) -> str:
    settings = case.settings
    keys = sorted(int(number) for number in settings.client_state.keys)
    return (
        f"Cloud {settings.graph.cloud}, {_count(len(settings.tenants), 'tenant')} ({', '.join(settings.tenants)}), "
        f"{_count(len(keys), 'clientState key')} (newest {keys[-1]}), topics {settings.kafka.topic_prefix}.*."
    )


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" + ("" if number == 1 else "s")
