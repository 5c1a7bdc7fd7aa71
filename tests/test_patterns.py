"""Every regular expression of the package takes linear time, whatever text it meets."""

from __future__ import annotations

import importlib
import itertools
import pkgutil
import re
import time
from pathlib import Path
from re import _constants as sre
from re import _parser

import pytest

import audit_logging as audit
from audit_logging.privacy.redaction import SecretKeys
from audit_logging.privacy.secrets import SecretText

SIZE = 8_000
SLOW_SECONDS = 0.006
"""Quicker than this with so much text is quick enough: what grows with the square takes 20 times as long."""
MOST_GROWTH = 2.5


LOOKS_EVERYWHERE = "search|sub|subn|finditer|findall|split"


def all_patterns():
    """Return every compiled pattern that a module or class of the package holds, by where it stands.

    Each with whether it looks for matches everywhere in a text, or only where it is told to.
    """
    found = {}
    for module in pkgutil.walk_packages(audit.__path__, "audit_logging."):
        if module.name.startswith(("audit_logging.examples", "audit_logging.__main__")):
            continue
        loaded = importlib.import_module(module.name)
        source = Path(loaded.__file__).read_text("utf-8")
        holders = [(module.name, vars(loaded))]
        holders += [
            (f"{module.name}.{name}", vars(kind)) for name, kind in vars(loaded).items() if isinstance(kind, type)
        ]
        for place, names in holders:
            for name, value in list(names.items()):
                values = (
                    value if isinstance(value, tuple | list) else value.values() if isinstance(value, dict) else [value]
                )
                for each in values:
                    if isinstance(each, re.Pattern):
                        everywhere = re.search(rf"\b{name}\b(\[\w+\])?\.({LOOKS_EVERYWHERE})\(", source) is not None
                        found.setdefault((each.pattern, each.flags), (f"{place}.{name}", each, everywhere))
    return sorted(found.values(), key=lambda item: item[0])


def _characters(items):
    """Return a few characters of a class."""
    chosen = []
    for kind, value in items:
        if kind is sre.LITERAL:
            chosen.append(chr(value))
        elif kind is sre.RANGE:
            chosen.append(chr(value[0]))
        elif kind is sre.CATEGORY:
            chosen.append({sre.CATEGORY_DIGIT: "1", sre.CATEGORY_SPACE: " ", sre.CATEGORY_WORD: "a"}.get(value, "-"))
        elif kind is sre.NEGATE:
            return ["a", " ", "-"]
    return chosen[:4] or ["a"]


def walk(tree, example, pieces):  # noqa: C901 - one branch for each kind of node
    """Append one matching text to *example*, and the pieces that the pattern is made of to *pieces*."""
    run = ""
    for kind, value in tree:
        if kind is sre.LITERAL:
            run += chr(value)
            example.append(chr(value))
            continue
        if run:
            pieces.add(run)
            run = ""
        if kind is sre.IN:
            characters = _characters(value)
            pieces.update(characters)
            example.append(characters[0])
        elif kind in {sre.ANY, sre.NOT_LITERAL}:
            pieces.update("a -")
            example.append("a")
        elif kind in {sre.MAX_REPEAT, sre.MIN_REPEAT, sre.POSSESSIVE_REPEAT}:
            least, _, inner = value
            part = []
            walk(inner, part, pieces)
            pieces.add("".join(part))
            example.append("".join(part) * max(min(least, 60), 1))
        elif kind is sre.SUBPATTERN:
            walk(value[-1], example, pieces)
        elif kind is sre.ATOMIC_GROUP:
            walk(value, example, pieces)
        elif kind is sre.BRANCH:
            for number, branch in enumerate(value[1]):
                walk(branch, example if number == 0 else [], pieces)
    if run:
        pieces.add(run)


def adversaries(pattern):
    """Yield texts that repeat the pattern's own pieces, and end in something that fits nowhere."""
    text = pattern.pattern.decode("latin-1") if isinstance(pattern.pattern, bytes) else pattern.pattern
    example, pieces = [], set()
    walk(
        _parser.parse(text, pattern.flags & ~re.UNICODE if isinstance(pattern.pattern, bytes) else pattern.flags),
        example,
        pieces,
    )
    whole = "".join(example)
    # Evenly chosen where there are many: the long alternations are made of a hundred formats that are alike.
    pieces = sorted(piece for piece in pieces if piece)
    pieces = [*pieces[:: len(pieces) // 16 + 1], whole, whole[:-1] or whole]
    pairs = [first + second for first, second in itertools.product(pieces[:4], pieces[-4:])]
    for unit in {*pieces, *pairs} - {""}:
        yield unit, ""
        yield unit, whole[: len(whole) // 2]


def seconds(pattern, text, *, everywhere):
    """Return the processor time of using *pattern* on *text* as the package does, the best of three."""

    def once():
        started = time.process_time()
        if everywhere:
            for _ in pattern.finditer(text):
                pass
        pattern.match(text)
        pattern.fullmatch(text)
        return time.process_time() - started

    return min_of(once)


def min_of(once):
    """Return the best of three, or the first when that is quick."""
    first = once()
    return first if first < SLOW_SECONDS else min(first, once(), once())


def grows_too_fast(measure, unit, before=""):
    def text(size):
        return before + unit * (size // len(unit) + 1) + "\x00"

    # First a short text: what is exponential must show before it takes for ever.
    if measure(text(60)) > SLOW_SECONDS:
        return True
    if measure(text(SIZE)) < SLOW_SECONDS:
        return False
    return all(measure(text(4 * SIZE)) > MOST_GROWTH * measure(text(2 * SIZE)) for _ in range(3))


PATTERNS = all_patterns()


@pytest.mark.parametrize(
    ("pattern", "everywhere"), [case[1:] for case in PATTERNS], ids=[place for place, *_ in PATTERNS]
)
def test_pattern_takes_linear_time(pattern, everywhere):
    def measure(text):
        text = text.encode("latin-1", "replace") if isinstance(pattern.pattern, bytes) else text
        return seconds(pattern, text, everywhere=everywhere)

    slow = [(unit, before) for unit, before in adversaries(pattern) if grows_too_fast(measure, unit, before)]
    assert slow == []


SECRETIVE = ["key-", "pass", "key", "password ", "token_", "-token", "secret secret", "key=", "pwd:", "bearer ", "basic  ",
             "authorization:", "-----BEGIN ", "PRIVATE KEY", "-----BEGIN PRIVATE KEY", "a://", "a:b@", "http://a:", "ey", "eyA.", "4 1", "4-",
             "4111", '="', "='", "\\", '\\"', "{", "<password>", "<", "password", "&password=", "-p", " -u ", "AccountKey=", ";", "IDENTIFIED BY ",
             "('password', ", "\u00a0", "4.1", "x-api-key: ", "a1B", "Cookie: a=", "%", "t1.", "-t1.aaaaaaaaaa"]  # fmt: skip


@pytest.mark.parametrize("before", ["", "password", "-----BEGIN PRIVATE KEY", "Authorization: ", "cookie: "])
@pytest.mark.parametrize("unit", SECRETIVE)
def test_masking_takes_linear_time(unit, before):
    """Whatever the patterns are fed by the code around them."""
    mask = SecretText(SecretKeys()).mask

    def measure(text):
        def once():
            started = time.process_time()
            mask(text)
            return time.process_time() - started

        return min_of(once)

    assert not grows_too_fast(measure, unit, before)
    assert measure(before + unit * (32_000 // len(unit))) < 1  # a tenth of it, unless coverage is measured


@pytest.mark.parametrize("unit", ["key-", "pass", "key=", "='", "a1B", "-----BEGIN PRIVATE KEY"])
def test_an_event_with_hostile_text_is_emitted_at_once(unit):
    """Wherever it stands: the message, the reason, metadata, a path, a key."""
    text = unit * (32_000 // len(unit))
    with audit.record_events() as events:
        started = time.process_time()
        audit.get_logger().emit(
            "invoice.approved", reason=text, url_path=text, user_agent=text, note={"deep": [text]}, **{text[:300]: 1}
        )
        assert time.process_time() - started < 1
    assert len(events) == 1
