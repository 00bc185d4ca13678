"""Executable model of shelves that end, by forks and cuts, with void ops beside: the rules alone, no cryptography, no sockets.

A forked or cut shelf *ends*: bases and loose deltas stay as they are, nothing more of it is taken. It is closed by a takeover of
the whole shelf, by a new shelf of the same replica or by the host that the cut names, which first collects what the others hold.
`tests.crdt.ended_model` plays random histories of it, `tests.crdt.ended_real` the same ones on the real classes.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from tests.crdt.ended_cells import (
    EMPTY,
    STEP,
    Base,
    Cell,
    Copy,
    Delta,
    Key,
    Record,
    Wrong,
    chain,
    is_before,
    merged,
    successor,
    swept,
)

ROUNDS_MAX = 60


class Replica:
    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.number = number
        self.process = world.new_process()
        self.rules = world.rules
        self.known: set[tuple[str, int, int]] = set()
        """Statements: ("fork", shelf, 0) and ("cut", replica, host)."""
        self.start({}, {})
        self.disk = self.save()

    def save(self) -> tuple[dict[int, Base], dict[int, dict[int, Delta]]]:
        return dict(self.bases), {shelf: dict(rows) for shelf, rows in self.loose.items()}

    def start(self, bases: dict[int, Base], loose: dict[int, dict[int, Delta]]) -> None:
        """A new shelf, whatever the disk holds; also in a process that goes on, when it learns that its shelf has forked."""
        self.shelf = self.world.new_shelf(self.number)
        self.bases = dict(bases)
        self.loose: dict[int, dict[int, Delta]] = defaultdict(dict, {shelf: dict(rows) for shelf, rows in loose.items()})
        self.gc_floor = 0

    def begin_again(self) -> None:
        self.start(self.bases, self.loose)

    def restart(self) -> None:
        self.start(*self.disk)

    def back_up(self) -> None:
        self.disk = self.save()

    def twin(self) -> Replica:
        """A copy of the running process."""
        other = object.__new__(Replica)
        other.process = self.world.new_process()
        other.world, other.number, other.rules, other.shelf = self.world, self.number, self.rules, self.shelf
        other.known, other.gc_floor, other.disk = set(self.known), self.gc_floor, self.disk
        other.bases, loose = self.save()
        other.loose = defaultdict(dict, loose)
        return other

    # ---- what is held

    def floor(self, shelf: int) -> int:
        return self.bases[shelf].head.seq if shelf in self.bases else 0

    def ended(self, shelf: int) -> bool:
        number = self.world.owner[shelf]
        return ("fork", shelf, 0) in self.known or any(kind == "cut" and which == number for kind, which, _ in self.known)

    def records(self, origin: int) -> dict[int, Record]:
        """host -> record. A host that was itself taken over after it said so does not speak any more."""
        said = {host: base.cells["~", origin] for host, base in self.bases.items() if ("~", origin) in base.cells}
        return {host: cell.record for host, (at, cell) in said.items() if not self._succeeded(host, at)}

    def _succeeded(self, host: int, at: int) -> bool:
        takers = [base.cells.get(("~", host)) for shelf, base in self.bases.items() if shelf != host]
        return any(taker and taker[1].record.speaks(at) for taker in takers)

    def speakers(self, origin: int, seq: int) -> set[int]:
        return {host for host, record in self.records(origin).items() if record.speaks(seq)}

    def counts(self, host: int, origin: int, cell: Cell) -> bool:
        if host != origin and ("~", origin) not in self.bases.get(host, EMPTY).cells:
            return False
        speakers = self.speakers(origin, cell.dot // STEP)
        return not speakers or host in speakers

    def cells(self, path: str, *, loose: bool = True) -> dict[int, Cell]:
        """origin -> the newest cell of each origin."""
        best: dict[tuple[int, int], tuple[int, Cell]] = {}
        for host, base in self.bases.items():
            for (where, origin), (at, cell) in base.cells.items():
                if where == path:
                    best[host, origin] = (at, cell)
        for host, rows in self.loose.items() if loose else ():
            for seq, delta in rows.items():
                for (where, origin), cell in delta.ops:
                    if where == path and cell.kind != "dropped" and best.get((host, origin), (0,))[0] < seq:
                        best[host, origin] = (seq, cell)
        newest: dict[int, tuple[tuple[int, int], bool, Cell]] = {}
        for (host, origin), (_, cell) in sorted(best.items()):
            row = (cell.rank, host != origin, cell)
            if self.counts(host, origin, cell) and (origin not in newest or row[:2] > newest[origin][:2]):
                newest[origin] = row
        return {origin: self._judged(cell) for origin, (_, _, cell) in newest.items()}

    def _judged(self, cell: Cell) -> Cell:
        if cell.kind != "void":
            return cell
        return (
            cell._replace(kind="dropped", covers=frozenset())
            if "VOID" in self.rules or self.number % 2
            else cell._replace(kind="value")
        )

    def is_covered(self, origin: int, cell: Cell, cells: Iterable[Cell]) -> bool:
        return any((origin, cell.dot, cell.wid) in other.covers for other in cells)

    def view(self, path: str) -> frozenset[int]:
        cells = self.cells(path)
        shown = ((origin, cell) for origin, cell in cells.items() if cell.kind == "value")
        return frozenset(cell.wid for origin, cell in shown if not self.is_covered(origin, cell, cells.values()))

    def gone(self, path: str, cover: tuple[int, int, int]) -> bool:
        origin, dot, check = cover
        seq = dot // STEP
        if self.floor(origin) < seq and not any(each.finished or each.speaks(seq) for each in self.records(origin).values()):
            return False
        copies = [self.cells(path, loose=loose).get(origin) for loose in (False, True)]
        return not any(cell and (cell.dot, cell.wid) == (dot, check) and cell.kind != "dropped" for cell in copies)

    # ---- what the oracle asks

    def holds(self, shelf: int) -> bool:
        return shelf in self.bases or bool(self.loose.get(shelf))

    def wids(self) -> set[int]:
        """Every write that is part of what is held here, replaced ones too."""
        found = {cell.wid for rows in self.loose.values() for delta in rows.values() for _, cell in delta.ops}
        writes = self.world.writes.items()
        for base in self.bases.values():
            found |= {cell.wid for delta in chain(base.head) for _, cell in delta.ops}
            for origin, record in base.records().items():
                if not record.whole:
                    found |= {wid for wid, (shelf, dot, *_) in writes if shelf == origin and record.speaks(dot // STEP)}
        return found - {0}

    def state(self) -> object:
        bases = [(shelf, base.head.seq) for shelf, base in sorted(self.bases.items())]
        return bases, [(shelf, sorted(rows)) for shelf, rows in sorted(self.loose.items()) if rows], sorted(self.known)

    def live(self) -> Iterator[tuple[str, Cell]]:
        """(path, cell) of all bases, without takeovers and what is void."""
        for base in self.bases.values():
            yield from ((path, c) for (path, _), (_, c) in base.cells.items() if path != "~" and c.kind != "void")

    # ---- the own shelf

    def emit(self, ops: Iterable[tuple[Key, Cell]], former: Base | None = None) -> None:
        base = self.bases.get(self.shelf)
        delta = Delta(self.shelf, base.head if base else None, ops, self.gc_floor, former.head if former else None)
        base = self.bases[self.shelf] = successor(base, delta, former)
        delta.digest = base.digest()
        self.world.push(self, delta)

    def next_dot(self) -> int:
        return (self.floor(self.shelf) + 1) * STEP

    def write(self, paths: list[str]) -> None:
        ops = []
        for index, path in enumerate(paths):
            held = self.cells(path)
            covers = {(o, c.dot, c.wid) for o, c in held.items() if o != self.shelf and c.kind != "dropped"}
            covers |= {cover for cell in held.values() for cover in cell.covers if cover[0] != self.shelf}
            strays = self.number in self.world.hostile or self.number == self.world.careless
            kind = "void" if strays and self.world.rng.random() < 0.3 else self.world.kind()
            covers = {cover for cover in covers if not self.gone(path, cover)}
            wid = self.world.record(
                self, self.next_dot() + index, path, kind, [c.wid for c in held.values() if c.kind != "dropped"]
            )
            ops.append(((path, self.shelf), Cell(self.next_dot() + index, kind, frozenset(covers), wid)))
        self.emit(ops)

    def drop(self) -> bool:
        """Own and hosted cells that a cell of some base covers, or that a newer write of their origin replaced, leave."""
        ops: list[tuple[Key, Cell]] = []
        for (path, origin), (_, cell) in sorted(self.bases.get(self.shelf, EMPTY).cells.items()):
            if cell.kind in ("takeover", "dropped", "void") or (cell.kind == "removed" and not cell.covers):
                continue
            held = self.cells(path, loose=False)
            newer = origin in held and held[origin].rank > cell.rank
            if newer or (self.is_covered(origin, cell, held.values()) and self._stays_covered(path, origin, cell, held)):
                dot = self.next_dot() + len(ops) if origin == self.shelf else cell.dot
                ops.append(((path, origin), Cell(dot, "dropped", wid=cell.wid)))
        if ops:
            self.emit(ops)
            self.world.count["drop"] += len(ops)
        return bool(ops)

    def _stays_covered(self, path: str, origin: int, cell: Cell, held: dict[int, Cell]) -> bool:
        """Whether what a cell covers is covered by whoever covers it, too. Those who covered a write of an ended shelf did not
        know what other branches cover."""
        if "KEEP" not in self.rules:
            return True
        heirs = {cover for other in held.values() if self.is_covered(origin, cell, [other]) for cover in other.covers}
        own = {o for o, other in held.items() if self.is_covered(origin, cell, [other])}
        return all(cover in heirs or cover[0] in own or self.gone(path, cover) for cover in cell.covers)

    def retire(self) -> bool:
        base = self.bases.get(self.shelf, EMPTY)
        absent = [(key, at, cell) for key, (at, cell) in base.cells.items() if cell.kind in ("removed", "dropped")]
        needed = {key for key, _, cell in absent if not all(self.gone(key[0], cover) for cover in cell.covers)}
        free = sorted(at for key, at, _ in absent if key not in needed)
        if not free:
            return False
        self.gc_floor = max(self.gc_floor, self.world.rng.choice(free))
        self.emit([(key, cell) for key, at, cell in absent if key in needed and at <= self.gc_floor])
        self.world.count["retire"] += 1
        return True

    def repack(self) -> None:
        base = self.bases.get(self.shelf)
        if base and base.cells:
            chosen = self.world.rng.choice(sorted({at for at, _ in base.cells.values()}))
            self.emit([(key, cell) for key, (at, cell) in base.cells.items() if at == chosen])

    def take_over(self, *, final: bool = False) -> bool:
        """Of former shelves that have not ended, by reference."""
        done = False
        for former in self.world.shelves_of[self.number]:
            if former == self.shelf or self.ended(former) or (former not in self.bases and not final) or self.world.twin_of(self):
                continue
            old = self.bases.get(self.shelf, EMPTY).records().get(former, Record())
            loose = (
                {seq: delta for seq, delta in sorted(self.loose.get(former, {}).items()) if not old.speaks(seq)} if final else {}
            )
            new = old.join(Record(self.floor(former), frozenset(loose), final))
            if new == old:
                continue
            again: dict[Key, Cell] = {}
            for delta in loose.values():
                again.update({key: cell for key, cell in delta.ops if cell.kind in ("value", "removed", "void")})
            hosted = {**self.bases.get(former, EMPTY).cells, **self.bases.get(self.shelf, EMPTY).cells}
            ops = [
                (key, cell)
                for key, cell in again.items()
                if self.counts(former, key[1], cell) and not (key in hosted and hosted[key][1].rank >= cell.rank)
            ]
            self.emit([*ops, (("~", former), Cell(self.next_dot() + 63, "takeover", record=new))], self.bases.get(former))
            self.world.count["takeover"] += 1
            done = True
        self.let_go()
        return done

    # ---- ended shelves

    def close(self, shelf: int, peers: list[Replica]) -> None:
        """Collect what `peers` hold of it, issue again what survives, and speak for the whole shelf from now on."""
        peers = [self, *peers] if "COLLECT" in self.rules else [self]
        copies = self._collected(shelf, peers)
        old = self.bases.get(self.shelf, EMPTY)
        survivors = merged(copies, self)
        ops: list[tuple[Key, Cell]] = []
        for key, cell in survivors.items():
            mine = old.cells.get(key)
            if key[0] == "~":
                record = cell.record.join(mine[1].record) if mine else cell.record
                ops.append((key, Cell(self.next_dot() + 32 + len(ops), "takeover", record=record)))
            elif not old.records().get(key[1], Record()).speaks(cell.dot // STEP) and not (mine and mine[1].rank >= cell.rank):
                ops.append((key, cell))
        half = len(ops) // 2
        if half:
            self.emit(ops[:half])  # a large shelf takes many deltas: nothing of them counts before the last
        highest = max((copy.head.seq for copy in copies if copy.whole), default=0)
        record = Record(highest, finished=True, whole="WHOLE" in self.rules)
        self.emit([*ops[half:], (("~", shelf), Cell(self.next_dot() + 63, "takeover", record=record))])
        self.world.count["closed"] += 1
        self.let_go()

    def _collected(self, shelf: int, peers: list[Replica]) -> list[Copy]:
        bases = [peer.bases[shelf] for peer in peers if shelf in peer.bases]
        newest: list[Base] = []
        for base in bases:
            later = any(other.head is not base.head and is_before(base.head, other.head) for other in bases)
            if not later and all(base.head is not other.head for other in newest):
                newest.append(base)
        copies = [Copy(each.head, {key: c for key, (_, c) in each.cells.items()}, True, each.records()) for each in newest]
        seen: list[Delta] = []
        for delta in [d for peer in peers for _, d in sorted(peer.loose.get(shelf, {}).items())] if "LOOSE" in self.rules else []:
            if delta not in seen and not any(is_before(delta, copy.head) for copy in copies):
                seen.append(delta)
        # Of one branch the later delta comes last: within a branch it replaces, across branches the rank decides.
        return copies + [Copy(d, {k: c for k, c in d.ops if c.kind != "takeover"}, False, {}) for d in seen]

    def is_closed(self, shelf: int) -> bool:
        return any(record.finished and record.whole for record in self.records(shelf).values())

    # ---- what comes in

    def let_go(self) -> None:
        for origin in list(self.bases):
            records = [record for host, record in self.records(origin).items() if host != origin]
            if origin != self.shelf and any(record.whole or record.n >= self.floor(origin) for record in records):
                del self.bases[origin]
        for origin, rows in list(self.loose.items()):
            floor = 0 if self.ended(origin) else self.floor(origin)
            self.loose[origin] = {seq: d for seq, d in rows.items() if seq > floor and not self.speakers(origin, seq)}

    def found_fork(self, shelf: int) -> None:
        if "PROOF" in self.rules:
            self.known.add(("fork", shelf, 0))
            self.world.count["proof"] += 1

    def receive(self, delta: Delta) -> None:
        shelf, seq = delta.shelf, delta.seq
        if self.ended(shelf) and "FREEZE" in self.rules:
            return None
        head = self.bases[shelf].head if shelf in self.bases else None
        if head and seq <= head.seq and not is_before(delta, head):
            return self.found_fork(shelf)
        if shelf == self.shelf:
            return self.found_fork(shelf) if not is_before(delta, head) else None
        if seq <= self.floor(shelf) or self.speakers(shelf, seq):
            return None
        if self.loose[shelf].get(seq, delta) is not delta:
            return self.found_fork(shelf)
        self.loose[shelf][seq] = delta
        return self.extend(shelf)

    def extend(self, shelf: int) -> None:
        while delta := self.loose[shelf].get(self.floor(shelf) + 1):
            base = self.bases.get(shelf)
            if delta.prev is not (base.head if base else None):
                if not (self.ended(shelf) and "FREEZE" in self.rules):
                    self.found_fork(shelf)
                break
            former = self.bases.get(delta.former.shelf) if delta.former else None
            if delta.former and (former is None or former.head is not self._expected(delta.former, former.head)):
                break  # its former shelf is not at hand as it was: wait for a statement
            del self.loose[shelf][delta.seq]
            self.bases[shelf] = successor(base, delta, former)
            if self.bases[shelf].digest() != delta.digest:
                raise Wrong("in order, but not equal")
        self.let_go()

    def _expected(self, former: Delta, held: Delta) -> Delta:
        return former if "BRANCH" in self.rules or held.seq != former.seq else held

    def jump(self, peer: Replica, shelf: int) -> None:
        base, mine = peer.bases[shelf], self.bases.get(shelf)
        strays = [d for seq, d in self.loose[shelf].items() if seq <= base.head.seq and not is_before(d, base.head)]
        if strays or (mine and not is_before(mine.head, base.head)):
            self.found_fork(shelf)
            if "FREEZE" in self.rules:
                return
        since = 0 if mine is None or mine.head.seq < base.head.gc_floor else mine.head.seq
        live = {key: row for key, row in base.cells.items() if row[0] > since}
        if self.world.lying and live and self.world.rng.random() < 0.2:
            live.pop(self.world.rng.choice(sorted(live)))
        new = Base(base.head, swept({**(mine.cells if mine and since else {}), **live}, base.head.gc_floor))
        if new.digest() != base.head.digest:
            new = Base(base.head, dict(base.cells))  # another relay tells the truth
            self.world.count["refused"] += 1
        self.bases[shelf] = new
        self.extend(shelf)

    def pull(self, peer: Replica, *, partial: bool = False) -> None:
        if "PROOF" in self.rules:
            self.known |= peer.known
        for shelf in sorted(set(peer.bases) | set(peer.loose)):
            frozen = self.ended(shelf) and "FREEZE" in self.rules
            if frozen:
                continue
            if shelf == self.shelf:
                for delta in [*([peer.bases[shelf].head] if shelf in peer.bases else []), *peer.loose.get(shelf, {}).values()]:
                    self.receive(delta)
                continue
            have = max([self.floor(shelf), *(record.n for record in self.records(shelf).values())])
            closed = any(record.whole for record in self.records(shelf).values())
            if peer.floor(shelf) > have and not closed and not (partial and self.world.rng.random() < 0.3):
                self.jump(peer, shelf)
            elif shelf in peer.bases and shelf in self.bases:
                self.receive(peer.bases[shelf].head)
            for _, delta in sorted(peer.loose.get(shelf, {}).items()):
                self.receive(delta)


@dataclass(slots=True)
class World:
    rng: random.Random
    rules: frozenset[str]
    n: int
    late: bool
    lying: bool
    make: type[Replica]
    replicas: list[Replica] = field(default_factory=list)
    owner: dict[int, int] = field(default_factory=dict)
    shelves_of: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    writes: dict[int, tuple[int, int, str, str]] = field(default_factory=dict)
    """wid -> (shelf, dot, path, kind)."""
    known: dict[int, frozenset[int]] = field(default_factory=dict)
    net: list[tuple[Replica, Delta]] = field(default_factory=list)
    count: Counter[str] = field(default_factory=Counter)
    processes: int = 0
    parted: set[int] = field(default_factory=set)
    """Processes on one side of a partition."""
    hostile: set[int] = field(default_factory=set)
    """Replicas that never heal their forks, and write what they may not."""
    careless: int = -1
    """A replica that writes what it may not, and means no harm."""
    cuts: dict[int, int] = field(default_factory=dict)
    loss: bool = False
    """A disk was lost or set back, or a shelf closed before everybody could be asked."""

    def new_process(self) -> int:
        self.processes += 1
        return self.processes

    def new_shelf(self, number: int) -> int:
        shelf = len(self.owner) + 1
        self.owner[shelf] = number
        self.shelves_of[number].append(shelf)
        return shelf

    def kind(self) -> str:
        return self.rng.choice(("value", "value", "removed"))

    def record(self, author: Replica, dot: int, path: str, kind: str, held: list[int]) -> int:
        wid = len(self.writes) + 1
        self.writes[wid] = (author.shelf, dot, path, kind)
        self.known[wid] = frozenset({each for one in held for each in (one, *self.known[one])})
        return wid

    def linked(self, one: Replica, other: Replica) -> bool:
        return not self.parted or (one.process in self.parted) == (other.process in self.parted)

    def twin_of(self, one: Replica) -> Replica | None:
        return next((other for other in self.replicas if other is not one and other.number == one.number), None)

    def push(self, author: Replica, delta: Delta) -> None:
        for other in self.replicas:
            if other.number != author.number and self.linked(author, other) and self.rng.random() < 0.6:
                self.net.append((other, delta))

    def reach(self, one: Replica) -> list[Replica]:
        return [other for other in self.replicas if other is not one and self.linked(one, other)]

    def stop(self, one: Replica) -> None:
        self.replicas.remove(one)
        self.net = [(to, delta) for to, delta in self.net if to is not one]
