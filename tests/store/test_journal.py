"""What the quorum's file keeps, held against the tables in memory that define it."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import pytest
import trio

from consensus_escalation.block import Block, Entry, Header, Kind, cut
from consensus_escalation.certificate import Ack, Certificate
from consensus_escalation.effects import BlocksStored, SnapshotStored, TermAndVote, VerdictStored
from consensus_escalation.kept import Bundle, Proof, Step
from consensus_escalation.types import Voter
from consensus_escalation.verdict import Verdict
from mesh.errors import StorageCorrupt, StorageError
from mesh.events import Event, StorageFailing
from mesh.quorum.rows import NOTHING, Begun, Forgot, Image, Joined, Left, QuorumBatch, Row
from mesh.store import journal as journals
from mesh.store import ledger_file
from mesh.store.block_log import Place
from mesh.store.journal import FileJournal, open_journal
from mesh.store.ledger_file import FILE_NAME, LedgerFile
from tests.consensus.cluster import digest, keys_of, voter

KEYS = keys_of(voter(1))


def blocks(first: int, last: int, term: int = 1) -> tuple[Block, ...]:
    found: list[Block] = []
    for index in range(first, last + 1):
        header = Header(1, index, term, bytes(16), bytes(16), 0, 0, 0, bytes(16), voter(1))
        found.append(cut(header, index, (Entry(Kind.COMMAND, voter(2), 0, index, bytes(100), bytes(64)),), KEYS))
    return tuple(found)


ACKS = (Ack(voter(1), 3, bytes(64)),)
VERDICT = Verdict(digest(b"proposal"), 2, voter(1), "no", bytes(64))
HISTORY: list[list[Row]] = [
    [Begun(1, b"genesis"), Joined()],
    [TermAndVote(1, voter(1))],
    [BlocksStored(blocks(1, 5))],
    [BlocksStored(blocks(6, 6)), BlocksStored(blocks(7, 9))],
    [TermAndVote(2, None), VerdictStored(VERDICT)],
    [BlocksStored(blocks(8, 8, term=2)), Proof(3, digest(b"3"), ACKS)],
    [Forgot(is_over=False)],
    [Forgot(is_over=True), TermAndVote(2, voter(1))],
    [Step(blocks(2, 2)[0], Certificate((b"header",), ACKS))],
    [SnapshotStored(4, b"state", alone=False), Bundle(4, b"bundle")],
    [TermAndVote(3, Voter(voter(2)))],
    [SnapshotStored(20, b"later", alone=True)],
    [BlocksStored(blocks(21, 22, term=3)), Proof(21, digest(b"21"), ACKS)],
    [Left(), BlocksStored(blocks(23, 23, term=3))],
    [Joined()],
    [Begun(2, b"another"), Joined()],
]


def batch(ticket: int, *rows: Row) -> QuorumBatch:
    return QuorumBatch(ticket, rows, ticket // 2, True)


@pytest.mark.parametrize("length", range(len(HISTORY) + 1))
def test_what_is_written_is_what_is_read(tmp_path: Path, length: int) -> None:
    image, file = Image(), LedgerFile(tmp_path)
    for ticket, rows in enumerate(HISTORY[:length], 1):
        image.apply(batch(ticket, *rows))
        file.write([batch(ticket, *rows)])
    file.close()
    again = LedgerFile(tmp_path)
    found, wanted = again.load(), image.restored()
    again.close()
    assert found.commit <= wanted.commit  # it rides along with blocks and is never worth a write of its own
    for name in {each.name for each in fields(found)} - {"commit"}:
        assert getattr(found, name) == getattr(wanted, name), name


def test_a_damaged_block_takes_those_above_with_it_and_is_told(tmp_path: Path) -> None:
    file = LedgerFile(tmp_path)
    file.write([batch(8, BlocksStored(blocks(1, 9)))])
    file.close()
    with sqlite3.connect(tmp_path / FILE_NAME) as database:
        database.execute("UPDATE blocks SET body = zeroblob(30) WHERE place = 4")
    database.close()
    again = LedgerFile(tmp_path)
    found = again.load()
    again.close()
    assert found.is_damaged
    assert len(found.blocks) == 3
    assert found.commit == 3


def test_a_lost_block_in_the_middle_is_told_too(tmp_path: Path) -> None:
    file = LedgerFile(tmp_path)
    file.write([batch(8, BlocksStored(blocks(1, 9)))])
    file.close()
    with sqlite3.connect(tmp_path / FILE_NAME) as database:
        database.execute("DELETE FROM blocks WHERE place = 4")
    database.close()
    again = LedgerFile(tmp_path)
    assert again.load().is_damaged
    again.close()


def test_a_damaged_vote_is_an_error_with_the_way_out(tmp_path: Path) -> None:
    file = LedgerFile(tmp_path)
    file.write([batch(1, TermAndVote(7, voter(3)))])
    file.close()
    with sqlite3.connect(tmp_path / FILE_NAME) as database:
        database.execute("UPDATE facts SET crc = crc + 1")
    database.close()
    again = LedgerFile(tmp_path)
    with pytest.raises(StorageCorrupt, match="must not vote"):
        again.load()
    again.close()


@pytest.mark.parametrize("raw", [b"", b"no database at all"])
def test_what_is_no_file_of_ours_is_never_a_fresh_start(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / FILE_NAME).write_bytes(raw)
    with pytest.raises(StorageCorrupt):
        LedgerFile(tmp_path)


async def test_tickets_come_back_in_order_and_what_waits_goes_together(tmp_path: Path) -> None:
    told: list[int] = []
    async with open_journal(tmp_path, notify=lambda event: None) as journal:
        journal.on_durable = told.append
        for index in range(1, 201):
            journal.submit(batch(index, BlocksStored(blocks(index, index))))
        with trio.fail_after(10):
            while not told or told[-1] < 200:  # noqa: ASYNC110  # the journal tells by a call, there is no event to wait for
                await trio.sleep(0.001)
    assert told == sorted(set(told))
    assert len(told) < 150
    file = LedgerFile(tmp_path)
    assert len(file.load().blocks) == 200
    file.close()


@pytest.mark.interpreted
async def test_a_disk_that_fails_for_ever_does_not_keep_the_node_from_ending(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread tried again for ever, and who closed the journal waited for it behind a shield: no signal ended the agent. Nor
    is each of ten attempts a second a line of its log, which may be on the very disk that is full."""
    monkeypatch.setattr(journals, "RETRY_SECONDS", 0.001)
    attempts = 0
    heard: list[Event] = []
    journal = FileJournal(file := LedgerFile(tmp_path), NOTHING, heard.append)
    real = file.write

    def write(batches: Sequence[QuorumBatch], place: Place | None = None) -> None:
        nonlocal attempts
        if batches[0].ticket == 1:
            attempts += 1
            raise StorageError("no room")
        real(batches, place)

    file.write = write  # type: ignore[method-assign]
    with trio.fail_after(10):
        journal.submit(batch(1, BlocksStored(blocks(1, 1))))
        while not heard or attempts < 3:  # noqa: ASYNC110  # told by a call
            await trio.sleep(0.001)
        journal.submit(batch(2, BlocksStored(blocks(2, 2))))
        await trio.to_thread.run_sync(journal.close, abandon_on_cancel=True)
    assert [type(event) for event in heard] == [StorageFailing]
    assert [record.message for record in caplog.records] == ["no room"]
    file = LedgerFile(tmp_path)
    assert file.load().blocks == (), "what comes after a batch that was lost would stand above a hole"
    file.close()


def test_a_file_that_was_taken_away_takes_no_votes(tmp_path: Path) -> None:
    """It went on: votes were reported as stored that no restart would have found."""
    file = LedgerFile(tmp_path)
    file.write([QuorumBatch(1, (TermAndVote(1, None),), 0, True)])
    (tmp_path / FILE_NAME).rename(tmp_path / "elsewhere")
    with pytest.raises(StorageError, match=r"quorum\.db was removed or replaced while in use"):
        file.write([QuorumBatch(2, (TermAndVote(2, None),), 0, True)])
    file.close()


def test_nor_does_it_take_blocks(tmp_path: Path) -> None:
    file = LedgerFile(tmp_path)
    file.write([batch(1, BlocksStored(blocks(1, 1)))])
    (tmp_path / FILE_NAME).rename(tmp_path / "elsewhere")
    with pytest.raises(StorageError, match=r"quorum\.db was removed or replaced while in use"):
        file.write([batch(2, BlocksStored(blocks(2, 2)))])
    file.close()


def test_a_new_epoch_begins_with_its_own_verdicts(tmp_path: Path) -> None:
    """Those of its first terms were kept until the terms of the one before were passed."""
    file, image = LedgerFile(tmp_path), Image()
    history: list[list[Row]] = [[Begun(1, b"one"), TermAndVote(9, None)], [Begun(2, b"two"), VerdictStored(VERDICT)]]
    for ticket, rows in enumerate(history, 1):
        file.write([batch(ticket, *rows)])
        image.apply(batch(ticket, *rows))
    assert file.load().verdicts == image.restored().verdicts == (VERDICT,)
    file.write([batch(3, TermAndVote(3, None))])
    assert file.load().verdicts == ()
    file.close()


@pytest.mark.interpreted
def test_a_term_that_began_at_the_second_attempt_ends_the_verdicts_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one, which was undone, was remembered as done: verdicts of former terms came back with the next start."""
    file = LedgerFile(tmp_path)
    file.write([batch(1, TermAndVote(1, None), VerdictStored(VERDICT))])
    with monkeypatch.context() as patch:

        def fail(*_: object) -> None:
            raise StorageError("not now")

        patch.setattr(ledger_file, "require_named", fail)
        with pytest.raises(StorageError, match="not now"):
            file.write([batch(2, TermAndVote(2, None))])
    file.write([batch(2, TermAndVote(2, None))])
    assert file.load().verdicts == ()
    file.close()
