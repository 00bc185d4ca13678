"""Stand between an agent and the mesh: three of ten neighbours are hostile, and do their best."""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

import pytest

from crdt.ids import ReplicaId
from mesh.effects import Now
from mesh.events import MemberDown
from mesh.swim.order import PLACES, ROUNDS, STEPS, ProbeOrder, partner
from mesh.sync.pull import Puller
from mesh.testing import Mesh, open_mesh
from mesh.wire.cbor import encode
from mesh.wire.frames import Frame
from tests.attacks.stage import both, honest, say, shows, told, without

THREAT = "eclipse with 30% hostile peers"
AGENTS = 20
HOSTILE = (2, 5, 8, 11, 14, 17)
"""30%."""


def starve(mesh: Mesh, hostile: Sequence[int]) -> None:
    """The hostile ones speak of membership as if nothing was, and keep back all state: no deltas, no floors, no answers."""
    for number in hostile:
        mesh.peer(number).transport.tap = lambda _target, _lane, kind, payload: (
            payload if kind is Frame.DIGEST or kind < Frame.TRUST_IDS else None
        )


@both
def test_state_reaches_whoever_pulls_from_a_hostile_source_first(defended: bool) -> None:
    """Undefended: the source that answered nothing is asked again and again, as it is the first that there was."""

    def stubborn(self: Puller, pull: Any, now: Now) -> ReplicaId | None:
        return next((peer for peer in pull.sources), None)

    with open_mesh(5, seed=1) as mesh:
        liar, reader, author = 1, 2, 0
        mesh.node(author).register("key").set("old")
        mesh.run(1.0)
        starve(mesh, [liar])
        mesh.cut([reader], [author, 3, 4], name="away")
        mesh.node(author).register("key").set("new")
        with without(defended, Puller, "_choose", stubborn):
            shelf = mesh.peer(author).replica.shelf
            from mesh.sync.messages import Floor

            now = mesh.hosts[reader].now()
            mesh.peer(reader).sync.puller.offer(mesh.memberships[liar].replica_id, Floor(shelf, 2, b"????"), now)
            mesh.hosts[reader].wake()
            mesh.run(0.5)
            mesh.mend("away")
            if not defended:
                mesh.peer(reader).sync._handlers[Frame.DELTA] = lambda *_: None
            mesh.run(2.0)
        assert shows(mesh, reader, "key") == ("new" if defended else "old")


def test_writes_of_the_honest_reach_all_honest_within_a_second() -> None:
    with open_mesh(AGENTS, seed=2) as mesh:
        starve(mesh, HOSTILE)
        for number in honest(mesh, *HOSTILE):
            mesh.node(number).register(f"key/{number}").set("here")
        mesh.run(1.0)
        good = honest(mesh, *HOSTILE)
        assert all(shows(mesh, reader, f"key/{author}") == "here" for reader in good for author in good)


def test_a_newcomer_with_one_honest_seed_of_three_finds_everything() -> None:
    with open_mesh(AGENTS, seed=3) as mesh:
        for number in (1, 4, 7):
            mesh.node(number).register(f"key/{number}").set("here")
        mesh.run(1.0)
        mesh.crash(19)
        mesh.run(5.0)
        starve(mesh, (0, 2, 5, 8, 11, 14))  # two of the three seeds among them
        mesh.restart(19, "lost")
        mesh.run(8.0)
        assert all(shows(mesh, 19, f"key/{number}") == "here" for number in (1, 4, 7))
        assert len(mesh.peer(19).swim.alive()) == AGENTS - 1


def test_hostile_members_that_answer_no_probe_for_others_make_nobody_dead() -> None:
    """All requests for a ping in vain, and a network that loses a tenth."""
    from mesh.testing import Link

    with open_mesh(AGENTS, seed=4, link=Link(loss=0.1)) as mesh:
        for number in HOSTILE:
            mesh.peer(number).swim._handlers[Frame.PING_REQUEST] = lambda *_: None
        mesh.run(30.0)
        alive = {mesh.memberships[number].replica_id for number in range(AGENTS)}
        deaths = [event for number in honest(mesh, *HOSTILE) for event in told(mesh, number, MemberDown)]
        assert not [event for event in deaths if event.replica in alive]


@pytest.mark.interpreted
@both
def test_liars_about_the_ring_leave_nobody_unprobed(defended: bool) -> None:
    """Rounds are numbered in pings; liars make everybody jump about the ring, past the dead one. Undefended: only the ring."""

    def ring_only(self: ProbeOrder, living: Sequence[ReplicaId], now: float) -> tuple[ReplicaId | None, ReplicaId | None]:
        return (living[0] if living else None), None  # where the liars' numbers lead, always the same one

    with open_mesh(AGENTS, seed=5) as mesh, without(defended, ProbeOrder, "next", ring_only):
        rng = random.Random(1)
        for number in HOSTILE:
            order = mesh.peer(number).swim._order

            vars(order)["place"] = lambda now: rng.randrange(PLACES)
            vars(order)["next"] = lambda living, now: (None, None)
        first = min(mesh.memberships[number].replica_id for number in range(AGENTS))
        crashed = next(n for n in honest(mesh, *HOSTILE) if mesh.memberships[n].replica_id != first)
        mesh.crash(crashed)
        mesh.run(8.0)
        watchers = [number for number in honest(mesh, *HOSTILE) if number != crashed]
        known = [n for n in watchers if any(e.replica == mesh.memberships[crashed].replica_id for e in told(mesh, n, MemberDown))]
        assert (len(known) == len(watchers)) == defended


@pytest.mark.interpreted
@both
def test_a_liar_that_is_everybodys_next_partner_hides_nobody(defended: bool) -> None:
    """One of a pair is content when it has heard the other. Liars name rounds in which it is they who meet the victim, and come
    first in each. Undefended: nobody ever probes in an order of its own, and so nobody looks for the dead one."""

    def partner_only(self: ProbeOrder) -> bool:
        return False

    with open_mesh(AGENTS, seed=6) as mesh, without(defended, ProbeOrder, "is_own", property(partner_only)):
        victims = honest(mesh, *HOSTILE)
        crashed = victims[-1]
        watchers = victims[:-1]
        for number in HOSTILE:
            vars(mesh.peer(number).swim._order)["next"] = lambda living, now: (None, None)
        mesh.crash(crashed)
        for turn in range(400):
            liar = HOSTILE[turn % len(HOSTILE)]
            for victim in watchers:
                swim, now = mesh.peer(victim).swim, mesh.hosts[victim].now().monotonic
                me, living = mesh.memberships[victim].replica_id, swim.living
                mine, theirs = bisect_left(living, me), bisect_left(living, mesh.memberships[liar].replica_id)
                theirs += theirs >= mine
                ahead = swim._order.round(now) + 1
                number = next(n for n in range(ahead, ROUNDS + ahead) if partner(n % ROUNDS, mine, len(living) + 1) == theirs)
                ping = encode([turn % 64 * 4, number % ROUNDS * STEPS, swim._roster.short_digest()])
                say(mesh, liar, victim, Frame.PING, ping)
            mesh.run(0.03)
        known = [n for n in watchers if any(e.replica == mesh.memberships[crashed].replica_id for e in told(mesh, n, MemberDown))]
        assert (len(known) == len(watchers)) == defended
