"""Plain arithmetic out of a message, without eval."""

import ast
import operator
from collections.abc import Callable

_TWO: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
_ONE: dict[type[ast.unaryop], Callable[[float], float]] = {ast.UAdd: operator.pos, ast.USub: operator.neg}


def calculate(text: str) -> str | None:
    """The value of `text` when it is an expression such as `2 * (3 + 4)`; None for anything else."""
    if len(text) > 200 or not any(sign in text for sign in "+-*/%"):
        return None
    try:
        return str(_value(ast.parse(text.strip().rstrip("=?").strip(), mode="eval").body))
    # SystemError: Python 3.11 on nesting too deep for it (python/cpython#106905).
    except (ArithmeticError, ValueError, SyntaxError, RecursionError, MemoryError, SystemError):
        return None


def _value(node: ast.expr) -> float:
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return number
        case ast.UnaryOp(op, operand) if type(op) in _ONE:
            return _ONE[type(op)](_value(operand))
        case ast.BinOp(left, op, right) if type(op) in _TWO:
            one, two = _value(left), _value(right)
            # An exponent can ask for more digits than there is memory.
            if isinstance(op, ast.Pow) and (abs(two) > 64 or abs(one) > 10_000):
                raise ValueError("too large")
            result = _TWO[type(op)](one, two)
            if isinstance(result, complex):
                raise ArithmeticError("not a real number")  # noqa: TRY004  a value, not a type, to the user
            return result
        case _:
            raise ValueError("not arithmetic")
