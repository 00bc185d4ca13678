"""The quorum's log synced by the kernel instead of a thread: the same promises."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
import trio.testing

from consensus_escalation.effects import BlocksStored
from mesh.store import journal as journals
from mesh.store import kernel_sync
from mesh.store.kernel_sync import KernelSyncing, best_syncing
from mesh.store.syncing import Syncing
from tests.store.test_block_log import durable, found_in, opened
from tests.store.test_journal import batch, blocks


def by_kernel(on_end: Callable[[], None]) -> KernelSyncing:
    try:
        return KernelSyncing(on_end)
    except OSError as error:
        pytest.skip(f"this kernel does not do it: {error}")


def file_in(directory: Path) -> int:
    file = os.open(directory / "file", os.O_RDWR | os.O_CREAT)
    os.pwrite(file, bytes(10_000), 0)
    return file


async def test_its_end_is_told_or_waited_for(tmp_path: Path) -> None:
    ended = trio.Event()
    sync, file = by_kernel(lambda: ended.set()), file_in(tmp_path)
    for _ in range(20):
        ended = trio.Event()
        os.pwrite(file, b"1", 0)
        sync.begin(file)
        assert sync.is_under_way
        with trio.fail_after(10):
            await ended.wait()
        assert sync.has_ended()
        assert not sync.is_under_way
    for _ in range(20):
        os.pwrite(file, b"2", 0)
        sync.begin(file)
        assert sync.has_ended(10.0)
        assert not sync.is_under_way
        assert not sync.has_ended()
    sync.close()
    os.close(file)


async def test_what_fails_says_so_at_once_or_when_it_has_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sync, (read, write) = by_kernel(lambda: None), os.pipe()
    with pytest.raises(OSError, match="Invalid argument"):
        sync.begin(write)
    assert not sync.is_under_way, "a pipe cannot be synced"
    file = file_in(tmp_path)
    sync.begin(file)
    assert sync._wait(10.0)
    ctypes.memmove(ctypes.addressof(sync._event) + 16, (-5).to_bytes(8, "little", signed=True), 8)
    monkeypatch.setattr(sync, "_wait", lambda _seconds: True)
    with pytest.raises(OSError, match="Input/output error"):
        sync.has_ended()
    sync.close()
    for each in (read, write, file):
        os.close(each)


async def test_it_leaves_nothing_open(tmp_path: Path) -> None:
    """Closed in the middle of a sync, too."""
    by_kernel(lambda: None).close()
    await trio.testing.wait_all_tasks_blocked()
    file, before = file_in(tmp_path), len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        sync = by_kernel(lambda: None)
        os.pwrite(file, b"1", 0)
        sync.begin(file)
        await trio.to_thread.run_sync(sync.close)
        await trio.testing.wait_all_tasks_blocked()
    assert len(os.listdir("/proc/self/fd")) == before
    os.close(file)


async def test_a_journal_by_it_keeps_what_it_promised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journals, "best_syncing", by_kernel)
    told: list[int] = []
    async with opened(tmp_path, told) as journal:
        for index in range(2, 60):
            journal.submit(batch(index, BlocksStored(blocks(index, index))))
            if index % 3:
                journal.begin()
            if index % 7 == 0:
                await durable(told, index)
        await durable(told, 59)
        assert journal._log is not None
    assert told == sorted(set(told))
    assert len(found_in(tmp_path).blocks) == 59


async def test_a_sync_that_cannot_begin_is_left_to_a_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Regression: a kernel before 4.18 (and some sandboxes) takes the calls and does not know what is asked of them. A voter
    there went without a log of blocks, and warned of its disk."""
    monkeypatch.setattr(journals, "best_syncing", by_kernel)
    told: list[int] = []
    async with opened(tmp_path, told) as journal:
        journal.submit(batch(2, BlocksStored(blocks(2, 2))))
        await durable(told, 2)
        for index in range(3, 6):
            if index == 4:
                assert isinstance(journal._sync, KernelSyncing)
                journal._sync._submit = ctypes.c_long(-1)
            journal.submit(batch(index, BlocksStored(blocks(index, index))))
            await durable(told, index)
        assert journal._log is not None
        assert isinstance(journal._sync, Syncing)
        journal.submit(batch(6, BlocksStored(blocks(6, 6))))
        journal.begin()
        await durable(told, 6)
    assert len(found_in(tmp_path).blocks) == 6


@pytest.mark.parametrize("lacks", ["a number", "permission"])
async def test_without_the_kernels_help_a_thread_does_it(lacks: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_sync, "_CALLS", {} if lacks == "a number" else dict.fromkeys(kernel_sync._CALLS, (-1, -1, -1, -1)))
    sync = best_syncing(lambda: None)
    assert isinstance(sync, Syncing)
    sync.close()
