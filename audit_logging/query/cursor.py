"""Where a page ended, as a text that a caller keeps and hands back. It may be hostile then."""

from __future__ import annotations

import base64
import binascii
import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from audit_logging.errors import FilterError, Keyword
from audit_logging.query.times import EARLIEST, LATEST

if TYPE_CHECKING:
    from audit_logging.query.distinct import SortKey

VERSION: Final = 1
MAX_LENGTH: Final = 8192
"""Characters; ours have some three hundred."""

Int64 = Annotated[int, Field(strict=True, ge=-(1 << 63), lt=1 << 63)]
Word = Annotated[str, Field(strict=True, max_length=1024)]
_MICROSECOND: Final = dt.timedelta(microseconds=1)


class _Contents(BaseModel):
    model_config = ConfigDict(extra="forbid", defer_build=True)

    v: Annotated[int, Field(strict=True, ge=VERSION, le=VERSION)]
    question: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    now: Annotated[int, Field(strict=True, ge=0, lt=(LATEST - EARLIEST) // _MICROSECOND)]
    total: Annotated[int, Field(strict=True, ge=0, lt=1 << 63)]
    after: tuple[Int64, Word | None, Int64]
    seen: Annotated[list[Word], Field(max_length=64)]


@dataclass(frozen=True)
class Cursor:
    """Where a page ended.

    It is no secret and no permission: it only says where to go on in the answer to the filter that is given with it.

    Attributes:
        question: Digest of the filter, the sort and the stream that it belongs to.
        now: What "now" meant in the filter's relative times.
        total: Events found in all.
        after: Sort values of the page's last event, as OpenSearch gave them.
        seen: Identities of the events with those sort values that were on the page.
    """

    question: str
    now: dt.datetime
    total: int
    after: SortKey
    seen: tuple[str, ...]

    def encode(self) -> str:
        """Return it as text: letters, digits, ``-`` and ``_``."""
        contents = {
            "v": VERSION,
            "question": self.question,
            "now": (self.now - EARLIEST) // _MICROSECOND,
            "total": self.total,
            "after": self.after,
            "seen": self.seen,
        }
        return base64.urlsafe_b64encode(orjson.dumps(contents)).decode().rstrip("=")

    @classmethod
    def decode(cls, text: str, *, question: str) -> Cursor:
        """Return the cursor in *text*.

        Raises:
            FilterError: *text* is not a cursor of ours, or belongs to another *question*.
        """
        contents = _contents(text)
        if contents.question != question:
            raise FilterError(
                "The cursor belongs to another search: give it with the filter, sort and stream that it came from."
            )
        now = EARLIEST + contents.now * _MICROSECOND
        return cls(contents.question, now, contents.total, contents.after, tuple(contents.seen))


def _contents(text: str) -> _Contents:
    text = text if isinstance(text, str) and len(text) <= MAX_LENGTH else ""
    try:
        decoded = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        return _Contents.model_validate(orjson.loads(decoded))
    except (ValueError, binascii.Error, ValidationError):
        raise FilterError(
            "That is not a cursor, or only part of one: pass on ",
            Keyword("cursor", "page.cursor"),
            " as it came, or none for the first page.",
        ) from None
