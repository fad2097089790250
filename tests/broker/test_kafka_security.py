"""TLS and SASL against a real broker: right ones work; each wrong one is one sentence that names what to change."""

import asyncio
import logging
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from structlog.testing import capture_logs

from service.errors import UserError
from service.kafka.connect import client_options
from service.kafka.delivery import open_publisher
from service.kafka.knock import reason_of
from service.kafka.records import KafkaRecord
from service.kafka.rights import rights_of
from service.kafka.scan import Stretch, open_admin, open_reader, scan
from service.kafka.security import check_security
from service.kafka.topics import Topics
from service.lanes.restore import committed_offsets
from service.notification import client_state
from service.settings import Kafka, Secret
from tests.broker.lane_bench import PARTITIONS, eventually, make_topics
from tests.broker.security_fixture import CLIENT_SECRET, USER, Secured, all_closed, allow, secured, token_endpoint
from tests.broker.test_reconcile import CONTOSO, world_of

__all__ = ["all_closed", "secured"]


@pytest.fixture(autouse=True)
def _closed(request: pytest.FixtureRequest) -> None:
    """Around every asynchronous test."""
    if request.node.get_closest_marker("asyncio"):
        request.getfixturevalue("all_closed")


Make = Callable[[Secured], Kafka]
RIGHT: dict[str, Make] = {
    "TLS": lambda it: it.kafka("TLS", "SSL"),
    "TLS with a client certificate": lambda it: it.kafka("MTLS", "SSL", certificate_file=it.file("client")),
    "SCRAM-SHA-512": lambda it: it.scram(),
    "SCRAM-SHA-256": lambda it: it.scram(sasl_mechanism="SCRAM-SHA-256"),
    "PLAIN": lambda it: it.scram(sasl_mechanism="PLAIN"),
    "SCRAM without TLS": lambda it: it.scram("OPEN", "SASL_PLAINTEXT"),
}
WRONG: dict[str, tuple[Make, str]] = {
    "password": (
        lambda it: it.scram(sasl_password=Secret("a wrong one")),
        "refused the user callstream: set kafka.sasl_username and kafka.sasl_password to an account that it knows.",
    ),
    "password, PLAIN": (
        lambda it: it.scram(sasl_mechanism="PLAIN", sasl_password=Secret("a wrong one")),
        "refused the user callstream: set kafka.sasl_username and kafka.sasl_password to an account that it knows.",
    ),
    "authority": (
        lambda it: it.kafka("TLS", "SSL", ca_file=it.file("stranger-ca")),
        "shows is not signed by anyone trusted here: "
        "set kafka.ca_file to the certificates of the authority that signed it.",
    ),
    "expired": (
        lambda it: it.kafka("EXPIRED", "SSL"),
        "shows has expired: the broker's must be renewed, or this machine's clock set.",
    ),
    "host name": (
        lambda it: it.kafka("ELSEWHERE", "SSL"),
        "shows is for another host: put a name into kafka.bootstrap_servers that it holds.",
    ),
    "plaintext to TLS": (
        lambda it: it.kafka("TLS", "PLAINTEXT"),
        "seems to want TLS: set kafka.security_protocol to SSL, "
        "or name another of its listeners in kafka.bootstrap_servers.",
    ),
    "TLS to plaintext": (
        lambda it: it.scram("OPEN"),
        "speaks no TLS: set kafka.security_protocol to SASL_PLAINTEXT, "
        "or name another of its listeners in kafka.bootstrap_servers.",
    ),
    "no sign-in": (
        lambda it: it.kafka("OPEN", "PLAINTEXT"),
        "seems to want a sign-in: set kafka.security_protocol to SASL_PLAINTEXT, "
        "or name another of its listeners in kafka.bootstrap_servers.",
    ),
    "sign-in to nobody": (
        lambda it: it.scram("TLS"),
        "wants no sign-in: set kafka.security_protocol to SSL, "
        "or name another of its listeners in kafka.bootstrap_servers.",
    ),
    "mechanism": (
        lambda it: it.scram("OPEN", "SASL_PLAINTEXT", sasl_mechanism="PLAIN"),
        "does not take PLAIN: set kafka.sasl_mechanism to one that this listener has enabled.",
    ),
    "no client certificate": (
        lambda it: it.kafka("MTLS", "SSL"),
        "wants a client certificate: set kafka.certificate_file (tlsv13 alert certificate required); "
        "it must be one that the brokers' authorities signed.",
    ),
    "a stranger's client certificate": (
        lambda it: it.kafka("MTLS", "SSL", certificate_file=it.file("stranger-client")),
        "does not take the certificate in kafka.certificate_file (sslv3 alert certificate unknown); "
        "it must be one that the brokers' authorities signed.",
    ),
}


async def brokers(kafka: Kafka) -> int:
    """How many brokers an admin client sees. Raises KafkaError."""
    admin = AIOKafkaAdminClient(**client_options(kafka))
    try:
        await admin.start()
        return len((await admin.describe_cluster())["brokers"])
    finally:
        await admin.close()


@pytest.mark.parametrize("kind", RIGHT)
async def test_right_ones_are_let_in(secured: Secured, kind: str) -> None:
    """Every protocol and mechanism, over one seam."""
    kafka = RIGHT[kind](secured)

    assert await brokers(kafka) == 1


@pytest.mark.parametrize("kind", WRONG)
async def test_wrong_ones_are_told_what_to_change(
    secured: Secured, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """One sentence that begins with the place; the client's own lines hold no password either."""
    make, sentence = WRONG[kind]
    kafka = make(secured)
    caplog.set_level(logging.INFO)
    with pytest.raises(KafkaError) as caught:
        await brokers(kafka)

    said = await reason_of(kafka)

    assert said.endswith(f"Kafka at {kafka.bootstrap_servers} {sentence}")
    assert "a wrong one" not in caplog.text + str(caught.value) + said + repr(kafka)


async def test_tokens_are_asked_for_once_and_taken(secured: Secured) -> None:
    """Client credentials at any OAuth login; the broker checks the signature, the issuer and the audience."""
    async with token_endpoint(secured.signing_key) as login:
        kafka = secured.oauth(login.url)
        for _ in range(3):
            assert await brokers(kafka) == 1

        assert login.asked == [{"grant_type": "client_credentials", "scope": "kafka/.default"}]


async def test_a_transaction_is_committed_and_read_with_tokens(secured: Secured, prefix: str) -> None:
    """As a lane publishes and a ledger is read: every connection, the coordinators' too, with what a worker may do."""
    plain = Kafka(bootstrap_servers=secured.cluster.bootstrap_servers, topic_prefix=prefix, partitions=1)
    topics = Topics(prefix)
    await make_topics(plain, topics)
    await allow(secured, USER, rights_of("work", topics))
    notices, ledger = TopicPartition(topics.notifications, 0), TopicPartition(topics.ledger, 0)
    async with token_endpoint(secured.signing_key) as login:
        kafka = secured.oauth(login.url, topic_prefix=prefix, partitions=1)
        async with open_publisher(kafka, topics, topics.transactional_id(0), topics.lane_group) as publisher:
            await publisher.commit([KafkaRecord(topics.ledger, 0, b"key", b"value", [])], {notices: 7})
        async with open_reader(kafka) as consumer:
            end = (await consumer.end_offsets([ledger]))[ledger]
            read = [one async for _, found in scan(consumer, Stretch(ledger, 0, end)) for one in found]
        async with open_admin(kafka) as admin:
            offsets = await committed_offsets(admin, topics, 0, topics.lane_group)

        assert [(one.key, one.value) for one in read] == [(b"key", b"value")]
        assert offsets == {notices: 7}
        assert login.asked == [{"grant_type": "client_credentials", "scope": "kafka/.default"}]


async def test_tokens_that_are_not_given_or_not_taken_are_explained(secured: Secured) -> None:
    """Each by what has to be changed; neither the secret nor the login's own text is shown."""
    async with token_endpoint(secured.signing_key) as login:
        right = secured.oauth(login.url)
        wrong = {
            "answered 401: invalid_client, look at kafka.oauth_client_id and kafka.oauth_client_secret.": (
                secured.oauth(login.url, oauth_client_secret=Secret("no"))
            ),
            "answered 400: invalid_scope, look at kafka.oauth_scope.": secured.oauth(login.url, oauth_scope="no"),
            "(ClientConnectorError): kafka.oauth_token_url says where it is.": secured.oauth("http://127.0.0.1:1/t"),
        }
        said = {sentence: await reason_of(kafka) for sentence, kafka in wrong.items()}
        login.claims["aud"] = "another"
        refused = await reason_of(right)
        login.fails_with = 503
        ill = await reason_of(secured.oauth(login.url, oauth_extensions="logicalCluster=lkc-1"))

        assert [one for one, text in said.items() if not text.endswith(one)] == [], said
        assert "refused the token: compare kafka.oauth_scope and the issuer" in refused
        with pytest.raises(KafkaError):  # and is no connection on which one is nobody
            await brokers(right)
        assert ill == "There is no token: the token endpoint answered 503."
        assert not any("secret text" in text or CLIENT_SECRET in text for text in (*said.values(), refused, ill))


async def test_a_renewed_certificate_needs_no_restart(secured: Secured, tmp_path: Path) -> None:
    """The next connection shows it; a file that is just being written changes nothing."""
    file = tmp_path / "client.pem"
    shutil.copy(secured.file("stranger-client"), file)
    kafka = secured.kafka("MTLS", "SSL", certificate_file=str(file))
    with pytest.raises(KafkaError):
        await brokers(kafka)

    shutil.copy(secured.file("client"), file)

    assert await brokers(kafka) == 1
    file.write_text("half a")
    assert await brokers(kafka) == 1


def test_files_that_can_never_work_are_refused_at_start(secured: Secured, tmp_path: Path) -> None:
    """Exit code 2, before anything is opened."""
    empty, locked = tmp_path / "empty.pem", tmp_path / "locked.pem"
    empty.write_text("")
    locked.write_text("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n")
    cases: list[tuple[dict[str, Any], str]] = [
        ({"ca_file": "/no/such/file"}, "kafka.ca_file names /no/such/file, which cannot be read: No such file"),
        ({"ca_file": str(empty)}, "which holds no PEM certificate."),
        ({"certificate_file": "/no/such/file"}, "kafka.certificate_file names /no/such/file, which cannot be read"),
        ({"certificate_file": str(empty)}, "from which no certificate with its private key can be read"),
        ({"certificate_file": str(locked)}, "cannot be opened: set kafka.certificate_password to its password."),
        (
            {"certificate_file": secured.file("client"), "certificate_key_file": secured.file("stranger-client")},
            "The key in kafka.certificate_key_file does not belong to the certificate in kafka.certificate_file.",
        ),
    ]
    for fields, sentence in cases:
        with pytest.raises(UserError) as caught:
            check_security(secured.kafka("TLS", "SSL", **fields))

        assert sentence in str(caught.value)
        assert caught.value.exit_code == 2


async def test_a_service_that_is_not_let_in_waits_and_says_why(secured: Secured, prefix: str) -> None:
    """As with Kafka away: it lives, is not ready, answers 503, and no part of it has ended."""
    wrong = secured.scram(topic_prefix=prefix, partitions=PARTITIONS, sasl_password=Secret("a wrong one"))
    sentence = f"Kafka at {wrong.bootstrap_servers} refused the user callstream: set kafka.sasl_username and "
    async with world_of(secured.cluster.bootstrap_servers, prefix) as world, aiohttp.ClientSession() as http:
        with capture_logs() as lines:
            async with world.serving(kafka=wrong) as service:

                async def explained() -> bool:
                    async with http.get(f"{service.admin_url}/readyz") as ready:
                        return ready.status == 503 and sentence in await ready.text()

                await eventually(explained, "readiness says why")
                async with http.get(f"{service.admin_url}/livez") as live:
                    assert live.status == 200
                notice = {"value": [{"tenantId": CONTOSO.id}]}
                url = f"{world.settings.receiver.public_url}/notifications"
                assert not any(task.done() for task in service.tasks)
                async with http.post(url, json=notice) as answer:
                    assert answer.status == 202  # refused, so there is nothing to store
                good = {
                    "tenantId": CONTOSO.id,
                    "clientState": client_state(1, b"a key of at least sixteen", CONTOSO.id),
                    "resource": "communications/callRecords/a1f3c7d2-0b64-4a0e-9d0f-6b5c1f0e7a33",
                }
                async with http.post(url, json={"value": [good]}) as answer:
                    assert answer.status == 503

        said = {str(line.get("cause") or line.get("reason")) for line in lines}
        assert sum(sentence in one for one in said) >= 1
        assert "a wrong one" not in str(lines)


async def test_commands_end_with_the_sentence(secured: Secured) -> None:
    """Exit code 1, one line, no traceback, whatever it asks of Kafka and by which client."""
    environ = {
        "CALLSTREAM_KAFKA__BOOTSTRAP_SERVERS": secured.cluster.servers("SCRAM"),
        "CALLSTREAM_KAFKA__SECURITY_PROTOCOL": "SASL_SSL",
        "CALLSTREAM_KAFKA__CA_FILE": secured.file("ca"),
        "CALLSTREAM_KAFKA__SASL_MECHANISM": "SCRAM-SHA-512",
        "CALLSTREAM_KAFKA__SASL_USERNAME": "callstream",
        "CALLSTREAM_KAFKA__SASL_PASSWORD": "a wrong one",
        "CALLSTREAM_TENANTS__CONTOSO__ID": "c0ffee00-1111-4222-8333-444455556666",
        "CALLSTREAM_TENANTS__CONTOSO__CLIENT_ID": "app",
    }
    commands = (["topics"], ["completeness"])
    found = await asyncio.gather(*(run(command, environ) for command in commands))

    for code, said in found:
        assert code == 1, said
        assert said.startswith("callstream: Kafka at 127.0.0.1:"), said
        assert "refused the user callstream" in said
        assert said.count("\n") == 1
        assert "a wrong one" not in said


async def run(command: list[str], environ: dict[str, str]) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "service", *command),
        env=os.environ | environ,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    return process.returncode, said.decode()
