"""What a keyword's value is to a stamp: copied into the document, a choice between documents, or nothing.

A value may be copied only where the exact way (:mod:`audit_logging.events.document`) does just that to every value of
its Python type: the same functions as there turn it into the text that is copied, or refuse it.
"""

from __future__ import annotations

import datetime as dt
import enum
import math
import re
from decimal import Decimal
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, NamedTuple, TypeAlias, Union, get_args, get_origin
from uuid import UUID

from annotated_types import BaseMetadata, Ge, Le, MaxLen, MinLen, Predicate
from pydantic import AfterValidator, BaseModel, BeforeValidator
from pydantic.fields import FieldInfo

from audit_logging.events import models
from audit_logging.events.identity import FIRST_MOMENT
from audit_logging.events.values import INT64, STRUCTURED, float_text, iso_utc, time_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from audit_logging.events.values import Mask

    Step: TypeAlias = Callable[[Any], Any]


class Slot(NamedTuple):
    """A value that is copied.

    Attributes:
        steps: What makes of it the text that is copied, one after the other; they raise where the exact way is needed.
        mark: Makes such a value from 19 digits; its text is then looked for in the document.
    """

    steps: tuple[Step, ...]
    mark: Callable[[str], Any]


class Role(enum.Enum):
    """What a value is that is not copied."""

    CHOICE = "another value, another document"
    NOTHING = "there is but one value"


class UnfitError(Exception):
    """Events with such a value are for the exact way."""


_JUDGED: Final = frozenset({"outcome", "status_code"})
"""Keywords that outcome and severity follow from (``EventType.judge``)."""

_CONFIG: Final = frozenset(models.Fields.model_config) | {
    "title",
    "frozen",
    "json_schema_extra",
    "use_attribute_docstrings",
}
"""What a model's configuration may speak of without changing any value."""

_PURE: Final = frozenset({Any, str, int, float, bool, Decimal, UUID, dt.date, dt.datetime, NoneType})


def is_transparent(fields: type[BaseModel]) -> bool:
    """Tell whether a model is the sum of its fields: no code of the application's runs when it validates."""
    own = fields.__pydantic_decorators__
    hooks = (own.validators, own.field_validators, own.root_validators, own.model_validators)
    overridable = ("__init__", "__new__", "__get_pydantic_core_schema__", "model_post_init", "__setattr__")
    return (
        not any(hooks)
        and set(fields.model_config) <= _CONFIG
        and not fields.__private_attributes__
        and all(_inherits(fields, name) for name in overridable)
    )


def _inherits(fields: type[BaseModel], name: str) -> bool:
    here, there = getattr(fields, name), getattr(BaseModel, name)
    return getattr(here, "__func__", here) is getattr(there, "__func__", there)


def role_of(name: str, kind: type, field: FieldInfo | None, mask: Mask | None = None) -> Slot | Role:
    """Return what the values of type *kind* under a keyword are.

    Args:
        name: The keyword.
        kind: The exact type of its value.
        field: The model's field for it; None where it becomes metadata.
        mask: Finds the secrets in a text.

    Raises:
        UnfitError: Such events are for the exact way.
    """
    if kind is NoneType:
        return Role.NOTHING
    base, metadata = _parts(field) if field is not None else (Any, ())
    if field is not None and (field.alias or field.validation_alias):
        raise UnfitError
    slot = None if name in _JUDGED else _slot(kind, base, metadata)
    if slot is not None:
        return slot if mask is None or name in STRUCTURED else _without_secrets(slot, kind, mask, name)
    # Not a float or a Decimal: 0.0 and -0.0 are equal, and so would choose the same document.
    if (kind in {str, int, bool} or issubclass(kind, enum.Enum)) and _is_pure(base, metadata):
        return Role.CHOICE
    raise UnfitError


def _without_secrets(slot: Slot, kind: type, mask: Mask, name: str) -> Slot:
    """Return the slot for a value in which the exact way looks for secrets: it takes what holds none."""

    def check(value: Any) -> Any:
        text = value if kind is str else str(value)
        if mask(text, name) != text:
            raise ValueError
        return value

    return slot._replace(steps=(check, *slot.steps))


def _parts(field: Any) -> tuple[Any, tuple[Any, ...]]:
    """Return the type that a field holds beside None, and what is said of it."""
    annotation, metadata = (field.annotation, tuple(field.metadata)) if isinstance(field, FieldInfo) else (field, ())
    if get_origin(annotation) in {Union, UnionType}:
        members = [member for member in get_args(annotation) if member is not NoneType]
        if len(members) == 1:
            annotation = members[0]
    if get_origin(annotation) is Annotated:
        annotation, *more = get_args(annotation)
        for item in more:
            metadata = (*(item.metadata if isinstance(item, FieldInfo) else (item,)), *metadata)
    return annotation, metadata


def _is_pure(base: Any, metadata: tuple[Any, ...]) -> bool:
    """Tell whether validation depends on the value alone."""
    if not all(isinstance(item, BaseMetadata) and not isinstance(item, Predicate) for item in metadata):
        return False
    if get_origin(base) in {Union, UnionType}:
        return all(_is_pure(*_parts(member)) for member in get_args(base))
    is_enum = isinstance(base, type) and issubclass(base, enum.Enum)
    return is_enum or get_origin(base) is Literal or base in _PURE


def _slot(kind: type, base: Any, metadata: tuple[Any, ...]) -> Slot | None:
    if base is float and kind in {float, int}:
        return _float_slot(metadata)
    if base is int and kind is int:
        return _int_slot(metadata)
    if base is Decimal and kind in {Decimal, int, str} and not metadata:
        steps, mark = _TEXTS[kind]
        return Slot((*steps, _decimal), mark)
    if base in {str, Any} and kind in _TEXTS:
        return _text_slot(kind, metadata)
    return None


def _text_slot(kind: type, metadata: tuple[Any, ...]) -> Slot | None:
    steps, mark = _TEXTS[kind]
    for item in metadata:
        if isinstance(item, (AfterValidator, BeforeValidator)) and item.func in _VALIDATORS:
            validator, text_mark = _VALIDATORS[item.func]
            steps, mark = (*steps, validator), text_mark if kind is str else mark
        elif isinstance(item, (MinLen, MaxLen)):
            least, most = getattr(item, "min_length", 0), getattr(item, "max_length", _DIGITS)
            if not least <= _DIGITS <= most:
                return None
            steps = (*steps, _length_check(least, getattr(item, "max_length", None)))
        else:
            return None
    return Slot(steps, mark)


def _int_slot(metadata: tuple[Any, ...]) -> Slot | None:
    least, most = -(10 ** (_DIGITS - 1)), 10**_DIGITS // 2
    for item in metadata:
        if isinstance(item, Ge) and type(item.ge) is int:
            least = max(least, item.ge)
        elif isinstance(item, Le) and type(item.le) is int:
            most = min(most, item.le)
        else:
            return None
    if most < 10_000:  # noqa: PLR2004 - such a number would be found where it is not meant
        return None
    allowed = range(least, most + 1)

    def check(value: int) -> str:
        if value not in allowed:
            raise ValueError
        return str(value)

    return Slot((check,), lambda digits: most - int(digits) % (most - max(least, most // 10)))


def _float_slot(metadata: tuple[Any, ...]) -> Slot | None:
    steps: tuple[Step, ...] = (float,)
    for item in metadata:
        if isinstance(item, (Ge, Le)):
            steps = (*steps, _bound_check(getattr(item, "ge", -math.inf), getattr(item, "le", math.inf)))
        elif isinstance(item, AfterValidator) and item.func is models.nanoseconds:
            steps = (*steps, models.nanoseconds)
        elif getattr(item, "allow_inf_nan", None) is None:
            return None
    return Slot((*steps, _number_text), _float_mark)


def _length_check(least: int, most: int | None) -> Step:
    def check(value: str) -> str:
        if len(value) < least or (most is not None and len(value) > most):
            raise ValueError
        return value

    return check


def _bound_check(least: Any, most: Any) -> Step:
    def check(value: float) -> float:
        if not least <= value <= most:
            raise ValueError
        return value

    return check


def _number_text(value: float) -> str:
    if not math.isfinite(value):
        raise ValueError
    return str(value)


def _decimal(value: str) -> str:
    if not re.fullmatch(r"-?[0-9]{1,20}(\.[0-9]{1,20})?", value):
        raise ValueError
    return str(Decimal(value))


_DIGITS: Final = 19


def _int_text(value: int) -> str:
    if value not in INT64:
        raise ValueError
    return str(value)


def _float_mark(digits: str) -> float:
    return float(f"{digits[:4]}.{digits[4:14]}1")


def _moment_mark(digits: str) -> dt.datetime:
    return FIRST_MOMENT + dt.timedelta(seconds=int(digits[4:13]), microseconds=int(digits[13:]))


def moment_mark(digits: str) -> str:
    """Return a time before 2002 as the document has it."""
    return iso_utc(_moment_mark(digits))


def _address_mark(digits: str) -> str:
    groups = [f"1{digits[start : start + 3]}" for start in range(1, _DIGITS, 3)]
    return ":".join(["fd12", "3456", *groups])


_TEXTS: Final[dict[type, tuple[tuple[Step, ...], Callable[[str], Any]]]] = {
    str: ((), str),
    int: ((_int_text,), int),
    float: ((float_text,), _float_mark),
    UUID: ((str,), lambda digits: UUID(digits.ljust(32, "1"))),
    Decimal: ((str,), Decimal),
    dt.datetime: ((time_text,), _moment_mark),
}
"""The types whose values are copied as text: how it is made (see :mod:`audit_logging.events.values`), and their marks.

The marks sort like their digits."""

_VALIDATORS: Final[dict[Any, tuple[Step, Callable[[str], str]]]] = {
    models.address: (models.address, _address_mark),
    models.money: (models.money, str),
    models.moment: (models.moment, moment_mark),
}
"""The validators that make a text of a text, and marks that they let pass as they are."""
