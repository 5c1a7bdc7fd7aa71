"""The roles against a secured server: each does its work, and every forbidden thing is tried with each."""

from __future__ import annotations

import re

import orjson
import pytest

from audit_logging.capture.trail import Trail
from audit_logging.errors import CredentialsError, OpenSearchError, RefusedError
from audit_logging.local import LocalServer
from audit_logging.opensearch.admin import AuditAdmin
from audit_logging.opensearch.client import Client
from audit_logging.opensearch.doctor import diagnose
from audit_logging.opensearch.roles import ROLES, role_definition, role_name
from audit_logging.query.reader import AuditReader
from audit_logging.settings import Settings

from .travel import travelling

pytestmark = [pytest.mark.server, pytest.mark.slow]

STREAM = "audit.roles"
PASSWORD = "Correct-horse-battery-staple-7"
READERS = ("analyst", "tenant-analyst", "auditor", "administrator")


@pytest.fixture(scope="module")
def owner(tmp_path_factory):
    """Settings of the cluster's administrator; the stream and a neighbour are set up, each role has a user."""
    with LocalServer("2.19.4", secure=True, in_memory=True) as server:
        settings = Settings.load(**server.settings(), stream=STREAM, home=tmp_path_factory.mktemp("home"))
        client = Client(settings)
        for stream in (STREAM, f"{STREAM}-payroll", "auditxroles"):
            with AuditAdmin(settings=settings.model_copy(update={"stream": stream})) as admin:
                admin.setup()
        with AuditAdmin(settings=settings) as admin:
            assert admin.setup_security().changed
        for role in ROLES:
            user = {
                "password": PASSWORD,
                "opendistro_security_roles": [role_name(STREAM, role)],
                "attributes": {"organization_id": "acme"},
            }
            client.request("PUT", f"/_plugins/_security/api/internalusers/{role}", body=user)
        create(client, STREAM, "acme-1", "acme")
        create(client, STREAM, "globex-1", "globex")
        create(client, f"{STREAM}-payroll", "p-1", "acme")
        client.request("POST", "/_refresh")
        yield settings
        client.close()


def create(client, stream, doc_id, tenant):
    document = {
        "@timestamp": "2026-03-01T12:00:00Z",
        "organization": {"id": tenant},
        "event": {"id": doc_id, "action": "user.login"},
        "audit": {"integrity": {"writer": doc_id, "sequence": 1, "hash": "0" * 64}},
    }
    body = orjson.dumps({"create": {"_id": doc_id}}) + b"\n" + orjson.dumps(document) + b"\n"
    return client.request("POST", f"/{stream}/_bulk", body=body)["items"][0]["create"]["status"]


@pytest.fixture(scope="module")
def as_role(owner):
    def settings_of(role):
        return owner.model_copy(update=Settings.load(**{
            **owner.model_dump(include={"opensearch_url", "opensearch_ca_file"}),
            "opensearch_username": role, "opensearch_password": PASSWORD,
        }).model_dump(include={"opensearch_username", "opensearch_password"}))  # fmt: skip

    return settings_of


@pytest.fixture
def acting(as_role):
    clients = []

    def client_of(role):
        clients.append(Client(as_role(role)))
        return clients[-1]

    yield client_of
    for client in clients:
        client.close()


BACKING = f".ds-{STREAM}-000001"
BEYOND = [
    ("DELETE", f"/{BACKING}/_doc/acme-1", None),
    ("POST", f"/{BACKING}/_update/acme-1", {"doc": {"message": "x"}}),
    ("POST", f"/{BACKING}/_close", None),
    ("PUT", f"/{STREAM}/_settings", {"index": {"refresh_interval": "7s"}}),
    ("POST", "/_aliases", {"actions": [{"add": {"index": BACKING, "alias": "audit-alias"}}]}),
    ("GET", "/_plugins/_security/api/internalusers", None),
    ("PUT", "/_plugins/_security/api/roles/mine", {"cluster_permissions": ["*"]}),
    ("PUT", "/_cluster/settings", {"persistent": {"action.auto_create_index": "false"}}),
    ("POST", f"/{STREAM}-payroll/_search", {}),
    ("POST", f"/.ds-{STREAM}-payroll-000001/_search", {}),
    ("GET", f"/.ds-{STREAM}-payroll-000001/_doc/p-1", None),
    ("POST", "/auditxroles/_search", {}),
    ("POST", "/.ds-auditxroles-000001/_search", {}),
    ("DELETE", f"/_data_stream/{STREAM}-payroll", None),
    ("DELETE", f"/.ds-{STREAM}-payroll-000001", None),
]
MANAGING = [
    ("PUT", f"/{BACKING}/_settings", {"index": {"refresh_interval": "7s"}}),
    ("DELETE", f"/_data_stream/{STREAM}", None),
    ("DELETE", f"/{BACKING}", None),
    ("PUT", f"/{STREAM}/_mapping", {"properties": {"more": {"type": "keyword"}}}),
    ("POST", f"/{STREAM}/_rollover", None),
    ("PUT", f"/_index_template/{STREAM}", {"index_patterns": [STREAM]}),
    ("PUT", f"/_component_template/{STREAM}-mappings", {"template": {}}),
]
READING = [
    ("POST", f"/{STREAM}/_search", {}),
    ("POST", f"/{BACKING}/_search", {}),
    ("POST", f"/{STREAM}/_count", {}),
    ("POST", f"/{STREAM}/_search/point_in_time", None),
]


def forbidden(client, method, path, body):
    """Whether the role is what stops it. By-query and reindex are not among what this distribution has."""
    params = {"keep_alive": "1m"} if path.endswith("point_in_time") else None
    try:
        client.request(method, path, params=params, body=body)
    except CredentialsError:
        return True
    return False


class TestForbidden:
    @pytest.mark.parametrize("role", ROLES)
    @pytest.mark.parametrize("attempt", BEYOND, ids=lambda attempt: f"{attempt[0]} {attempt[1]}")
    def test_nobody_may_change_an_event_or_reach_beyond_the_stream(self, acting, role, attempt):
        assert forbidden(acting(role), *attempt)

    @pytest.mark.parametrize("role", ["writer", "analyst", "tenant-analyst", "auditor"])
    @pytest.mark.parametrize("attempt", MANAGING, ids=lambda attempt: f"{attempt[0]} {attempt[1]}")
    def test_only_the_administrator_may_manage(self, acting, role, attempt):
        assert forbidden(acting(role), *attempt)

    @pytest.mark.parametrize("attempt", READING, ids=lambda attempt: f"{attempt[0]} {attempt[1]}")
    def test_the_writer_may_not_read(self, acting, attempt):
        assert forbidden(acting("writer"), *attempt)

    @pytest.mark.parametrize("role", ROLES)
    @pytest.mark.parametrize("action", ["delete", "update", "index"])
    @pytest.mark.parametrize("index", [STREAM, BACKING])
    def test_no_item_of_a_bulk_request_may_do_more_than_create(self, acting, role, action, index):
        source = {"delete": b"", "update": b'{"doc":{"message":"x"}}\n', "index": b'{"@timestamp":"2026-03-01"}\n'}
        body = orjson.dumps({action: {"_index": index, "_id": "acme-1"}}) + b"\n" + source[action]
        try:
            status = acting(role).request("POST", "/_bulk", body=body)["items"][0][action]["status"]
        except RefusedError as error:  # an update under document-level security is refused as a whole, with 500
            status = error.status
        assert status in {400, 403, 500}

    def test_where_the_stream_is_not_append_only_the_role_still_stops_delete_and_update(self, owner, acting):
        """It does not stop an overwrite that is addressed to the backing index and names the version it replaces."""
        with AuditAdmin(settings=owner.model_copy(update={"stream": "audit-open"})) as admin:
            admin.setup(append_only=False)
            admin.setup_security()
        client = Client(owner)
        user = {"password": PASSWORD, "opendistro_security_roles": ["audit-open-writer"]}
        client.request("PUT", "/_plugins/_security/api/internalusers/open-writer", body=user)
        assert create(client, "audit-open", "e-1", "acme") == 201
        client.close()
        sources = {"delete": b"", "update": b'{"doc":{}}\n', "index": b'{"@timestamp":"2026-03-01"}\n'}
        place = {"_index": ".ds-audit-open-000001", "_id": "e-1", "if_seq_no": 0, "if_primary_term": 1}
        statuses = {}
        for action, source in sources.items():
            body = orjson.dumps({action: place}) + b"\n" + source
            statuses[action] = acting("open-writer").request("POST", "/_bulk", body=body)["items"][0][action]["status"]
        assert statuses == {"delete": 403, "update": 403, "index": 200}


class TestAllowed:
    def test_the_writer_ships_and_looks_up_at_once_whether_an_event_is_there(self, as_role, acting, tmp_path):
        trail = Trail(as_role("writer").model_copy(update={"home": tmp_path}))
        trail.emit("user.login", {"user_id": "u-42"})
        assert trail.flush(20)
        writer = trail.writer_id
        trail.shutdown(5)
        answer = acting("writer").request("POST", f"/{BACKING}/_mget", body={"ids": [f"{writer}-1", f"{writer}-2"]})
        assert [found["found"] for found in answer["docs"]] == [True, False]

    @pytest.mark.parametrize("role", READERS)
    def test_readers_search_count_scroll_and_hold_points_in_time(self, as_role, acting, role, tmp_path):
        tenants = {"acme"} if role == "tenant-analyst" else {"acme", "globex"}
        with AuditReader(settings=as_role(role)) as reader:
            found = {event.get("organization.id") for event in reader.scan(until="2026-04-01", event_type="user.login")}
            assert found == tenants
            assert reader.count(organization_id="globex") == int("globex" in tenants)
            assert reader.export(tmp_path / "x.ndjson", organization_id="globex").events == int("globex" in tenants)
        client = acting(role)
        pit = client.request("POST", f"/{STREAM}/_search/point_in_time", params={"keep_alive": "1m"})["pit_id"]
        body = {"pit": {"id": pit}, "query": {"term": {"organization.id": "globex"}}}
        assert client.request("POST", "/_search", body=body)["hits"]["total"]["value"] == int("globex" in tenants)
        client.request("DELETE", "/_search/point_in_time", body={"pit_id": [pit]})
        assert create(client, STREAM, f"read-by-{role}", "acme") == 201

    def test_the_administrator_sets_up_rolls_over_and_lets_an_index_go(self, as_role, owner, acting):
        with AuditAdmin(settings=as_role("administrator")) as admin:
            assert not admin.setup().changed
        client = acting("administrator")
        client.request("POST", f"/{STREAM}/_rollover")
        client.request("POST", f"/{STREAM}/_rollover")
        client.request("DELETE", f"/.ds-{STREAM}-000002")
        assert diagnose(as_role("administrator")).problems == ()


class TestDoctor:
    def test_it_tells_when_the_credentials_can_do_more_than_they_should(self, owner, as_role):
        (check,) = [check for check in diagnose(owner).checks if check.name == "rights"]
        assert check.verdict == "warning"
        assert "may delete events, delete backing indices, manage users and roles" in check.sentence
        assert f"{STREAM}-writer" in check.remedy
        (check,) = [check for check in diagnose(as_role("administrator")).checks if check.name == "rights"]
        assert "may delete backing indices." in check.sentence
        (check,) = [check for check in diagnose(as_role("auditor")).checks if check.name == "rights"]
        assert check.verdict == "ok"


class TestSetup:
    def test_a_second_time_changes_nothing_and_what_was_changed_by_hand_is_mended(self, owner):
        client = Client(owner)
        with AuditAdmin(settings=owner) as admin:
            assert not admin.setup_security().changed
            name = role_name(STREAM, "writer")
            weakened = role_definition(STREAM, "writer")
            weakened["index_permissions"][0]["allowed_actions"] = ["*"]
            client.request("PUT", f"/_plugins/_security/api/roles/{name}", body=weakened)
            (mended,) = [step for step in admin.setup_security().steps if step.outcome != "unchanged"]
            assert (mended.name, mended.outcome) == (name, "updated")
            assert not admin.setup_security().changed
        client.close()

    def test_somebody_elses_role_is_left_alone(self, owner):
        client = Client(owner)
        client.request("PUT", "/_plugins/_security/api/roles/taken-writer", body={"cluster_permissions": ["*"]})
        client.close()
        with (
            AuditAdmin(settings=owner.model_copy(update={"stream": "taken"})) as admin,
            pytest.raises(OpenSearchError, match="another role 'taken-writer'"),
        ):
            admin.setup_security()

    def test_without_the_plugin_it_says_so(self, admin):
        with pytest.raises(OpenSearchError, match="no security plugin"):
            admin.setup_security()


def test_no_role_holds_a_way_to_change_events():
    """Whatever is added to a role later."""
    for role in ROLES:
        for allowed in role_definition("audit-events", role)["index_permissions"]:
            for action in allowed["allowed_actions"]:
                assert not re.match(r"\*|indices:\*|indices:data/(\*|write/(\*|delete|update|reindex))", action), (
                    role,
                    action,
                )
                assert action != "indices:admin/*"


def test_the_administrators_role_suffices_for_retention_holds_archive_and_restore(owner, as_role, tmp_path):
    """Last, since what is there before leaves with it."""
    settings = as_role("administrator").model_copy(update={"home": tmp_path})
    with travelling(settings) as trail:
        assert trail.admin.verify_retention().problems == ()
        trail.roll_over()
        case = {"reason": "Case 12/2026", "person": "jane.doe"}
        placed = trail.admin.place_hold(**case, organization_id="acme")
        assert trail.name(1) in placed.indices
        assert placed.report.locked == [], "before 3.8 a lock would stop the rollover of the stream"
        assert trail.name(1) not in trail.later(days=2).apply().deleted
        trail.admin.release_hold(placed.hold.id, **case)
        assert trail.name(1) in trail.apply().deleted
        trail.emit("u-1")
        trail.roll_over()
        archive = tmp_path / "archive"
        trail.emit("u-2")
        trail.roll_over()
        assert trail.later(days=2).apply(archive).deleted
        report = trail.admin.restore_archive(sorted(archive.glob("*.manifest.json")))
    with AuditReader(settings=settings.model_copy(update={"stream": report.stream})) as reader:
        assert reader.count(user_id="u-2") == 1
