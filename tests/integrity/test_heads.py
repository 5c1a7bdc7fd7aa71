"""The heads that a spool directory keeps."""

import os
import stat

import pytest

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


class TestVouched:
    def kept(self, path, one, number):
        heads = Heads(path, "audit-events")
        heads.keep(one.writer, one.written[number])
        return heads

    def test_a_vouched_head_is_not_offered_again_and_still_known(self, tmp_path):
        one = author(1).life(stop=False)
        heads = self.kept(tmp_path, one, 0)
        heads.vouch(heads.unvouched(10))
        assert heads.unvouched(10) == []
        assert [head.writer for head in heads] == [one.writer]

    def test_a_newer_head_is_offered_again(self, tmp_path):
        one = author(1).life(stop=False)
        heads = self.kept(tmp_path, one, 0)
        heads.vouch(heads.unvouched(10))
        heads.keep(one.writer, one.written[5])
        assert [head.sequence for head in heads.unvouched(10)] == [6]
        assert [head.sequence for head in heads] == [6]

    def test_a_head_that_its_writer_replaced_meanwhile_stays_to_be_vouched_for(self, tmp_path):
        one = author(1).life(stop=False)
        heads = self.kept(tmp_path, one, 0)
        seen = heads.unvouched(10)
        heads.keep(one.writer, one.written[5])
        heads.vouch(seen)
        assert [head.sequence for head in heads.unvouched(10)] == [6]

    def test_two_writers_may_vouch_for_one_head(self, tmp_path):
        one = author(1).life(stop=False)
        heads = self.kept(tmp_path, one, 0)
        seen = heads.unvouched(10)
        heads.vouch(seen)
        heads.vouch(seen)
        assert [head.sequence for head in heads] == [1]

    def test_a_forgotten_writer_is_forgotten_in_both_places(self, tmp_path):
        one = author(1).life(stop=False)
        heads = self.kept(tmp_path, one, 0)
        heads.vouch(heads.unvouched(10))
        heads.keep(one.writer, one.written[5])
        heads.forget(one.writer)
        assert list(heads) == []

    def test_no_more_are_read_than_asked_for(self, tmp_path):
        for number in range(5):
            self.kept(tmp_path, author(number).life(), 0)
        assert len(Heads(tmp_path, "audit-events").unvouched(3)) == 3


@pytest.mark.parametrize("umask", [0, 0o022, 0o077, 0o777])
def test_every_directory_is_private_whatever_the_umask(tmp_path, umask):
    one = author().life(stop=False)
    heads = Heads(tmp_path / "spool", "audit-events")
    before = os.umask(umask)
    try:
        heads.keep(one.writer, one.written[0])
        heads.vouch(heads.unvouched(1))
    finally:
        os.umask(before)
    made = [path for path in tmp_path.rglob("*") if path.is_dir()]
    assert len(made) == 4
    assert {stat.S_IMODE(path.stat().st_mode) for path in made} == {0o700}


def test_a_directory_that_others_can_read_is_closed_to_them(tmp_path):
    one = author().life()
    heads = Heads(tmp_path, "audit-events")
    heads.path.mkdir(parents=True)
    heads.keep(one.writer, one.written[0])
    assert stat.S_IMODE((tmp_path / "heads").stat().st_mode) == 0o700


def test_heads_that_others_could_have_written_are_neither_kept_nor_believed(tmp_path):
    one = author().life()
    heads = Heads(tmp_path, "audit-events")
    heads.keep(one.writer, one.written[0])
    (tmp_path / "heads").chmod(0o777)
    assert list(heads) == []
    with pytest.raises(PermissionError, match="others can write"):
        heads.keep(one.writer, one.written[5])


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
