"""A mesh of real replicas in which everything goes wrong that can: what `tests.crdt.histories` plays and the oracle looks at."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Final

from crdt import (
    Cover,
    Delta,
    Key,
    Op,
    ReplicaId,
    ShelfId,
    body_from_bytes_untrusted,
    delta_from_parts_untrusted,
    housekeeping,
    shelf_id,
)
from crdt.ids import make_dot, replica_of
from crdt.journal import JournalEntry
from crdt.ops import DROPPED, Value
from crdt.replica import Replica
from crdt.state import RULES
from crdt.writer import CoverPolicy

ALL_RULES: Final = RULES | {"LOOSE"}
"""LOOSE: loose deltas are exchanged too. The exchange is the harness's own."""
REGISTER: Final = 1
HEAL_ROUNDS_MAX: Final = 60
LARGE_BYTES: Final = 700


@dataclass(frozen=True, slots=True)
class Options:
    """How a history goes. Numbers of wipes and restarts are per replica; the others switch a danger on (1) or off (0)."""

    n: int = 3
    steps: int = 40
    paths: str = "pq"
    wipes: int = 3
    restarts: int = 1
    lies: int = 1
    poison: int = 1
    polite: int = 0
    drafts: int = 1
    large: int = 1
    tidy: int = 0
    """Now and then the mesh meets, keeps house and meets again in the middle of the history, and backups are made and
    restored."""
    fallback: int = 0
    """Ask for the whole shelf when a suffix was refused, as the real exchange does. Honest peers never need it."""


class Wrong(AssertionError):
    """What a replica shows, or holds, is not what the rules promise."""


class Author(Replica):
    """A replica that may cover writes which are still to come."""

    poison: random.Random | None = None

    def _covers_of_write(self, key: Key, policy: CoverPolicy) -> tuple[Cover, ...]:
        covers = set(super()._covers_of_write(key, policy))
        others = sorted(shelf for shelf in self.bases if shelf != self.shelf)
        if self.poison and self.poison.random() < 0.5 and others:
            victim = self.poison.choice(others)
            covers |= {Cover(victim, make_dot(self.floor(victim) + ahead, index), 0) for ahead in (1, 2, 3) for index in (0, 1)}
        return tuple(sorted(covers))


@dataclass(slots=True)
class Write:
    shelf: ShelfId
    seq: int
    key: Key
    shown: bool
    known: frozenset[int]
    """Writes that its author had seen at this key, and all that those had seen."""


class Agent:
    """One replica identity with its disk, through all its starts."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.number = number
        self.starts = 0
        self.log: list[JournalEntry] = []
        self.saved = 0
        """Entries of the log that the backup holds."""
        self.start([])

    def start(self, log: list[JournalEntry]) -> None:
        self.starts += 1
        self.world.births += 1
        world = self.world
        self.replica = Author(
            shelf_id(ReplicaId(bytes((65 + self.number,)) * 8), world.births),
            rules=world.rules & RULES,
            body_bytes_max=world.body_bytes_max,
        )
        if world.poison and self.number == world.options.n - 1:
            self.replica.poison = world.rng
        self.log = list(log)
        self.replica.restore(self.log)
        self.saved = min(self.saved, len(self.log))
        self.seen: dict[Key, set[int]] = defaultdict(set)
        self.hidden: dict[Key, set[int]] = defaultdict(set)
        self.told: dict[Key, list[Op]] = {key: self.replica.cells(key) for key in self.world.keys}

    def save(self) -> None:
        """Everything is on the disk; `saved` is the backup that the next restart may go back to."""
        self.log += self.replica.take_journal()

    def write(self, keys: list[Key], values: list[bool]) -> None:
        world, replica = self.world, self.replica
        for key, shown in zip(keys, values, strict=True):
            held = [world.wid(op) for op in replica.cells(key)]
            known = frozenset({wid for one in held for wid in (one, *world.writes[one].known)})
            wid = len(world.writes) + 1
            payload: Value = (wid, bytes(LARGE_BYTES)) if world.options.large and shown and world.rng.random() < 0.1 else wid
            dot = replica.draft(*key, payload, removed=not shown, now_wall=world.clock())
            world.writes[wid] = Write(replica.shelf, dot.seq, key, shown, known)
            world.wids[replica.shelf, make_dot(dot.seq, dot.index)] = wid
        if not (world.options.drafts and world.rng.random() < 0.3):
            self.seal()

    def seal(self) -> bool:
        deltas = self.replica.seal()
        for delta in deltas:
            self.world.push(self, delta)
        self.save()
        return bool(deltas)

    def receive(self, delta: Delta, mask: int | None = None) -> None:
        self.replica.receive(self.world.copy(delta), mask)

    def pull(self, peer: Agent, *, partial: bool = False) -> None:
        """What the exchange does: statements of what the peer has further, then its loose deltas."""
        rng = self.world.rng
        for shelf in peer.replica.shelves():
            if shelf == self.replica.shelf:
                continue
            if peer.replica.floor(shelf) > self.replica.reached(shelf) and not (partial and rng.random() < 0.3):
                if partial and rng.random() < 0.4:
                    self._pull_some_bodies(peer, shelf)
                elif not self._pull_statement(peer, shelf, self.replica.floor(shelf)) and self.world.options.fallback:
                    self._pull_statement(peer, shelf, 0)
            if "LOOSE" in self.world.rules:
                for _, loose in sorted(peer.replica.loose.get(shelf, {}).items()):
                    self.receive(loose.delta, loose.mask)

    def _pull_statement(self, peer: Agent, shelf: ShelfId, floor: int) -> bool:
        listing = peer.replica.listing(shelf, floor)
        if listing is None:
            return False
        entries = listing.entries
        if self.world.lying and entries and self.world.rng.random() < 0.2 and shelf != peer.replica.shelf:
            self.world.count["lie"] += 1
            at = self.world.rng.randrange(len(entries))
            mask = entries[at].mask & entries[at].mask - 1
            entries = entries[:at] + ((entries[at]._replace(mask=mask),) if mask else ()) + entries[at + 1 :]
        wanted = set(self.replica.missing_bodies(entries))
        bodies = [
            body_from_bytes_untrusted(body.shelf, body.seq, body.raw)
            for body in listing.bodies
            if (body.shelf, body.seq) in wanted
        ]
        jumped = self.replica.jump(listing.head, listing.since, entries, bodies)
        self.world.count["refused" if not jumped else "jump_suffix" if listing.since else "jump_full"] += 1
        return jumped

    def _pull_some_bodies(self, peer: Agent, shelf: ShelfId) -> None:
        """Interrupted: some deltas came, with what of them lives."""
        listing = peer.replica.listing(shelf, self.replica.floor(shelf))
        for entry in listing.entries if listing else ():
            if entry.shelf == shelf and self.world.rng.random() < 0.5:
                delta = self.world.sent[shelf, entry.seq]
                if delta.content.takeover < 0:
                    self.receive(delta, entry.mask)

    # --- housekeeping

    def take_over(self, *, final: bool = False) -> int:
        count = self.replica.take_over(final=final)
        self.world.count["takeover"] += count
        self.seal()
        return count

    def drop(self) -> int:
        count = self.replica.drop(self.world.now, self.world.patience())
        self.world.count["drop"] += count
        return count

    def retire(self) -> int:
        agents = self.world.agents if self.world.options.polite else [self]
        floor = min(agent.replica.floor(self.replica.shelf) for agent in agents)
        count = self.replica.retire(lambda place: place <= floor)
        self.world.count["retire"] += count
        return count

    def repack(self) -> None:
        base = self.replica.bases.get(self.replica.shelf)
        if base and base.everything():
            chosen = self.world.rng.choice(base.everything())
            if not any(op.kind == DROPPED for _, op in chosen.live()):
                housekeeping.reissue(self.replica, [chosen])


class World:
    def __init__(self, seed: int, rules: frozenset[str], options: Options) -> None:
        self.rng = random.Random(seed)
        self.rules = rules
        self.options = options
        self.lying = bool(options.lies) and self.rng.random() < 0.3
        self.poison = bool(options.poison) and self.rng.random() < 0.2
        self.body_bytes_max = self.rng.choice((300, 960))
        self.births = 0
        self.now = 0.0
        self.resting = False
        self.writes: dict[int, Write] = {}
        self.wids: dict[tuple[ShelfId, int], int] = {}
        self.sent: dict[tuple[ShelfId, int], Delta] = {}
        self.net: list[tuple[int, Delta]] = []
        self.count: Counter[str] = Counter()
        self.cut: set[int] = set()
        self.keys: list[Key] = [(REGISTER, (path,)) for path in options.paths]
        self.agents: list[Agent] = []
        for number in range(options.n):
            self.agents.append(Agent(self, number))

    def clock(self) -> int:
        """Wall clocks differ, repeat and go back."""
        return 1_000_000 + int(self.now) // 3 * 7_000 + self.rng.randrange(20_000)

    def patience(self) -> float:
        return 0.0 if self.resting else self.rng.choice((0.0, 0.0, 3.0))

    def wid(self, op: Op) -> int:
        return self.wids[op.origin, op.dot]

    def copy(self, delta: Delta) -> Delta:
        """As it comes from the wire."""
        return delta_from_parts_untrusted(replica_of(delta.shelf), delta.header_bytes, delta.signature, delta.body)

    def linked(self, one: Agent, other: Agent) -> bool:
        return not self.cut or (one.number in self.cut) == (other.number in self.cut)

    def push(self, author: Agent, delta: Delta) -> None:
        self.sent[delta.shelf, delta.seq] = delta
        for agent in self.agents:
            if agent is not author and self.linked(author, agent) and self.rng.random() < (0.3 if delta.bulk else 0.6):
                self.net.append((agent.number, delta))

    # --- one history

    def step(self) -> None:
        rng, options = self.rng, self.options
        agent, chance = rng.choice(self.agents), rng.random()
        self.now += 1
        if chance < 0.34:
            keys = rng.sample(self.keys, rng.randint(1, len(self.keys)))
            agent.write(keys, [rng.random() < 2 / 3 for _ in keys])
        elif chance < 0.60 and self.net:
            self._deliver()
        elif chance < 0.74:
            peer = rng.choice([other for other in self.agents if other is not agent])
            if self.linked(agent, peer):
                agent.pull(peer, partial=rng.random() < 0.4)
        elif chance < 0.93:
            self._keep_house(agent, chance)
        elif chance < 0.96:
            self.cut = set() if self.cut else set(rng.sample(range(options.n), rng.randint(1, options.n - 1)))
        elif chance < 0.98:
            agent.take_over()
        elif chance < 0.985:
            agent.saved = len(agent.log)
        elif agent.starts <= options.wipes and (agent.number == 0 or options.restarts):
            self._restart(agent)
        if options.tidy and rng.random() < 0.15:
            self._meet(agent)
        for one in self.agents:
            one.save()

    def _meet(self, agent: Agent) -> None:
        """A calm moment. What it leaves behind, a backup may not know of."""
        if self.cut or self.lying:
            return
        if self.rng.random() < 0.3:
            agent.saved = len(agent.log)
        self.heal()
        for chore in (Agent.take_over, Agent.drop, Agent.retire):
            for one in self.agents:
                chore(one)
                one.seal()
            self.heal()
        if self.rng.random() < 0.3 and agent.number and agent.starts <= self.options.wipes:
            self._restart(agent)

    def _deliver(self) -> None:
        at = self.rng.randrange(len(self.net)) if self.rng.random() < 0.3 else 0
        to, delta = self.net[at]
        if self.rng.random() > 0.1:
            self.net.pop(at)
        if self.rng.random() > 0.1:
            self.agents[to].receive(delta)

    def _keep_house(self, agent: Agent, chance: float) -> None:
        if chance < 0.82:
            agent.drop()
        elif chance < 0.90:
            agent.retire()
        else:
            agent.repack()
        if self.rng.random() < 0.7:
            agent.seal()

    def _restart(self, agent: Agent) -> None:
        self.net = [message for message in self.net if message[0] != agent.number]
        if agent.number:
            agent.start(agent.log[: agent.saved])
            if self.rng.random() < 0.5:
                agent.take_over()
            self.count["restart"] += 1
        else:
            agent.start([])
            self.count["wipe"] += 1

    def watch(self) -> None:
        """Count flicker, hold every base to its author's digest, and see that watchers are told."""
        for agent in self.agents:
            replica = agent.replica
            if "VERIFY" in self.rules and "FLOORGC" in self.rules:
                for shelf, base in replica.bases.items():
                    head = base.head
                    if head and base.digest() != head.header.shelf_digest:
                        raise Wrong(f"base of {shelf.hex()} at {base.floor} is not what its author signed")
            changes = set(replica.take_changes())
            for key in self.keys:
                before, agent.told[key] = agent.told[key], replica.cells(key)
                if agent.told[key] != before and key not in changes:
                    raise Wrong(f"watchers of replica {agent.number} do not hear of {key[1][0]!r}")
                cells = [self.wid(op) for op in agent.told[key]]
                seen, hidden = agent.seen[key], agent.hidden[key]
                seen.update(*({wid, *self.writes[wid].known} for wid in cells))
                dead = {known for wid in seen for known in self.writes[wid].known}
                view = self.view(agent, key)
                newest: dict[ShelfId, int] = {}
                for wid in seen:
                    newest[self.writes[wid].shelf] = max(wid, newest.get(self.writes[wid].shelf, 0))
                alive = {wid for wid in newest.values() if wid not in dead and self.writes[wid].shown}
                self.count["back"] += bool(view & hidden)
                self.count["missing"] += bool(alive - view)
                hidden |= seen & dead - view

    def view(self, agent: Agent, key: Key) -> set[int]:
        shown = set()
        for op in agent.replica.shown(key):
            wid = self.wid(op)
            value = op.payload[0] if isinstance(op.payload, tuple) else op.payload
            if value != wid:
                raise Wrong(f"the write {wid} shows the payload of {value}")
            shown.add(wid)
        return shown

    def state(self) -> object:
        return [
            (
                [(shelf, base.floor) for shelf, base in sorted(agent.replica.bases.items())],
                [(shelf, seq) for shelf in agent.replica.shelves() for seq in sorted(agent.replica.loose_seqs(shelf))],
            )
            for agent in self.agents
        ]

    def heal(self) -> None:
        for _ in range(HEAL_ROUNDS_MAX):
            before = self.state()
            for agent in self.agents:
                for peer in self.agents:
                    if agent is not peer:
                        agent.pull(peer)
            if self.state() == before:
                return
        raise Wrong("the exchange does not come to rest")
