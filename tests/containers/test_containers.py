"""The library in containers: a read-only root, an arbitrary uid, no home, no /tmp, volumes as Kubernetes mounts them."""

from __future__ import annotations

import json
import os
import signal
import sys

import pytest

from audit_logging.integrity.keys import SigningKey
from audit_logging.opensearch.admin import AuditAdmin
from tests.containers.container import (
    GROUP,
    Container,
    Volume,
    empty_directory,
    in_containers,
    secret_volume,
    signal_first_process,
)
from tests.waiting import until

pytestmark = [pytest.mark.slow, in_containers]

MOUNTED = "/var/lib/shop"
SPOOL = f"{MOUNTED}/spool"
KEY = "/etc/audit-logging/signing/key.pem"

COMMANDS = [
    "emit user.login user_id=u-1",
    "ship --once",
    "doctor",
    "spool status",
    "spool dead list",
    "trace 01a210e5-00a4-7257-b971-73c9c6bf933e",
    "setup",
    "search",
    "count",
    "stats --by event_type",
    "tail",
    "verify",
    "verify --from-last",
    "export --out -",
    "retention plan",
    "retention apply",
    "hold list",
    "hold place --reason r",
    "erase --user u-1",
    "server status",
    "server down",
    "events",
]


@pytest.fixture
def root(tmp_path):
    """Where the root of a container is mounted."""
    path = tmp_path / "root"
    path.mkdir()
    return path


@pytest.fixture
def pem(tmp_path):
    """A signing key, as `openssl genpkey -algorithm ed25519` makes one."""
    path = tmp_path / "key.pem"
    SigningKey.load_or_create(path)
    return path.read_bytes()


@pytest.fixture
def secret(tmp_path, pem):
    """A Secret with the signing key, mounted."""
    return Volume(secret_volume(tmp_path / "secret", key_pem=pem), "/etc/audit-logging/signing", read_only=True)


@pytest.fixture
def pod(root, tmp_path, secret):
    """A container with an emptyDir and the Secret, in a pod with an ``fsGroup``."""
    directory = empty_directory(tmp_path / "empty", group=GROUP)
    return Container(root, Volume(directory, MOUNTED), secret, groups=(GROUP,))


@pytest.fixture
def server(settings):
    """Variables for a stream that is set up."""
    AuditAdmin(settings=settings).setup()
    return {"AUDIT_OPENSEARCH_URL": settings.opensearch_url[0], "AUDIT_STREAM": settings.stream}


def ended_well(ended):
    """Assert that a command ended with 0 and had nothing to remark; return its output."""
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout


class TestNothingIsSet:
    """Neither a volume nor a setting: one sentence says what to set, whatever the command."""

    @pytest.mark.parametrize("command", COMMANDS)
    def test_no_command_ends_in_a_traceback(self, root, command):
        home = {"HOME": "/"} if command in {"emit user.login user_id=u-1", "doctor"} else {}
        ended = Container(root).run("audit-logging", *command.split(), **home)
        assert "Traceback" not in ended.stderr
        assert ended.returncode in {0, 1, 2, 3, 4}

    def test_an_emit_call_names_the_setting(self, root):
        ended = Container(root).run("audit-logging", "emit", "user.login", "user_id=u-1")
        assert ended.returncode == 4
        *_, last = ended.stderr.splitlines()
        assert last.startswith("Error: The spool directory /var/lib/audit-logging/spool cannot be used")
        assert "AUDIT_SPOOL_DIR" in last
        assert "make room" not in last

    def test_doctor_names_what_is_missing(self, root):
        ended = Container(root).run("audit-logging", "doctor", "--json")
        problems = {each["name"]: each for each in json.loads(ended.stdout)["checks"] if each["verdict"] == "problem"}
        assert ended.returncode == 1
        assert "AUDIT_SPOOL_DIR" in problems["spool"]["remedy"]
        assert "AUDIT_SIGNING_KEY_FILE" in problems["signing"]["remedy"]

    def test_a_hold_asks_for_a_name(self, root):
        ended = Container(root).run("audit-logging", "hold", "place", "--reason", "r")
        assert ended.returncode == 2
        assert ended.stderr.splitlines()[-1] == "Error: This account has no name: give yours with --by."

    def test_health_says_that_nothing_is_signed(self, root, tmp_path):
        """A key that cannot be made is not merely a line of the log."""
        ended = Container(root, Volume(empty_directory(tmp_path / "empty"), MOUNTED)).python(
            """
            import audit_logging as audit
            audit.configure(service="shop", spool_dir="/var/lib/shop/spool")
            audit.get_logger().user_login(user_id="u-1")
            health = audit.health()
            print(health.status, health.is_ready, *(reason.sentence for reason in health.reasons))
            """
        )
        assert ended.returncode == 0, ended.stderr
        assert ended.stdout.startswith("degraded True Nothing is signed: ")
        assert "AUDIT_SIGNING_KEY_FILE" in ended.stdout


class TestVolumes:
    @pytest.mark.parametrize("group", [None, GROUP])
    def test_spool_below_an_empty_directory(self, root, tmp_path, group):
        volume = Volume(empty_directory(tmp_path / "empty", group=group), MOUNTED)
        container = Container(root, volume, groups=(GROUP,) if group else ())
        given = {"AUDIT_SPOOL_DIR": SPOOL, "AUDIT_SIGNING": "false"}
        assert "The event is safe in the spool" in container.run("audit-logging", "emit", "user.login", **given).stderr
        status = json.loads(ended_well(container.run("audit-logging", "spool", "status", "--json", **given)))
        assert status["total"]["emitted"] == 1
        assert {path.stat().st_mode & 0o777 for path in (volume.source / "spool").rglob("*") if path.is_dir()} == {
            0o700
        }

    @pytest.mark.parametrize("command", ["emit user.login user_id=u-1", "ship --once"])
    @pytest.mark.parametrize(("setting", "named"), [("AUDIT_SPOOL_DIR", "spool_dir"), ("AUDIT_HOME", "home")])
    def test_an_empty_directory_itself_is_refused_with_the_remedy(self, root, tmp_path, command, setting, named):
        container = Container(root, Volume(empty_directory(tmp_path / "empty"), MOUNTED))
        given = {setting: MOUNTED, "AUDIT_SIGNING": "false", "AUDIT_OPENSEARCH_URL": "http://127.0.0.1:1"}
        ended = container.run("audit-logging", *command.split(), **given)
        assert (ended.returncode, len(ended.stderr.splitlines())) == (2, 1)
        assert "a directory below it" in ended.stderr
        assert named in ended.stderr
        assert setting in ended.stderr
        checks = json.loads(container.run("audit-logging", "doctor", "--json", **given).stdout)["checks"]
        [privacy] = [check for check in checks if check["name"] == "spool privacy"]
        assert privacy["verdict"] == "problem"
        assert "a directory below it" in privacy["sentence"]

    def test_a_key_that_others_in_the_pod_could_replace_is_refused(self, root, tmp_path):
        container = Container(root, Volume(empty_directory(tmp_path / "empty"), MOUNTED))
        ended = container.run("audit-logging", "emit", "user.login", "user_id=u-1", AUDIT_HOME=f"{MOUNTED}/home")
        assert "The event is safe in the spool" in ended.stderr
        assert "Nothing is signed" in ended.stderr
        assert "AUDIT_SIGNING_KEY_FILE" in ended.stderr
        checks = json.loads(container.run("audit-logging", "doctor", "--json", AUDIT_HOME=f"{MOUNTED}/home").stdout)[
            "checks"
        ]
        assert [check["verdict"] for check in checks if check["name"] == "signing"] == ["problem"]

    def test_a_home_below_a_volume_of_the_group_has_a_key(self, root, tmp_path):
        """A persistent volume: only root and the pod's group may write there."""
        directory = empty_directory(tmp_path / "volume", group=GROUP)
        directory.chmod(0o2775)
        container = Container(root, Volume(directory, MOUNTED), groups=(GROUP,))
        ended = container.run("audit-logging", "emit", "user.login", "user_id=u-1", AUDIT_HOME=f"{MOUNTED}/home")
        assert "The event is safe in the spool" in ended.stderr
        assert "Nothing is signed" not in ended.stderr
        assert (directory / "home/signing/key.pem").stat().st_mode & 0o7777 == 0o600

    def test_a_volume_mounted_read_only_is_named(self, root, tmp_path):
        directory = empty_directory(tmp_path / "volume")
        container = Container(root, Volume(directory, MOUNTED, read_only=True))
        ended = container.run("audit-logging", "emit", "user.login", AUDIT_SPOOL_DIR=SPOOL, AUDIT_SIGNING="false")
        assert ended.returncode == 4
        assert "Read-only file system" in ended.stderr
        assert "AUDIT_SPOOL_DIR" in ended.stderr


class TestKeyFromASecret:
    """The key is a link to a link, readable by the group, in a directory of mode 1777 that is mounted read-only."""

    def test_events_are_signed_with_it(self, pod):
        ended = pod.run(
            "audit-logging", "emit", "user.login", "user_id=u-1", AUDIT_SPOOL_DIR=SPOOL, AUDIT_SIGNING_KEY_FILE=KEY
        )
        assert "The event is safe in the spool" in ended.stderr
        assert "signed" not in ended.stderr
        assert (pod.volumes[0].source / "spool" / "heads").is_dir()

    def test_doctor_has_nothing_to_remark(self, pod):
        ended = pod.run("audit-logging", "doctor", "--json", AUDIT_SPOOL_DIR=SPOOL, AUDIT_SIGNING_KEY_FILE=KEY)
        [check] = [check for check in json.loads(ended.stdout)["checks"] if check["name"] == "signing"]
        assert check["verdict"] == "ok", check

    def test_a_key_that_everybody_may_read_is_a_warning(self, pod, secret):
        """``defaultMode`` of a Secret is 0644."""
        (secret.source / "key.pem").chmod(0o644)
        ended = pod.run("audit-logging", "doctor", "--json", AUDIT_SPOOL_DIR=SPOOL, AUDIT_SIGNING_KEY_FILE=KEY)
        [check] = [check for check in json.loads(ended.stdout)["checks"] if check["name"] == "signing"]
        assert check["verdict"] == "warning"
        assert "defaultMode: 0440" in check["remedy"]

    def test_a_key_that_this_user_may_not_read_is_named(self, pod):
        pod.groups = ()
        given = {"AUDIT_SPOOL_DIR": SPOOL, "AUDIT_SIGNING_KEY_FILE": KEY, "AUDIT_SIGNING": "true"}
        ended = pod.run("audit-logging", "emit", "user.login", **given)
        assert (ended.returncode, len(ended.stderr.splitlines())) == (2, 1)
        assert "fsGroup" in ended.stderr

    def test_a_mounted_directory_without_a_key_is_named(self, root, tmp_path):
        volumes = [
            Volume(empty_directory(tmp_path / "empty"), MOUNTED),
            Volume(secret_volume(tmp_path / "s", other_pem=b"x"), "/etc/audit-logging/signing", read_only=True),
        ]
        given = {"AUDIT_SPOOL_DIR": SPOOL, "AUDIT_SIGNING_KEY_FILE": KEY, "AUDIT_SIGNING": "true"}
        ended = Container(root, *volumes, groups=(GROUP,)).run("audit-logging", "emit", "user.login", **given)
        assert (ended.returncode, len(ended.stderr.splitlines())) == (2, 1)
        assert "Read-only file system" in ended.stderr
        assert "put a key there" in ended.stderr

    @pytest.mark.parametrize("owner", [1234, 54321])
    def test_a_key_that_another_user_could_have_put_there_is_refused(self, pod, secret, owner):
        """The same mode and mount, and a link that is not root's: a bind mount of ``/tmp``, for one."""
        link = secret.source / "key.pem"
        target = link.resolve()
        link.unlink()
        link.symlink_to(target.relative_to(secret.source))
        os.chown(link, owner, owner, follow_symlinks=False)
        given = {"AUDIT_SPOOL_DIR": SPOOL, "AUDIT_SIGNING_KEY_FILE": KEY, "AUDIT_SIGNING": "true"}
        ended = pod.run("audit-logging", "emit", "user.login", **given)
        assert ended.returncode == 2
        assert "others can write /etc/audit-logging/signing" in ended.stderr

    def test_the_same_directory_mounted_writable_is_refused(self, pod, secret):
        pod.volumes = (pod.volumes[0], Volume(secret.source, secret.at))
        given = {"AUDIT_SPOOL_DIR": SPOOL, "AUDIT_SIGNING_KEY_FILE": KEY, "AUDIT_SIGNING": "true"}
        ended = pod.run("audit-logging", "emit", "user.login", **given)
        assert ended.returncode == 2
        assert "others can write /etc/audit-logging/signing" in ended.stderr

    @pytest.mark.server
    def test_verify_trusts_it_without_a_public_key_file(self, pod, server):
        given = {"AUDIT_SPOOL_DIR": SPOOL, "AUDIT_SIGNING_KEY_FILE": KEY, **server}
        for _ in range(2):
            ended_well(pod.run("audit-logging", "emit", "user.login", "user_id=u-1", **given))
        ended_well(pod.run("audit-logging", "ship", "--once", **given))
        verdict = ended_well(pod.run("audit-logging", "verify", "--json", **given))
        assert json.loads(verdict)["findings"] == []
        assert json.loads(verdict)["signed"] >= 2

    @pytest.mark.server
    def test_verify_goes_on_from_its_record_without_a_public_key_file(self, pod, server):
        """The record of the last run is signed with the same key."""
        given = {"AUDIT_HOME": f"{MOUNTED}/home", "AUDIT_SIGNING_KEY_FILE": KEY, **server}
        ended_well(pod.run("audit-logging", "emit", "user.login", "user_id=u-1", **given))
        for _ in range(2):
            ended_well(pod.run("audit-logging", "verify", "--from-last", **given))
        del given["AUDIT_HOME"]
        ended = pod.run("audit-logging", "verify", "--from-last", AUDIT_SPOOL_DIR=SPOOL, **given)
        assert ended.returncode == 2
        assert "set home (AUDIT_HOME) to a directory on a writable disk" in ended.stderr


APPLICATION = """
import signal, sys
import audit_logging as audit
audit.configure(service="shop", ship=False)
log = audit.get_logger()
for number in range(3):
    log.user_login(user_id=f"u-{number}")
print("ready", flush=True)
signal.pause()
"""


@pytest.mark.server
class TestPod:
    """An application that only writes, and its sidecar: each is PID 1 of its container, and they share the spool."""

    @pytest.fixture
    def given(self, server):
        return {"AUDIT_SPOOL_DIR": SPOOL, "AUDIT_SIGNING_KEY_FILE": KEY, **server}

    @pytest.fixture
    def start(self, pod, given):
        """Start a container; it is gone afterwards."""
        started = []

        def start(*command):
            started.append(pod.start(*command, **given))
            return started[-1]

        yield start
        for each in started:
            each.kill()
            each.communicate()

    def emitted(self, pod, given):
        counted = json.loads(pod.run("audit-logging", "spool", "status", "--json", **given).stdout)
        return counted["total"]

    def test_sidecar_ships_and_ends_with_sigterm(self, pod, start, given):
        application = start(sys.executable, "-c", APPLICATION)
        assert application.stdout.readline() == "ready\n"
        sidecar = start("audit-logging", "ship")
        until(lambda: self.emitted(pod, given)["in_spool"] == 0, sidecar)
        signal_first_process(sidecar, signal.SIGTERM)
        _, said = sidecar.communicate(timeout=30)
        assert sidecar.returncode == 0
        assert "shipped to" in said.splitlines()[-1]

    def test_writer_of_another_container_is_alive(self, pod, start, given):
        """Its process has a number that means nothing here, and the host's name is the pod's."""
        application = start("bash", "-c", f"{sys.executable} -c '{APPLICATION}'; true")
        assert application.stdout.readline() == "ready\n"
        status = json.loads(pod.run("audit-logging", "spool", "status", "--json", **given).stdout)
        assert [each["state"] for each in status["writers"]] == ["alive"]

    def test_a_killed_application_loses_nothing(self, pod, start, given):
        application = start(sys.executable, "-c", APPLICATION)
        assert application.stdout.readline() == "ready\n"
        signal_first_process(application, signal.SIGKILL)
        application.wait(timeout=30)
        sidecar = start("audit-logging", "ship")
        until(lambda: self.emitted(pod, given)["in_spool"] == 0, sidecar)
        signal_first_process(sidecar, signal.SIGTERM)
        assert sidecar.wait(timeout=30) == 0
        found = pod.run("audit-logging", "verify", "--json", **given)
        assert json.loads(found.stdout)["findings"] == []
