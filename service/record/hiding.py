"""The privacy policy on a call record as Graph wrote it, for the archive: JSON in, JSON out.

Directed by the same model and the same table as the events. What the model does not know is treated as the class
`unknown_properties` says; so is text where the model has no text, because it may be anything. Annotations are left out,
but for `@odata.type`: links and contexts hold ids, and no reader of the archive needs them.
"""

import json
from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from typing import Any, Final, TypeAlias

import msgspec
from msgspec import inspect

from service.record.identities import is_phone, type_name
from service.record.model import CallRecord, Identity, Participant
from service.record.personal import PERSONAL, Rule
from service.record.privacy import PersonSteps, Policy, Step

Document: TypeAlias = dict[str, Any]
Walker: TypeAlias = Callable[[Any], Any]

_GONE: Final = object()  # a value that is left out
_PHONE_TYPE: Final = "#microsoft.graph.communicationsPhoneIdentity"


class HiddenDocument:
    """A policy, ready to be applied to the documents of one tenant. The documents given are not changed."""

    def __init__(self, policy: Policy, tenant_id: str) -> None:
        self._policy = policy
        self._person = PersonSteps(policy, tenant_id.lower())
        self._unknown_step = policy.step(Rule("unknown_properties"))
        self._structs: dict[type, Walker] = {}
        self._record = self._struct(CallRecord)

    def record(self, document: Document) -> Document:
        """The document of a call record as it may be archived."""
        shown: Document = self._record(document)
        return shown

    # ---- one walker for each kind of value -------------------------------------------------------------------------

    def _struct(self, cls: type[msgspec.Struct]) -> Walker:
        if cls not in self._structs:
            rules = PERSONAL.get(cls, {})
            fields = {
                name: self._text(cls, rules[name]) if name in rules else self._walker(kind)
                for name, kind in _fields(cls).items()
                if "@odata.next" not in name
            }
            self._structs[cls] = self._members(fields)
        return self._structs[cls]

    def _members(self, fields: Mapping[str, Walker]) -> Walker:
        def walk(value: Any) -> Any:
            if not isinstance(value, dict):
                return self._unknown(value)
            shown = {}
            for name, part in value.items():
                walker = fields.get(name)
                if walker is not None:
                    found = None if part is None else walker(part)
                else:
                    found = _GONE if "@" in name else self._unknown(part)
                if found is not _GONE:
                    shown[name] = found
            return shown

        return walk

    def _walker(self, kind: inspect.Type) -> Walker:
        """For what is not personal text itself."""
        if isinstance(kind, inspect.UnionType):
            kind = next(one for one in kind.types if not isinstance(one, inspect.NoneType))
        if isinstance(kind, inspect.Metadata):
            return self._walker(kind.type)
        if isinstance(kind, inspect.StructType):
            return self._identity if kind.cls is Identity else self._struct(kind.cls)
        if isinstance(kind, inspect.ListType):
            return self._list(self._walker(kind.item_type))
        if isinstance(kind, inspect.DictType):
            holds_identities = any(isinstance(one, inspect.StructType) for one in getattr(kind.value_type, "types", ()))
            return self._identity_set if holds_identities else self._flags
        return self._impersonal if isinstance(kind, inspect.StrType) else self._number

    def _list(self, walker: Walker) -> Walker:
        def walk(value: Any) -> Any:
            if not isinstance(value, list):
                return walker(value)
            shown = [None if item is None else walker(item) for item in value]
            return [item for item in shown if item is not _GONE]

        return walk

    def _text(self, cls: type[msgspec.Struct], rule: Rule) -> Walker:
        step = self._person.steps.get("participantId") if cls is Participant else self._policy.step(rule)
        return _as_it_is if step is None else _on_text(step)

    def _impersonal(self, value: Any) -> Any:
        return self._unknown(value) if isinstance(value, dict | list) else value

    def _number(self, value: Any) -> Any:
        """Digits in text are taken for the number (a record's `version` may be so written)."""
        is_number = isinstance(value, int | float) or (isinstance(value, str) and value.isdecimal())
        return value if is_number else self._unknown(value)

    def _flags(self, value: Any) -> Any:
        if not isinstance(value, dict):
            return self._unknown(value)
        shown = {name: part if part is None else self._number(part) for name, part in value.items()}
        return {name: part for name, part in shown.items() if part is not _GONE}

    # ---- identities ------------------------------------------------------------------------------------------------

    def _identity_set(self, value: Any) -> Any:
        if not isinstance(value, dict):
            return self._unknown(value)
        shown = {}
        for name, member in value.items():
            if member is None or name in ("endpointType", "@odata.type"):
                found = member
            elif "@" in name:
                found = _GONE
            else:
                found = self._identity(member, name)
            if found is not _GONE:
                shown[name] = found
        return shown

    def _identity(self, value: Any, member: str = "") -> Any:
        """`member` is its name in an identity set, which says the kind; else its type says it."""
        if not isinstance(value, dict):
            return self._unknown(value)
        kind = type_name(value.get("@odata.type") if isinstance(value.get("@odata.type"), str) else None)
        is_number = member.lower() == "phone" or kind == "communicationsphoneidentity"
        shown: Document = {}
        for name, part in value.items():
            found = self._of_identity(name, part, is_number)
            if found is not _GONE:
                shown[name] = found
        number = value.get("id")
        if not member and isinstance(number, str) and shown.get("id") != number and is_phone(kind, number):
            # Only the number told that this is a phone; without it the type must.
            shown["@odata.type"] = _PHONE_TYPE
        return shown

    def _of_identity(self, name: str, value: Any, is_number: bool) -> Any:
        if value is None or name == "@odata.type":
            return value
        if name in PERSONAL[Identity]:
            step = self._person.step(name, is_phone=is_number)
            return value if step is None else _on_text(step)(value)
        if name in _fields(Identity):
            return self._walker(_fields(Identity)[name])(value)
        return _GONE if "@" in name else self._unknown(value)

    # ---- what the model does not know ------------------------------------------------------------------------------

    def _unknown(self, value: Any) -> Any:
        if self._unknown_step is None:
            return value
        try:
            return _everywhere(value, self._unknown_step)
        except RecursionError:
            return _GONE


def _everywhere(value: Any, step: Step) -> Any:
    """Every text in a value hashed; `_GONE` where text is dropped, and with it all that it stood in."""
    if isinstance(value, str):
        shown = step(value)
        return _GONE if shown is None else shown
    if step("?") is None:
        return _GONE
    if isinstance(value, dict):
        return {name: _everywhere(part, step) for name, part in value.items()}
    if isinstance(value, list):
        return [_everywhere(part, step) for part in value]
    return value


def _on_text(step: Step) -> Walker:
    """A personal text. A number or truth value is text to the decoder too; anything else has no place there."""

    def walk(value: Any) -> Any:
        if isinstance(value, dict | list):
            return _GONE
        shown = step(value if isinstance(value, str) else json.dumps(value))
        return _GONE if shown is None else shown

    return walk


def _as_it_is(value: Any) -> Any:
    return value


@lru_cache(256)
def hidden_document(policy: Policy, tenant_id: str) -> HiddenDocument:
    """Made once for each policy and tenant (id in lower case); safe to use from any thread."""
    return HiddenDocument(policy, tenant_id)


@cache
def _fields(cls: type[msgspec.Struct]) -> dict[str, inspect.Type]:
    kind = inspect.type_info(cls)
    return {field.encode_name: field.type for field in getattr(kind, "fields", ())}
