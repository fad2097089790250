"""Dockerfile, Compose, Prometheus and Kubernetes files: valid, hardened, and in step with the program.

Nothing is deployed here, images are neither built nor pulled: `kubectl kustomize` and `promtool` need no cluster.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import kubernetes_validate
import pytest
import yaml
from prometheus_client import CollectorRegistry

from service.admin import admin_site
from service.metrics import Metrics
from service.settings import ROLES, Admin, Settings, load
from service.signin.check import check_credentials
from service.signin.clouds import endpoints

ROOT = Path(__file__).parents[2]
KUBERNETES_VERSION = "1.31"
RUN_AS = 10001
DEFAULTS = Settings()


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """A finished command with its output as text."""
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def program(name: str) -> str:
    """A program of the system; the test is skipped where it is not installed."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


def read_yaml(name: str) -> Any:
    """One file of the project."""
    return yaml.safe_load((ROOT / name).read_text())


@pytest.fixture(scope="module")
def manifests() -> list[dict[str, Any]]:
    """What `kubectl kustomize k8s` makes."""
    built = run(program("kubectl"), "kustomize", "k8s")
    assert built.returncode == 0, built.stderr
    return list(yaml.safe_load_all(built.stdout))


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """The services of the composition."""
    services: dict[str, Any] = read_yaml("deploy/compose.yaml")["services"]
    return services


def of_kind(manifests: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """The manifests of one kind."""
    return [it for it in manifests if it["kind"] == kind]


def pods(manifests: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Pod spec and its only container, of every Deployment."""
    for deployment in of_kind(manifests, "Deployment"):
        spec = deployment["spec"]["template"]["spec"]
        (container,) = spec["containers"]
        yield spec, container


def settings_of(environment: Mapping[str, str], secrets: Path) -> Settings:
    """The settings a process started with these variables has; files of secrets are stood in for."""
    stand_in = secrets / "secret"
    stand_in.write_text("a secret of some length\n")
    return load({name: str(stand_in) if name.endswith("_FILE") else value for name, value in environment.items()})


def settings_env() -> dict[str, str]:
    """`k8s/settings.env` as variables."""
    lines = (line for line in (ROOT / "k8s/settings.env").read_text().splitlines() if line and line[0] != "#")
    return dict(line.split("=", 1) for line in lines)


def test_the_composition_follows_its_schema() -> None:
    """What `docker compose` itself would refuse is refused here."""
    checked = run(
        sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", "deploy/compose.yaml"
    )

    assert checked.returncode == 0, checked.stdout


def test_the_composition_publishes_on_loopback_only(compose: dict[str, Any]) -> None:
    """A demonstration must not open a laptop to its network."""
    published = [port for service in compose.values() for port in service.get("ports", [])]

    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_every_service_of_the_composition_has_a_health_check_and_no_privileges(compose: dict[str, Any]) -> None:
    """Kafka's image alone writes into its own folders; all the others are read-only."""
    for name, service in compose.items():
        assert service["healthcheck"]["test"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service.get("read_only", False) is (name != "kafka"), name


def test_the_composition_uses_settings_that_exist(compose: dict[str, Any], tmp_path: Path) -> None:
    """Every variable is read, and the service it makes talks to the composition's own Kafka."""
    settings = settings_of(compose["callstream"]["environment"], tmp_path)
    kafka = compose["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"]

    assert f"://{settings.kafka.bootstrap_servers}," in kafka
    assert settings.tenants.keys() == {"contoso"}


def test_the_composition_stops_later_than_the_service_drains(compose: dict[str, Any], tmp_path: Path) -> None:
    """A kill in the middle of a drain costs a repeated batch."""
    settings = settings_of(compose["callstream"]["environment"], tmp_path)

    assert int(compose["callstream"]["stop_grace_period"].removesuffix("s")) > settings.drain_seconds


def test_prometheus_can_read_its_configuration() -> None:
    """promtool's own word."""
    checked = run(program("promtool"), "check", "config", "deploy/prometheus.yml")

    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_prometheus_scrapes_the_private_port(compose: dict[str, Any]) -> None:
    """The target is a service of the composition, and the port its private one."""
    (job,) = read_yaml("deploy/prometheus.yml")["scrape_configs"]
    ((target,),) = [it["targets"] for it in job["static_configs"]]
    host, port = target.split(":")

    assert host in compose
    assert int(port) == DEFAULTS.admin.port
    assert job["metrics_path"] == "/metrics"


def test_every_manifest_is_valid(manifests: list[dict[str, Any]]) -> None:
    """Against the published schemas, unknown fields refused."""
    for manifest in manifests:
        kubernetes_validate.validate(manifest, KUBERNETES_VERSION, strict=True)


def test_the_example_secret_is_valid_and_not_deployed(manifests: list[dict[str, Any]]) -> None:
    """The base refers to a Secret and brings none."""
    example = read_yaml("k8s/secret.example.yaml")
    kubernetes_validate.validate(example, KUBERNETES_VERSION, strict=True)
    named = {it["secret"]["secretName"] for spec, _ in pods(manifests) for it in spec["volumes"] if "secret" in it}

    assert named == {example["metadata"]["name"]}
    assert not of_kind(manifests, "Secret")


def test_the_example_secret_has_every_file_that_the_settings_name(manifests: list[dict[str, Any]]) -> None:
    """Variables that end in _FILE point into the mounted Secret, at keys that the example shows."""
    files = {Path(value) for name, value in settings_env().items() if name.endswith("_FILE")}
    mounts = {it["mountPath"] for _, container in pods(manifests) for it in container["volumeMounts"]}

    assert {path.name for path in files} == set(read_yaml("k8s/secret.example.yaml")["stringData"])
    assert {str(path.parent) for path in files} <= mounts


def test_the_pods_use_settings_that_exist(manifests: list[dict[str, Any]], tmp_path: Path) -> None:
    """Every variable of the ConfigMap is read, and the private site can be reached by probes."""
    (config,) = of_kind(manifests, "ConfigMap")
    settings = settings_of(config["data"], tmp_path)

    assert config["data"] == settings_env()
    assert settings.admin.host == "0.0.0.0"
    assert settings.receiver.public_url.startswith("https://")
    for _, container in pods(manifests):
        (source,) = container["envFrom"]
        assert source["configMapRef"]["name"] == config["metadata"]["name"]


def test_the_secret_that_the_documents_make_has_every_key(tmp_path: Path) -> None:
    """docs/connect.md's line, without a cluster, of the files that the README's lines have made."""
    [line] = re.findall(r"^kubectl create secret .*$", (ROOT / "docs/connect.md").read_text(), re.MULTILINE)
    example = read_yaml("k8s/secret.example.yaml")
    for name in example["stringData"]:
        (tmp_path / name).write_text("made by a line of the README\n")
    words = [program("kubectl"), *line.split()[1:], "--dry-run=client", "--output=yaml"]
    made = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    secret = yaml.safe_load(made.stdout)

    assert secret["metadata"]["name"] == example["metadata"]["name"]
    assert secret["data"].keys() == example["stringData"].keys()
    for name in example["stringData"]:
        assert f"> {name}" in (ROOT / "README.md").read_text()


@pytest.fixture(scope="module")
def with_workload_identity(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What an overlay makes of the base and the component, as a user's would."""
    overlay = tmp_path_factory.mktemp("overlay").resolve()
    base = os.path.relpath(ROOT / "k8s", overlay)
    wish = {"namespace": "callstream", "resources": [base], "components": [f"{base}/workload-identity"]}
    (overlay / "kustomization.yaml").write_text(yaml.safe_dump(wish))
    built = run(program("kubectl"), "kustomize", str(overlay))
    assert built.returncode == 0, built.stderr
    return list(yaml.safe_load_all(built.stdout))


def test_with_workload_identity_who_signs_in_is_labelled(with_workload_identity: list[dict[str, Any]]) -> None:
    """The webhook acts on the label of the pods and the annotations of their service account."""
    for manifest in with_workload_identity:
        kubernetes_validate.validate(manifest, KUBERNETES_VERSION, strict=True)
    labelled = {
        it["metadata"]["name"]
        for it in of_kind(with_workload_identity, "Deployment")
        if it["spec"]["template"]["metadata"]["labels"].get("azure.workload.identity/use") == "true"
    }
    [account] = of_kind(with_workload_identity, "ServiceAccount")

    assert labelled == {"callstream-worker", "callstream-keeper"}
    assert account["metadata"]["annotations"] == {
        "azure.workload.identity/client-id": settings_env()["CALLSTREAM_TENANTS__CONTOSO__CLIENT_ID"],
        "azure.workload.identity/tenant-id": settings_env()["CALLSTREAM_TENANTS__CONTOSO__ID"],
    }
    assert all(spec["serviceAccountName"] == account["metadata"]["name"] for spec, _ in pods(with_workload_identity))
    # The subject that docs/sign-in.md has the application trust.
    subject = f"system:serviceaccount:{account['metadata']['namespace']}:{account['metadata']['name']}"
    assert f'"subject": "{subject}"' in (ROOT / "docs/sign-in.md").read_text()


def test_with_workload_identity_the_service_starts_without_a_secret(
    with_workload_identity: list[dict[str, Any]], tmp_path: Path
) -> None:
    """The settings of the pods are taken, with what the webhook adds; no file of the application's secret is named."""
    [config] = of_kind(with_workload_identity, "ConfigMap")
    token, secret = tmp_path / "token", tmp_path / "secret"
    token.write_text("a.signed.token")
    secret.write_text("a secret of some length\n")
    environment = {
        name: str(secret) if name.endswith("_FILE") and value else value for name, value in config["data"].items()
    }
    settings = load(environment | {"AZURE_FEDERATED_TOKEN_FILE": str(token)})
    check_credentials(settings, endpoints(settings.graph))

    assert settings.tenants["contoso"].credential == "workload-identity"
    assert settings.tenants["contoso"].federated_token_file == str(token)
    assert [name for name, value in config["data"].items() if not value] == [
        "CALLSTREAM_TENANTS__CONTOSO__CLIENT_SECRET_FILE"
    ]


def test_every_role_has_its_pods(manifests: list[dict[str, Any]]) -> None:
    """Together the Deployments do everything that `serve` does."""
    roles = []
    for _, container in pods(manifests):
        command, option, role = container["args"]
        assert (command, option) == ("serve", "--role")
        roles.append(role)

    assert sorted(roles) == sorted(ROLES)


def test_the_pods_outlast_the_drain(manifests: list[dict[str, Any]], tmp_path: Path) -> None:
    """preStop and drain together are shorter than the grace period."""
    drain = settings_of(settings_env(), tmp_path).drain_seconds
    for spec, container in pods(manifests):
        hook = container.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", ["sleep", "0"])
        assert spec["terminationGracePeriodSeconds"] > int(hook[1]) + drain


def test_the_pods_have_no_privileges(manifests: list[dict[str, Any]]) -> None:
    """Neither root, nor a writable image, nor a token of the cluster."""
    for spec, container in pods(manifests):
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] == RUN_AS
        assert spec["automountServiceAccountToken"] is False
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["limits"]["memory"]


def test_only_the_public_port_has_a_reachable_service(manifests: list[dict[str, Any]]) -> None:
    """The private site says what is wrong to anyone who asks: it has no address of its own."""
    ports = {
        it["metadata"]["name"]: (it["spec"], it["spec"]["ports"][0]["port"]) for it in of_kind(manifests, "Service")
    }
    public, public_port = ports["callstream-receiver"]
    private, private_port = ports["callstream-private"]

    assert public_port == DEFAULTS.receiver.port
    assert public["type"] == "ClusterIP"
    assert private_port == DEFAULTS.admin.port
    assert private["clusterIP"] == "None"


def test_each_deployment_may_lose_one_pod_at_a_time(manifests: list[dict[str, Any]]) -> None:
    """Every budget selects the pods of one Deployment."""
    chosen = [it["spec"]["selector"]["matchLabels"] for it in of_kind(manifests, "PodDisruptionBudget")]
    labels = [it["spec"]["template"]["metadata"]["labels"] for it in of_kind(manifests, "Deployment")]

    assert sorted(chosen, key=str) == sorted(labels, key=str)


async def test_what_probes_and_prometheus_ask_for_is_answered(manifests: list[dict[str, Any]]) -> None:
    """Paths and port are those of the private site."""
    asked = set()
    for _, container in pods(manifests):
        ports = {it["name"]: it["containerPort"] for it in container["ports"]}
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            asked.add(container[probe]["httpGet"]["path"])
            assert ports[container[probe]["httpGet"]["port"]] == DEFAULTS.admin.port
    for deployment in of_kind(manifests, "Deployment"):
        notes = deployment["spec"]["template"]["metadata"]["annotations"]
        assert int(notes["prometheus.io/port"]) == DEFAULTS.admin.port
        asked.add(notes["prometheus.io/path"])
    async with (
        admin_site(Admin(port=0), Metrics(CollectorRegistry()), lambda: None, {}) as site,
        aiohttp.ClientSession(site.url) as session,
    ):
        for path in asked:
            async with session.get(path) as response:
                assert response.status == 200, path


def dockerfile() -> list[list[str]]:
    """The instructions, continuation lines joined, in words."""
    text = re.sub(r"\\\n\s*", " ", (ROOT / "Dockerfile").read_text())
    return [line.split() for line in text.splitlines() if line.strip() and not line.startswith("#")]


def test_the_image_runs_as_a_number_that_is_not_root() -> None:
    """Kubernetes can only refuse root when the user is a number."""
    (user,) = [words[1] for words in dockerfile() if words[0] == "USER"]

    assert user == f"{RUN_AS}:{RUN_AS}"


def test_everything_in_the_image_is_locked_by_hash() -> None:
    """pip gets hashes, or nothing to choose: the wheel that has just been built."""
    installs = re.findall(
        r"pip (?:install|wheel) .*?(?=&&|$)", "\n".join(" ".join(words) for words in dockerfile()), re.MULTILINE
    )

    assert installs
    for install in installs:
        assert "--require-hashes" in install or "--no-deps" in install


def test_the_image_copies_only_what_is_there_and_sent() -> None:
    """Every source of COPY exists, and .dockerignore lets it through."""
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    sources = {
        source
        for words in dockerfile()
        if words[0] == "COPY" and not words[1].startswith("--from")
        for source in words[1:-1]
    }

    assert sources == sent
    assert all((ROOT / source).exists() for source in sources)


def test_the_image_serves_and_says_how_it_is() -> None:
    """Entry point, default command, signal and health check fit the program."""
    last = {words[0]: " ".join(words[1:]) for words in dockerfile()}

    assert last["ENTRYPOINT"] == '["callstream"]'
    assert last["CMD"] == '["serve"]'
    assert last["STOPSIGNAL"] == "SIGTERM"
    assert f"127.0.0.1:{DEFAULTS.admin.port}/livez" in last["HEALTHCHECK"]
    assert last["EXPOSE"] == f"{DEFAULTS.receiver.port} {DEFAULTS.admin.port}"


@pytest.mark.parametrize("lock", sorted((ROOT / "requirements").glob("*.txt")), ids=lambda path: path.name)
def test_a_lock_names_versions_and_hashes_and_no_host(lock: Path) -> None:
    """It installs from whatever index a machine uses."""
    text = lock.read_text()

    assert "://" not in text
    assert not re.search(r"^\s*--(?!hash=)", text, re.MULTILINE)
    for entry in re.split(r"\n(?=[a-z])", re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE).strip()):
        assert re.match(r"[a-z0-9._-]+(\[[a-z,]+\])?==\S+", entry), entry.splitlines()[0]
        assert "--hash=sha256:" in entry, entry.splitlines()[0]
