"""The store as a node uses it: submit, flush, run, and what happens when the disk or the process fails."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import trio.testing

from mesh.errors import ConfigError, StorageCorrupt, StorageError, StorageFull
from mesh.events import Event, StorageFailing, StorageRecovered
from mesh.store.memory import MemoryStore, Store
from mesh.store.rows import Batch, Restored
from mesh.store.sqlite import GROUP_SECONDS, SqliteStore, open_store
from tests.store.journals import Author, plain


def numbered(number: int) -> Batch:
    return Batch(meta={"number": b"%d" % number, f"name {number % 50}": b"%d" % number})


async def reloaded(path: Path) -> Restored:
    async with open_store(path) as store:
        return await store.load()


def limit_pages(store: Store, pages: int | None) -> None:
    """As a full disk: the file may grow by so many pages only; None: make room."""
    assert isinstance(store, SqliteStore)
    database = store._disk._database
    most = 2**30 if pages is None else database.execute("PRAGMA page_count").fetchone()[0] + pages
    database.execute(f"PRAGMA max_page_count = {most}")


def transactions(store: Store) -> list[str]:
    """A list that grows by one with each transaction."""
    assert isinstance(store, SqliteStore)
    begun: list[str] = []
    store._disk._database.set_trace_callback(lambda sql: begun.append(sql) if sql.startswith("BEGIN") else None)
    return begun


async def test_what_was_flushed_is_there_after_a_restart(tmp_path: Path) -> None:
    author = Author(1)
    async with open_store(tmp_path) as store:
        assert plain(await store.load()) == plain(Restored())
        for number, batch in enumerate(author.batches(10), 1):
            assert store.submit(batch) == number
        assert store.durable == 0
        assert store.backlog_bytes > 0
        await store.flush()
        assert store.durable == 10
        assert store.backlog_bytes == 0
    assert plain(await reloaded(tmp_path)) == plain(author.tables.restored())


async def test_what_was_only_submitted_is_committed_at_the_end(tmp_path: Path) -> None:
    """Also when the end is a cancellation or an exception."""

    class StopError(Exception):
        pass

    for number, end in enumerate((None, "cancel", "raise"), 1):
        with contextlib.suppress(StopError), trio.CancelScope() as scope:
            async with open_store(tmp_path) as store:
                store.submit(numbered(number))
                if end == "cancel":
                    scope.cancel()
                    await trio.sleep_forever()
                if end == "raise":
                    raise StopError
        assert (await reloaded(tmp_path)).meta["number"] == b"%d" % number


async def test_batches_are_committed_in_groups(tmp_path: Path) -> None:
    durable = trio.Event()
    async with open_store(tmp_path) as store, trio.open_nursery() as nursery:
        begun = transactions(store)
        store.on_durable = lambda: durable.set() if store.durable == 100 else None
        await nursery.start(store.run)
        for number in range(100):
            store.submit(numbered(number))
            await trio.lowlevel.checkpoint()
        with trio.fail_after(5):
            await durable.wait()
        assert len(begun) < 10  # one, on a machine with nothing else to do
        nursery.cancel_scope.cancel()


async def test_a_commit_waits_for_company_but_not_for_long(mock_clock: trio.testing.MockClock, tmp_path: Path) -> None:
    async with open_store(tmp_path) as store, trio.open_nursery() as nursery:
        await nursery.start(store.run)
        for number in (1, 2):
            durable = trio.Event()
            store.on_durable = durable.set
            store.submit(numbered(number))
            await trio.testing.wait_all_tasks_blocked()
            mock_clock.jump(GROUP_SECONDS * 0.9)
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert store.durable == number - 1
            mock_clock.jump(GROUP_SECONDS * 0.2)
            await durable.wait()
            assert store.durable == number
            mock_clock.jump(10)
        nursery.cancel_scope.cancel()
    assert GROUP_SECONDS <= 0.05  # the design allows 100 ms; the other half is the disk's


async def test_flush_does_not_wait_for_the_group(tmp_path: Path) -> None:
    """Nor for `run`: it works without."""
    async with open_store(tmp_path) as store:
        begun = transactions(store)
        await store.flush()
        assert begun == []  # nothing to do
        store.submit(numbered(1))
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(store.flush)
        assert store.durable == 1
        assert len(begun) == 1  # one transaction for all who wait


async def test_a_commit_does_not_stop_the_event_loop(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        store.submit(Batch(meta={f"{number}": bytes(1_000) for number in range(5_000)}))
        turns = 0
        async with trio.open_nursery() as nursery:

            async def turn() -> None:
                nonlocal turns
                while True:
                    await trio.lowlevel.checkpoint()
                    turns += 1

            nursery.start_soon(turn)
            await store.flush()
            assert turns > 10
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("steps", range(8))
async def test_cancelled_at_any_step_nothing_is_lost(steps: int, tmp_path: Path) -> None:
    """A flush that is cancelled while the thread works has either written all or keeps all; the next one finds it so."""
    author = Author(steps)
    async with open_store(tmp_path) as store:
        for _ in range(5):
            async with trio.open_nursery() as nursery:
                for batch in author.batches(3):
                    store.submit(batch)
                nursery.start_soon(store.run)
                nursery.start_soon(store.flush)
                for _ in range(steps):
                    await trio.lowlevel.checkpoint()
                store.submit(author.batch())
                nursery.cancel_scope.cancel()
        await store.flush()
        assert plain(await store.load()) == plain(author.tables.restored())
    assert plain(await reloaded(tmp_path)) == plain(author.tables.restored())


async def test_cancelled_while_it_opens_the_directory_is_free_again(tmp_path: Path) -> None:
    for steps in range(4):
        async with trio.open_nursery() as nursery:

            async def open_and_wait() -> None:
                async with open_store(tmp_path):
                    await trio.sleep_forever()

            nursery.start_soon(open_and_wait)
            for _ in range(steps):
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        assert plain(await reloaded(tmp_path)) == plain(Restored())


async def test_every_await_is_a_checkpoint(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        with trio.testing.assert_checkpoints():
            await store.flush()
        with trio.testing.assert_checkpoints():
            await store.load()
        store.submit(numbered(1))
        with trio.testing.assert_checkpoints():
            await store.flush()


# --- the disk fails


async def test_a_full_disk_is_told_and_forgotten_when_there_is_room(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    told: list[Event] = []
    author = Author(2)
    async with open_store(tmp_path, notify=told.append, backlog_bytes_max=30_000) as store, trio.open_nursery() as nursery:
        await nursery.start(store.run)
        limit_pages(store, 0)
        large = Batch(meta={f"large {number}": bytes(2_000) for number in range(20)})
        author.tables.apply(large)
        store.submit(large)
        assert store.congested
        with pytest.raises(StorageFull, match=r"make room on that disk. What waits is kept"):
            await store.flush()
        for batch in author.batches(10):
            store.submit(batch)
        for _ in range(2):
            with pytest.raises(StorageFull):
                await store.flush()
        assert store.durable == 0
        assert [type(event) for event in told] == [StorageFailing]  # told once, not at each attempt
        assert "make room" in told[0].reason  # type: ignore[attr-defined]
        limit_pages(store, None)
        await store.flush()
        assert store.durable == 11
        assert not store.congested
        assert [type(event) for event in told] == [StorageFailing, StorageRecovered]
        nursery.cancel_scope.cancel()
    assert plain(await reloaded(tmp_path)) == plain(author.tables.restored())
    assert "takes writes again" in caplog.text


async def test_run_tries_again_by_itself(tmp_path: Path) -> None:
    recovered = trio.Event()

    def notice(event: Event) -> None:
        if isinstance(event, StorageRecovered):
            recovered.set()

    async with open_store(tmp_path, notify=notice) as store, trio.open_nursery() as nursery:
        await nursery.start(store.run)
        limit_pages(store, 0)
        store.submit(Batch(meta={f"large {number}": bytes(2_000) for number in range(20)}))
        await trio.sleep(0.2)
        assert store.durable == 0
        async with store._committing:  # type: ignore[attr-defined]  # not while the thread uses the connection
            limit_pages(store, None)
        with trio.fail_after(10):
            await recovered.wait()
        assert store.durable == 1
        nursery.cancel_scope.cancel()


async def test_all_who_wait_are_told_by_one_attempt(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        limit_pages(store, 0)
        store.submit(Batch(meta={f"large {number}": bytes(2_000) for number in range(20)}))
        begun, errors = transactions(store), 0

        async def flush() -> None:
            nonlocal errors
            with pytest.raises(StorageFull):
                await store.flush()
            errors += 1

        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(flush)
        assert errors == 10
        assert len(begun) == 1
        limit_pages(store, None)


async def test_an_end_on_a_full_disk_says_what_was_not_committed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def end(error: Exception | None) -> None:
        async with open_store(tmp_path) as store:
            limit_pages(store, 0)
            store.submit(Batch(meta={f"large {number}": bytes(2_000) for number in range(20)}))
            if error:
                raise error

    with pytest.raises(StorageFull):
        await end(None)
    with pytest.raises(KeyError, match="the reason"):  # is not hidden by the disk's
        await end(KeyError("the reason"))
    assert caplog.text.count("cannot grow") >= 2
    await reloaded(tmp_path)  # and the directory is free again


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 256 KiB."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(tmp_path)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount a small disk here: {mounted.stderr.decode().strip()}")
    try:
        yield tmp_path
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk; max_page_count stands in for it above")
async def test_a_disk_that_is_really_full(small_disk: Path) -> None:
    author = Author(3)
    hog = small_disk / "hog"
    async with open_store(small_disk / "data") as store:
        store.submit(numbered(1))
        author.tables.apply(numbered(1))
        await store.flush()
        with contextlib.suppress(OSError), hog.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4_096))
        refused = 0
        for batch in author.batches(60):
            store.submit(batch)
            try:
                await store.flush()
            except StorageError:
                refused += 1
        assert refused > 0
        hog.unlink()
        await store.flush()
        assert plain(await store.load()) == plain(author.tables.restored())
    assert plain(await reloaded(small_disk / "data")) == plain(author.tables.restored())


FILE_LIMIT = """
import resource, sys, trio
from pathlib import Path
from mesh.errors import StorageError
from mesh.store.rows import Batch
from mesh.store.sqlite import open_store

async def main():
    async with open_store(Path(sys.argv[1])) as store:
        store.submit(Batch(meta={"before": b"1"}))
        await store.flush()
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, hard))
        store.submit(Batch(meta={f"large {n}": bytes(2_000) for n in range(200)}))
        try:
            await store.flush()
        except StorageError as error:
            print("refused", error)
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        await store.flush()
        print("flushed")
trio.run(main)
"""


async def test_a_file_that_may_not_grow(tmp_path: Path) -> None:
    """The system's own refusal, in a process of its own: a quota answers in the same way."""
    result = await trio.run_process([sys.executable, "-c", FILE_LIMIT, str(tmp_path)], capture_stdout=True)
    refused, flushed = result.stdout.decode().splitlines()
    assert refused.startswith("refused")
    assert str(tmp_path) in refused
    assert flushed == "flushed"
    assert len((await reloaded(tmp_path)).meta) == 201


# --- the process fails


WRITER = """
import sys, trio
from pathlib import Path
from mesh.store.rows import Batch
from mesh.store.sqlite import open_store

async def main():
    async with open_store(Path(sys.argv[1])) as store, trio.open_nursery() as nursery:
        await nursery.start(store.run)
        number = int((await store.load()).meta.get("number", b"0"))
        print("at", number, flush=True)
        while True:
            for _ in range(number % 7 + 1):
                number += 1
                store.submit(Batch(meta={"number": b"%d" % number, f"name {number % 50}": b"%d" % number}))
            if number % 3:
                await trio.sleep(0.001)
            else:
                await store.flush()
                print("flushed", number, flush=True)
trio.run(main)
"""


def killed_while_writing(path: Path, seconds: float) -> tuple[int, int]:
    """A real process that writes here, killed so long after its first flush: where it began, and what flush confirmed last."""
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        lines = [child.stdout.readline(), child.stdout.readline()]
        time.sleep(seconds)
        child.send_signal(signal.SIGKILL)
        lines += child.stdout.readlines()
    numbers = {verb: int(number) for verb, number in (line.split() for line in lines if line.endswith("\n"))}
    return numbers["at"], numbers["flushed"]


async def test_kill_9_loses_nothing_that_flush_confirmed(tmp_path: Path) -> None:
    """Killed at random moments, always the same directory: what was confirmed is there, and the state is that of one batch."""
    rng = random.Random(4)
    reached = 0
    for _ in range(5):
        began, confirmed = await trio.to_thread.run_sync(killed_while_writing, tmp_path, rng.uniform(0, 0.15))
        assert began == reached
        meta = (await reloaded(tmp_path)).meta
        reached = int(meta["number"])
        assert reached >= confirmed > began
        for name in range(50):
            newest = reached - (reached - name) % 50
            assert meta.get(f"name {name}") == (b"%d" % newest if newest > 0 else None)


# --- who may open it


async def test_two_openers(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        store.submit(numbered(1))
        with pytest.raises(ConfigError, match="already open in this process"):
            async with open_store(tmp_path):
                pytest.fail("opened twice")
        command = [sys.executable, "-c", WRITER, str(tmp_path)]
        result = await trio.run_process(command, check=False, capture_stderr=True, capture_stdout=True)
        assert result.returncode
        assert f"in use by process {os.getpid()}: stop it" in result.stderr.decode()
        await store.flush()
    assert (await reloaded(tmp_path)).meta["number"] == b"1"


async def test_a_damaged_file_is_not_opened_and_not_touched(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        store.submit(numbered(1))
    path = tmp_path / "state.db"
    damaged = path.read_bytes().replace(b"name 1", b"name 2")
    path.write_bytes(damaged)
    with pytest.raises(StorageCorrupt, match=r"Move state\.db and state\.db-wal out of"):
        await reloaded(tmp_path)
    assert path.read_bytes() == damaged


async def test_after_the_end_nothing_is_taken(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        pass
    with pytest.raises(trio.ClosedResourceError):
        store.submit(numbered(1))


async def test_a_mistake_of_ours_comes_out_of_run(tmp_path: Path) -> None:
    """It is no disk error, and retrying it for ever would hide it."""
    with pytest.RaisesGroup(pytest.RaisesExc(OverflowError)):
        async with open_store(tmp_path) as store:
            try:
                async with trio.open_nursery() as nursery:
                    await nursery.start(store.run)
                    store.submit(Batch(incarnation=2**64))
                    await trio.sleep(5)
            finally:
                store.submit(Batch(incarnation=1))  # the newest counts, so that the end is in order


async def test_without_a_directory_nothing_is_kept() -> None:
    async with open_store(None) as store, trio.open_nursery() as nursery:
        assert isinstance(store, MemoryStore)
        await nursery.start(store.run)
        assert plain(await store.load()) == plain(Restored())
        assert store.submit(numbered(1)) == 1
        assert store.durable == 1
        await store.flush()
        assert (store.congested, store.backlog_bytes) == (False, 0)
        nursery.cancel_scope.cancel()
