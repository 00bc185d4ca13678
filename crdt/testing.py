"""Hold a view to the laws: random histories on replicas that hear each other late, twice, in any order or not at all.

This is what the package tests its own types with, and it is yours for custom views (it needs `hypothesis`):

    from hypothesis import strategies as st
    from crdt.testing import History, check_view
    from crdt.types import custom_type

    def longest(shown):                                   # the view: a pure function of the shown cells
        return max((str(op.payload) for op in shown), key=lambda text: (len(text), text), default="")

    def expected(history: History) -> str:                # what it should show, in terms of who had seen what
        texts = [call.arguments[0] for call in history.unseen("set", by=("set", "clear"))]
        return max(texts, key=lambda text: (len(text), text), default="")

    def test_longest() -> None:
        calls = st.tuples(st.just("set"), st.text()) | st.tuples(st.just("clear"))
        check_view(custom_type(longest), calls, expected)

A *call* is the name of a method of the type's handle and its arguments. A history is made of calls on 2 to 4 replicas, of
deltas delivered, repeated, lost and overtaken, of pulls, of housekeeping at any moment and of restarts. Checked are:

- the value is what is specified for what the replica has seen: whenever it has seen all that this builds upon, and when all
  replicas have met;
- replicas that have seen the same show the same, whatever the order;
- the view is a function: it does not depend on the order of the cells, on earlier calls or on the replica that asks.
"""

from __future__ import annotations

import operator
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

from hypothesis import given, settings
from hypothesis import strategies as st

from crdt.delta import Delta
from crdt.errors import WriteRefused
from crdt.history import History, Operation, Write
from crdt.ids import Dot, ReplicaId, ShelfId, make_dot, shelf_id
from crdt.journal import JournalEntry
from crdt.ops import Key, Op, Path, Value
from crdt.replica import Replica
from crdt.types.base import Store, ViewType
from crdt.types.custom import Custom
from crdt.types.local import Local
from crdt.types.lookup import shown_of

__all__ = [
    "OPTIONS",
    "Call",
    "Deliver",
    "Do",
    "History",
    "Lose",
    "Network",
    "Operation",
    "Plan",
    "Restart",
    "Step",
    "Sync",
    "Tidy",
    "Trial",
    "Write",
    "check_view",
    "plans",
    "pull",
]

T = TypeVar("T")
R = TypeVar("R")

Call: TypeAlias = tuple[Any, ...]
"""The name of a handle's method, then its arguments."""

PATH: Final[Path] = ("value",)
REPLICAS: Final = (2, 4)
STEPS_MAX: Final = 40
OPTIONS: Final = settings(deadline=None, database=None, report_multiple_bugs=False)
"""100 histories per check (Hypothesis' own default), with no limit of time for one: a slow machine is no failure."""
FIRST_US: Final = 1_700_000_000_000_000
"""Wall clocks start here. They tick rarely and differ between replicas, so equal and contrary times happen."""
HEAL_ROUNDS_MAX: Final = 40


class Network:
    """Replicas in memory, and deltas on their way between them. Nothing moves unless it is told to."""

    def __init__(self, replicas: int = 3, *, skews: Sequence[int] = ()) -> None:
        """`skews`: how far each replica's clock is off, in microseconds."""
        self._skews = [*skews, *[0] * replicas][:replicas]
        self._births = 0
        self._disks: list[list[JournalEntry]] = [[] for _ in range(replicas)]
        self._ran: list[ShelfId | None] = [None] * replicas
        """The shelf of the last start that wrote to each disk."""
        self.now = FIRST_US
        self.in_flight: list[tuple[int, Delta]] = []
        """(receiver, delta), the oldest first."""
        self.replicas = [self._start(index) for index in range(replicas)]

    def _start(self, index: int) -> Local:
        self._births += 1
        shelf = shelf_id(ReplicaId(bytes((index + 1,)) * 8), self._births)
        return Local(shelf, now_wall=lambda: self.now + self._skews[index])

    def write(self, index: int, act: Callable[[Local], R]) -> R:
        """Let `act` write on a replica, and send what it wrote to all others."""
        result = act(self.replicas[index])
        self.send(index)
        return result

    def send(self, index: int) -> list[Delta]:
        """Seal what a replica has drafted, housekeeping too, and put it on its way."""
        deltas = self.replicas[index].seal()
        self.in_flight += [(to, delta) for delta in deltas for to in range(len(self.replicas)) if to != index]
        self._save(index)
        return deltas

    def deliver(self, which: int = 0, *, again: bool = False) -> tuple[int, Delta]:
        """One of those on their way arrives; `again`: and stays on its way, to arrive once more."""
        to, delta = self.in_flight[which]
        if not again:
            del self.in_flight[which]
        self.replicas[to].receive(delta)
        self._save(to)
        return to, delta

    def lose(self, which: int = 0) -> None:
        del self.in_flight[which]

    def sync(self, to: int, source: int) -> None:
        """`to` pulls all that `source` has and it lacks: statements, bodies, loose deltas."""
        reader, peer = self.replicas[to], self.replicas[source]
        for shelf in peer.shelves():
            pull(reader, peer, shelf)
        self._save(to)

    def heal(self) -> None:
        """Everybody pulls from everybody until nobody learns anything. Raises AssertionError if that does not end."""
        for _ in range(HEAL_ROUNDS_MAX):
            before = [replica.state_digest() for replica in self.replicas]
            for to in range(len(self.replicas)):
                for source in range(len(self.replicas)):
                    if to != source:
                        self.sync(to, source)
            if [replica.state_digest() for replica in self.replicas] == before:
                return
        raise AssertionError("the exchange does not come to rest")

    def restart(self, index: int) -> Local:
        """Stop a replica and start it again from its disk, on a new shelf. What was on its way to it is lost."""
        self.in_flight = [(to, delta) for to, delta in self.in_flight if to != index]
        replica = self.replicas[index] = self._start(index)
        replica.restore(self._disks[index], ran=self._ran[index])
        replica.take_over()
        self.send(index)
        return replica

    def wipe(self, index: int) -> Local:
        """Stop a replica and start it again without its disk. What it alone knew is lost."""
        self._disks[index].clear()
        self._ran[index] = None
        return self.restart(index)

    def _save(self, index: int) -> None:
        self._disks[index] += self.replicas[index].take_journal()
        self._ran[index] = self.replicas[index].shelf


def pull(reader: Replica, peer: Replica, shelf: ShelfId) -> None:
    """What the exchange of DESIGN section 6 does for one shelf, without datagrams."""
    if shelf == reader.shelf:
        return
    if peer.floor(shelf) > reader.reached(shelf):
        listing = peer.listing(shelf, reader.floor(shelf))
        assert listing is not None
        reader.jump(listing.head, listing.since, listing.entries, listing.bodies)
    for loose in [*peer.loose.get(shelf, {}).values()]:
        reader.receive(loose.delta, loose.mask)


# --- what may happen


@dataclass(frozen=True)
class Do:
    """A replica makes a call."""

    replica: int
    call: Call


@dataclass(frozen=True)
class Deliver:
    """A delta arrives, perhaps out of order; `again`: and will arrive again."""

    which: int
    again: bool


@dataclass(frozen=True)
class Lose:
    which: int


@dataclass(frozen=True)
class Sync:
    to: int
    source: int


@dataclass(frozen=True)
class Tidy:
    """A replica does housekeeping, as impolitely as the rules allow."""

    replica: int
    chore: str


@dataclass(frozen=True)
class Restart:
    """A replica stops and starts again from its own disk."""

    replica: int


Step: TypeAlias = Do | Deliver | Lose | Sync | Tidy | Restart


class Plan(NamedTuple):
    """A whole history, to be run by `run`."""

    replicas: int
    skews: list[int]
    steps: list[Step]


CHORES: Final[dict[str, Callable[[Replica], int]]] = {
    "drop": lambda replica: replica.drop(0.0, patience=0.0),
    "retire": lambda replica: replica.retire(lambda _: True),
    "repack": lambda replica: replica.repack(),
}
"""Housekeeping that waits for nobody."""


def plans(calls: st.SearchStrategy[Call], *, chores: bool = True, steps_max: int = STEPS_MAX) -> st.SearchStrategy[Plan]:
    """Histories of these calls. `chores`: with housekeeping and restarts."""
    who, which = st.integers(0, REPLICAS[1] - 1), st.integers(0, 31)
    kinds: dict[str, st.SearchStrategy[Step]] = {
        "do": st.builds(Do, who, calls),
        "deliver": st.builds(Deliver, which, st.booleans()),
        "lose": st.builds(Lose, which),
        "sync": st.builds(Sync, who, who),
        "tidy": st.builds(Tidy, who, st.sampled_from(sorted(CHORES))),
        "restart": st.builds(Restart, who),
    }
    often = ["do"] * 6 + ["deliver"] * 4 + ["sync"] * 2 + ["lose"] + (["tidy"] * 2 + ["restart"] if chores else [])
    step = st.sampled_from(often).flatmap(kinds.__getitem__)
    # Lists left to themselves have 8 steps on average: too few for anything to meet anything.
    steps = st.integers(0, steps_max).flatmap(lambda least: st.lists(step, min_size=least, max_size=steps_max))
    skews = st.lists(st.sampled_from([0, 0, 3, -3, 10**9]), max_size=REPLICAS[1])
    return st.builds(Plan, st.integers(*REPLICAS), skews, steps)


# --- running it


class _Recorder:
    """A replica as a `Store` that notes what is written through it."""

    def __init__(self, replica: Local) -> None:
        self._replica = replica
        self.drafted: list[tuple[Write, bool]] = []
        """(write, it covers all that its author held)."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._replica, name)

    def draft(self, type_code: int, path: Path, payload: Value, /, **options: Any) -> Dot:
        dot = self._replica.draft(type_code, path, payload, **options)
        covers_all = options.get("removed", False) or options["covers"] == "all"
        self.drafted.append((Write((type_code, path), dot.origin, make_dot(dot.seq, dot.index)), covers_all))
        return dot


@dataclass
class Trial:
    """A network, one value on it, and who has seen which write."""

    network: Network
    view: ViewType[Any] | None
    handle: Callable[[Store, Path], Any]
    specification: Callable[[History], Any]
    equal: Callable[[Any, Any], bool] = operator.eq
    operations: list[Operation] = field(default_factory=list)
    effects: dict[Write, frozenset[Write]] = field(default_factory=dict)
    """Write -> every write that whoever holds it knows, itself included."""
    known: dict[Write, frozenset[Write]] = field(default_factory=dict)
    """Write -> those that its author knew at the same path."""
    polite: bool = True
    """No housekeeping so far: nothing flickers, so every moment can be checked, not only the end."""

    def __post_init__(self) -> None:
        self.seen: list[set[Write]] = [set() for _ in self.network.replicas]

    def run(self, steps: Sequence[Step]) -> None:
        for step in steps:
            self.take(step)
            if self.polite:
                self.check_all()
        self.finish()

    def take(self, step: Step) -> None:
        network, number = self.network, len(self.network.replicas)
        network.now += bool(len(self.operations) % 3)
        match step:
            case Do(replica, call):
                self.do(replica % number, call)
            case Deliver(which, again) if network.in_flight:
                self._note(*network.deliver(which % len(network.in_flight), again=again))
            case Lose(which) if network.in_flight:
                network.lose(which % len(network.in_flight))
            case Sync(to, source) if to % number != source % number:
                network.sync(to % number, source % number)
                self.seen[to % number] |= self.seen[source % number]
            case Tidy(replica, chore):
                self.polite = False
                CHORES[chore](network.replicas[replica % number])
                network.send(replica % number)
            case Restart(replica):
                self.polite = False
                network.restart(replica % number)

    def do(self, index: int, call: Call) -> None:
        """Calls that are refused, or mean nothing now (an index out of range), did not happen."""
        recorder = _Recorder(self.network.replicas[index])
        handle = self.handle(recorder, PATH)
        saw = handle.value
        try:
            result = getattr(handle, call[0])(*call[1:])
        except (WriteRefused, LookupError, ValueError):
            assert not recorder.drafted, f"{call} failed half-way"
            return
        deltas = self.network.send(index)
        times = {(op.origin, op.dot): op.time for delta in deltas for op in delta.ops}
        held = self._held(index)
        for write, covers_all in recorder.drafted:
            at_path = [other for other in held if other.key == write.key]
            self.known[write] = frozenset().union(*(self.effects[other] for other in at_path))
            own = [other for other in at_path if other.origin == write.origin]
            kept = self.known[write] if covers_all else frozenset().union(*(self.effects[other] for other in own))
            self.effects[write] = kept | {write}
        writes = tuple(write for write, _ in recorder.drafted)
        self.seen[index].update(writes)
        if writes:
            shelf, time = writes[0].origin, max(times[write.origin, write.dot] for write in writes)
            self.operations.append(Operation(len(self.operations), index, shelf, call[0], call[1:], saw, result, writes, time))

    def _note(self, index: int, delta: Delta) -> None:
        for op in delta.ops:
            write = Write(op.key, op.origin, op.dot)
            if write in self.effects:
                self.seen[index].add(write)

    def _held(self, index: int) -> frozenset[Write]:
        """What a replica has seen, and what the same shelves wrote at the same paths before: a newer cell stands for the
        older ones."""
        newest: dict[tuple[Key, ShelfId], int] = {}
        for write in self.seen[index]:
            name = (write.key, write.origin)
            newest[name] = max(newest.get(name, 0), write.dot)
        return frozenset(write for write in self.effects if write.dot <= newest.get((write.key, write.origin), -1))

    # --- checking

    def value(self, index: int) -> Any:
        return self.handle(self.network.replicas[index], PATH).value

    def history(self, held: frozenset[Write]) -> History:
        return History(self.operations, held, self.known)

    def check_all(self) -> None:
        """Replicas that have seen the same show the same; those that have seen all that it builds upon show what is specified."""
        values: dict[frozenset[Write], Any] = {}
        for index in range(len(self.network.replicas)):
            held, value = self._held(index), self.value(index)
            if held in values:
                assert values[held] == value, f"replicas that have seen the same show {values[held]!r} and {value!r}"
            values[held] = value
            if self._has_whole_story(held):
                self._check(index, held)

    def finish(self) -> None:
        """All meet. Then everybody shows the same, it is what is specified, and the view is a function of the cells."""
        self.network.heal()
        everything = frozenset(self.effects)
        for index in range(len(self.network.replicas)):
            self._check(index, everything)
            self._check_function(index)

    def _has_whole_story(self, held: frozenset[Write]) -> bool:
        """Whether a replica that holds this has seen all that it builds upon, and no call by halves."""
        calls_whole = all(len(held.intersection(one.writes)) in (0, len(one.writes)) for one in self.operations)
        return calls_whole and all(self.known[write] <= held for write in held)

    def _check(self, index: int, held: frozenset[Write]) -> None:
        value, expected = self.value(index), self.specification(self.history(held))
        assert self.equal(value, expected), f"replica {index} shows {value!r}, specified is {expected!r}"

    def _check_function(self, index: int) -> None:
        if self.view is None:
            return
        shown: list[Op] = list(shown_of(self.network.replicas[index], self.view, PATH))
        first = self.view.view(shown)
        shuffled = random.Random(len(shown)).sample(shown, len(shown))
        for other in (shown[::-1], shuffled, shown):
            again = self.view.view(other)
            assert again == first, (
                f"the view gives {first!r} and {again!r} for the same cells: it depends on their order, or on earlier calls"
            )


def check_view(
    view: ViewType[Any] | None,
    calls: st.SearchStrategy[Call],
    specification: Callable[[History], Any],
    *,
    handle: Callable[[Store, Path], Any] | None = None,
    equal: Callable[[Any, Any], bool] = operator.eq,
    chores: bool = True,
    options: settings = OPTIONS,
) -> None:
    """Run random histories of `calls` and compare with `specification`. Raises AssertionError with the smallest history
    that differs.

    `handle`: the class whose methods the calls name, `Custom` (`set`, `clear`) without. `equal(shown, specified)`: where
    the specification leaves something open. `chores`: with housekeeping and restarts. `options`: how many histories, and
    whether to look for the smallest, which takes a minute.
    """
    if handle is None and view is None:
        raise TypeError("check_view needs a view or a handle")
    make = handle or (lambda store, path: Custom(store, path, view))  # type: ignore[arg-type]  # checked above

    @options
    @given(plans(calls, chores=chores))
    def holds(plan: Plan) -> None:
        network = Network(plan.replicas, skews=plan.skews)
        Trial(network, view, make, specification, equal).run(plan.steps)

    holds()
