"""What a guarded Kafka refuses: accounts and ACLs, at a real broker that has both."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.admin import CreateAclsRequest, DescribeAclsRequest

from service.embedded import Cluster, Listener, Security, embedded_kafka
from tests.doctor.page import check
from tests.doctor.scene import SECONDS, Scene
from tests.doctor.stand_ins import StandIn, stand_in
from tests.doctor.test_doctor_outside import is_broken

USER, PASSWORD = "callstream", "the-password-of-callstream"
TOPIC, GROUP, TRANSACTIONAL_ID = 2, 3, 5
READ, WRITE, DESCRIBE, DESCRIBE_CONFIGS = 3, 4, 8, 10
PREFIXED, ALLOW, ANY = 4, 3, 1


@pytest.fixture(scope="module")
def guarded(kafka_packages: None) -> Iterator[Cluster]:
    """A broker with accounts and ACLs; its plain listener is the administrator's."""
    accounts = Listener("ACCOUNTS", "SASL_PLAINTEXT", mechanisms=("PLAIN",))
    security = Security(listeners=[accounts], users={USER: PASSWORD}, authorizer=True)
    with asyncio.Runner() as runner:
        opened = embedded_kafka(security=security)
        cluster = runner.run(opened.__aenter__())
        try:
            yield cluster
        finally:
            runner.run(opened.__aexit__(None, None, None))


@asynccontextmanager
async def allowed(scene: Scene, cluster: Cluster, *rights: tuple[int, int]) -> AsyncIterator[dict[str, str | None]]:
    """Topics of which the account may do so much: (kind of resource, operation); the doctor's settings."""
    async with stand_in(scene, kafka=cluster.bootstrap_servers) as beside:
        await _allow(cluster, beside, rights)
        yield account(cluster, PASSWORD) | beside.changes


def account(cluster: Cluster, password: str) -> dict[str, str | None]:
    """Settings that sign in."""
    return {
        "kafka__bootstrap_servers": cluster.servers("ACCOUNTS"),
        "kafka__security_protocol": "SASL_PLAINTEXT",
        "kafka__sasl_username": USER,
        "kafka__sasl_password": password,
    }


async def _allow(cluster: Cluster, beside: StandIn, rights: tuple[tuple[int, int], ...]) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=cluster.bootstrap_servers)
    await admin.start()
    try:
        for kind, operation in rights:
            wish = CreateAclsRequest(kind, beside.topics.prefix, PREFIXED, f"User:{USER}", "*", operation, ALLOW)
            answer = await admin._send_request(wish)
            assert answer.creation_responses[0][0] == 0
        # The broker that will judge learns of them a moment after the one that has written them down.
        asked = DescribeAclsRequest(ANY, beside.topics.prefix, PREFIXED, None, None, ANY, ANY)
        async with asyncio.timeout(SECONDS):
            while _count(await admin._send_request(asked)) < len(rights):  # noqa: ASYNC110 - the broker tells nobody
                await asyncio.sleep(0.01)
    finally:
        await admin.close()


def _count(answer: Any) -> int:
    return sum(len(acls) for *_, acls in answer.resources)


SEES = ((TOPIC, DESCRIBE), (TOPIC, DESCRIBE_CONFIGS))
WRITES = (*SEES, (TOPIC, READ), (TOPIC, WRITE))
JOINS = (*WRITES, (GROUP, READ))
ALL = (*JOINS, (TRANSACTIONAL_ID, WRITE))
REFUSALS = (
    ("An account that may see no topic", (), "topics", "does not let this client see callrecords.notifications"),
    ("An account that may see topics and no more", SEES, "transactions", "refuses Read and Write on the topic"),
    ("An account that may write, and join no group", WRITES, "transactions", "refuses Read on the group"),
    ("An account without transactional ids", JOINS, "transactions", "refuses the transactional id"),
)


@pytest.mark.parametrize(("set_up", "rights", "link", "named"), REFUSALS, ids=[one[0] for one in REFUSALS])
async def test_a_missing_acl_is_named(
    scene: Scene, guarded: Cluster, set_up: str, rights: tuple[tuple[int, int], ...], link: str, named: str
) -> None:
    """With the whole list of those that are needed."""
    async with allowed(scene, guarded, *rights) as changes:
        prefix = str(changes["kafka__topic_prefix"])
        found = await scene.first(**changes)

    is_broken(found, link, named.replace("callrecords", prefix))
    assert f"topics {prefix}.*" in found.todo
    check(set_up, found)


async def test_with_all_acls_nothing_is_refused(scene: Scene, guarded: Cluster) -> None:
    """Those that docs/doctor.md lists suffice for everything that is looked at."""
    async with allowed(scene, guarded, *ALL) as changes, asyncio.timeout(SECONDS):
        found = await scene.walk(**changes)

    assert [one for one in found if one.status not in ("ok", "skipped")] == []


async def test_a_wrong_password_is_named(scene: Scene, guarded: Cluster) -> None:
    """And not shown."""
    found = await scene.first(**account(guarded, "a-wrong-one"))

    is_broken(found, "kafka", f"refused the user {USER}")
    assert "a-wrong-one" not in found.seen + found.todo
    check("A password that Kafka does not know", found)


async def test_an_account_that_is_missing_in_the_settings_is_named(scene: Scene, guarded: Cluster) -> None:
    """The listener wants one."""
    found = await scene.first(kafka__bootstrap_servers=guarded.servers("ACCOUNTS"))

    is_broken(found, "kafka", "seems to want a sign-in")
    check("A listener with accounts, and settings without one", found)
