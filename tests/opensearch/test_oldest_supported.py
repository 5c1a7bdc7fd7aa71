"""The oldest release that can hold a trail nobody can rewrite, secured: everything above in a nutshell."""

from __future__ import annotations

import pytest

from audit_logging.errors import CredentialsError, RefusedError
from audit_logging.local import LocalServer
from audit_logging.opensearch.admin import AuditAdmin
from audit_logging.opensearch.capabilities import OLDEST_SUPPORTED, Capabilities
from audit_logging.opensearch.client import Client
from audit_logging.opensearch.doctor import diagnose
from audit_logging.settings import Settings

from .test_mapping import EVENT, FINDS

pytestmark = [pytest.mark.server, pytest.mark.slow]


@pytest.fixture(scope="module")
def secured(tmp_path_factory):
    """Settings for a secured server of that release."""
    with LocalServer("2.19.4", secure=True, in_memory=True) as server:
        yield Settings.load(**server.settings(), stream="audit-old", home=tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def client(secured):
    client = Client(secured)
    yield client
    client.close()


def test_it_is_set_up_whole_and_nothing_can_be_changed(secured, client):
    able = Capabilities.probe(client)
    assert able.version is not None
    assert able.version >= OLDEST_SUPPORTED
    assert able.security
    with AuditAdmin(settings=secured) as admin:
        assert admin.setup().changed
        again = admin.setup()
    assert not again.changed, again

    index = client.request("PUT", "/audit-old/_create/w-1", params={"refresh": True}, body=EVENT)["_index"]
    for query in FINDS:
        found = client.request("POST", "/audit-old/_search", body={"query": query, "_source": False})
        assert found["hits"]["total"]["value"] == 1, query
    for method, path, body in [
        ("PUT", "/audit-old/_create/w-1", EVENT),
        ("PUT", f"/{index}/_doc/w-1", EVENT),
        ("POST", f"/{index}/_update/w-1", {"doc": {"message": "x"}}),
        ("DELETE", f"/{index}/_doc/w-1", None),
    ]:
        with pytest.raises(RefusedError):
            client.request(method, path, body=body)
    assert client.request("GET", f"/{index}/_doc/w-1")["_source"] == EVENT


def test_the_doctor_finds_no_problem(secured):
    with AuditAdmin(settings=secured) as admin:
        admin.setup()
    diagnosis = diagnose(secured)
    assert diagnosis.answered
    assert diagnosis.problems == ()


def test_a_wrong_password_is_named_as_such(secured):
    wrong = Settings.load(**{**secured.model_dump(), "opensearch_password": "wrong"})
    with AuditAdmin(settings=wrong) as admin, pytest.raises(CredentialsError, match="does not accept the credentials"):
        admin.setup()
    diagnosis = diagnose(wrong)
    assert not diagnosis.answered
    assert [check.name for check in diagnosis.problems] == ["credentials"]
