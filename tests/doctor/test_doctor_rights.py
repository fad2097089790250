"""What a guarded Kafka refuses: accounts and ACLs, at a real broker that has both."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.admin import CreateAclsRequest, DescribeAclsRequest

from service.embedded import Cluster, Listener, Security, embedded_kafka
from service.kafka.rights import merged, rights_of
from service.settings import ROLES
from tests.doctor.page import check
from tests.doctor.scene import SECONDS, Scene
from tests.doctor.stand_ins import StandIn, stand_in
from tests.doctor.test_doctor_outside import is_broken

USER, PASSWORD = "callstream", "the-password-of-callstream"
TOPIC, GROUP, TRANSACTIONAL_ID = 2, 3, 5
READ, WRITE, DESCRIBE, DESCRIBE_CONFIGS = 3, 4, 8, 10
LITERAL, PREFIXED, ALLOW, ANY = 3, 4, 3, 1
KINDS = {"topic": TOPIC, "group": GROUP, "transactional-id": TRANSACTIONAL_ID}
OPERATIONS = {"Read": READ, "Write": WRITE, "Describe": DESCRIBE, "DescribeConfigs": DESCRIBE_CONFIGS}


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
async def allowed(
    scene: Scene, cluster: Cluster, *rights: tuple[int, int], members: str = "keeper,lanes"
) -> AsyncIterator[dict[str, str | None]]:
    """Topics of which the account may do so much: (kind of resource, operation); the doctor's settings."""
    async with stand_in(scene, members, kafka=cluster.bootstrap_servers) as beside:
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
    await _grant(cluster, [(kind, beside.topics.prefix, PREFIXED, operation) for kind, operation in rights])


async def _grant(cluster: Cluster, wishes: Sequence[tuple[int, str, int, int]]) -> None:
    """Kind of resource, name, pattern, operation."""
    admin = AIOKafkaAdminClient(bootstrap_servers=cluster.bootstrap_servers)
    await admin.start()
    try:
        for kind, name, pattern, operation in wishes:
            wish = CreateAclsRequest(kind, name, pattern, f"User:{USER}", "*", operation, ALLOW)
            answer = await admin._send_request(wish)
            assert answer.creation_responses[0][0] == 0
        # The broker that will judge learns of them a moment after the one that has written them down.
        for kind, name, pattern, operation in wishes[-1:]:
            asked = DescribeAclsRequest(kind, name, pattern, None, None, operation, ANY)
            async with asyncio.timeout(SECONDS):
                while not _count(await admin._send_request(asked)):  # noqa: ASYNC110 - the broker tells nobody
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
    (
        "An account that may see topics and no more",
        SEES,
        "transactions",
        "Write on the topic callrecords.notifications",
    ),
    ("An account that may write, and join no group", WRITES, "transactions", "Read on the group callrecords.lanes"),
    (
        "An account without transactional ids",
        JOINS,
        "transactions",
        "Write on the transactional id callrecords.lane.*; the role work needs it",
    ),
)


@pytest.mark.parametrize(("set_up", "rights", "link", "named"), REFUSALS, ids=[one[0] for one in REFUSALS])
async def test_a_missing_acl_is_named(
    scene: Scene, guarded: Cluster, set_up: str, rights: tuple[tuple[int, int], ...], link: str, named: str
) -> None:
    """With the command that prints what is needed."""
    async with allowed(scene, guarded, *rights, members="") as changes:
        prefix = str(changes["kafka__topic_prefix"])
        found = await scene.first(**changes)

    is_broken(found, link, named.replace("callrecords", prefix))
    assert "topics --acls" in found.todo
    check(set_up, found)


async def test_an_account_of_one_role_is_a_warning_where_others_work(scene: Scene, guarded: Cluster) -> None:
    """Somebody else's worker and keeper are in their groups: the doctor has run with a receiver's account."""
    async with allowed(scene, guarded, *JOINS) as changes:
        found = await scene.first(**changes)

    assert (found.link, found.status) == ("transactions", "warn"), found
    assert "run under other accounts" in found.seen


async def test_brokers_without_transactions_are_not_asked_for_any(scene: Scene, guarded: Cluster) -> None:
    """`kafka.delivery = at-least-once` needs no transactional id."""
    async with allowed(scene, guarded, *JOINS) as changes:
        found = await scene.line("transactions", **changes, kafka__delivery="at-least-once")

    assert found.status == "ok", found
    assert "at-least-once" in found.seen


async def test_with_all_acls_nothing_is_refused(scene: Scene, guarded: Cluster) -> None:
    """Everything that begins with the prefix."""
    async with allowed(scene, guarded, *ALL) as changes, asyncio.timeout(SECONDS):
        found = await scene.walk(**changes)

    assert [one for one in found if one.status != "ok"] == []


async def test_what_the_roles_may_do_suffices_for_all_but_dead_letters(scene: Scene, guarded: Cluster) -> None:
    """`callstream topics --acls` for all roles, and not a right more; nobody but people reads dead letters."""
    async with stand_in(scene, kafka=guarded.bootstrap_servers) as beside, asyncio.timeout(SECONDS):
        await beside.letter("unavailable")
        rights = merged(right for role in ROLES for right in rights_of(role, beside.topics))
        wishes = [
            (KINDS[right.kind], right.name, PREFIXED if right.is_prefix else LITERAL, OPERATIONS[operation])
            for right in rights
            for operation in right.operations
        ]
        await _grant(guarded, wishes)
        found = await scene.walk(**account(guarded, PASSWORD), **beside.changes)

    assert [(one.link, one.status) for one in found if one.status != "ok"] == [("dead letters", "skipped")]


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
