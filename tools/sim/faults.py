"""Fault histories drawn by seed, from the kinds of faults that a run turns on.

A hunt (tools.sim.hunt) turns on a random subset in each run: with everything on all the time the faults mask each other, and a
subset reaches states that the full set never does (Groce et al., "Swarm testing", ISSTA 2012). A history is a script
(tools.sim.script), so it can be printed, replayed and cut down line by line.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple, TypeAlias

from mesh.testing import stream
from tools.sim.script import Line
from tools.sim.units import duration_text, hosts_text


class Ground(NamedTuple):
    """What a history is drawn over."""

    hosts: int
    seconds: float
    """Length of the fault phase."""
    rng: random.Random
    pace: float = 1.0
    """How much longer everything takes than on a LAN: faults come as much more seldom, and last as much longer. LoRa agents that
    crash every few seconds never meet: a run of them would only show that too many shelves are given up (`crowd`).
    """


Draw: TypeAlias = Callable[[Ground], Iterable[Line]]


QUEUES: Final = (0, 0, 1_000, 64 * 1024)
"""Bytes that wait at most before a narrow link, from a radio that sends one datagram at a time to a router's bufferbloat. Two
agents say a few kilobytes a second to each other: of 64 kB nothing is ever dropped, of these something in half of the seeds."""


def _line(at: float, verb: str, *words: str, **options: str) -> Line:
    return Line(verb, words, options, round(at, 3))


def _some(ground: Ground, most: int) -> list[int]:
    """At least one host, at most `most` and never all."""
    count = ground.rng.randint(1, max(1, min(most, ground.hosts - 1)))
    return sorted(ground.rng.sample(range(ground.hosts), count))


def _stretch(ground: Ground, longest: float) -> tuple[float, float]:
    """Start and end of one fault inside the phase."""
    length = min(ground.seconds, ground.rng.uniform(0.1 * ground.pace, longest))
    start = ground.rng.uniform(0.0, ground.seconds - length)
    return start, start + length


def _times(ground: Ground, per_minute: float) -> range:
    """How often: at least once, about so often per minute of faults on a LAN."""
    return range(max(1, round(ground.rng.uniform(0.5, 1.5) * per_minute * ground.seconds / 60 / ground.pace)))


def lossy(ground: Ground) -> Iterable[Line]:
    rng = ground.rng
    start, end = _stretch(ground, ground.seconds)
    yield _line(start, "link", "*", ">", "*", loss=f"{rng.choice((1, 5, 10, 20, 30))}%")
    yield _line(end, "link", "*", ">", "*", loss="base")


def duplicating(ground: Ground) -> Iterable[Line]:
    start, end = _stretch(ground, ground.seconds)
    yield _line(start, "link", "*", ">", "*", duplicate=f"{ground.rng.choice((1, 5, 20))}%")
    yield _line(end, "link", "*", ">", "*", duplicate="base")


def reordering(ground: Ground) -> Iterable[Line]:
    rng = ground.rng
    start, end = _stretch(ground, ground.seconds)
    yield _line(
        start, "link", "*", ">", "*", reorder=f"{rng.choice((1, 10, 30))}%", reorder_delay=f"{rng.choice((5, 50, 500))}ms"
    )
    yield _line(end, "link", "*", ">", "*", reorder="base")


def slow_links(ground: Ground) -> Iterable[Line]:
    rng = ground.rng
    start, end = _stretch(ground, ground.seconds / 2)
    who = hosts_text(_some(ground, ground.hosts // 2))
    low = rng.choice((1, 20, 100))
    yield _line(start, "link", who, "=", "*", delay=rng.choice((f"{low}-{low * 3}ms", f"lognormal:{low}ms,0.8")))
    yield _line(end, "link", who, "=", "*", delay="base")


def partition(ground: Ground) -> Iterable[Line]:
    for number in _times(ground, 2):
        start, end = _stretch(ground, ground.seconds / 2)
        side = _some(ground, ground.hosts // 2)
        rest = sorted(set(range(ground.hosts)) - set(side))
        yield _line(start, "cut", hosts_text(side), "|", hosts_text(rest), name=f"p{number}")
        yield _line(end, "mend", f"p{number}")


def one_way(ground: Ground) -> Iterable[Line]:
    for number in _times(ground, 2):
        start, end = _stretch(ground, ground.seconds / 3)
        sources, targets = _some(ground, ground.hosts // 2), _some(ground, ground.hosts // 2)
        yield _line(start, "cut", hosts_text(sources), ">", hosts_text(targets), name=f"w{number}")
        yield _line(end, "mend", f"w{number}")


def flapping(ground: Ground) -> Iterable[Line]:
    """A radio that comes and goes every second or so, at a LAN's pace."""
    rng, pace, who = ground.rng, ground.pace, _some(ground, max(1, ground.hosts // 4))
    at, end = _stretch(ground, ground.seconds)
    rest = hosts_text(sorted(set(range(ground.hosts)) - set(who)))
    number = 0
    while at < end and number < 100:
        up = min(at + rng.uniform(0.1, 1.5) * pace, end)
        yield _line(at, "cut", hosts_text(who), "|", rest, name=f"f{number}")
        yield _line(up, "mend", f"f{number}")
        at, number = up + rng.uniform(0.1, 2.0) * pace, number + 1


def half_detached(ground: Ground) -> Iterable[Line]:
    start, end = _stretch(ground, ground.seconds)
    who = str(ground.rng.randrange(ground.hosts))
    yield _line(start, "link", who, "=", "*", loss=f"{ground.rng.choice((50, 70, 90))}%")
    yield _line(end, "link", who, "=", "*", loss="base")


def black_hole(ground: Ground) -> Iterable[Line]:
    start, end = _stretch(ground, ground.seconds)
    who = hosts_text(_some(ground, max(1, ground.hosts // 3)))
    yield _line(start, "link", who, "=", "*", mtu=str(ground.rng.choice((576, 900, 1_100))))
    yield _line(end, "link", who, "=", "*", mtu="base")


def narrow(ground: Ground) -> Iterable[Line]:
    start, end = _stretch(ground, ground.seconds / 2)
    who = hosts_text(_some(ground, max(1, ground.hosts // 3)))
    width, queue = ground.rng.choice(("16kbit/s", "64kbit/s", "250kbit/s")), ground.rng.choice(QUEUES)
    yield _line(start, "link", who, "=", "*", bandwidth=width, queue=str(queue))
    yield _line(end, "link", who, "=", "*", bandwidth="base", queue="base")


def clocks(ground: Ground) -> Iterable[Line]:
    """Drift up to 500 ppm (a bad crystal) and jumps. More than an hour off stops the writer, by design, so most are smaller."""
    rng = ground.rng
    for _ in _times(ground, 4):
        who = str(rng.randrange(ground.hosts))
        at = rng.uniform(0.0, ground.seconds)
        jump = rng.choice((rng.uniform(-2, 2), rng.uniform(-600, 600), rng.choice((-86_400.0, 86_400.0))))
        yield _line(at, "clock", who, jump=duration_text(round(jump, 3)), drift=str(rng.randint(-500, 500)))


def crashes(ground: Ground) -> Iterable[Line]:
    for _ in _times(ground, 4):
        start, end = _stretch(ground, ground.seconds / 2)
        who = str(ground.rng.randrange(ground.hosts))
        yield _line(start, "crash", who)
        yield _line(end, "restart", who, disk="kept")


def amnesia(ground: Ground) -> Iterable[Line]:
    """The disk is lost, or an old copy of it comes back."""
    for _ in _times(ground, 2):
        start, end = _stretch(ground, ground.seconds / 2)
        who = str(ground.rng.randrange(ground.hosts))
        yield _line(ground.rng.uniform(0.0, start), "backup", who)
        yield _line(start, "crash", who)
        yield _line(end, "restart", who, disk=ground.rng.choice(("lost", "old")))


def power_cut(ground: Ground) -> Iterable[Line]:
    """Several at once, as on one battery."""
    start, end = _stretch(ground, ground.seconds / 2)
    who = hosts_text(_some(ground, ground.hosts - 1))
    yield _line(start, "crash", who)
    yield _line(end, "restart", who, disk="kept")


def pauses(ground: Ground) -> Iterable[Line]:
    for _ in _times(ground, 6):
        at = ground.rng.uniform(0.0, ground.seconds)
        length = ground.rng.choice((0.05, 0.3, 1.0, 3.0, 10.0))
        length = min(length * ground.pace, max(length, ground.seconds))
        yield _line(at, "pause", str(ground.rng.randrange(ground.hosts)), duration_text(length))


def bad_disks(ground: Ground) -> Iterable[Line]:
    start, end = _stretch(ground, ground.seconds)
    who = hosts_text(_some(ground, max(1, ground.hosts // 2)))
    yield _line(start, "disk", who, *ground.rng.choice((("full",), ("slow", "300ms"), ("slow", "2s"))))
    yield _line(end, "disk", who, "good")


def roaming(ground: Ground) -> Iterable[Line]:
    for number in _times(ground, 2):
        yield _line(
            ground.rng.uniform(0.0, ground.seconds),
            "move",
            str(ground.rng.randrange(ground.hosts)),
            f"172.16.{number % 250}.{ground.rng.randint(1, 250)}",
        )


def leaving(ground: Ground) -> Iterable[Line]:
    start, end = _stretch(ground, ground.seconds / 2)
    who = str(ground.rng.randrange(ground.hosts))
    yield _line(start, "leave", who)
    yield _line(end, "restart", who, disk="kept")


def lying_disks(ground: Ground) -> Iterable[Line]:
    """A card that reports what it has not stored: after a crash its log ends earlier than anybody was told."""
    start, end = _stretch(ground, ground.seconds)
    who = _some(ground, max(1, ground.hosts // 3))
    yield _line(start, "disk", hosts_text(who), "lying")
    for host in who:
        crash = ground.rng.uniform(start, end)
        yield _line(crash, "crash", str(host))
        yield _line(ground.rng.uniform(crash, end), "restart", str(host), disk="kept")
    yield _line(end, "disk", hosts_text(who), "good")


KINDS: Final[dict[str, Draw]] = {
    "loss": lossy,
    "duplication": duplicating,
    "reordering": reordering,
    "delay": slow_links,
    "partition": partition,
    "one-way": one_way,
    "flapping": flapping,
    "half-detached": half_detached,
    "black-hole": black_hole,
    "bandwidth": narrow,
    "clocks": clocks,
    "crash": crashes,
    "amnesia": amnesia,
    "power-cut": power_cut,
    "pause": pauses,
    "disk": bad_disks,
    "roaming": roaming,
    "leave": leaving,
    "lying-disk": lying_disks,
}


SWARM_SHARE: Final = 0.35
"""Of all kinds in one run of a hunt: six or seven. Guess."""


def draw_history(seed: int, hosts: int, seconds: float, kinds: Iterable[str], pace: float = 1.0) -> list[Line]:
    """Every one of these kinds, each from its own numbers, ordered by time. What a fault broke is mended inside the phase."""
    lines: list[Line] = []
    for kind in kinds:
        lines += KINDS[kind](Ground(hosts, seconds, stream(seed, "fault", kind), pace))
    return sorted(lines, key=lambda line: line.at or 0.0)


def swarm(rng: random.Random) -> tuple[str, ...]:
    """The kinds of one run of a hunt; at least one."""
    chosen = tuple(kind for kind in KINDS if rng.random() < SWARM_SHARE)
    return chosen or (rng.choice(sorted(KINDS)),)
