"""Runs a model's small function without running Python on it: an interpreter of a dozen kinds of syntax.

Generated code is untrusted.  Nothing here is handed to ``exec``: the source is parsed, anything outside the list of
allowed syntax is refused, and the rest is evaluated node by node on integers, booleans and lists.  There are no
loops, no imports, no attributes, no names but the function's own, and numbers and steps are bounded, so that a
response can neither reach the machine nor keep it busy.

>>> call("def f(x):\\n    return x * 3 + 4", "f", [5])
19
>>> call("def f(x):\\n    return open('/etc/passwd')", "f", [5])  # doctest: +IGNORE_EXCEPTION_DETAIL
Traceback (most recent call last):
    ...
core_evals.nemo_distill.interpreter.Refused: Call is not allowed
"""

import ast
import operator
from collections.abc import Callable
from typing import Any

LONGEST = 2_000
"""Characters: Python's own parser runs out of memory on what nests deeply enough."""
MOST_NODES = 300
LARGEST = 10**12

_BINARY: dict[type, Callable] = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul,
           ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod}  # fmt: skip
_UNARY: dict[type, Callable] = {ast.USub: operator.neg, ast.UAdd: operator.pos, ast.Not: operator.not_}
_COMPARE: dict[type, Callable] = {ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge,
            ast.Eq: operator.eq, ast.NotEq: operator.ne}  # fmt: skip


class Refused(Exception):
    """The source holds something that is not allowed, or does not define the function asked for."""


class _Return(Exception):
    def __init__(self, value: object):
        self.value = value


def call(source: str, name: str, arguments: list) -> object:
    """What function ``name`` of ``source`` returns for ``arguments``.

    Raises Refused for syntax outside the list, SyntaxError for what is no Python, and what the arithmetic raises.
    """
    if len(source) > LONGEST:
        raise Refused(f"more than {LONGEST} characters")
    try:
        tree = ast.parse(source)
    except MemoryError:  # what Python's parser raises where its stack is full, be there memory or not
        raise Refused("nested too deeply") from None
    if sum(1 for _ in ast.walk(tree)) > MOST_NODES:
        raise Refused(f"more than {MOST_NODES} nodes")
    found = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name]
    if len(found) != 1 or len(tree.body) != 1:
        raise Refused(f"expected one function {name} and nothing else")
    function = found[0]
    signature = function.args
    names = [argument.arg for argument in signature.args]
    if signature.vararg or signature.kwarg or signature.kwonlyargs or signature.posonlyargs or signature.defaults:
        raise Refused("only plain arguments are allowed")
    if function.decorator_list or len(names) != len(arguments):
        raise Refused(f"expected {len(arguments)} arguments and no decorator")
    variables = dict(zip(names, arguments))
    try:
        _block(function.body, variables)
    except _Return as returned:
        return returned.value
    return None


def _block(statements: list[ast.stmt], variables: dict) -> None:
    for statement in statements:
        if isinstance(statement, ast.Return):
            raise _Return(None if statement.value is None else _value(statement.value, variables))
        if isinstance(statement, ast.If):
            _block(statement.body if _value(statement.test, variables) else statement.orelse, variables)
        elif isinstance(statement, ast.Assign) and all(isinstance(t, ast.Name) for t in statement.targets):
            value = _value(statement.value, variables)
            variables.update((target.id, value) for target in statement.targets if isinstance(target, ast.Name))
        else:
            raise Refused(f"{type(statement).__name__} is not allowed")


def _value(node: ast.expr, variables: dict) -> Any:
    if isinstance(node, ast.Constant) and isinstance(node.value, (int, bool)):
        return _bounded(node.value)
    if isinstance(node, ast.Name):
        if node.id not in variables:
            raise Refused(f"name {node.id!r} is not defined")
        return variables[node.id]
    if isinstance(node, ast.List):
        return [_value(element, variables) for element in node.elts]
    if isinstance(node, ast.Subscript):
        return _value(node.value, variables)[_value(node.slice, variables)]
    if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
        left, right = _value(node.left, variables), _value(node.right, variables)
        if not isinstance(left, int) or not isinstance(right, int):
            raise Refused("arithmetic on numbers only")  # a list times a large number would fill the memory
        return _bounded(_BINARY[type(node.op)](left, right))
    if isinstance(node, ast.UnaryOp) and type(node.op) in _UNARY:
        return _UNARY[type(node.op)](_value(node.operand, variables))
    if isinstance(node, ast.IfExp):
        return _value(node.body if _value(node.test, variables) else node.orelse, variables)
    if isinstance(node, ast.BoolOp):
        parts = (_value(value, variables) for value in node.values)
        return all(parts) if isinstance(node.op, ast.And) else any(parts)
    if isinstance(node, ast.Compare) and all(type(op) in _COMPARE for op in node.ops):
        values = [_value(operand, variables) for operand in (node.left, *node.comparators)]
        return all(_COMPARE[type(op)](a, b) for op, a, b in zip(node.ops, values, values[1:]))
    raise Refused(f"{type(node).__name__} is not allowed")


def _bounded(number: int) -> int:
    if abs(number) > LARGEST:
        raise Refused(f"a number beyond {LARGEST}")
    return number
