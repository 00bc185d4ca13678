"""The same node for programs without trio: a thread inside runs the event loop.

    with mesh.blocking.open_node(config) as node:
        node.register("robots/7/pose").set([1.0, 2.0])
        with node.watch("robots/") as changes:
            for change in changes: ...

Every call is carried out in the node's thread, as a whole, so a handle may be shared between threads: two that call
`counter.add(1)` count two. What the async node raises, these calls raise.
"""

from __future__ import annotations

import operator
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from types import TracebackType
from typing import Any, Final, Generic, Self, TypeVar, cast

import trio

from consensus_escalation.anchor import Anchor
from crdt.ids import ReplicaId
from crdt.ops import Op
from crdt.types import (
    AddWinsSet,
    BoundedCounter,
    Counter,
    Custom,
    Flag,
    GrowOnlyCounter,
    Handle,
    List,
    Log,
    Map,
    Maximum,
    Minimum,
    MultiValue,
    PathLike,
    Register,
    ViewType,
)
from mesh.config import NodeConfig
from mesh.critical.blocking import BlockingCritical, BlockingLease, agreed, blocking_lease, seconds_of, written
from mesh.critical.handle import Receipt, Thought, Wish
from mesh.critical.view import Quorum
from mesh.effects import Address
from mesh.errors import NodeClosed, NotCommitted, OutcomeUnknown
from mesh.events import Change, Event
from mesh.feed import LIMIT
from mesh.listener import Listener
from mesh.node import Node
from mesh.start import open_node as open_async_node
from mesh.swim.roster import Member
from mesh.trust import Membership
from mesh.values import Entry
from mesh.watch import Reader

E = TypeVar("E", bound=Event)
H = TypeVar("H")
R = TypeVar("R")
T = TypeVar("T")

READ_AHEAD: Final = 64
"""Changes fetched at a time from a reader: going into another thread costs 50-100 us, a change 5 us (measured)."""


@contextmanager
def open_node(config: NodeConfig) -> Iterator[BlockingNode]:
    """Runs a node in a thread of its own; leaves gracefully at the end. Raises what `mesh.open_node` raises."""
    thread = _NodeThread(config)
    thread.start()
    try:
        yield BlockingNode(thread)
    finally:
        thread.stop()


class BlockingNode:
    """`mesh.Node` for other threads than its own."""

    def __init__(self, thread: _NodeThread) -> None:
        self._thread = thread
        self._node = thread.node

    @property
    def address(self) -> Address:
        return self._node.address

    @property
    def replica_id(self) -> ReplicaId:
        return self._node.replica_id

    @property
    def name(self) -> str:
        return self._node.name

    @property
    def mesh_id(self) -> bytes:
        return self._node.mesh_id

    @property
    def caught_up(self) -> bool:
        return self._thread.call(lambda: self._node.caught_up)

    @property
    def is_alone(self) -> bool:
        return self._thread.call(lambda: self._node.is_alone)

    @property
    def clock_offset(self) -> float | None:
        return self._thread.call(lambda: self._node.clock_offset)

    def state_digest(self) -> bytes:
        return self._thread.call(self._node.state_digest)

    def members(self) -> list[Member]:
        return self._thread.call(self._node.members)

    def statistics(self) -> dict[str, Any]:
        return self._thread.call(self._node.statistics)

    def history(self, path: PathLike) -> list[Entry]:
        return self._thread.call(self._node.history, path)

    def flush(self, timeout: float | None = None) -> None:
        """Raises TimeoutError after so many seconds."""
        self._thread.wait(self._node.flush, timeout)

    def replicated(self, copies: int = 1, timeout: float | None = None) -> None:
        """Raises TimeoutError after so many seconds: the copies may still come about."""
        self._thread.wait(partial(self._node.replicated, copies), timeout)

    # --- keys

    def rekey(self, membership: Membership) -> None:
        """As `Node.rekey`."""
        self._thread.call(self._node.rekey, membership)

    def delegate(
        self,
        name: str | None = None,
        *,
        may_write: Sequence[str],
        delegates: int = 0,
        expires: int | None = None,
        redeem_by: int | None = None,
        addresses: Sequence[Address] | None = None,
    ) -> str:
        """As `Node.delegate`."""
        ask = partial(self._node.delegate, name, may_write=may_write, delegates=delegates, expires=expires)
        return self._thread.call(partial(ask, redeem_by=redeem_by, addresses=addresses))

    def encrypt(self, pattern: str, readers: Iterable[str | ReplicaId]) -> int:
        """As `Node.encrypt`."""
        return self._thread.call(self._node.encrypt, pattern, readers)

    def encrypted(self) -> dict[str, list[str]]:
        """As `Node.encrypted`."""
        return self._thread.call(self._node.encrypted)

    # --- agreement

    def quorum(self) -> Quorum:
        return self._thread.call(self._node.quorum)

    @property
    def anchor(self) -> Anchor | None:
        """As `Node.anchor`."""
        return self._thread.call(lambda: self._node.anchor)

    def critical(self, path: PathLike) -> BlockingCritical:
        return BlockingCritical(self._thread, self._thread.call(self._node.critical, path))

    def lease(self, path: PathLike, ttl: float, timeout: float | None = None) -> AbstractContextManager[BlockingLease]:
        """`timeout`: seconds to wait until it is free."""
        return blocking_lease(self._thread, path, ttl, timeout)

    def propose(self, thought: Thought, *, idempotency_key: str | bytes | None = None, timeout: float | None = None) -> Receipt:
        """Raises OutcomeUnknown after so many seconds."""
        return written(self._thread, lambda key: self._node.propose(thought, idempotency_key=key), idempotency_key, timeout)

    def agree(
        self, wishes: Sequence[Wish], *, idempotency_key: str | bytes | None = None, timeout: float | None = None
    ) -> list[Receipt | NotCommitted | OutcomeUnknown]:
        """As `Node.agree`. After so many seconds, what has no outcome yet is OutcomeUnknown, with the key of that one write."""
        return agreed(self._thread, wishes, idempotency_key, timeout)

    def watch(self, prefix: PathLike = "", *, limit: int = LIMIT) -> BlockingReader[Change]:
        return BlockingReader(self._thread, self._thread.call(partial(self._node.watch, prefix, limit=limit)))

    def listen(self, prefix: PathLike, callback: Callable[[Change], object]) -> BlockingListener:
        """As `Node.listen`. `callback` is called in the node's thread: there it may read and write, not wait; what it raises ends
        the node, and comes out of `open_node`."""
        return BlockingListener(self._thread, self._thread.call(self._node.listen, prefix, callback))

    def events(self, *, limit: int = LIMIT) -> BlockingReader[Event]:
        return BlockingReader(self._thread, self._thread.call(partial(self._node.events, limit=limit)))

    # --- shared values, as in crdt.types.Handles

    def register(self, path: PathLike, *, while_alive: bool = False) -> Register:
        return self._proxy(self._node.register(path, while_alive=while_alive))

    def multi_value(self, path: PathLike, *, while_alive: bool = False) -> MultiValue:
        return self._proxy(self._node.multi_value(path, while_alive=while_alive))

    def counter(self, path: PathLike, *, while_alive: bool = False) -> Counter:
        return self._proxy(self._node.counter(path, while_alive=while_alive))

    def grow_only_counter(self, path: PathLike, *, while_alive: bool = False) -> GrowOnlyCounter:
        return self._proxy(self._node.grow_only_counter(path, while_alive=while_alive))

    def maximum(self, path: PathLike, *, while_alive: bool = False) -> Maximum:
        return self._proxy(self._node.maximum(path, while_alive=while_alive))

    def minimum(self, path: PathLike, *, while_alive: bool = False) -> Minimum:
        return self._proxy(self._node.minimum(path, while_alive=while_alive))

    def map(self, path: PathLike, *, while_alive: bool = False) -> Map:
        return self._proxy(self._node.map(path, while_alive=while_alive))

    def list(self, path: PathLike, *, while_alive: bool = False) -> List:
        return self._proxy(self._node.list(path, while_alive=while_alive))

    def log(self, path: PathLike, *, while_alive: bool = False) -> Log:
        return self._proxy(self._node.log(path, while_alive=while_alive))

    def bounded_counter(self, path: PathLike) -> BoundedCounter:
        return self._proxy(self._node.bounded_counter(path))

    def set(self, path: PathLike, *, remove_wins: bool = False, while_alive: bool = False) -> AddWinsSet:
        return self._proxy(self._node.set(path, remove_wins=remove_wins, while_alive=while_alive))

    def flag(self, path: PathLike, *, disable_wins: bool = False, while_alive: bool = False) -> Flag:
        return self._proxy(self._node.flag(path, disable_wins=disable_wins, while_alive=while_alive))

    def custom(self, path: PathLike, view: Callable[[Sequence[Op]], T] | ViewType[T], *, while_alive: bool = False) -> Custom[T]:
        return self._proxy(self._node.custom(path, view, while_alive=while_alive))

    def _proxy(self, handle: H) -> H:
        return cast(H, _Proxy(self._thread, handle))


class BlockingReader(Generic[E]):
    """What `watch` and `events` give: iterate over it, or call `get` with a timeout. It ends when the node does."""

    def __init__(self, thread: _NodeThread, reader: Reader[E]) -> None:
        self._thread, self._reader = thread, reader
        self._ahead: deque[E] = deque()

    def __enter__(self) -> Self:
        self._thread.wait(self._reader.__aenter__)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self._thread.wait(partial(self._reader.__aexit__, None, None, None))
        except NodeClosed:
            return  # it ended the reader itself

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> E:
        item = self.get()
        if item is None:
            raise StopIteration
        return item

    def get(self, timeout: float | None = None) -> E | None:
        """The next one; None when the node has ended. Raises TimeoutError after so many seconds."""
        if not self._ahead:
            self._ahead.extend(self._thread.wait(self._fetch, timeout))
        return self._ahead.popleft() if self._ahead else None

    async def _fetch(self) -> list[E]:
        try:
            items = [await anext(self._reader)]
        except StopAsyncIteration:
            return []
        while len(items) < READ_AHEAD and (item := self._reader.next_nowait()) is not None:
            items.append(item)
        return items


class BlockingListener:
    """What `listen` gives: its callback is called while the block lasts, and not after it."""

    def __init__(self, thread: _NodeThread, listener: Listener) -> None:
        self._thread, self._listener = thread, listener

    def __enter__(self) -> Self:
        self._thread.call(self._listener.__enter__)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with suppress(NodeClosed):  # it ended the listener itself
            self._thread.call(self._listener.end)


class _NodeThread:
    """A thread that runs a node, and the way in for other threads."""

    def __init__(self, config: NodeConfig) -> None:
        self._config = config
        self._thread = threading.Thread(target=self._run, name=f"mesh node {config.membership.name}", daemon=True)
        self._up = threading.Event()
        self._failure: BaseException | None = None
        self._node: Node | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        self._leave: trio.Event | None = None

    @property
    def node(self) -> Node:
        assert self._node is not None
        return self._node

    def start(self) -> None:
        """Returns when the node is up. Raises what kept it from coming up."""
        self._thread.start()
        self._up.wait()
        if self._node is None:
            self.stop()

    def stop(self) -> None:
        """Leave and wait for the end. Raises what the node died of, if it did."""
        if self._leave is not None and self._thread.is_alive():
            with suppress(NodeClosed):  # it died meanwhile: told below
                self.call(self._leave.set)
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def call(self, function: Callable[..., R], *arguments: Any) -> R:
        """Run a function in the node's thread; that is here in what `listen` calls."""
        if threading.current_thread() is self._thread:
            return function(*arguments)
        try:
            return trio.from_thread.run_sync(function, *arguments, trio_token=self._token)
        except trio.RunFinishedError:
            raise NodeClosed("this node has ended: use it inside its with block") from self._failure

    def wait(self, function: Callable[[], Awaitable[R]], timeout: float | None = None) -> R:
        """Run an async function in the node's thread. Raises TimeoutError after so many seconds, ValueError, and RuntimeError
        where that thread itself would wait."""
        if threading.current_thread() is self._thread:
            raise RuntimeError("what `listen` calls must not wait: have another thread do this")
        seconds = seconds_of(timeout)

        async def bounded() -> R:
            with trio.fail_after(seconds):
                return await function()

        try:
            return trio.from_thread.run(bounded, trio_token=self._token)
        except trio.TooSlowError:
            raise TimeoutError(f"not done within {timeout} s") from None
        except (trio.RunFinishedError, trio.Cancelled):
            raise NodeClosed("this node has ended: use it inside its with block") from self._failure

    def _run(self) -> None:
        try:
            trio.run(self._main)
        except BaseException as failure:  # noqa: BLE001 - carried to the thread that waits in `stop`
            self._failure = failure
        finally:
            self._up.set()

    async def _main(self) -> None:
        async with open_async_node(self._config) as node:
            self._token, self._leave = trio.lowlevel.current_trio_token(), trio.Event()
            self._node = node
            self._up.set()
            await self._leave.wait()


class _Proxy:
    """A handle whose every use happens in the node's thread. Typed as the handle that it stands for."""

    __slots__ = ("_target", "_thread")

    def __init__(self, thread: _NodeThread, target: Any) -> None:
        self._thread, self._target = thread, target

    def __getattr__(self, name: str) -> Any:
        found = self._thread.call(getattr, self._target, name)
        return partial(self._call, found) if callable(found) else self._plain(found)

    def _call(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        return self._plain(self._thread.call(partial(function, *arguments, **options)))

    def _plain(self, value: Any) -> Any:
        """Handles inside maps are used in the node's thread too; an iterator would read there later, so it is read now."""
        if isinstance(value, Handle | Map):
            return _Proxy(self._thread, value)
        return iter(self._thread.call(list, value)) if isinstance(value, Iterator) else value

    def __iter__(self) -> Iterator[Any]:
        return iter(self._thread.call(list, self._target))

    def __len__(self) -> int:
        return self._call(len, self._target)  # type: ignore[no-any-return]

    def __bool__(self) -> bool:
        return self._call(bool, self._target)  # type: ignore[no-any-return]

    def __int__(self) -> int:
        return self._call(int, self._target)  # type: ignore[no-any-return]

    def __contains__(self, item: object) -> bool:
        return self._call(lambda: item in self._target)  # type: ignore[no-any-return]

    def __getitem__(self, key: Any) -> Any:
        return self._call(lambda: self._target[key])

    def __setitem__(self, key: Any, value: Any) -> None:
        self._call(lambda: self._target.__setitem__(key, value))

    def __delitem__(self, key: Any) -> None:
        self._call(lambda: self._target.__delitem__(key))

    def __eq__(self, other: object) -> bool:
        return self._binary(operator.eq, other)  # type: ignore[no-any-return]

    # Sets compare and combine; handles that do not say so as they do themselves.

    def __le__(self, other: object) -> Any:
        return self._binary(operator.le, other)

    def __lt__(self, other: object) -> Any:
        return self._binary(operator.lt, other)

    def __ge__(self, other: object) -> Any:
        return self._binary(operator.ge, other)

    def __gt__(self, other: object) -> Any:
        return self._binary(operator.gt, other)

    def __and__(self, other: object) -> Any:
        return self._binary(operator.and_, other)

    def __or__(self, other: object) -> Any:
        return self._binary(operator.or_, other)

    def __sub__(self, other: object) -> Any:
        return self._binary(operator.sub, other)

    def __xor__(self, other: object) -> Any:
        return self._binary(operator.xor, other)

    def __rand__(self, other: object) -> Any:
        return self._binary(operator.and_, other, swapped=True)

    def __ror__(self, other: object) -> Any:
        return self._binary(operator.or_, other, swapped=True)

    def __rsub__(self, other: object) -> Any:
        return self._binary(operator.sub, other, swapped=True)

    def __rxor__(self, other: object) -> Any:
        return self._binary(operator.xor, other, swapped=True)

    def _binary(self, operation: Callable[[Any, Any], Any], other: object, *, swapped: bool = False) -> Any:
        theirs = other._target if isinstance(other, _Proxy) else other
        left, right = (theirs, self._target) if swapped else (self._target, theirs)
        return self._call(operation, left, right)

    def __hash__(self) -> int:
        return hash(self._target)

    def __repr__(self) -> str:
        return self._call(repr, self._target)  # type: ignore[no-any-return]
