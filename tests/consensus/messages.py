"""Everything that voters can say, as Hypothesis draws it."""

from __future__ import annotations

from hypothesis import strategies as st

from consensus_escalation.authorship import sign_batch
from consensus_escalation.block import Block, Entry, Header, Kind, cut
from consensus_escalation.certificate import Ack, Certificate
from consensus_escalation.impeachment import PROOF_BYTES_MAX
from consensus_escalation.messages import (
    Accepted,
    Append,
    AskClock,
    AskPreVote,
    AskRead,
    AskVote,
    CastVerdict,
    HandOver,
    Mandate,
    Message,
    PreVote,
    Propose,
    ReadAt,
    Rejected,
    SnapshotPiece,
    SnapshotTaken,
    TellClock,
    Vote,
)
from consensus_escalation.snapshot import PIECE_BYTES
from consensus_escalation.types import Position, Voter
from consensus_escalation.verdict import Proposal, Verdict
from tests.consensus.cluster import keys_of, voter

KEYS = keys_of(voter(1))
numbers = st.one_of(st.integers(0, 300), st.integers(0, (1 << 64) - 1))
hashes = st.binary(min_size=16, max_size=16)
signatures = st.one_of(st.just(b""), st.binary(min_size=64, max_size=64))
voters = st.integers(1, 9).map(voter)
positions = st.builds(Position, numbers, numbers)
mandates = st.builds(Mandate, numbers, voters, signatures)
proofs = st.binary(max_size=PROOF_BYTES_MAX)
entries = st.builds(
    Entry,
    st.sampled_from(list(Kind)),
    st.one_of(st.just(b""), voters),
    numbers,
    st.integers(0, 1 << 60),
    st.binary(max_size=40),
    signatures,
    st.one_of(st.just(b""), st.binary(max_size=20)),
)


@st.composite
def batches(draw: st.DrawFn) -> tuple[Entry, ...]:
    """One author's, signed."""
    author, since, first = draw(voters), draw(numbers), draw(st.integers(0, 1 << 40))
    bodies = draw(st.lists(st.binary(max_size=20), min_size=1, max_size=8))
    rows = [Entry(Kind.COMMAND, author, since, first + place, body) for place, body in enumerate(bodies)]
    return sign_batch(rows, keys_of(Voter(author)))


@st.composite
def blocks(draw: st.DrawFn) -> Block:
    config, policy, applied = draw(numbers), draw(numbers), draw(numbers)
    header = Header(1, draw(numbers), draw(numbers), draw(hashes), bytes(16), config, policy, applied, draw(hashes), draw(voters))
    found: list[Entry] = draw(st.lists(entries, max_size=3))
    for batch in draw(st.lists(batches(), max_size=2)):
        found += batch
    return cut(header, draw(numbers), tuple(found), KEYS)


proposals = st.builds(Proposal, numbers, numbers, numbers, voters, entries, numbers, numbers, numbers, signatures)
verdicts = st.builds(Verdict, hashes, numbers, voters, st.text(max_size=12), signatures)
acks = st.lists(st.builds(Ack, voters, numbers, signatures), max_size=5).map(tuple)
certificates = st.builds(Certificate, st.lists(blocks().map(lambda block: block.header_bytes), max_size=3).map(tuple), acks)

messages: st.SearchStrategy[Message] = st.one_of(
    st.builds(AskPreVote, numbers, positions, st.none() | mandates, proofs),
    st.builds(PreVote, numbers, st.booleans()),
    st.builds(AskVote, numbers, positions, st.none() | mandates, proofs),
    st.builds(Vote, numbers, st.booleans()),
    st.builds(Append, numbers, numbers, numbers, hashes, st.lists(blocks(), max_size=2).map(tuple), numbers, numbers),
    st.builds(Accepted, numbers, numbers, numbers, signatures),
    st.builds(Rejected, numbers, numbers, numbers, numbers),
    st.builds(HandOver, numbers, mandates),
    st.builds(AskRead, numbers, numbers),
    st.builds(ReadAt, numbers, numbers, st.none() | numbers),
    st.builds(SnapshotPiece, numbers, numbers, hashes, st.just(0), st.integers(0, 1 << 20), st.binary(max_size=PIECE_BYTES)),
    st.builds(SnapshotTaken, numbers, numbers, numbers, numbers),
    st.builds(Propose, numbers, proposals),
    st.builds(CastVerdict, numbers, verdicts, st.none() | proposals),
    st.builds(AskClock, numbers, numbers),
    st.builds(TellClock, numbers, numbers, numbers, signatures),
)
