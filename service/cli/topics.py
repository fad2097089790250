"""`callstream topics`: creates or checks the topics, says what differs; or the ACLs that they need."""

import re
from pathlib import Path

import typer
from aiokafka.admin import AIOKafkaAdminClient

from service.cli.common import answering, quiet_kafka, settings_of
from service.errors import UserError
from service.kafka.connect import client_options, close
from service.kafka.rights import CREATE, LETTERS, as_command, merged, rights_of
from service.kafka.topics import TopicReport, Topics, ensure
from service.settings import ROLES, Kafka


async def topics_command(check: bool, config: Path | None) -> int:
    """Prints a line for each topic; 1 when something differs and nothing may be changed, else 0."""
    settings = settings_of(config)
    quiet_kafka()
    topics = Topics.of(settings)
    report = await asked_once(settings.kafka, topics, create=not check)
    differing = {difference.topic: difference for difference in report.differences}
    for spec in topics.specs(settings.kafka.partitions):
        if spec.name in differing:
            said = str(differing[spec.name].what)
        elif spec.name in report.created:
            said = f"created, {_partitions(spec.partitions)}"
        else:
            said = f"ok, {_partitions(spec.partitions)}"
        typer.echo(f"{spec.name:40} {said}")
    return 1 if differing else 0


def acls_command(principal: str, roles: str, config: Path | None) -> int:
    """Prints what `kafka-acls.sh` is to be told, a line each; `UserError` for what is no principal or role."""
    if not re.fullmatch(r"[A-Za-z]+:\S+", principal):
        raise UserError(f"--acls takes a principal such as User:callstream, not {principal!r}.")
    settings = settings_of(config)
    chosen = [role.strip() for role in roles.split(",")]
    if settings.kafka.create_topics:
        chosen.append(CREATE)
    topics = Topics.of(settings)
    try:
        rights = merged(right for role in chosen for right in rights_of(role, topics))
    except KeyError as unknown:
        raise UserError(f"Role {unknown} is unknown; roles are {', '.join((*ROLES, LETTERS))}.") from None
    for right in rights:
        typer.echo(as_command(right, principal))
    return 0


def _partitions(count: int) -> str:
    return "1 partition" if count == 1 else f"{count} partitions"


async def asked_once(kafka: Kafka, topics: Topics, *, create: bool) -> TopicReport:
    """What `ensure` reports; `UserError` when Kafka does not answer."""
    admin = AIOKafkaAdminClient(**client_options(kafka))
    try:
        async with answering(kafka):
            await admin.start()
            return await ensure(admin, topics, kafka, create=create)
    finally:
        await close(admin.close())
