"""The codec: what was said is what is read, everything else is refused, and a frame has room for all that a voter says."""

from __future__ import annotations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from consensus_escalation.authorship import batches as batches_of
from consensus_escalation.authorship import is_signed_untrusted
from consensus_escalation.block import Block, Entry, Header, Kind, body_bytes, cut
from consensus_escalation.certificate import Certificate
from consensus_escalation.impeachment import PROOF_BYTES_MAX, refused_proof, unendorsed_proof
from consensus_escalation.messages import Append, AskVote, Mandate, Message, SnapshotPiece
from consensus_escalation.quorum import Config
from consensus_escalation.replication import frames
from consensus_escalation.snapshot import PIECE_BYTES
from consensus_escalation.types import BLOCK_BYTES_MAX, Position
from consensus_escalation.verdict import RULE_BYTES_MAX, Proposal, Verdict, proposed_bytes_max, with_endorsements
from consensus_escalation.wire import (
    MESSAGE_BYTES_MAX,
    block_from_raw_untrusted,
    block_to_bytes,
    certificate_from_value_untrusted,
    certificate_to_value,
    message_from_bytes_untrusted,
    message_to_bytes,
)
from crdt.errors import Malformed
from mesh.wire.packer import FRAME_BYTES_MAX
from tests.consensus.cluster import digest, voter
from tests.consensus.messages import KEYS, batches, blocks, certificates, messages

HUGE = (1 << 64) - 1
FIVE = Config(tuple(voter(number) for number in range(1, 6)))


@settings(deadline=None, max_examples=300)
@given(messages, st.integers(0, 1 << 31))
def test_what_was_said_is_what_is_read(message: Message, epoch: int) -> None:
    raw = message_to_bytes(epoch, message, KEYS)
    assume(len(raw) <= MESSAGE_BYTES_MAX)
    assume(not isinstance(message, Append) or all(block.size <= BLOCK_BYTES_MAX for block in message.blocks))
    assert message_from_bytes_untrusted(raw, KEYS) == (epoch, message)


@settings(deadline=None, max_examples=100)
@given(messages, st.data())
def test_a_changed_byte_is_refused_or_another_message(message: Message, data: st.DataObject) -> None:
    raw = bytearray(message_to_bytes(1, message, KEYS))
    place = data.draw(st.integers(0, len(raw) - 1))
    raw[place] ^= data.draw(st.integers(1, 255))
    try:
        found = message_from_bytes_untrusted(bytes(raw), KEYS)
    except Malformed:
        return
    assert found != (1, message)
    assert message_to_bytes(*found, KEYS) == raw


@settings(deadline=None)
@given(blocks())
def test_a_block_is_read_as_it_was_cut(block: Block) -> None:
    assume(block.size <= BLOCK_BYTES_MAX)
    assert block_from_raw_untrusted(block_to_bytes(block, KEYS), KEYS) == block


@settings(deadline=None)
@given(certificates)
def test_a_certificate_is_read_as_it_was_made(certificate: Certificate) -> None:
    assert certificate_from_value_untrusted(KEYS.decode_untrusted(KEYS.encode(certificate_to_value(certificate)))) == certificate


@settings(deadline=None)
@given(st.lists(batches(), max_size=3))
def test_batches_come_out_of_a_block_as_they_were_signed(signed: list[tuple[Entry, ...]]) -> None:
    together = tuple(entry for batch in signed for entry in batch)
    assert list(batches_of(together)) == signed
    assert all(is_signed_untrusted(batch, KEYS) for batch in signed)
    for batch in signed:
        assert not is_signed_untrusted((batch[0]._replace(body=batch[0].body + b"!"), *batch[1:]), KEYS)
        assert not is_signed_untrusted((*batch, batch[-1]._replace(number=batch[-1].number + 1, signature=b"")), KEYS)


@pytest.mark.parametrize("raw", [b"", b"\x80", b"\x83\x01\x05\x01", b"\x83\x01\x18\x63\x01", b"\xff" * 40, bytes(2000)])
def test_what_is_no_message_is_malformed(raw: bytes) -> None:
    with pytest.raises(Malformed):
        message_from_bytes_untrusted(raw, KEYS)


# ---- sizes


def full_block(index: int = HUGE >> 1, body: int = 400) -> Block:
    header = Header(1 << 30, index, HUGE, bytes(16), bytes(16), HUGE, HUGE, HUGE, bytes(16), voter(1))
    entry = Entry(Kind.COMMAND, voter(2), HUGE, HUGE, bytes(body), bytes(64))
    return cut(header, HUGE, (entry,), KEYS)


def largest_block() -> Block:
    size = 400
    while full_block(body=size + 1).size <= BLOCK_BYTES_MAX:
        size += 1
    return full_block(body=size)


def test_an_append_fits_a_frame_however_large_its_numbers() -> None:
    assert MESSAGE_BYTES_MAX <= FRAME_BYTES_MAX
    for each in (largest_block(), full_block(body=20)):
        for run in frames(iter([each] * 20)):
            raw = message_to_bytes(1 << 30, Append(HUGE, HUGE, HUGE, bytes(16), run, HUGE, HUGE), KEYS)
            assert len(raw) <= MESSAGE_BYTES_MAX


def test_a_piece_and_a_campaign_fit_a_frame() -> None:
    piece = SnapshotPiece(HUGE, HUGE, bytes(16), 1 << 26, 1 << 26, bytes(PIECE_BYTES))
    proven = AskVote(HUGE, Position(HUGE, HUGE), None, bytes(PROOF_BYTES_MAX))
    mandated = AskVote(HUGE, Position(HUGE, HUGE), Mandate(HUGE, voter(1), bytes(64)))
    for message in (piece, proven, mandated):
        assert len(message_to_bytes(1 << 30, message, KEYS)) <= MESSAGE_BYTES_MAX


def test_proofs_fit_what_a_campaign_carries() -> None:
    assert len(unendorsed_proof(largest_block(), KEYS)) <= PROOF_BYTES_MAX
    room = proposed_bytes_max(FIVE) - 130
    entry = Entry(Kind.COMMAND, voter(1), HUGE, HUGE, bytes(room), bytes(64))
    proposal = Proposal(1 << 30, HUGE, HUGE, voter(1), entry, HUGE, HUGE, HUGE, bytes(64))
    refusals = [Verdict(digest(b""), HUGE, voter(number), "r" * RULE_BYTES_MAX, bytes(64)) for number in range(3)]
    assert len(refused_proof(proposal, refusals, KEYS)) <= PROOF_BYTES_MAX


def test_an_entry_with_its_endorsements_fits_a_block() -> None:
    """Was missing: a dangerous entry near the limit was appended with its endorsements, and every follower refused the block."""
    room = proposed_bytes_max(FIVE)
    size = room
    while len(body_bytes(HUGE, (Entry(Kind.COMMAND, voter(1), HUGE, HUGE, bytes(size), bytes(64)),), KEYS)) > room:
        size -= 1
    entry = Entry(Kind.COMMAND, voter(1), HUGE, HUGE, bytes(size), bytes(64))
    proposal = Proposal(1, 1, HUGE, voter(1), entry, HUGE, 0, 0, bytes(64))
    verdicts = {each: Verdict(digest(b""), 1, each, "", bytes(64)) for each in FIVE.voters}
    header = Header(1 << 30, HUGE, HUGE, bytes(16), bytes(16), HUGE, HUGE, HUGE, bytes(16), voter(1))
    block = cut(header, HUGE, (with_endorsements(proposal, verdicts, FIVE, KEYS),), KEYS)
    assert block_from_raw_untrusted(block_to_bytes(block, KEYS), KEYS) == block
