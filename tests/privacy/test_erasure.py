"""A person's values are nowhere readable but with the key, and with nobody once that is destroyed."""

import orjson
import pytest

from audit_logging.capture.trail import Trail
from audit_logging.errors import SettingsError
from audit_logging.integrations.erasure import erase
from audit_logging.integrity.seal import canonical_form, digest_of
from audit_logging.opensearch.admin import AuditAdmin
from audit_logging.privacy.policy import NOT_ALLOWED
from audit_logging.privacy.protection import ERASED, PREFIX
from audit_logging.query.reader import AuditReader
from audit_logging.settings import Settings

VALUES = ["Robert Tables", "robert.tables@example.com", "+44 20 7946 0000", "12 Example Street"]
PROTECTED = {"erasable_fields": "user_name,user_email,target_user_name,phone,address,email"}


def of_bob():
    return {
        "user_id": "u-bob",
        "user_name": VALUES[0],
        "user_email": VALUES[1],
        "phone": VALUES[2],
        "metadata": {"address": {"street": VALUES[3]}, "basket": "b-1"},
        "changes": {"email": {"before": VALUES[1], "after": f"new-{VALUES[1]}"}, "theme": "dark"},
    }


def files_below(path):
    return b"".join(file.read_bytes() for file in path.rglob("*") if file.is_file())


@pytest.fixture
def offline(tmp_path):
    settings = Settings.load(home=tmp_path, console=False, opensearch_url=(), **PROTECTED)
    trail = Trail(settings)
    yield trail
    trail.shutdown(0)


class TestProtection:
    def test_no_byte_of_a_protected_value_reaches_the_spool(self, offline, tmp_path):
        """Nor what is derived from it: the sentence, related.user, the changes."""
        for event_type in ("user.login", "user.profile_update", "invoice.approved"):
            offline.emit(event_type, of_bob())
        offline.emit(
            "admin.user_update", {"user_id": "u-root", "target_user_id": "u-bob", "target_user_name": VALUES[0]}
        )
        spooled = files_below(tmp_path / "spool")
        assert spooled.count(PREFIX.encode()) > 20
        assert not [value for value in VALUES if value.encode() in spooled]
        assert b"b-1" in spooled
        assert b"dark" in spooled

    def test_a_changed_email_belongs_to_the_person_it_is_of(self, offline):
        """The target's, where there is one."""
        fields = {"user_id": "u-root", "target_user_id": "u-bob", "changes": {"email": "x@example.com"}, "phone": "1"}
        document = orjson.loads(offline._document("admin.user_update", fields).canonical)
        change = document["audit"]["changes"][0]["after"]
        other = orjson.loads(offline._document("user.login", {"user_id": "u-bob", "email": "y@example.com"}).canonical)
        assert change.split(":")[2] == other["audit"]["metadata"]["email"].split(":")[2]
        assert document["audit"]["metadata"]["phone"].split(":")[2] != change.split(":")[2]

    def test_the_same_call_without_protected_fields_stays_quick(self, offline):
        """Whoever protects nothing pays nothing."""
        first, second = (offline._document("user.login", {"user_id": "u-1"}) for _ in range(2))
        assert len(first.canonical) == len(second.canonical)

    def test_an_allow_list_keeps_other_keys_out(self, tmp_path):
        """Marked, not dropped; other types are free."""
        settings = Settings.load(home=tmp_path, opensearch_url=(), allowed_metadata={"order.placed": ["region"]})
        trail = Trail(settings)
        facts = {"user_id": "u-1", "region": "eu", "note": "x", "metadata": {"size": "m"}}
        listed = orjson.loads(trail._document("order.placed", facts).canonical)["audit"]["metadata"]
        assert listed == {"region": "eu", "note": NOT_ALLOWED, "size": NOT_ALLOWED}
        free = orjson.loads(trail._document("order.paid", facts).canonical)["audit"]["metadata"]
        assert free == {"region": "eu", "note": "x", "size": "m"}

    def test_a_pseudonym_is_always_the_same_and_says_nothing(self, tmp_path):
        """Also for the sentence and related.user."""
        trail = Trail(Settings.load(home=tmp_path, opensearch_url=(), pseudonym_fields="user_id"))
        one, two = (orjson.loads(trail._document("user.login", {"user_id": "u-bob"}).canonical) for _ in range(2))
        assert one["user"]["id"] == two["user"]["id"]
        assert one["user"]["id"].startswith("p-")
        assert "u-bob" not in orjson.dumps(one).decode()
        assert one["related"]["user"] == [one["user"]["id"]]

    def test_addresses_cannot_be_protected(self):
        """They are stored as addresses; it says so instead of failing later."""
        with pytest.raises(SettingsError, match="source_ip cannot be protected"):
            Settings.load(erasable_fields="user_name,source_ip")


@pytest.mark.server
class TestErasure:
    @pytest.fixture
    def protected(self, settings):
        settings = Settings.load(**settings.model_dump(exclude_unset=True), **PROTECTED, console=False)
        with AuditAdmin(settings=settings) as admin:
            admin.setup()
        trail = Trail(settings)
        trail.emit("user.login", of_bob())
        trail.emit("user.login", {"user_id": "u-ann", "user_name": "Ann Other"})
        assert trail.shutdown(20) == 0
        return settings

    def test_erased_is_erased_everywhere_and_the_chain_still_holds(self, protected, client, tmp_path):
        client.request("POST", f"/{protected.stream}/_refresh")
        with AuditReader(settings=protected) as reader:
            (event,) = reader.scan(user_id="u-bob")
            assert event.get("user.name") == VALUES[0]
            assert event.get("audit.metadata.address.street") == VALUES[3]
            assert event.message == f"{VALUES[0]} logged in"
            assert [found.id for found in reader.scan(user=VALUES[0])] == [event.id]

        done = erase(protected, "u-bob", reason="request 2026-117", by="dpo")
        assert done.had_key
        client.request("POST", f"/{protected.stream}/_refresh")
        stored = client.request("POST", f"/{protected.stream}/_search", body={"size": 100})["hits"]["hits"]
        raw = orjson.dumps(stored) + files_below(protected.home)
        assert not [value for value in VALUES if value.encode() in raw]
        with AuditReader(settings=protected) as reader:
            (event,) = reader.scan(user_id="u-bob")
            assert event.get("user.name") == event.get("audit.metadata.address.street") == ERASED
            assert event.message == f"{ERASED} logged in"
            assert next(reader.scan(user_id="u-ann")).get("user.name") == "Ann Other"
            reader.export(tmp_path / "after.ndjson")
            (certificate,) = reader.scan(event_type="audit.erased")
        assert not [value for value in VALUES if value.encode() in (tmp_path / "after.ndjson").read_bytes()]
        assert certificate.get("audit.metadata.subject_id") == done.token
        assert "u-bob" not in orjson.dumps(certificate.document).decode()
        assert (certificate.get("user.name"), certificate.get("event.reason")) == ("dpo", "request 2026-117")
        for hit in stored:
            seal = hit["_source"]["audit"]["integrity"]
            canonical = canonical_form(hit["_source"])
            assert seal["hash"] == digest_of(seal["previous"], seal["writer"], seal["sequence"], canonical)

    def test_a_second_time_says_that_there_is_nothing(self, protected):
        """And leaves a certificate all the same."""
        assert erase(protected, "u-bob").had_key
        again = erase(protected, "u-bob")
        assert not again.had_key
        assert again.event_id

    def test_without_the_key_store_nothing_is_readable(self, protected, client, tmp_path):
        client.request("POST", f"/{protected.stream}/_refresh")
        elsewhere = protected.model_copy(update={"subject_keys_file": tmp_path / "none.sqlite"})
        with AuditReader(settings=elsewhere) as reader:
            (event,) = reader.scan(user_id="u-bob")
        assert event.get("user.name").startswith(PREFIX)
