"""The privacy policy: what is kept, hashed or left out, by class of text. No I/O, no clock.

Events are a pure function of (tenant, record, policy). The policy is applied to the groups of an event, after merging
and counting: who is the same person is decided by what Graph sent, so no count depends on the policy.

A hash is `h{n}.` + 22 characters of base64url: the first 128 bits of HMAC-SHA256 under key number *n*. The same value
gives the same hash wherever it stands, so joins still work under one key; without the key nobody can try out names or
addresses.
"""

import base64
import hmac
import ipaddress
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final, Literal, NamedTuple, TypeAlias, TypeVar

from msgspec import Struct, structs

from service.record.events import (
    AdministrativeUnitGroup,
    DeviceGroup,
    EndpointGroup,
    FeedbackGroup,
    IdentityGroup,
    NetworkGroup,
    TraceRouteHopGroup,
    UserAgentGroup,
)
from service.record.identities import ZERO_GUID
from service.record.personal import CLASSES, PERSONAL, Form, PersonalClass, Rule

Action: TypeAlias = Literal["keep", "hash", "drop"]
Preset: TypeAlias = Literal["open", "reduced", "strict"]
Step: TypeAlias = Callable[[str], str | None]
S = TypeVar("S", bound=Struct)

# `reduced` leaves out what no question about call quality needs and what does the most harm in the wrong hands: the
# link that lets its reader into a meeting, and free text that may say anything about anybody. All else is what the
# product is asked for (whose network, whose headset), and it needs no key.
PRESETS: Final[Mapping[Preset, Mapping[PersonalClass, Action]]] = {
    "open": dict.fromkeys(CLASSES, "keep"),
    "reduced": {**dict.fromkeys(CLASSES, "keep"), "join_urls": "drop", "feedback_text": "drop"},
    "strict": dict.fromkeys(CLASSES, "drop"),
}

# Distinct values of each form whose hashes are remembered; some 20 MB when all are full.
_REMEMBERED: Final = 32_768
_HASH_BYTES: Final = 16

# What stands where nobody is named: hashed, it would look like somebody.
_NOBODY: Final = frozenset({"", ZERO_GUID, "02:00:00:00:00:00"})
_PHONE: Final = re.compile(r"(?:tel:|4:)?\+[0-9][0-9*]*|[+(]?[0-9][0-9 ()./*-]{5,}")
# From an archive: hashed again it would join with nothing any more.
_HASH: Final = re.compile(r"h[1-9][0-9]{0,3}\.[A-Za-z0-9_-]{22}")
_SEPARATORS: Final = str.maketrans("", "", ":-. ")


class Key(NamedTuple):
    """A numbered key for hashes; the number stands in every hash."""

    number: int
    secret: bytes


class Policy:
    """What happens to each class. `hidden(tenant_id)` is the policy ready to be applied to that tenant's records."""

    def __init__(self, actions: Mapping[PersonalClass, Action], key: Key | None = None) -> None:
        """Raises ValueError when something is to be hashed and there is no key."""
        self.actions = dict(actions)
        if "hash" in self.actions.values() and key is None:
            raise ValueError("a class is to be hashed, and there is no key")
        self._key = key
        self._hashers: dict[Form, Step] = {}
        self._hidden: dict[str, Hidden] = {}

    @property
    def is_open(self) -> bool:
        """Whether everything is kept."""
        return set(self.actions.values()) <= {"keep"}

    def hidden(self, tenant_id: str) -> "Hidden":
        """Made once for each tenant: its own id is in every event anyway and stays."""
        tenant_id = tenant_id.lower()
        found = self._hidden.get(tenant_id)
        if found is None:
            found = self._hidden[tenant_id] = Hidden(self, tenant_id)
        return found

    def step(self, rule: Rule) -> Step | None:
        """What is done to a value of this rule; None where it stays as it is."""
        match self.actions[rule.personal]:
            case "keep":
                return None
            case "drop":
                return _nothing
        if rule.form not in self._hashers:
            assert self._key is not None  # noqa: S101 - checked when the policy was made
            self._hashers[rule.form] = hasher(self._key, rule.form)
        return self._hashers[rule.form]


def policy_of(
    preset: Preset, treatments: Mapping[str, Action] | None = None, keys: Mapping[int, bytes] | None = None
) -> Policy:
    """A preset with single classes treated otherwise. Of the keys the one with the highest number is used.

    Raises ValueError when something is to be hashed and there is no key.
    """
    given = treatments or {}
    actions = {name: given.get(name, action) for name, action in PRESETS[preset].items()}
    newest = max(keys) if keys else None
    return Policy(actions, None if newest is None or not keys else Key(newest, keys[newest]))


def hasher(key: Key, form: Form) -> Step:
    """A function that hashes values of one form, and remembers the latest. What is a hash already stays as it is."""
    canonical = _CANONICAL[form]
    prefix = f"h{key.number}."

    @lru_cache(_REMEMBERED)
    def hashed(value: str) -> str:
        if value.lower() in _NOBODY or _HASH.fullmatch(value):
            return value
        digest = hmac.digest(key.secret, canonical(value).encode("utf-8", "surrogatepass"), "sha256")
        return prefix + base64.urlsafe_b64encode(digest[:_HASH_BYTES]).decode("ascii").rstrip("=")

    return hashed


def _address(value: str) -> str:
    try:
        return ipaddress.ip_address(value.strip()).compressed
    except ValueError:
        return value.lower()


_CANONICAL: Final[Mapping[Form, Callable[[str], str]]] = {
    "exact": lambda value: value,
    "folded": str.lower,
    "address": _address,
    "hardware": lambda value: value.lower().translate(_SEPARATORS),
}

_PHONE_RULE: Final = Rule("phone_numbers")


def reads_like_a_phone_number(value: str) -> bool:
    """Digits with a plus, or digits and what people write between them; Graph masks the last ones with `*`."""
    return _PHONE.fullmatch(value) is not None


class PersonSteps:
    """What is done to the texts of an identity, by property. A phone's id, and what reads like one, is a number."""

    def __init__(self, policy: Policy, tenant_id: str) -> None:
        self.phone = policy.step(_PHONE_RULE)
        steps = {name: policy.step(rule) for name, rule in PERSONAL[IdentityGroup].items()}
        for name in _MAY_BE_NUMBERS:
            steps[name] = _number_or(steps[name], self.phone)
        if (foreign := steps["tenantId"]) is not None:
            steps["tenantId"] = lambda value: value if value.lower() == tenant_id else foreign(value)
        self.steps = {name: step for name, step in steps.items() if step is not None}

    def step(self, name: str, *, is_phone: bool) -> Step | None:
        """What is done to the text of property `name` of an identity; None where it stays as it is."""
        return self.phone if is_phone and name == "id" else self.steps.get(name)


def _number_or(step: Step | None, phone: Step | None) -> Step | None:
    """One function for a property that may hold a telephone number."""
    if step is phone:
        return step

    @lru_cache(_REMEMBERED)
    def either(value: str) -> str | None:
        chosen = phone if reads_like_a_phone_number(value) else step
        return value if chosen is None else chosen(value)

    return either


_MAY_BE_NUMBERS: Final = frozenset({"id", "displayName", "participantId"})


Hide: TypeAlias = Callable[[S | None], S | None]


class Hidden:
    """A policy for the records of one tenant. Each function takes a group, or None, and gives what may be published.

    Where a policy changes nothing of a group, its function gives back the same object.
    """

    def __init__(self, policy: Policy, tenant_id: str) -> None:
        self._person = PersonSteps(policy, tenant_id)
        self._unit = _compiled(policy, AdministrativeUnitGroup)
        self.identity: Hide[IdentityGroup] = self._identity if self._person.steps else _same
        agent = _compiled(policy, UserAgentGroup)
        feedback = _compiled(policy, FeedbackGroup)
        hop = _compiled(policy, TraceRouteHopGroup)
        ends: dict[str, Callable[[Any], Any]] = {"user_agent": agent, "feedback": feedback, "identity": self.identity}
        self.endpoint = _compiled(policy, EndpointGroup, ends)
        self.network = _compiled(policy, NetworkGroup, {"trace_route_hops": _each(hop)})
        self.device = _compiled(policy, DeviceGroup)
        self._join_url = policy.step(Rule("join_urls"))

    def join_url(self, url: str | None) -> str | None:
        """The join link, if it may be published."""
        return url if self._join_url is None or url is None else self._join_url(url)

    def _identity(self, identity: IdentityGroup | None) -> IdentityGroup | None:
        if identity is None:
            return None
        is_phone = identity.kind.lower() == "phone"
        values: list[Any] = list(structs.astuple(identity))
        for index, name in _IDENTITY_TEXTS:
            if values[index] is not None and (step := self._person.step(name, is_phone=is_phone)) is not None:
                values[index] = step(values[index])
        units, others = values[-2:]
        values[-2] = None if units is None else [self._unit(unit) for unit in units]
        values[-1] = None if others is None else [self._identity(other) for other in others]
        return IdentityGroup(*values)


# The two lists are the last fields of an identity; a test holds it to that.
_IDENTITY_TEXTS: Final = tuple(
    (index, field.encode_name)
    for index, field in enumerate(structs.fields(IdentityGroup))
    if field.encode_name in PERSONAL[IdentityGroup]
)


def _compiled(policy: Policy, group: type[S], parts: Mapping[str, Callable[[Any], Any]] | None = None) -> Hide[S]:
    """A function that applies the policy to groups of one kind; `_same` where it would change nothing."""
    rules, parts = PERSONAL[group], parts or {}
    steps: list[tuple[int, Callable[[Any], Any]]] = []
    for index, field in enumerate(structs.fields(group)):
        rule = rules.get(field.encode_name)
        step = policy.step(rule) if rule is not None else parts.get(field.name)
        if step is not None and step is not _same:
            steps.append((index, step))
    if not steps:
        return _same

    def apply(value: S | None) -> S | None:
        if value is None:
            return None
        values = list(structs.astuple(value))
        for index, step in steps:
            if values[index] is not None:
                values[index] = step(values[index])
        return group(*values)

    return apply


def _each(step: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return step if step is _same else lambda values: [step(value) for value in values]


def _same(value: Any) -> Any:
    return value


def _nothing(_: str) -> None:
    return None


OPEN: Final = policy_of("open")
