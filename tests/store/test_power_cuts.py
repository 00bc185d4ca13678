"""Power cuts, kills and failing disks at any moment of a voter's journal, held against the order in which it was told things.

The real journal and the real database; the event loop, the two threads and what a disk does with unsynced pages are played by a
seed. Whenever the power goes, the next start must find the first so and so many batches, at least all that were told durable.
"""

from __future__ import annotations

import os
import random
import shutil
import stat
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import fields, replace
from pathlib import Path
from queue import Empty
from types import SimpleNamespace

import pytest

from consensus_escalation.effects import BlocksStored, SnapshotStored, TermAndVote, VerdictStored
from consensus_escalation.kept import Bundle, Proof
from consensus_escalation.verdict import Verdict
from mesh.errors import StorageError
from mesh.quorum.rows import Begun, Forgot, Image, Joined, Left, QuorumBatch, QuorumRestored, Row
from mesh.store import block_log, journal, ledger_file
from mesh.store.block_log import LOG_NAME
from mesh.store.journal import FileJournal
from mesh.store.ledger_file import LedgerFile
from tests.consensus.cluster import digest, voter
from tests.store.test_journal import ACKS, blocks

RING_BYTES = 8192
SECTOR_BYTES = 512


class Idle(Exception):
    """The thread has nothing to do."""


class Disk:
    """What `os` is to the log: what of it is on the disk, and what may be."""

    def __init__(self, directory: Path, rng: random.Random) -> None:
        self.path, self.rng = directory / LOG_NAME, rng
        self.synced = self.path.read_bytes() if self.path.exists() else b""
        self.unsynced: list[tuple[int, bytes]] = []
        self.lost: list[tuple[int, bytes]] = []
        """A sync of these has failed: no later one takes them along."""
        self.is_failing = False

    def __getattr__(self, name: str) -> object:
        return getattr(os, name)

    def pwrite(self, file: int, data: bytes, place: int) -> int:
        if self.is_failing and self.rng.random() < 0.2:
            if self.rng.random() < 0.5:
                raise OSError(28, "No space left on device")
            data = data[: self.rng.randrange(len(data))]
        self.unsynced.append((place, data))
        return os.pwrite(file, data, place)

    def fsync(self, file: int) -> None:
        if stat.S_ISREG(os.fstat(file).st_mode):
            self.synced, self.unsynced = self.path.read_bytes(), []

    def sync(self, count: int, is_good: bool) -> None:
        done, self.unsynced = self.unsynced[:count], self.unsynced[count:]
        if not is_good:
            self.lost += done
            return
        self.synced = self._with(done, 1.0)

    def _with(self, writes: list[tuple[int, bytes]], likely: float) -> bytes:
        raw = bytearray(self.synced)
        for place, data in writes:
            for at in range(place // SECTOR_BYTES * SECTOR_BYTES, place + len(data), SECTOR_BYTES):
                first, last = max(at, place), min(at + SECTOR_BYTES, place + len(data))
                if self.rng.random() < likely:
                    raw[first:last] = data[first - place : last - place]
        return bytes(raw)

    def after_cut(self) -> bytes:
        return self._with(self.lost + self.unsynced, self.rng.choice([0.0, 0.5, 0.9]))


class Sync:
    """Ends when the play wants it to."""

    def __init__(self, disk: Disk) -> None:
        self.is_under_way = self.has_come = self.error = False
        self.disk, self.count, self.ended = disk, 0, 0

    def begin(self, file: int, *, lazily: bool = False) -> None:
        assert not self.is_under_way
        self.is_under_way, self.count = True, len(self.disk.unsynced)

    def hurry(self) -> None:
        pass

    def end(self, is_good: bool) -> None:
        if self.is_under_way and not self.has_come:
            self.has_come, self.error = True, not is_good
            self.ended += 1
            self.disk.sync(self.count, is_good)

    def has_ended(self, seconds: float = 0.0) -> bool:
        if seconds and self.disk.rng.random() < 0.5:
            self.end(is_good=True)
        if not self.has_come:
            return False
        self.is_under_way = self.has_come = False
        if self.error:
            raise OSError(5, "Input/output error")
        return True

    def close(self) -> None:
        self.end(is_good=True)


class Tasks(list[object]):
    """The queue of the thread."""

    def put(self, work: object) -> None:
        self.append(work)

    def get(self) -> object:
        if not self:
            raise Idle
        return self.pop(0)

    def get_nowait(self) -> object:
        if not self:
            raise Empty
        return self.pop(0)


class Thread:
    """Runs when the play wants it to."""

    def __init__(self, target: Callable[[], None], **_: object) -> None:
        self.target = target

    def start(self) -> None:
        pass

    def step(self) -> None:
        with suppress(Idle):
            self.target()

    join = step


class Life:
    """From one start to the next."""

    def __init__(self, directory: Path, rng: random.Random, base: Image, patch: pytest.MonkeyPatch) -> None:
        self.directory, self.rng, self.depth = directory, rng, 0
        self.images, self.told, self.checks = [base], 0, 0
        self.callbacks: list[tuple[Callable[..., None], tuple[object, ...]]] = []
        self.disk = Disk(directory, rng)
        self.prompt = rng.choice([0.0, 0.5, 0.9])
        self.is_disk_bad, self.calm, self.early = rng.random() < 0.3, rng.choice([0.6, 0.9, 1.0]), rng.choice([0, 5])
        patch.setattr(block_log, "os", self.disk)
        patch.setattr(block_log, "RING_BYTES", RING_BYTES)
        patch.setattr(block_log, "RECORD_BYTES_MAX", RING_BYTES // 4)
        self.sync = Sync(self.disk)
        patch.setattr(journal, "best_syncing", lambda _on_end: self.sync)
        patch.setattr(journal, "SimpleQueue", Tasks)
        patch.setattr(journal, "RETRY_SECONDS", 0.0)
        patch.setattr(journal, "time", SimpleNamespace(perf_counter=lambda: 0.0))
        patch.setattr(journal, "threading", SimpleNamespace(Thread=Thread, Event=threading.Event))
        token = SimpleNamespace(run_sync_soon=lambda function, *arguments: self.callbacks.append((function, arguments)))
        lowlevel = SimpleNamespace(current_trio_token=lambda: token)
        patch.setattr(journal, "trio", SimpleNamespace(lowlevel=lowlevel, RunFinishedError=RuntimeError))
        patch.setattr(ledger_file, "require_named", lambda *_: self._commits())
        self.file = LedgerFile(directory)
        self.restored = self.file.load()
        self.disk.synced, self.disk.unsynced = self.disk.path.read_bytes() if self.disk.path.exists() else b"", []
        self.journal = FileJournal(self.file, self.restored, lambda _: None)
        self.journal.on_durable = self._durable
        self.term, self.end, self.base, self.ticket = base.term, max([*base.blocks, 0]), 0, 0
        if base.snapshot:
            self.base, self.end = base.snapshot[0], max(self.end, base.snapshot[0])
        self.disk.is_failing = self.is_disk_bad

    def _commits(self) -> None:
        """In the middle of a transaction of the thread, or before a record of the log."""
        if self.is_disk_bad and self.rng.random() < 0.1:
            raise StorageError("not now")
        if self.file._database.in_transaction and not self.depth:
            self.depth = 1
            for _ in range(self.rng.randrange(4)):
                self.act()
            self.depth = 0

    def _durable(self, ticket: int) -> None:
        assert self.told < ticket <= self.ticket
        self.told = ticket
        if self.rng.random() < 0.3:
            self.check()
        if self.rng.random() < 0.2:
            self.submit()  # a turn

    # ---- what happens

    def act(self) -> None:
        match self.rng.randrange(13):
            case 0 | 1 | 2 | 3 | 4:
                self.submit()
                if self.rng.random() < self.prompt:  # else the log is hardly ever in use: something waits for the thread
                    self.thread()
                    self.loop()
            case 5:
                self.journal.begin()
            case 6 | 7:
                self.thread()
            case 8 | 9:
                self.loop(1)
            case 10:
                self.sync.end(is_good=not (self.is_disk_bad and self.rng.random() < 0.1))
                self.callbacks.append((self.journal._look, ()))
            case 11:
                self.journal.visit()
            case 12:
                self.check()

    def loop(self, turns: int = 5) -> None:
        for _ in range(min(turns, len(self.callbacks))):
            function, arguments = self.callbacks.pop(0)
            function(*arguments)

    def thread(self) -> None:
        if not self.depth:
            thread = self.journal._thread
            assert isinstance(thread, Thread)
            thread.step()

    def submit(self) -> None:
        self.ticket += 1
        rows = tuple(self.rows())
        batch = QuorumBatch(self.ticket, rows, self.rng.randint(0, self.end), self.rng.random() < 0.8)
        image = self.images[-1].copy()
        image.apply(batch)
        self.images.append(image)
        self.journal.submit(batch)

    def rows(self) -> list[Row]:
        rng = self.rng
        if self.ticket > self.early and rng.random() < self.calm:
            return [self.more() for _ in range(rng.choice([1, 1, 1, 2]))]
        self.term += rng.random() < 0.5
        vote = TermAndVote(self.term, rng.choice([None, voter(1), voter(2)]))
        verdict = VerdictStored(Verdict(digest(b"%d" % rng.randrange(20)), self.term, voter(1), "no", bytes(64)))
        match rng.randrange(10):
            case 0:
                return [vote]
            case 1:
                return [vote, verdict]
            case 2:
                return [verdict]
            case 3:
                return [vote, self.more(), verdict]
            case 4 | 5:
                self.end = rng.randint(self.base, self.end)
                return [self.more()]
            case 6:
                self.base = rng.randint(self.base, self.end)
                return [SnapshotStored(self.base, b"state", alone=False), Bundle(self.base, b"bundle")]
            case 7:
                if rng.random() < 0.5:
                    self.base = self.end = self.end + rng.randrange(5)
                    return [SnapshotStored(self.base, b"later", alone=True)]
                return [Forgot(rng.random() < 0.5)]
            case 8:
                return [Joined() if rng.random() < 0.5 else Left(), Proof(1, digest(b"%d" % self.ticket), ACKS)]
            case _:
                self.base = self.end = self.term = 0
                return [Begun(self.images[-1].epoch + 1, b"genesis"), Joined()]

    def more(self) -> BlocksStored:
        first, count = self.end + 1, self.rng.choice([1] * 20 + [2, 3, 40])
        self.end += count
        return BlocksStored(blocks(first, self.end, self.term))

    # ---- the next start

    def copy(self, is_cut: bool) -> Path:
        other = self.directory.with_name(f"{self.directory.name}-")
        shutil.rmtree(other, ignore_errors=True)
        shutil.copytree(self.directory, other)
        if is_cut and self.disk.path.exists():
            (other / LOG_NAME).write_bytes(self.disk.after_cut())
        return other

    def check(self) -> None:
        self.found_in(self.copy(is_cut=True))

    def found_in(self, directory: Path) -> Image:
        """What the next start finds; the same once more."""
        self.checks += 1
        for _ in range(2):
            found = self.found(directory)
            images = [each for each in self.images[self.told :] if not differing(found, each.restored())]
            assert images, [differing(found, each.restored()) for each in self.images[self.told :]]
        return images[-1]

    def over(self) -> tuple[Path, Image]:
        how = self.rng.randrange(3)
        if how == 0:
            self.disk.is_failing = self.is_disk_bad = False
            self.depth = 1  # nothing is submitted any more
            self.journal.close()
            directory = self.copy(is_cut=True)
            (directory / LOG_NAME).unlink(missing_ok=True)
            assert not differing(self.found(directory), self.images[-1].restored())
            return self.copy(is_cut=False), self.images[-1]
        directory = self.copy(is_cut=how == 1)
        return directory, self.found_in(directory)

    def found(self, directory: Path) -> QuorumRestored:
        file = LedgerFile(directory)
        with closing(file):
            return file.load()


def differing(found: QuorumRestored, wanted: QuorumRestored) -> set[str]:
    """All but `commit`, which rides along with blocks and is never worth a write of its own."""

    def ordered(restored: QuorumRestored) -> QuorumRestored:
        return replace(restored, commit=0, verdicts=tuple(sorted(restored.verdicts, key=lambda each: each.proposal)))

    found, wanted = ordered(found), ordered(wanted)
    return {each.name for each in fields(found) if getattr(found, each.name) != getattr(wanted, each.name)}


def play(directory: Path, seed: int) -> Counter[str]:
    rng, image, counts = random.Random(seed), Image(), Counter[str]()
    place = directory / "0"
    place.mkdir()
    for number in range(4):
        with pytest.MonkeyPatch.context() as patch:
            life = Life(place, rng, image, patch)
            for _ in range(rng.randrange(150)):
                life.act()
            left, image = life.over()
            counts.update(checks=life.checks, synced=life.sync.ended)
            place = directory / str(number + 1)
            left.rename(place)
    return counts


@pytest.mark.interpreted  # other constants, disk and threads are put in the place of its own
@pytest.mark.parametrize("seed", range(20))
def test_no_cut_takes_what_was_told(tmp_path: Path, seed: int) -> None:
    play(tmp_path, seed)


@pytest.mark.interpreted
def test_a_play_has_all_of_it(tmp_path: Path) -> None:
    counts = play(tmp_path, 0)
    assert min(counts["checks"], counts["synced"]) > 5, counts
