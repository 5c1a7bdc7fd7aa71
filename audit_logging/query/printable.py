"""Text of an event, made harmless to show. An event may hold anything."""

from __future__ import annotations


def printable(text: str) -> str:
    """Show control characters as escapes, so that an event's text cannot steer a reader's terminal or a picture.

    Marks of writing direction and lone surrogates are control characters, too.

    Example:
        >>> printable("two" + chr(10) + "lines")
        'two\\\\nlines'
    """
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
