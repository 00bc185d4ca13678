"""How soon everybody honest acts on what trust demands: a fork, a hidden delta, a revocation; and what a wrong clock can do.

On virtual time, with a network that loses one datagram in a hundred; the hostile members speak of membership as if nothing was,
and keep back everything else: they relay, repair, answer and tell nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import trio

import mesh as api
from crdt.ids import birth_of, replica_of, shelf_id
from crdt.types import type_named
from mesh.peer import Peer
from mesh.testing import Link, Mesh, Setup
from mesh.testing.apart import replica_apart
from mesh.trust import Directory, Membership
from mesh.wire.delta import delta_bytes
from mesh.wire.frames import Frame, Lane

Figures = dict[str, Any]
LOSS: Final = 0.01
STEP_SECONDS: Final = 0.005
LIMIT_SECONDS: Final = 30.0
REST_SECONDS: Final = 2.0
TEN_YEARS_SECONDS: Final = 10 * 365 * 86_400
REGISTER: Final = type_named("register").code


def branch(membership: Membership, birth: int, value: str) -> bytes:
    """Delta 1 of a shelf of this member, as it travels."""
    directory = Directory(membership.charter)
    directory.restore(membership.statements)
    replica = replica_apart(membership.identity, directory, birth)
    return delta_bytes(replica.write(REGISTER, ("said",), value, now_wall=1_800_000_000_000_000))


class Court:
    """`honest` agents and `hostile` ones, numbered after them."""

    def __init__(self, honest: int, hostile: int, seed: int) -> None:
        self.mesh = Mesh(honest + hostile, seed=seed, setup=Setup(warm=True, link=Link(loss=LOSS)))
        self.honest = range(honest)
        self.hostile = range(honest, honest + hostile)
        self.mesh.start()
        self.mesh.run_until(self._acquainted, LIMIT_SECONDS, every=0.25)
        self.mesh.run(3.0)
        for number in self.hostile:
            self._keep_back(self.mesh.peer(number))

    def _acquainted(self) -> bool:
        size = len(self.mesh.hosts)
        return all(len(self.mesh.peer(number).swim.alive()) == size - 1 for number in self.honest)

    def _keep_back(self, peer: Peer) -> None:
        peer.transport.tap = lambda _target, _lane, kind, payload: (
            payload if kind < Frame.TRUST_IDS or kind is Frame.DIGEST else None
        )

    def ms_until(self, done: Callable[[Peer], bool], among: Sequence[int] | range) -> float | None:
        """Until it is so at all of them; None when it never is."""
        start = self.mesh.now
        reached = self.mesh.run_until(
            lambda: all(done(self.mesh.peer(number)) for number in among), LIMIT_SECONDS, every=STEP_SECONDS
        )
        return round((self.mesh.now - start) * 1000, 1) if reached else None

    # ---- what is measured

    def fork(self, birth: int) -> float | None:
        """A hostile author (else the last honest one's stolen key) tells two agents two things."""
        liar = self.mesh.memberships[len(self.mesh.hosts) - 1]
        shelf = shelf_id(liar.replica_id, birth)
        for victim, value in ((0, "yes"), (1, "no")):
            peer, host = self.mesh.peer(victim), self.mesh.hosts[victim]
            peer.sync.handle_untrusted(liar.replica_id, Frame.DELTA, branch(liar, birth, value), host.now())
            host.wake()
        judges = self.honest if self.hostile else self.honest[:-1]
        return self.ms_until(lambda peer: shelf in peer.replica.ended, judges)

    def hidden(self, number: int) -> float | None:
        """A write whose delta half of the honest do not get from its author: the rest is up to relays and repairs."""
        author = number % (len(self.honest) - 2)
        path = f"hidden/{number}"
        peer = self.mesh.peer(author)
        kept_from = {self.mesh.memberships[each].replica_id for each in self.honest[::2]}
        peer.transport.tap = lambda target, _lane, kind, payload: (
            None if kind in (Frame.DELTA, Frame.REPAIR) and target in kept_from else payload
        )
        self.mesh.node(author).register(path).set(number)
        key = (REGISTER, tuple(path.split("/")))
        ms = self.ms_until(lambda each: bool(each.replica.cells(key)), self.honest)
        peer.transport.tap = None
        return ms

    def revocation(self, number: int) -> float | None:
        """The authority's word is handed to one agent."""
        subject = self.mesh.memberships[number].replica_id
        peer, host = self.mesh.peer(0), self.mesh.hosts[0]
        held = peer.replica
        honoured = [(birth_of(shelf), held.floor(shelf)) for shelf in held.shelves() if replica_of(shelf) == subject]
        statement = self.mesh.authority.revoke(subject, honoured=honoured)
        peer.directory.add_untrusted(statement, host.now())
        host.wake()
        others = [each for each in self.honest if each != number]
        return self.ms_until(lambda each: each.directory.revoked(subject), others)

    def clock(self, writes: int) -> Figures:
        """A member ten years ahead writes keys that others write afterwards."""
        liar = len(self.mesh.hosts) - 1
        wall = self.mesh.hosts[0].now().wall
        membership = self.mesh.memberships[liar]
        directory = self.mesh.peer(liar).directory
        replica = replica_apart(membership.identity, directory, 99)
        for number in range(writes):
            delta = replica.write(REGISTER, ("clock", str(number)), "future", now_wall=wall + TEN_YEARS_SECONDS * 1_000_000)
            self.mesh.peer(0).sync.handle_untrusted(
                membership.replica_id, Frame.DELTA, delta_bytes(delta), self.mesh.hosts[0].now()
            )
        self.mesh.hosts[0].wake()
        self.mesh.run(3.0)
        shown = sum(self.mesh.node(1).register(f"clock/{number}").value == "future" for number in range(writes))
        for number in range(writes):
            self.mesh.node(number % (len(self.honest) - 1)).register(f"clock/{number}").set("later")
        self.mesh.run(3.0)
        won = moved = 0
        for each in self.honest[:-1]:
            for number in range(writes):
                won += self.mesh.node(each).register(f"clock/{number}").value != "later"
                cells = self.mesh.peer(each).replica.cells((REGISTER, ("clock", str(number))))
                moved += any(op.origin != replica.shelf and abs(op.time - wall) > 3600 * 1_000_000 for op in cells)
        return {"clock_future_writes_seen": shown, "clock_later_writes_lost": won, "clock_times_of_others_moved": moved}


def trust(honest: int, hostile: int, rounds: int, seed: int) -> Figures:
    """Milliseconds of virtual time until all honest agents have acted, the worst of so many rounds."""
    court = Court(honest, hostile, seed)
    forks = [court.fork(1000 + number) for number in range(rounds)]
    hidden = [court.hidden(number) for number in range(rounds)]
    clock = court.clock(20)
    revoked = [court.revocation(len(court.mesh.hosts) - 2 - number) for number in range(min(rounds, max(1, hostile - 1)))]
    return {
        "honest": honest,
        "hostile": hostile,
        "fork_acted_on_by_all_ms": _worst(forks),
        "hidden_delta_shown_by_all_ms": _worst(hidden),
        "revocation_in_force_at_all_ms": _worst(revoked),
        **clock,
    }


def _worst(delays: Sequence[float | None]) -> float | str:
    missing = sum(delay is None for delay in delays)
    return f"{missing} of {len(delays)} never" if missing else max(delay for delay in delays if delay is not None)


async def on_sockets(agents: int, rounds: int) -> Figures:
    """The same on real UDP loopback, all agents in this process: forks and revocations."""
    authority = api.Authority.generate()
    memberships = [authority.enrol(api.Identity.generate(), name=f"agent-{n}", may_write=["**"]) for n in range(agents)]
    async with trio.open_nursery() as nursery:
        nodes: list[api.Node] = []
        done = trio.Event()

        async def run(membership: Membership, seeds: list[str], task_status: trio.TaskStatus[None]) -> None:
            config = api.NodeConfig(membership=membership, bind="127.0.0.1:0", seeds=seeds)
            async with api.open_node(config) as node:
                nodes.append(node)
                task_status.started()
                await done.wait()

        for membership in memberships:
            seeds = ["{}:{}".format(*nodes[0].address)] if nodes else []
            await nursery.start(run, membership, seeds)
        await _ms_until(lambda: all(sum(each.state == "alive" for each in node.members()) == agents for node in nodes))
        await trio.sleep(REST_SECONDS)
        forks = [await _fork_on_sockets(nodes, memberships, 1000 + number) for number in range(rounds)]
        revoked = [await _revoke_on_sockets(nodes, authority, memberships, agents - 2 - number) for number in range(rounds)]
        done.set()
    return {"agents": agents, "fork_acted_on_by_all_ms": _worst(forks), "revocation_in_force_at_all_ms": _worst(revoked)}


async def _fork_on_sockets(nodes: Sequence[api.Node], memberships: Sequence[Membership], birth: int) -> float | None:
    """The last agent is the liar. It tells no floors of that shelf, so the others find out among themselves."""
    liar, shelf = nodes[-1], shelf_id(memberships[-1].replica_id, birth)
    for victim, value in ((0, "yes"), (1, "no")):
        raw = branch(memberships[-1], birth, value)
        liar._peer.transport.send(memberships[victim].replica_id, Lane.FRESH, Frame.DELTA, raw)
    liar._driver.wake()
    return await _ms_until(lambda: all(shelf in node._peer.replica.ended for node in nodes[:-1]))


async def _revoke_on_sockets(
    nodes: Sequence[api.Node], authority: api.Authority, memberships: Sequence[Membership], number: int
) -> float | None:
    """Whoever was revoked before hears nothing any more."""
    subject = memberships[number].replica_id
    nodes[0].tell(authority.revoke(subject, honoured=[]))
    return await _ms_until(lambda: all(node._peer.directory.revoked(subject) for node in nodes[:number]))


async def _ms_until(done: Callable[[], bool]) -> float | None:
    start = trio.current_time()
    with trio.move_on_after(LIMIT_SECONDS):
        while not done():  # noqa: ASYNC110  # of several nodes, none of which tells when
            await trio.sleep(0.001)
        return round((trio.current_time() - start) * 1000, 1)
    return None
