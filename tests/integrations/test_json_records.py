"""Records in every container shape are read as exactly those records."""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import sys
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit_logging.errors import EventFileError
from audit_logging.integrations import event_file
from audit_logging.integrations.event_file import EventFile

TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**18), 10**18) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
RECORDS = st.lists(st.dictionaries(TEXTS.map("k".__add__), VALUES, max_size=3), max_size=4)
INDENTS = st.sampled_from([None, 1, 4])
GAPS = st.sampled_from(["", " ", "\n", "\r\n", "\n\n  \n", "\t", ",", " ,\n", "\x1e", "\ufeff"])
CHUNKS = st.sampled_from([1, 2, 3, 7, 64, 1 << 20])
ENCODINGS = st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])


@st.composite
def containers(draw):
    """A list of records, and a text that holds it in some shape."""
    records, text = [], ""
    for part in draw(st.lists(RECORDS, min_size=1, max_size=4)):
        records += part
        indent, is_ascii = draw(INDENTS), draw(st.booleans())
        shape = draw(st.sampled_from(["values", "array", "rows", "Records", "Events"]))
        if shape == "values":
            pieces = [json.dumps(record, indent=indent, ensure_ascii=is_ascii) for record in part]
        elif shape == "array":
            pieces = [json.dumps(part, indent=indent, ensure_ascii=is_ascii)]
        elif shape == "rows":
            pieces = ["[\n" + ",\n".join(json.dumps(record, ensure_ascii=is_ascii) for record in part) + "\n]"]
        else:
            header = draw(st.sampled_from([{}, {"Next": 'a\\"b'}, {"Meta": {"x": 1}}, {"n": 1.5, "searched": ["x"]}]))
            envelope = {**header, shape: part} if draw(st.booleans()) else {shape: part, **header}
            pieces = [json.dumps(envelope, indent=indent, ensure_ascii=is_ascii)]
        for piece in pieces:
            gap = draw(GAPS)
            text += (gap if text else gap.replace(",", "")) + piece
    return records, text


def read(path, lists=("Records", "Events")):
    with EventFile(path) as file:
        return list(file.records(lists))


def shown(content, tmp_path, lists=("Records", "Events")):
    """Return place and value, or problem, of each record of *content*."""
    path = tmp_path / "file"
    path.write_bytes(content)
    return [(entry.where, entry.value if entry.problem is None else entry.problem) for entry in read(path, lists)]


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("records") / "file"


class TestShapes:
    @settings(max_examples=300, deadline=None)
    @given(containers(), ENCODINGS, CHUNKS, st.lists(st.integers(0, 400), max_size=3), st.sampled_from([0, 1, 2]))
    def test_any_joining_reads_back_as_exactly_the_records(self, scratch, container, encoding, chunk, cuts, packings):
        records, text = container
        content = text.encode(encoding)
        if packings:
            edges = [0, *sorted(cuts), len(content)]
            content = b"".join(gzip.compress(content[a:b], 1) for a, b in zip(edges, edges[1:], strict=False))
        if packings == 2:
            content = gzip.compress(content)
        scratch.write_bytes(content)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(event_file, "_CHUNK_BYTES", chunk)
            entries = read(scratch)
        assert [(entry.value, entry.problem) for entry in entries] == [(record, None) for record in records]
        assert len({entry.place for entry in entries}) == len(entries)

    @settings(max_examples=200, deadline=None)
    @given(RECORDS, st.data())
    def test_damage_is_named_with_its_place_and_never_more_is_read(self, scratch, records, data):
        """A byte is replaced: what is still read is what was written, in order, and the rest is accounted for."""
        lines = [json.dumps(record).encode() for record in records]
        broken = data.draw(st.integers(0, max(len(lines) - 1, 0)))
        if lines:
            at = data.draw(st.integers(0, len(lines[broken]) - 1))
            lines[broken] = lines[broken][:at] + b"\x00" + lines[broken][at + 1 :]
        scratch.write_bytes(b"\n".join(lines))
        entries = read(scratch)
        assert [entry.value for entry in entries if entry.problem is None] == [
            record for number, record in enumerate(records) if number != broken
        ]
        assert [(entry.where, bool(entry.problem)) for entry in entries if entry.problem] == (
            [(f"line {broken + 1}", True)] if lines else []
        )

    @settings(max_examples=100, deadline=None)
    @given(RECORDS.filter(bool), st.data())
    def test_a_truncated_end_is_a_problem(self, scratch, records, data):
        content = json.dumps({"Records": records}).encode()
        scratch.write_bytes(content[: data.draw(st.integers(12, len(content) - 1))])
        entries = read(scratch)
        whole = [entry.value for entry in entries if entry.problem is None]
        assert whole == records[: len(whole)]
        assert entries[-1].problem

    @pytest.mark.parametrize(
        ("content", "expected"),
        [
            (b'{"Records":[{"a":1}]}{"Records":[{"b":2}]}', [("record 1 (line 1, byte 12)", {"a": 1}), ("record 2 (line 1, byte 33)", {"b": 2})]),
            (b'{"a":1}{"b":2}\n{"c":3}', [("line 1", {"a": 1}), ("line 1, byte 7", {"b": 2}), ("line 2", {"c": 3})]),
            (b'{"\xc3\xa9":1}{"b":2}', [("line 1", {"é": 1}), ("line 1, byte 8", {"b": 2})]),
            (b"", []),
            (b"\n \r\n", []),
            (b'{"Records":[]}', []),
            (b'{"Records":null}', [("line 1", {"Records": None})]),
            (b'{"Records":[{"a":1}],"Records":[{"b":2}]}', [("record 1 (line 1, byte 12)", {"a": 1}), ("record 2 (line 1, byte 32)", {"b": 2})]),
            (b'[{"Records":[{"a":1}]},[{"b":2}]]', [("record 1 (line 1, byte 1)", {"a": 1}), ("record 2 (line 1, byte 23)", {"b": 2})]),
        ],
    )  # fmt: skip
    def test_each_record_has_its_place(self, tmp_path, content, expected):
        assert shown(content, tmp_path) == expected

    def test_an_object_with_the_mark_of_a_record_is_no_envelope(self, tmp_path):
        (tmp_path / "file").write_text('{"event_type": "a.b", "Records": [{"a": 1}]}')
        with EventFile(tmp_path / "file") as file:
            assert [entry.value for entry in file.records(mark="event_type")] == [
                {"event_type": "a.b", "Records": [{"a": 1}]}
            ]


class TestDamage:
    @pytest.mark.parametrize(
        ("content", "read", "where", "why"),
        [
            (b'{"Records":[{"a":1}]}garbage', 1, "line 1, byte 21", "it is not JSON"),
            (b'{"Records":[{"a":1}]} ]', 1, "line 1, byte 22", "it is not JSON"),
            (b'{"Records":[{"a":1}]},', 1, "line 1, byte 22", "a value is missing after the comma"),
            (b'{"Records":[{"a":1},]}', 1, "record 2 (line 1, byte 20)", "it is not JSON"),
            (b'{"Records":[{"a":1}{"b":2}]}', 1, "record 2 (line 1, byte 19)", "no comma before it"),
            (b'{"Records":[{"a":1}', 1, "record 2 (line 1, byte 19)", "the file ends before the list does"),
            (b'{"Records":[{"a":1}]', 1, "line 1, byte 20", "not closed"),
            (b'{"Records":[{"a":1}],"x"', 1, "line 1, byte 24", "not closed"),
            (b'{"Records":[{"a":1}],"x":', 1, "line 1, byte 25", "it is not JSON"),
            (b'{"Records":[{"a":1}],"More":[{"b":1}]}', 1, "line 1, byte 28", "its list 'More' is not read"),
            (b'{"More":[{"b":1}],"Records":[{"a":1}]}', 1, "record 2 (line 1, byte 0)", "its list 'More' is not read"),
            (b'{"Records":[{"a":1},"\xff"]}', 1, "record 2 (line 1, byte 20)", "not UTF-8"),
            (b'{"a":1}\n{"b":"\xff"}', 1, "line 2", "not UTF-8"),
            (b'{"a":1}\n{"b":', 1, "line 2", "the file ends"),
            (b'[{"a":1}', 1, "record 2 (line 1, byte 8)", "the file ends before the list does"),
            (b"nonsense", 0, "line 1", "it is not JSON"),
            (b'{"b":1}{"a":{"c":1,"c":2}}', 1, "line 1, byte 7", "the member 'c' occurs twice"),
            (b'[{"b":1},{"a":1,"a":2}]', 1, "record 2 (line 1, byte 9)", "the member 'a' occurs twice"),
            (b'{"a":1}\n\x00\x00\x00\n', 1, "line 2", "it is not JSON"),
        ],
    )
    def test_is_reported_once_with_its_place(self, tmp_path, content, read, where, why):
        found = shown(content, tmp_path)
        assert len(found) == read + 1
        place, problem = found[-1]
        assert place == where
        assert why in problem

    def test_reading_resumes_at_the_next_record_of_a_pretty_printed_list(self, tmp_path):
        text = json.dumps({"Events": [{"n": n, "in": {"m": n}} for n in range(4)]}, indent=4).replace('"n": 1', '"n" 1')
        found = shown(text.encode(), tmp_path)
        assert [value for _, value in found if isinstance(value, dict)] == [{"n": n, "in": {"m": n}} for n in (0, 2, 3)]
        assert [place for place, value in found if isinstance(value, str)] == ["record 2 (line 9, byte 124)"]

    def test_reading_resumes_in_a_list_of_lines(self, tmp_path):
        found = shown(b'[\n{"a":1},\n{"b":,\n{"c":3},\n{"d":\n]\n{"e":5}\n', tmp_path)
        assert [value for _, value in found if isinstance(value, dict)] == [{"a": 1}, {"c": 3}, {"e": 5}]
        assert [place for place, value in found if isinstance(value, str)] == [
            "record 2 (line 3, byte 11)",
            "record 4 (line 5, byte 27)",
        ]

    def test_a_pretty_printed_list_that_is_torn_does_not_hide_the_file_joined_to_it(self, tmp_path):
        torn = json.dumps({"Events": [{"n": 1}, {"n": 2}]}, indent=2).partition('"n": 2')[0]
        found = shown(torn.encode() + b"\n" + json.dumps({"Records": [{"n": 3}]}, indent=2).encode(), tmp_path)
        assert [value for _, value in found if isinstance(value, dict)] == [{"n": 1}, {"n": 3}]
        assert [
            value.endswith("the rest of its list cannot be read") for _, value in found if isinstance(value, str)
        ] == [True]

    def test_a_torn_line_costs_no_other(self, tmp_path):
        found = shown(b'{"a": {"x":1},\n{"c":2}\n{"Records":[{"d":3},{"e\n{"Records":[{"f":4}]}', tmp_path)
        assert [value for _, value in found if isinstance(value, dict)] == [{"c": 2}, {"d": 3}, {"f": 4}]
        assert [place for place, value in found if isinstance(value, str)] == ["line 1", "record 2 (line 3, byte 43)"]

    def test_a_record_that_is_whole_but_ambiguous_costs_no_other(self, tmp_path):
        found = shown(b'{"a":1,"a":2}{"b":1}\n[{"a":1,"a":1},{"c":"\xff"},{"d":1}]', tmp_path)
        assert [value for _, value in found if isinstance(value, dict)] == [{"b": 1}, {"d": 1}]
        assert [place for place, value in found if isinstance(value, str)] == [
            "line 1",
            "record 1 (line 2, byte 22)",
            "record 2 (line 2, byte 36)",
        ]

    def test_utf_16_that_is_cut_is_an_error(self, tmp_path):
        (tmp_path / "file").write_bytes('{"a": 1}\n'.encode("utf-16") + b"{")
        with pytest.raises(EventFileError, match=r"cannot be read after line 2"):
            read(tmp_path / "file")

    @pytest.mark.parametrize(("opening", "kind"), [(b"BZh91AY", "bzip2"), (b"\xfd7zXZ\x00", "xz"), (b"PK\x03\x04..", "zip"), (b"\x28\xb5\x2f\xfd..", "Zstandard")])  # fmt: skip
    def test_other_compressions_are_named(self, tmp_path, opening, kind):
        (tmp_path / "file").write_bytes(opening)
        with pytest.raises(EventFileError, match=f"compressed with {kind}"):
            read(tmp_path / "file")

    def test_what_follows_a_gzip_member_and_is_none_is_an_error(self, tmp_path):
        (tmp_path / "file").write_bytes(gzip.compress(b'{"a": 1}\n') + b"garbage")
        with pytest.raises(EventFileError, match="cannot be read"):
            read(tmp_path / "file")


class TestMemory:
    @pytest.mark.parametrize("packed", [False, True])
    def test_one_line_with_all_records_is_read_in_constant_memory(self, tmp_path, packed):
        path = tmp_path / "large"
        one = json.dumps({"filler": "x" * 2000}).encode()
        with gzip.open(path, "wb", 1) if packed else path.open("wb") as file:
            file.write(b'{"Records":[' + one)
            for _ in range(100):
                file.write((b"," + one) * 400)
            file.write(b"]}")
        assert grown_by(path) == (40_001, 0)

    def test_a_record_without_end_is_left_out_in_bounded_memory(self, tmp_path):
        path = tmp_path / "large"
        with gzip.open(path, "wb", 1) as file:
            file.write(b'{"a": "')
            for _ in range(100):
                file.write(b"x" * (1 << 20))
            file.write(b'"}\n{"b": 2}\n')
        assert grown_by(path) == (2, 1)

    def test_a_named_pipe_is_read(self, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(gzip.compress(b'{"a": 1}{"b": 2}'),))
        writer.start()
        with EventFile(tmp_path / "pipe") as file:
            assert [entry.value for entry in file] == [{"a": 1}, {"b": 2}]
            assert (file.size, file.position) == (None, 0)
        writer.join()

    def test_a_pipe_is_read_as_it_comes(self):
        """Whoever feeds it need not fill a buffer first."""
        reading, writing = os.pipe()
        seen = threading.Event()
        with (
            os.fdopen(reading, "rb") as source,
            os.fdopen(writing, "wb", 0) as sink,
            pytest.MonkeyPatch.context() as patch,
        ):
            patch.setattr(sys, "stdin", io.TextIOWrapper(source))
            with EventFile("-") as file:
                sink.write(b'{"a": 1}\n')
                entries = file.records()
                reader = threading.Thread(target=lambda: (next(entries), seen.set()), daemon=True)
                reader.start()
                assert seen.wait(20)
                reader.join()
            sys.stdin.detach()


def grown_by(path, limit=60 << 20):
    """Read *path* in a process that may use *limit* bytes more than it has; return how many records, and broken ones."""
    code = (
        "import resource, sys\n"
        "from audit_logging.integrations import event_file, json_records\n"
        "event_file.MAX_RECORD_BYTES = 4 << 20\n"
        "from audit_logging.integrations.event_file import EventFile\n"
        "has = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        f"resource.setrlimit(resource.RLIMIT_AS, (has + {limit}, resource.RLIM_INFINITY))\n"
        "count = broken = 0\n"
        "with EventFile(sys.argv[1]) as file:\n"
        "    for entry in file:\n"
        "        count += 1\n"
        "        broken += entry.problem is not None\n"
        "print(count, broken)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr[-500:]
    return tuple(map(int, done.stdout.split()))
