"""Cutting pages, whatever the documents hold."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit_logging.errors import IncompleteResultError
from audit_logging.query.export.page import UNSEALED, Page, Separator, place_of

SEPARATOR = Separator(1234567890123456789)
OTHER = Separator(1234567890123456788)

# Everything that looks like the bytes around a document, as text and as structure.
LURES = st.sampled_from(
    [
        '"sort":[',
        ',"sort":[1,2]}',
        ',"sort":[1,1234567890123456788]},{"_index":"i","_id":"x","_score":null,"_source":{"a":1}',
        "]}}",
        '"_source":',
        '"hits":[',
        "\\",
        '\\"',
        "\n",
        "\u2028",
        "\x00",
        "é😀",
    ]
)
TEXTS = LURES | st.text(max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | TEXTS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            TEXTS | st.sampled_from(["_index", "_id", "_source", "sort", "hits", "_score"]), inner, max_size=3
        )
        | st.builds(
            lambda source, place: [
                {"_index": "i", "_id": "x", "_score": None, "_source": source, "sort": [place, OTHER.number]},
                {"_index": "i", "_id": "y", "_score": None, "_source": source, "sort": [place, OTHER.number]},
            ],
            inner,
            st.integers(0, 9),
        )
    ),
    max_leaves=8,
)
MOMENTS = st.datetimes().map(lambda moment: moment.isoformat(timespec="microseconds") + "Z")
SEALS = st.fixed_dictionaries(
    {
        "hash": st.just("a" * 64),
        "previous": st.just("b" * 64),
        "sequence": st.integers(1, 10**18 - 1),
        "writer": st.text("0123456789abcdef", min_size=1, max_size=20),
    }
)


@st.composite
def documents(draw):
    """As the shipper writes them, changes before the seal included; or by somebody else."""
    document = {"@timestamp": draw(MOMENTS), "audit": {"integrity": draw(SEALS), "metadata": draw(VALUES)}}
    if draw(st.booleans()):
        document["audit"]["changes"] = draw(VALUES)
    if draw(st.booleans()):
        document["zzz"] = draw(VALUES)
    if draw(st.integers(0, 4)) == 0:
        del document["audit"]
    option = orjson.OPT_SORT_KEYS if draw(st.booleans()) else 0
    if draw(st.integers(0, 4)) == 0:
        option |= orjson.OPT_INDENT_2
    return orjson.dumps(document, option=option)


IDS = TEXTS.map(orjson.dumps)
EXTRAS = st.sampled_from([b"", b'"_routing":"r",', b'"_ignored":["source.ip"],', b'"_new":{"a":"b"},'])


def answer(hits, head=b'{"pit_id":"p\\"hits\\":[","took":1,"timed_out":false,"_shards":{"failed":0},"hits":{"hits":['):
    pieces = [
        b'{"_index":"i","_id":%b,"_score":null,%b"_source":%b,"sort":[%d,%d]}'
        % (doc_id, extra, source, place, SEPARATOR.number)
        for place, (doc_id, extra, source) in enumerate(hits)
    ]
    return head + b",".join(pieces) + b"]}}"


@given(st.lists(st.tuples(IDS, EXTRAS, documents()), max_size=5))
def test_every_document_comes_out_whole_and_at_its_place(hits):
    """Also those that hold what the end of one and the begin of the next look like."""
    page = Page.of(answer(hits), SEPARATOR, len(hits), len(hits))
    events = page.events()
    assert [orjson.loads(line) for _, _, _, line in events] == [orjson.loads(source) for _, _, source in hits]
    for (moment, writer, sequence, line), (_, extra, source) in zip(events, hits, strict=True):
        document = orjson.loads(source)
        assert b"\n" not in line
        if b"{" not in extra:  # nothing was written anew
            assert line == source.replace(b"\n", b" ")
        assert moment == document["@timestamp"][:-1].encode()
        seal = document.get("audit", {}).get("integrity")
        assert (writer, sequence) == ((seal["writer"].encode(), seal["sequence"]) if seal else UNSEALED)
    named = [(doc_id, orjson.loads(line)) for doc_id, line in page.documents()]
    assert named == [(orjson.loads(doc_id), orjson.loads(source)) for doc_id, _, source in hits]
    if hits:
        assert page.last == [len(hits) - 1, SEPARATOR.number]


@given(documents())
def test_a_line_that_is_read_back_has_the_same_place(source):
    """As `export verify` reads it."""
    [(moment, writer, sequence, line)] = Page.of(answer([(b'"x"', b"", source)]), SEPARATOR, 1, 1).events()
    assert place_of(line) == (moment, writer, sequence)


def test_a_number_that_is_drawn_anew_each_time():
    """Nineteen digits that nobody could have stored before."""
    numbers = {Separator().number for _ in range(100)}
    assert len(numbers) == 100
    assert {len(str(number)) for number in numbers} == {19}
    assert max(numbers) < 2**63


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("2026-03-01", b"2026-03-01T00:00:00.000000"),
        ("2026-03-01T12:00Z", b"2026-03-01T12:00:00.000000"),
        ("2026-03-01T12:00:00.123456789Z", b"2026-03-01T12:00:00.123456789"),
        ("2026-03-01T12:00:00.1234500+0130", b"2026-03-01T10:30:00.123450"),
        (1772366400123, b"2026-03-01T12:00:00.123000"),
        (-1, b"1969-12-31T23:59:59.999000"),
        (None, b"9999"),
        ("soon", b"9999"),
    ],
)
def test_times_that_others_wrote_sort_with_ours(written, read):
    """Whatever OpenSearch takes for a date."""
    assert place_of(orjson.dumps({"@timestamp": written}))[0] == read


@pytest.mark.parametrize("line", [b"[]", b"5", b'{"audit":5}', b'{"audit":{"integrity":{"writer":5,"sequence":"x"}}}'])
def test_what_bears_no_seal_has_a_place_behind_all(line):
    """Never an error."""
    assert place_of(line)[1:] == UNSEALED


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"<html>",
        answer([(b'"x"', b"", b"{}")])[:-1],
        answer([(b'"x"', b"", b"{}")]) + b" ",
        answer([(b'"x"', b"", b"{}")])[:-3] + b'],"more":1}}',
        answer([(b'"x"', b"", b"{}")]).replace(b"_source", b"_sauce"),
    ],
)
def test_an_answer_that_is_not_understood_is_no_page(raw):
    """An event might be missed otherwise."""
    with pytest.raises(IncompleteResultError, match="not one that this version understands"):
        Page.of(raw, SEPARATOR, 1, 1).events()


@pytest.mark.parametrize(("came", "size", "left"), [(0, 3, 9), (2, 3, 9), (4, 3, 9), (2, 3, 1), (1, 3, 0)])
def test_a_page_holds_exactly_what_had_to_come(came, size, left):
    """A full page, or all that is left."""
    with pytest.raises(IncompleteResultError, match=f"gave {came} stored events where it had {min(size, left)}"):
        Page.of(answer([(b'"x"', b"", b"{}")] * came), SEPARATOR, size, left).events()
