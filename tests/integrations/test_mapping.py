"""Records of other systems become events as a mapping says."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from audit_logging import record_events
from audit_logging.capture.configuration import current_trail
from audit_logging.errors import EventFileError, SettingsError
from audit_logging.integrations.event_file import EventFile
from audit_logging.integrations.event_times import EventTimes
from audit_logging.integrations.import_formats import Mapped, format_named, format_names
from audit_logging.integrations.mapping import load, load_built_in

REAL_LOG = Path(__file__).parents[3] / "shared" / "data" / "openssh.log"
UTC = EventTimes(zone=ZoneInfo("UTC"), year=2026)

SMALL = """\
name = "door"
description = "A door"
mark = "badge"
time = "at"
event_type = "door.opened"

[fields]
user_id = "badge"
"""


def documents(form, records, tmp_path):
    """Return the documents of *records*, which are written in a file of the format *form*."""
    path = tmp_path / "file"
    path.write_text(records if isinstance(records, str) else "\n".join(map(json.dumps, records)))
    format_ = form if isinstance(form, Mapped) else format_named(form)
    with EventFile(path) as file, record_events() as events:
        for entry in format_.entries(file):
            assert entry.problem is None
            event = format_.event_of(entry, file, EventTimes(zone=ZoneInfo("UTC"), year=2026))
            current_trail().emit(event.event_type, event.facts, origin=event.origin)
    return list(events)


def summary(document):
    event = document["event"]
    return (
        event["action"],
        event["outcome"],
        document.get("user", {}).get("id"),
        document.get("source", {}).get("ip"),
        event.get("category"),
    )


def failed_log_ins(found):
    return [
        document
        for document in found
        if document["event"].get("category") == ["authentication"] and document["event"]["outcome"] == "failure"
    ]


class TestKubernetes:
    EVENT = {  # noqa: RUF012
        "kind": "Event",
        "apiVersion": "audit.k8s.io/v1",
        "level": "Metadata",
        "auditID": "c5f48f91",
        "stage": "ResponseComplete",
        "requestURI": "/api/v1/namespaces/shop/secrets/db",
        "verb": "get",
        "user": {"username": "anna", "groups": ["system:masters"]},
        "sourceIPs": ["1.2.3.4", "203.0.113.7"],
        "userAgent": "kubectl/v1.31",
        "objectRef": {"resource": "secrets", "namespace": "shop", "name": "db", "apiVersion": "v1"},
        "responseStatus": {"metadata": {}, "code": 200},
        "requestReceivedTimestamp": "2026-03-01T10:00:00.123456Z",
        "stageTimestamp": "2026-03-01T10:00:00.223456Z",
        "annotations": {"authorization.k8s.io/decision": "allow"},
    }

    def test_an_event(self, tmp_path):
        [document] = documents("kubernetes", [self.EVENT], tmp_path)
        assert summary(document) == ("k8s.secrets.get", "success", "anna", "203.0.113.7", ["api"])
        assert document["@timestamp"] == "2026-03-01T10:00:00.223456Z"
        assert document["event"]["id"] == "c5f48f91-ResponseComplete"
        assert document["user"]["roles"] == ["system:masters"]
        assert document["audit"]["metadata"]["resource"] == "secrets/shop/db"
        assert document["audit"]["metadata"]["annotations"] == {"authorization.k8s.io/decision": "allow"}

    def test_a_batch_of_the_webhook_and_a_refused_request(self, tmp_path):
        refused = self.EVENT | {
            "verb": "create",
            "objectRef": {"resource": "pods", "subresource": "exec", "name": "web"},
            "impersonatedUser": {"username": "root"},
            "responseStatus": {"code": 403, "message": "pods is forbidden"},
        }
        batch = {"kind": "EventList", "apiVersion": "audit.k8s.io/v1", "metadata": {}, "items": [refused]}
        [document] = documents("kubernetes", [batch], tmp_path)
        assert summary(document) == ("k8s.pods_exec.create", "failure", "anna", "203.0.113.7", ["api"])
        assert document["event"]["reason"] == "403 pods is forbidden"
        assert document["user"]["effective"] == {"id": "root"}
        assert document["log"]["level"] == "warning"


class TestGitHub:
    def test_events(self, tmp_path):
        event = {
            "@timestamp": 1772359200123,
            "_document_id": "d-1",
            "action": "org.add_member",
            "actor": "anna",
            "actor_ip": "203.0.113.7",
            "org": "acme",
            "user": "bert",
            "operation_type": "create",
        }
        failed = {
            "@timestamp": 1772359200124,
            "action": "user.failed_login",
            "actor": "eve",
            "actor_ip": "198.51.100.9",
        }
        first, second = documents("github", json.dumps([event, failed], indent=2), tmp_path)
        assert summary(first) == ("github.org.add_member", "success", "anna", "203.0.113.7", ["configuration"])
        assert first["@timestamp"] == "2026-03-01T10:00:00.123000Z"
        assert (first["event"]["id"], first["user"]["target"]["id"], first["organization"]["id"]) == (
            "d-1",
            "bert",
            "acme",
        )
        assert summary(second) == ("user.login", "failure", "eve", "198.51.100.9", ["authentication"])


class TestOkta:
    EVENT = {  # noqa: RUF012
        "uuid": "u-1",
        "published": "2026-03-01T10:00:00.123Z",
        "eventType": "user.session.start",
        "displayMessage": "User login to Okta",
        "severity": "INFO",
        "actor": {"id": "00u1", "type": "User", "alternateId": "anna@example.com"},
        "client": {"ipAddress": "203.0.113.7", "userAgent": {"rawUserAgent": "Mozilla"}},
        "outcome": {"result": "FAILURE", "reason": "INVALID_CREDENTIALS"},
        "target": [{"id": "00u2", "type": "User", "alternateId": "bert@example.com", "displayName": "Bert"}],
        "transaction": {"id": "t-1"},
    }

    @pytest.mark.parametrize("wrap", [lambda event: [event], lambda event: {"detail-type": "SystemLog", "detail": event}, lambda event: {"eventType": "com.okta.event_hook", "data": {"events": [event]}}["data"]])  # fmt: skip
    def test_a_failed_log_in_in_any_wrapping(self, tmp_path, wrap):
        [document] = documents("okta", json.dumps(wrap(self.EVENT)), tmp_path)
        assert summary(document) == ("user.login", "failure", "00u1", "203.0.113.7", ["authentication"])
        assert document["event"]["reason"] == "INVALID_CREDENTIALS"
        assert document["user"]["target"] == {"id": "00u2", "name": "bert@example.com"}

    def test_another_event(self, tmp_path):
        change = self.EVENT | {"eventType": "user.lifecycle.create", "outcome": {"result": "SUCCESS"}}
        [document] = documents("okta", [change], tmp_path)
        assert summary(document) == ("okta.user.lifecycle.create", "success", "00u1", "203.0.113.7", ["iam"])


class TestGoogleCloud:
    def test_entries(self, tmp_path):
        payload = {
            "serviceName": "compute.googleapis.com",
            "methodName": "v1.compute.instances.delete",
            "resourceName": "projects/shop/zones/a/instances/web",
            "authenticationInfo": {"principalEmail": "anna@example.com"},
            "requestMetadata": {"callerIp": "203.0.113.7", "callerSuppliedUserAgent": "gcloud"},
            "status": {},
        }
        entry = {
            "insertId": "i-1",
            "timestamp": "2026-03-01T10:00:00.123456789Z",
            "resource": {"type": "gce_instance", "labels": {"project_id": "shop"}},
            "protoPayload": payload,
        }
        denied = entry | {"insertId": "i-2", "protoPayload": payload | {"status": {"code": 7, "message": "denied"}}}
        internal = entry | {"insertId": "i-3", "protoPayload": payload | {"requestMetadata": {"callerIp": "private"}}}
        found = documents("gcp", json.dumps({"entries": [entry, denied, internal], "nextPageToken": "x"}), tmp_path)
        name, who = "gcp.v1.compute.instances.delete", "anna@example.com"
        assert [summary(document) for document in found] == [
            (name, "success", who, "203.0.113.7", ["api"]),
            (name, "failure", who, "203.0.113.7", ["api"]),
            (name, "success", who, None, ["api"]),
        ]
        assert found[0]["service"] == {"name": "compute.googleapis.com"}
        assert found[1]["event"]["reason"] == "denied"
        assert not any("invalid" in document["audit"] for document in found)


class TestSshd:
    HEAD = "Mar  1 10:00:00 web sshd[4711]: "

    def one(self, message, tmp_path, head=HEAD):
        [document] = documents("sshd", head + message + "\r\n", tmp_path)
        return document

    @pytest.mark.parametrize(
        ("message", "expected"),
        [
            ("Failed password for root from 203.0.113.7 port 4242 ssh2", ("user.login", "failure", "root", "203.0.113.7")),
            ("Failed password for invalid user bob from 203.0.113.7 port 42 ssh2", ("user.login", "failure", "bob", "203.0.113.7")),
            ("Failed publickey for git from 2001:db8::1 port 42 ssh2: RSA SHA256:abc", ("user.login", "failure", "git", "2001:db8::1")),
            ("message repeated 5 times: [ Failed password for root from 203.0.113.7 port 42 ssh2]", ("user.login", "failure", "root", "203.0.113.7")),
            ("Accepted publickey for anna from 203.0.113.7 port 42 ssh2: ED25519 SHA256:abc", ("user.login", "success", "anna", "203.0.113.7")),
            ("Accepted password for anna from 203.0.113.7 port 42 ssh2", ("user.login", "success", "anna", "203.0.113.7")),
            ("Invalid user bob from 203.0.113.7 port 42", ("sshd.invalid_user", "unknown", "bob", "203.0.113.7")),
            ("Disconnecting: Too many authentication failures for root [preauth]", ("sshd.too_many_failures", "unknown", "root", None)),
            ("error: maximum authentication attempts exceeded for invalid user x from 203.0.113.7 port 42 ssh2 [preauth]", ("sshd.too_many_failures", "unknown", "x", "203.0.113.7")),
            ("Disconnecting authenticating user root 203.0.113.7 port 42: Too many authentication failures [preauth]", ("sshd.too_many_failures", "unknown", "root", "203.0.113.7")),
            ("pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost=203.0.113.7  user=root", ("sshd.pam_failure", "unknown", "root", "203.0.113.7")),
            ("PAM 4 more authentication failures; logname= uid=0 euid=0 tty=ssh ruser= rhost=203.0.113.7 ", ("sshd.pam_failure", "unknown", None, "203.0.113.7")),
            ("Disconnected from authenticating user root 203.0.113.7 port 42 [preauth]", ("sshd.disconnected", "unknown", "root", "203.0.113.7")),
            ("Received disconnect from 203.0.113.7 port 42:11: Bye Bye [preauth]", ("sshd.disconnected", "unknown", None, "203.0.113.7")),
            ("Connection closed by 203.0.113.7 [preauth]", ("sshd.disconnected", "unknown", None, "203.0.113.7")),
            ("pam_unix(sshd:session): session opened for user anna(uid=1000) by (uid=0)", ("sshd.session_opened", "success", "anna", None)),
            ("Server listening on 0.0.0.0 port 22.", ("syslog.sshd", "unknown", None, None)),
        ],
    )  # fmt: skip
    def test_a_line(self, tmp_path, message, expected):
        document = self.one(message, tmp_path)
        assert summary(document)[:4] == expected
        assert document["message"] == message.strip() or document["message"] == message
        assert (document["host"], document["process"]) == ({"name": "web"}, {"pid": 4711})
        assert document["@timestamp"] == "2026-03-01T10:00:00.000000Z"
        assert bool(failed_log_ins([document])) == (expected[:2] == ("user.login", "failure"))
        assert "invalid" not in document["audit"]

    @pytest.mark.parametrize(
        "user",
        ["root from 1.1.1.1 port 22 ssh2", "x from 1.1.1.1 port 1 ssh2: y", "a b", "", "invalid user z", "é\\x1b[31m"],
    )
    def test_a_user_name_cannot_pretend_another_address(self, tmp_path, user):
        document = self.one(f"Failed password for invalid user {user} from 203.0.113.7 port 42 ssh2", tmp_path)
        assert document["source"] == {"ip": "203.0.113.7", "port": 42}
        assert document.get("user", {}).get("id", "") == user
        assert document["event"]["outcome"] == "failure"

    @pytest.mark.parametrize(
        "head",
        [
            "<38>Mar  1 10:00:00 web sshd[4711]: ",
            "2026-03-01T11:00:00.000000+01:00 web sshd[4711]: ",
            "<38>1 2026-03-01T10:00:00Z web sshd 4711 - - ",
            '<38>1 2026-03-01T10:00:00Z web sshd 4711 ID47 [a@1 b="c\\"]"][d@1] \ufeff',
            "Mar  1 10:00:00 web sshd-session[4711]: ",
        ],
    )
    def test_each_form_of_syslog(self, tmp_path, head):
        document = self.one("Failed password for root from 203.0.113.7 port 42 ssh2", tmp_path, head)
        assert summary(document)[:4] == ("user.login", "failure", "root", "203.0.113.7")
        assert document["@timestamp"] == "2026-03-01T10:00:00.000000Z"

    def test_another_programs_line_is_its_own(self, tmp_path):
        document = self.one(
            "Failed password for root from 203.0.113.7 port 42 ssh2", tmp_path, "Mar  1 10:00:00 web sudo: "
        )
        assert summary(document) == ("syslog.sudo", "unknown", None, None, None)

    def test_the_same_line_twice_in_a_second_is_two_events_wherever_it_stands(self, tmp_path):
        line = self.HEAD + "Failed password for root from 203.0.113.7 port 42 ssh2\n"
        other = self.HEAD + "Connection closed by 203.0.113.7\n"
        later = line.replace("10:00:00", "10:00:01")
        first = documents("sshd", line + other + line + later, tmp_path)
        second = documents("sshd", later + line + other + line, tmp_path)
        ids = {document["event"]["id"] for document in first}
        assert len(ids) == 4
        assert {document["event"]["id"] for document in second} == ids
        copied = format_named("sshd")
        for _ in range(2):  # a copy in the same import
            with EventFile(tmp_path / "file") as file:
                assert {copied.event_of(entry, file, UTC).event_id for entry in copied.entries(file)} == ids

    def test_a_line_that_is_no_syslog_is_broken(self):
        with pytest.raises(EventFileError, match="it is no line of sshd"):
            format_named("sshd").event_of(entry_of("nonsense"), None, UTC)

    def test_bytes_that_are_no_utf_8_are_kept_as_escapes(self, tmp_path):
        (tmp_path / "file").write_bytes(self.HEAD.encode() + b"Invalid user \xff\xfe from 203.0.113.7\n")
        with EventFile(tmp_path / "file") as file:
            assert [entry.value for entry in file.lines()] == [self.HEAD + "Invalid user \\xff\\xfe from 203.0.113.7"]

    @pytest.mark.parametrize(
        "piece", ["Failed ", " from 1.1.1.1", " port 22", "invalid user ", "a ", ": ", "[", '"', "\\"]
    )
    def test_hostile_lines_take_linear_time(self, piece):
        form, line = format_named("sshd"), self.HEAD + "Failed x for " + piece * (200_000 // len(piece))
        form.event_of(entry_of(line), None, UTC)
        form.event_of(
            entry_of("<38>1 2026-03-01T10:00:00Z web sshd 1 - [" + piece * 20_000 + "] x"), None, UTC
        ) if piece == "a " else None

    @pytest.mark.skipif(not REAL_LOG.exists(), reason="the real sshd log (../shared/data) is not here")
    def test_a_real_log(self, tmp_path):
        found = documents("sshd", REAL_LOG.read_text(), tmp_path)
        assert len({document["event"]["id"] for document in found}) == 2000
        # 522 lines "Failed …" and two that say it of several repetitions: an attempt is counted once.
        assert len(failed_log_ins(found)) == 524
        assert all(
            "id" in document["user"] and "ip" in document["source"]
            for document in failed_log_ins(found)
            if document["message"].find("invalid user  from") < 0
        )
        counts = Counter(document["event"]["action"] for document in found)
        assert (counts["user.login"], counts["sshd.invalid_user"], counts["sshd.too_many_failures"]) == (525, 113, 3)


def entry_of(value):
    from audit_logging.integrations.event_file import Entry

    return Entry("line", 1, 1, None, (), value, 0)


class TestDocumentation:
    def test_the_mapping_on_the_page_does_what_the_page_says(self, tmp_path):
        page = (Path(__file__).parents[2] / "docs" / "imports.md").read_text()
        record = re.search(r"<!-- record -->\n```json\n(.*?)```", page, re.DOTALL)[1]
        mapping = load(re.search(r"<!-- mapping -->\n```toml\n(.*?)```", page, re.DOTALL)[1], "page")
        [document] = documents(Mapped(mapping), record, tmp_path)
        assert summary(document) == ("door.denied", "failure", "b-17", None, ["session"])
        assert document["user"]["name"] == "Anna"
        assert document["event"]["reason"] == "code 412"
        assert document["message"] == "Anna at the door north"
        assert document["service"] == {"name": "north"}
        assert document["@timestamp"] == "2026-03-01T10:00:00.000000Z"
        assert document["audit"]["metadata"]["resource"] == "north"

    def test_every_format_is_on_the_pages(self):
        for page in ("imports.md", "guide.md"):
            text = (Path(__file__).parents[2] / "docs" / page).read_text()
            assert [name for name in format_names() if f"`{name}`" not in text] == []


class TestMapping:
    @pytest.mark.parametrize("name", [name for name in format_names() if name not in ("cloudtrail", "ndjson", "csv")])
    def test_every_mapping_of_the_library_is_valid_and_named_like_its_file(self, name):
        assert load_built_in(name).name == name
        assert load_built_in(name).source

    def test_one_of_ones_own(self, tmp_path):
        [document] = documents(
            Mapped(load(SMALL, "door.toml")), [{"badge": 17, "at": "2026-03-01T10:00:00Z"}], tmp_path
        )
        assert summary(document) == ("door.opened", "unknown", "17", None, None)
        assert document["tags"] == ["door"]

    @pytest.mark.parametrize(
        "record", [[], 7, "text", {"at": "2026-03-01T10:00:00Z"}, {"badge": 1}, {"badge": 1, "at": "x"}]
    )
    def test_what_is_no_record_of_it_is_broken(self, record):
        with pytest.raises(EventFileError):
            Mapped(load(SMALL, "door.toml")).event_of(entry_of(record), None, UTC)

    @pytest.mark.parametrize(
        ("old", "new", "line", "why"),
        [
            ('mark = "badge"', "mark = badge", 3, "Invalid value"),
            ('mark = "badge"\n', "", 1, "mark: it is missing"),
            ('time = "at"', 'time = ["a..b"]', 4, "is not a path"),
            ('user_id = "badge"', 'user_ide = "badge"', 8, "did you mean 'user_id'"),
            ('user_id = "badge"', 'user_id = "{badge"', 8, "brace without its partner"),
            ("[fields]", "colour = 1\n[fields]", 7, "there is no such entry"),
            ("[fields]", "lines = ['(']\n[fields]", 7, "not a regular expression"),
            (
                "[fields]",
                '[[rules]]\nset.outcome = "success"\n[[rules]]\nset.outcome = "good"\n[fields]',
                10,
                "outcome",
            ),
            ("[fields]", '[[rules]]\nset = { category = "iam", type = "access" }\n[fields]', 8, "ECS allows no type"),
            (
                "[fields]",
                '[[rules]]\nwhen.badge = { matches = "(" }\nset.outcome = "success"\n[fields]',
                8,
                "not a regular",
            ),
        ],
    )
    def test_a_mistake_is_named_with_its_line(self, old, new, line, why):
        with pytest.raises(SettingsError, match=rf"line {line}\b.*{why}"):
            load(SMALL.replace(old, new), "door.toml")
