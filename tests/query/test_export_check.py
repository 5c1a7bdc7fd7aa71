"""`export verify`: whatever is done to a file or its manifest is named."""

import datetime as dt
import gzip
import hashlib
import random

import orjson
import pytest

from audit_logging.errors import QueryError
from audit_logging.integrity.seal import Chain
from audit_logging.query.export.check import check_export
from audit_logging.query.export.formats import FORMATS
from audit_logging.query.export.page import place_of
from audit_logging.query.export.tally import Tally

SPLICE = len('{"@timestamp":"2026-03-01T00:00:00.000000Z","audit":{')


def sealed(count=30, writers=2):
    """Lines of several writers, in the order of time."""
    chains = [Chain(f"{number:020x}") for number in range(writers)]
    lines = []
    for n in range(count):
        moment = (dt.datetime(2026, 3, 1) + n * dt.timedelta(minutes=6)).isoformat(timespec="microseconds")
        document = {"@timestamp": f"{moment}Z", "audit": {"schema": "1"}, "message": f"=event {n}"}
        chain = chains[n % writers]
        event = chain.seal(orjson.dumps(document, option=orjson.OPT_SORT_KEYS), SPLICE)
        chain.advance(event)
        lines.append(event.payload)
    return lines


def export(folder, lines, *, name="x.ndjson", form="ndjson", order="time, writer, sequence", **changes):
    """Write a file and its manifest as an export does."""
    content = FORMATS[form].begin + (FORMATS[form].encode(lines, first=True) if lines else b"") + FORMATS[form].end
    data = gzip.compress(content, mtime=0) if name.endswith(".gz") else content
    (folder / name).write_bytes(data)
    tally = Tally()
    tally.add([(*place_of(line), line) for line in lines])
    file = {"name": name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    file |= {"content_bytes": len(content), "content_sha256": hashlib.sha256(content).hexdigest()}
    manifest = {"manifest": 1, "format": form, "order": order, "compression": "gzip" if name.endswith(".gz") else None}
    manifest |= {**tally.facts(), "files": [file], **changes}
    path = folder / f"{name}.manifest.json"
    path.write_bytes(orjson.dumps(manifest))
    return path


def deviations(manifest):
    return list(check_export(manifest))


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("count", [0, 30, 2500])
def test_an_export_is_proven(tmp_path, form, suffix, count):
    assert deviations(export(tmp_path, sealed(count), name=f"x{suffix}", form=form)) == []


def test_every_kind_of_change_to_the_lines_is_named_though_the_sums_were_made_to_fit(tmp_path):
    """By the seals and the order, which need no manifest to be right."""
    lines = sealed()
    edited = [*lines[:4], lines[4].replace(b"event 4", b"event 5"), *lines[5:]]
    [found] = deviations(export(tmp_path, edited))
    assert found.startswith("x.ndjson, event 5: its content does not have the hash of its seal (0000")
    swapped = [*lines[:4], lines[6], lines[5], lines[4], *lines[7:]]
    assert any("out of order" in each for each in deviations(export(tmp_path, swapped)))
    assert deviations(export(tmp_path, [lines[5], lines[4]], order="unordered")) == []
    other = sealed(3, writers=1)[2].replace(b'"sequence":3', b'"sequence":4')
    assert any("does not follow" in each for each in deviations(export(tmp_path, [*sealed(2, 1), relinked(other)])))


def relinked(line):
    """Return the line as a forger leaves it, who seals anew what he has no predecessor for."""
    document = orjson.loads(line)
    seal = document["audit"].pop("integrity")
    chain = Chain(seal["writer"])
    chain.sequence, chain.head = 2, "f" * 64
    return chain.seal(orjson.dumps(document, option=orjson.OPT_SORT_KEYS), SPLICE).payload


@pytest.mark.parametrize("name", ["x", "x.gz"])
def test_any_changed_byte_of_a_file_is_seen(tmp_path, name):
    manifest = export(tmp_path, sealed(), name=name)
    data = (tmp_path / name).read_bytes()
    rng = random.Random(3)
    for _ in range(60):
        at = rng.randrange(len(data))
        changed = data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :]
        (tmp_path / name).write_bytes(changed)
        assert any(f"{name}: sha256" in each for each in deviations(manifest))
    for changed in (data[:-1], data[:100], b"", data + b"x", data + data):
        (tmp_path / name).write_bytes(changed)
        found = deviations(manifest)
        assert any(f"{name}: bytes: the manifest says {len(data)}, the file has {len(changed)}" in e for e in found)
    (tmp_path / name).unlink()
    assert f"{name} is missing" in deviations(manifest)


def test_each_wrong_count_of_the_manifest_is_named(tmp_path):
    lines = sealed()
    right = orjson.loads(export(tmp_path, lines).read_bytes())
    hours = {**right["hours"], "2026-03-01T01:00Z": 11}
    [found] = deviations(export(tmp_path, lines, hours=hours))
    assert found == "hours 2026-03-01T01:00Z: the manifest says 11, the file has 10"
    [first, *_] = right["writers"]
    writers = {**right["writers"], first: {**right["writers"][first], "last": 99}}
    [found] = deviations(export(tmp_path, lines, writers=writers))
    assert found == f"writers {first} last: the manifest says 99, the file has 15"
    del writers[first]
    [found] = deviations(export(tmp_path, lines, writers=writers))
    assert found.startswith(f"writers {first}: the manifest says nothing, the file has ")


def test_a_stretch_is_contiguous_only_when_it_is(tmp_path):
    lines = sealed(writers=1)

    def contiguous(chosen):
        [writer] = orjson.loads(export(tmp_path, chosen).read_bytes())["writers"].values()
        return writer["contiguous"]

    assert contiguous(lines)
    assert contiguous(lines[3:9])
    assert not contiguous([*lines[:3], *lines[4:]])
    assert not contiguous([*lines[:3], lines[2], *lines[4:]])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (b"nonsense", "not the manifest of an export"),
        (b"{}", "not the manifest of an export"),
        (b'{"manifest":1,"files":5}', "not the manifest of an export"),
        (b'{"manifest":2,"files":[]}', "manifest of version 2"),
        (b'{"manifest":1,"files":[],"format":"xml"}', "names no format"),
        (b'{"manifest":1,"files":[{"name":"../x"}],"format":"ndjson"}', "names a file elsewhere"),
        (b'{"manifest":1,"files":["x"],"format":"ndjson"}', "not the manifest of an export"),
    ],
)
def test_what_is_no_manifest_is_one_sentence(tmp_path, text, sentence):
    path = tmp_path / "m.json"
    path.write_bytes(text)
    with pytest.raises(QueryError, match=sentence):
        deviations(path)


def test_files_that_cannot_be_read_are_one_sentence(tmp_path):
    manifest = export(tmp_path, sealed())
    (tmp_path / "x.ndjson").unlink()
    (tmp_path / "x.ndjson").mkdir()
    with pytest.raises(QueryError, match="cannot be read"):
        deviations(manifest)
    with pytest.raises(QueryError, match="cannot be read"):
        deviations(tmp_path / "none.json")


def test_lines_that_are_no_documents_are_named_and_harm_no_more(tmp_path):
    manifest = export(tmp_path, sealed())
    (tmp_path / "x.ndjson").write_bytes(b"nonsense\n" + sealed()[0] + b"\n\xff\n")
    found = deviations(manifest)
    assert "x.ndjson, event 1: not a JSON object" in found
    assert "x.ndjson, event 3: not a JSON object" in found
    manifest = export(tmp_path, sealed(), name="x.csv", form="csv")
    (tmp_path / "x.csv").write_bytes(b"a,b\r\n\xff\xfe\r\n")
    assert "x.csv is no text of its format" in deviations(manifest)
