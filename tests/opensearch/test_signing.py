"""What the doctor says of the signatures."""

import pytest

from audit_logging.integrity.keys import SigningKey
from audit_logging.opensearch.signing import check_signing
from audit_logging.settings import Settings


@pytest.fixture(autouse=True)
def kind(monkeypatch):
    """The disk of the tests may be a memory; return what it is said to be, to be changed."""
    found = ["ext4"]
    monkeypatch.setattr("audit_logging.opensearch.signing.file_system", lambda _: found[0])
    return found


@pytest.fixture
def settings(tmp_path):
    return Settings.load(home=tmp_path, signing=True)


def test_no_key_is_made_by_looking(settings):
    check = check_signing(settings)
    assert (check.verdict, "is made with the first one" in check.sentence) == ("ok", True)
    assert not settings.signing_key_path.exists()


def test_a_key_is_named(settings):
    key = SigningKey.load_or_create(settings.signing_key_path)
    check = check_signing(settings)
    assert check.verdict == "ok"
    assert key.id in check.sentence
    assert "a second place" in check.sentence
    kept = check_signing(settings.model_copy(update={"checkpoint_file": settings.home / "second"}))
    assert "kept in a second place" in kept.sentence


@pytest.mark.parametrize("mode", [0o640, 0o604])
def test_one_that_others_may_read_is_a_warning(settings, mode):
    SigningKey.load_or_create(settings.signing_key_path)
    settings.signing_key_path.chmod(mode)
    check = check_signing(settings)
    assert (check.verdict, f"{mode:04o}" in check.sentence) == ("warning", True)
    assert "chmod 600" in check.remedy


def test_one_that_is_none_is_a_problem(settings):
    settings.signing_key_path.parent.mkdir()
    settings.signing_key_path.write_text("no key")
    assert check_signing(settings).verdict == "problem"
    settings.signing_key_path.unlink()
    settings.signing_key_path.mkdir()
    assert check_signing(settings).verdict == "problem"


def test_signing_nothing_is_a_warning(settings, monkeypatch):
    check = check_signing(settings.model_copy(update={"signing": False}))
    assert (check.verdict, "by the setting" in check.sentence) == ("warning", True)
    monkeypatch.setattr("audit_logging.settings.find_spec", lambda _: None)
    check = check_signing(settings.model_copy(update={"signing": None}))
    assert (check.verdict, "cryptography" in check.sentence) == ("warning", True)


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_one_that_others_may_write_is_a_problem(settings, mode):
    SigningKey.load_or_create(settings.signing_key_path)
    settings.signing_key_path.chmod(mode)
    check = check_signing(settings)
    assert (check.verdict, "others can write" in check.sentence) == ("problem", True)


@pytest.mark.parametrize("name", [".", "signing"])
def test_a_directory_that_others_may_write_is_a_problem(settings, name):
    SigningKey.load_or_create(settings.signing_key_path)
    (settings.home / name).chmod(0o777)
    check = check_signing(settings)
    assert (check.verdict, "others can write" in check.sentence) == ("problem", True)


@pytest.mark.parametrize("made", [False, True])
@pytest.mark.parametrize("of", ["overlay", "tmpfs"])
def test_a_key_that_goes_with_its_container_is_a_warning(settings, kind, of, made):
    if made:
        SigningKey.load_or_create(settings.signing_key_path)
    kind[0] = of
    check = check_signing(settings)
    assert (check.verdict, f"is on {of}" in check.sentence) == ("warning", True)
    assert "AUDIT_SIGNING_KEY_FILE" in check.remedy
