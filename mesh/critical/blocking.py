"""Critical writes and leases for programs without trio; see `mesh.blocking`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from math import inf
from typing import Any, Protocol, TypeVar

import trio

from crdt.ops import Value
from mesh.critical.handle import PLAIN, Critical, Receipt, Thought, Wish, agree
from mesh.critical.lease import Lease
from mesh.errors import LeaseLost, NodeClosed, NotCommitted, OutcomeUnknown
from mesh.node import Node
from mesh.paths import PathLike

R = TypeVar("R")


class Thread(Protocol):
    """The node's thread, and the way in."""

    @property
    def node(self) -> Node: ...
    def call(self, function: Callable[..., R], *arguments: Any) -> R: ...
    def wait(self, function: Callable[[], Awaitable[R]], timeout: float | None = None) -> R: ...


def seconds_of(timeout: float | None) -> float:
    """How long to wait. Raises ValueError."""
    if timeout is None:
        return inf
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not timeout >= 0:
        raise ValueError(f"timeout={timeout!r:.80}: a number of seconds, or None to wait for as long as it takes")
    return timeout


def written(
    thread: Thread, write: Callable[[str | bytes], Awaitable[Receipt]], key: str | bytes | None, timeout: float | None
) -> Receipt:
    """Raises OutcomeUnknown after `timeout` seconds: the write may still be done, and its key may be tried again."""
    name = key if key is not None else thread.call(lambda: thread.node.fresh_key())
    try:
        return thread.wait(partial(write, name), timeout)
    except TimeoutError:
        shown = name if isinstance(name, str) else name.hex()
        raise OutcomeUnknown(f"no answer of a majority within {timeout} s: it may still be done", shown) from None


def agreed(
    thread: Thread, wishes: Sequence[Wish], key: str | bytes | None, timeout: float | None
) -> list[Receipt | NotCommitted | OutcomeUnknown]:
    """After `timeout` seconds, what has no outcome yet is `OutcomeUnknown`, which names the key of that one write."""
    seconds = seconds_of(timeout)
    return thread.wait(lambda: agree(thread.node._clerk, wishes, key, seconds=seconds))


class BlockingCritical:
    """`mesh.critical.handle.Critical` for other threads. `timeout` in seconds; None waits for as long as it takes."""

    def __init__(self, thread: Thread, handle: Critical) -> None:
        self._thread, self._handle = thread, handle

    @property
    def path(self) -> str:
        return self._handle.path

    @property
    def value(self) -> Any:
        return self._thread.call(lambda: self._handle.value)

    def get(self, timeout: float | None = None) -> Any:
        """Raises TimeoutError."""
        return self._thread.wait(self._handle.get, timeout)

    def set(
        self, value: Value, *, idempotency_key: str | bytes | None = None, thought: Thought = PLAIN, timeout: float | None = None
    ) -> Receipt:
        return written(
            self._thread, lambda key: self._handle.set(value, idempotency_key=key, thought=thought), idempotency_key, timeout
        )

    def delete(
        self, *, idempotency_key: str | bytes | None = None, thought: Thought = PLAIN, timeout: float | None = None
    ) -> Receipt:
        return written(
            self._thread, lambda key: self._handle.delete(idempotency_key=key, thought=thought), idempotency_key, timeout
        )

    def compare_and_set(
        self,
        old: Value,
        new: Value,
        *,
        idempotency_key: str | bytes | None = None,
        thought: Thought = PLAIN,
        timeout: float | None = None,
    ) -> Receipt:
        def write(key: str | bytes) -> Awaitable[Receipt]:
            return self._handle.compare_and_set(old, new, idempotency_key=key, thought=thought)

        return written(self._thread, write, idempotency_key, timeout)

    # ---- for `BlockingNode.agree`

    def to_set(self, value: Value, *, thought: Thought = PLAIN) -> Wish:
        return self._handle.to_set(value, thought=thought)

    def to_delete(self, *, thought: Thought = PLAIN) -> Wish:
        return self._handle.to_delete(thought=thought)

    def to_compare_and_set(self, old: Value, new: Value, *, thought: Thought = PLAIN) -> Wish:
        return self._handle.to_compare_and_set(old, new, thought=thought)

    def __repr__(self) -> str:
        return self._thread.call(repr, self._handle)


class BlockingLease:
    """A thread cannot be cancelled: look at `lost`, or call `check`, before every step that relies on the lease."""

    def __init__(self, thread: Thread, lease: Lease) -> None:
        self._thread, self._lease = thread, lease
        self.fencing_token = lease.fencing_token
        self.path = lease.path

    @property
    def lost(self) -> bool:
        return self._lease.lost

    @property
    def remaining(self) -> float:
        return self._thread.call(lambda: self._lease.remaining)

    def check(self) -> None:
        """Raises LeaseLost."""
        if self._lease.lost:
            raise LeaseLost(f"the lease on {self.path} could not be renewed in time")


@contextmanager
def blocking_lease(thread: Thread, path: PathLike, ttl: float, timeout: float | None) -> Iterator[BlockingLease]:
    """Raises TimeoutError when it was not free in time, LeaseLost at the end of the block if it was lost meanwhile."""
    holder = _Holder()
    lease = thread.wait(partial(holder.begin, thread.node, path, ttl), timeout)
    try:
        yield BlockingLease(thread, lease)
    finally:
        thread.wait(holder.end)
    if holder.failure is not None:
        raise holder.failure


class _Holder:
    """A task in the node's thread that holds the lease: the block itself runs elsewhere."""

    def __init__(self) -> None:
        self.failure: BaseException | None = None
        self._lease: Lease | None = None
        self._begun, self._over = trio.Event(), trio.Event()
        self._scope = trio.CancelScope()

    async def begin(self, node: Node, path: PathLike, ttl: float) -> Lease:
        trio.lowlevel.spawn_system_task(self._hold, node, path, ttl)
        try:
            await self._begun.wait()
        except trio.Cancelled:
            self._scope.cancel()
            raise
        if self._lease is None:
            raise self.failure or NodeClosed("this node has ended")
        return self._lease

    async def _hold(self, node: Node, path: PathLike, ttl: float) -> None:
        try:
            with self._scope:
                async with node.lease(path, ttl) as self._lease:
                    self._begun.set()
                    await trio.sleep_forever()
        except Exception as failure:  # noqa: BLE001 - carried to the thread that waits
            self.failure = failure
        finally:
            self._begun.set()
            self._over.set()

    async def end(self) -> None:
        self._scope.cancel()
        await self._over.wait()
