"""A secured server: TLS, a password, roles; and what a wrong one of each is answered."""

from __future__ import annotations

import sys

import pytest

from audit_logging.errors import CredentialsError, LocalServerError, UnreachableError
from audit_logging.local import LocalServer
from audit_logging.local.certificates import write_certificates
from audit_logging.local.security import ADMIN, write_rules
from audit_logging.opensearch.client import Client
from audit_logging.settings import Settings

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def server():
    with LocalServer(secure=True) as server:
        yield server


def request(server, method="GET", path="/", body=None, **other):
    client = Client(Settings.load(**{**server.settings(), **other}))
    try:
        return client.request(method, path, body=body)
    finally:
        client.close()


def test_the_credentials_it_gives_let_one_in(server):
    assert server.url.startswith("https://")
    assert request(server)["version"]["number"] == "2.19.4"
    assert request(server, "PUT", "/made")["acknowledged"]


def test_the_password_is_nobodys_default(server):
    assert len(server.settings()["opensearch_password"].get_secret_value()) >= 24


@pytest.mark.parametrize(
    "other",
    [{"opensearch_password": "admin"}, {"opensearch_username": "kibanaserver", "opensearch_password": "kibanaserver"}],
)
def test_a_wrong_password_and_the_demo_users_are_refused(server, other):
    with pytest.raises(CredentialsError, match="does not accept the credentials"):
        request(server, **other)


def test_an_unknown_authority_is_not_trusted(server):
    with pytest.raises(UnreachableError, match="certificate verify failed"):
        request(server, opensearch_ca_file=None)


def test_the_administrator_can_make_users_whose_roles_count(server):
    body = {"password": "an-Unusual-1-passphrase"}
    request(server, "PUT", "/_plugins/_security/api/internalusers/reader", body)
    with pytest.raises(CredentialsError, match="do not allow PUT /forbidden"):
        request(server, "PUT", "/forbidden", opensearch_username="reader", opensearch_password=body["password"])


def test_its_secrets_are_private(server):
    for name in ("node-key.pem", "opensearch.yml", "opensearch-security/internal_users.yml"):
        assert (server.directory / "config" / name).stat().st_mode & 0o077 == 0


def test_it_keeps_its_credentials_over_a_restart(server):
    before = server.settings()
    server.restart()
    assert server.settings() == before
    assert request(server)["version"]["number"] == "2.19.4"


@pytest.mark.parametrize(("module", "make"), [("cryptography.hazmat.primitives", "certificates"), ("bcrypt", "rules")])
def test_a_missing_package_is_named_with_its_extra(monkeypatch, tmp_path, module, make):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(LocalServerError, match=r"pip install 'opensearch-audit-logging\[local\]'"):
        write_certificates(tmp_path) if make == "certificates" else write_rules(tmp_path, {ADMIN: "x"})
