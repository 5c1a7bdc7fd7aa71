"""What an export's content looks like."""

import csv
import io

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit_logging.errors import FilterError
from audit_logging.query.export.formats import FORMATS, Csv, format_of, harmless

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


class TestColumns:
    @given(DOCUMENTS)
    def test_are_those_that_were_chosen_in_their_order(self, documents):
        table = Csv(["message", "document", "user_id"], bom=True)
        lines = [orjson.dumps(document) for document in documents]
        content = table.begin + table.encode(lines, first=True)
        assert content.startswith(b"\xef\xbb\xbfmessage,document,user_id\r\n")
        rows = list(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline="")))[1:]
        assert [row[1].encode() for row in rows] == lines
        assert list(table.documents(io.BufferedReader(io.BytesIO(content)))) == lines

    def test_an_unknown_one_is_named_with_the_nearest(self):
        with pytest.raises(FilterError, match="no CSV column 'user': did you mean 'user_id'"):
            Csv(["message", "user"])
        with pytest.raises(FilterError, match="no CSV column 'colour': there are timestamp, event_id"):
            Csv(["colour"])

    def test_one_cannot_be_chosen_twice(self):
        with pytest.raises(FilterError, match="'message' is chosen twice"):
            Csv(["message", "message"])

    @pytest.mark.parametrize("query", [{"columns": ["message"]}, {"bom": True}])
    def test_other_formats_have_none(self, query):
        with pytest.raises(FilterError, match="those of csv, and the format is json"):
            format_of({"format": "json", **query})
