"""A member whose every other word is garbled: the real protocol is under way, and what it says is changed before it is sealed.

This is how pulls, listings, relayed probes and comparisons meet wrong answers to right questions. Nothing that it garbles is
signed, so in the end all three must be one, and nobody may be blamed.
"""

from __future__ import annotations

import random
from typing import Any, Final

from mesh.errors import WriteRefused
from mesh.events import ShelfFault
from mesh.peer import Peer
from mesh.testing import Host
from mesh.wire.frames import Frame
from mesh.wire.packer import FRAME_BYTES_MAX
from tools.fuzz.material import TappedMesh, material, write_all_types
from tools.fuzz.mutate import Mutator
from tools.fuzz.subject import Broken, Source, Subject, Target

EVIL: Final = 2
GARBLED: Final = 0.3
"""Share of its frames: most rounds of the protocol still get on to their next step."""
CONVERGE_SECONDS: Final = 60.0
"""As the calm phase of the simulator."""


class Evil(Subject):
    def __init__(self) -> None:
        self.mesh = TappedMesh(3, seed=11)
        self.garbled = 0
        self._rng = random.Random(0)
        self._pools = material().frames
        self._writes = 0
        self.mesh.tap = self._garble
        self.mesh.world.observers.append(self._observe)
        self.mesh.start()
        self.mesh.run(0.5)

    def _garble(self, host: int, kind: Frame, payload: bytes) -> bytes:
        if host != EVIL or self._rng.random() > GARBLED:
            return payload
        self.garbled += 1
        if self._rng.random() < 0.1:
            return b""
        return Mutator(self._rng, [payload, *self._pools[kind][:4]]).mutated(payload)[:FRAME_BYTES_MAX]

    def _observe(self, host: Host[Peer], events: Any, _changes: object) -> None:
        for event in events:
            if isinstance(event, ShelfFault):
                shelf = self.mesh.shelf_name(event.shelf)
                raise Broken(f"blames {shelf} for what another one garbled: {event.kind}, {event.detail}")

    def feed(self, data: bytes) -> bool:
        """The bytes are a seed: of what is garbled, who writes, and what else happens in the next 50 ms."""
        self._rng = rng = random.Random(data)
        before, mesh = self.garbled, self.mesh
        choice = rng.random()
        if choice < 0.5:
            self._write(rng)
        elif choice < 0.56:
            mesh.cut((0,), (1,), name="apart")  # they meet only through the evil one
        elif choice < 0.64:
            mesh.heal()
        elif choice < 0.67:
            mesh.restart(rng.choice((0, 1)), rng.choice(("kept", "lost")))
        mesh.run(rng.choice((0.01, 0.05, 0.05, 0.5)))
        return self.garbled > before

    def _write(self, rng: random.Random) -> None:
        self._writes += 1
        number = rng.choice((0, 0, 1, 1, EVIL))
        node = self.mesh.node(number)
        try:
            if rng.random() < 0.1:
                write_all_types(node, number)
            elif rng.random() < 0.1:
                node.register("large").set(rng.randbytes(4_000))
            for _ in range(rng.choice((1, 1, 40))):
                node.register(f"r/{rng.randrange(40)}").set(self._writes)
        except WriteRefused as error:
            raise Broken(f"host {number} cannot write any more: {error}") from error

    def finish(self) -> None:
        mesh = self.mesh
        mesh.tap = None
        mesh.heal()

        def one() -> bool:
            return mesh.converged() and all(len(mesh.peer(number).swim.alive()) == 2 for number in range(3))

        mesh.run(1.0)
        if not mesh.run_until(one, CONVERGE_SECONDS, every=0.1):
            states = [mesh.peer(number).replica.state_digest().hex()[:8] for number in range(3)]
            alive = [len(mesh.peer(number).swim.alive()) for number in range(3)]
            raise Broken(f"not one again after {CONVERGE_SECONDS:g} s without garbling: states {states}, members alive {alive}")


def _source(rng: random.Random) -> Source:
    return lambda: rng.randbytes(8)


EVILS: Final[tuple[Target, ...]] = (
    Target("garbler", "a member whose frames are garbled while the protocol is under way", Evil, _source, block=150, weight=1),
)
