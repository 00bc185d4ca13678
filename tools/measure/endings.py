"""How soon a whole mesh acts on a fork, a cut, a revocation and a hidden delta, in virtual time, with hostile members or without.

Hostile: valid members that pass on no delta, body or statement of others, claim floors that do not exist, list what no author
signed, and send old frames again (`mesh.testing.hostile`). Time is that of the simulated LAN; the machine's load does not matter.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import crdt
from crdt.ids import birth_of, replica_of
from crdt.types import type_named
from mesh.testing import Mesh, open_mesh
from mesh.testing.apart import replica_apart
from mesh.testing.hostile import turn_hostile
from mesh.wire.delta import delta_bytes
from mesh.wire.frames import Frame

LIMIT_S: Final = 10.0
AUTHOR: Final = 0


def forked_delta(mesh: Mesh, value: str, birth: int = 77) -> crdt.Delta:
    """Delta 1 of a shelf of the author's, one of several."""
    identity, directory = mesh.memberships[AUTHOR].identity, mesh.peer(AUTHOR).directory
    replica = replica_apart(identity, directory, birth, void_ops=directory.void_ops)
    return replica.write(type_named("register").code, ("story",), value, now_wall=10**15)


class Scene:
    """A mesh with its honest hosts: who is hostile, the author and the one it speaks of apart."""

    def __init__(self, mesh: Mesh, hostile: int) -> None:
        self.mesh = mesh
        count = len(mesh.hosts)
        self.honest = list(range(1, count - hostile))
        turn_hostile(mesh, range(count - hostile, count), mesh.seed)

    def until(self, done: Callable[[int], bool]) -> float:
        """Virtual seconds until it is so at every honest host; inf at the limit."""
        start = self.mesh.now
        found = self.mesh.run_until(lambda: all(done(host) for host in self.honest), LIMIT_S, every=0.005)
        return self.mesh.now - start if found else float("inf")

    def tell(self, host: int, raw: bytes) -> None:
        self.mesh.peer(host).directory.add_untrusted(raw, self.mesh.hosts[host].now())
        self.mesh.hosts[host].wake()

    def hand(self, host: int, delta: crdt.Delta) -> None:
        sender = self.mesh.memberships[AUTHOR].replica_id
        self.mesh.peer(host).sync.handle_untrusted(sender, Frame.DELTA, delta_bytes(delta), self.mesh.hosts[host].now())
        self.mesh.hosts[host].wake()


def fork(scene: Scene) -> float:
    """The author tells one story to one half of the honest, another to the other, and falls silent."""
    mesh, honest = scene.mesh, scene.honest
    one, other = (forked_delta(mesh, story) for story in ("one", "two"))
    mesh.crash(AUTHOR)
    for number, host in enumerate(honest):
        scene.hand(host, one if number % 2 else other)
    return scene.until(lambda host: one.shelf in mesh.peer(host).replica.ended)


def hidden(scene: Scene) -> float:
    """A delta reaches half of the honest; the author is gone before it can repeat anything."""
    mesh, honest = scene.mesh, scene.honest
    mesh.cut([AUTHOR], honest[::2])
    mesh.node(AUTHOR).register("hidden").set("found")
    mesh.run(0.006)
    mesh.crash(AUTHOR)
    mesh.heal()
    return scene.until(lambda host: bool(mesh.node(host).register("hidden").value == "found"))


def revoked(scene: Scene) -> float:
    mesh = scene.mesh
    replica, held = mesh.memberships[AUTHOR].replica_id, mesh.peer(1).replica
    honoured = [(birth_of(shelf), held.floor(shelf)) for shelf in held.shelves() if replica_of(shelf) == replica]
    scene.tell(1, mesh.authority.revoke(replica, honoured=honoured))
    return scene.until(lambda host: mesh.peer(host).directory.revoked(replica))


def cut(scene: Scene) -> float:
    mesh = scene.mesh
    replica = mesh.memberships[AUTHOR].replica_id
    scene.tell(1, mesh.authority.cut(replica, host=mesh.memberships[2].replica_id))
    return scene.until(lambda host: replica in mesh.peer(host).replica.ended.replicas)


def taken_over(scene: Scene) -> float:
    """From the cut until every honest agent has let the former shelf go, and all show the same."""
    mesh = scene.mesh
    replica = mesh.memberships[AUTHOR].replica_id
    for number in range(50):
        mesh.node(AUTHOR).register(f"key/{number}").set(number)
    mesh.run(1.0)
    mesh.crash(AUTHOR)
    scene.tell(1, mesh.authority.cut(replica, host=mesh.memberships[2].replica_id))
    gone = scene.until(lambda host: all(replica_of(shelf) != replica for shelf in mesh.peer(host).replica.shelves()))
    same = {mesh.peer(host).replica.state_digest() for host in scene.honest}
    return gone if len(same) == 1 else float("inf")


SCENES: Final[dict[str, Callable[[Scene], float]]] = {
    "fork ended by all": fork,
    "hidden delta repaired": hidden,
    "revocation in force": revoked,
    "cut in force": cut,
    "cut and taken over": taken_over,
}


@contextmanager
def scene(agents: int, hostile: int, seed: int) -> Iterator[Scene]:
    with open_mesh(agents, seed=seed, warm=True, settle=6.0) as mesh:
        mesh.node(AUTHOR).register("before").set(1)
        mesh.run(2.0)
        yield Scene(mesh, hostile)


def endings(agents: int, hostile_share: float, rounds: int) -> dict[str, Any]:
    """Median and worst of `rounds` seeds."""
    hostile = round(agents * hostile_share)
    figures: dict[str, Any] = {"agents": agents, "hostile": hostile, "rounds": rounds}
    for name, play in SCENES.items():
        seconds = []
        for seed in range(rounds):
            with scene(agents, hostile, seed) as prepared:
                seconds.append(play(prepared))
        figures[name] = f"{statistics.median(seconds):.3f} s (worst {max(seconds):.3f} s)"
    return figures
