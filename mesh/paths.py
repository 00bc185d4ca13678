"""Prefixes: which paths somebody wants to hear of, and the paths that are the mesh's own. Paths themselves are
`crdt.types.paths`."""

from __future__ import annotations

from crdt.ops import Path
from crdt.types.paths import PathLike, parse_path

__all__ = ["PathLike", "is_reserved", "parse_path", "parse_prefix"]


def parse_prefix(prefix: PathLike) -> Path:
    """Whole segments: `robots/` and `robots` mean the path `robots` and all below it; "", "/" and () mean everything.

    Raises InvalidPath.
    """
    if prefix in ("", "/", ()):
        return ()
    return parse_path(prefix.removesuffix("/") if isinstance(prefix, str) else prefix)


def is_reserved(path: Path) -> bool:
    """Whether no wildcard of a pattern reaches it (mesh.trust.patterns): its first segment begins with `$`."""
    return bool(path) and isinstance(path[0], str) and path[0].startswith("$")
