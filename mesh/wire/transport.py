"""Sealed datagrams between members, without a socket.

Everything revolves around three tables: `_peers` (whom we talk to and what waits for them), `_by_tag` (sessions by the tag
that names them in a datagram) and `_attempts` (addresses that we are asking "who lives there?").

    A  contact(address), or a frame for a peer without a session
    |-- INIT {deltas} -------->  stateless: cookie = MAC(address, key, nonce)
    |<----------------- COOKIE --|
    |   X25519 (cached), KDF
    |-- CONNECT {HELLO, frames} >|  cookie, X25519 (cached), KDF, open, admit(A's credential): session is open at B
    |<-------- DATA {HELLO, ..} -|
    |   open, admit(B's credential): session is open at A
    |<====== DATA {frames} =====>|

What is not authenticated never changes what is: an INIT makes a cookie, a COOKIE serves only an attempt of ours that is under
way, a RESET only makes us run INIT again while the session goes on. A session is replaced when a new one has been proved by both
credentials, and the replaced ones still open what is under way. When both sides connect at once there are two sessions; either
will do.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Final

from crdt.codec import big_endian
from crdt.ids import ReplicaId
from mesh.effects import Address, Now, Transmit
from mesh.errors import ConfigError
from mesh.wire.attempts import Attempts
from mesh.wire.counters import Counters
from mesh.wire.crypto import LIBSODIUM, Crypto
from mesh.wire.early import Early
from mesh.wire.events import CopySeen, IdentityClash, Received, SessionOpened, TransportEvent, Unreachable
from mesh.wire.frames import Frame, Lane
from mesh.wire.handshake import (
    CONNECT,
    CONNECT_OVERHEAD_BYTES,
    COOKIE,
    INIT,
    INIT_BYTES,
    NO_RECEIPT,
    RESET,
    RESET_BYTES,
    Connect,
    Cookie,
    CookieJar,
    Init,
    connect_head,
    connect_untrusted,
    cookie_untrusted,
    encode_cookie,
    encode_init,
    encode_reset,
    init_untrusted,
    mesh_tag,
)
from mesh.wire.limits import (
    BOOT_ID_BYTES,
    CLASH_AFTER_S,
    CREDENTIAL_BYTES_MAX,
    MOVES_S,
    RESET_HINTS_PER_S,
    RESET_OBEYED_S,
    SESSIONS_PER_PEER,
    TransportLimits,
)
from mesh.wire.packer import DATAGRAM_BYTES_MAX, FRAME_HEAD_BYTES, TokenBucket, encode_frame, frames_untrusted
from mesh.wire.sender import Sender
from mesh.wire.session import COUNTER_AT, DATA, DATA_OVERHEAD_BYTES, SEALED_AT, Session, derive
from mesh.wire.strangers import Strangers
from mesh.wire.tables import Admit, Attempt, Connected, Entry, Find, Holder, HoldsSeed, Peer, Peers, Tap

__all__ = ["IdentityClash", "Received", "SessionOpened", "Transport", "TransportEvent", "TransportLimits", "Unreachable"]


_FRAMES: Final = tuple(Frame(kind) if kind in Frame._value2member_map_ else None for kind in range(256))


class Transport:
    """Sessions with members. Every method is synchronous and pure but for its own state; `receive_untrusted` never raises."""

    def __init__(
        self,
        *,
        identity: HoldsSeed,
        mesh_id: bytes,
        boot_id: bytes,
        credential: bytes,
        admit: Admit,
        rng: random.Random,
        entropy: Callable[[int], bytes],
        limits: TransportLimits | None = None,
        crypto: Crypto = LIBSODIUM,
        find: Find = lambda _: None,
        holder: Holder = lambda _: None,
    ) -> None:
        """`boot_id`: 16 bytes, other ones at each start. `credential`: our own, as `admit` of others takes it. `rng` spreads
        retries, `entropy` makes secrets. `find`, `holder`: asked at the first use of a member that `route` did not name. Raises
        ConfigError for a credential that fits no datagram.
        """
        if len(boot_id) != BOOT_ID_BYTES:
            raise ConfigError(f"a boot id has {BOOT_ID_BYTES} bytes, not {len(boot_id)}")
        self.tap: Tap | None = None
        """For tests: what a member sends that lies, or that is listened to."""
        self.limits = limits or TransportLimits()
        self.counters = Counters()
        self.drops = self.counters.drops
        self._sender = Sender(self.limits, self.counters)
        self._crypto = crypto
        self._public_key, self._secret_key = crypto.keypair(identity.seed)
        self._mesh_id = mesh_id
        self._mesh_tag = mesh_tag(mesh_id)
        self._boot_id = boot_id
        self._copy_seen = b""
        """The boot id of another living agent with our key, the last one that was told."""
        self.present(credential)
        self._admit = admit
        self._jar = CookieJar(entropy)
        self._strangers = Strangers(self.limits.strangers_per_s, self.limits.strangers_burst)
        self._resets = TokenBucket(RESET_HINTS_PER_S, RESET_HINTS_PER_S)

        self._peers = Peers(self.limits, find, holder)
        self._by_tag: dict[bytes, Entry] = {}
        self._by_tag_out: dict[bytes, Entry] = {}
        self._connected = Connected()
        self._moved: dict[ReplicaId, Address] = {}
        self._attempts = Attempts(
            self.limits, rng, entropy, ask=self._ask, abandon=self._unlist, give_back=self._give_back, give_up=self._give_up
        )
        self._early = Early(crypto, mesh_id, self._sender, self.counters, self._agree)
        self.events: list[TransportEvent] = []
        """For `take_events`."""

    # ------------------------------------------------------------------ routes

    def contact(self, address: Address, now: Now) -> None:
        """Ask who lives there, and open a session with it if it is a member. Asks at once, also while an earlier attempt
        waits."""
        self._start(address, None, now, insist=True)

    def route(self, peer: ReplicaId, public_key: bytes, address: Address) -> None:
        """How to reach a known member. A session is opened when something is sent; an open one has to prove a new address."""
        known = self._peers.met(peer)
        if known is None:
            self._peers.add(peer, public_key, address)
        elif known.public_key == public_key:
            if known.address != address and known.sessions:  # it says itself that it moved
                self._moved[peer] = address
            known.address = address
        else:
            self.drops["route_other_key"] += 1

    def rekey(self, peer: ReplicaId, public_key: bytes) -> None:
        """A member has another key from now on: what was agreed with the former one ends. What waits for it stays."""
        known = self._peers.met(peer)
        if known is not None and known.public_key != public_key:
            self._peers.rekey(known, public_key)
            self._end_sessions(known)

    def become(self, identity: HoldsSeed, credential: bytes) -> None:
        """We have another key from now on. Call after a `flush`: everybody is asked anew as soon as there is something to
        send. Raises ConfigError for a credential that fits no datagram."""
        self._public_key, self._secret_key = self._crypto.keypair(identity.seed)
        self.present(credential)
        self._attempts.end_all()
        for known in self._peers:
            self._end_sessions(known)

    def present(self, credential: bytes) -> None:
        """What we show of ourselves from now on. Raises ConfigError when it fits no datagram."""
        if len(credential) > CREDENTIAL_BYTES_MAX:
            raise ConfigError(f"the credential has {len(credential)} bytes; at most {CREDENTIAL_BYTES_MAX} fit a datagram")
        self._hello = encode_frame(Frame.HELLO, self._boot_id + credential)

    def _end_sessions(self, peer: Peer) -> None:
        for entry in peer.sessions:
            self._unlist(entry)
        peer.sessions.clear()
        peer.shared = None
        self._sender.wake(peer)

    def close(self, peer: ReplicaId) -> None:
        """Forget a member (revoked, expired, left for good): its sessions, its route and what waits for it."""
        known = self._peers.pop(peer)
        if known is None:
            return
        self._sender.forget(known)
        for entry in known.sessions:
            self._unlist(entry)
        self._attempts.end_of(peer)

    def address_of(self, peer: ReplicaId) -> Address | None:
        """Where frames for it go now."""
        known = self._peers.met(peer)
        if known is None:
            return None
        return known.sessions[0].session.address if known.sessions else known.address

    def key_of(self, peer: ReplicaId) -> bytes | None:
        """The key that it is known by here."""
        known = self._peers.met(peer)
        return None if known is None else known.public_key

    def is_open(self, peer: ReplicaId) -> bool:
        known = self._peers.met(peer)
        return known is not None and bool(known.sessions)

    @property
    def has_frames(self) -> bool:
        """Whether `flush` has something to look at."""
        return self._sender.has_frames

    def take_events(self) -> list[TransportEvent]:
        events, self.events = self.events, []
        return events

    # ------------------------------------------------------------------ sending

    def send(self, peer: ReplicaId, lane: Lane, kind: Frame, payload: bytes) -> None:
        """Queue one frame; `flush` sends it. Raises ValueError for a payload above FRAME_BYTES_MAX, which is the caller's
        mistake."""
        bent = payload if self.tap is None else self.tap(peer, lane, kind, payload)
        if bent is not None:
            self._send((peer,), lane, kind, bent)

    def send_all(self, peers: Sequence[ReplicaId], lane: Lane, kind: Frame, payload: bytes) -> None:
        """The same to many."""
        if self.tap is None:
            self._send(peers, lane, kind, payload)
            return
        for peer in peers:
            self.send(peer, lane, kind, payload)

    def _send(self, peers: Sequence[ReplicaId], lane: Lane, kind: Frame, payload: bytes) -> None:
        known = [each for peer in peers if (each := self._peers.get(peer)) is not None]
        if len(known) < len(peers):
            self.drops["no_route"] += len(peers) - len(known)
        self._sender.send(known, lane, kind, payload)

    def flush(self, now: Now) -> list[Transmit]:
        """The datagrams to send now. What the byte budgets hold back stays queued, and `deadline` says when to come again."""
        if not (self._sender.has_frames or self._moved):
            return []
        for replica, address in self._moved.items():
            if (moved := self._peers.met(replica)) is not None:
                self._follow(moved, address, now)
        self._moved.clear()
        for peer in self._sender.take_unopened():
            self._start(peer.address, peer.replica, now, expected=now.monotonic < peer.knocked_at + self.limits.handshake_retry_s)
        return self._sender.flush(now.monotonic)

    # ------------------------------------------------------------------ time

    @property
    def deadline(self) -> float:
        """Monotonic seconds of the next `tick` and `flush` wanted."""
        return min(self._attempts.deadline, self._sender.deadline)

    def tick(self, now: Now) -> None:
        """Retries of handshakes. Call `flush` afterwards."""
        self._attempts.tick(now)

    # ------------------------------------------------------------------ asking

    def _start(self, address: Address, peer: ReplicaId | None, now: Now, **how: bool) -> None:
        if not self._attempts.start(address, peer, now, **how):
            self.drops["attempts_full"] += 1

    def _ask(self, attempt: Attempt) -> None:
        """INIT; once there is a cookie, CONNECT: who we are, and what waits for the holder of that key."""
        plain = self._hello
        room = DATAGRAM_BYTES_MAX - CONNECT_OVERHEAD_BYTES - len(plain)
        if attempt.entry is None:
            init = Init(attempt.nonce, self._public_key)
            along = self._early.along(attempt, self._peer_of(attempt), init, room)
            self._sender.emit(attempt.address, encode_init(self._mesh_tag, init) + along)
            return
        session = attempt.entry.session
        peer = self._peers.of_key(session.public_key)
        if peer is not None and not peer.sessions:
            early = self._early.again(attempt, peer, room)
            plain += early + self._sender.take_early(peer, room - len(early))
        self._sender.emit(attempt.address, attempt.connect_head + session.seal_part(plain))

    def _peer_of(self, attempt: Attempt) -> Peer | None:
        return self._peers.met(attempt.peer) if attempt.peer is not None else None

    def _give_back(self, attempt: Attempt) -> None:
        if (peer := self._peer_of(attempt)) is not None:
            self._sender.give_back(peer, attempt.early)

    def _give_up(self, attempt: Attempt) -> None:
        self._attempts.end(attempt)
        self.events.append(Unreachable(attempt.address, attempt.peer, attempt.answered))
        peer = self._peer_of(attempt)
        if peer is not None and not peer.sessions:
            self.drops["unreachable"] += self._sender.clear(peer)

    # ------------------------------------------------------------------ receiving

    def receive_untrusted(self, datagram: bytes, address: Address, now: Now) -> list[Received]:
        """The frames of a member's datagram. Anything else is counted in `drops`; answers wait for `flush`. Never raises."""
        counters = self.counters
        counters.datagrams_received += 1
        counters.bytes_received += len(datagram)
        kind = datagram[0] if datagram else 0
        if kind == DATA and DATA_OVERHEAD_BYTES <= len(datagram) <= DATAGRAM_BYTES_MAX:
            return self._data_untrusted(datagram, address, now) or []
        if len(datagram) > DATAGRAM_BYTES_MAX:
            self.drops["too_long"] += 1
        elif kind == DATA:
            self.drops["malformed"] += 1
        elif kind == INIT:
            return self._init_untrusted(datagram, address, now)
        elif kind == COOKIE:
            self._cookie_untrusted(datagram, now)
        elif kind == CONNECT:
            return self._connect_untrusted(datagram, address, now) or []
        elif kind == RESET:
            self._reset_untrusted(datagram, now)
        else:
            self.drops["unknown_type"] += 1
        return []

    def _data_untrusted(self, datagram: bytes, address: Address, now: Now) -> list[Received] | None:
        entry = self._by_tag.get(datagram[1:COUNTER_AT])
        if entry is None:
            self.drops["unknown_session"] += 1
            if self._resets.take(now.monotonic):  # shorter than any DATA
                self._sender.emit(address, encode_reset(datagram[1:COUNTER_AT]))
            return None
        return self._open_untrusted(entry, datagram[COUNTER_AT:SEALED_AT], datagram[SEALED_AT:], address, now)

    def _open_untrusted(self, entry: Entry, count: bytes, sealed: bytes, address: Address, now: Now) -> list[Received] | None:
        """The frames of a datagram in this session, or None when it was dropped."""
        session = entry.session
        counter = big_endian(count)
        if session.is_replay(counter):
            self.drops["replay"] += 1
            return None
        plain = session.open_untrusted(count, sealed)
        if plain is None:
            self.drops["forged"] += 1
            return None
        # From here on the other end has proved that it holds the key.
        frames = frames_untrusted(plain)
        if frames is None:
            self.drops["malformed_frames"] += 1
            return None
        ahead = session.accept(counter)
        if ahead > 1:
            self.counters.sealed_skipped += ahead - 1
        elif ahead < 1:
            self.counters.sealed_late += 1
        peer = entry.peer or self._prove(entry, frames, address, now)
        if peer is None:
            return None
        self.counters.sealed_received += 1
        if ahead > 0:
            current = peer.sessions[0]  # the one that we send on: both ends may have another one as current
            if entry is not current:
                self._check_clash(peer, entry, now)
            if address != current.session.address and entry.boot == current.boot:
                self._follow(peer, address, now)
        return self._deliver(peer, entry, frames, address, now)

    def _deliver(self, peer: Peer, entry: Entry, frames: list[tuple[int, bytes]], address: Address, now: Now) -> list[Received]:
        count, size = self.counters.frames_received, self.counters.frame_bytes_received
        received = []
        for number, payload in frames:
            kind = _FRAMES[number]
            if kind is None:  # of a later version
                self.drops["unknown_frame"] += 1
                continue
            count[number] = count[number] + 1  # not +=, which asks the objects what that means, compiled
            size[number] = size[number] + FRAME_HEAD_BYTES + len(payload)
            if kind is not Frame.HELLO:
                received.append(Received(peer.replica, address, kind, payload))
            elif not entry.boot and not self._greet(peer, entry, payload, now):
                return []
        return received

    # ------------------------------------------------------------------ proving

    def _prove(self, entry: Entry, frames: list[tuple[int, bytes]], address: Address, now: Now) -> Peer | None:
        """Whose new session this is: the member of its HELLO, or the known holder of its key when the HELLO is still to come."""
        public_key = entry.session.public_key
        hello = next((payload for number, payload in frames if number == Frame.HELLO), None)
        if public_key == self._public_key:
            self._prove_copy(entry, hello or b"", address)
            return None
        if hello is None:
            peer = self._peers.of_key(public_key)
            if peer is None:
                self.drops["before_hello"] += 1
                return None
        else:
            replica = self._admit(public_key, hello[BOOT_ID_BYTES:], now) if len(hello) >= BOOT_ID_BYTES else None
            peer = self._peers.meet(replica, public_key, address) if replica is not None else None
            if peer is None or peer.public_key != public_key:
                self.drops["refused"] += 1
                if entry.attempt is not None:
                    self._give_up(entry.attempt)
                return None
            entry.boot = hello[:BOOT_ID_BYTES]
        if entry.attempt is None and not self._connected.may_open(peer, entry, now.monotonic):
            self.drops["connect_rate"] += 1
            return None
        self._adopt(peer, entry, address, now)
        return peer

    def _prove_copy(self, entry: Entry, hello: bytes, address: Address) -> None:
        """Somebody sealed this with our own key, and has a boot id of its own: another living agent has our identity."""
        if len(hello) < BOOT_ID_BYTES or hello[:BOOT_ID_BYTES] == self._boot_id:
            return
        entry.boot = hello[:BOOT_ID_BYTES]
        if entry.attempt is not None:
            address = entry.attempt.address
            self._attempts.end(entry.attempt)
        if entry.boot != self._copy_seen:
            self._copy_seen = entry.boot
            self.events.append(CopySeen(address))

    def _adopt(self, peer: Peer, entry: Entry, address: Address, now: Now) -> None:
        """The session becomes the current one. `address`: where it came from. Where we asked for it counts more: whoever has
        answered that can be reached there, while anybody can write any sender into a datagram.
        """
        if entry.attempt is not None:
            address = entry.attempt.address
        entry.peer = peer
        entry.session.address = address
        self._list(entry)
        peer.sessions.insert(0, entry)
        if len(peer.sessions) > SESSIONS_PER_PEER:
            self._unlist(peer.sessions.pop())
        peer.opened_at = now.monotonic
        peer.clashed = False
        self._sender.wake(peer)
        attempt = entry.attempt or self._attempts.at(address)
        round_trip = None
        if attempt is not None and attempt.entry in (None, entry):  # asked at the same time, and answered by this
            self._early.connected(attempt, peer)
            round_trip = attempt.round_trip
            self._attempts.end(attempt)
        self.events.append(SessionOpened(peer.replica, address, peer.public_key, round_trip))
        entry.attempt = None

    def _greet(self, peer: Peer, entry: Entry, hello: bytes, now: Now) -> bool:
        """The HELLO of a session that was opened for its known key. False when the credential is refused, which ends it."""
        if len(hello) >= BOOT_ID_BYTES and self._admit(peer.public_key, hello[BOOT_ID_BYTES:], now) == peer.replica:
            entry.boot = hello[:BOOT_ID_BYTES]
            return True
        self.drops["refused"] += 1
        self._unlist(entry)
        peer.sessions.remove(entry)
        return False

    def _follow(self, peer: Peer, address: Address, now: Now) -> None:
        """It speaks from another address, or says that it lives there. Ask there, and send there when that was answered: else a
        member could turn all that it asks for on anybody.
        """
        if now.monotonic - peer.moved_at >= MOVES_S:
            peer.moved_at = now.monotonic
            self._start(address, peer.replica, now, insist=True)

    def _check_clash(self, peer: Peer, entry: Entry, now: Now) -> None:
        current = peer.sessions[0]
        if peer.clashed or not entry.boot or not current.boot or entry.boot == current.boot:
            return
        if now.monotonic - peer.opened_at >= CLASH_AFTER_S:
            peer.clashed = True
            self.events.append(IdentityClash(peer.replica, (current.session.address, entry.session.address)))

    # ------------------------------------------------------------------ answering

    def _init_untrusted(self, datagram: bytes, address: Address, now: Now) -> list[Received]:
        init = init_untrusted(datagram, self._mesh_tag)
        received: list[Received] = []
        if isinstance(init, str):
            self.drops[init] += 1
        elif (ours := self._attempts.with_nonce(init.nonce)) is not None and init.public_key == self._public_key:
            self.drops["self"] += 1
            self._attempts.end(ours)  # a seed of ours is our own address
        else:  # also somebody who says that it has our key: CONNECT will prove it
            receipt, peer = NO_RECEIPT, self._peers.of_key(init.public_key) if len(datagram) > INIT_BYTES else None
            if peer is not None:
                receipt, frames = self._early.open_untrusted(peer, init, self._public_key, datagram[INIT_BYTES:], now.monotonic)
                received = [Received(peer.replica, address, kind, payload, fresh=False) for kind, payload in frames]
            cookie = self._jar.make(address, init.nonce, init.public_key, now.monotonic)
            self._sender.emit(address, encode_cookie(Cookie(init.nonce, self._public_key, cookie, receipt)))
        return received

    def _cookie_untrusted(self, datagram: bytes, now: Now) -> None:
        answer = cookie_untrusted(datagram)
        if answer is None:
            self.drops["malformed"] += 1
            return
        attempt = self._attempts.with_nonce(answer.nonce)
        if attempt is None or attempt.entry is not None:
            self.drops["cookie_unexpected"] += 1
            return
        peer = self._peers.of_key(answer.public_key)
        shared = self._agree(answer.public_key, peer)
        if shared is None:
            return
        if attempt.early and answer.receipt == attempt.receipt:
            attempt.early.clear()
        session = self._derive(shared, answer, attempt.address, is_initiator=True)
        entry = Entry(session)
        self._list(entry)
        self._attempts.proceed(attempt, entry, connect_head(self._public_key, answer.nonce, answer.cookie), now)

    def _connect_untrusted(self, datagram: bytes, address: Address, now: Now) -> list[Received] | None:
        connect = connect_untrusted(datagram)
        if connect is None:
            self.drops["malformed"] += 1
            return None
        if not self._jar.knows(connect.cookie, address, connect.nonce, connect.public_key, now.monotonic):
            self.drops["bad_cookie"] += 1
            return None
        peer = self._peers.of_key(connect.public_key)
        if peer is None and not self._strangers.take(address, now.monotonic):
            self.drops["strangers"] += 1
            return None
        shared = self._agree(connect.public_key, peer)
        if shared is None:
            return None
        session = self._derive(shared, connect, address, is_initiator=False)
        entry = self._by_tag.get(session.tag_in)
        if entry is None:
            if session.tag_in in self._connected:  # it was opened once, and closed since
                self.drops["replay"] += 1
                return None
            entry = Entry(session)
        received = self._open_untrusted(entry, connect.counter, connect.sealed, address, now)
        if received is not None or (connect.public_key == self._public_key and entry.boot):  # a copy of us: it is to know, too
            self._sender.emit(address, entry.session.seal(self._hello))
        return received

    def _reset_untrusted(self, datagram: bytes, now: Now) -> None:
        entry = self._by_tag_out.get(datagram[1:]) if len(datagram) == RESET_BYTES else None
        peer = entry.peer if entry is not None else None
        if entry is None or peer is None or entry is not peer.sessions[0]:
            self.drops["reset_unexpected"] += 1
            return
        asking = self._attempts.at(entry.session.address)
        next_at = peer.reset_at + RESET_OBEYED_S
        if asking is not None:  # what we ask has not arrived: once more, without waiting for its next try
            next_at = asking.asked_at + self.limits.handshake_retry_s
        if now.monotonic < next_at:
            self.drops["reset_rate"] += 1
            return
        peer.reset_at = now.monotonic
        self._start(entry.session.address, peer.replica, now, insist=True)

    # ------------------------------------------------------------------ tables

    def _list(self, entry: Entry) -> None:
        self._by_tag[entry.session.tag_in] = entry
        self._by_tag_out[entry.session.tag_out] = entry

    def _unlist(self, entry: Entry) -> None:
        self._by_tag.pop(entry.session.tag_in, None)
        self._by_tag_out.pop(entry.session.tag_out, None)

    def _agree(self, public_key: bytes, peer: Peer | None) -> bytes | None:
        """X25519 with the holder of a key, kept for those we know."""
        if peer is not None and peer.shared is not None:
            return peer.shared
        shared = self._crypto.agree(self._secret_key, public_key)
        if shared is None:
            self.drops["bad_key"] += 1
        elif peer is not None:
            peer.shared = shared
        return shared

    def _derive(self, shared: bytes, seen: Cookie | Connect, address: Address, *, is_initiator: bool) -> Session:
        return derive(
            self._crypto,
            shared,
            initiator_key=self._public_key if is_initiator else seen.public_key,
            responder_key=seen.public_key if is_initiator else self._public_key,
            nonce=seen.nonce,
            cookie=seen.cookie,
            mesh_id=self._mesh_id,
            is_initiator=is_initiator,
            address=address,
        )
