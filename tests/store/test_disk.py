"""The blocking side: what goes in comes out, whatever the grouping; and what is damaged is said to be."""

from __future__ import annotations

import contextlib
import itertools
import random
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from crdt.base import Entry
from crdt.journal import HeadSet, JournalEntry, LiveSet, LooseSet, ShelfGone
from mesh.errors import ConfigError, StorageCorrupt, StorageError, StorageFull
from mesh.store import schema
from mesh.store.disk import Disk
from mesh.store.pending import Backlog
from mesh.store.rows import Batch, Restored
from tests.store.journals import SHELVES, Author, Tables, delta, plain

SHELF = SHELVES[1]


class Writer:
    """A disk and what waits for it, as the store has them, but without its threads and its timing."""

    def __init__(self, path: Path) -> None:
        self.disk = Disk(path)
        self.backlog = Backlog(self.disk.loose)

    def write(self, *batches: Batch) -> None:
        for batch in batches:
            self.backlog.add(batch)
        taken = self.backlog.take()
        try:
            self.disk.write(taken)
        except BaseException:
            self.backlog.failed(taken)
            raise
        self.backlog.wrote(taken)

    def bodies(self) -> int:
        return len(list(schema.stored(self.disk._database, schema.BODIES)))


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Writer]:
    writer = Writer(path)
    try:
        yield writer
    finally:
        writer.disk.close()


def reloaded(path: Path) -> Restored:
    with opened(path) as it:
        return it.disk.load()


def test_a_new_directory_is_a_fresh_start(tmp_path: Path) -> None:
    data_dir = tmp_path / "made" / "by us"
    assert plain(reloaded(data_dir)) == plain(Restored())
    assert data_dir.stat().st_mode & 0o777 == 0o700
    assert (data_dir / "state.db").stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in data_dir.iterdir()) == ["lock", "state.db"]


@pytest.mark.parametrize("seed", range(12))
def test_any_history_in_any_grouping_comes_back(seed: int, tmp_path: Path) -> None:
    """Against tables that apply entry by entry: groups of any size, some that fail, batches that come while one is under way."""
    author, rng = Author(seed), random.Random(seed)
    with contextlib.ExitStack() as stack:
        it = stack.enter_context(opened(tmp_path))
        for batch in author.batches(60):
            it.backlog.add(batch)
            step = rng.random()
            if step < 0.2:
                it.write()
                assert plain(it.disk.load()) == plain(author.tables.restored())
                assert it.bodies() == author.tables.bodies_in_use()
            elif step < 0.4:  # others come while this is under way, and it fails or not
                taken = it.backlog.take()
                for later in author.batches(rng.randrange(4)):
                    it.backlog.add(later)
                if rng.random() < 0.5:
                    it.disk.write(taken)
                    it.backlog.wrote(taken)
                else:
                    it.backlog.failed(taken)
            elif step < 0.45:
                it.write()
                it.disk.close()
                it = stack.enter_context(opened(tmp_path))
        it.write()
        assert it.backlog.bytes == 0
        assert set(it.disk.loose) == {shelf + seq.to_bytes(8, "big") for shelf, seq in author.tables.loose}
    assert plain(reloaded(tmp_path)) == plain(author.tables.restored())


def test_an_entry_at_any_place_comes_back_as_it_was(tmp_path: Path) -> None:
    """Own bodies stand at their own seq, and the tables use it; what stands elsewhere would still come back as it was."""
    body = delta(SHELF, 3).content
    entries = [Entry(place, SHELF, 3, body.hash, mask) for place, mask in ((3, 1), (4, 1 << 254))]
    with opened(tmp_path) as it:
        it.write(Batch(tuple(LiveSet(SHELF, entry, body.raw) for entry in entries)))
        assert it.disk.load().journal == [LiveSet(SHELF, entry, body.raw) for entry in entries]


def overwritten(seq: int) -> Batch:
    """What a register that is set for the `seq`th time leaves in the journal."""
    made, before = delta(SHELF, seq), delta(SHELF, max(seq - 1, 1))
    journal: list[JournalEntry] = [HeadSet(SHELF, made.header_bytes, made.signature)]
    if seq > 1:
        journal.append(LiveSet(SHELF, Entry(seq - 1, SHELF, seq - 1, before.content.hash, 0), None))
    journal.append(LiveSet(SHELF, Entry(seq, SHELF, seq, made.content.hash, 1), made.body))
    return Batch((*journal, LooseSet(SHELF, seq + 1, delta(SHELF, seq + 1), None), LooseSet(SHELF, seq, None, None)))


def test_while_the_disk_refuses_what_waits_does_not_grow_with_time(tmp_path: Path) -> None:
    """A register set for hours on a full disk waits as one row, and is written as one."""
    with opened(tmp_path) as it:
        it.write(overwritten(1))
        for seq in range(2, 300, 2):
            it.backlog.add(overwritten(seq))
            taken = it.backlog.take()
            it.backlog.add(overwritten(seq + 1))
            it.backlog.failed(taken)
            assert it.backlog.bytes < 6 * 500
        taken = it.backlog.take()
        assert sum(len(rows) for rows in taken.rows.values()) == 7  # of them two that say what the disk must forget
        it.disk.write(taken)
        assert len(it.disk.load().journal) == 3
        assert it.bodies() == 2


def test_a_failing_transaction_leaves_nothing(tmp_path: Path) -> None:
    first, large = Batch(meta={"first": b"here"}), Batch(meta={f"large {n}": bytes(2_000) for n in range(20)})
    author = Author(1)
    author.tables.apply(first)
    with opened(tmp_path) as it:
        it.write(first)
        database = it.disk._database
        pages = database.execute("PRAGMA page_count").fetchone()[0]
        database.execute(f"PRAGMA max_page_count = {pages + 1}")
        for _ in range(3):
            with pytest.raises(StorageFull, match=r"state\.db cannot grow .*make room"):
                it.write(author.batch(), large)
            assert plain(it.disk.load()) == plain(Restored(meta={"first": b"here"}))
        database.execute("PRAGMA max_page_count = 1000000")
        it.write()
    author.tables.apply(large)
    assert plain(reloaded(tmp_path)) == plain(author.tables.restored())


@pytest.mark.parametrize("how", ["removed", "replaced", "log removed"])
def test_a_file_that_lost_its_name_confirms_nothing(how: str, tmp_path: Path) -> None:
    """After `rm -r` of its directory a node went on to confirm `flush()`, into a file that ends with the process."""
    data_dir = tmp_path / "data"
    with opened(data_dir) as it:
        it.write(Batch(meta={"a": b"1"}))
        if how == "removed":
            shutil.rmtree(data_dir)
        elif how == "replaced":
            shutil.copy(it.disk.path, tmp_path / "other")
            (tmp_path / "other").replace(it.disk.path)
        else:
            it.disk.path.with_name("state.db-wal").unlink()
        for _ in range(2):
            with pytest.raises(StorageError, match=r"state\.db was removed or replaced while in use"):
                it.write(Batch(meta={"a": b"2"}))
        assert it.backlog.bytes > 0


# --- damage


@pytest.fixture
def filled(tmp_path: Path) -> Restored:
    """A closed directory with something in every table."""
    author = Author(5)
    with opened(tmp_path) as it:
        it.write(*author.batches(40))
    restored = author.tables.restored()
    assert restored.journal
    assert restored.peers
    assert restored.statements
    return restored


def test_any_damaged_byte_is_noticed_or_of_no_use(tmp_path: Path, filled: Restored) -> None:
    """Never other content, never an untyped error, never an empty start."""
    path = tmp_path / "state.db"
    whole = path.read_bytes()
    rng = random.Random(1)
    offsets = [*range(100), *(rng.randrange(len(whole)) for _ in range(100))]
    noticed = 0
    for offset in offsets:
        path.write_bytes(whole[:offset] + bytes([whole[offset] ^ rng.randrange(1, 256)]) + whole[offset + 1 :])
        try:
            assert plain(reloaded(tmp_path)) == plain(filled), offset
        except StorageError:
            noticed += 1
        for leftover in tmp_path.glob("state.db-*"):
            leftover.unlink()
    assert noticed > len(offsets) / 5


def test_a_truncated_file_is_never_an_empty_start(tmp_path: Path, filled: Restored) -> None:
    path = tmp_path / "state.db"
    whole = path.read_bytes()
    for length in [0, 1, 99, 100, 4_095, 4_096, 4_097, *range(8_192, len(whole), 4_096), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(StorageCorrupt) as caught:
            reloaded(tmp_path)
        for part in (str(path), "Move state.db and state.db-wal out of", "the mesh brings back"):
            assert part in str(caught.value)
    path.write_bytes(b"")
    with pytest.raises(StorageCorrupt, match="the file is empty"):
        reloaded(tmp_path)
    path.unlink()
    assert plain(reloaded(tmp_path)) == plain(Restored())  # the way out works


def test_overwritten_pages_are_noticed(tmp_path: Path, filled: Restored) -> None:
    """What a dying card does: a page of zeros, or another page of the same file."""
    path = tmp_path / "state.db"
    whole = path.read_bytes()
    pages = [whole[at : at + 4_096] for at in range(0, len(whole), 4_096)]
    for number, other in itertools.product(range(len(pages)), [bytes(4_096), *pages[3:5]]):
        if pages[number] == other:
            continue
        path.write_bytes(b"".join([*pages[:number], other, *pages[number + 1 :]]))
        with contextlib.suppress(StorageCorrupt):
            assert plain(reloaded(tmp_path)) == plain(filled), number
            assert pages[number].count(0) > 4_000, number  # only a page that held nothing may change unseen


def test_what_is_not_ours_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    path.write_bytes(b"not a database at all, but long enough to look like one " * 100)
    with pytest.raises(StorageCorrupt, match="file is not a database"):
        Disk(tmp_path)
    path.unlink()
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE theirs (a)")
        other.commit()
    with pytest.raises(StorageCorrupt, match="not a file of gossipmesh"):
        Disk(tmp_path)
    path.unlink()
    (tmp_path / "state.db-wal").write_bytes(b"the log of a file that somebody moved away")
    with pytest.raises(StorageCorrupt, match=r"file is missing, but state\.db-wal is there"):
        Disk(tmp_path)
    (tmp_path / "state.db-wal").unlink()
    Disk(tmp_path).close()  # every refusal gave the lock back


def test_a_newer_format_is_refused(tmp_path: Path, filled: Restored) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "state.db", isolation_level=None)) as newer:
        newer.execute("PRAGMA user_version = 99")
    with pytest.raises(StorageError, match=r"newer gossipmesh .format 99, this one reads 1"):
        Disk(tmp_path)


def test_a_directory_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"cannot use .*file as data_dir"):
        Disk(tmp_path / "file")


def test_a_process_that_died_while_making_the_file(tmp_path: Path) -> None:
    (tmp_path / "state.db.new").write_bytes(b"half")
    (tmp_path / "state.db.new-journal").write_bytes(b"half")
    assert plain(reloaded(tmp_path)) == plain(Restored())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lock", "state.db"]


# --- crashes and copies: the write-ahead log


@pytest.fixture
def crashed(tmp_path: Path) -> tuple[Path, list[tuple[object, ...]]]:
    """A directory as a crash leaves it, its log unfinished; and the states after each commit."""
    live, dead, author = tmp_path / "live", tmp_path / "dead", Author(9)
    states = [plain(Restored())]
    with opened(live) as it:
        for _ in range(25):
            it.write(author.batch())
            states.append(plain(author.tables.restored()))
        shutil.copytree(live, dead)
    assert (dead / "state.db-wal").stat().st_size > 4_096
    return dead, states


def test_after_a_crash_everything_committed_is_there(crashed: tuple[Path, list[tuple[object, ...]]]) -> None:
    path, states = crashed
    assert plain(reloaded(path)) == states[-1]


def test_a_torn_log_ends_at_a_commit(crashed: tuple[Path, list[tuple[object, ...]]]) -> None:
    """A power cut leaves any prefix of the log, or one with a torn page: the state after some commit, never half of one."""
    path, states = crashed
    names = ("state.db", "state.db-wal")
    whole = {name: (path / name).read_bytes() for name in names}
    log = whole["state.db-wal"]
    rng = random.Random(2)
    seen = set()
    for cut in sorted(rng.randrange(len(log)) for _ in range(25)):
        for torn in (log[:cut], log[:cut] + bytes([log[cut] ^ 0xFF]) + log[cut + 1 :]):
            (path / names[0]).write_bytes(whole[names[0]])
            (path / names[1]).write_bytes(torn)
            restored = plain(reloaded(path))
            assert restored in states
            seen.add(states.index(restored))
    assert len(seen) > 5


def test_a_restored_backup_is_the_state_of_then(tmp_path: Path) -> None:
    author, path, backup = Author(3), tmp_path / "data", tmp_path / "backup"
    with opened(path) as it:
        it.write(*author.batches(20))
    then = plain(author.tables.restored())
    shutil.copytree(path, backup)
    with opened(path) as it:
        it.write(*author.batches(20))
    shutil.rmtree(path)
    shutil.copytree(backup, path)
    assert plain(reloaded(path)) == then


def test_a_backup_beside_a_log_of_another_time_is_noticed_or_harmless(tmp_path: Path) -> None:
    """Somebody copies state.db back and leaves a newer log: a state that there was, or StorageCorrupt. Never a mixture."""
    outcomes = set()
    for seed in range(4):
        author, path = Author(seed), tmp_path / str(seed)
        backups, states = [], [plain(Restored())]
        for _ in range(6):
            with opened(path) as it:
                it.write(*author.batches(3))
            states.append(plain(author.tables.restored()))
            backups.append((path / "state.db").read_bytes())
        with opened(path) as it:
            for _ in range(3):
                it.write(author.batch())
                states.append(plain(author.tables.restored()))
            log = (path / "state.db-wal").read_bytes()
        for backup in backups[:-1]:
            (path / "state.db").write_bytes(backup)
            (path / "state.db-wal").write_bytes(log)
            try:
                assert plain(reloaded(path)) in states
                outcomes.add("a state that there was")
            except StorageCorrupt:
                outcomes.add("noticed")
            for leftover in path.glob("state.db-*"):
                leftover.unlink()
    assert "noticed" in outcomes


def test_a_body_that_is_missing_is_damage(tmp_path: Path) -> None:
    """Every table sound by itself, but a reference leads nowhere: a mistake of ours, not a reason to lose the rest silently."""
    made = delta(SHELF, 1)
    with opened(tmp_path) as it:
        it.write(Batch((LiveSet(SHELF, Entry(1, SHELF, 1, made.content.hash, 1), None),)))
        with pytest.raises(StorageCorrupt, match=r"body .* is missing"):
            it.disk.load()


def test_a_mistake_of_ours_is_not_taken_for_a_disk_error(tmp_path: Path) -> None:
    with opened(tmp_path) as it, pytest.raises(OverflowError):
        it.write(Batch(incarnation=2**64))
    with pytest.raises(sqlite3.ProgrammingError):
        it.disk.load()


def test_shelves_that_go_take_all_their_rows(tmp_path: Path) -> None:
    there, gone = overwritten(1), Batch((ShelfGone(SHELF),))
    tables = Tables()
    tables.apply(there)
    with opened(tmp_path) as it:
        it.write(there)
        assert plain(it.disk.load()) == plain(tables.restored())
        assert it.bodies() == 2
        it.write(there, gone)
        assert plain(it.disk.load()) == plain(Restored())
        assert it.bodies() == 0
        it.write(there, gone, there)
        assert plain(it.disk.load()) == plain(tables.restored())
