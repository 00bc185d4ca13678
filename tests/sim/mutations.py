"""Bugs put in on purpose: each breaks one promise of the protocol, and the simulator has to find it.

A checker that lets its mutation through is worth nothing. Each mutation comes with a run that is known to reach the broken place;
the same run passes with the code as it is.

`python -m tests.sim.mutations [NAME ...]` plays them and says what each was found by.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from math import inf
from typing import Any, Final
from unittest import mock

import crdt
from crdt import journal
from crdt.housekeeping import drop
from crdt.ids import replica_of
from crdt.replica import HeadSet, LiveSet
from crdt.state import RULES, State
from crdt.types import bounded_counter
from mesh import housekeeping
from mesh.housekeeping import Tidying
from mesh.peer import Peer
from mesh.presets import LAN, PRESETS
from mesh.store.rows import Batch
from mesh.swim.beliefs import Beliefs
from mesh.swim.reconnect import Reconnect
from mesh.sync.copies import Copies
from mesh.sync.pull import Puller
from mesh.sync.serve import Server
from mesh.sync.sync import Sync
from mesh.testing import Boot, Mesh
from mesh.wire import packer
from tools.sim.history import Outcome, Run
from tools.sim.options import Options

Patch = Callable[[], AbstractContextManager[Any]]

BASE: Final = Options(nodes=4, seconds=10.0, rate=10.0, paths=1)
RESTARTS: Final = "1s crash 1\n2s restart 1\n3s crash 2\n4s restart 2\n5s restart 1\n6s restart 3"
TWICE: Final = "4s crash 0-3\n5s restart 0-3\n8s crash 0-3\n9s restart 0-3"
CUT: Final = "1s cut 0,1 | 2,3 name=a\n6s mend a"
AWAY: Final = "1s crash 3\n9s restart 3"
OLD: Final = "2s backup 1\n5s crash 1\n5.2s restart 1 disk=old"
LOST: Final = "5s restart 1 disk=lost"
LOST_AT_THE_END: Final = "9.999s restart 1 disk=lost"
"""Nobody writes afterwards, so no delta tells of those before."""
CHAIN: Final = """
0.9s cut 0 | 2,3 name=a
1s set 0 p x
1.01s cut 1 > 0 name=c
1.02s set 1 p y
1.03s cut 1 > 2,3 name=b
1.04s set 2 p z
6s mend a
6s mend b
6s mend c
"""
"""2 covers what it has not seen: z replaces y, which replaced x; y is gone when x comes."""


@dataclass(frozen=True)
class Mutation:
    name: str
    breaks: str
    options: Options
    patch: Patch
    found_by: tuple[str, ...]
    """Checkers, any of which may find it."""
    seeds: int = 3
    """How many runs, of which one at least reaches the broken place. More than one where nothing can be scripted."""
    only: tuple[str, ...] = ()
    """The checkers that look, where another would be first to find it. All without."""
    hasty: bool = False
    """Housekeeping without patience, so that seconds do for hours. Views may then flicker: only the end is held against them."""


# ---- the broken pieces


def _nothing(*_: Any, **__: Any) -> None:
    return None


def _replace(owner: Any, name: str, new: Any) -> Patch:
    return lambda: mock.patch.object(owner, name, new)


def _rules_without(*rules: str, builds: int = 1_000) -> Patch:
    """So many of the agents, the first that start, run a build without these rules."""

    def patch() -> AbstractContextManager[Any]:
        whole, broken = crdt.Replica, set[bytes]()

        def build(shelf: crdt.ShelfId, **options: Any) -> crdt.Replica:
            if len(broken) < builds:
                broken.add(replica_of(shelf))
            return whole(shelf, **options, rules=RULES.difference(rules) if replica_of(shelf) in broken else RULES)

        return mock.patch.object(crdt, "Replica", build)

    return patch


def _batch_without_journal(self: Peer) -> Batch | None:
    batch = _BATCH(self)
    return None if batch is None else replace(batch, journal=())


_BATCH: Final = Peer.batch
_TAKE_JOURNAL: Final = journal.take_journal


def _journal_without_ends(state: Any) -> list[Any]:
    return [entry for entry in _TAKE_JOURNAL(state) if not (isinstance(entry, LiveSet) and not entry.entry.mask)]


def _journal_without_heads(state: Any) -> list[Any]:
    return [entry for entry in _TAKE_JOURNAL(state) if not isinstance(entry, HeadSet)]


def _shows_bases_only(self: State, key: Any) -> list[Any]:
    return [op for op in _SHOWN(self, key) if op.origin == self.shelf or op.dot >> 8 <= self.reached(op.origin)]


_SHOWN: Final = State.shown


def _covers_nothing(self: Any, *_: Any, **__: Any) -> tuple[()]:
    return ()


def _impatient_drop(writer: Any, now: float, patience: float) -> int:
    return drop(writer, now, 0.0)


def _own_word(self: State, key: Any) -> list[Any]:
    shown = _SHOWN(self, key)
    return [op for op in shown if op.origin == self.shelf] or shown


def _only_added(shown: Any) -> dict[Any, Any]:
    return {origin: row._replace(taken=0) for origin, row in _ROWS_OF(shown).items()}


_ROWS_OF: Final = bounded_counter.rows_of


def _never_forgotten(self: Any, body: Any, *arguments: Any, **options: Any) -> Any:
    """A log of everything that ever came in, for debugging."""
    self.__dict__.setdefault("_everything", []).append(body)
    return _HANDLE(self, body, *arguments, **options)


_HANDLE: Final = Peer.handle_untrusted


def _same_birth(self: Mesh, boot: Boot) -> Peer:
    class Stuck(random.Random):
        def getrandbits(self, bits: int, /) -> int:
            return 7 if bits == 32 else super().getrandbits(bits)

    return _START(self, boot._replace(rng=Stuck(boot.rng.random())))


_START: Final = Mesh._start_peer


MUTATIONS: Final = [
    Mutation(
        "covers",
        "an overwrite covers nothing",
        replace(BASE, seconds=6.0),
        _replace(crdt.Replica, "_covers_of_write", _covers_nothing),
        ("views",),
    ),
    Mutation(
        "inherit",
        "a write forgets the covers of what it replaces",
        replace(BASE, rate=0.0, script=CHAIN),
        _rules_without("INHERIT"),
        ("views",),
        hasty=True,
    ),
    Mutation(
        "retire",
        "an absent cell goes while what it covers is still around",
        replace(BASE, rate=30.0, script=AWAY),
        _rules_without("RETIRE"),
        ("views", "equality", "convergence"),
        seeds=6,
        hasty=True,
    ),
    Mutation(
        "gc_floor",
        "one agent's build does not let absent cells go at gc_floor",
        replace(BASE, rate=30.0, types=("set",)),
        _rules_without("FLOORGC", builds=1),
        ("faults", "bases", "convergence"),
        seeds=3,
        hasty=True,
    ),
    Mutation(
        "full",
        "a suffix below gc_floor is taken for the whole, unverified",
        replace(BASE, seed=11, rate=40.0, types=("set",), script=AWAY),
        _rules_without("FULL", "VERIFY"),
        ("bases", "views", "equality", "convergence", "faults"),
        seeds=4,
        hasty=True,
    ),
    Mutation(
        "loose",
        "deltas above a gap are not shown",
        replace(BASE, script="0s link * > * loss=20%"),
        _replace(State, "shown", _shows_bases_only),
        ("views",),
    ),
    Mutation(
        "patience",
        "covered cells are dropped at once",
        replace(BASE, seconds=40.0, rate=25.0, script="0s link * > * reorder=30% reorder_delay=300ms"),
        _replace(crdt.housekeeping, "drop", _impatient_drop),
        ("views",),
        seeds=4,
    ),
    Mutation(
        "take over",
        "a start never takes over its former shelves",
        replace(BASE, script=RESTARTS, rest=120.0),
        _replace(crdt.Replica, "take_over", lambda self, final=False: 0),
        ("rest",),
    ),
    Mutation(
        "birth",
        "a restored backup goes on with its old shelf",
        replace(BASE, script=OLD),
        _replace(Mesh, "_start_peer", _same_birth),
        ("bases",),
        only=("bases",),
    ),
    Mutation(
        "journal",
        "writes never reach the disk",
        replace(BASE, script="5s crash 0-3\n6s restart 0-3"),
        _replace(Peer, "batch", _batch_without_journal),
        ("durability",),
    ),
    Mutation(
        "dead rows",
        "what died stays on the disk",
        replace(BASE, rate=40.0, types=("set",), script=TWICE),
        _replace(journal, "take_journal", _journal_without_ends),
        ("faults", "durability", "views"),
        seeds=3,
        hasty=True,
    ),
    Mutation(
        "heads",
        "heads are not stored",
        replace(BASE, script=RESTARTS),
        _replace(journal, "take_journal", _journal_without_heads),
        ("faults",),
    ),
    Mutation(
        "acknowledgement",
        "what is not on the disk is acknowledged",
        replace(BASE, script="0s disk * slow 2s"),
        _replace(Copies, "durable_seq", _nothing),
        ("copies",),
    ),
    Mutation(
        "want",
        "what is missing is never asked for",
        replace(BASE, script="0s link * > * loss=20%"),
        _replace(Puller, "offer", lambda *_, **__: False),
        ("convergence",),
    ),
    Mutation(
        "serve",
        "what is asked for is not served",
        replace(BASE, script=CUT),
        _replace(Server, "want_untrusted", _nothing),
        ("convergence",),
    ),
    Mutation(
        "digest",
        "replicas never compare",
        replace(BASE, script=LOST_AT_THE_END),
        _replace(Sync, "_digest_untrusted", _nothing),
        ("convergence",),
    ),
    Mutation(
        "listing",
        "statements of live ops are not taken",
        replace(BASE, seconds=8.0, rate=4.0, script="5s restart 0,2,3\n7s restart 1 disk=lost"),
        _replace(crdt.Replica, "jump", lambda *_, **__: False),
        ("convergence",),
    ),
    Mutation(
        "reconnect",
        "the dead are never called again",
        replace(BASE, seconds=20.0, rate=2.0, script="1s cut 0,1 | 2,3 name=a\n19s mend a"),
        _replace(Reconnect, "_call", _nothing),
        ("convergence",),
    ),
    Mutation(
        "burial",
        "suspects are never given up",
        replace(BASE, nodes=5, seconds=30.0, rate=2.0, script="1s crash 3\n29s restart 3"),
        _replace(Beliefs, "_ends_at", lambda *_: inf),
        ("membership",),
    ),
    Mutation(
        "refutation",
        "the suspected do not speak up",
        replace(BASE, seconds=25.0, rate=2.0, script="1s pause 3 10s\n12s pause 2 10s"),
        _replace(Beliefs, "_refute", _nothing),
        ("membership", "convergence"),
    ),
    Mutation(
        "datagram",
        "datagrams above the limit",
        replace(BASE, rate=60.0, paths=3, script=LOST),
        _replace(packer, "PLAIN_BYTES_MAX", 1_400),
        ("datagrams",),
    ),
    Mutation(
        "own word",
        "who wrote something shows that alone",
        replace(BASE, types=("counter",)),
        _replace(State, "shown", _own_word),
        ("equality",),
        only=("equality",),
    ),
    Mutation(
        "view",
        "a bounded counter shows what was ever added",
        replace(BASE, types=("bounded_counter",)),
        _replace(bounded_counter, "rows_of", _only_added),
        ("values",),
    ),
    Mutation(
        "queue",
        "what came in is kept for ever",
        BASE,
        _replace(Peer, "handle_untrusted", _never_forgotten),
        ("memory",),
    ),
    Mutation(
        "deadline",
        "housekeeping is always due",
        BASE,
        _replace(housekeeping.Housekeeper, "deadline", property(lambda self: 0.0)),
        ("simulation",),
    ),
]


@contextmanager
def hasty() -> Iterator[None]:
    """Housekeeping every half second, without patience."""
    tidying = Tidying(alone_seconds=0.5, patience_seconds=0.2, settled_seconds=0.4)
    with mock.patch.dict(PRESETS, lan=replace(LAN, tidy=tidying)):
        yield


def play(mutation: Mutation, *, broken: bool) -> Outcome:
    """The first run that fails, or the last one."""
    for seed in range(mutation.seeds):
        with hasty() if mutation.hasty else nullcontext(), mutation.patch() if broken else nullcontext():
            run = Run(replace(mutation.options, seed=mutation.options.seed + seed), checkers=mutation.only)
            if mutation.hasty:
                run.inspector.touch.is_behind = lambda host: True  # type: ignore[method-assign]  # views may flicker here
            outcome = run.play()
        if not outcome.passed:
            break
    return outcome


def main() -> None:
    for mutation in MUTATIONS:
        if sys.argv[1:] and mutation.name not in sys.argv[1:]:
            continue
        began = time.monotonic()
        sound, broken = (play(mutation, broken=flag) for flag in (False, True))
        found = f"{broken.failure[:150]}" if broken.failed in mutation.found_by else f"NOT FOUND ({broken.failed or 'passed'})"
        print(f"{mutation.name}: sound {sound.failed or 'passes'}; {found}; {time.monotonic() - began:.1f} s", flush=True)


if __name__ == "__main__":
    main()
