"""Prefixes as people write them."""

from __future__ import annotations

import pytest

from mesh.errors import InvalidPath
from mesh.paths import PathLike, parse_prefix


@pytest.mark.parametrize(
    ("prefix", "path"),
    [
        ("", ()),
        ("/", ()),
        ((), ()),
        ("robots", ("robots",)),
        ("robots/", ("robots",)),
        ("robots/7", ("robots", "7")),
        (("a/b", b"\0"), ("a/b", b"\0")),
    ],
)
def test_a_prefix_is_whole_segments(prefix: PathLike, path: tuple[str | bytes, ...]) -> None:
    assert parse_prefix(prefix) == path


@pytest.mark.parametrize("prefix", ["//", "/a", "a//b", "a//", "x" * 300, "/".join("x" * 17)])
def test_what_is_no_prefix_is_refused(prefix: str) -> None:
    with pytest.raises(InvalidPath):
        parse_prefix(prefix)
