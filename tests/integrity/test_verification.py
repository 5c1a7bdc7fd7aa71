"""Verification names what was done to a chain, and is silent about one to which nothing was done."""

import base64
import datetime as dt
import random

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit_logging.integrity.keys import TrustedKeys
from audit_logging.integrity.sealed_event import read_sealed_event
from audit_logging.integrity.stand_in import stand_in

from .chains import EPOCH, KEYS, OTHER, author, edited, found, kinds, rechained, resealed, sentences, verify


def notes(verdict):
    return {note.kind: note.count for note in verdict.notes}


class TestClean:
    def test_a_whole_life_has_no_finding(self):
        verdict = verify(author().life().written)
        assert verdict.findings == ()
        assert (verdict.events, verdict.writers, verdict.signed, verdict.copies) == (9, 1, 3, 0)
        assert verdict.notes == ()

    @given(st.randoms(use_true_random=False), st.integers(1, 4))
    @settings(max_examples=50)
    def test_events_may_come_in_any_order(self, random, writers):
        """Clocks jump, imports carry their own times, files are read one after the other."""
        documents = [document for number in range(writers) for document in author(number).life().written]
        random.shuffle(documents)
        assert verify(documents).findings == ()

    def test_identical_copies_are_a_note_wherever_they_come(self):
        documents = author().life(20).written
        for order in ([*documents, *documents[5:9]], [*documents[:9], *documents[5:]], sorted(documents * 2)):
            verdict = verify(order)
            assert verdict.findings == ()
            assert notes(verdict) == {"copies": len(order) - len(documents)}

    def test_a_living_writer_is_whole_and_its_tail_not_signed_yet(self):
        documents = author().life(6, stop=False).written
        verdict = verify(documents)
        assert verdict.findings == ()
        assert notes(verdict) == {"unsigned": 2}

    def test_a_stand_in_in_quarantine_is_the_event(self):
        """As the shipper makes it; the reason is the server's text and under no seal."""
        documents = author().life().written
        documents[2] = stand_in(documents[2], "mapper_parsing_exception")
        assert verify(documents).findings == ()
        documents[2] = edited(documents[2], audit__quarantine__reason="another")
        verdict = verify(documents)
        assert verdict.findings == ()
        assert notes(verdict)["quarantined"] == 1
        inner = orjson.loads(documents[2])["audit"]["quarantine"]["document"].replace("u-1", "u-9")
        assert found(
            verify([*documents[:2], edited(documents[2], audit__quarantine__document=inner), *documents[3:]])
        ) == [("edited", 3)]

    def test_documents_that_were_reserialised_are_the_same(self):
        """White space and the order of keys are no change."""
        documents = [
            orjson.dumps(dict(reversed(orjson.loads(document).items())), option=orjson.OPT_INDENT_2)
            for document in author().life().written
        ]
        assert verify(documents).findings == ()

    def test_a_key_that_an_application_put_in_its_data_is_no_seal(self):
        """Changes stand before the seal in the canonical order, and may hold anything."""
        one = author()
        one.life(2, stop=False)
        seal = orjson.loads(one.written[0])["audit"]["integrity"]
        audit = {
            "changes": [{"field": "x", "before": {"audit": {"integrity": seal}, "integrity": seal}}],
            "schema": "1",
        }
        document = {"@timestamp": "2026-03-01T12:00:00.500000Z", "audit": audit, "event": {"action": "a.b", "id": "e"}}
        canonical = orjson.dumps(document, option=orjson.OPT_SORT_KEYS)
        sealed = one.chain.seal(canonical, canonical.index(b'"schema":"1"}'))
        one.chain.advance(sealed)
        one.written.append(sealed.payload)
        assert verify(one.written).findings == ()


class TestSingleChanges:
    def test_an_edit_is_named_with_its_event(self):
        documents = author().life().written
        documents[3] = edited(documents[3], user__id="somebody else")
        verdict = verify(documents)
        assert found(verdict) == [("edited", 4)]
        assert verdict.findings[0].writer in sentences(verdict.findings)

    def test_an_edit_that_was_sealed_anew_breaks_the_next_link(self):
        documents = author().life().written
        documents[2] = resealed(documents[2], user__id="somebody else")
        assert found(verify(documents)) == [("edited", 3)]

    def test_an_edit_with_all_that_follows_sealed_anew_breaks_the_signatures(self):
        documents = rechained(author().life().written, 2, user__id="somebody else")
        assert kinds(verify(documents).findings) == {"checkpoint_forged"}

    def test_an_edit_of_the_seal_is_an_edit(self):
        documents = author().life().written
        for change in ("hash", "previous"):
            altered = edited(documents[3], **{f"audit__integrity__{change}": "0" * 64})
            assert found(verify([*documents[:3], altered, *documents[4:]])) == [("edited", 4)]

    def test_another_number_or_writer_is_a_gap_and_a_stranger(self):
        documents = author().life().written
        altered = edited(documents[3], audit__integrity__sequence=700)
        assert {("deleted", 4), ("edited", 700)} <= set(found(verify([*documents[:3], altered, *documents[4:]])))
        altered = edited(documents[3], audit__integrity__writer="f" * 20)
        assert {"deleted", "edited", "inserted"} == kinds(verify([*documents[:3], altered, *documents[4:]]).findings)

    def test_a_deletion_in_the_middle_or_at_the_begin_is_a_gap(self):
        documents = author().life().written
        assert found(verify(documents[:2] + documents[3:])) == [("deleted", 3)]
        verdict = verify(documents[:2] + documents[5:])
        assert [(each.sequence, each.last) for each in verdict.findings] == [(3, 5)]
        assert ("deleted", 1) in found(verify(documents[1:]))

    def test_a_second_event_under_a_number_is_inserted(self):
        """Whichever comes first, the true one is the one that the next was chained to."""
        documents = author().life().written
        forged = resealed(documents[2], user__id="forged", event__id="e-forged")
        for order in ([*documents, forged], [*documents[:2], forged, *documents[2:]], [forged, *documents]):
            verdict = verify(order)
            assert found(verdict) == [("inserted", 3)]
            assert verdict.findings[0].event_id == "e-forged"

    def test_a_changed_copy_is_inserted_and_the_true_one_stands(self):
        documents = author().life().written
        forged = edited(documents[4], user__id="forged")
        for order in ([*documents, forged], [*documents[:4], forged, *documents[4:]]):
            assert found(verify(order)) == [("inserted", 5)]

    def test_a_changed_copy_of_the_last_event(self):
        documents = author().life(stop=False).written
        forged = edited(documents[-1], user__id="forged")
        assert found(verify([*documents, forged])) == [("inserted", 8)]
        assert found(verify([*documents[:-1], forged, documents[-1]])) == [("inserted", 8)]

    def test_an_event_without_a_seal_is_inserted(self):
        documents = author().life().written
        for stranger in (b"{}", b"[]", b"no json", b'{"event":{"id":"x"},"audit":{"integrity":{"writer":"w"}}}'):
            assert kinds(verify([*documents, stranger]).findings) == {"inserted"}

    def test_events_behind_the_end_are_inserted(self):
        one = author().life()
        one.key = None
        one.write(user={"id": "forged"})
        one.write(user={"id": "forged"})
        verdict = verify(one.written)
        assert [(each.kind, each.sequence, each.last) for each in verdict.findings] == [("inserted", 10, 11)]

    def test_swapped_contents_are_reordered(self):
        documents = author().life().written
        first, second = orjson.loads(documents[2]), orjson.loads(documents[4])
        first["audit"]["integrity"], second["audit"]["integrity"] = (
            second["audit"]["integrity"],
            first["audit"]["integrity"],
        )
        documents[2], documents[4] = orjson.dumps(second), orjson.dumps(first)
        assert found(verify(documents)) == [("reordered", 3), ("reordered", 5)]

    def test_swapped_places_in_the_index_are_reordered(self):
        documents = [(read_sealed_event(document).place, document) for document in author().life().written]
        (one, first), (two, second) = documents[2], documents[4]
        documents[2], documents[4] = (one, second), (two, first)
        assert found(verify(documents)) == [("reordered", 3), ("reordered", 5)]

    def test_a_replay_under_another_id_is_inserted(self):
        documents = [(read_sealed_event(document).place, document) for document in author().life().written]
        documents.append(("AAECAwQFBgcICQ", documents[3][1]))
        assert found(verify(documents)) == [("inserted", 4)]

    def test_a_chain_that_begins_again_is_restarted(self):
        one = author().life(stop=False)
        one.chain.head = author().chain.head
        one.write("audit.started", {"heads": []})
        assert "restarted" in kinds(verify(one.written).findings)


class TestHeads:
    def test_an_end_that_was_cut_off_is_truncated_when_somebody_saw_it(self):
        """By the next writer's signed start, or by the signed head kept elsewhere."""
        one = author(1).life(100)
        two = author(2, at=one.at).life(2, {**one.head, "ended": True})
        verdict = verify(one.written[:-100] + two.written)
        assert [(each.kind, each.sequence, each.last) for each in verdict.findings] == [("truncated", 4, 103)]
        verdict = verify(one.written[:-100], believed=[one.written[-1]])
        assert [(each.kind, each.sequence, each.last) for each in verdict.findings] == [("truncated", 4, 103)]

    def test_a_writer_that_vanished_is_named(self):
        one = author(1).life(3)
        two = author(2, at=one.at).life(2, {**one.head, "ended": True})
        verdict = verify(two.written)
        assert [(each.kind, each.writer, each.last) for each in verdict.findings] == [("vanished", one.writer, 6)]

    def test_one_that_vanished_with_its_witness_is_shown_by_the_next(self):
        one = author(1).life(3)
        two = author(2, at=one.at).life(2, {**one.head, "ended": True})
        three = author(3, at=two.at).life(2, {**two.head, "ended": True})
        assert [(each.kind, each.writer) for each in verify(three.written).findings] == [("vanished", two.writer)]

    def test_a_living_writers_head_may_be_on_its_way_for_a_while(self):
        one = author(1).life(3, stop=False)
        two = author(2, at=one.at).life(2, one.head, stop=False)
        early = verify(two.written, now=two.at + dt.timedelta(minutes=2))
        assert (early.findings, notes(early)["under_way"]) == ((), 5)
        later = verify(two.written, now=EPOCH + dt.timedelta(minutes=10, seconds=59))
        assert kinds(later.findings) == {"vanished"}

    def test_a_dead_writer_is_closed_by_its_adopter(self):
        one = author(1).life(3, stop=False)
        two = author(2, at=one.at).life(1, stop=False)
        two.write("audit.writer_closed", one.head)
        two.write("audit.stopped", {})
        assert verify(one.written + two.written).findings == ()
        assert found(verify(one.written[:-1] + two.written)) == [("truncated", 5)]
        one.key = None
        one.write()
        assert found(verify(one.written + two.written)) == [("inserted", 6)]
        forged = resealed(one.written[4], user__id="x")
        assert found(verify([*one.written[:4], forged, *two.written])) == [("edited", 5)]

    def test_silence_is_a_finding_when_it_lasts(self):
        documents = author().life(stop=False).written
        assert verify(documents, now=EPOCH + dt.timedelta(minutes=10)).findings == ()
        verdict = verify(documents, now=EPOCH + dt.timedelta(minutes=12))
        assert found(verdict) == [("unfinished", 8)]
        assert verify(documents, now=EPOCH + dt.timedelta(minutes=12), to_end=False).findings == ()

    def test_a_rolled_back_tail_that_was_forged_lacks_the_signature_that_was_seen(self):
        one = author(1).life(3, stop=False)
        one.write("audit.checkpoint", {})
        seen = one.head
        two = author(2, at=one.at).life(2, seen)
        forger = author(1, key=None)
        forger.chain.sequence, forger.chain.head = 4, orjson.loads(one.written[3])["audit"]["integrity"]["hash"]
        tail = [forger.write() for _ in range(5)]
        verdict = verify(one.written[:4] + tail + two.written, now=EPOCH + dt.timedelta(minutes=10, seconds=30))
        assert found(verdict) == [("checkpoint_missing", 6)]


class TestSignatures:
    def test_a_signature_by_another_key_is_an_unknown_key(self):
        documents = author(key=OTHER.signing).life().written
        verdict = verify(documents)
        assert kinds(verdict.findings) == {"unknown_key"}
        assert OTHER.signing.id in sentences(verdict.findings)
        assert verify(documents, OTHER.trusted).findings == ()

    def test_a_signature_of_another_event_or_under_a_known_name_is_forged(self):
        documents = author().life().written
        position = next(i for i, document in enumerate(documents) if b"audit.checkpoint" in document)
        other = orjson.loads(documents[0])["audit"]["integrity"]["signature"]
        for change in (other, "00" * 64, "no hexadecimal", "é"):
            altered = edited(documents[position], audit__integrity__signature=change)
            verdict = verify([*documents[:position], altered, *documents[position + 1 :]])
            assert found(verdict) == [("checkpoint_forged", position + 1)]
        forged = resealed(documents[position], key=OTHER.signing)
        forged = edited(forged, audit__integrity__key=KEYS.signing.id, message="x")
        assert "edited" in kinds(verify([*documents[:position], forged, *documents[position + 1 :]]).findings)

    def test_stripped_signatures_are_missing(self):
        documents = author().life().written
        stripped = []
        for document in documents:
            stored = orjson.loads(document)
            if b"audit.checkpoint" in document:
                del stored["audit"]["integrity"]["signature"], stored["audit"]["integrity"]["key"]
            stripped.append(orjson.dumps(stored))
        assert found(verify(stripped)) == [("checkpoint_missing", 6)]

    def test_checkpoints_that_were_taken_out_leave_gaps(self):
        documents = [each for each in author().life().written if b"audit.checkpoint" not in each]
        assert found(verify(documents)) == [("deleted", 6)]

    def test_a_chain_that_nobody_signed_is_foreign(self):
        true, foreign = author(1).life(), author(2, key=None).life()
        verdict = verify(true.written + foreign.written)
        assert [(each.kind, each.writer, each.last) for each in verdict.findings] == [("inserted", foreign.writer, 9)]

    def test_where_nothing_is_signed_and_no_key_known_chains_are_still_checked(self):
        documents = author(key=None).life().written
        nothing = TrustedKeys({})
        assert verify(documents, nothing).findings == ()
        assert "no_keys" in notes(verify(documents, nothing))
        assert found(verify(documents[:3] + documents[4:], nothing)) == [("deleted", 4)]

    def test_signed_events_and_no_key_at_all_is_an_unknown_key(self):
        assert kinds(verify(author().life().written, TrustedKeys({})).findings) == {"unknown_key"}

    def test_a_first_event_that_is_not_a_signed_start_is_named(self):
        one = author()
        one.write()
        one.write("audit.checkpoint", {})
        one.write("audit.stopped", {})
        assert found(verify(one.written)) == [("checkpoint_missing", 1)]

    def test_claims_without_a_signature_count_for_nothing(self):
        """Else a forged start could accuse any writer, and a forged seal excuse any deletion."""
        one = author(1).life()
        liar = author(2, key=None).life(1, {"writer": "f" * 20, "sequence": 9, "hash": "0" * 64, "ended": True})
        assert {(each.kind, each.writer) for each in verify(one.written + liar.written).findings} == {
            ("inserted", liar.writer)
        }

    def test_signed_events_with_metadata_of_any_shape_do_not_stop_it(self):
        one = author()
        for metadata in (
            {"heads": 7},
            {"heads": [{"writer": ["x"], "sequence": "x"}]},
            {"checkpoint_seconds": []},
            None,
        ):
            one.write("audit.checkpoint", metadata)
        for own in ("audit.writer_closed", "audit.index_sealed", "audit.dead_lettered"):
            one.write(own, {"writer": {}, "writers": [1, {"writer": 1}], "sequence": None})
        verify(one.written)


def pair():
    """Return a writer of many events that has ended, and another that goes on and may speak of it."""
    one = author(1).life(50)
    return one, author(2, at=one.at).life(1, stop=False)


class TestRetention:
    def seal(self, one, documents, before=None, **about):
        seals = [read_sealed_event(document) for document in documents]
        writers = [
            {
                "writer": seals[0].writer,
                "first": seals[0].sequence,
                "last": seals[-1].sequence,
                "hash": seals[-1].hash,
                "events": len(seals),
                **({"before": before} if before else {}),
            }
        ]
        newest = seals[-1].time.replace("Z", "+00:00")
        facts = {"index": ".ds-x-000001", "index_uuid": "u1", "newest": newest, "writers": writers, **about}
        one.write("audit.index_sealed", facts)

    def test_what_was_sealed_and_is_old_enough_left_lawfully(self):
        one, two = pair()
        self.seal(two, one.written[:30])
        two.write("audit.stopped", {})
        documents = one.written[30:] + two.written
        late = EPOCH + dt.timedelta(days=91)
        assert verify(documents, now=late).findings == ()
        assert notes(verify(documents, now=late)) == {"retention": 30}
        early = verify(documents, now=EPOCH + dt.timedelta(days=89))
        assert [(each.kind, each.sequence, each.last) for each in early.findings] == [("deleted", 1, 30)]
        assert "retention period of .ds-x-000001" in sentences(early.findings)
        assert found(verify(one.written[31:] + two.written, now=late)) == [("deleted", 31)]

    def test_a_whole_writer_may_have_left(self):
        one = author(1).life(5)
        two = author(2, at=one.at).life(1, {**one.head, "ended": True}, stop=False)
        self.seal(two, one.written)
        two.write("audit.stopped", {})
        assert verify(two.written, now=EPOCH + dt.timedelta(days=91)).findings == ()
        assert kinds(verify(two.written).findings) == {"vanished"}

    def test_without_a_seal_age_is_no_excuse(self):
        one = author(1).life(5)
        assert ("deleted", 1) in found(verify(one.written[3:], now=EPOCH + dt.timedelta(days=400)))

    def test_a_seal_does_not_excuse_what_was_missing_when_it_was_made(self):
        one, two = pair()
        self.seal(two, one.written[:10] + one.written[13:30])
        two.write("audit.stopped", {})
        verdict = verify(one.written[30:] + two.written, now=EPOCH + dt.timedelta(days=91))
        assert kinds(verdict.findings) == {"deleted"}
        assert "3 of the events" in sentences(verdict.findings)

    def test_a_second_seal_does_not_cover_up(self):
        """Of several seals of one index the earliest counts."""
        one, two = pair()
        self.seal(two, one.written[:30])
        self.seal(two, one.written[:40])
        two.write("audit.stopped", {})
        verdict = verify(one.written[40:] + two.written, now=EPOCH + dt.timedelta(days=91))
        assert [(each.sequence, each.last) for each in verdict.findings] == [(31, 40)]

    def test_the_next_event_must_go_on_from_the_sealed_head(self):
        one, two = pair()
        self.seal(two, [*one.written[:29], resealed(one.written[29], user__id="x")])
        two.write("audit.stopped", {})
        verdict = verify(one.written[30:] + two.written, now=EPOCH + dt.timedelta(days=91))
        assert found(verdict) == [("edited", 31)]

    def test_a_seal_speaks_for_the_seals_of_earlier_indices_that_left_with_them(self):
        one, two = self.spanning()
        documents = one.written[30:] + two.written
        late = EPOCH + dt.timedelta(days=91)
        assert verify(documents, now=late).findings == ()
        assert notes(verify(documents, now=late)) == {"retention": 30}
        early = verify(documents, now=EPOCH + dt.timedelta(days=89))
        assert [(each.kind, each.sequence, each.last) for each in early.findings] == [("deleted", 1, 30)]

    def test_what_a_seal_says_of_earlier_indices_excuses_no_more_than_they_held(self):
        one, two = self.spanning(events=7)
        verdict = verify(one.written[30:] + two.written, now=EPOCH + dt.timedelta(days=91))
        assert kinds(verdict.findings) == {"deleted"}
        assert "3 of the events" in sentences(verdict.findings)

    def test_what_follows_must_go_on_from_what_the_seal_says_of_earlier_indices(self):
        one, two = self.spanning(hash="0" * 64)
        verdict = verify(one.written[10:] + two.written, now=EPOCH + dt.timedelta(days=91))
        assert found(verdict) == [("edited", 11)]

    def spanning(self, **about):
        """A writer whose first 10 events were in an index whose seal has left, and 20 more in the next one."""
        one, two = pair()
        last = read_sealed_event(one.written[9])
        newest = last.time.replace("Z", "+00:00")
        before = {"first": 1, "last": 10, "hash": last.hash, "events": 10, "newest": newest, **about}
        self.seal(two, one.written[10:30], before=before)
        two.write("audit.stopped", {})
        return one, two

    @pytest.mark.parametrize("days", [80, 100, 370, 400])
    def test_what_left_is_judged_by_the_period_of_its_time(self, days):
        """90 days at first, 365 from day 95 on."""
        one, two = pair()
        self.seal(two, one.written[:30])
        self.apply(two, 90)
        two.at = EPOCH + dt.timedelta(days=95)
        self.apply(two, 365)
        two.write("audit.stopped", {})
        verdict = verify(one.written[30:] + two.written, now=EPOCH + dt.timedelta(days=days), retention_days=7)
        assert (verdict.findings == ()) is (days > 90)

    @pytest.mark.parametrize(("days", "lawful"), [(94, False), (200, False), (364, False), (366, True)])
    def test_a_period_that_was_made_longer_in_time_excuses_nothing_before_its_end(self, days, lawful):
        one, two = pair()
        self.seal(two, one.written[:30])
        self.apply(two, 90)
        two.at = EPOCH + dt.timedelta(days=50)
        self.apply(two, 365)
        two.write("audit.stopped", {})
        verdict = verify(one.written[30:] + two.written, now=EPOCH + dt.timedelta(days=days))
        assert (verdict.findings == ()) is lawful

    def test_a_period_that_nobody_signed_or_of_another_stream_does_not_count(self):
        for key, stream in ((None, "audit-events"), (OTHER.signing, "audit-events"), (KEYS.signing, "audit-more")):
            one, two = pair()
            self.seal(two, one.written[:30], index=".ds-audit-events-000001")
            two.write("audit.stopped", {})
            forger = author(3, at=one.at, key=key)
            self.apply(forger, 1, stream)
            documents = one.written[30:] + two.written + forger.written
            verdict = verify(documents, now=EPOCH + dt.timedelta(days=50), streams=["audit-events"])
            assert ("deleted", 1) in found(verdict)

    def apply(self, one, days, stream="audit-events"):
        one.write("audit.retention_applied", {"stream": stream, "retention_days": days})

    def test_a_dead_letter_among_what_left_was_in_no_index(self):
        one = author(1).life(50)
        letter = read_sealed_event(one.written[4])
        two = author(2, at=one.at).life(1, stop=False)
        told = {"writer": letter.writer, "sequence": letter.sequence, "hash": letter.hash}
        two.write("audit.dead_lettered", {"dead_letter": told})
        self.seal(two, one.written[:4] + one.written[5:30])
        two.write("audit.stopped", {})
        verdict = verify(one.written[30:] + two.written, now=EPOCH + dt.timedelta(days=91))
        assert verdict.findings == ()
        assert notes(verdict) == {"retention": 29, "dead_letters": 1}

    def test_a_dead_letter_is_a_note(self):
        one = author(1).life(5)
        seal = read_sealed_event(one.written[3])
        two = author(2, at=one.at).life(1, stop=False)
        letter = {"writer": seal.writer, "sequence": seal.sequence, "hash": seal.hash}
        two.write("audit.dead_lettered", {"dead_letter": letter})
        two.write("audit.stopped", {})
        verdict = verify(one.written[:3] + one.written[4:] + two.written)
        assert verdict.findings == ()
        assert notes(verdict) == {"dead_letters": 1}


class TestViews:
    def test_under_a_filter_only_contents_are_checked_and_it_says_so(self):
        documents = author().life().written
        some = documents[2:7:2]
        assert verify(some, content_only=True).findings == ()
        assert "content_only" in notes(verify(some, content_only=True))
        some[1] = edited(some[1], user__id="x")
        assert found(verify(some, content_only=True)) == [("edited", 5)]

    def test_a_time_range_may_begin_within_a_chain(self):
        documents = author().life().written
        assert verify(documents[4:], from_start=False).findings == ()
        assert found(verify(documents[4:6] + documents[7:], from_start=False)) == [("deleted", 7)]


def change_a_byte(documents, position, chosen):
    document = documents[position]
    at = chosen.randrange(len(document))
    byte = chosen.choice([each for each in b'abc019 ,:{}"' if each != document[at]])
    documents[position] = document[:at] + bytes([byte]) + document[at + 1 :]


def change_a_value(documents, position, chosen):
    documents[position] = edited(documents[position], event__id=base64.b64encode(chosen.randbytes(4)).decode())


def delete(documents, position, chosen):
    del documents[position]


def add_a_second(documents, position, chosen):
    documents.insert(chosen.randrange(len(documents) + 1), resealed(documents[position], message="forged"))


def seal_anew(documents, position, chosen):
    documents[position] = resealed(documents[position], message="forged")


def chain_anew(documents, position, chosen):
    documents[:] = rechained(documents, position, message="forged")


def swap(documents, position, chosen):
    other = (position + chosen.randrange(1, len(documents))) % len(documents)
    one, two = orjson.loads(documents[position]), orjson.loads(documents[other])
    one["audit"]["integrity"], two["audit"]["integrity"] = two["audit"]["integrity"], one["audit"]["integrity"]
    documents[position], documents[other] = orjson.dumps(one), orjson.dumps(two)


def cut_off_the_end(documents, position, chosen):
    del documents[position:]


def give_another_number(documents, position, chosen):
    number = chosen.choice([number for number in range(1, 40) if number != position + 1])
    documents[position] = edited(documents[position], audit__integrity__sequence=number)


def strip_the_signature(documents, position, chosen):
    position = chosen.choice([index for index, document in enumerate(documents) if b'"signature":' in document])
    stored = orjson.loads(documents[position])
    del stored["audit"]["integrity"]["signature"]
    documents[position] = orjson.dumps(stored)


MUTATIONS = [
    change_a_byte, change_a_value, delete, add_a_second, seal_anew, chain_anew, swap, cut_off_the_end,
    give_another_number, strip_the_signature,
]  # fmt: skip
"""Every single change that somebody can make to an exported chain without the signing key."""

TRAIL = author(1).life(12)
WITNESS = author(2, at=TRAIL.at).life(3, {**TRAIL.head, "ended": True})


@given(st.sampled_from(MUTATIONS), st.integers(0, len(TRAIL.written) - 1), st.integers(0, 2**32))
@settings(max_examples=400, deadline=None)
def test_any_single_mutation_of_a_witnessed_chain_is_found(mutation, position, seed):
    """Whatever is changed, and wherever: there is a finding, and the witness is never accused."""
    documents = list(TRAIL.written)
    mutation(documents, position, random.Random(seed))
    verdict = verify(documents + WITNESS.written)
    assert verdict.findings
    assert WITNESS.writer not in {finding.writer for finding in verdict.findings}


def test_kinds_are_documented():
    import typing
    from pathlib import Path

    from audit_logging.integrity.finding import Kind

    page = (Path(__file__).parents[2] / "docs/integrity.md").read_text()
    for kind in typing.get_args(Kind):
        assert f"`{kind}`" in page


@pytest.mark.parametrize("event", [b"", b"{", b"null", b'{"audit":{"integrity":{"writer":"w","sequence":true}}}'])
def test_what_is_no_event_is_none(event):
    assert read_sealed_event(event) is None
