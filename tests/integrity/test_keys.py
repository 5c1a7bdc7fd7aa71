"""Signing keys: made once whoever comes first, private, rotated by a new file, refused with a remedy."""

import stat
import subprocess
import sys

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from audit_logging.errors import SettingsError
from audit_logging.integrity.keys import SigningKey, TrustedKeys
from audit_logging.integrity.signer import signing_key
from audit_logging.settings import Settings


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_the_first_use_makes_a_key_and_its_public_half(tmp_path):
    path = tmp_path / "signing" / "key.pem"
    key = SigningKey.load_or_create(path)
    assert (mode(path.parent), mode(path), mode(path.parent / f"{key.id}.pub")) == (0o700, 0o600, 0o644)
    assert sorted(each.name for each in path.parent.iterdir()) == sorted([f"{key.id}.pub", "key.pem"])
    assert SigningKey.load_or_create(path).id == key.id
    assert TrustedKeys.beside(path).verifies(key.id, key.sign(b"text"), b"text")
    assert not TrustedKeys.beside(path).verifies(key.id, key.sign(b"text"), b"other")


def test_no_private_byte_is_printed(tmp_path):
    key = SigningKey.load_or_create(tmp_path / "key.pem")
    assert repr(key) == str(key) == f"<SigningKey {key.id}>"


def test_many_processes_at_once_have_one_key(tmp_path):
    script = (
        "import sys; from pathlib import Path; from audit_logging.integrity.keys import SigningKey\n"
        "sys.stdin.readline(); print(SigningKey.load_or_create(Path(sys.argv[1])).id)"
    )
    path = tmp_path / "signing" / "key.pem"
    processes = [
        subprocess.Popen([sys.executable, "-c", script, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(6)
    ]
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    ids = {process.communicate()[0] for process in processes}
    assert len(ids) == 1
    assert len(list(path.parent.iterdir())) == 2


def test_a_new_key_leaves_what_the_old_one_signed(tmp_path):
    path = tmp_path / "key.pem"
    old = SigningKey.load_or_create(path)
    path.rename(tmp_path / "old.pem")
    new = SigningKey.load_or_create(path)
    trusted = TrustedKeys.beside(path)
    assert new.id != old.id
    assert trusted.ids == tuple(sorted([old.id, new.id]))
    assert all(trusted.verifies(key.id, key.sign(b"x"), b"x") for key in (old, new))
    assert not trusted.verifies(old.id, new.sign(b"x"), b"x")


@pytest.mark.parametrize("content", [b"", b"no key", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_what_is_no_key_is_refused_with_a_remedy(tmp_path, content):
    path = tmp_path / "key.pem"
    path.write_bytes(content)
    with pytest.raises(SettingsError, match=r"is no signing key .* move the file away"):
        SigningKey.load_or_create(path)
    with pytest.raises(SettingsError, match=r"is no public key .* give the \.pub file"):
        TrustedKeys.load([path])


def test_another_kind_of_key_is_refused(tmp_path):
    private = ec.generate_private_key(ec.SECP256R1())
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / "key.pem").write_bytes(pem)
    with pytest.raises(SettingsError, match="another kind of key"):
        SigningKey.load_or_create(tmp_path / "key.pem")
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    (tmp_path / "other.pub").write_bytes(public)
    with pytest.raises(SettingsError, match="another kind of key"):
        TrustedKeys.load([tmp_path / "other.pub"])


def test_a_place_that_cannot_hold_a_key_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="signing_key_file"):
        SigningKey.load_or_create(tmp_path / "file" / "key.pem")
    with pytest.raises(SettingsError, match="is no public key"):
        TrustedKeys.load([tmp_path / "nowhere.pub"])


def test_without_the_package_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives", None)
    with pytest.raises(SettingsError, match=r"pip install 'opensearch-audit-logging\[integrity\]'"):
        SigningKey.load_or_create(tmp_path / "key.pem")


def test_the_keys_of_another_directory_are_not_trusted(tmp_path):
    key = SigningKey.load_or_create(tmp_path / "a" / "key.pem")
    assert not TrustedKeys.beside(tmp_path / "b" / "key.pem")
    assert key.id not in TrustedKeys.beside(tmp_path / "b" / "key.pem")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_key_trusts_itself_without_its_public_half(tmp_path):
    """A key that is mounted read-only has no .pub file next to it."""
    path = tmp_path / "key.pem"
    key = SigningKey.load_or_create(path)
    (tmp_path / f"{key.id}.pub").unlink()
    assert TrustedKeys.beside(path).verifies(key.id, key.sign(b"text"), b"text")
    path.chmod(0o622)
    assert not TrustedKeys.beside(path)
    path.write_text("no key")
    path.chmod(0o600)
    assert not TrustedKeys.beside(path)


@pytest.mark.parametrize(("kind", "warned"), [("overlay", True), ("aufs", True), ("ext4", False), ("tmpfs", False)])
def test_a_key_made_in_the_layer_of_a_container_is_a_warning(tmp_path, monkeypatch, caplog, kind, warned):
    """The next container makes another, and `verify` reports what it signs."""
    monkeypatch.setattr("audit_logging.integrity.signer.file_system", lambda _: kind)
    settings = Settings.load(home=tmp_path, signing=True)
    key, why = signing_key(settings)
    assert key is not None
    assert not why
    assert ("AUDIT_SIGNING_KEY_FILE" in caplog.text) == warned
    caplog.clear()
    signing_key(settings)  # it is there, and was told of
    assert not caplog.text
