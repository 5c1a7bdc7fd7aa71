"""How far the trail was verified already, so that a daily run checks what is new: ``--from-last``.

What is new is told by the number that OpenSearch itself gives to every write of a shard: it grows, for changes of old
documents too. And how many documents there are up to that number must be as before, or everything is looked at again.

The record lies under ``home`` and is signed by this machine's key, so that nobody can move it on to hide something.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

import orjson

from audit_logging.errors import QueryError
from audit_logging.files import write_durably
from audit_logging.integrity.claims import Head
from audit_logging.integrity.keys import SigningKey, TrustedKeys
from audit_logging.private import NotPrivateError, check_private_directory, private_directory, read_private
from audit_logging.query.dsl import all_of, any_of
from audit_logging.query.exchange import Request, search_request

if TYPE_CHECKING:
    from pathlib import Path

    from audit_logging.integrity.verification import Verification
    from audit_logging.query.dsl import Query
    from audit_logging.query.exchange import Answer
    from audit_logging.query.verification.stored import Mark
    from audit_logging.settings import Settings

Send = Callable[[Request], "Answer"]

FORMAT: Final = "audit-logging verified 1"
NUMBER: Final = "_seq_no"
MOST_INDICES: Final = 10_000


@dataclass
class Verified:
    """What was verified without a finding.

    Attributes:
        stream: The data stream.
        marks: By backing index: its id, the last number in it and how many documents there are up to that.
        writers: By writer: what goes on from there.
    """

    stream: str
    marks: dict[str, tuple[str, int, int]] = field(default_factory=dict)
    writers: dict[str, dict[str, Any]] = field(default_factory=dict)

    def new(self) -> Query:
        """Return the query that finds what came or changed since."""
        known = [
            all_of([{"term": {"_index": index}}, {"range": {NUMBER: {"gt": through}}}])
            for index, (_, through, _) in self.marks.items()
        ]
        return any_of([*known, all_of([], [{"terms": {"_index": list(self.marks)}}])])

    def stands(self, send: Send, shards: dict[str, tuple[str, int]]) -> bool:
        """Return whether the stream still holds what was verified, as many documents in the same indices."""
        if any(shards.get(index, ("", 0))[0] != uuid for index, (uuid, _, _) in self.marks.items()):
            return False
        known = [
            all_of([{"term": {"_index": index}}, {"range": {NUMBER: {"lte": through}}}])
            for index, (_, through, _) in self.marks.items()
        ]
        indices = {"terms": {"field": "_index", "size": MOST_INDICES}}
        body = {"size": 0, "track_total_hits": False, "query": any_of(known), "aggs": {"indices": indices}}
        buckets = send(search_request(self.stream, body))["aggregations"]["indices"]["buckets"]
        counts = {bucket["key"]: bucket["doc_count"] for bucket in buckets}
        return all(counts.get(index, 0) == count for index, (_, _, count) in self.marks.items())

    def resume(self, verification: Verification) -> None:
        """Let *verification* go on from here."""
        for writer, known in self.writers.items():
            verification.resume(
                writer,
                known["sequence"],
                known["hash"],
                known["time"],
                started=known["started"],
                through=known["through"],
            )
            verification.claims.pace(writer, known["interval"])
            if known["end"] is not None:
                verification.claims.claim_head(writer, Head(**known["end"]), end=True)

    def move_on(self, verification: Verification, marks: dict[str, Mark], shards: dict[str, tuple[str, int]]) -> None:
        """Take in what *verification* found to be whole."""
        for index, mark in marks.items():
            uuid, count_of_shards = shards.get(index, ("", 0))
            if count_of_shards == 1:  # the number is given by shard
                _, _, before = self.marks.get(index, ("", 0, 0))
                self.marks[index] = (uuid, mark.through, before + mark.documents)
        for chain, signing in verification.progress():
            claims = verification.claims.of(chain.writer)
            self.writers[chain.writer] = {
                "sequence": chain.last,
                "hash": chain.runs[-1].hash,
                "time": chain.time,
                "started": signing.started,
                "through": signing.through,
                "interval": claims.interval,
                "end": claims.end and asdict(claims.end),
            }


def read_shards(send: Send, stream: str) -> dict[str, tuple[str, int]]:
    """Return id and number of shards of every backing index."""
    wanted = "*.settings.index.uuid,*.settings.index.number_of_shards"
    answer = send(Request("GET", f"/{stream}/_settings", {}, {"filter_path": wanted}))
    found = {index: about["settings"]["index"] for index, about in answer.items()}
    return {index: (about["uuid"], int(about["number_of_shards"])) for index, about in found.items()}


def record_path(settings: Settings) -> Path:
    """Return where the record of a stream lies."""
    return settings.home / "verified" / f"{settings.stream}.json"


def load(settings: Settings) -> tuple[Verified | None, str]:
    """Return the record and nothing, or None and why there is none to go on from."""
    path = record_path(settings)
    try:
        check_private_directory(path.parent, within=settings.home)
        record = orjson.loads(read_private(path))
        text, signature = str(record["verified"]), str(record["signature"])
        if settings.signs and not _keys(settings).verifies(str(record["key"]), signature, _signed(text)):
            return None, f"The record {path} was not signed by this machine's key: verified from the begin."
        verified = Verified(**orjson.loads(text))
    except FileNotFoundError:
        return None, ""
    except NotPrivateError as error:
        return None, f"The record {path} is not trusted ({error.strerror}): verified from the begin."
    except (OSError, ValueError, KeyError, TypeError):
        return None, f"The record {path} is damaged: verified from the begin."
    if verified.stream != settings.stream:
        return None, f"The record {path} is of another stream: verified from the begin."
    return verified, ""


def save(verified: Verified, settings: Settings) -> None:
    """Keep the record, private to this user.

    Raises:
        QueryError: The disk refused.
    """
    path = record_path(settings)
    text = orjson.dumps(asdict(verified)).decode()
    record = {"format": FORMAT, "verified": text, "key": "", "signature": ""}
    if settings.signs:
        key = SigningKey.load_or_create(settings.signing_key_path)
        record |= {"key": key.id, "signature": key.sign(_signed(text))}
    try:
        private_directory(path.parent, within=settings.home)
        write_durably(path, orjson.dumps(record))
    except OSError as error:
        raise QueryError(
            f"The record {path} cannot be written ({error.strerror}): set home (AUDIT_HOME) to a directory on a"
            " writable disk with room."
        ) from error


def _keys(settings: Settings) -> TrustedKeys:
    """Return this machine's own key alone: nobody else writes the record."""
    return SigningKey.load_or_create(settings.signing_key_path).public


def _signed(text: str) -> bytes:
    return b"audit-logging verified " + text.encode()
