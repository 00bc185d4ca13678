"""Critical writes: how long one takes, how many there can be, and what a dead leader costs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, TypeVar

import trio

from consensus_escalation.command import Command, Verb, command_to_bytes
from crdt.ops import Path
from mesh.testing import Mesh, Setup
from mesh.wire.cbor import encode
from tools.bench.quorum import open_ours
from tools.figures import quantile
from tools.fleet import AgentFailed

T = TypeVar("T")

CLIENTS: Final = 64
MANY_CLIENTS: Final = 512
"""Enough that every block is full of batches of one author."""
BATCH: Final = 32
BATCH_CLIENTS: Final = 32
FIVE: Final = 5
STREAM_SECONDS: Final = 1.0
WAIT_SECONDS: Final = 4.0
SETTLE_SECONDS: Final = 20.0
WATCHED: Final[Path] = ("bench", "failover")


async def writes(voters: int, seconds: float) -> dict[str, Any]:
    """Of clients in the leader's process; and what a write costs, which is the figure to compare on a machine that others use."""
    costs: dict[str, str] = {}
    async with open_ours(voters) as quorum:

        async def costed(name: str, run: Awaitable[T], writes: Callable[[T], float]) -> T:
            leader, before = await quorum.leader(), await quorum.cpu()
            result = await run
            each = {voter: 1e6 * (after - before[voter]) / writes(result) for voter, after in (await quorum.cpu()).items()}
            costs[f"{name}_leader_cpu_us"] = f"{each.pop(leader):.0f}"
            costs[f"{name}_follower_cpu_us"] = f"{sum(each.values()) / max(len(each), 1):.0f}"
            return result

        def rate(per_second: float) -> float:
            return max(per_second * seconds, 1.0)

        delays = await costed("one_client", quorum.one(seconds), lambda found: max(len(found), 1))
        some = await costed(f"{CLIENTS}_clients", quorum.many(CLIENTS, seconds), rate)
        many = await costed(f"{MANY_CLIENTS}_clients", quorum.many(MANY_CLIENTS, seconds), rate)
        batched = await costed(f"batches_of_{BATCH}", quorum.batches(BATCH_CLIENTS, BATCH, seconds), rate)
    return {
        "one_client_p50_ms": round(quantile(delays, 0.5), 2),
        "one_client_p99_ms": round(quantile(delays, 0.99), 2),
        "one_client_best_ms": round(min(delays), 2),
        f"{CLIENTS}_clients_per_second": round(some),
        f"{MANY_CLIENTS}_clients_per_second": round(many),
        f"batches_of_{BATCH}_entries_per_second": round(batched),
        **costs,
    }


async def failovers(rounds: int) -> dict[str, Any]:
    """From kill -9 of the leader of five real processes until a write begun after it was committed."""
    gaps = []
    for _ in range(rounds):
        async with open_ours(FIVE) as quorum:
            leader = await quorum.leader()
            await quorum.stream_beside(leader)
            await trio.sleep(STREAM_SECONDS)
            killed_at = await quorum.kill(leader)
            await trio.sleep(WAIT_SECONDS)
            after = [committed for begun, committed in await quorum.commits() if begun >= killed_at]
        if not after:
            raise AgentFailed(f"nothing was committed within {WAIT_SECONDS:.0f} s of the leader's death")
        gaps.append((min(after) - killed_at) / 1000)
    return {"rounds": rounds, "p50_ms": round(quantile(gaps, 0.5)), "worst_ms": round(max(gaps))}


def virtual_failover(seed: int) -> tuple[float, bool]:
    """The leader of five voters of a mesh of seven dies; somebody who does not vote writes at once. Milliseconds until that is
    committed, and whether the best of the others leads."""
    mesh = Mesh(7, seed=seed, setup=Setup(voters=FIVE, scores=(9, 7, 5, 3, 1), critical=("bench/**",)))
    mesh.start()
    if not mesh.run_until(partial(is_settled, mesh), SETTLE_SECONDS):
        raise AgentFailed(f"no quorum of {FIVE} within {SETTLE_SECONDS:.0f} virtual seconds (seed {seed})")
    leader = leader_of(mesh)
    mesh.crash(leader)
    begun = mesh.now
    if not _write(mesh, encode(seed)):
        raise AgentFailed(f"nothing was committed within {WAIT_SECONDS:.0f} virtual seconds (seed {seed})")
    return (mesh.now - begun) * 1000, leader_of(mesh) == min(number for number in range(FIVE) if number != leader)


def virtual_failovers(rounds: int) -> dict[str, Any]:
    found = [virtual_failover(seed) for seed in range(rounds)]
    gaps = [gap for gap, _ in found]
    return {
        "rounds": rounds,
        "p50_ms": round(quantile(gaps, 0.5)),
        "p99_ms": round(quantile(gaps, 0.99)),
        "best_leads_percent": round(100 * sum(is_best for _, is_best in found) / rounds, 1),
    }


def _write(mesh: Mesh, value: bytes) -> bool:
    """By the last host, which does not vote; True when it shows there."""
    number = len(mesh.hosts) - 1
    quorum = mesh.peer(number).quorum
    if (chain := quorum.chain) is None:
        return False
    quorum.courier.want(chain, command_to_bytes(Command(Verb.SET, WATCHED, value), encode))
    mesh.hosts[number].wake()

    def is_shown() -> bool:
        cell = chain.machine.cell(WATCHED)
        return cell is not None and cell.value == value

    return mesh.run_until(is_shown, WAIT_SECONDS, every=0.001)


def leader_of(mesh: Mesh) -> int:
    """Its number; -1 while nobody leads."""
    return next((n for n in mesh.running if (status := mesh.peer(n).quorum.status) is not None and status.leads), -1)


def is_settled(mesh: Mesh) -> bool:
    """All five vote, and no change of voters is under way: the death of the only voter of a quorum that grows ends it."""
    chains = [mesh.peer(number).quorum.chain for number in mesh.running]
    return leader_of(mesh) >= 0 and all(
        chain is not None and len(chain.config.voters) == FIVE and not chain.config.is_joint for chain in chains
    )
