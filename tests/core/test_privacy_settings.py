"""Settings of privacy and of the archive: what is refused at start, and what becomes of the rest."""

from pathlib import Path

import pytest

from service.errors import UserError
from service.kafka.topics import Topics
from service.lanes.shaping import policy_in_force
from service.logs import describe
from service.record.privacy import PRESETS
from service.settings import load

KEY = {"CALLSTREAM_PRIVACY__KEYS__1": "k" * 32}


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"CALLSTREAM_PRIVACY__NAMES": "hash"}, "privacy.names is hash, and there is no key"),
        ({"CALLSTREAM_PRIVACY__PRESET": "paranoid"}, "privacy.preset"),
        ({"CALLSTREAM_PRIVACY__NAMES": "encrypt"}, "privacy.names"),
        ({"CALLSTREAM_PRIVACY__SHOE_SIZES": "drop"}, "privacy.shoe_sizes is not known"),
        ({"CALLSTREAM_PRIVACY__KEYS__ONE": "k" * 32}, "privacy.keys.one: a key's name must be a number"),
        ({"CALLSTREAM_PRIVACY__KEYS__1": "short"}, "privacy.keys.1 must have at least 16 characters"),
        ({"CALLSTREAM_RAW__RETENTION_DAYS": "0"}, "raw.retention_days"),
    ],
)
def test_a_mistake_is_one_sentence(variables: dict[str, str], sentence: str) -> None:
    """Before anything opens."""
    with pytest.raises(UserError, match=sentence):
        load(variables)


def test_a_preset_holds_for_what_is_not_set() -> None:
    """One class otherwise, the rest as the preset says."""
    settings = load({"CALLSTREAM_PRIVACY__PRESET": "strict", "CALLSTREAM_PRIVACY__SUBNETS": "keep"})

    assert policy_in_force(settings.privacy).actions == {**PRESETS["strict"], "subnets": "keep"}
    assert policy_in_force(load({}).privacy).actions == PRESETS["open"]
    assert policy_in_force(load({}).privacy).is_open


def test_a_key_comes_from_a_file_and_shows_nowhere(tmp_path: Path) -> None:
    """The highest number hashes; what is logged at start has no secret in it."""
    secret = tmp_path / "key"
    secret.write_text("n" * 32 + "\n")
    settings = load({**KEY, "CALLSTREAM_PRIVACY__KEYS__12_FILE": str(secret), "CALLSTREAM_PRIVACY__PRESET": "reduced"})
    hidden = policy_in_force(settings.privacy).hidden("t")

    assert hidden.join_url("x") is None
    assert "nnnn" not in str(describe(settings))
    assert {key.reveal() for key in settings.privacy.keys.values()} == {"k" * 32, "n" * 32}


def test_the_archive_is_off_until_it_is_asked_for() -> None:
    """And then it has its retention."""
    assert Topics.of(load({})).raw is None
    topics = Topics.of(load({"CALLSTREAM_RAW__ENABLED": "true", "CALLSTREAM_RAW__RETENTION_DAYS": "90"}))

    assert topics.raw == "callrecords.raw"
    assert topics.raw in topics.per_call
