"""The expressions of `--where`: which rows of a table to keep. Parsed by `ast`, walked by hand, never evaluated.

Numbers, 'text', None (missing), column names, + - * /, comparisons (also chained), in, and, or, not,
parentheses: `tokens / params > 20 and config in ('a', 'b')`. Arithmetic on a missing value is missing,
and no missing value is smaller or larger than anything.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from search_spaces.errors import InputError
from search_spaces.nearest import nearest

Value = float | str | None
Row = Mapping[str, Value]
_Read = Callable[[Row], Value]
_Test = Callable[[Row], bool]

_DEEPEST = 60  # levels of nesting; a guess: more than anybody writes, less than exhausts the stack
_ARITHMETIC: Mapping[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_EQUALITY: Mapping[type[ast.cmpop], Callable[[Value, Value], bool]] = {ast.Eq: operator.eq, ast.NotEq: operator.ne}
_ORDER: Mapping[type[ast.cmpop], Callable[[float, float], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


@dataclass(frozen=True, kw_only=True)
class Where:
    """A parsed expression; `names` are the columns that it reads."""

    text: str
    names: tuple[str, ...]
    test: Callable[[Row], bool]


def parse_where(text: str) -> Where:
    """Parse an expression. Raises InputError naming the part that is not understood.

    Its test raises InputError where numbers and text are mixed, or a number is divided by zero.
    """
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise _unclear(text, f"it is no expression ({getattr(error, 'msg', error)})") from error
    if _depth(tree) > _DEEPEST:
        raise _unclear(text, f"it is nested deeper than {_DEEPEST} levels; filter the table first")
    builder = _Builder(text)
    return Where(text=text, test=builder.test(tree.body), names=tuple(sorted(builder.names)))


class _Builder:
    """Turns a parsed expression into functions of a row, and collects the columns that they read."""

    def __init__(self, text: str) -> None:
        self._text = text
        self.names: set[str] = set()

    def test(self, node: ast.expr) -> _Test:
        """A part that is true or false."""
        match node:
            case ast.BoolOp(op=ast.And(), values=parts):
                tests = [self.test(part) for part in parts]
                return lambda row: all(test(row) for test in tests)
            case ast.BoolOp(values=parts):
                tests = [self.test(part) for part in parts]
                return lambda row: any(test(row) for test in tests)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                inner = self.test(operand)
                return lambda row: not inner(row)
            case ast.Compare():
                return self._comparison(node)
        raise self._unclear(node, "is not a comparison; write for example tokens > 1e9")

    def _comparison(self, node: ast.Compare) -> _Test:
        sides = list(pairwise([node.left, *node.comparators]))
        links = [self._link(kind, left, right) for kind, (left, right) in zip(node.ops, sides, strict=True)]
        return lambda row: all(link(row) for link in links)

    def _link(self, kind: ast.cmpop, left: ast.expr, right: ast.expr) -> _Test:
        read = self.value(left)
        if isinstance(kind, ast.In | ast.NotIn):
            members, wanted = self._members(right), isinstance(kind, ast.In)
            return lambda row: (
                any(operator.eq(*self._comparable(read(row), member(row))) for member in members) is wanted
            )
        other = self.value(right)
        if equality := _EQUALITY.get(type(kind)):
            return lambda row: equality(*self._comparable(read(row), other(row)))
        if order := _ORDER.get(type(kind)):
            return lambda row: self._ordered(order, read(row), other(row))
        raise self._unclear(left, "is compared in a way that is not known; use < <= > >= == != in, not in")

    def _members(self, node: ast.expr) -> Sequence[_Read]:
        if not isinstance(node, ast.Tuple | ast.List | ast.Set):
            raise self._unclear(node, "must be a list after `in`, such as ('a', 'b')")
        return [self.value(member) for member in node.elts]

    def value(self, node: ast.expr) -> _Read:
        """A part that is a number, a text or missing."""
        match node:
            case ast.Constant(value=bool()):
                raise self._unclear(node, "is not a value that a table has; use numbers or 'text'")
            case ast.Constant(value=int() | float() | str() | None as constant):
                return lambda _row: constant
            case ast.Name() | ast.Attribute():
                return self._column(node)
            case ast.UnaryOp(op=ast.USub() | ast.UAdd() as sign, operand=operand):
                inner, factor = self.value(operand), -1 if isinstance(sign, ast.USub) else 1
                return lambda row: self._compute(operator.mul, factor, inner(row))
            case ast.BinOp(op=kind, left=left, right=right) if type(kind) in _ARITHMETIC:
                first, second, function = self.value(left), self.value(right), _ARITHMETIC[type(kind)]
                return lambda row: self._compute(function, first(row), second(row))
        raise self._unclear(node, "is not understood; use numbers, 'text', column names, + - * / and comparisons")

    def _column(self, node: ast.Name | ast.Attribute) -> _Read:
        """A column; `metrics.loss` is a name with a dot in it."""
        name = ast.unparse(node)
        if not all(isinstance(part, ast.Name | ast.Attribute | ast.expr_context) for part in ast.walk(node)):
            raise self._unclear(node, "is not a column name")
        self.names.add(name)
        return lambda row: row[name]

    def _compute(self, function: Callable[[float, float], float], left: Value, right: Value) -> Value:
        if left is None or right is None:
            return None
        first, second = self._number(left), self._number(right)
        try:
            return function(first, second)
        except (ZeroDivisionError, OverflowError) as error:
            raise _unclear(self._text, f"{first:g} and {second:g}: {error}") from error

    def _ordered(self, order: Callable[[float, float], bool], left: Value, right: Value) -> bool:
        if left is None or right is None:
            return False
        return order(self._number(left), self._number(right))

    def _comparable(self, left: Value, right: Value) -> tuple[Value, Value]:
        if left is not None and right is not None and isinstance(left, str) is not isinstance(right, str):
            raise _unclear(self._text, f"{left!r} and {right!r} are a text and a number; quote texts, and only texts")
        return left, right

    def _number(self, value: Value) -> float:
        if isinstance(value, int | float):
            return value
        raise _unclear(self._text, f"{value!r} is text where a number is needed")

    def _unclear(self, node: ast.expr, what: str) -> InputError:
        return _unclear(self._text, f"{ast.get_source_segment(self._text.strip(), node) or 'a part'} {what}")


def check_names(where: Where, columns: Sequence[str]) -> None:
    """Raise InputError where the expression reads a column that is not there."""
    for name in where.names:
        if name not in columns:
            raise _unclear(where.text, f"there is no column {name!r}{nearest(name, columns)}")


def _depth(tree: ast.AST) -> int:
    level, depth = [tree], 0
    while level:
        level, depth = [child for node in level for child in ast.iter_child_nodes(node)], depth + 1
    return depth


def _unclear(text: str, what: str) -> InputError:
    return InputError(f"--where {text!r}: {what}")
