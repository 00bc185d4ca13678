"""The real driver: when a turn is due (`mesh.net.turns` says what is done in one), and the wait until then."""

from __future__ import annotations

from typing import NoReturn

import trio

from mesh.errors import NodeClosed
from mesh.net.event_loop import waiting_inside
from mesh.net.turns import LATE_SECONDS, Turns
from mesh.nursery import open_plain_nursery


class Driver:
    """Runs one core. `run` is the loop; at `next_turn` others wait for what a turn brings.

    Two tasks share the work. One listens, and nothing ever cancels its wait; the other keeps the time. A single one that waits
    for both has to be cancelled at each deadline, which cost an idle agent a quarter of that wake-up: an exception, and two
    more registrations of the socket. While the event loop waits, `mesh.net.io_wait` does both, where that is possible.
    """

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        turns.alarm = self
        self.wake, self.wrote, self.hurry = turns.wake, turns.wrote, turns.hurry
        self.check_thread = turns.check_thread
        self._trio_ahead = 0.0  # seconds, of the core's clock
        self._task: trio.lowlevel.Task  # that keeps the time
        self._waiting = trio.CancelScope()
        self._is_due = False
        self._turned = trio.lowlevel.ParkingLot()
        self._nursery: trio.Nursery

    @property
    def has_ended(self) -> bool:
        return self.turns.has_ended

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> NoReturn:
        """Run until cancelled. What the core raises comes out: a core that has failed is not asked again.

        When cancelled it makes one more turn, without waiting for anything, so that a write made just before is sent and
        submitted.
        """
        task_status.started()
        try:
            async with open_plain_nursery() as self._nursery:
                self._nursery.start_soon(self._listen)
                try:
                    with waiting_inside(self.turns):
                        await self._keep_time()
                except trio.Cancelled:
                    if not self.turns.has_failed:
                        self.turns.turn()
                    raise
        finally:
            self.turns.has_ended = True
            self._turned.unpark_all()
        raise AssertionError("it keeps the time for ever")

    async def _keep_time(self) -> NoReturn:
        """A turn whenever one is due or somebody calls `wake` or `wrote`."""
        self._task, turns = trio.lowlevel.current_task(), self.turns
        while True:
            self._is_due = False
            self._trio_ahead = trio.current_time() - turns.clock.now().monotonic
            with trio.CancelScope(deadline=turns.begin_wait() + self._trio_ahead) as self._waiting:
                while not self._is_due and not turns.awake:
                    turns.asleep = True
                    await trio.lowlevel.wait_task_rescheduled(self._over)
                    if not self._is_due:
                        turns.awake = False
                        turns.woken()
            if turns.has_failed:
                await trio.sleep_forever()  # until what failed has ended this, too
            if self._is_due:
                await trio.lowlevel.checkpoint_if_cancelled()
                if turns.clock.now().monotonic > turns.due + LATE_SECONDS:
                    turns.receive()
                turns.awake = False
                turns.turn()
            else:  # woken by its own turn
                await trio.lowlevel.checkpoint()
                turns.awake = False
                turns.woken()

    def _over(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        """The wait is cancelled: by its deadline, then it just ends, or because this driver is to end."""
        asleep, self.turns.asleep = self.turns.asleep, False
        if not asleep or trio.current_time() < self._waiting.deadline:
            return trio.lowlevel.Abort.SUCCEEDED
        self._is_due = True
        trio.lowlevel.reschedule(self._task)
        return trio.lowlevel.Abort.FAILED

    async def _listen(self) -> NoReturn:
        wait_readable, socket, turns = trio.lowlevel.wait_readable, self.turns.socket.fileno(), self.turns
        try:
            while True:
                await wait_readable(socket)
                turns.take_in()
        except Exception:
            turns.has_failed = True
            raise

    def turn(self) -> None:
        """A turn now, in a task of the user's. A core that fails in it comes out of this driver, as it always does, and is
        NodeClosed here."""
        try:
            self.turns.turn()
        except NodeClosed:
            raise
        except Exception as error:
            self.fail(error)
            raise NodeClosed("this node has ended") from error

    async def next_turn(self) -> None:
        """Raises NodeClosed when there is none."""
        self.check_thread()
        if self.has_ended:
            raise NodeClosed("this node has ended")
        self.turns.awaited = True
        await self._turned.park()

    # --- mesh.net.turns.Alarm

    def postpone(self, due: float) -> None:
        self._waiting.deadline = due + self._trio_ahead

    def ring(self) -> None:
        trio.lowlevel.reschedule(self._task)

    def turned(self) -> None:
        self._turned.unpark_all()

    def fail(self, error: BaseException) -> None:
        if self.turns.has_ended:
            raise error
        self._nursery.start_soon(_raise, error)


async def _raise(error: BaseException) -> NoReturn:
    raise error
