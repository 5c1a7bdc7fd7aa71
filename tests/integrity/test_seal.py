"""The seal chains events so that any language can recompute it."""

import hashlib
import json
import re
from pathlib import Path

import orjson
from hypothesis import given
from hypothesis import strategies as st

from audit_logging.integrity.seal import Chain, canonical_form, new_writer_id

DOCUMENT = b'{"@timestamp":"2026-01-01T00:00:00.000000Z","audit":{"schema":"1"},"event":{"id":"e"}}'
SPLICE = DOCUMENT.index(b'"schema"')


def recompute(document):
    """Do what docs/integrity.md tells an outsider to do, with the standard library alone."""
    integrity = document["audit"].pop("integrity")
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    text = f"{integrity['previous']}{integrity['writer']}-{integrity['sequence']}{canonical}"
    return integrity, hashlib.sha256(text.encode()).hexdigest()


class TestChain:
    def test_an_outsider_recomputes_every_hash(self):
        """Three events, verified without any code of ours."""
        chain = Chain("w" * 20)
        previous = hashlib.sha256(b"w" * 20).hexdigest()
        for sequence in (1, 2, 3):
            sealed = chain.seal(DOCUMENT, SPLICE)
            chain.advance(sealed)
            integrity, digest = recompute(json.loads(sealed.payload))
            assert integrity == {"hash": digest, "previous": previous, "sequence": sequence, "writer": "w" * 20}
            previous = digest

    def test_a_seal_that_is_not_advanced_leaves_no_gap(self):
        """A failed write is as if it had never been."""
        chain = Chain("w" * 20)
        assert chain.seal(DOCUMENT, SPLICE) == chain.seal(DOCUMENT, SPLICE)
        assert chain.sequence == 0

    @given(
        st.dictionaries(
            st.text(st.characters(exclude_categories=["Cs"])), st.text(st.characters(exclude_categories=["Cs"]))
        )
    )
    def test_the_canonical_form_survives_reading_back(self, metadata):
        """What any parser makes of the stored document hashes to the same."""
        document = {"@timestamp": "2026-01-01T00:00:00.000000Z", "audit": {"metadata": metadata, "schema": "1"}}
        canonical = orjson.dumps(document, option=orjson.OPT_SORT_KEYS)
        sealed = Chain("w" * 20).seal(canonical, canonical.index(b'"audit":{') + 9)
        stored = json.loads(sealed.payload)
        assert canonical_form(stored) == canonical
        assert stored["audit"]["integrity"]["hash"] == sealed.hash
        _, digest = recompute(stored)
        assert digest == sealed.hash

    def test_writer_ids_are_random(self):
        """Twenty hexadecimal digits that do not repeat."""
        assert len({new_writer_id() for _ in range(100)}) == 100
        assert re.fullmatch("[0-9a-f]{20}", new_writer_id())


def test_the_vectors_in_the_docs_are_true():
    """docs/integrity.md shows documents and hashes; this library makes the same."""
    page = (Path(__file__).parents[2] / "docs/integrity.md").read_text()
    vectors = [json.loads(line) for line in re.findall(r"^(\{.*\"hash\".*\})$", page, re.MULTILINE)]
    assert len(vectors) == 3
    for vector in vectors:
        integrity, digest = recompute(vector)
        assert integrity["hash"] == digest
