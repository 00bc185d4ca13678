"""A node: one running agent, and everything that a program does with it.

    async with mesh.open_node(config) as node:
        node.register("robots/7/pose").set([1.0, 2.0])     plain call: local, instant, merges later
        await node.flush()                                 await: waits for something named, here the disk

All methods belong to the trio thread that opened the node; `mesh.blocking` is for everybody else.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from math import inf
from types import FunctionType
from typing import Any, Final, NoReturn

import trio

from consensus_escalation.anchor import Anchor
from consensus_escalation.policy import Rule
from crdt.ids import Dot, ReplicaId, ShelfId
from crdt.ops import Path, Value
from crdt.types import CoverPolicy, Handles, PathLike, format_path
from mesh.config import format_endpoint
from mesh.critical.clerk import Clerk
from mesh.critical.handle import Critical, CriticalHandles, Receipt, Thought, Wish, agree, change_policy, propose
from mesh.critical.judges import Judge, ask_all
from mesh.critical.lease import Lease, hold
from mesh.critical.proof import ledger_file
from mesh.critical.view import CRITICAL, Quorum
from mesh.durability import Durability
from mesh.effects import Address
from mesh.errors import Backpressure, ConfigError, NodeClosed, NotCommitted, OutcomeUnknown
from mesh.events import CaughtUp, Change, Event
from mesh.feed import LIMIT
from mesh.listener import Listener
from mesh.net.clock import Clock
from mesh.net.driver import Driver
from mesh.net.turns import Turns
from mesh.net.udp import UdpSocket
from mesh.nursery import open_plain_nursery
from mesh.paths import parse_path, parse_prefix
from mesh.peer import Peer
from mesh.quorum.judging import QUESTIONS_MAX, Question
from mesh.quorum.keeper import Refusal
from mesh.readings import Readings
from mesh.secrecy.manage import encrypt
from mesh.secrecy.prefixes import format_pattern, parse_pattern
from mesh.store.journal import Journal
from mesh.store.memory import Store
from mesh.swim.roster import Member, State
from mesh.trust import KeyInfo, Membership
from mesh.trust.identity import checked_replica
from mesh.trust.letting_in import let_in
from mesh.trust.statements import honoured_of
from mesh.values import Entry, history_of
from mesh.watch import EventStream, Watch

log: Final = logging.getLogger("mesh.node")

ASK_S: Final = 0.1
"""Between two looks at who has copies, while somebody waits for that. As the core's ASK_COPIES_SECONDS."""


class Node(Readings, Handles):
    """One running agent. Made by `open_node`; unusable after its block has ended.

    It is a `crdt.types.Store`: the handles that `register`, `set`, `counter` ... give read and write through it.
    """

    def __init__(self, peer: Peer, store: Store, journal: Journal, sock: UdpSocket, clock: Clock) -> None:
        super().__init__(peer)
        self._store, self._socket, self._clock = store, sock, clock
        sink = Durability(store, peer, self._acknowledge)
        self._driver = Driver(Turns(peer, sock, sink, journal, clock, on_changes=self._tell, on_events=self._told_events))
        self._started = clock.now().monotonic
        self._address = peer.config.address
        self._leaving = trio.CancelScope(shield=True)
        self._last_dot: Dot | None = None
        self._closed = False  # no more writes
        self._ended = False  # no more readers
        self._event_streams: set[EventStream] = set()
        self._found_at_start: Sequence[Event] = peer.events()
        self._clerk = Clerk(peer, clock, self._driver)
        self._critical = CriticalHandles(self._clerk)
        self.fresh_key = self._clerk.fresh_key
        self._ask_judges, self._questions = trio.open_memory_channel[Question](QUESTIONS_MAX)
        self._driver.turns.on_turn = self._turned

    # --- who and how

    @property
    def address(self) -> Address:
        """(host, port) where others reach this node."""
        return self._address

    @property
    def replica_id(self) -> ReplicaId:
        return self._peer.replica_id

    @property
    def mesh_id(self) -> bytes:
        """16 bytes."""
        return self._peer.directory.mesh_id

    @property
    def name(self) -> str:
        """What this agent is enrolled as."""
        return self._peer.directory.name(self.replica_id)

    @property
    def is_alone(self) -> bool:
        """No other member is known to be alive."""
        return not self._peer.swim.alive()

    def members(self) -> list[Member]:
        """All that are known, this one too, sorted by id."""
        here = self._peer.config
        me = Member(
            replica=self.replica_id,
            name=self.name,
            state=State.LEFT if self._peer.left else State.ALIVE,
            address=self._address,
            incarnation=self._peer.swim.incarnation,
            birth=here.birth,
            rtt=None,
            meta=b"",
        )
        return sorted([me, *self._peer.swim.members()])

    def keys_known(self) -> list[KeyInfo]:
        """Every key that a statement of the mesh speaks of, by name: what `mesh keys show` lists."""
        return self._peer.directory.keys(self._clock.now())

    def statements(self) -> list[bytes]:
        """All that is known about keys, as it travels."""
        return self._peer.directory.statements()

    def tell(self, statement: bytes) -> bool:
        """Take a statement that the authority's tool made, and pass it on; True when it was new. Raises ConfigError, Malformed,
        Refused."""
        if not isinstance(statement, bytes):
            raise ConfigError(f"a statement is bytes, as an Authority issues them, not {statement!r:.80}")
        self._check_running()
        taken = self._peer.directory.add_untrusted(statement, self._clock.now())
        self._driver.wake()
        return bool(taken)

    def rekey(self, membership: Membership) -> None:
        """Sign with another key of this replica from now on (`mesh keys rotate`): nothing is lost, nobody restarts.

        `membership`: the new identity, and the statement of the authority that puts it into force. Raises ConfigError,
        Malformed or Refused; then the former key goes on.
        """
        if not isinstance(membership, Membership):
            raise ConfigError(f"that is no mesh.Membership but {type(membership).__name__}: `mesh keys rotate` makes one")
        self._check_running()
        self._peer.rekey(membership, self._clock.now())
        self._driver.wake()

    def below(self, replica: ReplicaId) -> list[ReplicaId]:
        """Who was let in by a member, or by those again, the nearest first. Raises ConfigError."""
        return self._peer.directory.below(checked_replica(replica))

    def written_by(self, replica: ReplicaId) -> list[tuple[int, int]]:
        """(birth, last seq) of each shelf of a replica of which something is held here: what a revocation of it honours, the
        most important first: a statement lists `HONOURED_MAX`. Raises ConfigError."""
        return honoured_of(self._peer.replica.written_by(checked_replica(replica)))

    def delegate(
        self,
        name: str | None = None,
        *,
        may_write: Sequence[str],
        delegates: int = 0,
        expires: int | None = None,
        redeem_by: int | None = None,
        addresses: Sequence[Address] | None = None,
    ) -> str:
        """A token with which one agent may join below this one, with narrower rights: `mesh join TOKEN`, or `redeem`.

        `may_write`: within what this agent may write. `delegates`: levels of others that it may let in, fewer than this agent
        may. `expires`: of its rights, `redeem_by`: of the token, in seconds since 1970; never later than this agent's own rights.
        `addresses`: where it finds the mesh; this node, if None. Whoever takes this agent's rights takes its delegates' too.
        Raises ConfigError.
        """
        self._check_running()
        peer, now = self._peer, self._clock.now()
        token, statement = let_in(
            peer.directory,
            peer.config.membership.charter,
            peer.own_key.identity,
            name,
            may_write=may_write,
            delegates=delegates,
            expires=expires,
            redeem_by=redeem_by,
            addresses=[self._address] if addresses is None else addresses,
            anchor=self.anchor,
            entropy=peer.config.entropy(32),
        )
        peer.directory.add_untrusted(statement, now)
        self._driver.wake()
        return token

    def encrypt(self, pattern: str, readers: Iterable[str | ReplicaId]) -> int:
        """Encrypts what is written below a prefix from now on, for these members (names or ids) and this one. Gives the number of
        the key in use.

        `pattern`: `secret/**`. Paths, types, authors and times stay visible to every member, and what was written before stays as
        it is. Called again, it changes the readers: who is taken out can go on reading what it could, nothing later; who comes
        in can read all that this agent can. Takes a credential with `$keys/secret/**` among its patterns. Raises ConfigError,
        NotPermitted.
        """
        if isinstance(readers, str | bytes) or not isinstance(readers, Iterable):
            raise ConfigError(f"readers={readers!r:.80}: a list of names or ids")
        peer, found = self._peer, [self._reader(each) for each in readers]
        prefix = parse_pattern(pattern)
        number = encrypt(peer.vault, prefix, found, me=self.replica_id, directory=peer.directory, write=self.draft)
        self.settle()
        return number

    def encrypted(self) -> dict[str, list[str]]:
        """What is encrypted, and the names of its readers."""
        name = self._peer.directory.name
        found = self._peer.vault.prefixes().items()
        return {format_pattern(prefix): [name(reader) for reader in epoch.readers] for prefix, epoch in found}

    def _reader(self, named: str | ReplicaId) -> ReplicaId:
        if not isinstance(named, str):
            return checked_replica(named)
        bearers = [each for each in self._peer.directory.named(named) if not self._peer.directory.revoked(each)]
        if len(bearers) != 1:
            raise ConfigError(
                f"{'several members are' if bearers else 'no member is'} named {named!r}: `mesh keys show` lists all"
            )
        return bearers[0]

    def heads(self) -> list[tuple[ShelfId, int]]:
        """Each shelf and the newest seq of it that is held here without a gap, sorted."""
        return [(shelf, self._peer.replica.floor(shelf)) for shelf in self.shelves()]

    @property
    def clock_offset(self) -> float | None:
        """Seconds by which the median of the peers is ahead of this machine's clock; None before it is known."""
        microseconds = self._peer.swim.clock_offset(self._clock.now())
        return None if microseconds is None else microseconds / 1e6

    def statistics(self) -> dict[str, Any]:
        """Counters since the start, for monitoring: what was sent, received, dropped (by reason) and stored."""
        return {
            "uptime_s": round(self._clock.now().monotonic - self._started, 3),
            "kernel_drops": self._socket.kernel_drops(),
            "socket": dict(sorted(self._socket.counts.items())),
            "backlog_bytes": self._store.backlog_bytes,
            **self._peer.statistics(),
        }

    def state_digest(self) -> bytes:
        """One hash over everything visible: replicas that agree here are byte-equal."""
        return self._peer.replica.state_digest()

    # --- agreement

    def quorum(self) -> Quorum:
        """The quorum as this agent knows it."""
        status = self._peer.quorum.status
        if status is None:
            return Quorum(None, 0, (), 0)
        shown = (status.leader, status.term, status.voters, status.commit_index, status.epoch, status.proven_index)
        return Quorum(*shown, status.awaited_index)

    @property
    def anchor(self) -> Anchor | None:
        """The newest block of the quorum's log that this agent can prove, for `Authority.invite`: the newcomer takes no history
        that contradicts it. None where no quorum is known."""
        chain = self._peer.quorum.chain
        return None if chain is None else chain.anchor

    def critical(self, path: PathLike) -> Critical:
        """A value that only a majority of the voters can change. Raises NotPermitted outside the charter's critical prefixes."""
        return self._critical.get(path)

    def lease(self, path: PathLike, ttl: float) -> AbstractAsyncContextManager[Lease]:
        """`async with node.lease("locks/dock-3", ttl=2.0) as lease:` waits until it is free, then holds it while the block lasts.

        `ttl` in seconds: how long it outlives this agent. Raises LeaseLost out of the block when it cannot be renewed in time.
        """
        return hold(self._clerk, self._clerk.checked(parse_path(path)), ttl)

    async def propose(self, thought: Thought, *, idempotency_key: str | bytes | None = None) -> Receipt:
        """Bring a structured thought before the quorum; with a path, its value is written there once it is agreed.

        Raises as `critical(path).set` does; NotCommitted names the rule or judge that refused.
        """
        return await propose(self._clerk, thought, idempotency_key)

    async def agree(
        self, wishes: Sequence[Wish], *, idempotency_key: str | bytes | None = None
    ) -> list[Receipt | NotCommitted | OutcomeUnknown]:
        """Several critical writes at once, under one signature for each block that they fill: what became of each, in order.

            await node.agree([node.critical("tasks/1").to_set("r7"), node.critical("tasks/2").to_delete()])

        Each stands for itself: one may be refused and the others done. `idempotency_key` names this list of writes: asked for
        again with it, what was done is not done again, and the rest is. Raises Backpressure, ValueTooLarge, and NotCommitted
        when this mesh has no quorum; then none of them was asked for.
        """
        return await agree(self._clerk, wishes, idempotency_key)

    async def declare_predicate(self, name: str) -> Receipt:
        """Let rules call this function of `NodeConfig.predicates`, in the version that this agent has.

        Always wants a judge's yes. Raises ConfigError when this agent has none of that name, and NotCommitted, too where a
        majority of the voters has not.
        """
        found = self._peer.config.predicates.get(name) if isinstance(name, str) else None
        if found is None:
            raise ConfigError(f"{name!s:.80} is no predicate of this agent: give it to NodeConfig(predicates=[...])")
        return await change_policy(self._clerk, ["predicate", name, found.version])

    async def forget_predicate(self, name: str) -> Receipt:
        """No rule may call it any more. Always wants a judge's yes."""
        return await change_policy(self._clerk, ["forget", name])

    async def set_rule(self, name: str, effect: str, when: str, because: str = "") -> Receipt:
        """Add or replace a rule on all agents (`consensus_escalation.policy`). Always wants a judge's yes."""
        return await change_policy(self._clerk, ["set", name, effect, when, because])

    async def remove_rule(self, name: str) -> Receipt:
        """Take a rule away, a shipped one too. Always wants a judge's yes."""
        return await change_policy(self._clerk, ["remove", name])

    def rules(self) -> list[Rule]:
        """The rules in force, as of the newest block here."""
        chain = self._peer.quorum.chain
        return list(chain.machine.policy) if chain is not None else []

    def is_critical(self, path: PathLike) -> bool:
        """Whether only the quorum writes there."""
        return self._peer.directory.is_critical(parse_path(path))

    def refusals(self) -> list[Refusal]:
        """Signed refusals that this agent has heard of since its start, the newest last; 256 at most."""
        return list(self._peer.quorum.keeper.refusals)

    def name_of(self, replica: ReplicaId) -> str:
        """What a member is enrolled as; its id in hexadecimal when that is not known here. Raises ConfigError for no id."""
        return self._peer.directory.name(checked_replica(replica))

    def scores(self) -> dict[ReplicaId, int]:
        """Of the voters, as the log has them; the demoted count -1."""
        chain = self._peer.quorum.chain
        if chain is None:
            return {}
        return {v: -1 if v in chain.ledger.demoted else chain.ledger.score(v) for v in chain.config.voters}

    def critical_paths(self, prefix: PathLike = "") -> list[str]:
        """All critical values at or below the prefix, sorted."""
        return [format_path(key[1]) for key in self._critical_keys(parse_prefix(prefix))]

    def ledger(self, *, only: int | None = None) -> bytes:
        """All decisions that are kept here, or the block of one receipt, with what proves them to anybody who knows the
        authority: `mesh verify FILE`. Raises ConfigError when there is nothing to prove."""
        if only is not None and type(only) is not int:
            raise ConfigError(f"only={only!r:.80}: the index of a block, such as receipt.index")
        quorum, directory = self._peer.quorum, self._peer.directory
        genesis = directory.genesis()
        if quorum.chain is None or genesis is None:
            raise ConfigError("this mesh has no quorum")
        root = self._peer.config.membership.charter
        return ledger_file(quorum.chain, genesis[0], root, self.statements(), quorum.keeper.refusals, only=only)

    async def judge(self, judges: Sequence[Judge]) -> NoReturn:
        """Put to the judges what this voter is asked, until cancelled; `NodeConfig.judges` does it."""
        judging = self._peer.quorum.keeper.judging
        judging.has_judges = bool(judges)

        async def ask(question: Question) -> None:
            rule = await ask_all(judges, question)
            self._peer.quorum.judged(question.id, rule, self._clock.now())
            self._driver.wake()

        async with open_plain_nursery() as nursery:
            async for question in self._questions:
                nursery.start_soon(ask, question)
        raise AssertionError("the questions never end")

    # --- waiting, watching, looking back

    def watch(self, prefix: PathLike = "", *, limit: int = LIMIT) -> Watch:
        """`async with node.watch("robots/") as changes: async for change in changes`: Changed, Synced, Lagged. See mesh.watch."""
        self._check_running()
        return Watch(self._watchers, self, parse_prefix(prefix), limit)

    def listen(self, prefix: PathLike, callback: Callable[[Change], object]) -> Listener:
        """`with node.listen("robots/", callback):` calls `callback(change)` with what `watch` tells, as soon as it is here.

        For what cannot wait until a task has its turn. Until the callback returns nothing else is done here: it must not block.
        What it raises ends the node, and comes out of `open_node`. It has the context variables of who listens, and is called in
        no task of trio's: it may set events, use channels (`send_nowait`), start and cancel tasks and move deadlines, but not
        what asks who it is, such as `trio.Lock.acquire_nowait`.
        """
        self._check_running()
        if isinstance(function := getattr(callback, "__func__", callback), FunctionType):
            trio.lowlevel.disable_ki_protection(function)  # Ctrl-C ends it, also where trio itself must not be interrupted
        return Listener(self._watchers, self, parse_prefix(prefix), callback)

    def events(self, *, limit: int = LIMIT) -> EventStream:
        """`async with node.events() as events: async for event in events`. The first begins with what the start found."""
        self._check_running()
        found, self._found_at_start = self._found_at_start, ()
        return EventStream(self._event_streams, limit, found)

    def history(self, path: PathLike) -> list[Entry]:
        """Every live write at this path, whatever its type, the newest first: its author, and why it is shown or not."""
        return history_of(self, parse_path(path), self._peer.directory.name)

    async def flush(self) -> None:
        """Returns when everything written before is on the disk; a node without a disk has nothing to wait for.

        Raises StorageFull or another StorageError when the disk refuses it; it is kept and tried again.
        """
        self._driver.check_thread()
        await self._sealed(self._last_dot)
        self._driver.turn()
        await self._store.flush()

    async def replicated(self, copies: int = 1) -> None:
        """Returns when `copies` other replicas have everything written before, as durably as each promises: on their disks
        where they have one. Waits for as long as that takes; put a `trio.fail_after` around it."""
        if not isinstance(copies, int) or copies < 0:
            raise ValueError(f"copies={copies!r}: it is a number of other replicas")
        self._driver.check_thread()
        dot = self._last_dot
        await self._sealed(dot)
        asked = -inf
        while dot is not None and self._peer.replicated(dot) < copies:
            if trio.current_time() >= asked + ASK_S:
                asked = trio.current_time()
                self._driver.wake()  # the core may have questions to send
            with trio.move_on_after(ASK_S):
                await self._driver.next_turn()

    async def _sealed(self, dot: Dot | None) -> None:
        """Returns when this own write is in a signed delta: within coalesce_ms."""
        await trio.lowlevel.checkpoint()
        while dot is not None and self._peer.replica.floor(self.shelf) < dot.seq:
            await self._driver.next_turn()

    # --- crdt.types.Store and mesh.feed.Source, but for what `Readings` has

    def draft(
        self,
        type: int,
        path: Path,
        payload: Value,
        *,
        removed: bool = False,
        covers: CoverPolicy = "all",
        while_alive: bool = False,
    ) -> Dot:
        """Visible here at once, sent when the caller next lets the event loop run. Raises subclasses of WriteRefused."""
        if self._closed:
            raise NodeClosed("this node has left the mesh: write inside its `async with` block")
        if self._store.congested:
            raise Backpressure("the disk does not keep up: await node.flush() before writing more")
        self._driver.check_thread()
        now = self._clock.now()
        dot = self._peer.draft(type, path, payload, removed=removed, covers=covers, while_alive=while_alive, now=now)
        self._last_dot = dot
        self._driver.wrote()
        return dot

    def settle(self) -> None:
        self._check_running()
        if changes := self._peer.changes():
            self._tell(changes)

    def fail(self, error: BaseException) -> None:
        self._driver.fail(error)

    def _check_running(self) -> None:
        """In a node that has ended, or in another thread, a reader would wait for ever and nobody hear of what is told."""
        self._driver.check_thread()
        if self._ended:
            raise NodeClosed("this node has ended: use it inside its `async with` block")

    # --- what the driver tells

    def _turned(self) -> None:
        """After every turn: whoever waits for the quorum is told, and whoever watches."""
        self._clerk.settle()
        quorum = self._peer.quorum
        if quorum.chain is not None:
            paths = quorum.keeper.take_changed(quorum.chain)
            if paths or paths is None:
                self._tell([(CRITICAL, path) for path in paths] if paths is not None else self._critical_keys(()))
        for question in quorum.keeper.judging.take():
            self._ask_judges.send_nowait(question)

    def _told_events(self, events: Sequence[Event]) -> None:
        for stream in self._event_streams:
            stream.happened(events)
        if any(isinstance(event, CaughtUp) for event in events):
            for watcher in self._watchers.all:
                watcher.wake()

    # --- the node's own life

    def _acknowledge(self) -> None:
        """Something is on the disk now: others may be waiting to hear that."""
        self._driver.wake()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> NoReturn:
        """Between socket, core and store, until cancelled."""
        await self._driver.run(task_status=task_status)

    def found(self, address: Address) -> None:
        """A seed's name was resolved."""
        self._peer.contact(address)
        self._driver.wake()

    def notify(self, event: Event) -> None:
        self._peer.notify(event)
        self._driver.wake()

    def readdress(self, address: Address) -> None:
        """This machine has another address now: the others are told by a signed claim."""
        if address != self._address:
            log.info("this node moved from %s to %s", format_endpoint(self._address), format_endpoint(address))
            self._address = address
            self._peer.swim.readdress(address, self._clock.now())
            self._driver.wake()

    async def leave(self) -> None:
        """Say goodbye, and wait until enough members heard it or the core gives up. Only `hurry` stops that. Ends all readers."""
        if self._ended:
            return
        self._closed = True
        self._peer.leave(self._clock.now())
        self._driver.wake()
        with self._leaving:
            while not self._peer.left and not self._driver.has_ended:
                await self._driver.next_turn()
        if not self._peer.swim.leave_confirmed:
            log.info("left unconfirmed: nobody said that they heard the farewell, so they will notice by themselves")
        self._ended = True
        self._clerk.end()
        for watcher in self._watchers.all:
            watcher.end()
        for stream in list(self._event_streams):
            stream.end()

    def hurry(self) -> None:
        """Leave without waiting for anybody to confirm it."""
        self._leaving.cancel()
