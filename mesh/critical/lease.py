"""`async with node.lease("locks/dock-3", ttl=2.0) as lease`: one holder at a time, on the whole mesh.

    acquire --granted-->  body runs, renewed every third of the ttl  --end-->  released
                          no renewal in time: the body is cancelled, LeaseLost

The holder counts the ttl from before it *sent* what was granted, by its own clock; the leader ends a lease only after the ttl and
more since it *applied* the same. So the body is cancelled before anybody else can hold the lease, unless the whole process is
stopped: for that, give `fencing_token` to whatever the lease protects, and let it refuse smaller ones.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final

import trio

from consensus_escalation.command import Command, Verb
from consensus_escalation.leases import HELD, TTL_MAX_MS, TTL_MIN_MS
from consensus_escalation.machine import Outcome, Status
from crdt.ops import Path
from crdt.types import format_path
from mesh.critical.clerk import Clerk
from mesh.critical.handle import body_of
from mesh.errors import LeaseLost, NodeClosed, NotCommitted, OutcomeUnknown
from mesh.nursery import open_plain_nursery

RENEWALS: Final = 3
"""In a ttl: two may be lost. As etcd's client."""
MARGIN: Final = 0.1
"""Of the ttl: so long before its end a holder gives up, to have stopped when it ends. Guess."""
POLL_SECONDS: Final = 0.5
"""Between two looks whether a lease is free, in case the news was missed."""


class Lease:
    """Held while its block lasts."""

    def __init__(self, path: Path, ttl: float, token: int, good_until: float) -> None:
        self._path, self.ttl = path, ttl
        self.fencing_token = token
        """Greater than all that were given for this path before."""
        self._good_until = good_until
        self.lost = False

    @property
    def path(self) -> str:
        return format_path(self._path)

    @property
    def remaining(self) -> float:
        """Seconds for which it is surely held, without a further renewal; 0 when it is lost."""
        return 0.0 if self.lost else max(0.0, self._good_until - trio.current_time())

    def __repr__(self) -> str:
        return f"<lease {self.path}, token {self.fencing_token}, {'lost' if self.lost else f'{self.remaining:.2f} s'}>"


def hold(clerk: Clerk, path: Path, ttl: float) -> AbstractAsyncContextManager[Lease]:
    """Waits until it is free. Raises ValueError at once; NotCommitted; LeaseLost at the end of the block if it was lost."""
    is_number = isinstance(ttl, int | float) and not isinstance(ttl, bool)
    if not is_number or not TTL_MIN_MS <= ttl * 1000 <= TTL_MAX_MS:  # nan is not either
        raise ValueError(f"ttl={ttl!r}: between {TTL_MIN_MS / 1000:g} and {TTL_MAX_MS / 1000:g} seconds")
    return _hold(clerk, path, ttl, round(ttl * 1000))


@asynccontextmanager
async def _hold(clerk: Clerk, path: Path, ttl: float, milliseconds: int) -> AsyncIterator[Lease]:
    lease = await _acquire(clerk, path, ttl, milliseconds)
    try:
        async with open_plain_nursery() as nursery:
            nursery.start_soon(_renew, clerk, lease, milliseconds, nursery.cancel_scope)
            yield lease
            nursery.cancel_scope.cancel()
    finally:
        if not lease.lost:
            await _release(clerk, lease)
    if lease.lost:
        raise LeaseLost(f"the lease on {lease.path} could not be renewed in time: somebody else may hold it now")


async def _acquire(clerk: Clerk, path: Path, ttl: float, milliseconds: int) -> Lease:
    while True:
        sent = trio.current_time()
        outcome = await _decide(clerk, Command(Verb.ACQUIRE, path, ttl=milliseconds))
        if outcome.status is Status.DONE:
            if trio.current_time() < sent + ttl * (1 - MARGIN):
                return Lease(path, ttl, outcome.token, sent + ttl)
            # Granted so late that it is nearly over: give it back and try anew.
            await _decide(clerk, Command(Verb.RELEASE, path, token=outcome.token))
        elif outcome.reason != HELD:
            raise clerk.why_void(outcome)
        else:
            await _until_free(clerk, path)


async def _until_free(clerk: Clerk, path: Path) -> None:
    with trio.move_on_after(POLL_SECONDS):
        while (await clerk.chain()).machine.lease(path) is not None:
            await clerk.next_turn()


async def _decide(clerk: Clerk, wanted: Command) -> Outcome:
    return (await clerk.decide(await clerk.chain(), body_of(wanted))).outcome


async def _renew(clerk: Clerk, lease: Lease, milliseconds: int, body: trio.CancelScope) -> None:
    """Until it is lost."""
    wanted = Command(Verb.RENEW, lease._path, token=lease.fencing_token, ttl=milliseconds)
    while True:
        sent = trio.current_time()
        with trio.move_on_at(lease._good_until - lease.ttl * MARGIN) as patience:
            await trio.sleep(lease.ttl / RENEWALS)
            sent = trio.current_time()
            try:
                is_held = (await _decide(clerk, wanted)).status is Status.DONE
            except (NotCommitted, OutcomeUnknown):
                await trio.sleep(lease.ttl / RENEWALS / 10)
                continue
            except NodeClosed:
                is_held = False
            if is_held:
                lease._good_until = sent + lease.ttl
                continue
        if patience.cancelled_caught or not is_held:
            lease.lost = True
            body.cancel()
            return


async def _release(clerk: Clerk, lease: Lease) -> None:
    """As good as it goes: what is not released ends by itself."""
    with trio.move_on_at(lease._good_until) as scope:
        scope.shield = True
        try:
            await _decide(clerk, Command(Verb.RELEASE, lease._path, token=lease.fencing_token))
        except (NotCommitted, OutcomeUnknown, NodeClosed):
            return
