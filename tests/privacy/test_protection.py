"""Personal data is read with its person's key, and by nobody once that is destroyed."""

import multiprocessing
import os
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit_logging.errors import SettingsError
from audit_logging.privacy import subjects
from audit_logging.privacy.protection import ERASED, Protection
from audit_logging.privacy.subjects import SubjectKeys

VALUES = st.text(alphabet=st.characters(exclude_categories=["Cs"]))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "private" / "subjects.sqlite"


@pytest.fixture
def keys(path):
    keys = SubjectKeys(path)
    yield keys
    keys.close()


@pytest.fixture
def protection(keys):
    return Protection(keys)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    keys = SubjectKeys(tmp_path_factory.mktemp("keys") / "subjects.sqlite")
    yield Protection(keys)
    keys.close()


class TestSealing:
    @given(VALUES, VALUES, VALUES)
    def test_what_is_sealed_is_read_again_and_does_not_show(self, shared, value, before, after):
        """Any text, and in the middle of any other."""
        sealed = shared.seal(value, subject="u-42")
        assert shared.open(sealed) == value
        assert len(value) < 4 or value not in sealed
        assert shared.open(f"{before} {sealed} {after}") == f"{shared.open(before)} {value} {shared.open(after)}"

    def test_the_same_value_of_the_same_person_is_the_same_text(self, protection):
        """So it can be counted and grouped; another person's is another, with the same token for the search."""
        first, again = (protection.seal("bob@example.com", subject="u-1") for _ in range(2))
        other = protection.seal("bob@example.com", subject="u-2")
        assert first == again != other
        assert first.split(":")[3] == other.split(":")[3] == protection.value_token("bob@example.com")

    def test_what_looks_sealed_is_sealed_like_anything_else(self, protection):
        """Whoever may choose a name must not become the person whose sealed name that is."""
        sealed = protection.seal("bob", subject="u-1")
        twice = protection.seal(sealed, subject="u-2")
        assert protection.open(twice) == sealed
        assert protection.value_token("bob") not in twice
        assert protection.open(protection.seal("enc:1:", subject="u-1")) == "enc:1:"
        assert protection.pseudonym(protection.pseudonym("bob")) != protection.pseudonym("bob")

    def test_an_altered_text_is_not_opened(self, protection):
        """Nor one whose token was changed: it would be found by a search for another value."""
        sealed = protection.seal("bob@example.com", subject="u-1")
        prefix, version, person, value, text = sealed.split(":")
        for altered in (
            ":".join((prefix, version, person, value, text[:-1] + ("A" if text[-1] != "A" else "Q"))),
            ":".join((prefix, version, person, value[::-1], text)),
        ):
            assert protection.open(altered) == ERASED

    def test_a_whole_document_is_opened(self, protection):
        """At any depth."""
        sealed = protection.seal("bob", subject="u-1")
        assert protection.open_all({"user": {"name": sealed}, "related": {"user": [sealed, 1, None]}}) == {
            "user": {"name": "bob"},
            "related": {"user": ["bob", 1, None]},
        }


class TestErasure:
    def test_destroying_the_key_makes_all_of_one_person_unreadable_and_nobody_elses(self, protection):
        """Also for a process that used the key a moment ago."""
        mine, theirs = protection.seal("bob", subject="u-1"), protection.seal("ann", subject="u-2")
        assert protection.erase("u-1")
        assert protection.open(f"{mine} and {theirs}") == f"{ERASED} and ann"
        assert not protection.erase("u-1")

    def test_another_process_sees_it_when_its_cache_is_old(self, protection, path, monkeypatch):
        """A minute at the most."""
        sealed = protection.seal("bob", subject="u-1")
        other = SubjectKeys(path)
        assert Protection(other).erase("u-1")
        other.close()
        assert protection.open(sealed) == "bob"
        later = subjects.time.monotonic() + 61
        monkeypatch.setattr(subjects.time, "monotonic", lambda: later)
        assert protection.open(sealed) == ERASED

    def test_no_byte_of_a_destroyed_key_stays_in_the_files(self, protection, keys, path):
        """Neither in the database nor in its journal."""
        protection.seal("bob", subject="u-1")
        key = keys.key(keys.token("subject u-1"))
        everything = lambda: b"".join(file.read_bytes() for file in path.parent.iterdir())  # noqa: E731
        assert key in everything()
        protection.erase("u-1")
        assert key not in everything()

    def test_who_comes_back_gets_a_new_key(self, protection):
        """What was erased stays erased."""
        old = protection.seal("bob", subject="u-1")
        protection.erase("u-1")
        assert protection.open(protection.seal("bob", subject="u-1")) == "bob"
        assert protection.open(old) == ERASED


class TestStore:
    def test_it_is_private_and_names_nobody(self, protection, path):
        """Whatever the umask says."""
        protection.seal("bob@example.com", subject="the-subject-u-42")
        for file in path.parent.iterdir():
            assert stat.S_IMODE(file.stat().st_mode) & 0o077 == 0
            assert b"u-42" not in file.read_bytes()
            assert b"example" not in file.read_bytes()
        assert "key" not in repr(protection).lower() or "object at" in repr(protection)

    def test_processes_share_it(self, protection, path):
        """Children that were forked and others alike make one key for one person."""
        sealed = protection.seal("bob", subject="u-1")
        for method in ("fork", "spawn"):
            with multiprocessing.get_context(method).Pool(2) as pool:
                assert set(pool.starmap(_seal, [(path, "bob", "u-1")] * 4)) == {sealed}
        child = os.fork()
        if not child:
            os._exit(0 if protection.seal("bob", subject="u-1") == sealed else 1)
        assert os.waitpid(child, 0)[1] == 0

    def test_what_is_no_store_is_named(self, path):
        """With what to do."""
        path.parent.mkdir()
        path.write_bytes(b"no database at all, but long enough to be looked at" * 100)
        with pytest.raises(SettingsError, match="subject_keys_file"):
            SubjectKeys(path).token("x")


def _seal(path, value, subject):
    keys = SubjectKeys(path)
    try:
        return Protection(keys).seal(value, subject=subject)
    finally:
        keys.close()
