"""Texts that look like a protected value: an application's texts must not be read as what a key store made.

Whoever may choose a name could otherwise choose another person's protected one, which readers open and searches find.
Such a text is written so that it says the same to people and nothing to a reader: ``enc[:]1:…``, ``p[-]…``.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Any, Final

from audit_logging.events.values import each_text

_LOOKS_PROTECTED: Final = re.compile(r"(?:(?<=enc):(?=1:)|(?<=\Ap)-(?=[0-9a-f]{24}\Z))")
_BRACKETED: Final = r"[\g<0>]"
_ONE_PSEUDONYM: Final = re.compile(rb'"p-[0-9a-f]{24}"')
_ESCAPED: Final = (b"enc[:]1:", b'"p[-]')
_OF_HOLDS: Final = frozenset({"query", "covers"})


def imitates(document: bytes) -> bool:
    """Return whether a text in this JSON may look like a protected value.

    Example:
        >>> imitates(b'{"name":"enc:1:x"}'), imitates(b'{"name":"p-17"}')
        (True, False)
    """
    # The first two tests are quick, and enough for nearly all events.
    return b"enc:1:" in document or (b'"p-' in document and _ONE_PSEUDONYM.search(document) is not None)


def is_escaped(document: bytes) -> bool:
    """Return whether :func:`escape` may have changed a text in this JSON."""
    return any(mark in document for mark in _ESCAPED)


def escape(value: Any, but: frozenset[str] = frozenset()) -> Any:
    """Return plain JSON in which no text looks like a protected value.

    Args:
        value: Plain JSON.
        but: Keys whose values stay as they are.

    Example:
        >>> escape({"user_name": "enc:1:…", "changes": ["p-0123456789abcdef01234567"]})
        {'user_name': 'enc[:]1:…', 'changes': ['p[-]0123456789abcdef01234567']}
    """
    return each_text(value, partial(_LOOKS_PROTECTED.sub, _BRACKETED), but)


def escape_facts(facts: dict[str, Any], *, internal: bool) -> dict[str, Any]:
    """Return an event's keywords without texts that look like a protected value.

    Args:
        facts: The keywords, as plain JSON.
        internal: Whether the library tells them of itself: what a hold covers holds protected values.
    """
    return escape(facts, _OF_HOLDS if internal else frozenset())  # type: ignore[no-any-return]
