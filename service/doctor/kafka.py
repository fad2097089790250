"""Kafka: the addresses of the settings, who answers there, and the addresses that the brokers give themselves."""

import re
from collections.abc import Iterable, Mapping

import msgspec
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from service.doctor import probe
from service.doctor.case import Case
from service.doctor.finding import Look, broken, ok, warn
from service.doctor.probe import Unreachable
from service.kafka.connect import client_options, close
from service.kafka.knock import reason_of
from service.settings import Kafka

# A doctor waits less long for one request than a service does.
REQUEST_SECONDS = 6.0
SERVERS = "CALLSTREAM_KAFKA__BOOTSTRAP_SERVERS"
NOT_KAFKA: Mapping[str, tuple[str, str]] = {
    "http": ("speaks HTTP, not Kafka's protocol", f"Name a broker's port in {SERVERS}."),
    "silent": (
        "takes the connection and does not answer",
        f"It is no Kafka, or one that is starting: wait, or correct {SERVERS}.",
    ),
    "other": ("does not speak Kafka's protocol", f"Name a broker's port in {SERVERS}."),
}


async def check(case: Case) -> Iterable[Look]:
    """Opens the admin client that the later links ask."""
    kafka = case.settings.kafka
    troubles = {address: trouble for address in addresses(kafka) if (trouble := await _trouble(kafka, address))}
    if len(troubles) == len(addresses(kafka)):
        return [next(iter(troubles.values()))]
    hasty = msgspec.structs.replace(kafka, request_timeout_seconds=min(kafka.request_timeout_seconds, REQUEST_SECONDS))
    admin = AIOKafkaAdminClient(**client_options(hasty))
    case.stack.push_async_callback(lambda: close(admin.close()))
    try:
        await admin.start()
    except (KafkaError, OSError, TimeoutError):
        return [in_words(await reason_of(kafka))]
    brokers = {int(one.nodeId): (str(one.host), int(one.port)) for one in admin._client.cluster.brokers()}
    case.admin, case.brokers = admin, len(brokers)
    looks = [await _advertised(brokers)]
    if looks[0].status == "ok" and troubles:
        seen = " ".join(trouble.seen for trouble in troubles.values())
        looks = [warn(f"{looks[0].seen} But: {seen}", f"Correct {SERVERS}, or see why that one is away.")]
    return looks


def addresses(kafka: Kafka) -> list[str]:
    """`host:port`, each once."""
    return list(dict.fromkeys(one.strip() for one in kafka.bootstrap_servers.split(",")))


async def _trouble(kafka: Kafka, address: str) -> Look | None:
    """Why an address cannot be used; None when it can, or when only a client with all its settings can tell."""
    host, _, port = address.rpartition(":")
    try:
        if kafka.security_protocol.endswith("SSL"):
            await probe.reach(host.strip("[]"), int(port))
            return None
        answer = await probe.ask(host.strip("[]"), int(port))
    except Unreachable as exc:
        todo = f"Start Kafka, open the way to it (network policy, firewall), or correct {SERVERS}."
        return broken(f"Nothing answers at {address}: {exc}.", todo)
    if answer not in NOT_KAFKA:
        return None
    what, todo = NOT_KAFKA[answer]
    return broken(f"What listens at {address} {what}.", todo)


def in_words(sentence: str) -> Look:
    """`Kafka at … seems to want TLS: set kafka.security_protocol to SSL.` → what was seen, what to do."""
    seen, _, todo = re.sub("[:;] ", "\n", sentence, count=1).partition("\n")
    return broken(
        f"{seen.rstrip('.')}.", todo[:1].upper() + todo[1:] or f"Compare {SERVERS} with the brokers' listeners."
    )


async def _advertised(brokers: Mapping[int, tuple[str, int]]) -> Look:
    """Clients go where brokers say that they are, whatever the first address was."""
    for number, (host, port) in brokers.items():
        try:
            await probe.reach(host, port)
        except Unreachable as exc:
            seen = f"Broker {number} calls itself {host}:{port}, and nothing answers there: {exc}."
            return broken(seen, "Set the broker's advertised.listeners to an address that this machine reaches.")
    count = len(brokers)
    return ok(f"{count} broker{'s' if count != 1 else ''} answer{'s' if count == 1 else ''}.")
