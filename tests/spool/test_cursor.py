"""The cursor: whatever happens to its file costs a repetition, and never an event."""

import logging

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit_logging.spool.cursor import Cursor

from .conftest import fill

SLOT = 30


@pytest.fixture
def cursor(tmp_path):
    Cursor.create(tmp_path)
    return Cursor(tmp_path)


def file_of(directory):
    return directory / "cursor"


def test_it_begins_at_nothing_and_goes_on_in_place(tmp_path, cursor):
    """The file never grows, so that it needs no room on a full disk; an operator can read it."""
    assert cursor.acknowledged == 0
    inode = file_of(tmp_path).stat().st_ino
    for sequence in (1, 2, 500, 10**19):
        cursor.advance(sequence)
        assert Cursor(tmp_path).acknowledged == cursor.acknowledged == sequence
    assert (file_of(tmp_path).stat().st_ino, file_of(tmp_path).stat().st_size) == (inode, 2 * SLOT)
    assert b"00000000000000000500 " in file_of(tmp_path).read_bytes()


def test_another_process_sees_it_move(tmp_path, cursor):
    """One ships, the other looks."""
    other = Cursor(tmp_path)
    cursor.advance(7)
    assert (other.acknowledged, other.look(), other.acknowledged) == (0, 7, 7)
    file_of(tmp_path).unlink()
    assert other.look() == 7, "what is known is not forgotten"


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 1000), min_size=2, max_size=6), st.data())
def test_a_write_torn_at_any_byte_leaves_the_one_before(tmp_path_factory, steps, data):
    """The two slots are written in turn, by restarted shippers too."""
    directory = tmp_path_factory.mktemp("torn")
    Cursor.create(directory)
    known = [0]
    cursor = Cursor(directory)
    for step in steps:
        known.append(known[-1] + step)
        before = file_of(directory).read_bytes()
        cursor.advance(known[-1])
        if data.draw(st.booleans()):
            cursor = Cursor(directory)
    after = file_of(directory).read_bytes()
    changed = [position for position in range(2 * SLOT) if before[position] != after[position]]
    assert changed[0] // SLOT == changed[-1] // SLOT, "one slot is written at a time"
    for cut in range(2 * SLOT + 1):
        file_of(directory).write_bytes(after[:cut] + before[cut:])
        assert Cursor(directory).acknowledged in known[-2:]


@given(st.integers(0, 2 * SLOT - 1), st.integers(0, 7))
def test_a_flipped_bit_is_seen(tmp_path_factory, position, bit):
    """A cursor ahead of what was acknowledged would skip events."""
    directory = tmp_path_factory.mktemp("flip")
    Cursor.create(directory)
    for sequence in (10, 20):
        Cursor(directory).advance(sequence)
    data = bytearray(file_of(directory).read_bytes())
    data[position] ^= 1 << bit
    file_of(directory).write_bytes(data)
    assert Cursor(directory).acknowledged in (10, 20)


@given(st.binary(max_size=100))
def test_garbage_means_from_the_beginning_and_is_mended(tmp_path_factory, garbage):
    """An empty file, a foreign one, an older format."""
    directory = tmp_path_factory.mktemp("garbage")
    file_of(directory).write_bytes(garbage)
    cursor = Cursor(directory)
    assert cursor.acknowledged == 0
    cursor.advance(3)
    cursor.advance(4)
    assert Cursor(directory).acknowledged == 4


def test_a_missing_file_is_made_again(tmp_path):
    """Private, like everything here."""
    cursor = Cursor(tmp_path)
    assert cursor.acknowledged == 0
    cursor.advance(5)
    assert Cursor(tmp_path).acknowledged == 5
    assert file_of(tmp_path).stat().st_mode & 0o777 == 0o600


def test_a_full_disk_does_not_stop_it(small_disk):
    """What is shipped makes room: that must work when there is none."""
    Cursor.create(small_disk)
    fill(small_disk)
    with pytest.raises(OSError, match="No space"):
        (small_disk / "more").write_bytes(b"x" * 100)
    cursor = Cursor(small_disk)
    for sequence in (1, 2, 3):
        cursor.advance(sequence)
    assert Cursor(small_disk).acknowledged == 3


def test_a_disk_that_refuses_is_said_once_and_caught_up_with(tmp_path, cursor, caplog):
    """The shipper goes on; whoever looks sees it later."""
    file_of(tmp_path).rename(tmp_path / "aside")
    file_of(tmp_path).mkdir()
    with caplog.at_level(logging.WARNING, "audit_logging"):
        cursor.advance(1)
        cursor.advance(2)
    assert cursor.acknowledged == 2
    assert caplog.text.count("cannot be written") == 1
    cursor.catch_up()
    file_of(tmp_path).rmdir()
    (tmp_path / "aside").rename(file_of(tmp_path))
    assert Cursor(tmp_path).acknowledged == 0
    cursor.catch_up()
    assert Cursor(tmp_path).acknowledged == 2
