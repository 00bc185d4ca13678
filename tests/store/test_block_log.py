"""The ring that a voter's newest blocks are in before the database has them: what of it a start finds, whatever became of it."""

from __future__ import annotations

import os
import random
import shutil
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import fields
from pathlib import Path

import pytest
import trio

from consensus_escalation.effects import BlocksStored, TermAndVote
from mesh.errors import StorageCorrupt, StorageError
from mesh.events import Event
from mesh.quorum.rows import Begun, Image, QuorumBatch, QuorumRestored
from mesh.store import journal as journals
from mesh.store import syncing
from mesh.store.block_log import LOG_NAME, RING_BYTES, BlockLog, Place, block_rows, open_ring, read_ring
from mesh.store.journal import FileJournal, open_journal
from mesh.store.ledger_file import FILE_NAME, LedgerFile
from mesh.store.syncing import Syncing
from tests.consensus.cluster import voter
from tests.store.test_journal import HISTORY, batch, blocks

SECRET = bytes(range(24))


def ring(directory: Path, secret: bytes = SECRET) -> BlockLog:
    return BlockLog(open_ring(directory, secret), secret)


def append(log: BlockLog, index: int, count: int = 1) -> bool:
    found = batch(index, BlocksStored(blocks(index, index + count - 1)))
    rows = block_rows(found, index - 1)
    assert rows is not None
    return log.append(found, rows)


def indexes(directory: Path, folded: int = 0) -> tuple[list[int], bool]:
    records, is_lost = read_ring(directory, Place(SECRET, folded))
    return [row[0] for rows in records for row in rows], is_lost


# ---- the ring


def test_what_is_appended_is_what_is_read(tmp_path: Path) -> None:
    log = ring(tmp_path)
    for index in (1, 2, 5):
        assert append(log, index, 3 if index == 2 else 1)
    log.close()
    records, is_lost = read_ring(tmp_path, Place(SECRET, 0))
    assert not is_lost
    stored = [
        [(each.index, each.header_bytes, each.signature, each.body, number // 2) for each in blocks(first, last)]
        for number, first, last in ((1, 1, 1), (2, 2, 4), (5, 5, 5))
    ]
    assert records == stored
    assert indexes(tmp_path, 2) == ([5], False)


def test_it_goes_round_and_never_over_what_the_database_lacks(tmp_path: Path) -> None:
    log, rng, index, folded, refused = ring(tmp_path), random.Random(1), 0, 0, 0
    while index < 14_000:
        while append(log, index + 1):
            index += 1
            if rng.random() < 0.0001:
                break
        else:
            refused += 1
        if rng.random() < 0.5:
            assert indexes(tmp_path, folded) == ([*range(folded + 1, index + 1)], False)
        was_half_full, handed = log.is_half_full, log.hand_over()[0]
        assert not was_half_full or handed
        assert not log.is_half_full
        folded = log.number if rng.random() < 0.7 else rng.randint(folded, log.number)
        log.was_taken(Place(SECRET, folded))
    log.close()
    assert refused >= 2
    assert (tmp_path / LOG_NAME).stat().st_size == RING_BYTES


@pytest.mark.parametrize("seed", range(20))
def test_what_a_power_cut_tears_off_was_promised_to_nobody(tmp_path: Path, seed: int) -> None:
    """Pages reach the disk in any order until the sync has ended."""
    rng, log = random.Random(seed), ring(tmp_path)
    for index in range(1, 10):
        append(log, index)
    log.was_synced(9)
    synced = (tmp_path / LOG_NAME).read_bytes()
    for index in range(10, 20):
        append(log, index, rng.choice([1, 3]) if index == 19 else 1)
    log.close()
    written, torn = (tmp_path / LOG_NAME).read_bytes(), bytearray(synced)
    for place in range(0, RING_BYTES, 512):
        if rng.random() < 0.5:
            torn[place : place + 512] = written[place : place + 512]
    (tmp_path / LOG_NAME).write_bytes(torn)
    found, is_lost = indexes(tmp_path)
    assert found[:9] == [*range(1, 10)]
    assert found == [*range(1, len(found) + 1)]
    assert not is_lost


def test_what_was_promised_and_cannot_be_read_is_told(tmp_path: Path) -> None:
    log = ring(tmp_path)
    for index in range(1, 6):
        append(log, index)
        log.was_synced(index)
    log.close()
    path = tmp_path / LOG_NAME
    raw = bytearray(path.read_bytes())
    raw[raw.index(blocks(3, 3)[0].header_bytes)] ^= 1
    path.write_bytes(raw)
    assert indexes(tmp_path) == ([1, 2], True)
    assert indexes(tmp_path, 3) == ([4, 5], False), "the database has it"
    path.unlink()
    assert indexes(tmp_path) == ([], True)


def test_a_former_log_says_nothing(tmp_path: Path) -> None:
    log = ring(tmp_path, bytes(24))
    for index in range(1, 6):
        append(log, index)
    log.close()
    log = ring(tmp_path)
    append(log, 1)
    log.close()
    assert indexes(tmp_path) == ([1], False)


# ---- with the database


def found_in(directory: Path) -> QuorumRestored:
    file = LedgerFile(directory)
    try:
        return file.load()
    finally:
        file.close()


@pytest.fixture(autouse=True)
def by_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the kernel does it: `tests/store/test_kernel_sync.py`."""
    monkeypatch.setattr(journals, "best_syncing", Syncing)


def threads(journal: FileJournal) -> Syncing:
    assert isinstance(journal._sync, Syncing)
    return journal._sync


@asynccontextmanager
async def opened(directory: Path, told: list[int]) -> AsyncIterator[FileJournal]:
    """A journal that uses its log."""
    async with open_journal(directory, notify=lambda _event: None) as journal:
        assert isinstance(journal, FileJournal)
        journal.on_durable = told.append
        with trio.fail_after(10):
            journal.submit(batch(1, BlocksStored(blocks(1, 1))))
            while journal._log is None:  # noqa: ASYNC110  # the thread makes it, and tells nobody else
                await trio.sleep(0.001)
            yield journal


async def durable(told: list[int], ticket: int) -> None:
    while not told or told[-1] < ticket:  # noqa: ASYNC110  # told by a call
        await trio.sleep(0.001)


async def test_blocks_go_to_the_log_and_come_back(tmp_path: Path) -> None:
    told: list[int] = []
    async with opened(tmp_path, told) as journal:
        before = (tmp_path / (FILE_NAME + "-wal")).stat().st_mtime_ns
        for index in range(2, 50):
            journal.submit(batch(index, BlocksStored(blocks(index, index))))
            if index % 3 == 0:
                journal.begin()
        await durable(told, 49)
        assert (tmp_path / (FILE_NAME + "-wal")).stat().st_mtime_ns == before
        shutil.copytree(tmp_path, tmp_path / "copy")
    assert told == sorted(set(told))
    for directory in (tmp_path / "copy", tmp_path):
        found = found_in(directory)
        assert len(found.blocks) == 49
        assert not found.is_damaged
    (tmp_path / LOG_NAME).unlink()
    assert not found_in(tmp_path).is_damaged, "after a clean end all is in the database"


async def test_a_power_cut_takes_nothing_that_was_told(tmp_path: Path) -> None:
    """The same history as the database alone is held against, twice over so that all kinds of rows come between blocks."""
    told, image, directory = list[int](), Image(), tmp_path / "running"
    directory.mkdir()
    async with open_journal(directory, notify=lambda _event: None) as journal:
        assert isinstance(journal, FileJournal)
        journal.on_durable = told.append
        with trio.fail_after(30):
            for ticket, rows in enumerate([*HISTORY, *HISTORY], 1):
                after = [(BlocksStored(blocks(24, 24)),), (BlocksStored(blocks(25, 27)),)] if ticket % len(HISTORY) == 15 else []
                for each in [rows, *after]:
                    image.apply(QuorumBatch(ticket, tuple(each), 0, True))
                    journal.submit(QuorumBatch(ticket, tuple(each), 0, True))
                await durable(told, ticket)
                while journal._submitted:  # noqa: ASYNC110  # what has the same ticket is told once
                    await trio.sleep(0.001)
                copy = tmp_path / f"copy{ticket}"
                shutil.copytree(directory, copy)
                found, wanted = found_in(copy), image.restored()
                for name in {each.name for each in fields(found)} - {"commit"}:
                    assert getattr(found, name) == getattr(wanted, name), (ticket, name)


async def test_the_database_takes_what_half_fills_the_log(tmp_path: Path) -> None:
    told, index = list[int](), 1
    async with opened(tmp_path, told) as journal:
        while index < 6_000:
            index += 1
            journal.submit(batch(index, BlocksStored(blocks(index, index))))
            if index % 50 == 0:
                await durable(told, index)
        assert journal._log is not None
        await durable(told, index)
    assert told == sorted(set(told))
    assert len(found_in(tmp_path).blocks) == 6_000


@pytest.mark.parametrize("where", ["sync_data", "append"])
async def test_what_a_failing_sync_leaves_open_goes_to_the_database(
    tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sync that fails once may succeed the next time, although the pages are lost."""

    def fail(*_: object) -> bool:
        raise OSError(5, "Input/output error")

    told: list[int] = []
    async with opened(tmp_path, told) as journal:
        journal.submit(batch(2, BlocksStored(blocks(2, 2))))
        await durable(told, 2)
        with monkeypatch.context() as patch:
            patch.setattr(BlockLog if where == "append" else syncing, where, fail)
            journal.submit(batch(3, BlocksStored(blocks(3, 3))))
            journal.submit(batch(4, BlocksStored(blocks(4, 4))))
            await durable(told, 4)
        journal.submit(batch(5, BlocksStored(blocks(5, 5))))
        await durable(told, 5)
        assert journal._log is None
        shutil.copytree(tmp_path, tmp_path / "copy")
    (tmp_path / "copy" / LOG_NAME).unlink()
    for directory in (tmp_path / "copy", tmp_path):
        assert len(found_in(directory).blocks) == 5
        assert not found_in(directory).is_damaged


async def test_what_somebody_waits_for_is_durable_before_the_turn_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would be told when the event loop comes round again."""
    monkeypatch.setattr(journals, "PROMPT_SECONDS", 10.0)
    told: list[int] = []
    async with opened(tmp_path, told) as journal:
        await durable(told, 1)
        for index in range(2, 20):
            journal.submit(batch(index, BlocksStored(blocks(index, index))))
            assert told[-1] < index
            journal.begin()
            assert told[-1] == index


async def test_a_disk_that_stalls_is_waited_for_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the event loop would wait for it with every block, and heart-beats with it."""
    told, waits = list[int](), list[float]()
    async with opened(tmp_path, told) as journal:
        real, is_stalled = Syncing.has_ended, True

        def has_ended(self: Syncing, seconds: float = 0.0) -> bool:
            waits.append(seconds)
            return not is_stalled and real(self, seconds)

        monkeypatch.setattr(Syncing, "has_ended", has_ended)
        for index in range(2, 20):
            journal.submit(batch(index, BlocksStored(blocks(index, index))))
            journal.begin()
        assert [seconds for seconds in waits if seconds] == [journals.PROMPT_SECONDS]
        assert told == [1]
        is_stalled = False
        journal._look(0.01)
        await durable(told, 19)


@pytest.mark.parametrize("name", [FILE_NAME, FILE_NAME + "-wal", LOG_NAME])
async def test_a_file_that_was_taken_away_takes_no_blocks(tmp_path: Path, name: str) -> None:
    told, heard = list[int](), list[Event]()
    async with opened(tmp_path, told) as journal:
        journal._notify = heard.append
        (tmp_path / name).unlink()
        journal.submit(batch(2, BlocksStored(blocks(2, 2))))
        with trio.move_on_after(0.3):
            await durable(told, 2)
        assert (told[-1] == 2) is (name == LOG_NAME), "the database takes it where that is still there"
        assert bool(heard) is (name != LOG_NAME)
    if name == LOG_NAME:
        assert len(found_in(tmp_path).blocks) == 2


async def test_a_voter_whose_log_was_lost_knows_it(tmp_path: Path) -> None:
    told: list[int] = []
    directory = tmp_path / "running"
    directory.mkdir()
    async with opened(directory, told) as journal:
        journal.submit(batch(2, BlocksStored(blocks(2, 2))))
        await durable(told, 2)
        shutil.copytree(directory, tmp_path / "copy")
    os.unlink(tmp_path / "copy" / LOG_NAME)
    found = found_in(tmp_path / "copy")
    assert found.is_damaged
    assert len(found.blocks) == 1


async def test_a_disk_without_room_for_a_log_does_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_self: LedgerFile) -> BlockLog:
        raise StorageError("no room")

    monkeypatch.setattr(LedgerFile, "open_log", fail)
    told: list[int] = []
    async with open_journal(tmp_path, notify=lambda _event: None) as journal:
        journal.on_durable = told.append
        with trio.fail_after(10):
            for index in range(1, 20):
                journal.submit(batch(index, BlocksStored(blocks(index, index))))
                await durable(told, index)
    assert len(found_in(tmp_path).blocks) == 19
    assert not (tmp_path / LOG_NAME).exists()


async def test_votes_come_after_the_blocks_before_them(tmp_path: Path) -> None:
    """One ticket stands for all before it."""
    told: list[int] = []
    async with open_journal(tmp_path, notify=lambda _event: None) as journal:
        journal.on_durable = told.append
        with trio.fail_after(10):
            journal.submit(batch(1, Begun(1, b"genesis")))
            for index in range(2, 200):
                row = TermAndVote(index, voter(1)) if index % 7 == 0 else BlocksStored(blocks(index, index))
                journal.submit(batch(index, row))
                if index % 3 == 0:
                    await durable(told, index)
                    shutil.copytree(tmp_path, tmp_path / "copy", ignore=shutil.ignore_patterns("copy"))
                    found = found_in(tmp_path / "copy")
                    assert found.term == max(index // 7 * 7, 0)
                    shutil.rmtree(tmp_path / "copy")
    assert told == sorted(set(told))


async def test_who_comes_by_anyhow_is_not_woken_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A leader hears of its own disk with the first answer of a follower; with none, or without followers, nearly as soon."""
    monkeypatch.setattr(syncing, "LAZY_SECONDS", 0.3)
    monkeypatch.setattr(journals, "LAZY_SECONDS", 0.3)
    told: list[int] = []
    async with opened(tmp_path, told) as journal:
        for ticket in (2, 3):  # nobody came by at the one before
            journal.submit(batch(ticket, BlocksStored(blocks(ticket, ticket))))
            assert not threads(journal)._is_lazy
            await durable(told, ticket)
        journal.visit()
        for ticket in range(4, 10):
            journal.submit(batch(ticket, BlocksStored(blocks(ticket, ticket))))
            assert threads(journal)._is_lazy
            while threads(journal)._ended.locked():  # noqa: ASYNC110  # of another thread
                await trio.sleep(0.001)
            assert told[-1] == ticket - 1
            journal.visit()
            assert told[-1] == ticket
        journal.submit(batch(10, BlocksStored(blocks(10, 10))))
        assert threads(journal)._is_lazy
        await durable(told, 10)
        journal.submit(batch(11, BlocksStored(blocks(11, 11))))
        assert not threads(journal)._is_lazy
        await durable(told, 11)


async def test_who_came_by_too_early_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its followers have answered, so it is the leader's disk that everybody waits for."""
    monkeypatch.setattr(syncing, "LAZY_SECONDS", 3600.0)
    monkeypatch.setattr(journals, "LAZY_SECONDS", 3600.0)
    told, may_go_on, real = list[int](), threading.Event(), syncing.sync_data

    def sync_data(file: int) -> None:
        assert may_go_on.wait(10)
        real(file)

    async with opened(tmp_path, told) as journal:
        await durable(told, 1)
        journal._is_visited = True
        with monkeypatch.context() as patch:
            patch.setattr(syncing, "sync_data", sync_data)
            journal.submit(batch(2, BlocksStored(blocks(2, 2))))
            assert threads(journal)._is_lazy
            journal.visit()
            assert told[-1] == 1
            may_go_on.set()
            await durable(told, 2)


@asynccontextmanager
async def voted(directory: Path) -> AsyncIterator[tuple[FileJournal, list[int]]]:
    """Blocks, a vote, a block after it; `directory/before` is a copy from before the vote."""
    told, here = list[int](), directory / "running"
    here.mkdir()
    async with opened(here, told) as journal:
        journal.submit(batch(2, BlocksStored(blocks(2, 2))))
        await durable(told, 2)
        shutil.copytree(here, directory / "before")
        journal.submit(batch(3, BlocksStored(blocks(3, 3))))
        await durable(told, 3)
        journal.submit(batch(4, TermAndVote(6, voter(1))))
        await durable(told, 4)
        while journal._submitted:  # noqa: ASYNC110
            await trio.sleep(0.001)
        yield journal, told


async def test_a_database_that_lacks_a_vote_of_before_the_log_says_so(tmp_path: Path) -> None:
    """Regression: an older quorum.db beside a newer quorum.log was taken as it was, and voted a second time in one term."""
    async with voted(tmp_path) as (journal, told):
        journal.submit(batch(5, BlocksStored(blocks(4, 4))))
        await durable(told, 5)
        shutil.copy(tmp_path / "running" / LOG_NAME, tmp_path / "before")
        shutil.copytree(tmp_path / "running", tmp_path / "copy")
    assert found_in(tmp_path / "copy").term == 6
    with pytest.raises(StorageCorrupt, match=r"it is older than quorum\.log"):
        found_in(tmp_path / "before")


async def test_a_log_that_lacks_what_the_database_knows_to_be_synced_is_told(tmp_path: Path) -> None:
    """Regression: an older quorum.log beside a newer quorum.db was taken for one that nothing had been written to since."""
    async with voted(tmp_path):
        shutil.copytree(tmp_path / "running", tmp_path / "copy")
        assert not found_in(tmp_path / "copy").is_damaged
        shutil.copytree(tmp_path / "running", tmp_path / "mixed")
        shutil.copy(tmp_path / "before" / LOG_NAME, tmp_path / "mixed")
    assert found_in(tmp_path / "mixed").is_damaged


@pytest.mark.parametrize("left", [b"", bytes(RING_BYTES), b"another"])
def test_a_log_of_which_nothing_is_left_is_told(tmp_path: Path, left: bytes) -> None:
    """One of zeros, or of another time, looked like one that nothing had been written to."""
    log = ring(tmp_path)
    assert indexes(tmp_path) == ([], False)
    append(log, 1)
    log.close()
    if left == b"another":
        ring(tmp_path, bytes(24)).close()
        left = (tmp_path / LOG_NAME).read_bytes()[:100] + bytes(RING_BYTES - 100)
    (tmp_path / LOG_NAME).write_bytes(left)
    assert indexes(tmp_path) == ([], True)


def test_what_would_cover_most_of_the_log_goes_to_the_database(tmp_path: Path) -> None:
    """Torn, it would leave nothing that can be read."""
    log = ring(tmp_path)
    assert not append(log, 1, 2_000)
    assert append(log, 1)
    log.close()


def test_a_record_that_the_disk_took_a_part_of_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest was left out without an error, and the block acknowledged."""
    log, real = ring(tmp_path), os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, data, place: real(file, data[:100], place))
    with pytest.raises(OSError, match="No space"):
        append(log, 1)
    log.close()


def test_a_log_that_the_disk_has_no_room_for_takes_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It took the last room of the disk, which the database needs then."""
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, data, place: real(file, data[:4096], place))
    with pytest.raises(OSError, match="No space"):
        open_ring(tmp_path, SECRET)
    assert not (tmp_path / LOG_NAME).exists()


def test_an_epoch_that_begins_while_the_log_does_leaves_it_known(tmp_path: Path) -> None:
    """The database forgot the log: blocks that were acknowledged later were not looked for there."""
    file = LedgerFile(tmp_path)
    file.load()
    log = file.open_log()
    file.write([batch(1, Begun(1, b"genesis"))])
    append(log, 1)
    log.close()
    file.close()
    assert len(found_in(tmp_path).blocks) == 1


def test_a_database_that_is_older_than_its_log_says_so(tmp_path: Path) -> None:
    file = LedgerFile(tmp_path)
    file.load()
    log = file.open_log()
    file.write([batch(1, BlocksStored(blocks(1, 3)))])
    append(log, 3)
    log.close()
    file.close()
    with pytest.raises(StorageCorrupt, match=r"it is older than quorum\.log"):
        found_in(tmp_path)


async def test_a_platform_without_fdatasync_syncs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread ended with the first block, and nothing was ever promised again."""
    monkeypatch.delattr(os, "fdatasync")
    told: list[int] = []
    async with opened(tmp_path, told) as journal:
        journal.submit(batch(2, BlocksStored(blocks(2, 2))))
        await durable(told, 2)


async def test_a_log_that_is_given_up_during_a_sync_stays_open_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its number may be another file's by then."""
    told: list[int] = []
    async with opened(tmp_path, told) as journal:
        log = journal._log
        assert log is not None
        with monkeypatch.context() as patch:
            patch.setattr(os, "pwrite", lambda *_: 0)
            journal.submit(batch(2, BlocksStored(blocks(2, 2))))
        assert journal._log is None
        os.fstat(log.file)
        await durable(told, 2)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(log.file)


async def test_a_log_that_begins_at_the_end_is_not_missed(tmp_path: Path) -> None:
    """It was left open, and to remove it after a clean end looked like a loss."""
    told: list[int] = []
    for count in range(1, 6):
        async with open_journal(tmp_path, notify=lambda _event: None) as journal:
            journal.on_durable = told.append
            journal.submit(batch(count, BlocksStored(blocks(count, count))))
            await trio.lowlevel.checkpoint()
        (tmp_path / LOG_NAME).unlink(missing_ok=True)
        assert not found_in(tmp_path).is_damaged
