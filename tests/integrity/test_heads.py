"""The heads that a spool directory keeps."""

import stat

from audit_logging.integrity.heads import Heads

from .chains import author


def test_the_last_signed_event_of_each_writer_is_kept_until_it_is_forgotten(tmp_path):
    one, two = author(1).life(), author(2).life(stop=False)
    heads = Heads(tmp_path, "audit-events")
    assert list(heads) == []
    heads.keep(one.writer, one.written[0])
    heads.keep(one.writer, one.written[-1])
    heads.keep(two.writer, two.written[0])
    assert {(head.writer, head.sequence, head.own) for head in heads} == {
        (one.writer, 9, "audit.stopped"),
        (two.writer, 1, "audit.started"),
    }
    heads.forget(one.writer)
    heads.forget(one.writer)
    assert [head.writer for head in heads] == [two.writer]
    assert list(Heads(tmp_path, "another")) == []


def test_they_are_private(tmp_path):
    heads = Heads(tmp_path / "spool", "audit-events")
    one = author().life()
    heads.keep(one.writer, one.written[0])
    assert {stat.S_IMODE(path.stat().st_mode) for path in heads.path.iterdir()} == {0o600}
    assert stat.S_IMODE(heads.path.stat().st_mode) == 0o700


def test_what_is_damaged_or_lies_about_its_writer_says_nothing(tmp_path):
    heads = Heads(tmp_path, "audit-events")
    one = author().life()
    heads.keep(one.writer, one.written[-1][:-5])
    heads.keep("f" * 20, one.written[-1])
    (heads.path / "notes.txt").write_text("x")
    (heads.path / f"{'a' * 20}.json").mkdir()
    assert list(heads) == []
