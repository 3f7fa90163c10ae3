"""What pydantic finds wrong with a file or a manifest, in sentences that a person can act on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from understudy.errors import unknown_name

NUMBER, WHOLE, TEXT, SEVERAL = "write a number", "write a whole number", "write a text", "write as many as are expected"
REMEDIES = {
    "greater_than": "raise it",
    "greater_than_equal": "raise it",
    "less_than": "lower it",
    "less_than_equal": "lower it",
    "finite_number": "write a finite number",
    "float_type": NUMBER,
    "float_parsing": NUMBER,
    "int_type": WHOLE,
    "int_parsing": WHOLE,
    "int_from_float": WHOLE,
    "string_type": TEXT,
    "string_too_short": TEXT,
    "string_pattern_mismatch": "write letters, digits and '_' between slashes, as in /arm/reset",
    "literal_error": "write one of these",
    "too_short": SEVERAL,
    "too_long": SEVERAL,
    "tuple_type": "write a list, as in [0.0, 0.1]",
    "dict_type": "write `key: value` entries below it",
    "model_type": "write `key: value` entries below it",
}
"""By pydantic's name of the problem."""


@dataclass(frozen=True)
class Problem:
    """One field that is not what it should be."""

    at: tuple[str | int, ...]
    """Keys from the outermost one to the field."""
    sentence: str
    """Without a full stop."""
    remedy: str
    """Empty where the sentence says it."""
    missing: bool = False
    """Whether the field is not there."""


def problems(error: ValidationError, model: type[BaseModel], ours: tuple[str, ...] = ()) -> list[Problem]:
    """Each field that pydantic refused, what was expected and what came.

    Args:
        error: raised by `model`.
        model: what was validated.
        ours: fields that files may not have, and that are not suggested.
    """
    return [_problem(dict(one), model, ours) for one in error.errors()]


def describe_validation(error: ValidationError, model: type[BaseModel]) -> str:
    """All problems in one line."""
    return " ".join(f"{problem.sentence}." for problem in problems(error, model))


def _problem(found: dict[str, Any], model: type[BaseModel], ours: tuple[str, ...]) -> Problem:
    at: tuple[str | int, ...] = found["loc"]
    where = ".".join(map(str, at)) or model.__name__
    if found["type"] == "extra_forbidden":
        above = ".".join(map(str, at[:-1]))
        owner = _model_at(model, at[:-1])
        known = [name for name in owner.model_fields if name not in ours] if owner else []
        sentence = str(unknown_name("key", str(at[-1]), known)).rstrip(".")
        return Problem(at, f"{above}: {sentence}" if above else sentence, "rename it, or take it out")
    if found["type"] == "missing":
        return Problem(at, f"{where} is missing", "", missing=True)
    if found["type"] == "value_error":  # a sentence of ours, with what came and what to do
        return Problem(at, f"{where}: {found['msg'].removeprefix('Value error, ')}", "")
    return Problem(at, f"{where}: {found['msg']} (got {found['input']!r:.80})", REMEDIES.get(found["type"], "mend it"))


def _model_at(model: type[BaseModel], location: tuple[int | str, ...]) -> type[BaseModel] | None:
    """The pydantic model that owns a validation error's location, as far as it can be told."""
    current: type[BaseModel] | None = model
    for step in location:
        if isinstance(step, int) or current is None:
            continue
        field = current.model_fields.get(step)
        if field is None:
            continue
        candidates = [field.annotation, *getattr(field.annotation, "__args__", ())]
        current = next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)
    return current
