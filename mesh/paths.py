"""Paths as people write them: `robots/7/pose`, split at `/`.

On the wire a path is an array of segments, text or bytes. A tuple of segments is taken as it is, for names that hold a `/` or are
no text at all.
"""

from __future__ import annotations

from typing import Final, TypeAlias

from crdt.ops import Path, Segment
from mesh.errors import InvalidPath

PathLike: TypeAlias = str | tuple[Segment, ...]

SEGMENTS_MAX: Final = 16
SEGMENT_BYTES_MAX: Final = 256


def parse_path(path: PathLike) -> Path:
    """Raises InvalidPath."""
    segments = _split(path)
    if not 1 <= len(segments) <= SEGMENTS_MAX:
        raise InvalidPath(f"{path!r} has {len(segments)} segments: a path has 1 to {SEGMENTS_MAX}")
    _check(path, segments)
    return segments


def parse_prefix(prefix: PathLike) -> Path:
    """Like a path, but "" and "/" mean everything, and a `/` at the end means nothing. Raises InvalidPath."""
    segments = _split(prefix.removesuffix("/") if isinstance(prefix, str) else prefix) if prefix else ()
    if segments == ("",):
        return ()
    if len(segments) > SEGMENTS_MAX:
        raise InvalidPath(f"{prefix!r} has {len(segments)} segments: a path has at most {SEGMENTS_MAX}")
    _check(prefix, segments)
    return segments


def show_path(path: Path) -> str:
    """For people. A segment of bytes is shown in hex behind `0x`; it is not what `parse_path` would read back."""
    return "/".join(segment if isinstance(segment, str) else f"0x{segment.hex()}" for segment in path)


def _split(path: PathLike) -> Path:
    return tuple(path.split("/")) if isinstance(path, str) else path


def _check(path: PathLike, segments: Path) -> None:
    for segment in segments:
        if not isinstance(segment, str | bytes):
            raise InvalidPath(f"{path!r}: a segment is text or bytes, not {type(segment).__name__}")
        try:
            size = len(segment.encode() if isinstance(segment, str) else segment)
        except UnicodeEncodeError:
            raise InvalidPath(f"{path!r}: segment {segment!r} cannot be written as UTF-8") from None
        if not size:
            raise InvalidPath(f"{path!r} has an empty segment: write a/b, without a / at either end or two in a row")
        if size > SEGMENT_BYTES_MAX:
            raise InvalidPath(f"{path!r}: segment {segment[:20]!r}... has {size} bytes, the limit is {SEGMENT_BYTES_MAX}")
