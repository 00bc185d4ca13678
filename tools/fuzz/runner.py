"""Feeds targets, and cuts what broke one down to the least that still does."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from mesh.testing import stream
from tools.fuzz.limits import Alarm, bounded_memory
from tools.fuzz.subject import Target

SHRINK_SECONDS: Final = 20.0
"""Spent on one finding."""
TRACE_FRAMES_MAX: Final = 6
"""Of a finding: its innermost; a recursion without end has a thousand."""
FINDINGS_MAX: Final = 20
"""Of one target; then the rest of its inputs is left out."""

Progress = Callable[[Target, int], None]
"""Told now and then: so many inputs more have been fed."""
_STEP: Final = 250


@dataclass(slots=True)
class Finding:
    target: Target
    block: int
    inputs: tuple[bytes, ...]
    """The least that were found to do it, fed to a fresh start; empty when the end of the block broke without any of them."""
    error: str
    """One line."""
    trace: str

    @property
    def name(self) -> str:
        return f"{self.target.name}-{self.block}"


@dataclass(slots=True)
class Tally:
    """Of one target."""

    inputs: int = 0
    accepted: int = 0
    seconds: float = 0.0
    slowest_ms: float = 0.0
    """Of one input, on this machine, whatever else it did: to be looked at, never asserted."""
    findings: list[Finding] = field(default_factory=list)


def shares(targets: Sequence[Target], inputs: int) -> dict[str, int]:
    """Inputs by target, by weight; at least one each."""
    whole = sum(target.weight for target in targets)
    return {target.name: max(1, inputs * target.weight // whole) for target in targets}


def run(
    target: Target,
    inputs: int,
    seed: int,
    progress: Progress = lambda target, count: None,
    *,
    findings_max: int = FINDINGS_MAX,
    shrink_seconds: float = SHRINK_SECONDS,
    tally: Tally | None = None,
) -> Tally:
    """Fresh starts of a block each. Raises nothing for what is found. `tally`: to count into, for who may be interrupted."""
    tally, seen = Tally() if tally is None else tally, set[str]()
    block = 0
    while tally.inputs < inputs and len(tally.findings) < findings_max:
        with bounded_memory():
            error, fed = _run_block(target, seed, block, min(target.block, inputs - tally.inputs), tally, progress)
            if error is not None and _where(error) not in seen:
                seen.add(_where(error))
                tally.findings.append(_finding(target, block, fed, error, shrink_seconds))
        block += 1
    return tally


def _run_block(
    target: Target, seed: int, block: int, count: int, tally: Tally, progress: Progress
) -> tuple[Exception | None, list[bytes]]:
    source = target.source(stream(seed, target.name, block))
    began, fed = time.perf_counter(), list[bytes]()
    try:
        with Alarm() as alarm:
            alarm.set()
            subject = target.start()
            last = time.perf_counter()
            for number in range(1, count + 1):
                data = source()
                fed.append(data)
                tally.inputs += 1
                alarm.set()
                tally.accepted += subject.feed(data)
                now = time.perf_counter()
                tally.slowest_ms = max(tally.slowest_ms, (now - last) * 1e3)
                last = now
                if not number % _STEP:
                    progress(target, _STEP)
            alarm.set()
            subject.finish()
    except Exception as error:  # noqa: BLE001  # whatever comes out is what is looked for
        return error, fed
    finally:
        tally.seconds += time.perf_counter() - began
        progress(target, len(fed) % _STEP)
    return None, fed


def _where(error: BaseException) -> str:
    """Tells findings apart: the kind of error and the line that raised it, or what was asserted."""
    if isinstance(error, RecursionError | MemoryError):
        return type(error).__name__  # it strikes wherever the last bit was used up
    frame = traceback.extract_tb(error.__traceback__)[-1]
    said = "".join(char for char in str(error)[:60] if not char.isdigit()) if isinstance(error, AssertionError) else ""
    return f"{type(error).__name__} {frame.filename}:{frame.lineno} {said}"


def _finding(target: Target, block: int, fed: list[bytes], error: Exception, seconds: float) -> Finding:
    kept = shrink(target, fed, _where(error), seconds)
    text = "".join(traceback.format_exception(error, limit=-TRACE_FRAMES_MAX))
    return Finding(target, block, kept, f"{type(error).__name__}: {error}"[:500], text)


def feed_all(target: Target, inputs: Sequence[bytes]) -> None:
    """To a fresh start. Raises what the inputs make it raise."""
    with bounded_memory(), Alarm() as alarm:
        alarm.set()
        subject = target.start()
        for data in inputs:
            alarm.set()
            subject.feed(data)
        alarm.set()
        subject.finish()


def _fails(target: Target, inputs: Sequence[bytes], where: str) -> bool:
    try:
        feed_all(target, inputs)
    except Exception as error:  # noqa: BLE001  # as above
        return _where(error) == where
    return False


def shrink(target: Target, fed: Sequence[bytes], where: str, seconds: float = SHRINK_SECONDS) -> tuple[bytes, ...]:
    """Fewer inputs, then shorter ones, as long as the same thing breaks (delta debugging, Zeller and Hildebrandt 2002)."""
    end = time.perf_counter() + seconds
    kept = [*fed]
    if fed and _fails(target, fed[-1:], where):
        kept = [fed[-1]]
    size = max(1, len(kept) // 2)
    while len(kept) > 1 and time.perf_counter() < end:
        at, removed = 0, False
        while at < len(kept) and time.perf_counter() < end:
            candidate = kept[:at] + kept[at + size :]
            if _fails(target, candidate, where):
                kept, removed = candidate, True
            else:
                at += size
        if size == 1 and not removed:
            break
        size = max(1, size // 2)
    for place in range(len(kept)):
        kept = _shorten(target, kept, place, where, end)
    return tuple(kept)


def _shorten(target: Target, kept: list[bytes], place: int, where: str, end: float) -> list[bytes]:
    size = max(1, len(kept[place]) // 2)
    while size and time.perf_counter() < end:
        at = 0
        while at < len(kept[place]) and time.perf_counter() < end:
            data = kept[place]
            candidate = [*kept[:place], data[:at] + data[at + size :], *kept[place + 1 :]]
            if _fails(target, candidate, where):
                kept = candidate
            else:
                at += size
        size //= 2
    return kept
