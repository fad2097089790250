"""Reads the few kinds of PowerShell lines that our documents have, and makes the requests of Microsoft's module.

Cmdlets, parameters and expressions that it does not know are errors, as with `azure_cli`. No PowerShell was run: what
each cmdlet asks of Graph is documented with it (https://learn.microsoft.com/powershell/module/microsoft.graph.applications).
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

Ask = Callable[[str, str, Any], Any]
"""(method, path below v1.0, body) → the answer's JSON."""
TOKEN = re.compile(
    r"""\s*(?:
    (?P<text>"[^"]*")|(?P<name>\$\w+(?:\.\w+)*)|(?P<open>@[({])|(?P<close>[)}])|(?P<mark>[;,=|])
    |(?P<date>\(Get-Date\)\.AddYears\(\d+\))|(?P<word>[\w./-]+))""",
    re.VERBOSE,
)


class NotUnderstood(Exception):
    """A line that this reader does not know."""


class Shell:
    """Runs lines one after the other; variables last."""

    def __init__(self, ask: Ask, folder: Path, variables: dict[str, Any]) -> None:
        self._ask = ask
        self._folder = folder
        self.variables = {name.lower(): value for name, value in variables.items()}
        self.printed: list[Any] = []

    def run(self, line: str) -> None:
        """One statement. Raises NotUnderstood, and what the request raises."""
        tokens = _tokens(line)
        target = None
        if len(tokens) > 2 and tokens[0][0] == "name" and tokens[1] == ("mark", "="):
            target, tokens = tokens[0][1][1:].lower(), tokens[2:]
        value = self._pipeline(tokens)
        if target is not None:
            self.variables[target] = value
        elif value is not None:
            self.printed.append(value)

    def _pipeline(self, tokens: list[tuple[str, str]]) -> Any:
        if ("mark", "|") in tokens:
            cut = tokens.index(("mark", "|"))
            value, then = self._pipeline(tokens[:cut]), tokens[cut + 1 :]
            if [kind for kind, _ in then] != ["word", "word"] or then[0][1] != "Set-Content":
                raise NotUnderstood(f"after |: {then}")
            (self._folder / then[1][1]).write_text(f"{value}\n", encoding="utf-8")
            return None
        if tokens and tokens[0][0] == "word" and "-" in tokens[0][1]:
            return self._cmdlet(tokens[0][1], tokens[1:])
        reader = _Reader(tokens, self.variables)
        value = reader.value()
        reader.end()
        return value

    def _cmdlet(self, name: str, tokens: list[tuple[str, str]]) -> Any:
        reader = _Reader(tokens, self.variables)
        known = CMDLETS.get(name)
        if known is None:
            raise NotUnderstood(f"the cmdlet {name}")
        run, parameters = known
        given: dict[str, Any] = {}
        while not reader.is_done:
            parameter = reader.word()
            if parameter.removeprefix("-") not in parameters:
                # What stands without a name, as the module's name after Install-Module.
                given["Name"] = parameter if name == "Install-Module" and "Name" not in given else None
                if given["Name"] is None:
                    raise NotUnderstood(f"{name} {parameter}")
                continue
            given[parameter.removeprefix("-")] = reader.values()
        return run(self._ask, given)


def _tokens(line: str) -> list[tuple[str, str]]:
    found, place = [], 0
    line = line.rstrip()
    while place < len(line):
        match = TOKEN.match(line, place)
        if match is None or match.lastgroup is None:
            raise NotUnderstood(line[place:])
        found.append((match.lastgroup, match[match.lastgroup]))
        place = match.end()
    return found


class _Reader:
    """Values out of tokens."""

    def __init__(self, tokens: list[tuple[str, str]], variables: dict[str, Any]) -> None:
        self._tokens = list(tokens)
        self._variables = variables

    @property
    def is_done(self) -> bool:
        return not self._tokens

    def end(self) -> None:
        if self._tokens:
            raise NotUnderstood(f"what follows: {self._tokens}")

    def word(self) -> str:
        return self._take("word")

    def values(self) -> Any:
        """One value, or several between commas."""
        found = [self.value()]
        while self._tokens and self._tokens[0] == ("mark", ","):
            self._tokens.pop(0)
            found.append(self.value())
        return found if len(found) > 1 else found[0]

    def value(self) -> Any:
        if not self._tokens:
            raise NotUnderstood("a value is missing")
        kind, text = self._tokens.pop(0)
        match kind:
            case "text":
                return text[1:-1]
            case "word":
                return text
            case "name":
                return self._named(text)
            case "date":
                years = int(re.findall(r"\d+", text)[0])
                return (datetime.now(UTC) + timedelta(days=365 * years)).isoformat()
            case "open" if text == "@{":
                return self._table()
            case "open":
                return self._list()
        raise NotUnderstood(f"{text} where a value belongs")

    def _named(self, text: str) -> Any:
        first, *properties = text[1:].split(".")
        if first.lower() not in self._variables:
            raise NotUnderstood(f"the variable ${first}")
        value = self._variables[first.lower()]
        for one in properties:
            # PowerShell minds no upper case in names of properties; Graph's begin with a small letter.
            value = value[one[0].lower() + one[1:]]
        return value

    def _table(self) -> dict[str, Any]:
        found = {}
        while self._tokens and self._tokens[0] != ("close", "}"):
            name = self.word()
            self._take("mark", "=")
            found[name[0].lower() + name[1:]] = self.value()
            if self._tokens and self._tokens[0] == ("mark", ";"):
                self._tokens.pop(0)
        self._take("close", "}")
        return found

    def _list(self) -> list[Any]:
        found = []
        while self._tokens and self._tokens[0] != ("close", ")"):
            value = self.values()
            found += value if isinstance(value, list) else [value]
        self._take("close", ")")
        return found

    def _take(self, kind: str, text: str | None = None) -> str:
        if not self._tokens or self._tokens[0][0] != kind or text not in (None, self._tokens[0][1]):
            raise NotUnderstood(f"{self._tokens[:1]} where {text or kind} belongs")
        return self._tokens.pop(0)[1]


def _application(ask: Ask, given: dict[str, Any]) -> Any:
    body = {"displayName": given["DisplayName"], "signInAudience": given["SignInAudience"]}
    return ask("POST", "/applications", {**body, "requiredResourceAccess": given["RequiredResourceAccess"]})


def _find_principal(ask: Ask, given: dict[str, Any]) -> Any:
    [one] = ask("GET", f"/servicePrincipals?$filter={given['Filter'].replace(' ', '%20')}", None)["value"]
    return one


def _assignment(ask: Ask, given: dict[str, Any]) -> Any:
    body = {"principalId": given["PrincipalId"], "resourceId": given["ResourceId"], "appRoleId": given["AppRoleId"]}
    return ask("POST", f"/servicePrincipals/{given['ServicePrincipalId']}/appRoleAssignments", body)


def _password(ask: Ask, given: dict[str, Any]) -> Any:
    body = {"passwordCredential": given["PasswordCredential"]}
    return ask("POST", f"/applications/{given['ApplicationId']}/addPassword", body)


def _nothing(ask: Ask, given: dict[str, Any]) -> None:
    """Installing and signing in: the test has done what stands for it."""


CMDLETS: dict[str, tuple[Callable[[Ask, dict[str, Any]], Any], tuple[str, ...]]] = {
    "Install-Module": (_nothing, ("Scope",)),
    "Connect-MgGraph": (_nothing, ("TenantId", "Scopes")),
    "New-MgApplication": (_application, ("DisplayName", "SignInAudience", "RequiredResourceAccess")),
    "New-MgServicePrincipal": (
        lambda ask, given: ask("POST", "/servicePrincipals", {"appId": given["AppId"]}),
        ("AppId",),
    ),
    "Get-MgServicePrincipal": (_find_principal, ("Filter",)),
    "New-MgServicePrincipalAppRoleAssignment": (
        _assignment,
        ("ServicePrincipalId", "PrincipalId", "ResourceId", "AppRoleId"),
    ),
    "Add-MgApplicationPassword": (_password, ("ApplicationId", "PasswordCredential")),
}
