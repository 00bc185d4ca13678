"""Plays scripts on a mesh: one method per verb.

| verb | |
| --- | --- |
| `run 2s` | time goes on |
| `set H PATH VALUE`, `clear H PATH` | write a register on host H |
| `count H PATH N` | add to a counter |
| `add H PATH E`, `discard H PATH E` | an add-wins set |
| `append H PATH V` | a list |
| `cut 0-3 \\| 4-7 name=a`, `cut 0 > 1 name=b`, `mend a`, `heal` | partitions, both ways or one way |
| `link 0-3 > * loss=10% delay=30ms ...` | properties of links (`=` both ways; a value `base` ends it) |
| `crash H`, `restart H disk=kept\\|lost\\|old`, `backup H`, `pause H 2s`, `leave H` | processes |
| `clone H TO` | machine TO starts with a copy of H's card: one identity, twice |
| `clock H jump=-1h drift=50` | clocks |
| `disk H full\\|good\\|slow 300ms\\|lying` | disks; a lying one loses at a crash what it had reported as stored |
| `move H ADDRESS` | another address |
| `converge LIMIT` | run until every running replica shows the same |
| `expect H PATH TYPE VALUE` | fails unless every one of these hosts shows this value |
| `show PATH`, `members H`, `floors` | for scenario tests: print |

Values are JSON, or text as it is.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

from mesh.errors import WriteRefused
from mesh.testing import FSYNC_DEFAULT, Fixed, Link, Mesh, SimulationError, VirtualNode, microseconds
from tools.sim import units
from tools.sim.script import Line
from tools.sim.units import TextError

Write = Callable[[VirtualNode], object]


class Stage:
    """`output`: what the verbs that print have printed."""

    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh
        self.output: list[str] = []
        self.played: Counter[str] = Counter()
        """Verbs performed."""
        self.refused = 0
        """Writes that the node refused with a typed error, as it may."""
        self._base = mesh.setup.link
        self._verbs: dict[str, Callable[[Line], None]] = {
            name.removeprefix("verb_"): getattr(self, name) for name in dir(self) if name.startswith("verb_")
        }

    def play(self, lines: Sequence[Line]) -> None:
        """Lines without a time happen now, in order; those with a time when it has come, counted from this call."""
        start = self.mesh.world.time
        for line in lines:
            self.check(line)
            if line.at is None:
                self.perform(line)
            else:
                self.mesh.world.at(start + microseconds(line.at), lambda line=line: self.perform(line))  # type: ignore[misc]  # bound now

    def check(self, line: Line) -> None:
        if line.verb not in self._verbs:
            raise TextError(f"there is no verb {line.verb!r}; there are {', '.join(sorted(self._verbs))}")

    def perform(self, line: Line) -> None:
        self.played[line.verb] += 1
        try:
            self._verbs[line.verb](line)
        except (IndexError, KeyError) as error:
            raise TextError(f"{line}: something is missing, see tools/sim/stage.py") from error

    def say(self, text: str) -> None:
        self.output.append(text)

    # ---- time

    def verb_run(self, line: Line) -> None:
        self.mesh.run(units.seconds(line.words[0]))

    def verb_converge(self, line: Line) -> None:
        before, limit = self.mesh.now, units.seconds(line.words[0])
        if not self.mesh.run_until(self.mesh.converged, limit):
            raise SimulationError(f"not converged within {limit:g} s")
        self.say(f"converged after {self.mesh.now - before:.2f} s")

    # ---- writes

    def verb_set(self, line: Line) -> None:
        self._write(line, lambda node: node.register(line.words[1]).set(_value(line.words[2])))

    def verb_clear(self, line: Line) -> None:
        self._write(line, lambda node: node.register(line.words[1]).clear())

    def verb_count(self, line: Line) -> None:
        self._write(line, lambda node: node.counter(line.words[1]).add(int(line.words[2])))

    def verb_add(self, line: Line) -> None:
        self._write(line, lambda node: node.set(line.words[1]).add(_value(line.words[2])))

    def verb_discard(self, line: Line) -> None:
        self._write(line, lambda node: node.set(line.words[1]).discard(_value(line.words[2])))

    def verb_append(self, line: Line) -> None:
        self._write(line, lambda node: node.list(line.words[1]).append(_value(line.words[2])))

    def _write(self, line: Line, write: Write) -> None:
        for number in self._hosts(line.words[0]):
            if not self.mesh.hosts[number].running or self.mesh.hosts[number].paused:
                continue
            try:
                write(self.mesh.node(number))
            except WriteRefused as error:
                self.refused += 1
                self.say(f"{number}: {type(error).__name__}: {error}")

    # ---- the network

    def verb_cut(self, line: Line) -> None:
        left, way, right = line.words
        name = line.options.get("name", "cut")
        if way == ">":
            self.mesh.cut_one_way(self._hosts(left), self._hosts(right), name)
        else:
            self.mesh.cut(self._hosts(left), self._hosts(right), name=name)

    def verb_mend(self, line: Line) -> None:
        self.mesh.mend(line.words[0])

    def verb_heal(self, line: Line) -> None:
        self.mesh.heal()

    def verb_link(self, line: Line) -> None:
        left, way, right = line.words
        network = self.mesh.world.network
        if left == right == "*":
            network.default = self._link(network.default, line.options)
            network.links = {pair: self._link(link, line.options) for pair, link in network.links.items()}
            return
        pairs = [(source, target) for source in self._hosts(left) for target in self._hosts(right) if source != target]
        if way == "=":
            pairs += [(target, source) for source, target in pairs]
        for pair in pairs:
            network.links[pair] = self._link(network.links.get(pair, network.default), line.options)

    def _link(self, link: Link, options: dict[str, str]) -> Link:
        changes: dict[str, Any] = {}
        for name, text in options.items():
            if name not in _LINK:
                raise TextError(f"a link has no {name!r}; it has {', '.join(_LINK)}")
            changes[name] = getattr(self._base, name) if text == "base" else _LINK[name](text)
        return replace(link, **changes)

    def verb_move(self, line: Line) -> None:
        self.mesh.move(int(line.words[0]), line.words[1])

    # ---- processes, clocks, disks

    def verb_crash(self, line: Line) -> None:
        for number in self._hosts(line.words[0]):
            self.mesh.crash(number)

    def verb_restart(self, line: Line) -> None:
        fate = line.options.get("disk", "kept")
        if fate not in ("kept", "lost", "old"):
            raise TextError(f"disk={fate}: kept, lost or old")
        for number in self._hosts(line.words[0]):
            self.mesh.restart(number, fate)  # type: ignore[arg-type]  # checked above

    def verb_clone(self, line: Line) -> None:
        (source,), (target,) = self._hosts(line.words[0]), self._hosts(line.words[1])
        self.mesh.clone(source, target)

    def verb_backup(self, line: Line) -> None:
        for number in self._hosts(line.words[0]):
            self.mesh.back_up(number)

    def verb_pause(self, line: Line) -> None:
        for number in self._hosts(line.words[0]):
            self.mesh.pause(number, units.seconds(line.words[1]))

    def verb_leave(self, line: Line) -> None:
        for number in self._hosts(line.words[0]):
            self.mesh.leave(number)

    def verb_clock(self, line: Line) -> None:
        for number in self._hosts(line.words[0]):
            clock = self.mesh.hosts[number].clock
            if "jump" in line.options:
                clock.jump(units.seconds(line.options["jump"]))
            if "drift" in line.options:
                clock.set_drift(float(line.options["drift"]), self.mesh.world.time)

    def verb_disk(self, line: Line) -> None:
        state = line.words[1]
        for number in self._hosts(line.words[0]):
            disk = self.mesh.hosts[number].disk
            if disk is None:
                continue
            disk.full = state == "full"
            disk.lie(state == "lying")
            disk.fsync = Fixed(microseconds(units.seconds(line.words[2]))) if state == "slow" else FSYNC_DEFAULT

    # ---- looking

    def verb_expect(self, line: Line) -> None:
        hosts, path, kind, text = line.words
        for number in self._hosts(hosts):
            found = self.mesh.read(number, path).get(kind)
            if _shown(found) != _shown(_value(text)):
                raise SimulationError(f"host {number} shows {_shown(found)} as the {kind} at {path}, expected {text}")

    def verb_show(self, line: Line) -> None:
        """Every type at the path, on every running host; hosts that show the same share a line."""
        same: dict[str, list[int]] = {}
        for number in self.mesh.running:
            values = self.mesh.read(number, line.words[0])
            text = ", ".join(f"{name} {_shown(value)}" for name, value in values.items()) or "nothing"
            same.setdefault(text, []).append(number)
        for text, numbers in same.items():
            self.say(f"{line.words[0]} on {units.hosts_text(numbers)}: {text}")

    def verb_members(self, line: Line) -> None:
        for number in self._hosts(line.words[0]):
            states = sorted(f"{member.name} {member.state.value}" for member in self.mesh.node(number).members())
            self.say(f"{number} knows {', '.join(states) or 'nobody'}")

    def verb_floors(self, line: Line) -> None:
        """How many shelves each host holds, and the sum of their floors."""
        for number in self.mesh.running:
            replica = self.mesh.peer(number).replica
            floors = [replica.floor(shelf) for shelf in replica.shelves()]
            self.say(f"{number}: {len(floors)} shelves, {sum(floors)} deltas")

    def _hosts(self, text: str) -> list[int]:
        return units.hosts(text, len(self.mesh.hosts))


def _optional_rate(text: str) -> int | None:
    return None if text == "none" else units.rate(text)


_LINK: Final[dict[str, Callable[[str], Any]]] = {
    "delay": units.delay,
    "loss": units.share,
    "duplicate": units.share,
    "reorder": units.share,
    "reorder_delay": lambda text: microseconds(units.seconds(text)),
    "mtu": int,
    "bandwidth": _optional_rate,
    "queue": int,
}


def _shown(value: Any) -> str:
    """The same text in every process: sets have no order of their own."""
    if isinstance(value, set | frozenset):
        return "{" + ", ".join(sorted(map(_shown, value))) + "}"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_shown(key)}: {_shown(item)}" for key, item in value.items()) + "}"
    return repr(value)


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
