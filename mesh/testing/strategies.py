"""Hypothesis strategies for tests of your own: what a mesh may be made to suffer, as steps that shrink and can be read.

    from hypothesis import given
    from mesh.testing import open_mesh
    from mesh.testing.strategies import calm, histories, script

    @given(histories(hosts=3))
    def test_my_program(history):
        with open_mesh(3) as mesh:
            for step in history:
                step.play(mesh)                 # and whatever your program does meanwhile
            calm(mesh)
            assert mesh.run_until(mesh.converged, 60.0, every=0.1), script(history)

A step is one line of the language that `mesh sim --script` plays: `str(step)` writes it, so a failure can be kept as a text file.
Needs `hypothesis`, which only tests have.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Final

from hypothesis import strategies as st

from mesh.errors import WriteRefused
from mesh.testing.mesh import DiskFate, Mesh
from mesh.testing.node import VirtualNode

Steps = list["Step"]

DISK_FATES: Final[tuple[DiskFate, ...]] = ("kept", "lost", "old")
JUMPS_SECONDS: Final = (-86_400, -600, -2, 2, 600, 86_400)
"""Of a wall clock: an NTP correction, a wrong zone, a dead battery."""
PAUSES_MS: Final = (50, 300, 1_000, 3_000, 10_000)
"""Up to longer than it takes to be taken for dead."""
LOSSES_PERCENT: Final = (0, 1, 10, 30)
PASSING_MS: Final = (1, 10, 50, 300, 1_000, 5_000)


@dataclass(frozen=True, slots=True)
class Step:
    """One line of a script."""

    verb: str
    words: tuple[str, ...] = ()
    options: tuple[tuple[str, str], ...] = ()
    act: Callable[[Mesh], object] = field(compare=False, repr=False, default=lambda mesh: None)

    def play(self, mesh: Mesh) -> bool:
        """Do it now. False for a write that was refused, as a write may be: by a wrong clock, or because nobody is there."""
        try:
            return self.act(mesh) is not False
        except WriteRefused:
            return False

    def __str__(self) -> str:
        return " ".join((self.verb, *map(shlex.quote, self.words), *(f"{name}={value}" for name, value in self.options)))


def script(steps: Iterable[Step]) -> str:
    """For a file: one step a line."""
    return "".join(f"{step}\n" for step in steps)


# ---- steps


def passing(milliseconds: int) -> Step:
    """Time goes on."""
    return Step("run", (f"{milliseconds}ms",), (), lambda mesh: mesh.run(milliseconds / 1e3))


def write(verb: str, host: int, path: str, value: Any = None) -> Step:
    """`verb`: set, clear, count, add, discard or append."""
    acts: dict[str, Callable[[VirtualNode], object]] = {
        "set": lambda node: node.register(path).set(value),
        "clear": lambda node: node.register(path).clear(),
        "count": lambda node: node.counter(path).add(value),
        "add": lambda node: node.set(path).add(value),
        "discard": lambda node: node.set(path).discard(value),
        "append": lambda node: node.list(path).append(value),
    }

    def act(mesh: Mesh) -> object:
        machine = mesh.hosts[host]
        return acts[verb](mesh.node(host)) if machine.running and not machine.paused else False

    words = (str(host), path) if verb == "clear" else (str(host), path, json.dumps(value))
    return Step(verb, words, (), act)


def crash(host: int) -> Step:
    return Step("crash", (str(host),), (), lambda mesh: mesh.crash(host))


def restart(host: int, disk: DiskFate = "kept") -> Step:
    return Step("restart", (str(host),), (("disk", disk),), lambda mesh: mesh.restart(host, disk))


def back_up(host: int) -> Step:
    return Step("backup", (str(host),), (), lambda mesh: mesh.back_up(host))


def pause(host: int, milliseconds: int) -> Step:
    return Step("pause", (str(host), f"{milliseconds}ms"), (), lambda mesh: mesh.pause(host, milliseconds / 1e3))


def leave(host: int) -> Step:
    return Step("leave", (str(host),), (), lambda mesh: mesh.leave(host))


def clock_jump(host: int, seconds: int) -> Step:
    return Step("clock", (str(host),), (("jump", f"{seconds}s"),), lambda mesh: mesh.hosts[host].clock.jump(seconds))


def cut(side: Iterable[int], hosts: int, *, one_way: bool = False) -> Step:
    """Between `side` and all others."""
    here = sorted(set(side))
    there = [number for number in range(hosts) if number not in here]
    words = (",".join(map(str, here)), ">" if one_way else "|", ",".join(map(str, there)))

    def act(mesh: Mesh) -> None:
        if one_way:
            mesh.cut_one_way(here, there)
        else:
            mesh.cut(here, there)

    return Step("cut", words, (), act)


def heal() -> Step:
    return Step("heal", (), (), Mesh.heal)


def loss(percent: int) -> Step:
    """On every link, from now on."""

    def act(mesh: Mesh) -> None:
        network = mesh.world.network
        network.default = replace(network.default, loss=percent / 100)
        network.links = {pair: replace(link, loss=percent / 100) for pair, link in network.links.items()}

    return Step("link", ("*", ">", "*"), (("loss", f"{percent}%"),), act)


def calm(mesh: Mesh) -> None:
    """Every fault ends, see `Mesh.calm`."""
    mesh.calm()


# ---- strategies


def hosts_of(count: int) -> st.SearchStrategy[int]:
    return st.integers(0, count - 1)


def writes(hosts: int, *, paths: int = 2) -> st.SearchStrategy[Step]:
    """Writes of several types. Few paths and few values, so that writers meet."""
    host, numbers = hosts_of(hosts), st.integers(0, 9)

    def of(verb: str, kind: str, values: st.SearchStrategy[Any]) -> st.SearchStrategy[Step]:
        names = st.integers(0, paths - 1).map(lambda number: f"{kind}/{number}")
        return st.builds(lambda at, path, value: write(verb, at, path, value), host, names, values)

    return st.one_of(
        of("set", "register", numbers),
        of("clear", "register", st.none()),
        of("count", "counter", st.sampled_from((1, 5, -2))),
        of("add", "set", st.integers(0, 3)),
        of("discard", "set", st.integers(0, 3)),
        of("append", "list", numbers),
    )


def cuts(hosts: int) -> st.SearchStrategy[Step]:
    """One side of a cut, never empty and never everybody."""
    sides = st.sets(hosts_of(hosts), min_size=1, max_size=hosts - 1)
    return st.builds(lambda side, one_way: cut(side, hosts, one_way=one_way), sides, st.booleans())


def process_faults(hosts: int) -> st.SearchStrategy[Step]:
    """What happens to one machine."""
    host = hosts_of(hosts)
    return st.one_of(
        st.builds(crash, host),
        st.builds(restart, host, st.sampled_from(DISK_FATES)),
        st.builds(back_up, host),
        st.builds(pause, host, st.sampled_from(PAUSES_MS)),
        st.builds(clock_jump, host, st.sampled_from(JUMPS_SECONDS)),
        st.builds(leave, host),
    )


def network_faults(hosts: int) -> st.SearchStrategy[Step]:
    return st.one_of(cuts(hosts), st.builds(heal), st.sampled_from(LOSSES_PERCENT).map(loss))


def faults(hosts: int) -> st.SearchStrategy[Step]:
    """Anything that can go wrong."""
    return st.one_of(network_faults(hosts), process_faults(hosts))


def pauses() -> st.SearchStrategy[Step]:
    """Time goes on, between one and a few thousand milliseconds."""
    return st.sampled_from(PASSING_MS).map(passing)


def histories(hosts: int, *, paths: int = 2, steps_max: int = 30) -> st.SearchStrategy[Steps]:
    """Writes, faults and time, in any order."""
    return st.lists(st.one_of(writes(hosts, paths=paths), pauses(), faults(hosts)), max_size=steps_max)
