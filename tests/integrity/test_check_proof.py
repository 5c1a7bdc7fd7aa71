"""The stand-alone checker in docs/: runs alone, and believes no forged proof."""

import copy
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import orjson
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import example, given, settings
from hypothesis import strategies as st

from audit_logging.integrity.keys import key_id

from .chains import KEYS, OTHER, author, rechained, resealed

SCRIPT = Path(__file__).parents[2] / "docs/check_proof.py"
_spec = importlib.util.spec_from_file_location("check_proof", SCRIPT)
checker = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(checker)

PRIVATE = Ed25519PrivateKey.from_private_bytes(bytes([1]) * 32)
PUBLIC = PRIVATE.public_key().public_bytes_raw()
PEM = PRIVATE.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def proof_of(documents):
    return {"format": "audit-logging proof 1", "events": [orjson.loads(document) for document in documents]}


@pytest.fixture
def proof():
    """Events 2 to 6 of a writer, the last a signed checkpoint."""
    return proof_of(author().life().written[1:6])


def run(tmp_path, proof, *keys):
    path = tmp_path / "proof.json"
    path.write_text(proof if isinstance(proof, str) else json.dumps(proof), "utf-8")
    names = []
    for number, key in enumerate(keys):
        (tmp_path / f"{number}.pub").write_bytes(key)
        names.append(str(tmp_path / f"{number}.pub"))
    # -I -S: nothing that is installed can be found, ours included.
    return subprocess.run(
        [sys.executable, "-I", "-S", str(SCRIPT), str(path), *names], capture_output=True, text=True, check=False
    )


class TestCommand:
    def test_a_proof_holds_without_any_package(self, tmp_path, proof):
        done = run(tmp_path, proof, PEM)
        assert (done.returncode, done.stderr) == (0, "")
        assert "The proof holds" in done.stdout
        assert KEYS.signing.id in done.stdout
        assert '"u-0"' in done.stdout

    def test_a_forged_proof_does_not(self, tmp_path, proof):
        proof["events"][0]["user"]["id"] = "somebody else"
        done = run(tmp_path, proof, PEM)
        assert (done.returncode, done.stdout.count("\n")) == (1, 1)
        assert "is not what was sealed" in done.stdout

    @pytest.mark.parametrize(
        "text",
        ["", "{}", "[]", "null", '{"format":"audit-logging proof 1","events":[]}', "[" * 100_000, "NaN", "1.5",
         '{"format":"audit-logging proof 1","events":[{"audit":null}]}'],
    )  # fmt: skip
    def test_what_is_no_proof_does_not_hold(self, tmp_path, text):
        done = run(tmp_path, text, PEM)
        assert (done.returncode, done.stderr) == (1, "")

    def test_wrong_use_is_told(self, tmp_path, proof):
        assert run(tmp_path, proof).returncode == 2
        done = run(tmp_path, proof, b"no key")
        assert (done.returncode, "is no Ed25519 public key" in done.stderr) == (2, True)
        assert checker.main([]) == checker.main(["--help"]) == 2
        assert checker.main([str(tmp_path / "nowhere"), str(tmp_path / "0.pub")]) == 2


class TestForgeries:
    def refused(self, proof, match=".", keys=None):
        with pytest.raises(checker.BadProofError, match=match):
            checker.check(proof, keys or {KEYS.signing.id: PUBLIC})

    def test_the_untouched_holds(self, proof):
        assert checker.check(proof, {KEYS.signing.id: PUBLIC})["user"]["id"] == "u-0"

    def test_every_value_counts(self, proof):
        """Each leaf of each event, the seal's included, changed alone."""

        def leaves(node, path=()):
            items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else None
            if items is None:
                yield path
            else:
                for key, value in items:
                    yield from leaves(value, (*path, key))

        tried = 0
        for path in leaves(proof["events"]):
            forged = copy.deepcopy(proof)
            node = forged["events"]
            for step in path[:-1]:
                node = node[step]
            value = node[path[-1]]
            node[path[-1]] = value + 1 if isinstance(value, int) else f"{value[:-1]}{'0' if value[-1] != '0' else '1'}"
            self.refused(forged)
            tried += 1
        assert tried > 40

    def test_an_event_that_was_taken_out_put_in_or_moved(self, proof):
        events = proof["events"]
        self.refused({**proof, "events": events[:1] + events[2:]}, "does not follow")
        self.refused({**proof, "events": [events[0], events[0], *events[1:]]}, "does not follow")
        self.refused({**proof, "events": [events[1], events[0], *events[2:]]}, "does not follow")
        self.refused({**proof, "events": events[:-1]}, "is not signed by any of the keys given")
        other = proof_of(author(2).life().written[1:6])["events"]
        self.refused({**proof, "events": [events[0], *other[1:]]}, "does not follow")

    def test_a_chain_that_was_sealed_anew(self):
        documents = author().life().written[1:6]
        self.refused(proof_of(rechained(documents, 0, user__id="x")), "signature of event")
        self.refused(proof_of([resealed(documents[0], user__id="x"), *documents[1:]]), "is not chained")
        signed = [*documents[:-1], resealed(documents[-1], key=OTHER.signing, message="x")]
        self.refused(proof_of(signed), "is not signed by any of the keys given")
        named = proof_of(signed)
        named["events"][-1]["audit"]["integrity"]["key"] = KEYS.signing.id
        self.refused(named, "is not one of the key")

    def test_a_stolen_or_stripped_signature(self, proof):
        seal = proof["events"][-1]["audit"]["integrity"]
        other = proof_of(author(2).life().written[1:6])["events"][-1]["audit"]["integrity"]["signature"]
        for signature in (other, "00" * 64, "", "zz", None, 7):
            seal["signature"] = signature
            self.refused(proof, "signature|bears no")
        del seal["signature"]
        self.refused(proof, "bears no signature")

    def test_a_key_that_came_with_the_proof_is_not_believed(self, proof):
        self.refused({**proof, "public_key": PEM.decode()}, "not signed by any", {OTHER.signing.id: bytes(32)})

    def test_a_key_that_stands_twice_in_the_text(self, proof, tmp_path):
        text = json.dumps(proof).replace('"u-0"', '"u-9","id":"u-0"', 1)
        assert "stands twice" in run(tmp_path, text, PEM).stdout

    def test_sequences_that_are_no_numbers(self, proof):
        for sequence in ("2", 2.0, True, None):
            proof["events"][0]["audit"]["integrity"]["sequence"] = sequence
            self.refused(proof, "malformed|bears no seal|is not what")


class TestEd25519:
    @pytest.mark.parametrize(
        ("public", "message", "signature"),
        [
            (
                "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
                "",
                "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
            ),
            (
                "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
                "72",
                "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
            ),
        ],
    )
    def test_the_vectors_of_the_rfc(self, public, message, signature):
        """RFC 8032, section 7.1."""
        given = bytes.fromhex(public), bytes.fromhex(signature), bytes.fromhex(message)
        assert checker.verify(*given)
        assert not checker.verify(given[0], given[1], given[2] + b"x")

    @settings(max_examples=60, deadline=None)
    @given(st.binary(min_size=32, max_size=32), st.binary(max_size=60), st.integers(0, 96 * 8 - 1))
    @example(bytes(32), b"", 0)
    def test_it_agrees_with_openssl(self, seed, message, bit):
        """On what is signed, and on what has one bit changed in key or signature."""
        private = Ed25519PrivateKey.from_private_bytes(seed)
        public, signature = private.public_key().public_bytes_raw(), private.sign(message)
        assert checker.verify(public, signature, message)
        both = bytearray(public + signature)
        both[bit // 8] ^= 1 << bit % 8
        public, signature = bytes(both[:32]), bytes(both[32:])
        try:
            Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
            expected = True
        except (InvalidSignature, ValueError):
            expected = False
        assert checker.verify(public, signature, message) == expected == False  # noqa: E712

    def test_a_factor_beyond_the_order_and_points_off_the_curve_are_refused(self):
        signature = PRIVATE.sign(b"x")
        larger = int.from_bytes(signature[32:], "little") + checker.ORDER
        assert not checker.verify(PUBLIC, signature[:32] + larger.to_bytes(32, "little"), b"x")
        assert checker.decode_point((2).to_bytes(32, "little")) is None
        assert checker.decode_point((checker.P).to_bytes(32, "little")) is None
        assert checker.decode_point((1 | 1 << 255).to_bytes(32, "little")) is None
        assert not checker.verify(PUBLIC[:31], signature, b"x")

    def test_ids_are_those_of_the_library(self, tmp_path):
        (tmp_path / "k.pub").write_bytes(PEM)
        assert checker.read_key(str(tmp_path / "k.pub")) == (key_id(PUBLIC), PUBLIC)
