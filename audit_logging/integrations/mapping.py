"""Formats of other systems' audit records as data: a TOML file says which field of a record becomes which keyword.

The mappings in ``mappings/`` are part of the library; users give their own to ``audit-logging import --mapping FILE``.
``docs/imports.md`` describes the file.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from functools import lru_cache
from importlib import resources
from typing import Annotated, Any, Final, Literal

import tomllib
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, ValidationError, model_validator

from audit_logging.errors import EventError, SettingsError
from audit_logging.events.catalogue import Catalogue
from audit_logging.events.models import CommonFields, Outcome
from audit_logging.integrations.import_formats import JSON_FILES, SUFFIX
from audit_logging.integrations.incoming import snake_case

_GIVEN_ELSEWHERE: Final = frozenset({"event_id", "timestamp", "metadata", "changes", "labels"})
_KEYWORDS: Final = tuple(CommonFields.model_fields.keys() - _GIVEN_ELSEWHERE)
PLACEHOLDER: Final = re.compile(r"\{([^{}]*)\}")
_STEP: Final = re.compile(r'"([^"]+)"|([^."]+)')
_PATH: Final = re.compile(rf"(?:{_STEP.pattern})(?:\.(?:{_STEP.pattern}))*")


def _keyword(name: str) -> str:
    if name not in _KEYWORDS:
        close = get_close_matches(name, _KEYWORDS, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(sorted(_KEYWORDS))}"
        raise ValueError(f"{name!r} is not a keyword of events: {hint}")
    return name


def _path(text: str) -> str:
    if not _PATH.fullmatch(text):
        raise ValueError(f"{text!r} is not a path such as 'user.name', 'list.0' or 'annotations.\"a.b/c\"'")
    return text


def _expression(text: str) -> str:
    if "{" not in text and "}" not in text:
        return _path(text)
    return _template(text)


def _template(text: str) -> str:
    for path in PLACEHOLDER.findall(text):
        _path(path)
    if {"{", "}"} & set(PLACEHOLDER.sub("", text)):
        raise ValueError(f"{text!r} has a brace without its partner")
    return text


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise ValueError(f"{text!r} is not a regular expression ({error})") from None


def _name(text: str) -> str:
    if not text or snake_case(text) != text:
        raise ValueError(f"{text!r} is not a name such as 'my_system'")
    return text


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _tests(value: Any) -> Any:
    return value if isinstance(value, dict) else {"any_of": value if isinstance(value, list) else [value]}


Path = Annotated[str, AfterValidator(_path)]
Expression = Annotated[str, AfterValidator(_expression)]
Expressions = Annotated[tuple[Expression, ...], BeforeValidator(_as_list)]
"""A path or a template, or several: the first that has a value counts."""
Keyword = Annotated[str, AfterValidator(_keyword)]
Template = Annotated[str, AfterValidator(_template)]
Pattern = Annotated[Any, BeforeValidator(lambda text: _pattern(str(text)))]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)


class Condition(_Part):
    """What the value at a path must be; every test that is given must hold."""

    any_of: tuple[str | int | bool, ...] | None = None
    matches: Pattern | None = None
    at_least: int | None = None
    present: bool | None = None

    def holds(self, value: Any) -> re.Match[str] | bool:
        """Return whether *value* passes; the match of the regular expression, if it has one."""
        if self.present is not None and self.present is (value is None):
            return False
        if self.any_of is not None and not any(type(value) is type(each) and value == each for each in self.any_of):
            return False
        if self.at_least is not None and not (type(value) is int and value >= self.at_least):
            return False
        if self.matches is None:
            return True
        found: re.Match[str] | None = self.matches.search(value) if isinstance(value, str) else None
        return found or False


class Outcomes(_Part):
    """What a rule sets, over the fields."""

    event_type: Template | None = None
    outcome: Outcome | None = None
    severity: Literal["info", "warning", "critical"] | None = None
    category: Annotated[tuple[str, ...], BeforeValidator(_as_list)] | None = None
    type: Annotated[tuple[str, ...], BeforeValidator(_as_list)] | None = None
    fields: dict[Keyword, Template] = {}
    metadata: dict[str, Template] = {}

    @model_validator(mode="after")
    def _check_categories(self) -> Outcomes:
        try:
            Catalogue().register("mapped.event", category=self.category or (), ecs_type=self.type or ())
        except EventError as error:
            raise ValueError(str(error).partition(": ")[2]) from None
        return self


class Rule(_Part):
    """Sets something where all its conditions hold."""

    when: dict[Path, Annotated[Condition, BeforeValidator(_tests)]] = {}
    set: Outcomes


class Mapping(_Part):
    """A format, as its file describes it.

    Attributes:
        name: What it is called; tag of its events and beginning of their types.
        description: One line for help texts.
        source: Where its fields are described.
        files: Which files of a directory hold its records.
        lines: For text: what a line may look like, with a named group for each part.
        lists: For JSON: names of lists in an envelope that hold records.
        unwrap: For JSON: members that hold the record, where another system wrapped it.
        mark: A member that every record has.
        id: What identifies a record; without it, its content does.
        time: Where the time stands; the first that has a value counts.
        time_may_lack_year: Whether the time may be ``Mar  1 10:00:00``.
        event_type: The event type; of several, the first whose placeholders all have a value.
        service: What recorded the event.
        host: The host on which it happened.
        pid: The process in which it happened.
        resource: What it was done to.
        omit: Members that are not repeated in the metadata, because a field holds them.
        fields: Keywords, and where their values stand.
        rules: What depends on the record.
    """

    name: Annotated[str, AfterValidator(_name)]
    description: str
    source: str = ""
    files: tuple[str, ...] = JSON_FILES
    lines: tuple[Pattern, ...] = ()
    lists: tuple[str, ...] = ()
    unwrap: tuple[str, ...] = ()
    mark: str
    id: Template | None = None
    time: Annotated[tuple[Path, ...], BeforeValidator(_as_list)]
    time_may_lack_year: bool = False
    event_type: Annotated[tuple[Template, ...], BeforeValidator(_as_list)]
    service: Expressions = ()
    host: Path | None = None
    pid: Path | None = None
    resource: Expressions = ()
    omit: tuple[str, ...] = ()
    fields: dict[Keyword, Expressions] = {}
    rules: tuple[Rule, ...] = ()


@lru_cache(maxsize=1024)
def steps_of(path: str) -> tuple[str, ...]:
    """Return the keys that *path* goes through."""
    return tuple(quoted or plain for quoted, plain in _STEP.findall(path))


def load(text: str, name: str) -> Mapping:
    """Return the mapping that *text* describes.

    Args:
        text: TOML.
        name: Where it comes from, for errors.

    Raises:
        SettingsError: It is not a mapping; names every mistake with its line.
    """
    try:
        return Mapping.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"(.*) \(at (line \d+), column \d+\)", str(error))
        end = f"line {max(text.count(chr(10)) + (not text.endswith(chr(10))), 1)}"
        what, where = (found[1], found[2]) if found else (str(error), end)
        raise SettingsError(f"The mapping {name} is not TOML: {where}: {what}.") from None
    except ValidationError as error:
        mistakes = [
            f"line {line_of(text, detail['loc'])}, {_spelled(detail['loc'])}: {_said(detail)}"
            for detail in error.errors()
        ]
        raise SettingsError(f"The mapping {name} has mistakes:\n" + "\n".join(mistakes)) from None


def load_built_in(name: str) -> Mapping:
    """Return a mapping that is part of the library."""
    return load((resources.files(__package__) / "mappings" / f"{name}{SUFFIX}").read_text("utf-8"), name)


def line_of(text: str, location: tuple[int | str, ...]) -> int:
    """Return the line in which the part of the TOML *text* at *location* stands, or begins."""
    lines = text.splitlines()
    at, end = 0, len(lines)
    table: list[str] = []
    for step in location:
        if isinstance(step, int):
            headers = [n for n, line in enumerate(lines) if line.strip() == f"[[{'.'.join(table)}]]"]
            if step < len(headers):
                at = headers[step]
                end = next((n for n in range(at + 1, len(lines)) if lines[n].strip() == lines[at].strip()), len(lines))
            continue
        named = re.compile(rf"""\s*(?:[\w."']+\.)?["']?{re.escape(step)}["']?\s*(?:\.|=)""")
        header = re.compile(rf"\s*\[\[?{re.escape('.'.join([*table, step]))}\]")
        inline = re.compile(rf"""(?:^|[{{,.\s])["']?{re.escape(step)}["']?\s*(?:\.|=)""")
        for pattern in (header, named, inline):
            found = next(
                (n for n in range(at, end) if pattern.search(lines[n]) if pattern is inline or pattern.match(lines[n])),
                None,
            )
            if found is not None:
                at = found
                table.append(step)
                break
    return at + 1


def _spelled(location: tuple[int | str, ...]) -> str:
    steps = [f"{step + 1}" if isinstance(step, int) else step for step in location if step != "[key]"]
    return " ".join(steps) or "the file"


def _said(detail: Any) -> str:
    kinds = {"missing": "it is missing", "extra_forbidden": "there is no such entry"}
    return kinds.get(detail["type"]) or detail["msg"].removeprefix("Value error, ")
