"""Settings: file below environment, checked before anything opens, mistakes told in one sentence."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import NODEFAULT
from msgspec import inspect as types

from service.cli.reference import sorted_entries
from service.errors import UserError
from service.logs import describe
from service.settings import Secret, Settings, load, parse_delays

ID = "c0ffee00-1111-4222-8333-444455556666"
TENANT = {"CALLSTREAM_TENANTS__CONTOSO__ID": ID, "CALLSTREAM_TENANTS__CONTOSO__CLIENT_ID": "app"}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No callstream.toml of the machine takes part."""
    monkeypatch.chdir(tmp_path)


def test_nothing_given_means_the_defaults() -> None:
    """Every setting but a tenant's has one."""
    assert load({}) == Settings()


def test_environment_wins_over_the_file(tmp_path: Path) -> None:
    """And what only the file says stays."""
    file = tmp_path / "some.toml"
    file.write_text('[kafka]\nbootstrap_servers = "file:1"\npartitions = 3\n', encoding="utf-8")
    found = load({"CALLSTREAM_KAFKA__BOOTSTRAP_SERVERS": "env:2"}, file)

    assert found.kafka.bootstrap_servers == "env:2"
    assert found.kafka.partitions == 3


def test_file_is_found_by_argument_variable_or_place(tmp_path: Path) -> None:
    """In this order."""
    for name in ("callstream.toml", "variable.toml", "argument.toml"):
        (tmp_path / name).write_text(f'[kafka]\ntopic_prefix = "{name}"\n', encoding="utf-8")
    environ = {"CALLSTREAM_CONFIG": str(tmp_path / "variable.toml")}

    assert load(environ, tmp_path / "argument.toml").kafka.topic_prefix == "argument.toml"
    assert load(environ).kafka.topic_prefix == "variable.toml"
    assert load({}).kafka.topic_prefix == "callstream.toml"


def test_secret_is_read_from_a_file_and_never_shown(tmp_path: Path) -> None:
    """Kubernetes mounts secrets as files; the newline that editors add is no part of it."""
    file = tmp_path / "secret"
    file.write_text("hunter2hunter2\n", encoding="utf-8")
    found = load({**TENANT, "CALLSTREAM_TENANTS__CONTOSO__CLIENT_SECRET_FILE": str(file)})

    secret = found.tenants["contoso"].client_secret
    assert secret.reveal() == "hunter2hunter2"
    assert "hunter2" not in f"{found!r} {secret} {secret!r}"
    assert not Secret("")


def test_every_documented_variable_is_understood() -> None:
    """`docs/settings.md` is made of the same list."""
    for entry in sorted_entries():
        variable = entry.variable.replace("<NAME>", "CONTOSO").replace("<N>", "1")
        value = {
            "retry.delays": "5s,1m",
            "tenants.<name>.id": ID,
            "tenants.<name>.client_secret_file": __file__,
            "graph.request_timeout_seconds": "3",
            "graph.cloud": "global",
            "receiver.public_url": "https://calls.example.com",
        }.get(entry.name)
        if value is None:
            is_given = entry.default not in (NODEFAULT, "") and not isinstance(entry.kind, types.CustomType)
            value = str(entry.default) if is_given else "sixteen characters or more"
        try:
            found = load({**TENANT, variable: value})
        except UserError as error:
            # Understood: it only does nothing without the others of its group (test_kafka_settings.py).
            understood = re.search(rf"Setting {entry.name} (has no effect|is .* must be set)", str(error))
            assert understood, error  # noqa: PT017 - not always raised
            continue
        if "<" not in entry.name:
            where: object = found
            for part in entry.name.split("."):
                where = getattr(where, part)
            shown = ",".join(where) if isinstance(where, tuple) else str(where)
            assert shown in (value, f"{value}.0")


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"CALLSTREAM_KAFKA__PARTITION": "3"}, "partition is not known"),
        ({"CALLSTREAM_KAFKAA__X": "3"}, "kafkaa"),
        ({"CALLSTREAM_KAFKA__PARTITIONS": "many"}, "kafka.partitions"),
        ({"CALLSTREAM_KAFKA__PARTITIONS": "0"}, "kafka.partitions"),
        ({"CALLSTREAM_KAFKA__PARTITIONS__X": "1"}, "kafka.partitions"),
        ({"CALLSTREAM_KAFKA__TOPIC_PREFIX": "no spaces"}, "kafka.topic_prefix"),
        ({"CALLSTREAM_RECEIVER__PORT": "70000"}, "receiver.port"),
        ({"CALLSTREAM_KAFKA__BOOTSTRAP_SERVERS": "broker-1:9092,broker-2"}, "kafka.bootstrap_servers: address 2"),
        ({"CALLSTREAM_RECEIVER__PUBLIC_URL": "calls.example.com"}, "receiver.public_url"),
        ({"CALLSTREAM_KEEPER__SUBSCRIPTION_MINUTES": "5000"}, "keeper.subscription_minutes"),
        ({"CALLSTREAM_LOG__LEVEL": "loud"}, "log.level"),
        ({"CALLSTREAM_RETRY__DELAYS": "1h,10m"}, "retry.delays"),
        ({"CALLSTREAM_RETRY__DELAYS": ""}, "retry.delays"),
        ({"CALLSTREAM_CLIENT_STATE__KEYS__1": "short"}, "client_state.keys.1"),
        ({"CALLSTREAM_CLIENT_STATE__KEYS__FIRST": "sixteen characters"}, "client_state.keys.first"),
        ({**TENANT, "CALLSTREAM_TENANTS__CONTOSO__ID": "contoso.com"}, "tenants.contoso.id"),
        ({"CALLSTREAM_TENANTS__CONTOSO__ID": ID}, "client_id"),
        ({"CALLSTREAM_TENANTS__CON TOSO__ID": ID, "CALLSTREAM_TENANTS__CON TOSO__CLIENT_ID": "a"}, "Tenant name"),
        ({**TENANT, "CALLSTREAM_TENANTS__B__ID": ID.upper(), "CALLSTREAM_TENANTS__B__CLIENT_ID": "b"}, "same id"),
        ({"CALLSTREAM_GRAPH__CLOUD": "custom"}, "graph.root_url"),
        ({"CALLSTREAM_GRAPH__REQUEST_TIMEOUT_SECONDS": "20"}, "graph.request_timeout_seconds"),
        ({"CALLSTREAM_LANES__HELD_BYTES": "1000000"}, "lanes.held_bytes"),
        ({"CALLSTREAM_CONFIG": "/nowhere/x.toml"}, "/nowhere/x.toml"),
        ({**TENANT, "CALLSTREAM_TENANTS__CONTOSO__CLIENT_SECRET_FILE": "/nowhere/y"}, "client_secret_file"),
    ],
)
def test_mistake_is_one_sentence_that_names_its_place(environ: dict[str, str], words: str) -> None:
    """A person can put it right; nothing has been opened."""
    with pytest.raises(UserError) as caught:
        load(environ)

    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_wrong_secret_is_not_in_the_message() -> None:
    """A sentence for a person ends in a log."""
    with pytest.raises(UserError) as caught:
        load({"CALLSTREAM_CLIENT_STATE__KEYS__1": "hunter2"})

    assert "hunter2" not in str(caught.value)


def test_broken_file_is_one_sentence(tmp_path: Path) -> None:
    """TOML or not even text."""
    for content in (b"[kafka", b"\xff\xfe"):
        (tmp_path / "callstream.toml").write_bytes(content)
        with pytest.raises(UserError, match=r"callstream\.toml is not TOML"):
            load({})


def test_delays_are_seconds() -> None:
    """`s`, `m` and `h`."""
    assert parse_delays(("5s", "1m", "2h")) == (5.0, 60.0, 7200.0)


names = st.lists(st.text("ABCKFN_", min_size=1, max_size=6) | st.sampled_from(["KAFKA", "TENANTS", "KEYS"]), max_size=4)


@given(st.dictionaries(names.map(lambda parts: "CALLSTREAM_" + "__".join(parts)), st.text(max_size=10), max_size=4))
def test_no_environment_raises_anything_but_a_user_error(environ: dict[str, str]) -> None:
    """A traceback at start is a bug."""
    environ.pop("CALLSTREAM_CONFIG", None)
    try:
        load(environ)
    except UserError as error:
        assert str(error).endswith((".", "!", "?"))  # noqa: PT017 - an error is only one of the outcomes


def test_no_secret_setting_shows_in_anything_that_is_printed() -> None:
    """Every setting of the type, in whichever group: `repr`, the line at start, the sentence for a mistake."""
    secrets = [entry for entry in sorted_entries() if getattr(entry.kind, "cls", None) is Secret]
    variables = [entry.variable.replace("<NAME>", "CONTOSO").replace("<N>", "1") for entry in secrets]

    assert len(variables) >= 5
    for variable in variables:
        given = TENANT | {variable: "MARKED-SECRET"}
        shown = []
        try:
            settings = load(given)
            shown += [repr(settings), str(settings), str(describe(settings))]
        except UserError as refusal:  # it wants other settings beside it
            shown.append(str(refusal))
        for mistake in ({f"{variable}_FILE": "/nowhere"}, {"CALLSTREAM_RECEIVER__PORT": "x"}, {variable: "MARKED"}):
            try:
                load(given | mistake)
            except UserError as refusal:
                shown.append(str(refusal))

        assert len(shown) >= 3, variable
        assert not any("MARKED" in text for text in shown), variable


SECRET = "Sup3rS3cret"
HOST_PORT = "is not host:port, with a port from 1 to 65535"


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("TENANTS__CONTOSO__CREDENTIAL", SECRET, "Setting tenants.contoso.credential must be one of client-secret, "),
        ("KAFKA__SASL_MECHANISM", SECRET, "Setting kafka.sasl_mechanism: must be one of PLAIN, "),
        ("LOG__LEVEL", SECRET, "Setting log.level: must be one of debug, "),
        ("RETRY__DELAYS", f"1m,{SECRET}", "Setting retry.delays: delay 2 is not a delay"),
        (
            "KAFKA__BOOTSTRAP_SERVERS",
            f"a:9092,me:{SECRET}@b:9092",
            f"Setting kafka.bootstrap_servers: address 2 {HOST_PORT}",
        ),
        ("TENANTS__CONTOSO__CLIENT_SECRET_FILE", SECRET, "Setting tenants.contoso.client_secret_file names a file"),
        ("KAFKA__SASL_PASSWORD_FILE", SECRET, "CALLSTREAM_KAFKA__SASL_PASSWORD_FILE names a file"),
        ("KAFKA__TOPIC_PREFIX", f"{SECRET}!", "Setting kafka.topic_prefix: "),
        ("EVENT_HUB__HUB", SECRET, "Setting event_hub.hub is set, so event_hub.namespace"),
    ],
    ids=lambda value: value[:30],
)
def test_a_secret_in_the_wrong_setting_is_not_repeated(name: str, value: str, words: str) -> None:
    """The sentence names the place and the choices; it ends in a log or a ticket."""
    with pytest.raises(UserError) as raised:
        load({f"CALLSTREAM_{name}": value})

    assert str(raised.value).startswith(words)
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize("port", ["0", "65536", "99999", "\u0663"])
def test_a_port_that_cannot_be_is_refused(port: str) -> None:
    """Before a socket is asked for it."""
    with pytest.raises(UserError, match=HOST_PORT):
        load({"CALLSTREAM_KAFKA__BOOTSTRAP_SERVERS": f"kafka:{port}"})


@pytest.mark.parametrize(
    ("toml", "words"),
    [
        ("[kafka]\nsasl_password = 12345", "Setting kafka.sasl_password: must be text"),
        ("[kafka]\nsasl_password.x = 'y'", "Setting kafka.sasl_password: must be text"),
        ("[tenants.contoso]\nclient_secret = 12345", "client_secret: must be text"),
        ("[client_state.keys]\n1 = 12345", "Setting client_state.keys"),
        ('[tenants.contoso]\nclient_secret_file = "a\\u0000b"', "client_secret_file holds a NUL character"),
        ('[kafka]\nca_file = "a\\u0000b"', "Setting kafka.ca_file holds a NUL character"),
        ('[graph]\nca_file = "a\\u0000b"', "Setting graph.ca_file holds a NUL character"),
        ("a = " + "[" * 3000, "nested too deep"),
        ("a = " + "{a = " * 3000, "nested too deep"),
        (".".join("a" * 3000) + " = 1", "nested too deep"),
        ("[kafka]\npartitions = " + "9" * 5000, "4300 digits"),
        ("[kafka]\npartitions = " + "9" * 400, "Setting kafka.partitions: "),
        ("[kafka]\nrequest_timeout_seconds = inf", "Setting kafka.request_timeout_seconds: "),
        ("[kafka]\nrequest_timeout_seconds = nan", "Setting kafka.request_timeout_seconds: "),
    ],
    ids=lambda value: value[:40],
)
def test_what_no_setting_can_be_is_one_sentence(tmp_path: Path, toml: str, words: str) -> None:
    """Whatever TOML can write; exit code 2."""
    file = tmp_path / "callstream.toml"
    file.write_text(toml)
    with pytest.raises(UserError) as raised:
        load({}, file)

    assert words in str(raised.value)
    assert raised.value.exit_code == 2


def test_a_secret_that_goes_deeper_is_one_sentence() -> None:
    """From the environment, where each level is two underscores."""
    with pytest.raises(UserError, match=r"Setting kafka\.sasl_password: must be text"):
        load({"CALLSTREAM_KAFKA__SASL_PASSWORD__X": "1"})
