"""A broker has to prove that it knows the password too; one that does not is told apart from a refusal."""

import asyncio

import pytest
from aiokafka.errors import SaslAuthenticationFailed

from service.kafka.knock import _in_words
from service.kafka.security import NoProofError, Scram
from service.settings import Kafka, Secret

FIRST = "r={nonce}and-more,s=c2FsdA==,i=4096"


def scram() -> Scram:
    """The client's side of one sign-in."""
    account = {"sasl_plain_username": "me", "sasl_plain_password": "the password"}
    return Scram(loop=asyncio.get_running_loop(), sasl_mechanism="SCRAM-SHA-256", **account)


@pytest.mark.parametrize(
    "answer", ["", "r=another,s=c2FsdA==,i=4096", "r={nonce}x,s=a,i=4096", "r={nonce}x,i=many", "\x00"]
)
async def test_a_first_answer_that_is_none_is_refused(answer: str) -> None:
    """As one of Kafka's errors, which the clients take for a broker that cannot be used."""
    client = scram()
    said, _ = await client.step(None)
    nonce = said.decode().rpartition("r=")[2]
    with pytest.raises(NoProofError):
        await client.step(answer.format(nonce=nonce).encode())


@pytest.mark.parametrize("answer", ["v=c29tZWJvZHkgZWxzZQ==", "e=other-error", ""])
async def test_a_broker_that_does_not_know_the_password_is_refused(answer: str) -> None:
    """The last message carries its proof; nothing of the account is in the error."""
    client = scram()
    said, _ = await client.step(None)
    await client.step(FIRST.format(nonce=said.decode().rpartition("r=")[2]).encode())
    with pytest.raises(NoProofError) as caught:
        await client.step(answer.encode())

    assert isinstance(caught.value, SaslAuthenticationFailed)
    kafka = Kafka(security_protocol="SASL_SSL", sasl_username="me", sasl_password=Secret("the password"))
    sentence = _in_words(kafka, "kafka:9094", caught.value)
    assert sentence == (
        "Kafka at kafka:9094 does not prove that it knows the user me: compare kafka.bootstrap_servers, "
        "somebody else may answer there."
    )
