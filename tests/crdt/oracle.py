"""What every replica must show and hold after a history, worked out from who wrote what having seen what, without the rules."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from crdt import Replica, ShelfId
from crdt.limits import CORE_TYPE
from crdt.ops import DROPPED, TAKEOVER, VALUE
from crdt.takeover import former_of, record_of
from tests.crdt.world import HEAL_ROUNDS_MAX, REGISTER, World, Write, Wrong


@dataclass(slots=True)
class Held:
    """What anybody still holds: whole chains up to a seq, and single writes."""

    floors: dict[ShelfId, int] = field(default_factory=lambda: defaultdict(int))
    wids: set[int] = field(default_factory=set)

    def __contains__(self, row: tuple[int, Write]) -> bool:
        wid, write = row
        return write.seq <= self.floors[write.shelf] or wid in self.wids


def chunks_at(replica: Replica) -> set[tuple[ShelfId, object]]:
    """(origin, name)."""
    based = [op for base in replica.bases.values() for one in base.everything() for _, op in one.live()]
    loose = [op for rows in replica.loose.values() for delta, *_ in rows.values() for op in delta.ops]
    return {(op.origin, op.path[0]) for op in based + loose if op.type == CORE_TYPE and op.kind == VALUE}


def held_by(world: World) -> Held:
    held = Held()
    chunks = {name for agent in world.agents for name in chunks_at(agent.replica)}
    for agent in world.agents:
        replica = agent.replica
        for shelf, base in replica.bases.items():
            held.floors[shelf] = max(held.floors[shelf], base.floor)
            for one in base.everything():
                for _, op in one.live():
                    if op.kind == TAKEOVER:
                        former = former_of(op)
                        held.floors[former] = max(held.floors[former], record_of(op.payload).n)
                    elif (op.origin, op.dot) in world.wids:
                        held.wids.add(world.wid(op))
        for rows in replica.loose.values():
            for delta, mask, _ in rows.values():
                for index, op in enumerate(delta.ops):
                    live = mask is None or mask >> index & 1
                    if (
                        live
                        and op.type == REGISTER
                        and op.kind != DROPPED
                        and chunks.issuperset((op.origin, name) for name in replica.chunks.names(op))
                    ):
                        held.wids.add(world.wid(op))
    for shelf in {shelf for shelf, _ in world.sent}:
        while any(held.floors[shelf] + 1 in agent.replica.loose_seqs(shelf) for agent in world.agents):
            held.floors[shelf] += 1
    return held


def check(world: World, held: Held, when: str) -> None:
    """Every replica shows exactly the writes that are held and that nobody who wrote later had observed."""
    for key in world.keys:
        here = {wid: write for wid, write in world.writes.items() if write.key == key}
        kept = {wid: write for wid, write in here.items() if (wid, write) in held}
        observed = {known for write in kept.values() for known in write.known}
        newest: dict[ShelfId, int] = {}
        for wid, write in kept.items():
            newest[write.shelf] = wid
        expected = {wid for wid in newest.values() if wid not in observed and kept[wid].shown}
        if any(known not in kept for write in kept.values() for known in write.known if known in here):
            expected = world.view(world.agents[0], key)  # a lost write stood between others: what it had replaced may show
        for agent in world.agents:
            view = world.view(agent, key)
            if view != expected:
                raise Wrong(f"{when}: replica {agent.number} path {key[1][0]!r}: shows {sorted(view)}, should {sorted(expected)}")


def keep_house_until_rest(world: World, held: Held) -> None:
    for _ in range(HEAL_ROUNDS_MAX):
        busy = False
        for agent in world.agents:
            busy |= bool(agent.take_over(final=True))
            world.heal()
            for chore in (agent.drop, agent.retire):
                busy |= bool(chore())
                agent.seal()
                world.heal()
        check(world, held, "housekeeping")
        if not busy:
            return
    raise Wrong("housekeeping does not come to rest")


def check_rest(world: World) -> None:
    """Nothing is left but what is shown."""
    wiped = any(agent.starts > 2 for agent in world.agents)
    for agent in world.agents:
        replica = agent.replica
        if any(replica.loose.values()) and not wiped and "LOOSE" in world.rules:
            raise Wrong(f"loose deltas stay: replica {agent.number}")
        for shelf, base in replica.bases.items():
            for held in base.everything():
                for _, op in held.live():
                    if (
                        op.type == REGISTER
                        and not world.poison
                        and world.wids.get((op.origin, op.dot)) not in world.view(agent, op.key)
                    ):
                        raise Wrong(f"garbage: shelf {shelf.hex()} {op}")
        if "VERIFY" in world.rules and replica.faults:
            raise Wrong(f"faults: {list(replica.faults)}")
