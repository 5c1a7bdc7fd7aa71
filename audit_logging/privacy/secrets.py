"""Secrets in free text: found by what they look like, and replaced before the text reaches the spool.

* A private key in PEM, to its end.
* A value that is assigned to a secret's name: ``password=hunter2``, ``"api_key": "…"``, ``--token …``, ``Bearer …``.
* The user and password in a URL.
* A token that says itself what it is (see :mod:`audit_logging.privacy.issued`).
* A token that nobody would write by hand: long, and of mixed letters and digits without any pattern.
* The number of a payment card, which its checksum tells from other numbers (ISO/IEC 7812-1, annex B).

Most texts hold none of these. So whether one *could* be there is looked at first, by a few passes over the bytes; the
patterns run on the rest.
"""

from __future__ import annotations

import re
from collections import Counter
from functools import lru_cache
from math import log2
from typing import TYPE_CHECKING, Final

from audit_logging.events.values import FEWEST_CARD_DIGITS, REDACTED
from audit_logging.privacy.issued import ISSUED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SHORTEST_TOKEN: Final = 16
"""Characters from which on a word may be a token of an issuer."""

LONGEST_WORD: Final = 32
"""Characters from which on a word of mixed letters and digits counts as a token that nobody would write by hand."""

LONGEST_NAME: Final = 100
"""Characters before a sign in which the name of what is assigned is looked for."""

_SHORTEST_TEXT: Final = 8
"""Characters: ``cvv: 123`` is the shortest text with a secret that could be told from others."""

_FEWEST_PIN_DIGITS: Final = 4

_LONGEST_CACHED: Final = 64
_CACHED_TEXTS: Final = 4096
"""The reasons, paths and names of an application are short, and always the same."""

_BITS_OF_CHANCE: Final = 3.0
"""Bits per character from which on a value looks drawn by lot; words and dates stay below."""

_MARK: Final = REDACTED[:-1]
"""What a value begins with that was replaced before; a value ends before a bracket."""

_WORD_BYTES: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/_=.~%|$:@-"
_SAME: Final = bytes(120 if byte in _WORD_BYTES else 32 for byte in range(256))
"""Maps what a token is made of to one letter, and all else to a space."""

_LONG: Final = b"x" * SHORTEST_TOKEN
_NO_DIGITS: Final = bytes(set(range(256)) - set(b"0123456789"))

_NAME_BACKWARDS: Final = re.compile(r"[\w.-]+")
_SECOND_WORDS: Final = frozenset({"key", "token", "secret", "password", "passphrase", "code"})
"""The second words of names that are written as two, ``Secret Key``."""

_SCHEMES: Final = frozenset({"apikey", "basic", "bearer", "digest", "negotiate", "token"})
"""Of HTTP's Authorization header; the credentials follow the word (RFC 9110, section 11.4)."""

# Every repetition before another is bounded: tried from each of n places, it must not look at n characters.
_PEM: Final = re.compile(
    r"-----BEGIN (?:[A-Z0-9]{1,20} ){0,3}PRIVATE KEY(?: [A-Z]{1,20}){0,2}-----.*?(?:-----END[ A-Z0-9]{0,60}-----|\Z)",
    re.DOTALL,
)
_SCHEME: Final = re.compile(r"(?i)\b((?:bearer|basic|authorization\W{1,4}\w{1,40})[ ]{1,8})([^\s\"',;]{6,})")
_IN_URL: Final = re.compile(
    # A port and a path are no password; a password may hold "/" and "@", and ends where a host follows.
    r"(?i)\b([a-z][a-z0-9+.-]{0,30}://)[^\s/:@\"']{0,300}:(?!\d{1,5}(?:[/?#]|\Z))"
    r"[^\s\"'<>]{1,300}?@(?=[\w.\[\]:-]{1,255}(?:[/?#\s\"',;)]|\Z))"
)
_VALUE: Final = r"""(?P<value>"[^"\r\n]+"|'[^'\r\n]+'|`[^`\r\n]+`|\\{1,8}["'][^"'\\\r\n]+|[^\s"'`,;&)}\]<>\\]+)"""
_BEGIN_OF_VALUE: Final = (
    r"""(?=(?P<value>"[^"\r\n]{1,200}|'[^'\r\n]{1,200}|`[^`\r\n]{1,200}|\\{1,8}["'][^"'\\\r\n]{1,200}"""
    r"""|[^\s"'`,;&)}\]<>\\]{1,200}))"""
)
_SIGN: Final = re.compile(rf"[=:\uff1a\uff1d][=>]?[ \t\u00a0]{{0,3}}{_BEGIN_OF_VALUE}")
"""What is assigned is only looked at: it may hold further signs, as in ``failed: password=…``."""

_WHOLE_VALUE: Final = re.compile(_VALUE)
_REST_OF_LINE: Final = re.compile(r"[^\r\n]+")
_WHOLE_LINES: Final = frozenset({"authorization", "proxy_authorization", "cookie", "set_cookie"})
"""Names of headers of which all that follows is secret, whatever is in it."""

_ELEMENT: Final = re.compile(r"<(?:[\w.-]{1,40}:)?([\w.-]{1,60})(?: [^<>]{0,200})?>([^<>]{1,500})</")
_NAMED: Final = re.compile(
    r"""(?i)\b(?:name|key)["'\\]{0,3}\s{0,3}[:=]\s{0,3}["'\\]{0,3}([\w.-]{1,60})["'\\]{0,3}\s{0,3}[,;\n]\s{0,20}["'\\]{0,3}"""
    rf"value[\"'\\]{{0,3}}\s{{0,3}}[:=]\s{{0,3}}{_VALUE}"
)
_IN_SQL: Final = re.compile(
    r"""(?i)\b((?:identified (?:with \w{1,40} )?by|password) (?:password )?)(?:'[^'\r\n]{1,200}'|"[^"\r\n]{1,200}")"""
)
_ON_COMMAND_LINE: Final = re.compile(
    r"""(?i)\b((?:curl|wget|http)\b[^\r\n]{0,200}?\s(?:-u|--user|--proxy-user)[ =]?['"]?|(?:mysql\w{0,10}|mariadb)\b"""
    r"""[^\r\n]{0,200}?\s-p|sshpass -p ?['"]?)([^\s'"]{1,200})"""
)
_SPOKEN: Final = re.compile(
    rf"(?:[Pp]ass|PASS|[Pp]wd|PWD|[Ss]ecret|SECRET|[Tt]oken|TOKEN|[Kk]ey|KEY)[\w-]{{0,40}}+(?: is| was)?\s{_VALUE}"
)
_WORD: Final = re.compile(rf"[{re.escape(_WORD_BYTES.decode())}]{{{SHORTEST_TOKEN},}}")
_PART: Final = re.compile(r"(?:^|(?<=[=:/@|%~-]))[A-Za-z0-9]")
"""Where in a word a token may begin."""

_CARD: Final = re.compile(r"(?<![\w.-])[2-6]\d{3}(?:[ .\u00a0\u2007\u2009\u202f-]?\d){9,15}(?![\w-])")
_SEPARATORS: Final = re.compile(r"[-_./:=+]")
_HEX: Final = re.compile(r"[0-9a-fA-F]+")
"""What UUIDs, digests and the ids of databases are made of; a key that looks like one is known by its name alone."""

_IDENTIFIER: Final = re.compile(r"(?:A3T[A-Z0-9]|AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}|AC[a-f0-9]{32}")
"""Formats that name a key or an account and open nothing; under a name such as ``accessKeyId`` they are facts."""

_NAMES_A_REFERENCE: Final = re.compile(
    r"(?i)(^|[_.-]|(?<=[a-z])(?-i:(?=[A-Z])))(arn|at|checksum|commit|date|digest|email|etag|file(name)?|fingerprint|g?uuid|hash|host(name)?|ids?|image"
    r"|ip|md5|name|path|ref(erence)?|revision|sha\d*|span|time(stamp)?|trace|ur[il]|user_?agent|version)$"
)
"""Names whose values look drawn by lot and are no secrets."""


class SecretText:
    """Replaces the secrets in a text by ``[redacted]``.

    Args:
        secret_keys: ``secret_keys[name]`` says whether what is assigned to that name is a secret.
        patterns: Regular expressions of the application, whose matches are secrets as well.

    Example:
        >>> from audit_logging.privacy.redaction import SecretKeys
        >>> SecretText(SecretKeys()).mask("log-in as root with password=hunter2 from https://u:p@example.com/")
        'log-in as root with password=[redacted] from https://[redacted]@example.com/'
    """

    def __init__(self, secret_keys: Mapping[str, bool], patterns: Sequence[str] = ()) -> None:
        self._secret = secret_keys
        self._patterns = [re.compile(pattern) for pattern in patterns]
        self._mask_short = lru_cache(maxsize=_CACHED_TEXTS)(self._mask)

    def mask(self, text: str, name: str = "") -> str:
        """Return *text* without its secrets.

        Args:
            text: Free text, or a value of the application's own data.
            name: The key that *text* stands under, where there is one.
        """
        if len(text) < _SHORTEST_TEXT and not self._patterns:
            return text
        return self._mask_short(text, name) if len(text) <= _LONGEST_CACHED else self._mask(text, name)

    def _mask(self, text: str, name: str) -> str:
        for pattern in self._patterns:
            text = pattern.sub(REDACTED, text)
        raw = text.encode("utf-8", "surrogatepass")
        if _LONG in raw.translate(_SAME):
            text = self._without_tokens(text, name)
        lower = text.lower()
        if "bearer " in lower or "basic " in lower or "authorization" in lower:
            text = _SCHEME.sub(rf"\1{REDACTED}", text)
        if "=" in text or ":" in text or "\uff1a" in text or "\uff1d" in text:
            text = self._without_assigned(text)
        if "</" in text:
            text = _ELEMENT.sub(self._element, text)
        if " by '" in lower or ' by "' in lower or "password '" in lower or 'password "' in lower:
            text = _IN_SQL.sub(rf"\1{REDACTED}", text)
        if " -u" in lower or "--user" in lower or " -p" in lower or "--proxy-user" in lower:
            text = _ON_COMMAND_LINE.sub(rf"\1{REDACTED}", text)
        if "pass" in lower or "pwd" in lower or "secret" in lower or "token" in lower or "key" in lower:
            text = _SPOKEN.sub(_spoken, text)
        if len(raw.translate(None, _NO_DIGITS)) >= FEWEST_CARD_DIGITS:
            text = _CARD.sub(_card, text)
        return text

    def _without_tokens(self, text: str, name: str) -> str:
        if "-----BEGIN" in text:
            text = _PEM.sub(REDACTED, text)
        is_reference = _NAMES_A_REFERENCE.search(name) is not None
        if is_reference and _IDENTIFIER.fullmatch(text):
            return text
        if name and not is_reference and _is_drawn_by_lot(text):
            return REDACTED
        return _WORD.sub(lambda word: _token(word[0], is_reference=is_reference), text)

    def _without_assigned(self, text: str) -> str:
        if "://" in text:
            text = _IN_URL.sub(rf"\1{REDACTED}@", text)
        if "value" in text or "Value" in text or "VALUE" in text:
            text = _NAMED.sub(self._named, text)
        pieces, done = [], 0
        for match in _SIGN.finditer(text):
            if match.start() < done or (end := self._end_of_secret(match)) is None:
                continue
            pieces += [text[done : match.end()], REDACTED]
            done = end
        return "".join([*pieces, text[done:]]) if pieces else text

    def _end_of_secret(self, match: re.Match[str]) -> int | None:
        """Return where the secret ends that is assigned at *match*; None when it is none."""
        text, value = match.string, match["value"].strip("\"'`\\")
        name = _name_before(text, match.start())
        if not name or value.startswith(_MARK):
            return None
        before = match.start() - len(name) - 1
        if text[match.start()] == ":" and before >= 0 and text[before] == ":" and match.end() == match.start() + 1:
            return None  # a part of a name, as in arn:aws:secretsmanager:eu-west-1:1:secret:shop
        if name.lower().replace("-", "_") in _WHOLE_LINES:
            return _end_of_header(text, match)
        if value.lower() in _SCHEMES or (
            name.lower() == "pass" and value.isdigit() and len(value) < _FEWEST_PIN_DIGITS
        ):
            return None  # "pass: 12, fail: 3" counts tests
        secret = self._secret[name] or (_is_drawn_by_lot(value) and _NAMES_A_REFERENCE.search(name) is None)
        if not secret:
            return None
        # A quote that is never closed, in a text that was cut, goes to the end of its line.
        whole = _WHOLE_VALUE.match(text, match.end()) or _REST_OF_LINE.match(text, match.end())
        return whole.end() if whole is not None else None

    def _element(self, match: re.Match[str]) -> str:
        if not self._secret[match[1]]:
            return match[0]
        return match[0][: match.start(2) - match.start()] + REDACTED + "</"

    def _named(self, match: re.Match[str]) -> str:
        return _hidden(match) if self._secret[match[1]] else match[0]


def _name_before(text: str, end: int) -> str:
    """Return the name before the sign at *end*: ``api_key`` of ``"api_key" :``, ``Secret_Key`` of ``Secret Key``."""
    words = text[max(end - LONGEST_NAME, 0) : end].rstrip(" \"'])\\").split()
    if not words:
        return ""
    last = words[-1]
    if last.lower() in _SECOND_WORDS and len(words) > 1:
        last = f"{words[-2]}_{last}"
    end_of_name = _NAME_BACKWARDS.match(last[::-1])
    return end_of_name[0][::-1].strip(".-") if end_of_name else ""


def _end_of_header(text: str, match: re.Match[str]) -> int | None:
    """Return where a header ends: at the quote that it stands in, else at the end of the line."""
    value = match["value"]
    start = match.end() + len(value) - len(value.lstrip("\"'`\\"))
    line = _REST_OF_LINE.match(text, start)
    if line is None:
        return None
    before = text[max(match.start() - LONGEST_NAME, 0) : start].rpartition("\n")[2]
    for quote in ('"', "'"):
        if before.count(quote) % 2 and (closing := line[0].find(quote)) >= 0:
            return start + len(line[0][:closing].rstrip("\\"))
    return line.end()


def _spoken(match: re.Match[str]) -> str:
    """Hide what follows a secret's name without a sign, unless it is an ordinary word: ``password is required``."""
    value = match["value"].strip("\"'`").rstrip(".!?")
    start = match.start()
    is_option = match.string[max(start - 1, 0) : start] == "-"
    told = " is " in match[0] or " was " in match[0]
    if value.startswith(_MARK):
        return match[0]
    if is_option or _is_drawn_by_lot(value) or (told and not value.isalpha()):
        return _hidden(match)
    return match[0]


def _hidden(match: re.Match[str]) -> str:
    return match[0][: match.start("value") - match.start()] + REDACTED


def _token(word: str, *, is_reference: bool) -> str:
    """Return *word*, or what is left of it when it is a token; what it is assigned to stays."""
    for part in _PART.finditer(word):
        if ISSUED.match(word, part.start()):
            return word[: part.start()] + REDACTED
    if not is_reference and any(_is_unguessable(part) for part in re.split(r"[/.:=@|%]", word)):
        return REDACTED
    return word


def _is_unguessable(word: str) -> bool:
    """Tell whether nobody would write *word* by hand, whatever stands around it."""
    return (
        len(word) >= LONGEST_WORD
        and word.isalnum()
        and not word.islower()
        and not word.isupper()
        and any(map(str.isdigit, word))
        and _bits_per_character(word) > _BITS_OF_CHANCE + 1
    )


def _is_drawn_by_lot(value: str) -> bool:
    """Tell whether *value* looks like a key and not like words, a number, an id, a path or a date."""
    if len(value) < SHORTEST_TOKEN - 2 or not value.isascii() or " " in value or "://" in value:
        return False
    longest = max(_SEPARATORS.split(value), key=len)
    return (
        len(longest) >= SHORTEST_TOKEN - 4
        and any(map(str.isdigit, longest))
        and any(map(str.isalpha, longest))
        and _HEX.fullmatch(longest) is None
        and _bits_per_character(longest) > _BITS_OF_CHANCE
    )


def _bits_per_character(word: str) -> float:
    """Return the Shannon entropy of the characters of *word*."""
    total = len(word)
    return -sum(count / total * log2(count / total) for count in Counter(word).values())


def _card(match: re.Match[str]) -> str:
    return REDACTED if _passes_luhn(re.sub(r"\D", "", match[0])) else match[0]


def _passes_luhn(digits: str) -> bool:
    doubled = (int(digit) * 2 for digit in digits[-2::-2])
    return (sum(map(int, digits[::-2])) + sum(two - 9 if two > 9 else two for two in doubled)) % 10 == 0  # noqa: PLR2004
