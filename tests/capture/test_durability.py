"""Which durability an event gets: the call's, its type's, or the default."""

import pytest

import audit_logging as audit
from audit_logging.capture.configuration import current_trail
from audit_logging.capture.durability import Durabilities
from audit_logging.errors import SettingsError
from audit_logging.settings import Settings


def durabilities(**overrides):
    return Durabilities(Settings.load(durability_overrides=overrides))


class TestPrecedence:
    @pytest.mark.parametrize(
        ("event_type", "asked", "expected"),
        [
            ("user.login", None, "process"),
            ("user.logout", None, "disk"),
            ("user.logout", "process", "process"),
            ("admin.config_change", None, "disk"),
            ("admin.user_delete", None, "process"),
            ("admin.user_create", None, "indexed"),
        ],
    )
    def test_the_call_wins_over_the_type_and_the_nearer_pattern_over_the_wider(self, event_type, asked, expected):
        """Whatever the order in which they were given, and each time they are asked."""
        overrides = {
            "user.logout": "disk",
            "admin.*": "disk",
            "admin.user_*": "process",
            "admin.user_create": "indexed",
        }
        for given in (overrides, dict(reversed(overrides.items()))):
            resolved = Durabilities(Settings.load(durability_overrides=given))
            assert [resolved.of(event_type, asked) for _ in range(2)] == [expected, expected]

    def test_the_environment_gives_them_too(self, monkeypatch):
        """Comma-separated pairs, as for the severities."""
        monkeypatch.setenv("AUDIT_DURABILITY_OVERRIDES", "user.login=disk, admin.*=indexed")
        assert Settings.load().durability_overrides == {"user.login": "disk", "admin.*": "indexed"}

    def test_a_durability_that_is_none_stops_the_program_at_start_or_the_call(self):
        """A typing error must not weaken a promise in silence."""
        with pytest.raises(SettingsError, match="durability_overrides"):
            durabilities(**{"user.login": "fsync"})
        with pytest.raises(SettingsError, match="choose process, disk or indexed"):
            durabilities().of("user.login", "fsync")

    def test_made_up_types_fill_no_memory(self):
        """Only so many are remembered; the others are resolved each time."""
        resolved = durabilities(**{"a.*": "disk"})
        assert {resolved.of(f"a.b{number}") for number in range(3000)} == {"disk"}
        assert len(resolved._known) < 1100


def test_an_event_of_an_overridden_type_is_on_the_disk_when_the_call_returns(tmp_path, monkeypatch):
    """The trail syncs for that type, and for no other."""
    audit.configure(spool_dir=tmp_path, durability_overrides={"admin.*": "disk"})
    log = audit.get_logger()
    log.user_logout()
    synced = []
    writer = current_trail()._writer
    monkeypatch.setattr(writer, "sync", lambda sequence, _: synced.append(sequence))
    log.user_logout()
    log.admin_config_change()
    log.admin_config_change(durability="process")
    assert synced == [3]
