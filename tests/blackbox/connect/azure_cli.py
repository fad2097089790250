"""Stands in for `az`: the requests that Azure CLI 2.91 makes for the commands of our documents, and no other command.

It is a process of its own that talks to the emulated Graph over TLS. What it does not know, command, option or query,
ends it with exit code 2, so a document that gains a line fails its test until the line is understood here. The
requests are those that `az --debug` shows; the real program was run against the emulator by hand (docs/connect.md).

    EMULATOR       address of the emulated Graph, which is its login too
    EMULATOR_CA    file of its certificate authority
    EMULATOR_HOME  folder that keeps who is signed in, as ~/.azure does
"""

import json
import os
import ssl
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

ADMINISTRATOR = ("aaaaaaaa-1111-4222-8333-444455556666", "administrator-secret")
SHORT = {"-o": "--output"}
SWITCHES = ("--allow-no-subscriptions", "--append")
Options = dict[str, str]


class Refused(Exception):
    """What `az` would print after `ERROR:`; exit code 1."""


class Unknown(Exception):
    """A command, option or query that this stand-in does not know; exit code 2."""


class Graph:
    """The emulated Graph, asked as the administrator who has signed in."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.root = environment["EMULATOR"]
        self._context = ssl.create_default_context(cafile=environment["EMULATOR_CA"])
        self._token = Path(environment["EMULATOR_HOME"]) / "token"

    def sign_in(self, tenant: str) -> None:
        """Keeps a token of the administrator's."""
        client_id, secret = ADMINISTRATOR
        form = {"grant_type": "client_credentials", "client_id": client_id, "client_secret": secret}
        form["scope"] = f"{self.root}/.default"
        url = f"{self.root}/{tenant}/oauth2/v2.0/token"
        answer = self._send(urllib.request.Request(url, urllib.parse.urlencode(form).encode()))
        self._token.write_text(answer["access_token"], encoding="utf-8")

    def ask(self, method: str, url: str, body: Any = None) -> Any:
        """The answer's JSON; None for an empty one. Raises Refused."""
        if not self._token.exists():
            raise Refused("Please run 'az login' to setup account.")
        whole = url if url.startswith(self.root) else f"{self.root}/v1.0{url}"
        if not whole.startswith(f"{self.root}/"):
            raise Unknown(f"the address {url}")
        headers = {"Authorization": f"Bearer {self._token.read_text(encoding='utf-8')}"}
        content = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            content = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        return self._send(urllib.request.Request(whole, content, headers, method=method.upper()))

    def found(self, kind: str, condition: str) -> list[Any]:
        """A collection under a filter."""
        return list(self.ask("GET", f"/{kind}?" + urllib.parse.urlencode({"$filter": condition}))["value"])

    def application(self, app_id: str) -> Any:
        """By client id, as `az` resolves `--id`."""
        found = self.found("applications", f"appId eq '{app_id}'")
        if not found:
            raise Refused(f"Resource '{app_id}' does not exist.")
        return self.ask("GET", f"/applications/{found[0]['id']}")

    def _send(self, request: urllib.request.Request) -> Any:
        try:
            with urllib.request.urlopen(request, context=self._context, timeout=30) as answer:
                content = answer.read()
        except urllib.error.HTTPError as error:
            raise Refused(f"{error.code} {error.read().decode()}") from None
        return json.loads(content) if content else None


def login(graph: Graph, options: Options) -> Any:
    """The one difference: a person signs in with a browser, this with the emulator's administrator."""
    graph.sign_in(options["--tenant"])
    return [{"tenantId": options["--tenant"]}]


def app_create(graph: Graph, options: Options) -> Any:
    """An application of the same name is taken over."""
    name = options["--display-name"]
    body = {"displayName": name, "keyCredentials": []}
    if audience := options.get("--sign-in-audience"):
        body["signInAudience"] = audience
    same = [
        one for one in graph.found("applications", f"startswith(displayName,'{name}')") if one["displayName"] == name
    ]
    if not same:
        return graph.ask("POST", "/applications", body)
    graph.ask(
        "PATCH", f"/applications/{same[0]['id']}", {name: body[name] for name in body if name != "keyCredentials"}
    )
    return graph.ask("GET", f"/applications/{same[0]['id']}")


def sp_create(graph: Graph, options: Options) -> Any:
    """For an application of this directory."""
    app_id = graph.found("applications", f"appId eq '{options['--id']}'")[0]["appId"]
    return graph.ask("POST", "/servicePrincipals", {"appId": app_id, "accountEnabled": True})


def sp_show(graph: Graph, options: Options) -> Any:
    """By any of its names."""
    [one] = graph.found("servicePrincipals", f"servicePrincipalNames/any(c:c eq '{options['--id']}')")
    return graph.ask("GET", f"/servicePrincipals/{one['id']}")


def permission_add(graph: Graph, options: Options) -> Any:
    """Adds to what is asked for; grants nothing."""
    role, _, kind = options["--api-permissions"].partition("=")
    application = graph.application(options["--id"])
    wanted = {"resourceAppId": options["--api"], "resourceAccess": [{"id": role, "type": kind}]}
    body = {"requiredResourceAccess": [*application["requiredResourceAccess"], wanted]}
    graph.ask("PATCH", f"/applications/{application['id']}", body)


def credential_reset(graph: Graph, options: Options) -> Any:
    """A new secret, or the public part of a certificate; always beside what is there."""
    application = graph.application(options["--id"])
    if "--append" not in options:
        raise Unknown("credential reset without --append, which removes what is there")
    now, years = datetime.now(UTC), int(options.get("--years", "1"))
    password = None
    if certificate := options.get("--cert"):
        lines = Path(certificate.removeprefix("@")).read_text(encoding="utf-8").splitlines(keepends=True)
        key = "".join(lines[1:-1])
        new = {"type": "AsymmetricX509Cert", "usage": "Verify", "key": key, "displayName": None}
        body = {"keyCredentials": [*application["keyCredentials"], new]}
        graph.ask("PATCH", f"/applications/{application['id']}", body)
    else:
        end = (now + timedelta(days=365 * years)).isoformat().replace("+00:00", "Z")
        wish = {"startDateTime": now.isoformat().replace("+00:00", "Z"), "endDateTime": end}
        made = graph.ask("POST", f"/applications/{application['id']}/addPassword", {"passwordCredential": wish})
        password = made["secretText"]
    return {"appId": application["appId"], "password": password}


def federated_create(graph: Graph, options: Options) -> Any:
    """Whom the application trusts."""
    application = graph.application(options["--id"])
    body = json.loads(options["--parameters"])
    return graph.ask("POST", f"/applications/{application['id']}/federatedIdentityCredentials", body)


def rest(graph: Graph, options: Options) -> Any:
    """Any request to Graph."""
    if options.get("--resource", graph.root) != graph.root:
        raise Unknown(f"the resource {options['--resource']}")
    return graph.ask(options.get("--method", "get"), options["--url"], options.get("--body"))


QUERIED = ("--query", "--output")
COMMANDS: dict[str, tuple[Callable[[Graph, Options], Any], tuple[str, ...]]] = {
    "login": (login, ("--tenant", "--allow-no-subscriptions")),
    "ad app create": (app_create, ("--display-name", "--sign-in-audience")),
    "ad sp create": (sp_create, ("--id",)),
    "ad sp show": (sp_show, ("--id",)),
    "ad app permission add": (permission_add, ("--id", "--api", "--api-permissions")),
    "ad app credential reset": (credential_reset, ("--id", "--append", "--years", "--cert")),
    "ad app federated-credential create": (federated_create, ("--id", "--parameters")),
    "rest": (rest, ("--method", "--resource", "--url", "--body")),
}


def understand(arguments: Sequence[str]) -> tuple[str, Options]:
    """The command and its options. Raises Unknown."""
    words = list(arguments)
    first = next((number for number, word in enumerate(words) if word.startswith("-")), len(words))
    command, rest_of = " ".join(words[:first]), words[first:]
    if command not in COMMANDS:
        raise Unknown(f"the command {command}")
    options: Options = {}
    while rest_of:
        name = SHORT.get(rest_of[0], rest_of[0])
        if name not in (*COMMANDS[command][1], *QUERIED):
            raise Unknown(f"{command} {name}")
        taken = 1 if name in SWITCHES else 2
        if len(rest_of) < taken:
            raise Unknown(f"{command} {name} without a value")
        options[name] = rest_of[taken - 1]
        del rest_of[:taken]
    return command, options


def shown(answer: Any, options: Options) -> str:
    """What is printed: all of it as JSON, or one value, or one a line."""
    query, output = options.get("--query"), options.get("--output", "json")
    if output not in ("json", "tsv", "none"):
        raise Unknown(f"--output {output}")
    if query:
        collection, each, name = query.rpartition("[].")
        if not name.isidentifier() or (each and not collection.isidentifier()):
            raise Unknown(f"--query {query}")
        answer = [one[name] for one in answer[collection]] if each else answer[name]
    if output == "none" or answer is None:
        return ""
    if output == "json":
        return json.dumps(answer, indent=2) + "\n"
    if isinstance(answer, dict):
        raise Unknown("an object as --output tsv")
    return "".join(f"{one}\n" for one in (answer if isinstance(answer, list) else [answer]))


def main(arguments: Sequence[str]) -> int:
    """Runs one command."""
    try:
        command, options = understand(arguments)
        sys.stdout.write(shown(COMMANDS[command][0](Graph(os.environ), options), options))
    except Unknown as what:
        print(f"az (stand-in): not known here: {what}", file=sys.stderr)
        return 2
    except Refused as why:
        print(f"ERROR: {why}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
