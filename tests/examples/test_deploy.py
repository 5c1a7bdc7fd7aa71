"""The samples for containers and systemd: accepted by their tools, and run as they stand."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import certifi
import httpx
import kubernetes_validate
import pytest
import yaml

from audit_logging.integrity.keys import SigningKey
from audit_logging.opensearch.admin import AuditAdmin
from audit_logging.settings import ENVIRONMENT_PREFIX, Settings
from tests.containers.container import (
    USER,
    Container,
    Volume,
    empty_directory,
    in_containers,
    secret_volume,
    signal_first_process,
)
from tests.waiting import until

PROJECT = Path(__file__).parents[2]
SAMPLES = PROJECT / "examples" / "deploy"
DOCUMENTATION = (PROJECT / "docs" / "operations.md").read_text()

OLDEST_KUBERNETES, NEWEST_KUBERNETES = "1.29", kubernetes_validate.latest_version()


# -- the image --


def instructions():
    """Return the instructions of the Dockerfile as (name, rest), in order."""
    text = re.sub(r"^#.*\n", "", (SAMPLES / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [tuple(line.split(maxsplit=1)) for line in text.splitlines() if line]


@pytest.fixture
def image():
    """Return the user, the variables, the entry point and the command of the image."""
    last = dict(instructions())
    variables = dict(word.split("=", 1) for word in shlex.split(last["ENV"]))
    user, _, group = last["USER"].partition(":")
    return int(user), int(group), variables, json.loads(last["ENTRYPOINT"]), json.loads(last["CMD"])


@pytest.fixture
def built(tmp_path):
    """Copy what the Dockerfile copies out of the checkout."""
    directory = tmp_path / "src"
    directory.mkdir()
    for name, rest in instructions():
        if name == "COPY" and not rest.startswith("--from"):
            *sources, target = rest.split()
            for source in map(PROJECT.joinpath, sources):
                if source.is_dir():
                    shutil.copytree(source, directory / target, ignore=shutil.ignore_patterns("__pycache__"))
                else:
                    shutil.copy(source, directory / target)
    return directory


def test_dockerfile_has_no_lint():
    linter = Path(sys.executable).parent / "hadolint"
    ended = subprocess.run([linter, SAMPLES / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


@pytest.mark.slow
def test_wheel_is_built_from_what_the_dockerfile_copies(built, tmp_path):
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path]
    subprocess.run(build, cwd=built, check=True, capture_output=True)
    assert len(list(tmp_path.glob("*.whl"))) == 1
    ignored = (SAMPLES / "Dockerfile.dockerignore").read_text().splitlines()
    assert {path.name for path in built.iterdir()} <= {line[1:] for line in ignored if line.startswith("!")}


def test_image_installs_extras_that_exist():
    import tomllib

    [extras] = re.findall(r"'\.\[([\w,]+)\]'", (SAMPLES / "Dockerfile").read_text())
    assert set(extras.split(",")) <= set(
        tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    )


@in_containers
@pytest.mark.slow
@pytest.mark.server
@pytest.mark.parametrize("as_user", [None, USER])
def test_image_ships_until_sigterm_as_any_user(image, as_user, settings, tmp_path):
    """Without a Secret: the volume belongs to root and its group 0, as the directory in the image does."""
    AuditAdmin(settings=settings).setup()
    user, group, variables, entry, command = image
    volume, root = tmp_path / "volume", tmp_path / "root"
    root.mkdir()
    volume.mkdir()
    volume.chmod(0o775)
    container = Container(root, Volume(volume, "/var/lib/audit-logging"), user=as_user or user, group=group)
    given = {**variables, "AUDIT_OPENSEARCH_URL": settings.opensearch_url[0], "AUDIT_STREAM": settings.stream}
    assert container.run(*entry, "emit", "user.login", "user_id=u-1", **given).returncode == 0
    shipping = container.start(*entry, *command, **given)
    assert "Shipping from" in shipping.stderr.readline()
    signal_first_process(shipping, signal.SIGTERM)
    shipping.communicate(timeout=60)
    assert shipping.returncode == 0
    verdict = json.loads(container.run(*entry, "verify", "--json", **given).stdout)
    assert (verdict["findings"], verdict["events"] > 0) == ([], True)


# -- Kubernetes --


@pytest.fixture
def manifests():
    """Return the objects of the sample by kind."""
    return {each["kind"]: each for each in yaml.safe_load_all((SAMPLES / "kubernetes.yaml").read_text())}


@pytest.fixture
def pod(manifests):
    """Return the specification of the pod."""
    return manifests["Deployment"]["spec"]["template"]["spec"]


@pytest.mark.parametrize("version", [OLDEST_KUBERNETES, NEWEST_KUBERNETES])
def test_kubernetes_accepts_the_manifests(manifests, version):
    for each in manifests.values():
        kubernetes_validate.validate(each, version, strict=True)


def test_kubernetes_would_refuse_a_misspelt_field(manifests):
    manifests["Deployment"]["spec"]["template"]["spec"]["containers"][0]["volumeMount"] = []
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(manifests["Deployment"], OLDEST_KUBERNETES, strict=True)


def test_every_variable_of_the_samples_is_a_setting(manifests, pod):
    names = {*manifests["ConfigMap"]["data"], *(each["name"] for each in pod["containers"][0]["env"])}
    names |= set(re.findall(r"AUDIT_\w+", "".join(path.read_text() for path in SAMPLES.iterdir())))
    settings = {f"{ENVIRONMENT_PREFIX}{name.upper()}" for name in Settings.model_fields}
    assert names - settings == set()


def test_the_references_within_the_manifests_lead_somewhere(manifests, pod):
    labels = manifests["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert manifests["Deployment"]["spec"]["selector"]["matchLabels"].items() <= labels.items()
    volumes = {volume["name"] for volume in pod["volumes"]}
    for container in (*pod["initContainers"], *pod["containers"]):
        assert {mount["name"] for mount in container["volumeMounts"]} == volumes
        assert [each["configMapRef"]["name"] for each in container["envFrom"]] == [
            manifests["ConfigMap"]["metadata"]["name"]
        ]


def test_the_volume_holds_the_spools_of_the_pod(manifests, pod):
    """Beyond its size the kubelet evicts the pod, and the spool with it."""
    [size] = [volume["emptyDir"]["sizeLimit"] for volume in pod["volumes"] if "emptyDir" in volume]
    assert size.endswith("Gi")
    one = int(manifests["ConfigMap"]["data"]["AUDIT_SPOOL_MAX_BYTES"])
    assert 4 * one * 2 == int(size.removesuffix("Gi")) << 30
    patience = float(manifests["ConfigMap"]["data"]["AUDIT_SHUTDOWN_TIMEOUT_SECONDS"])
    assert pod["terminationGracePeriodSeconds"] > 2 * patience


@pytest.fixture
def variables(manifests, settings):
    """The ConfigMap, for the server and stream of the test."""
    AuditAdmin(settings=settings).setup()
    ours = {"AUDIT_OPENSEARCH_URL": settings.opensearch_url[0], "AUDIT_STREAM": settings.stream}
    return {**manifests["ConfigMap"]["data"], **ours}


@pytest.fixture
def container(pod, tmp_path):
    """A container of the pod: its user, its groups and its volumes as the kubelet makes them."""
    root, user = tmp_path / "root", pod["securityContext"]
    root.mkdir()
    SigningKey.load_or_create(tmp_path / "key.pem")
    key = (tmp_path / "key.pem").read_bytes()
    content = {"key_pem": key, "password": b"secret", "ca_pem": Path(certifi.where()).read_bytes()}
    made = {
        "audit": empty_directory(tmp_path / "empty", group=user["fsGroup"]),
        "audit-secret": secret_volume(tmp_path / "secret", group=user["fsGroup"], **content),
    }
    volumes = [
        Volume(made[mount["name"]], mount["mountPath"], mount.get("readOnly", False))
        for mount in pod["containers"][0]["volumeMounts"]
    ]
    groups = (user["fsGroup"],)
    return Container(root, *volumes, user=user["runAsUser"], group=user["runAsGroup"], groups=groups)


@in_containers
@pytest.mark.slow
@pytest.mark.server
def test_pod_of_the_sample_ships_every_event(image, pod, container, variables):
    """The shop of the examples is its application. Containers end in the order in which the kubelet ends them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    *_, entry, _ = image
    [application] = pod["containers"]
    own = {each["name"]: each["value"] for each in application["env"]}
    serve = [sys.executable, "-m", "uvicorn", "examples.shop.app:app", "--port", str(port), "--log-level", "warning"]
    sidecar = container.start(*entry, *pod["initContainers"][0]["args"], **variables)
    shop = container.start(*serve, PYTHONPATH=str(PROJECT), **variables, **own)
    try:
        probes = {name: application[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "liveness", "readiness")}
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            until(lambda: client.get(probes["startup"]).status_code == 200, shop, despite=httpx.TransportError)
            for number in range(20):
                client.post("/login", json={"user": "ann", "password": f"wrong {number}"})
            assert {name: client.get(path).status_code for name, path in probes.items()} == dict.fromkeys(probes, 200)
            assert client.get(probes["readiness"]).json()["status"] == "ok"
        signal_first_process(shop, signal.SIGTERM)
        shop.communicate(timeout=60)
        signal_first_process(sidecar, signal.SIGTERM)
        _, said = sidecar.communicate(timeout=60)
        assert (sidecar.returncode, "shipped to" in said) == (0, True)
    finally:
        for each in (shop, sidecar):
            each.kill()
            each.communicate()
    status = json.loads(container.run(*entry, "spool", "status", "--json", **variables).stdout)
    assert (status["total"]["in_spool"], status["total"]["indexed"] >= 20) == (0, True)
    verdict = json.loads(container.run(*entry, "verify", "--json", **variables).stdout)
    assert (verdict["findings"], verdict["signed"] > 0) == ([], True)


# -- systemd --

UNIT = SAMPLES / "audit-ship@.service"


@pytest.fixture
def unit(tmp_path):
    """The unit, with the command of these tests, so that it exists."""
    path = tmp_path / UNIT.name
    path.write_text(UNIT.read_text().replace("/opt/audit-logging", sys.prefix))
    return path


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd")
@pytest.mark.parametrize("command", ["verify", "security --offline=true --no-pager --threshold=20"])
def test_systemd_takes_the_unit(unit, command):
    """The threshold is that of systemd's own word "OK"; without any protection the level is 96."""
    ended = subprocess.run(["systemd-analyze", *command.split(), unit], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert command != "verify" or (ended.stdout, ended.stderr) == ("", "")


@pytest.mark.slow
@pytest.mark.server
def test_unit_ships_what_its_service_writes(unit, settings, tmp_path):
    """Its command with its environment, for a service called `shop`; then systemd stops it."""
    AuditAdmin(settings=settings).setup()
    values = [line.split("=", 1) for line in unit.read_text().replace("%i", "shop").splitlines() if "=" in line]
    variables = dict(value.split("=", 1) for key, value in values if key == "Environment")
    variables |= dict(
        line.split("=", 1) for line in (SAMPLES / "ship.env").read_text().splitlines() if line.startswith("AUDIT")
    )
    assert variables["AUDIT_HOME"] == dict(values)["ReadWritePaths"] == "/var/lib/shop/audit"
    assert float(variables["AUDIT_SHUTDOWN_TIMEOUT_SECONDS"]) < float(dict(values)["TimeoutStopSec"])
    (tmp_path / "password").write_text("secret")
    ours = {
        "AUDIT_HOME": str(tmp_path / "home"),
        "AUDIT_OPENSEARCH_PASSWORD_FILE": str(tmp_path / "password"),
        "AUDIT_OPENSEARCH_URL": settings.opensearch_url[0],
        "AUDIT_STREAM": settings.stream,
    }
    assert ours.keys() <= {*variables, "AUDIT_STREAM"}
    variables |= ours
    [command] = [shlex.split(value) for key, value in values if key == "ExecStart"]
    emit = [command[0], "emit", "user.login", "user_id=u-1"]
    without_server = {**variables, "AUDIT_OPENSEARCH_URL": "http://127.0.0.1:1"}
    assert subprocess.run(emit, env=without_server, capture_output=True, check=False).returncode == 3
    with subprocess.Popen(command, env=variables, stderr=subprocess.PIPE, text=True) as shipping:
        assert "Shipping from" in shipping.stderr.readline()
        shipping.send_signal(signal.SIGTERM)
        shipping.communicate(timeout=60)
    assert shipping.returncode == 0
    status = [command[0], "spool", "status", "--json"]
    total = json.loads(subprocess.run(status, env=variables, capture_output=True, check=True).stdout)["total"]
    assert (total["in_spool"], total["indexed"] > 0) == (0, True)


# -- the documentation --


def test_the_documentation_names_every_sample():
    for path in SAMPLES.iterdir():
        assert f"examples/deploy/{path.name}" in DOCUMENTATION, path.name


@pytest.mark.parametrize("name", ["audit-ship@.service", "ship.env"])
def test_each_file_of_systemd_says_where_it_belongs(name):
    assert (SAMPLES / name).read_text().startswith("# /etc/")
