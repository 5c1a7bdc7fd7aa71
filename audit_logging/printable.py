"""Text of an event, made harmless to show. An event may hold anything."""

from __future__ import annotations

import re
from typing import Any, Final

import orjson

# Marks of writing direction and control characters above ASCII, which steer terminals and editors: categories Cc, Cf,
# Zl and Zp of Unicode. JSON itself escapes those of ASCII but one.
_UNSEEN: Final = re.compile(
    "[\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0001-\U000e007f]"
)
_BEYOND_ASCII: Final = re.compile("[^\x00-\x7f]")


def printable(text: str) -> str:
    """Show control characters as escapes, so that an event's text cannot steer a reader's terminal or a picture.

    Marks of writing direction and lone surrogates are control characters, too.

    Example:
        >>> printable("two" + chr(10) + "lines")
        'two\\\\nlines'
    """
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def json_bytes(value: Any, option: int = 0) -> bytes:
    """Return *value* as JSON in which what cannot be seen is escaped; it is the same value to every parser.

    Args:
        value: Plain values.
        option: Options of orjson.

    Example:
        >>> json_bytes({"name": "\u202eevil"})
        b'{"name":"\\\\u202eevil"}'
    """
    json = orjson.dumps(value, option=option)
    if json.isascii() and b"\x7f" not in json:
        return json
    # Outside its texts JSON is plain ASCII, so that whatever is found here stands inside one.
    return _UNSEEN.sub(_escape, json.decode()).encode()


def in_ascii(json: str) -> str:
    """Return the same JSON with every character beyond ASCII escaped.

    Example:
        >>> print(in_ascii('{"name":"Zoë"}'))
        {"name":"Zo\\u00eb"}
    """
    return _BEYOND_ASCII.sub(_escape, json)


def _escape(match: re.Match[str]) -> str:
    units = match[0].encode("utf-16-be")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))
