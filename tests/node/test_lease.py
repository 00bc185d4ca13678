"""How long a lease is held, by a clock that stands still unless everybody waits."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import trio
import trio.testing

import mesh
from consensus_escalation.machine import Outcome, Status
from mesh.critical.lease import MARGIN, RENEWALS, Lease, hold

TTL = 3.0


class Decided(NamedTuple):
    outcome: Outcome


class Agreement:
    """In the place of a clerk: says yes so often, after so long each time, and nothing from then on."""

    def __init__(self, answers: int, seconds: float = 0.0) -> None:
        self.answers, self.seconds = answers, seconds
        self.asked: list[float] = []
        """When."""

    async def chain(self) -> None:
        pass

    async def decide(self, _chain: None, _body: bytes) -> Decided:
        self.asked.append(trio.current_time())
        if len(self.asked) > self.answers:
            await trio.sleep_forever()
        await trio.sleep(self.seconds)
        return Decided(Outcome(Status.DONE, 1, 1, token=7))


def held(agreement: Any) -> Any:
    return hold(agreement, ("locks", "1"), TTL)


@pytest.mark.parametrize("renewals", range(4))
@pytest.mark.parametrize("seconds", [0.0, 0.4])
async def test_a_block_is_cancelled_before_its_lease_has_run_out(
    renewals: int, seconds: float, autojump_clock: trio.testing.MockClock
) -> None:
    """It counts from when it asked, not from when it was answered."""
    agreement, ended = Agreement(1 + renewals, seconds), list[float]()

    async def work() -> None:
        async with held(agreement) as lease:
            assert isinstance(lease, Lease)
            try:
                await trio.sleep_forever()
            finally:
                ended.append(trio.current_time())
                assert lease.lost
                assert lease.remaining == 0.0

    with pytest.raises(mesh.LeaseLost):
        await work()
    assert ended[0] == pytest.approx(agreement.asked[renewals] + TTL * (1 - MARGIN))
    assert len(agreement.asked) == renewals + 2, "what was lost is not released"


async def test_a_lease_is_held_for_as_long_as_it_is_renewed(autojump_clock: trio.testing.MockClock) -> None:
    agreement = Agreement(1000)
    async with held(agreement) as lease:
        for _ in range(100):
            await trio.sleep(TTL / 10)
            assert not lease.lost
            assert TTL * (1 - 1 / RENEWALS) - 1e-6 <= lease.remaining <= TTL
    assert len(agreement.asked) == pytest.approx(2 + 10 * RENEWALS, abs=1), "with its release"
