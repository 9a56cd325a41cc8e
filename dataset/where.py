"""Conditions on clips, in words: ``max_radius_px > 8 and (family == 'night' or occluded_fraction > 0.1)``.

Names are the columns of the index that hold one number or text. Comparisons, chained ones too, with
``and``, ``or``, ``not`` and parentheses; nothing else is evaluated. A clip whose value is unknown fulfils no
comparison.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any

import pyarrow as pa

from focuspull.dataset.errors import UserError
from focuspull.dataset.index import SCHEMA

Condition = Callable[[Mapping[str, Any]], bool]

COLUMNS = tuple(field.name for field in SCHEMA if not pa.types.is_list(field.type))
_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


def parse_where(text: str) -> Condition:
    """A condition on rows of the index.

    Raises:
        UserError: If it is not one, with what is wrong.
    """
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError) as error:
        raise UserError(f"where '{text}': cannot be read: {getattr(error, 'msg', error)}. {_HINT}") from error
    return _condition(tree.body, text)


_HINT = "Write, for example: max_radius_px > 8 and family == 'night'"


def _condition(node: ast.expr, text: str) -> Condition:
    match node:
        case ast.BoolOp(op=ast.And()):
            parts = [_condition(part, text) for part in node.values]
            return lambda row: all(part(row) for part in parts)
        case ast.BoolOp():
            parts = [_condition(part, text) for part in node.values]
            return lambda row: any(part(row) for part in parts)
        case ast.UnaryOp(op=ast.Not()):
            inner = _condition(node.operand, text)
            return lambda row: not inner(row)
        case ast.Compare():
            values = [_value(part, text) for part in (node.left, *node.comparators)]
            if unknown := [op for op in node.ops if type(op) not in _COMPARISONS]:
                found = type(unknown[0]).__name__
                raise UserError(f"where '{text}': {found} is no comparison. Use == != < <= > >=.")
            compare = [_COMPARISONS[type(op)] for op in node.ops]
            kinds = {kind for kind, _ in values}
            if kinds == {"text", "number"}:
                raise UserError(f"where '{text}': compares a text with a number. {_HINT}")

            def holds(row: Mapping[str, Any]) -> bool:
                found = [get(row) for _, get in values]
                return None not in found and all(
                    op(a, b) for op, a, b in zip(compare, found, found[1:], strict=False)
                )

            return holds
        case _:
            raise UserError(f"where '{text}': '{ast.unparse(node)}' is no comparison. {_HINT}")


def _value(node: ast.expr, text: str) -> tuple[str, Callable[[Mapping[str, Any]], Any]]:
    """Whether text or number, and how to get it from a row."""
    match node:
        case ast.Constant(value=str() | int() | float() as value) if not isinstance(value, bool):
            return ("text" if isinstance(value, str) else "number"), lambda row: value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return "number", lambda row: -value
        case ast.Name(id=name):
            if name not in COLUMNS:
                near = get_close_matches(name, COLUMNS, 1)
                hint = f"Did you mean '{near[0]}'?" if near else f"There are: {', '.join(COLUMNS)}."
                raise UserError(f"where '{text}': the index has no column '{name}'. {hint}")
            kind = "text" if pa.types.is_string(SCHEMA.field(name).type) else "number"
            return kind, lambda row: row.get(name)
        case _:
            raise UserError(
                f"where '{text}': '{ast.unparse(node)}' is neither a column, a number nor a text. {_HINT}"
            )
