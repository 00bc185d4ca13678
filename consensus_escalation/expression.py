"""Predicates in a small part of Python's expressions, the same on every agent, with a budget of steps.

    arguments.speed <= state("limits/speed") and not any(zone in arguments.zones for zone in ["pool", "stairs"])

There is: `and or not`, comparisons, `in`, `+ - * // %`, `x if y else z`, literals, lists, `.name` and `[key]` (null where nothing
is), `any(... for x in ...)`, `all(...)`, and the functions and names that the rule engine hands in. There is no assignment, no
loop that is not over something finite, no attribute of Python's own, no power and no division, whose results could be large or
differ.

Expressions are compiled to closures once and counted as they run: each part costs a step, text and lists a step for every 16 of
what they hold. An expression that runs out of steps, or compares what cannot be compared, raises Undecided; what the rule engine
makes of it is the safe side.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any, Final, NamedTuple

from crdt.errors import Malformed

EXPRESSION_BYTES_MAX: Final = 512
"""A rule has to fit an entry of the log."""
NODES_MAX: Final = 256
DEPTH_MAX: Final = 32
STEPS_MAX: Final = 20_000
"""For all rules on one entry: a few milliseconds of Python, once per entry on every agent. Guess."""
NUMBER_MAX: Final = 1 << 128
BRACKETS_MAX: Final = 64
"""Opening ones, wherever they stand: how deep brackets may be nested differs between versions of Python's parser, and agents of
two versions have to take the same rules."""

Function = Callable[..., Any]
"""Takes the budget first, then what the expression hands over. Pure, and it spends a step for whatever it loops over."""


class Undecided(Exception):
    """Out of steps, or the expression makes no sense of what it was given."""


class Budget:
    __slots__ = ("left",)

    def __init__(self, steps: int = STEPS_MAX) -> None:
        self.left = steps

    def spend(self, steps: int = 1) -> None:
        self.left -= steps
        if self.left < 0:
            raise Undecided("out of steps")

    def spend_on(self, value: object) -> None:
        """For going through it once."""
        self.spend(1 + (len(value) >> 4 if isinstance(value, str | bytes | list | tuple | dict) else 0))


class Scope:
    """What an expression sees while it runs."""

    __slots__ = ("budget", "functions", "names")

    def __init__(self, names: Mapping[str, Any], functions: Mapping[str, Function], budget: Budget) -> None:
        self.names, self.functions, self.budget = names, functions, budget

    def with_name(self, name: str, value: object) -> Scope:
        return Scope({**self.names, name: value}, self.functions, self.budget)


Compiled = Callable[[Scope], Any]


def compile_untrusted(text: str, functions: Container[str]) -> Compiled:
    """`functions`: the names of those that there are. Raises Malformed, which says what is not allowed."""
    if len(text.encode("utf-8", "replace")) > EXPRESSION_BYTES_MAX:
        raise Malformed(f"an expression has at most {EXPRESSION_BYTES_MAX} bytes")
    if sum(map(text.count, "([{")) > BRACKETS_MAX:
        raise Malformed(f"an expression has at most {BRACKETS_MAX} brackets")
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise Malformed(f"not an expression: {error}") from None
    if sum(1 for _ in ast.walk(tree)) > NODES_MAX:
        raise Malformed("an expression with too many parts")
    for node in ast.walk(tree):
        name = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else "any"
        if name not in ("any", "all") and name not in functions:
            raise Malformed(f"there is no function {name}")
    return _compile(tree.body, DEPTH_MAX)


class Reads(NamedTuple):
    """What an expression looks at, as far as that can be told without running it."""

    names: frozenset[str]
    functions: frozenset[str]
    pattern: str | None
    """It is false for every path that this pattern does not match: it is `matches(path, pattern)`, or that `and` more."""
    call: tuple[str, ...] | None
    """It is nothing but one function, called with names: the function, then these."""


def reads_of(text: str) -> Reads:
    """Of what `compile_untrusted` has taken."""
    tree = ast.parse(text.strip(), mode="eval").body
    called = frozenset(n.func.id for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name))
    names = frozenset(n.id for n in ast.walk(tree) if isinstance(n, ast.Name))
    pattern, call = None, None
    first = tree.values[0] if isinstance(tree, ast.BoolOp) and isinstance(tree.op, ast.And) else tree
    match first:
        case ast.Call(ast.Name("matches"), [ast.Name("path"), ast.Constant(str(text))], []):
            pattern = text
    match tree:
        case ast.Call(ast.Name(function), arguments, []) if all(isinstance(each, ast.Name) for each in arguments):
            call = (function, *[each.id for each in arguments if isinstance(each, ast.Name)])
    return Reads(names - called, called, pattern, call)


def decide(compiled: Compiled, scope: Scope) -> bool:
    """Raises Undecided and nothing else."""
    try:
        return bool(compiled(scope))
    except (TypeError, ValueError, KeyError, IndexError, ArithmeticError, RecursionError) as error:
        raise Undecided(str(error)) from error


# ---- parts


def _compile(node: ast.AST, depth: int) -> Compiled:
    if depth == 0:
        raise Malformed("an expression that is nested too deep")
    make = _MAKERS.get(type(node))
    if make is None:
        raise Malformed(f"{type(node).__name__} is not allowed in a rule")
    return make(node, depth - 1)


def _constant(node: ast.Constant, _depth: int) -> Compiled:
    value = node.value
    if not (value is None or isinstance(value, bool | int | float | str | bytes)):
        raise Malformed(f"{value!r} is not allowed in a rule")
    return lambda _scope: value


def _ascii(name: str) -> str:
    """Which other letters a name may have depends on the version of Python."""
    if not name.isascii():
        raise Malformed("names are ASCII")
    return name


def _name(node: ast.Name, _depth: int) -> Compiled:
    name = _ascii(node.id)

    def run(scope: Scope) -> Any:
        scope.budget.spend()
        if name not in scope.names:
            raise Undecided(f"nothing is called {name}")
        return scope.names[name]

    return run


def _all_of(node: ast.BoolOp, depth: int) -> Compiled:
    parts = [_compile(part, depth) for part in node.values]
    if isinstance(node.op, ast.And):
        return lambda scope: all(part(scope) for part in parts)
    return lambda scope: any(part(scope) for part in parts)


def _unary(node: ast.UnaryOp, depth: int) -> Compiled:
    part = _compile(node.operand, depth)
    if isinstance(node.op, ast.Not):
        return lambda scope: not part(scope)
    if isinstance(node.op, ast.USub):
        return lambda scope: -part(scope)
    raise Malformed("only `not` and `-` stand before something")


_ARITHMETIC: Final[dict[type[ast.AST], Callable[[Any, Any], Any]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}


def _arithmetic(node: ast.BinOp, depth: int) -> Compiled:
    calculate = _ARITHMETIC.get(type(node.op))
    if calculate is None:
        raise Malformed("only + - * // % calculate")
    left, right, is_sum = _compile(node.left, depth), _compile(node.right, depth), isinstance(node.op, ast.Add)

    def run(scope: Scope) -> Any:
        first, second = left(scope), right(scope)
        scope.budget.spend_on(first)
        scope.budget.spend_on(second)
        if not (_is_number(first) and _is_number(second)) and not (is_sum and type(first) is type(second) in (str, list)):
            raise Undecided("only numbers are calculated with")
        found = calculate(first, second)
        if isinstance(found, int) and abs(found) > NUMBER_MAX:
            raise Undecided("a number that is too large")
        return found

    return run


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _contains(item: Any, place: Any) -> bool:
    if isinstance(place, str):
        return isinstance(item, str) and item in place
    return place is not None and item in place


_COMPARISONS: Final[dict[type[ast.AST], Callable[[Any, Any], bool]]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: _contains,
    ast.NotIn: lambda item, place: not _contains(item, place),
    ast.Is: operator.eq,
    ast.IsNot: operator.ne,
}


def _compare(node: ast.Compare, depth: int) -> Compiled:
    parts = [_compile(part, depth) for part in (node.left, *node.comparators)]
    tests = [_COMPARISONS[type(test)] for test in node.ops]

    def run(scope: Scope) -> bool:
        before = parts[0](scope)
        for test, part in zip(tests, parts[1:], strict=True):
            after = part(scope)
            scope.budget.spend_on(before)
            scope.budget.spend_on(after)
            if not test(before, after):
                return False
            before = after
        return True

    return run


def _choice(node: ast.IfExp, depth: int) -> Compiled:
    test, yes, no = (_compile(part, depth) for part in (node.test, node.body, node.orelse))
    return lambda scope: yes(scope) if test(scope) else no(scope)


def _list(node: ast.List | ast.Tuple | ast.Set, depth: int) -> Compiled:
    parts = [_compile(part, depth) for part in node.elts]
    return lambda scope: [part(scope) for part in parts]


def _attribute(node: ast.Attribute, depth: int) -> Compiled:
    whole, name = _compile(node.value, depth), _ascii(node.attr)
    return lambda scope: _item(whole(scope), name, scope)


def _subscript(node: ast.Subscript, depth: int) -> Compiled:
    if isinstance(node.slice, ast.Slice):
        raise Malformed("[a:b] is not allowed in a rule")
    whole, key = _compile(node.value, depth), _compile(node.slice, depth)
    return lambda scope: _item(whole(scope), key(scope), scope)


def _item(whole: Any, key: Any, scope: Scope) -> Any:
    """Of a map or a list; null where nothing is. Python's own attributes are out of reach: `whole` is only ever looked up."""
    scope.budget.spend()
    if isinstance(whole, Mapping):
        return whole.get(key)
    if isinstance(whole, list | tuple) and type(key) is int:
        return whole[key] if -len(whole) <= key < len(whole) else None
    return None


def _call(node: ast.Call, depth: int) -> Compiled:
    if not isinstance(node.func, ast.Name) or node.keywords or any(isinstance(part, ast.Starred) for part in node.args):
        raise Malformed("a rule calls functions by their name, with plain arguments")
    name = node.func.id
    if name in ("any", "all"):
        return _quantifier(name, node, depth)
    parts = [_compile(part, depth) for part in node.args]

    def run(scope: Scope) -> Any:
        scope.budget.spend()
        return scope.functions[name](scope.budget, *[part(scope) for part in parts])

    return run


def _quantifier(name: str, node: ast.Call, depth: int) -> Compiled:
    if len(node.args) != 1 or not isinstance(node.args[0], ast.GeneratorExp) or len(node.args[0].generators) != 1:
        raise Malformed(f"{name}(... for x in ...) is the only form")
    loop = node.args[0].generators[0]
    if not isinstance(loop.target, ast.Name):
        raise Malformed("a loop names one thing")
    variable, over = _ascii(loop.target.id), _compile(loop.iter, depth)
    test, filters = _compile(node.args[0].elt, depth), [_compile(part, depth) for part in loop.ifs]
    wanted = name == "any"

    def run(scope: Scope) -> bool:
        for item in _items(over(scope)):
            scope.budget.spend()
            inner = scope.with_name(variable, item)
            if all(each(inner) for each in filters) and bool(test(inner)) is wanted:
                return wanted
        return not wanted

    return run


def _items(value: Any) -> Sequence[Any]:
    if value is None:
        return []
    if isinstance(value, list | tuple):
        return value
    if isinstance(value, Mapping):
        return list(value)
    raise Undecided("only lists and maps are gone through")


_MAKERS: Final[dict[type[ast.AST], Callable[[Any, int], Compiled]]] = {
    ast.Constant: _constant,
    ast.Name: _name,
    ast.BoolOp: _all_of,
    ast.UnaryOp: _unary,
    ast.BinOp: _arithmetic,
    ast.Compare: _compare,
    ast.IfExp: _choice,
    ast.List: _list,
    ast.Tuple: _list,
    ast.Set: _list,
    ast.Attribute: _attribute,
    ast.Subscript: _subscript,
    ast.Call: _call,
}
