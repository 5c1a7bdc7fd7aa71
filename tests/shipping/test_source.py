"""One writer's spool on its way: in order, whatever comes back first."""

from hypothesis import given
from hypothesis import strategies as st

from audit_logging.shipping.source import Source
from audit_logging.spool.reader import SpoolReader
from audit_logging.spool.refusals import Refusals
from audit_logging.spool.sent import Sent
from tests.shipping.spools import write_spool

INDEX = ".ds-audit-events-00000%d"


def source_of(directory):
    return Source(SpoolReader(directory), is_final=lambda: True)


def test_only_what_is_done_from_the_beginning_on_is_acknowledged(tmp_path):
    """A batch that overtakes another waits for it."""
    directory = write_spool(tmp_path, [b"x"] * 3)
    source = source_of(directory)
    batches = [source.take(1)[0] for _ in range(3)]
    source.settle(batches[1])
    assert SpoolReader(directory).acknowledged == 0
    source.settle(batches[0])
    assert SpoolReader(directory).acknowledged == 2
    assert not source.is_idle
    source.settle(batches[2])
    assert SpoolReader(directory).acknowledged == 3
    assert source.is_idle
    assert source.take(1) is None
    assert source.is_exhausted


@given(st.permutations(range(6)))
def test_any_order_ends_the_same(tmp_path_factory, order):
    """The cursor never passes what is not done, and reaches the end."""
    directory = write_spool(tmp_path_factory.mktemp("spool"), [b"x"] * 6)
    source = source_of(directory)
    batches = [source.take(1)[0] for _ in range(6)]
    done = set()
    for number in order:
        source.settle(batches[number])
        done.add(number)
        prefix = next((n for n in range(6) if n not in done), 6)
        assert SpoolReader(directory).acknowledged == prefix


def test_the_next_to_ship_knows_what_may_have_been_sent(tmp_path):
    """And since which backing index, which is that of the oldest still under way."""
    directory = write_spool(tmp_path, [b"x"] * 4)
    source = source_of(directory)
    first, second, _ = (source.take(1)[0] for _ in range(3))
    source.about_to_send(second, INDEX % 1)
    source.about_to_send(first, INDEX % 2)
    assert (Sent(directory).sequence, Sent(directory).since) == (2, INDEX % 1)
    source.close()

    after = source_of(directory)
    assert after.uncertain_to == 2
    batch, is_full = after.take(1000)
    assert (batch.since, batch.is_sent, is_full) == (INDEX % 1, True, False)
    after.about_to_send(batch, INDEX % 3)
    assert (Sent(directory).sequence, Sent(directory).since) == (4, INDEX % 1)


def test_where_the_index_is_not_known_all_may_hold_it(tmp_path):
    """A role that may not look leaves no trace of where it wrote."""
    directory = write_spool(tmp_path, [b"x"] * 2)
    source = source_of(directory)
    first, second = (source.take(1)[0] for _ in range(2))
    source.about_to_send(first, None)
    source.about_to_send(second, INDEX % 1)
    assert (Sent(directory).sequence, Sent(directory).since) == (2, None)


def test_what_was_set_aside_is_not_sent_again(tmp_path):
    """A crash between quarantine and cursor changes nothing."""
    directory = write_spool(tmp_path, [b"x"] * 4)
    Refusals(directory).note("refused", {1: "a", 2: "b", 3: "c"})
    Refusals(directory).note("quarantined", {1: "a"})
    Refusals(directory).note("dead", {2: "b"})
    source = source_of(directory)
    batch, _ = source.take(1000)
    assert [record.sequence for record in batch.records] == [3, 4]
    assert source.refused == {3: "c"}
    source.settle(batch)
    assert SpoolReader(directory).acknowledged == 4


def test_what_is_closed_is_left_alone(tmp_path):
    """Another process may have the spool by then."""
    directory = write_spool(tmp_path, [b"x"] * 2)
    source = source_of(directory)
    batch, _ = source.take(1)
    source.close()
    source.about_to_send(batch, INDEX % 1)
    assert source.settle(batch) == 0
    assert SpoolReader(directory).acknowledged == 0
    assert Sent(directory).sequence == 0
    assert source.take(1) is None
