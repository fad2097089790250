"""Settings of Kafka's security: what contradicts itself is refused in one sentence, and secrets never show."""

import ast
from pathlib import Path

import pytest

from service.errors import UserError
from service.logs import describe
from service.settings import Settings, load

ROOT = Path(__file__).parents[2]
SCRAM = {
    "SECURITY_PROTOCOL": "SASL_SSL",
    "SASL_MECHANISM": "SCRAM-SHA-512",
    "SASL_USERNAME": "me",
    "SASL_PASSWORD": "x",
}
OAUTH = {
    "SECURITY_PROTOCOL": "SASL_SSL",
    "SASL_MECHANISM": "OAUTHBEARER",
    "OAUTH_TOKEN_URL": "https://login.example.com/token",
    "OAUTH_CLIENT_ID": "me",
    "OAUTH_CLIENT_SECRET": "x",
}


def kafka(settings: dict[str, str], **more: str) -> Settings:
    return load({f"CALLSTREAM_KAFKA__{name}": value for name, value in settings.items()} | more, None)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"SECURITY_PROTOCOL": "ssl"}, "kafka.security_protocol: must be one of PLAINTEXT, SSL, SASL_PLAINTEXT"),
        ({"SASL_MECHANISM": "SCRAM"}, "kafka.sasl_mechanism: must be one of PLAIN, SCRAM-SHA-256"),
        ({"CA_FILE": "ca.pem"}, "kafka.ca_file has no effect while kafka.security_protocol is PLAINTEXT: set it"),
        (
            {"SECURITY_PROTOCOL": "SASL_PLAINTEXT", "CA_FILE": "ca.pem"},
            "kafka.ca_file has no effect while kafka.security_protocol is SASL_PLAINTEXT: set it to SASL_SSL",
        ),
        ({"SASL_USERNAME": "me"}, "kafka.sasl_username has no effect while kafka.security_protocol is PLAINTEXT: set"),
        ({"SECURITY_PROTOCOL": "SASL_SSL"}, "so kafka.sasl_username and kafka.sasl_password must be set."),
        (SCRAM | {"OAUTH_SCOPE": "x"}, "kafka.oauth_scope has no effect while kafka.sasl_mechanism is SCRAM-SHA-512"),
        (OAUTH | {"SASL_PASSWORD": "x"}, "kafka.sasl_password has no effect while kafka.sasl_mechanism is OAUTHBEARER"),
        (OAUTH | {"OAUTH_CLIENT_SECRET": ""}, "so kafka.oauth_client_secret must be set."),
        (OAUTH | {"OAUTH_TOKEN_URL": "http://login.example.com/token"}, "kafka.oauth_token_url must begin with https"),
        (OAUTH | {"OAUTH_EXTENSIONS": "auth=x"}, "kafka.oauth_extensions must be pairs such as logicalCluster=lkc-1."),
        (OAUTH | {"OAUTH_CREDENTIAL": "managed-identity"}, "so kafka.oauth_scope must be set."),
        (
            {"SECURITY_PROTOCOL": "SSL", "CERTIFICATE_KEY_FILE": "key.pem"},
            "kafka.certificate_key_file needs kafka.certificate_file beside it.",
        ),
    ],
)
def test_what_contradicts_itself_is_refused(settings: dict[str, str], sentence: str) -> None:
    """Before anything opens, with the setting's name."""
    with pytest.raises(UserError) as caught:
        kafka(settings)

    assert sentence in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("settings", [SCRAM, OAUTH, {"SECURITY_PROTOCOL": "SSL"}], ids=["scram", "oauth", "tls"])
def test_what_fits_is_taken(settings: dict[str, str]) -> None:
    """The three kinds, each with what it needs."""
    assert kafka(settings).kafka.security_protocol == settings["SECURITY_PROTOCOL"]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"HUB": "calls"},
            "Setting event_hub.hub is set, so event_hub.namespace and event_hub.tenant_domain must be",
        ),
        ({"SASL_PASSWORD": "x"}, "Setting event_hub.sasl_password has no effect while event_hub.hub is not set"),
        (
            {"HUB": "calls", "NAMESPACE": "https://calls.example.com/", "TENANT_DOMAIN": "contoso.com"},
            "Setting event_hub.namespace must be a host name such as calls.servicebus.windows.net.",
        ),
        (
            {"HUB": "calls", "NAMESPACE": "calls.servicebus.windows.net", "TENANT_DOMAIN": "contoso.com"},
            "event_hub.sasl_mechanism is PLAIN, so event_hub.sasl_username and event_hub.sasl_password must be set",
        ),
    ],
)
def test_an_event_hub_is_there_whole_or_not_at_all(settings: dict[str, str], sentence: str) -> None:
    """The hub's own names in each sentence."""
    with pytest.raises(UserError) as caught:
        load({f"CALLSTREAM_EVENT_HUB__{name}": value for name, value in settings.items()}, None)

    assert sentence in str(caught.value)


def test_an_event_hub_has_the_address_of_its_namespace_and_the_url_that_graph_wants() -> None:
    """Port 9093 over TLS; the URL letter by letter as Graph documents it."""
    settings = {
        "HUB": "calls",
        "NAMESPACE": "calls.servicebus.windows.net",
        "TENANT_DOMAIN": "contoso.com",
        "SASL_USERNAME": "$ConnectionString",
        "SASL_PASSWORD": "Endpoint=sb://calls.servicebus.windows.net/;SharedAccessKeyName=listen;SharedAccessKey=x",
    }

    found = load({f"CALLSTREAM_EVENT_HUB__{name}": value for name, value in settings.items()}, None).event_hub

    assert (found.bootstrap_servers, found.security_protocol) == ("calls.servicebus.windows.net:9093", "SASL_SSL")
    assert found.url == "EventHub:https://calls.servicebus.windows.net/eventhubname/calls?tenantId=contoso.com"


def test_a_pods_identity_is_taken_from_its_variables() -> None:
    """Those that the workload identity webhook sets; what the settings say goes before."""
    pod = {"AZURE_CLIENT_ID": "pod", "AZURE_TENANT_ID": "directory", "AZURE_FEDERATED_TOKEN_FILE": "/token"}
    wanted = {
        "SECURITY_PROTOCOL": "SASL_SSL",
        "SASL_MECHANISM": "OAUTHBEARER",
        "OAUTH_CREDENTIAL": "workload-identity",
        "OAUTH_CLIENT_ID": "ours",
        "OAUTH_SCOPE": "https://hubs.servicebus.windows.net/.default",
    }

    found = kafka(wanted, **pod).kafka

    assert (found.oauth_client_id, found.oauth_tenant_id, found.oauth_token_file) == ("ours", "directory", "/token")


def test_passwords_come_from_files_and_never_show(tmp_path: Path) -> None:
    """Neither in a repr nor in the line that is logged at start."""
    file = tmp_path / "password"
    file.write_text("swordfish\n")
    names = {name: value for name, value in SCRAM.items() if name != "SASL_PASSWORD"}

    settings = kafka(names, CALLSTREAM_KAFKA__SASL_PASSWORD_FILE=str(file))

    assert settings.kafka.sasl_password.reveal() == "swordfish"
    assert "swordfish" not in repr(settings) + str(describe(settings))


def test_every_kafka_client_is_made_with_the_shared_options() -> None:
    """TLS and SASL hold for each of them; what stands around the service speaks to a broker of its own."""
    strangers = []
    for path in sorted((ROOT / "service").rglob("*.py")):
        if {"embedded", "demo", "emulator"} & set(path.parts):
            continue
        text = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(text)) if "AIOKafka" in text else ():
            if isinstance(node, ast.Call) and getattr(node.func, "id", "").startswith("AIOKafka"):
                given = [ast.unparse(keyword.value) for keyword in node.keywords if keyword.arg is None]
                if not any(one.startswith(("client_options(", "options")) for one in given):
                    strangers.append(f"{path.name}:{node.lineno}")

    assert strangers == []
