"""Sessions and cookies: what one key seals once, and for how long a cookie is good."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.wire.crypto import LIBSODIUM
from mesh.wire.handshake import (
    COOKIE_DATAGRAM_BYTES,
    COOKIE_LIFETIME_S,
    COOKIE_SECRET_S,
    INIT_BYTES,
    RESET_BYTES,
    Cookie,
    CookieJar,
    Init,
    encode_cookie,
    encode_init,
    encode_reset,
    init_untrusted,
    mesh_tag,
)
from mesh.wire.session import COUNTER_AT, DATA_OVERHEAD_BYTES, REPLAY_WINDOW, SEALED_AT, Session, derive

ADDRESS = ("10.0.0.1", 1)


def ends(**changes: bytes) -> tuple[Session, Session]:
    """Initiator and responder; `changes` are what the responder saw differently."""
    (one_public, one), (two_public, two) = LIBSODIUM.keypair(bytes(32)), LIBSODIUM.keypair(b"\x01" * 32)
    seen = {
        "initiator_key": one_public,
        "responder_key": two_public,
        "nonce": b"n" * 16,
        "cookie": b"c" * 16,
        "mesh_id": b"m" * 16,
    }
    sessions = []
    for secret, public, is_initiator in ((one, two_public, True), (two, one_public, False)):
        shared = LIBSODIUM.agree(secret, public)
        assert shared is not None
        inputs = seen if is_initiator else seen | changes
        sessions.append(derive(LIBSODIUM, shared, **inputs, is_initiator=is_initiator, address=ADDRESS))
    return sessions[0], sessions[1]


def opened(session: Session, datagram: bytes) -> bytes | None:
    """As the transport does it."""
    counter = int.from_bytes(datagram[COUNTER_AT:SEALED_AT], "big")
    if datagram[1:COUNTER_AT] != session.tag_in or session.is_replay(counter):
        return None
    plain = session.open_untrusted(datagram[COUNTER_AT:SEALED_AT], datagram[SEALED_AT:])
    if plain is not None:
        session.accept(counter)
    return plain


def test_both_directions_have_their_own_key() -> None:
    one, two = ends()
    there, back = one.seal(b"there"), two.seal(b"back")
    assert len(there) == len(b"there") + DATA_OVERHEAD_BYTES
    assert one.tag_out == two.tag_in != two.tag_out == one.tag_in
    assert opened(two, there) == b"there"
    assert opened(one, back) == b"back"
    # Reflected to who sent it, with the tag put right.
    assert opened(one, there[:1] + one.tag_in + there[COUNTER_AT:]) is None


@pytest.mark.parametrize("what", ["initiator_key", "responder_key", "nonce", "cookie", "mesh_id"])
def test_every_input_changes_tag_and_key(what: str) -> None:
    size = 32 if what.endswith("key") else 16
    one, two = ends(**{what: b"x" * size})
    assert one.tag_out != two.tag_in
    sealed = one.seal(b"secret")
    assert two.open_untrusted(sealed[COUNTER_AT:SEALED_AT], sealed[SEALED_AT:]) is None


def test_the_counter_is_sealed() -> None:
    one, two = ends()
    one.seal(b"")
    sealed = one.seal(b"secret")
    assert two.open_untrusted((1).to_bytes(6, "big"), sealed[SEALED_AT:]) is None
    assert two.open_untrusted((2).to_bytes(6, "big"), sealed[SEALED_AT:]) == b"secret"


def test_equal_messages_are_sealed_differently() -> None:
    one, _ = ends()
    assert len({one.seal(b"same") for _ in range(100)}) == 100


@given(st.lists(st.one_of(st.integers(0, 40), st.integers(0, 3 * REPLAY_WINDOW), st.integers(0, 2**48 - 1)), max_size=60))
@settings(max_examples=300, deadline=None)
def test_the_window_takes_each_counter_once_and_none_too_late(counters: list[int]) -> None:
    _, session = ends()
    seen: set[int] = set()
    highest = 0
    for counter in counters:
        expected = counter == 0 or counter in seen or counter <= highest - REPLAY_WINDOW
        assert session.is_replay(counter) == expected
        if not expected:
            assert session.accept(counter) == counter - highest
            seen.add(counter)
            highest = max(highest, counter)
            assert session.is_replay(counter)
    assert len(session._seen) == REPLAY_WINDOW // 8 + 1


def test_a_leap_of_the_counter_costs_no_memory() -> None:
    _, session = ends()
    session.accept(2**48 - 1)
    assert bytes(session._seen).strip(b"\0") == b"\x80", "all that was before is forgotten"
    assert session.is_replay(2**48 - 1)
    assert not session.is_replay(2**48 - 2)


def test_a_counter_that_fell_out_of_the_window_marks_no_other() -> None:
    _, session = ends()
    session.accept(5000)
    session.accept(3)
    assert not any(session.is_replay(counter) for counter in range(5000 - REPLAY_WINDOW + 1, 5000))


def test_answers_before_the_cookie_are_no_longer_than_questions() -> None:
    tag = mesh_tag(b"m" * 16)
    init = encode_init(tag, Init(b"n" * 16, b"k" * 32))
    assert len(init) == INIT_BYTES >= COOKIE_DATAGRAM_BYTES == len(encode_cookie(Cookie(b"n" * 16, b"k" * 32, b"c" * 16)))
    assert len(encode_reset(bytes(8))) == RESET_BYTES < DATA_OVERHEAD_BYTES


def test_an_init_is_read_back_or_says_why_not() -> None:
    tag = mesh_tag(b"m" * 16)
    raw = encode_init(tag, Init(b"n" * 16, b"k" * 32))
    assert init_untrusted(raw, tag) == Init(b"n" * 16, b"k" * 32)
    assert init_untrusted(raw, mesh_tag(b"o" * 16)) == "other_mesh"
    assert init_untrusted(raw[:1] + b"\x02" + raw[2:], tag) == "other_version"
    assert init_untrusted(raw + bytes(500), tag) == Init(b"n" * 16, b"k" * 32), "padded, to learn what gets through"
    for wrong in (raw[:-1], raw[:1]):
        assert init_untrusted(wrong, tag) == "malformed"


def test_a_cookie_is_for_one_address_nonce_and_key() -> None:
    jar = CookieJar(random.Random(1).randbytes)
    cookie = jar.make(ADDRESS, b"n" * 16, b"k" * 32, 0.0)
    assert jar.knows(cookie, ADDRESS, b"n" * 16, b"k" * 32, 0.0)
    assert not jar.knows(cookie, ("10.0.0.2", 1), b"n" * 16, b"k" * 32, 0.0)
    assert not jar.knows(cookie, ("10.0.0.1", 2), b"n" * 16, b"k" * 32, 0.0)
    assert not jar.knows(cookie, ADDRESS, b"o" * 16, b"k" * 32, 0.0)
    assert not jar.knows(cookie, ADDRESS, b"n" * 16, b"l" * 32, 0.0)
    assert not jar.knows(cookie[:-1], ADDRESS, b"n" * 16, b"k" * 32, 0.0)


@given(st.floats(0.0, 100.0), st.lists(st.floats(0.0, 40.0), max_size=6), st.floats(0.0, 100.0))
@settings(max_examples=200, deadline=None)
def test_a_cookie_is_good_for_one_secret_at_least_and_two_at_most(start: float, looks: list[float], after: float) -> None:
    """Its CONNECT is remembered for two. A jar that rotated when it was used once kept cookies for three."""
    jar = CookieJar(random.Random(1).randbytes)
    jar.make(ADDRESS, bytes(16), bytes(32), 0.0)
    now = start
    cookie = jar.make(ADDRESS, b"n" * 16, b"k" * 32, now)
    for step in sorted(looks):
        if step < after:  # the jar is in use meanwhile, or not
            jar.make(ADDRESS, bytes(16), bytes(32), now + step)
    good = jar.knows(cookie, ADDRESS, b"n" * 16, b"k" * 32, now + after)
    assert good or after >= COOKIE_SECRET_S
    assert not good or after <= COOKIE_LIFETIME_S
