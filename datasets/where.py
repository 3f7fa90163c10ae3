"""Choosing episodes by what is known of them: `success and operator != 'scripted' and steps > 40`.

Owns the little language. It looks like Python and is parsed by Python, but nothing in it is ever evaluated by Python:
names, texts, numbers, comparisons, `in`, `and`, `or`, `not` and brackets are all there is.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from typing import Any

from understudy.datasets.episode import Summary
from understudy.errors import InputError, unknown_name

FIELDS = (
    "id", "steps", "seconds", "rate_hz", "success", "operator", "device", "note", "robot", "task", "seed", "actions",
    "created", "software", "provenance", "checksum", "content_checksum",
)  # fmt: skip
"""What may be asked; beside `randomization.<name>` for a physical parameter drawn for the episode."""
_LONGEST = 2000
_MOST_NODES = 400
_COMPARE: Mapping[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Is: operator.eq,
    ast.IsNot: operator.ne,
    ast.In: lambda left, right: left in right,
    ast.NotIn: lambda left, right: left not in right,
}


class Where:
    """A condition on episodes, parsed once.

    A number that an episode does not have (a randomized parameter, a seed) is `None`: it equals None alone, and every
    other comparison with it is false.
    """

    def __init__(self, text: str) -> None:
        """Parse the condition.

        Raises:
            InputError: it is not one; says where and what may be written.
        """
        self.text = text
        if len(text) > _LONGEST:
            raise InputError(f"A condition of {len(text)} characters is too long; at most {_LONGEST} are read.")
        try:
            tree = ast.parse(text.strip(), mode="eval")
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            column = getattr(error, "offset", None)
            place = f" near character {column}" if column else ""
            raise InputError(f"The condition {text!r} cannot be read{place}. {_HELP}") from error
        if sum(1 for _ in ast.walk(tree)) > _MOST_NODES:
            raise InputError(f"The condition {text[:60]!r}... is too long to be meant; shorten it.")
        self._tree = tree.body
        _Evaluator(None, text).visit(self._tree)  # refuses what may not be written, before any episode is read

    def __call__(self, summary: Summary) -> bool:
        """Whether an episode meets it.

        Raises:
            InputError: a comparison makes no sense (a text with a number).
        """
        return bool(_Evaluator(summary, self.text).visit(self._tree))


_HELP = (
    "Write, for example: success and operator != 'scripted' and steps > 40. There are and, or, not, brackets, "
    "== != < <= > >= and in, texts in quotes, numbers, True, False and None."
)


class _Evaluator:
    """Walks a condition; without a summary it only checks that everything in it may be written."""

    def __init__(self, summary: Summary | None, text: str) -> None:
        self._summary = summary
        self._text = text

    def visit(self, node: ast.expr) -> Any:
        match node:
            case ast.BoolOp(op=ast.And(), values=values):
                found = [bool(self.visit(value)) for value in values]
                return all(found)
            case ast.BoolOp(op=ast.Or(), values=values):
                found = [bool(self.visit(value)) for value in values]
                return any(found)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return not self.visit(operand)
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
                return -number
            case ast.Compare(left=left, ops=ops, comparators=comparators):
                return self._compare(self.visit(left), ops, [self.visit(value) for value in comparators])
            case ast.Constant(value=str() | int() | float() | bool() | None as value):
                return value
            case ast.Tuple(elts=items) | ast.List(elts=items) | ast.Set(elts=items):
                return tuple(self.visit(item) for item in items)
            case ast.Name(id=name):
                return self._field(name)
            case ast.Attribute(value=ast.Name(id="randomization"), attr=name):
                return None if self._summary is None else self._summary.info.randomization.get(name)
        raise InputError(f"The condition {self._text!r} uses {ast.unparse(node)!r}, which is not understood. {_HELP}")

    def _field(self, name: str) -> Any:
        if name not in FIELDS:
            raise unknown_name("field", name, (*FIELDS, "randomization.<name>"))
        if self._summary is None:
            return None
        if name in ("id", "steps", "checksum", "content_checksum"):
            return getattr(self._summary, name)
        if name == "seconds":
            return self._summary.steps / self._summary.info.rate_hz
        return getattr(self._summary.info, name)

    def _compare(self, left: Any, ops: list[ast.cmpop], rights: list[Any]) -> bool:
        for op, right in zip(ops, rights, strict=True):
            if not self._holds(left, op, right):
                return False
            left = right
        return True

    def _holds(self, left: Any, op: ast.cmpop, right: Any) -> bool:
        if isinstance(op, (ast.In, ast.NotIn)):
            if right is None:
                return isinstance(op, ast.NotIn)
            if isinstance(right, str) and left is None:
                return isinstance(op, ast.NotIn)
        elif (left is None or right is None) and not isinstance(op, (ast.Eq, ast.NotEq, ast.Is, ast.IsNot)):
            return False
        try:
            return bool(_COMPARE[type(op)](left, right))
        except TypeError as error:
            raise InputError(f"The condition {self._text!r} compares {left!r} with {right!r}. {_HELP}") from error
