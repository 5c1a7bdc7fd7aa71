"""`docker-compose.yml` and what it runs, as far as that goes without a Docker engine.

The secrets it makes start a real secured server here.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from audit_logging.errors import CredentialsError
from audit_logging.local import LocalServer, compose, security
from audit_logging.opensearch.client import Client
from audit_logging.settings import Settings

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def compose_file():
    return import_module("yaml").safe_load((ROOT / "docker-compose.yml").read_text())


@pytest.fixture(scope="module")
def services(compose_file):
    return compose_file["services"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The secrets as the service `secrets` makes them."""
    directory = tmp_path_factory.mktemp("secrets")
    assert compose.make_secrets(directory)
    return directory


class TestFile:
    def test_the_full_distribution_and_dashboards_have_one_version(self, services):
        assert services["opensearch"]["image"] == "opensearchproject/opensearch:3.8.0"
        assert services["dashboards"]["image"] == "opensearchproject/opensearch-dashboards:3.8.0"

    def test_ports_are_open_on_the_loopback_address_alone(self, services):
        ports = [port for service in services.values() for port in service.get("ports", ())]
        assert sorted(ports) == ["127.0.0.1:5601:5601", "127.0.0.1:9200:9200"]

    def test_security_is_configured_as_on_the_secured_local_server(self, services):
        environment = services["opensearch"]["environment"]
        expected = {}
        for name, value in security.settings("opensearch-security/").items():
            text = value[0] if isinstance(value, list) else value
            expected[name] = str(text).lower() if isinstance(text, bool) else text
        assert {name: value for name, value in environment.items() if name.startswith("plugins.")} == expected
        assert environment["DISABLE_INSTALL_DEMO_CONFIG"] == "true"

    def test_no_password_stands_in_it(self, services):
        for service in services.values():
            assert not [
                name
                for name in service.get("environment", {})
                if re.search("password|secret|token", name, re.IGNORECASE)
            ]

    def test_each_service_sees_its_own_secrets_alone_and_cannot_change_them(self, services):
        mounts = {name: [v for v in service["volumes"] if "-secrets:" in v] for name, service in services.items()}
        assert {name: [mount.partition("-secrets:")[0] for mount in found] for name, found in mounts.items()} == {
            "secrets": ["opensearch", "dashboards", "admin"],
            "opensearch": ["opensearch"],
            "dashboards": ["dashboards"],
            "setup": ["admin"],
        }
        assert all(mount.endswith(":ro") for name, found in mounts.items() if name != "secrets" for mount in found)

    def test_every_named_volume_is_declared_and_data_persists(self, compose_file, services):
        mounted = {v.partition(":")[0] for service in services.values() for v in service["volumes"] if v[0] != "."}
        assert mounted == set(compose_file["volumes"])
        assert "opensearch-data:/usr/share/opensearch/data" in services["opensearch"]["volumes"]

    def test_each_service_waits_for_what_it_needs_to_be_healthy(self, services):
        assert {
            name: {on: how["condition"] for on, how in service.get("depends_on", {}).items()}
            for name, service in services.items()
        } == {
            "secrets": {},
            "opensearch": {"secrets": "service_completed_successfully"},
            "dashboards": {"opensearch": "service_healthy"},
            "setup": {"opensearch": "service_healthy", "dashboards": "service_healthy"},
        }
        assert {name for name, service in services.items() if "healthcheck" in service} == {"opensearch", "dashboards"}

    def test_its_shell_scripts_are_well_formed_and_name_files_that_exist(self, services):
        assert "audit-logging setup --dashboards" in services["setup"]["command"][0]
        assert services["setup"]["environment"]["AUDIT_DASHBOARDS_URL"] == "http://dashboards:5601"
        for service in services.values():
            for command in service.get("command", ()):
                script = command.replace("$$", "$")
                subprocess.run(["/bin/sh", "-n"], input=script, text=True, check=True)
                for name in re.findall(r"/src/([\w./-]+)", script):
                    assert (ROOT / name).exists()

    def test_compose_itself_accepts_it_where_it_is_installed(self):
        command = ["docker", "compose", "--file", str(ROOT / "docker-compose.yml"), "config", "--quiet"]
        if (
            shutil.which("docker") is None
            or subprocess.run([*command[:2], "version"], capture_output=True, check=False).returncode
        ):
            pytest.skip("Docker Compose is not installed")
        subprocess.run(command, check=True)


class TestSecrets:
    def test_a_second_run_changes_nothing(self, made):
        before = {path: path.read_bytes() for path in made.rglob("*") if path.is_file()}
        assert not compose.make_secrets(made)
        assert {path: path.read_bytes() for path in made.rglob("*") if path.is_file()} == before

    def test_two_installations_share_nothing(self, made, tmp_path):
        compose.make_secrets(tmp_path)
        for name in ("admin/password", "dashboards/password", "opensearch/node-key.pem", "admin/ca.pem"):
            assert (tmp_path / name).read_bytes() != (made / name).read_bytes()

    def test_no_directory_holds_the_password_of_another(self, made):
        passwords = {name: (made / name / "password").read_text() for name in ("admin", "dashboards")}
        for path in made.rglob("*"):
            for owner, password in passwords.items():
                if path.is_file() and path.parent.name != owner:
                    assert password not in path.read_text()

    def test_they_are_readable_by_the_service_alone(self, made):
        for path in (*(made / "opensearch").iterdir(), *(made / "dashboards").iterdir(), made / "admin" / "password"):
            assert path.stat().st_mode & 0o077 == 0
            if os.geteuid() == 0 and path.parent.name != "admin":
                assert (path.stat().st_uid, path.stat().st_gid) == (1000, 1000)

    @pytest.mark.server
    def test_a_real_server_takes_them(self, made, monkeypatch):
        """The security plugin of 2.19.4, configured as in the file, with the directory where the file mounts it."""

        def place(config, account):
            shutil.copytree(made / "opensearch", config / "opensearch-security")
            shutil.copy(made / "admin" / "ca.pem", config)
            account.own(config / "opensearch-security", *(config / "opensearch-security").iterdir())
            return (made / "admin" / "password").read_text()

        monkeypatch.setattr(security, "secure_instance", place)
        server = LocalServer(secure=True, settings=security.settings("opensearch-security/"))
        with server:
            for user, part in (("admin", "admin"), ("kibanaserver", "dashboards")):
                password = (made / part / "password").read_text()
                settings = {**server.settings(), "opensearch_username": user, "opensearch_password": password}
                client = Client(Settings.load(**settings))
                if user == "admin":
                    assert client.request("GET", "/_cluster/health")["status"] == "green"
                else:
                    client.request("PUT", "/.kibana_1")
                    with pytest.raises(CredentialsError, match="do not allow"):
                        client.request("PUT", "/audit-events-forbidden")
                client.close()


def test_wrong_use_shows_how():
    ended = subprocess.run(
        [sys.executable, "-m", "audit_logging.local.compose"], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert "docker-compose.yml" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_making_secrets_as_the_file_does(tmp_path, capsys):
    compose.main(["secrets", str(tmp_path)])
    compose.main(["secrets", str(tmp_path)])
    assert capsys.readouterr().out == "Secrets made.\nSecrets are there already.\n"
