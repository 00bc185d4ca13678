"""Random histories of shelves that end: `tests.crdt.ended_rules`, held to an oracle.

    python -m tests.crdt.ended_model 0 10000                seeds 0..9999: two processes that write one shelf, authors that mean
                                                            harm, cuts, partitions, loss, reordering, restarts from old disks
    python -m tests.crdt.ended_model 0 10000 -BOTH          the same with one rule switched off: what that rule is for
    python -m tests.crdt.ended_model 0 10000 late=1 n=4     shelves are closed at the very end only, when everybody can be asked

After each history the mesh heals; then every replica must show the same at every path: of shelves that have not ended exactly
what nobody who wrote later had observed, and of an ended shelf the newest write of any branch, unless somebody had observed it.
Where a write was lost with a disk, or a shelf was closed while not everybody could be asked, replicas only have to agree
(`agree`, beside `strict`); then housekeeping must come to rest with nothing left but what is shown.
"""

from __future__ import annotations

import random
import sys
from collections import Counter
from collections.abc import Callable

from tests.crdt.ended_cells import RULES, Wrong
from tests.crdt.ended_rules import ROUNDS_MAX, Replica, World

OPTIONS = {"n": 3, "steps": 40, "paths": 2, "late": 0, "restarts": 1}
TWINS_MAX = 2


def step(world: World, paths: list[str], restarts: int) -> None:
    rng = world.rng
    one, chance = rng.choice(world.replicas), rng.random()
    if chance < 0.36:
        one.write(rng.sample(paths, rng.randint(1, len(paths))))
    elif chance < 0.60 and world.net:
        to, delta = world.net.pop(rng.randrange(len(world.net)) if rng.random() < 0.3 else 0)
        if rng.random() > 0.1:
            to.receive(delta)
    elif chance < 0.72:
        peers = world.reach(one)
        if peers:
            one.pull(rng.choice(peers), partial=rng.random() < 0.4)
    elif chance < 0.74:
        meet(world, one)
    elif chance < 0.90:
        (one.drop, one.retire, one.repack)[rng.randrange(3)]()
    elif chance < 0.92:
        part(world, healing=bool(world.parted))
    elif chance < 0.94:
        one.take_over()
    elif chance < 0.955:
        fork(world, one)
    elif chance < 0.965:
        twin = world.twin_of(one)
        if twin and one.number not in world.hostile:
            world.stop(one)
    elif chance < 0.975 and not world.late:
        heal_fork(world, one)
    elif chance < 0.985 and not world.late:
        honest = {other.number for other in world.replicas} - world.hostile
        if len(honest) > 2:
            cut(world, rng.randrange(world.n))
        close_all(world, one)
    elif chance < 0.99:
        one.back_up()
    elif restarts and not world.twin_of(one):
        one.restart()
        world.loss = True


def meet(world: World, one: Replica) -> None:
    """A calm moment on one side of a partition: what is tidied away there, another branch may still hold."""
    side = [one, *world.reach(one)]
    for chore in ("write", "drop", "retire", "write", "drop"):
        for each in side:
            if chore != "write":
                getattr(each, chore)()
            elif world.rng.random() < 0.3:
                each.write(["p0"])
        for each in side * 2:
            for peer in side:
                if peer is not each:
                    each.pull(peer)


def part(world: World, *, healing: bool = False) -> None:
    processes = [one.process for one in world.replicas]
    world.parted = set() if healing else set(world.rng.sample(processes, world.rng.randint(1, len(processes) - 1)))


def fork(world: World, one: Replica) -> None:
    """A second process with the same memory: a cloned machine, or an author that tells two halves two things."""
    if len(world.replicas) >= world.n + TWINS_MAX or world.twin_of(one) or one.number in world.cuts:
        return
    world.replicas.append(one.twin())
    if world.rng.random() < 0.7:
        part(world)
    world.count["fork"] += 1
    honest = {other.number for other in world.replicas} - world.hostile - set(world.cuts) - {one.number}
    if len(honest) > 1 and world.rng.random() < 0.3:
        world.hostile.add(one.number)


def heal_fork(world: World, one: Replica) -> bool:
    """An author that hears of its own fork goes on with a new shelf, and closes what ended."""
    if one.number in world.hostile or one.number in world.cuts or world.twin_of(one):
        return False
    if one.ended(one.shelf):
        one.begin_again()
        world.count["healed"] += 1
    forked = [shelf for shelf in world.shelves_of[one.number] if one.ended(shelf) and shelf != one.shelf]
    return close(world, one, forked)


def close(world: World, one: Replica, shelves: list[int]) -> bool:
    peers = world.reach(one)
    due = [shelf for shelf in shelves if not one.is_closed(shelf) and any(each.holds(shelf) for each in [one, *peers])]
    for shelf in due:
        one.close(shelf, peers)
    world.loss |= bool(due) and not world.late
    return bool(due)


def cut(world: World, number: int) -> None:
    """The authority ends a replica and names who takes over; its processes stop."""
    hosts = sorted({one.number for one in world.replicas} - {number} - set(world.cuts) - world.hostile)
    if number in world.cuts or not hosts:
        return
    host = world.rng.choice(hosts)
    world.cuts[number] = host
    world.count["cut"] += 1
    next(one for one in world.replicas if one.number == host).known.add(("cut", number, host))
    for one in [one for one in world.replicas if one.number == number]:
        world.stop(one)


def close_all(world: World, one: Replica) -> bool:
    """What a host owes: every shelf of the replicas that it was named for, those whose host was cut itself included."""
    named = [number for kind, number, host in sorted(one.known) if kind == "cut" and one.number == last_host(world, host)]
    if world.twin_of(one) or one.ended(one.shelf):
        return False
    return close(world, one, [shelf for number in named for shelf in world.shelves_of[number]])


def last_host(world: World, number: int) -> int:
    while number in world.cuts:
        number = world.cuts[number]
    return number


def heal(world: World) -> None:
    for _ in range(ROUNDS_MAX):
        before = [one.state() for one in world.replicas]
        for one in world.replicas:
            for peer in world.replicas:
                if peer is not one:
                    one.pull(peer)
        if [one.state() for one in world.replicas] == before:
            return
    raise Wrong("the exchange does not come to rest")


class Oracle:
    """What may be shown at the end, worked out from who wrote what having seen what."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.kept: set[int] = set()
        self.forked: set[int] = set()

    def look(self) -> None:
        """What honest replicas hold now is not to be lost any more."""
        world = self.world
        for one in world.replicas:
            if one.number not in world.hostile:
                self.kept |= one.wids()
        self.forked |= {shelf for shelf in world.owner if any(one.ended(shelf) for one in world.replicas)}

    def check(self, when: str, paths: list[str]) -> None:
        for path in paths:
            views = [one.view(path) for one in self.world.replicas]
            if len(set(views)) != 1:
                shown = [(one.number, sorted(view)) for one, view in zip(self.world.replicas, views, strict=True)]
                raise Wrong(f"{when}: path {path}: replicas differ: {shown}")
            self.world.count["agree" if self._is_loose(path) else "strict"] += 1
            if not self._is_loose(path):
                self._check_exactly(when, path, views[0])

    def _is_loose(self, path: str) -> bool:
        if self.world.loss:
            return True
        here = [wid for wid, write in self.world.writes.items() if write[2] == path and wid in self.kept]
        if any(self.world.writes[wid][3] == "void" for wid in here):
            return True  # it took the place of a write of its author, and what that had covered shows again
        return any(known not in self.kept for wid in here for known in self.world.known[wid])

    def _check_exactly(self, when: str, path: str, view: frozenset[int]) -> None:
        writes = self.world.writes
        here = [wid for wid in self.kept if writes[wid][2] == path]
        seen = {known for wid in here for known in self.world.known[wid]}
        for shelf in sorted({writes[wid][0] for wid in here}):
            mine = [wid for wid in here if writes[wid][0] == shelf]
            free = {wid for wid in mine if wid not in seen and writes[wid][3] == "value"}
            shown = {wid for wid in view if writes[wid][0] == shelf}
            newest = max(mine, key=lambda wid: (writes[wid][1], wid * 2654435761 % (1 << 32)))
            if shelf not in self.forked:
                free &= {newest}
            tied = any(wid != newest and writes[wid][1] == writes[newest][1] for wid in mine)  # then its content decides
            if not shown <= free or (newest in free and shown != {newest} and not tied) or len(shown) > 1:
                raise Wrong(f"{when}: path {path}: of shelf {shelf} {sorted(shown)} of {sorted(free)} (newest {newest})")


def finish(world: World) -> None:
    """Processes that share an identity are found and stopped; the authority cuts what nobody heals."""
    world.parted, world.lying = set(), False
    for one in list(world.replicas):
        if world.twin_of(one) and one in world.replicas and one.number not in world.hostile:
            world.stop(one)
    for number, host in world.cuts.items():
        world.replicas[0].known.add(("cut", number, host))


def settle(world: World) -> None:
    for _ in range(ROUNDS_MAX):
        heal(world)
        for number in sorted(world.hostile - set(world.cuts)):
            cut(world, number)
        heal(world)
        busy = False
        for one in world.replicas:
            busy |= heal_fork(world, one) | close_all(world, one)
            heal(world)
        if not busy:
            return
    raise Wrong("closing does not come to rest")


def rest(world: World, oracle: Oracle, paths: list[str]) -> None:
    for _ in range(ROUNDS_MAX):
        busy = False
        for one in list(world.replicas):
            for chore in (lambda one=one: one.take_over(final=True), one.drop, one.retire):
                busy |= chore()
                heal(world)
        oracle.check("housekeeping", paths)
        if not busy:
            return
    raise Wrong("housekeeping does not come to rest")


def check_rest(world: World) -> None:
    """Nothing is left but what is shown, and covers of lost writes whose author is cut: nobody can say that they are gone."""
    lost = {shelf for shelf, number in world.owner.items() if number in world.cuts and not world.replicas[0].is_closed(shelf)}
    for one in world.replicas:
        for path, cell in one.live():
            if lost.isdisjoint(cover[0] for cover in cell.covers) and cell.wid not in one.view(path):
                raise Wrong(f"garbage: path {path} {cell}")


def run(seed: int, rules: frozenset[str] = frozenset(RULES), make: type[Replica] = Replica, **options: int) -> Counter[str]:
    """One history. Raises Wrong; gives what it exercised."""
    chosen = {**OPTIONS, **options}
    rng = random.Random(seed)
    world = World(rng, rules, chosen["n"], bool(chosen["late"]) or rng.random() < 0.5, rng.random() < 0.3, make)
    world.replicas += [make(world, number) for number in range(chosen["n"])]
    world.careless = rng.randrange(world.n) if rng.random() < 0.2 else -1
    paths = [f"p{at}" for at in range(chosen["paths"])]
    restarts = chosen["restarts"] and rng.random() < 0.5
    for _ in range(chosen["steps"]):
        step(world, paths, int(restarts))
    finish(world)
    oracle = Oracle(world)
    oracle.look()
    heal(world)
    oracle.look()
    settle(world)
    oracle.look()
    oracle.check("closed", paths)
    rest(world, oracle, paths)
    check_rest(world)
    return world.count


def main(arguments: list[str], play: Callable[..., Counter[str]] = run) -> int:
    first, number = int(arguments[0]), int(arguments[1])
    off = {argument[1:] for argument in arguments[2:] if argument.startswith("-")}
    options = {name: int(value) for name, _, value in (each.partition("=") for each in arguments[2:] if "=" in each)}
    if off - RULES.keys() or options.keys() - OPTIONS.keys():
        print(f"there are the rules {sorted(RULES)} and the options {OPTIONS}")
        return 2
    wrong, total = 0, Counter[str]()
    for seed in range(first, first + number):
        try:
            total += play(seed, frozenset(RULES) - off, **options)
        except Wrong as error:
            wrong += 1
            if wrong <= 3:
                print(f"seed {seed}: {error!s:.240}")
    print(f"{number} histories, {wrong} wrong", dict(sorted(total.items())))
    return bool(wrong and not off)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
