"""Validation of input: annotated types with the rules, and one error that names every wrong field.

An operation states its rules in its signature, and `app.auth.access.allow` validates the arguments once the caller is
authorized. So rules are written once, for GraphQL, REST, the bot and the command line.
"""

import datetime as dt
import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, Self, cast, get_args, get_origin, get_type_hints

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    create_model,
    model_validator,
)
from pydantic_core import ErrorDetails

from app.dates import parse_date, parse_time
from app.errors import BadInput, FieldProblem
from app.timezones import is_timezone

NAME_MAX_CHARACTERS = 255
DESCRIPTION_MAX_CHARACTERS = 1000

ID_MAX = 2**63 - 1

PRICE_MAX = Decimal("99999999.99")
"""The maximum of NUMERIC(10, 2): enough for a lunch in any currency."""

FIRST_DATE = dt.date(2000, 1, 1)
LAST_DATE = dt.date(2099, 12, 31)
"""A date outside these limits has a mistyped year."""


class Input(BaseModel):
    """The values that a caller gives for an object. Only given fields are validated and used."""

    model_config = ConfigDict(frozen=True, extra="forbid", from_attributes=True, revalidate_instances="always")

    @classmethod
    def collect(cls, **values: Any) -> Self:
        """Collect values without validation: the operation validates them after it has authorized the caller."""
        return cast("Self", cls.model_construct(**values))

    @model_validator(mode="wrap")
    @classmethod
    def _validate_given(cls, value: object, validate: ModelWrapValidatorHandler[Self]) -> Self:
        """Validate an instance again, without the defaults of fields that are left out."""
        return validate(value.values() if isinstance(value, cls) else value)

    def values(self) -> dict[str, Any]:
        """The given fields, in the order of their declaration."""
        return {name: getattr(self, name) for name in type(self).model_fields if name in self.model_fields_set}


@dataclass(frozen=True)
class InvalidValue:
    """An argument that an API could not parse. The operation reports it together with its other wrong fields."""

    problem: FieldProblem


def optional() -> Any:
    """A field that may be left out, for example in an update. Null is not the same, and is refused."""
    return Field(default=None)


def _validate_text(value: str, max_characters: int) -> str:
    """Raises ValueError for a text that is too long, or that PostgreSQL cannot store."""
    if len(value) > max_characters:
        raise ValueError(f"has {len(value)} characters; at most {max_characters} are allowed")
    if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
        raise ValueError("has a character that is not allowed")
    return value


def _validate_name(value: str) -> str:
    name = _validate_text(value.strip(), NAME_MAX_CHARACTERS)
    if not name:
        raise ValueError("must not be empty")
    if len(name.splitlines()) > 1 or any(ord(character) < ord(" ") for character in name):
        raise ValueError("must be one line")
    return name


def _validate_price(value: Decimal) -> Decimal:
    if not 0 <= value <= PRICE_MAX:
        raise ValueError(f"must be from 0.00 to {PRICE_MAX}")
    return value


def _validate_date(value: dt.date) -> dt.date:
    if not FIRST_DATE <= value <= LAST_DATE:
        raise ValueError(f"must be from {FIRST_DATE} to {LAST_DATE}")
    return value


def _validate_timezone(value: str) -> str:
    if not is_timezone(value):
        raise ValueError("is not a time zone of the IANA database, such as Europe/Berlin")
    return value


def text_rule(max_characters: int) -> AfterValidator:
    """The rule of a text: its length, and no characters that PostgreSQL cannot store."""
    return AfterValidator(lambda value: _validate_text(value, max_characters))


def range_rule(minimum: int, maximum: int, sentence: str = "must be from {minimum} to {maximum}") -> AfterValidator:
    """The rule of a number: its limits, both included."""

    def validate(value: int) -> int:
        if not minimum <= value <= maximum:
            raise ValueError(sentence.format(minimum=minimum, maximum=maximum))
        return value

    return AfterValidator(validate)


def parse_id(value: object) -> int:
    """Parse the id of a row: a whole number from 1 to 2**63 - 1, as text or as a number.

    Raises ValueError.
    """
    text = str(value) if type(value) is int else value
    if isinstance(text, str) and text.isascii() and text.isdecimal() and len(text) <= len(str(ID_MAX)):
        number = int(text)
        if 0 < number <= ID_MAX:
            return number
    raise ValueError("is not an id")


Id = Annotated[int, BeforeValidator(parse_id)]
"""The id of a row."""

Name = Annotated[str, AfterValidator(_validate_name)]
"""One line of text, without spaces around it."""

SearchText = Annotated[str, text_rule(NAME_MAX_CHARACTERS)]
Description = Annotated[str, text_rule(DESCRIPTION_MAX_CHARACTERS)]
Price = Annotated[Decimal, AfterValidator(_validate_price)]
Date = Annotated[dt.date, BeforeValidator(parse_date), AfterValidator(_validate_date)]
TimeOfDay = Annotated[dt.time, BeforeValidator(parse_time)]
TimezoneName = Annotated[str, AfterValidator(_validate_timezone)]


def validate_input[I: Input](given: I) -> I:
    """Validate values that were collected without validation.

    Raises BadInput, which names every wrong field.
    """
    try:
        return type(given).model_validate(given)
    except ValidationError as error:
        raise bad_input(error) from None


class ArgumentValidator:
    """Validates the arguments of a function whose annotations have rules: annotated types, and subclasses of `Input`.

    The first parameter, the context, is not an argument.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        hints = get_type_hints(function, include_extras=True)
        self._names = tuple(inspect.signature(function).parameters)[1:]
        ruled = {name: hints[name] for name in self._names if _has_rules(hints[name])}
        self._objects = {name for name, hint in ruled.items() if _is_input(hint)}
        fields: dict[str, Any] = {name: (hint, Field(default=None)) for name, hint in ruled.items()}
        self._model = (
            create_model(function.__name__, __config__=ConfigDict(extra="ignore"), **fields) if ruled else None
        )

    def bind(self, args: Sequence[object], kwargs: Mapping[str, object]) -> dict[str, Any]:
        """Return the arguments by name."""
        if len(args) > len(self._names):
            raise TypeError(f"takes {len(self._names)} arguments, but {len(args)} were given")
        return dict(zip(self._names, args, strict=False), **kwargs)

    def validate(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments, validated.

        Raises BadInput, which names every wrong field.
        """
        problems = [value.problem for value in arguments.values() if isinstance(value, InvalidValue)]
        if self._model is not None:
            try:
                validated = self._model.model_validate(arguments)
                arguments |= {name: getattr(validated, name) for name in validated.model_fields_set}
            except ValidationError as error:
                problems += _problems(error, self._objects)
        if problems:
            raise BadInput.from_problems(problems)
        return arguments


def bad_input(error: ValidationError) -> BadInput:
    """Translate Pydantic's error into ours."""
    return BadInput.from_problems(_problems(error))


def _problems(error: ValidationError, unwrap: Collection[str] = ()) -> list[FieldProblem]:
    """List the wrong fields.

    Args:
        unwrap: The parameters that are objects: the error names their fields, not them.
    """
    return [_problem(problem, unwrap) for problem in error.errors(include_url=False)]


def _problem(problem: ErrorDetails, unwrap: Collection[str]) -> FieldProblem:
    path = problem["loc"][1:] if problem["loc"] and problem["loc"][0] in unwrap else problem["loc"]
    field, *rest = path or ("value",)
    place = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in rest)
    sentence = _sentence(problem)
    return FieldProblem(str(field), f"{place}: {sentence}" if place else sentence)


def _sentence(problem: ErrorDetails) -> str:
    if isinstance(problem["input"], InvalidValue):
        return problem["input"].problem.detail
    if problem["input"] is None:
        return "must not be null"
    if problem["type"] == "value_error":
        return str(problem["ctx"]["error"])
    return f"{problem['msg'][0].lower()}{problem['msg'][1:]}"


def _has_rules(hint: Any) -> bool:
    return _is_input(hint) or get_origin(hint) is Annotated or any(_has_rules(part) for part in get_args(hint))


def _is_input(hint: Any) -> bool:
    return inspect.isclass(hint) and issubclass(hint, Input)
