"""What an export's content looks like."""

import csv
import io

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit_logging.query.export.formats import FORMATS, Csv, harmless

TEXTS = st.text(max_size=6) | st.sampled_from(["=1+1", "\t=1", "\r\n", '","', "a,b", "-2", "＝1", "'", "\x00", " @x"])
DOCUMENTS = st.lists(
    st.dictionaries(
        st.sampled_from(["message", "user", "event", "x"]),
        TEXTS
        | st.dictionaries(st.sampled_from(["id", "name", "reason", "category"]), TEXTS | st.lists(TEXTS, max_size=2)),
    ),
    max_size=6,
)


def content_of(name, documents, size):
    form = FORMATS[name]
    lines = [orjson.dumps(document) for document in documents]
    parts = [
        form.encode(lines[start : start + size], first=start == 0) for start in range(0, len(lines), size) if lines
    ]
    return lines, form.begin + b"".join(parts) + form.end


@pytest.mark.parametrize("name", FORMATS)
@given(DOCUMENTS, st.integers(1, 3))
def test_every_document_is_in_it_byte_for_byte(name, documents, size):
    """In every format, however many are written at once."""
    lines, content = content_of(name, documents, size)
    assert list(FORMATS[name].documents(io.BufferedReader(io.BytesIO(content)))) == lines


@given(DOCUMENTS)
def test_a_json_array_is_json(documents):
    """Also an empty one."""
    assert orjson.loads(content_of("json", documents, 2)[1]) == documents


@given(DOCUMENTS)
def test_no_cell_of_a_csv_is_a_formula(documents):
    """Not after white space either, which spreadsheets drop."""
    _, content = content_of("csv", documents, 2)
    header, *rows = csv.reader(io.StringIO(content.decode(), newline=""))
    assert header == [*Csv.columns, "document"]
    for row in rows:
        assert len(row) == len(header)
        for cell in row:
            assert not cell.lstrip().startswith(("=", "+", "-", "@", "＝", "＋", "－", "＠"))
            assert not cell.startswith(("\t", "\r", "\n"))
            assert "\x00" not in cell


def test_what_is_harmless_stays_as_it_is():
    """An apostrophe for formulas alone."""
    assert [harmless(text) for text in ("", "u-42", "a=b", "2026", "=cmd|'/C calc'!A0")] == [
        "",
        "u-42",
        "a=b",
        "2026",
        "'=cmd|'/C calc'!A0",
    ]
