"""Python functions that this mesh's own rules may call, beside the small language that all rules are written in.

    def in_pool(budget, pose):                       the steps that are left, then what the rule hands over
        budget.spend(len(POOL))                      one for whatever it loops over
        return any(inside(pose, corner) for corner in POOL)

    NodeConfig(..., predicates=[in_pool])            on every agent, voter or not: all of them judge what was agreed
    await node.declare_predicate("in_pool")          once; from then on it is a part of the rules, with the hash of its source
    await node.set_rule("dry", "refuse", 'matches(path, "robots/**") and in_pool(value)', "it cannot swim")

A predicate is a pure function of its arguments: no clock, no file, no state of its own, nothing that differs between machines or
versions of Python. What it raises, and running out of steps, meets the entry: the safe side. Voters endorse the declaration only
of what they have themselves, word for word. An agent that lacks it, or has another version, applies nothing any more and does
not vote, and its operator is told: it would judge otherwise than the rest. A new version is declared as the first one was, once
all agents have it. The hash is of the function's own source: what it calls elsewhere is yours to keep alike.
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any

from consensus_escalation.policy import PREDICATE_BYTES, Predicate, is_free_name
from mesh.errors import ConfigError


def predicates_of(functions: Sequence[Callable[..., Any]]) -> dict[str, Predicate]:
    """By name. Raises ConfigError."""
    found: dict[str, Predicate] = {}
    for function in functions:
        name = getattr(function, "__name__", "")
        if not inspect.isfunction(function) or inspect.iscoroutinefunction(function) or name == "<lambda>":
            raise ConfigError(f"predicates: {function!r} is no plain function with a name")
        if not is_free_name(name) or name in found:
            raise ConfigError(f"predicates: {name} is another function's name: use lower-case letters, digits and _ of your own")
        try:
            source = textwrap.dedent(inspect.getsource(function))
        except (OSError, TypeError) as error:
            raise ConfigError(f"predicates: the source of {name} cannot be read: {error}") from None
        found[name] = Predicate(function, blake2b(source.encode(), digest_size=PREDICATE_BYTES).hexdigest())
    return found
