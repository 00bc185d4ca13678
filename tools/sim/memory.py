"""What a core holds in memory, container by container, without knowing its parts by name.

A queue that nobody empties shows in no state and no datagram. So every container that can be reached from a core is measured, and
named by the module, class and attribute that hold it: `mesh.sync.pull.Puller._pulls`.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Set
from typing import Any, Final

DEPTH_MAX: Final = 12
PACKAGES: Final = ("mesh.", "crdt.", "consensus_escalation.")
"""Whose objects are looked into; what hangs on the simulator's side of a callback is not the core's."""
NOT_OF_THE_CORE: Final = ("mesh.testing.", "mesh.presets")


def containers(core: object) -> dict[str, int]:
    """By `module.Class.attribute`: entries of the largest container there, those of containers inside it included."""
    found: Counter[str] = Counter()
    seen: set[int] = set()
    todo: list[object] = [core]
    while todo:
        one = todo.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        for name, value in _attributes(one):
            entries, inside = _measured(value, DEPTH_MAX)
            label = f"{type(one).__module__}.{type(one).__name__}.{name}"
            found[label] = max(found[label], entries)
            todo += inside
    return {name: count for name, count in found.items() if count}


def _attributes(one: object) -> Iterator[tuple[str, Any]]:
    for owner in type(one).__mro__:
        for name in getattr(owner, "__slots__", ()):
            if isinstance(name, str) and hasattr(one, name):
                yield name, getattr(one, name)
    yield from list(getattr(one, "__dict__", {}).items())


def _measured(value: Any, depth: int) -> tuple[int, list[object]]:
    """Entries of a container with those inside it, and the core's objects that hang there."""
    if isinstance(value, str | bytes | int | float | None | type | random.Random) or not depth:
        return 0, []
    if isinstance(value, Mapping):
        parts = [*value.keys(), *value.values()]
        entries = len(value)
    elif isinstance(value, list | tuple | deque | Set):
        parts = list(value)
        entries = len(parts) if not isinstance(value, tuple) else 0  # a tuple is a value, it does not grow
    else:
        module = type(value).__module__ + "."
        ours = module.startswith(PACKAGES) and not module.startswith(NOT_OF_THE_CORE)
        return 0, [value] if ours else []
    inside: list[object] = []
    for part in parts:
        more, objects = _measured(part, depth - 1)
        entries += more
        inside += objects
    return entries, inside
