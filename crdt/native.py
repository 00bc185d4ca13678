"""The compiled build (setup.py): whether this is it, and what its classes say to the compiler."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mypy_extensions import mypyc_attr as mypyc_attr
else:

    def mypyc_attr(**_attributes):
        """Read by mypyc while it compiles, and nothing to the interpreter: so nobody has to install mypy_extensions."""
        return lambda cls: cls


def state_of(one: object) -> dict[str, Any]:
    """Its attributes, by name. Raises TypeError for an object that has slots."""
    found = one.__getstate__()
    if not isinstance(found, dict):
        raise TypeError(f"{type(one).__name__} does not tell its attributes")
    return found


def build() -> str:
    """`compiled` or `interpreted`."""
    found = find_spec("crdt.replica")
    return "interpreted" if found is None or str(found.origin).endswith(".py") else "compiled"
