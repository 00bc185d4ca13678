"""A voter's blocks come with its leader's log; it asks others for them when that brings nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from consensus_escalation.messages import Append
from consensus_escalation.wire import message_from_bytes_untrusted, message_to_bytes
from mesh.quorum.spread import FED_SECONDS
from mesh.testing import Mesh, open_mesh
from mesh.wire.frames import Frame
from tests.quorum.helpers import has_voters, leader, put, value, wait

pytestmark = pytest.mark.interpreted


@contextmanager
def three_voters() -> Iterator[tuple[Mesh, int]]:
    """And which of them leads."""
    with open_mesh(3, voters=3, critical=("tasks/**",)) as mesh:
        assert mesh.run_until(lambda: has_voters(mesh, 3) and leader(mesh) is not None, 10.0)
        mesh.run(1.0)
        first = leader(mesh)
        assert first is not None
        yield mesh, first


def intercept(mesh: Mesh, number: int, kind: Frame, change: Callable[[bytes], bytes]) -> None:
    """Let this host handle what `change` makes of each frame of a kind."""
    handlers = mesh.peer(number).quorum._handlers
    handler = handlers[kind]
    handlers[kind] = lambda peer, payload, now: handler(peer, change(payload), now)


def test_a_voter_does_not_ask_for_what_its_leader_brings() -> None:
    """Who is told of blocks 25 ms later heard of their proofs before that, and asked: a leader with 64 clients sent that voter
    every other block twice."""
    with three_voters() as (mesh, first):
        asked: list[bytes] = []

        def noted(payload: bytes) -> bytes:
            asked.append(payload)
            return payload

        for number in range(3):
            intercept(mesh, number, Frame.WANT_BLOCKS, noted)
        for number in range(200):
            wait(mesh, first, put(mesh, first, f"tasks/{number % 7}", number))
        mesh.run(1.0)
        assert [value(mesh, number, "tasks/3") for number in range(3)] == [199] * 3
        assert not asked


def test_a_voter_whose_leader_brings_nothing_asks_soon() -> None:
    with three_voters() as (mesh, first):
        quorum, deaf = mesh.peer(first).quorum, (first + 1) % 3

        def without_blocks(payload: bytes) -> bytes:
            epoch, message = message_from_bytes_untrusted(payload, quorum.keys)
            return message_to_bytes(epoch, replace(message, blocks=()), quorum.keys) if isinstance(message, Append) else payload

        intercept(mesh, deaf, Frame.RAFT, without_blocks)
        wait(mesh, first, put(mesh, first, "tasks/1", "new"))
        assert mesh.run_until(lambda: value(mesh, deaf, "tasks/1") == "new", 2 * FED_SECONDS + 0.1)
        assert mesh.peer(deaf).quorum._guide.hears(mesh.hosts[deaf].now())
