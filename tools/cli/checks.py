"""What `mesh doctor` looks at: each check finds one thing out, and says how to mend it."""

from __future__ import annotations

import errno
import os
import resource
import secrets
import shutil
import socket
import sqlite3
import stat
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from enum import Enum
from pathlib import Path
from typing import Any, Final, NamedTuple

from mesh.effects import Address
from mesh.errors import ConfigError
from mesh.net.open_udp import SOCKET_BUFFER_BYTES
from mesh.trust import Membership
from mesh.trust.files import NEXT_KEY
from mesh.wire.handshake import INIT_BYTES, Init, cookie_untrusted, encode_init, mesh_tag

DATAGRAM_BYTES: Final = 1_200
"""The largest that a node sends (DESIGN section 2)."""
IP_AND_UDP_BYTES: Final = {socket.AF_INET: 28, socket.AF_INET6: 48}
PROBE_SECONDS: Final = 1.0
"""For an answer; twice, since one datagram may be lost. A satellite hop takes 0.6 s."""
PROBE_SIZES: Final = (1_100, 1_000, 900, 800, 700, 600, 500)
"""Tried when a full datagram gets no answer, to say what does."""
DISK_FREE_MIN: Final = 100 << 20
"""Guess: a state at its default limits and a write-ahead log."""
SYNC_SECONDS_MAX: Final = 0.1
"""A commit is promised within 100 ms (DESIGN section 3)."""
CLOCK_OFF_MAX_S: Final = 3600.0
"""Above it writes are refused (DESIGN section 1, Time)."""
CLOCK_OFF_NOTE_S: Final = 1.0
OPEN_FILES_MIN: Final = 64
EXPIRES_SOON_DAYS: Final = 7.0
"""Guess: time to ask whoever has the authority's key."""
ADMISSION_S: Final = 5.0
"""A member that answers lets a newcomer in within a few round trips."""
ENROL_ANEW: Final = "`mesh keys show` where the authority is tells more; ask there for a new token, and `mesh join` with it"
BUILT_AFTER: Final = 1_735_689_600
"""2025-01-01: no clock that runs was ever before it when this was written."""


class State(Enum):
    OK = "ok"
    NOTE = "note"
    BAD = "bad"


class Finding(NamedTuple):
    what: str
    state: State
    found: str
    mend: str = ""


class PathMtu(NamedTuple):
    """What the kernel knows of the way to an address. `size`: bytes of an IP packet."""

    size: int
    fits: bool


def check_key_files(paths: Iterable[Path]) -> Iterator[Finding]:
    """Secret keys must be their owner's alone."""
    for path in paths:
        if not path.exists():
            continue
        status = path.stat()
        mode = stat.S_IMODE(status.st_mode)
        if mode & 0o077:
            yield Finding(path.name, State.BAD, f"mode {mode:04o}: others can use this key", f"chmod 600 {path}")
        elif status.st_uid != os.geteuid() and os.geteuid() != 0:
            yield Finding(path.name, State.BAD, f"belongs to user {status.st_uid}", f"sudo chown {os.geteuid()} {path}")
        else:
            yield Finding(path.name, State.OK, f"mode {mode:04o}")
        if path.name == "authority.key":  # of several keys one alone can do nothing
            yield Finding(
                "authority",
                State.NOTE,
                "this machine can let anybody in and put anybody out",
                f"when the mesh is complete, keep {path} in a safe place instead",
            )


def check_clock(offset_s: float | None, now: float) -> Finding:
    """`offset_s`: how far the peers' median is ahead of this clock, None when no node runs; `now`: this clock, since 1970."""
    if now < BUILT_AFTER:
        return Finding(
            "clock", State.BAD, f"it says {time.strftime('%Y-%m-%d', time.gmtime(now))}", "set it: timedatectl set-ntp true"
        )
    if offset_s is None:
        return Finding("clock", State.OK, "plausible; a running node compares it with its peers")
    found = f"{abs(offset_s):.1f} s {'behind' if offset_s > 0 else 'ahead of'} the median of the peers"
    if abs(offset_s) > CLOCK_OFF_MAX_S:
        return Finding("clock", State.BAD, f"{found}: writes are refused", "set it: timedatectl set-ntp true")
    if abs(offset_s) > CLOCK_OFF_NOTE_S:
        return Finding(
            "clock", State.NOTE, f"{found}: it decides between concurrent writes of a register", "timedatectl set-ntp true"
        )
    return Finding("clock", State.OK, found)


def check_buffers(rmem_max: int, kernel_drops: int | None) -> Finding:
    """Bursts must fit the socket. `rmem_max`: bytes that the kernel grants; `kernel_drops`: of the running node."""
    mend = f"sysctl -w net.core.rmem_max={SOCKET_BUFFER_BYTES} net.core.wmem_max={SOCKET_BUFFER_BYTES}; then restart the node"
    if kernel_drops:
        return Finding("socket buffer", State.NOTE, f"the kernel dropped {kernel_drops} datagrams because it was full", mend)
    if rmem_max < SOCKET_BUFFER_BYTES:
        return Finding(
            "socket buffer", State.NOTE, f"the kernel grants {rmem_max:,} bytes: bursts of many members may be lost", mend
        )
    return Finding("socket buffer", State.OK, f"{rmem_max:,} bytes")


def kernel_rmem_max(path: Path = Path("/proc/sys/net/core/rmem_max")) -> int:
    """What SO_RCVBUF may ask for; on other systems what a socket really gets."""
    if path.exists():
        return int(path.read_text())
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER_BYTES)
        return probe.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)


def check_open_files() -> Finding:
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit != resource.RLIM_INFINITY and limit < OPEN_FILES_MIN:
        return Finding("open files", State.BAD, f"at most {limit}", f"ulimit -n {4 * OPEN_FILES_MIN}")
    return Finding("open files", State.OK, f"at most {limit}")


def check_bind(address: Address) -> Finding:
    """Whether the port is free, for when no node runs."""
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with closing(socket.socket(family, socket.SOCK_DGRAM)) as probe:
        try:
            probe.bind(address)
        except OSError as error:
            mend = "another program has this port: write another one in mesh.toml, or stop that program"
            if error.errno == errno.EADDRNOTAVAIL:
                mend = "no interface has this address: write 0.0.0.0 or one of `ip address` in mesh.toml"
            return Finding("bind", State.BAD, f"{address[0]}:{address[1]}: {error.strerror}", mend)
    return Finding("bind", State.OK, f"{address[0]}:{address[1]} is free")


def check_reach(name: str, address: Address, membership: Membership) -> Iterator[Finding]:
    """Whether a member of this mesh answers there, and whether full datagrams fit through."""
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with closing(socket.socket(family, socket.SOCK_DGRAM)) as probe:
        try:
            probe.connect(address)
            mtu = path_mtu(probe, family)
            if mtu is not None and not mtu.fits:
                yield Finding(
                    f"MTU to {name}",
                    State.BAD,
                    f"{mtu.size} bytes: datagrams of {DATAGRAM_BYTES} do not fit",
                    f"raise the MTU of the interface or tunnel to {DATAGRAM_BYTES + IP_AND_UDP_BYTES[family]} or more",
                )
            elif mtu is not None:
                yield Finding(f"MTU to {name}", State.OK, f"{mtu.size} bytes, as far as the network tells")
            answer = _ask_who_is_there(probe, name, membership)
            yield answer
            if answer.state is State.OK:
                yield _ask_how_large(probe, name, membership)
        except ConnectionRefusedError:
            yield Finding(
                f"reach {name}",
                State.BAD,
                "the machine is there, but nothing listens on that port",
                "start `mesh up` there, or mend seeds",
            )
        except OSError as error:
            mend = "no route: mend the network of this machine, or the address in mesh.toml"
            yield Finding(f"reach {name}", State.BAD, error.strerror or str(error), mend)


def _ask_who_is_there(probe: socket.socket, name: str, membership: Membership) -> Finding:
    """The first step of a handshake, which leaves no trace over there: INIT, and a COOKIE comes back."""
    took = _asked(probe, membership, INIT_BYTES)
    if took is not None:
        return Finding(f"reach {name}", State.OK, f"a member of this mesh answers in {took * 1e3:.1f} ms")
    host, port = probe.getpeername()[:2]
    return Finding(
        f"reach {name}",
        State.BAD,
        "no answer: UDP is blocked, no node runs there, or it belongs to another mesh",
        f"there: `mesh status`; on the way: let UDP port {port} of {host} through the firewalls, both ways",
    )


def _ask_how_large(probe: socket.socket, name: str, membership: Membership) -> Finding:
    """The same question in as many bytes as a node sends at most. Where the small one is answered and the large one is not, large
    datagrams vanish on the way without a word: a black hole, which the kernel cannot know of."""
    if _asked(probe, membership, DATAGRAM_BYTES) is not None:
        return Finding(f"size to {name}", State.OK, f"datagrams of {DATAGRAM_BYTES} bytes arrive")
    through = next((size for size in PROBE_SIZES if _asked(probe, membership, size) is not None), INIT_BYTES)
    return Finding(
        f"size to {name}",
        State.BAD,
        f"small datagrams arrive, but of {DATAGRAM_BYTES} bytes none does ({through} bytes do): they vanish on the way",
        f"set the MTU of the link on the way to {DATAGRAM_BYTES + max(IP_AND_UDP_BYTES.values())} or more at both its ends, "
        'or let ICMP "too big" through its firewalls',
    )


def _asked(probe: socket.socket, membership: Membership, size: int) -> float | None:
    """Seconds until somebody of this mesh answered an INIT of so many bytes; None when nobody did."""
    init = Init(secrets.token_bytes(16), membership.identity.public_key)
    datagram = encode_init(mesh_tag(membership.mesh_id), init).ljust(size, b"\0")
    for _ in range(2):
        started = time.monotonic()
        probe.send(datagram)
        while (left := started + PROBE_SECONDS - time.monotonic()) > 0:
            probe.settimeout(left)
            try:
                answer = cookie_untrusted(probe.recv(2 * DATAGRAM_BYTES))
            except TimeoutError:
                break
            if answer is not None and answer.nonce == init.nonce:
                return time.monotonic() - started
    return None


def path_mtu(probe: socket.socket, family: socket.AddressFamily) -> PathMtu | None:
    """Send a full datagram that must not be cut up, and ask the kernel what it learnt. None where the kernel does not say."""
    if sys.platform != "linux":
        return None
    # linux/in.h and in6.h: IP_MTU_DISCOVER, IP_MTU, IPV6_MTU_DISCOVER, IPV6_MTU; 2 is PMTUDISC_DO, "don't fragment".
    level, discover, ask = (socket.IPPROTO_IP, 10, 14) if family == socket.AF_INET else (socket.IPPROTO_IPV6, 23, 24)
    probe.setsockopt(level, discover, 2)
    try:
        probe.send(bytes(DATAGRAM_BYTES))  # zeros are no frame: dropped on the other side
        time.sleep(0.05)  # for a router that answers "too big"
        fits = probe.getsockopt(level, ask) >= DATAGRAM_BYTES + IP_AND_UDP_BYTES[family]
    except OSError as error:
        if error.errno != errno.EMSGSIZE:
            raise
        fits = False
    return PathMtu(probe.getsockopt(level, ask), fits)


def check_disk(data_dir: Path) -> Iterator[Finding]:
    """Room, rights and speed."""
    where = data_dir if data_dir.exists() else data_dir.parent
    if not os.access(where, os.W_OK):
        yield Finding("disk", State.BAD, f"{where} is not writable by this user", f"sudo chown -R {os.geteuid()} {where}")
        return
    free = shutil.disk_usage(where).free
    if free < DISK_FREE_MIN:
        yield Finding(
            "disk", State.BAD, f"{free >> 20} MiB free in {where}", "make room: a full disk stops new writes from being kept"
        )
        return
    try:
        took = _time_to_sync(where)
    except OSError as error:
        yield Finding("disk", State.BAD, f"{where}: {error.strerror}", "mend the file system (see dmesg)")
        return
    speed = f"{free >> 20:,} MiB free, a sync takes {took * 1e3:.1f} ms"
    if took > SYNC_SECONDS_MAX:
        yield Finding("disk", State.NOTE, speed, "flush() waits for that: use a faster disk or card, or write less to it")
    else:
        yield Finding("disk", State.OK, speed)


def _time_to_sync(where: Path) -> float:
    path = where / f".doctor-{secrets.token_hex(4)}"
    try:
        with open(path, "wb", buffering=0) as file:
            file.write(bytes(4096))
            started = time.monotonic()
            os.fsync(file.fileno())
            return time.monotonic() - started
    finally:
        path.unlink(missing_ok=True)


def check_database(path: Path) -> Finding | None:
    """Read-only and only while no node has it open; None when there is none yet."""
    if not path.exists():
        return None
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=1.0)) as database:
            (verdict,) = database.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as error:
        verdict = str(error)
    if verdict == "ok":
        return Finding("database", State.OK, f"{path.name}, {path.stat().st_size >> 10:,} KiB, sound")
    mend = f"move {path.name} and {path.name}-wal away and start again: the peers bring back all but what only this machine had"
    return Finding("database", State.BAD, f"{path}: {verdict}", mend)


def check_statistics(statistics: dict[str, Any]) -> Iterator[Finding]:
    """What a running node has dropped, by reason."""
    drops = {reason: count for reason, count in sorted(statistics.get("drops", {}).items()) if count}
    if drops:
        told = ", ".join(f"{reason} {count}" for reason, count in drops.items())
        yield Finding("dropped", State.NOTE, told, "normal after a restart; many more each time: who sends them is no member")


def check_ended(ended: Sequence[dict[str, str]]) -> Iterator[Finding]:
    """Shelves that ended, by a fork or a cut, and that nobody has closed yet."""
    for each in ended:
        found, _, mend = each["told"].partition(": ")
        yield Finding("ended", State.BAD, found, mend)


def check_standing(state: str) -> Finding | None:
    """`state`: of this agent's own key, as the running node knows it."""
    if state == "member":
        return None
    return Finding("rights", State.BAD, f"this agent's key is {state}: the others take nothing from it", ENROL_ANEW)


def check_identity(in_use: bool) -> Finding:
    """`in_use`: another living agent speaks with this agent's key, as the running node noticed."""
    if not in_use:
        return Finding("identity", State.OK, "no other agent uses it, as far as the node heard")
    return Finding(
        "identity",
        State.BAD,
        "another living agent uses this agent's key: a copied directory, a cloned machine, or a thief",
        "stop one of the two and let it join anew with a token of its own (`mesh invite`); if you know no second one, revoke it "
        "with `mesh keys revoke`",
    )


def check_expiry(expires: int | None, now: float) -> Finding | None:
    """`expires`: of the own credential, seconds since 1970."""
    if expires is None:
        return None
    days = (expires - now) / 86_400
    mend = "let the authority renew it: `mesh keys show` tells the date, a new token a new one"
    if days <= 0:
        return Finding("credential", State.BAD, "it has run out: nobody opens a session with this agent", mend)
    state = State.NOTE if days < EXPIRES_SOON_DAYS else State.OK
    return Finding("credential", state, f"it runs out in {days:.1f} days", mend if state is State.NOTE else "")


def check_rotation(keys_dir: Path) -> Finding | None:
    """A rotation that was begun and not finished."""
    if not (keys_dir / NEXT_KEY).exists():
        return None
    return Finding(
        "rotation",
        State.NOTE,
        "a new key is prepared, and not in force yet",
        "where the authority's key is: `mesh keys rotate --request LINE`, with what `mesh keys rotate` prints here",
    )


def check_admission(answering: Sequence[str], living: int, uptime_s: float) -> Finding | None:
    """Whether those who answer let this agent in. `answering`: who does; `living`: members known to be alive, this one too."""
    if not answering or living > 1 or uptime_s < ADMISSION_S:
        return None
    return Finding(
        "admission",
        State.BAD,
        f"{', '.join(answering)} answers, but nobody lets this agent in: its invite was used before, was revoked or ran out",
        ENROL_ANEW,
    )


def config_error(what: str, error: ConfigError) -> Finding:
    return Finding(what, State.BAD, str(error), "mend that first")
