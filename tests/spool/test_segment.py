"""The frame format: what is whole counts, what is torn or damaged does not."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit_logging.spool.segment import (
    HEADER_BYTES,
    Record,
    SegmentError,
    decode_header,
    decode_records,
    encode_header,
    encode_record,
)

WRITER = "0123456789abcdef0123"
PATH = Path("x.seg")


@given(st.lists(st.binary(min_size=1, max_size=50)), st.integers(0, 500))
def test_a_cut_at_any_byte_leaves_the_whole_records_before_it(payloads, cut):
    """The torn tail of a crash is recognised wherever it begins."""
    data = b"".join(encode_record(payload) for payload in payloads)[:cut]
    records, size = decode_records(data, first_sequence=5)
    whole = payloads[: len(records)]
    assert list(records) == [Record(5 + index, payload) for index, payload in enumerate(whole)]
    assert size == sum(len(encode_record(payload)) for payload in whole) <= len(data)
    if len(records) < len(payloads):
        assert len(data) < size + len(encode_record(payloads[len(records)]))


@given(st.lists(st.binary(min_size=1, max_size=30), min_size=1), st.data())
def test_a_flipped_bit_never_yields_a_wrong_payload(payloads, data):
    """The checksum stops the reading at the damage."""
    encoded = bytearray(b"".join(encode_record(payload) for payload in payloads))
    position = data.draw(st.integers(0, len(encoded) - 1))
    encoded[position] ^= 1 << data.draw(st.integers(0, 7))
    records, _ = decode_records(bytes(encoded), 1)
    assert [record.payload for record in records] == payloads[: len(records)]
    assert len(records) < len(payloads)


def test_headers_are_read_back_and_torn_ones_recognised():
    """Writer and first sequence are in the file itself, not only in its name."""
    header = encode_header(WRITER, 77)
    assert decode_header(header + b"more", PATH) == (WRITER, 77)
    assert decode_header(header[: HEADER_BYTES - 1], PATH) is None
    assert decode_header(b"\0" * HEADER_BYTES, PATH) is None


def test_foreign_files_and_later_formats_are_refused_with_a_remedy():
    """Never guess at bytes that are somebody else's."""
    from audit_logging.spool import segment

    later = segment._HEADER.pack(segment.MAGIC, 2, WRITER.encode(), 1)
    with pytest.raises(SegmentError, match="format 2"):
        decode_header(later + segment._CHECKSUM.pack(segment.crc32(later)), PATH)
