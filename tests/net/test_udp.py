"""One socket: drained, never blocking, never raising for what the network does."""

from __future__ import annotations

import errno
import socket
import sys
from contextlib import ExitStack

import pytest
import trio
import trio.testing

from mesh.errors import ConfigError
from mesh.net import udp
from mesh.net.open_udp import SOCKET_BUFFER_BYTES, open_udp
from mesh.net.udp import DRAIN_MAX, UdpSocket
from tests.net.names import Names

HAS_IPV6 = socket.has_ipv6


async def test_port_zero_is_a_free_port_and_the_address_says_which() -> None:
    with await open_udp("127.0.0.1:0") as one, await open_udp("127.0.0.1:0") as two:
        assert one.address[0] == "127.0.0.1"
        assert 0 < one.address[1] != two.address[1] > 0


async def test_a_datagram_goes_from_one_socket_to_another() -> None:
    with await open_udp("127.0.0.1:0") as one, await open_udp("127.0.0.1:0") as two:
        assert one.send(b"hello", two.address)
        await trio.lowlevel.wait_readable(two)
        assert two.drain() == [(b"hello", one.address)]
        assert two.drain() == []
        assert one.counts == {"sent": 1, "sent_bytes": 5}
        assert two.counts == {"received": 1, "received_bytes": 5}


async def test_draining_is_in_order_and_bounded() -> None:
    with await open_udp("127.0.0.1:0") as one, await open_udp("127.0.0.1:0") as two:
        for number in range(DRAIN_MAX + 3):
            assert one.send(b"%d" % number, two.address)
        await trio.lowlevel.wait_readable(two)
        assert [datagram for datagram, _ in two.drain()] == [b"%d" % number for number in range(DRAIN_MAX)]
        assert len(two.drain()) == 3


async def test_an_empty_datagram_is_a_datagram() -> None:
    with await open_udp("127.0.0.1:0") as one:
        one.send(b"", one.address)
        await trio.lowlevel.wait_readable(one)
        assert one.drain() == [(b"", one.address)]


async def test_an_overlong_datagram_arrives_too_long_to_be_one_of_ours() -> None:
    with await open_udp("127.0.0.1:0") as one:
        one.send(bytes(9_000), one.address)
        await trio.lowlevel.wait_readable(one)
        [(datagram, _)] = one.drain()
        assert len(datagram) > 1_200


@pytest.mark.parametrize(
    "address",
    [
        ("localhost", 7946),  # a name: resolving it would block the loop
        ("attacker.example", 53),
        ("<broadcast>", 1),
        ("", 1),
        ("127.1", 1),
        ("0.0.0.0", 1),
        ("224.0.0.251", 5353),
        ("::1", 1),  # not reachable from an IPv4 socket
        ("127.0.0.1", 0),
        ("127.0.0.1", 65_536),
        ("127.0.0.1", -1),
        ("127.0.0.1\0", 1),
    ],
)
async def test_what_is_not_the_numeric_address_of_one_host_is_counted(address: tuple[str, int]) -> None:
    with await open_udp("127.0.0.1:0") as one:
        assert not one.send(b"x", address)
        assert one.counts == {"send_not_a_host": 1}


@pytest.mark.interpreted
async def test_what_is_remembered_of_addresses_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(udp, "SOCKADDRS_MAX", 2)
    with ExitStack() as stack:
        one, *others = [stack.enter_context(await open_udp("127.0.0.1:0")) for _ in range(6)]
        for number in range(15):
            other = others[number % 5]
            assert one.send(b"%d" % number, other.address)
            assert other.drain() == [(b"%d" % number, one.address)]
            assert not one.send(b"x", ("0.0.0.0", 1_000 + number))
            assert len(one._sockaddrs) <= 2
        assert one.counts["send_not_a_host"] == 15


async def test_what_the_kernel_refuses_is_counted_by_reason() -> None:
    with await open_udp("127.0.0.1:0") as one:
        assert not one.send(bytes(70_000), one.address)
        assert not one.send(b"x", ("255.255.255.255", 9))
        assert one.counts == {"send_emsgsize": 1, "send_eacces": 1}


class Refusing(socket.socket):
    """A real socket whose next calls fail as the kernel would make them fail."""

    send_error: int = 0
    receive_errors: list[int]

    def sendto(self, data: object, address: object) -> int:  # type: ignore[override]  # one of the overloads is enough here
        raise OSError(self.send_error, "injected")

    def recvfrom(self, size: int, flags: int = 0) -> tuple[bytes, object]:
        if self.receive_errors:
            raise OSError(self.receive_errors.pop(0), "injected")
        return super().recvfrom(size, flags)


@pytest.mark.parametrize(
    "code", [errno.EAGAIN, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ECONNREFUSED, errno.ENOBUFS, errno.EPERM]
)
async def test_no_error_of_the_network_comes_out(code: int) -> None:
    with Refusing(socket.AF_INET, socket.SOCK_DGRAM) as raw:
        raw.setblocking(False)
        raw.bind(("127.0.0.1", 0))
        raw.send_error, raw.receive_errors = code, [code, code]
        with UdpSocket(raw) as one, await open_udp("127.0.0.1:0") as two:
            assert not one.send(b"x", two.address)
            two.send(b"behind the errors", one.address)
            await trio.lowlevel.wait_readable(one)
            arrived = one.drain()
            name = errno.errorcode[code].lower()
            assert one.counts[f"send_{name}"] == 1
            if code == errno.EAGAIN:
                assert arrived == []  # nothing there: the drain is over
            else:
                assert one.counts[f"receive_{name}"] == 2
                assert arrived == [(b"behind the errors", two.address)]


async def test_using_a_closed_socket_is_a_mistake_not_a_network_error() -> None:
    with await open_udp("127.0.0.1:0") as one:
        address = one.address
    with pytest.raises(OSError, match="Bad file descriptor"):
        one.send(b"x", address)
    with pytest.raises(OSError, match="Bad file descriptor"):
        one.drain()
    one.close()


async def test_closing_wakes_who_waits() -> None:
    async with trio.open_nursery() as nursery:
        one = await open_udp("127.0.0.1:0")

        async def wait(task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
            task_status.started()
            with pytest.raises(trio.ClosedResourceError):
                await trio.lowlevel.wait_readable(one)

        await nursery.start(wait)
        await trio.testing.wait_all_tasks_blocked()
        one.close()


async def test_what_cannot_be_bound_is_named() -> None:
    with await open_udp("127.0.0.1:0") as one:
        bind = f"127.0.0.1:{one.address[1]}"
        with pytest.raises(ConfigError, match=f"cannot bind {bind}.*another program uses that port"):
            await open_udp(bind)
    with pytest.raises(ConfigError, match=r"cannot bind 192\.0\.2\.77:0"):
        await open_udp("192.0.2.77:0")
    trio.socket.set_custom_hostname_resolver(Names())
    with pytest.raises(ConfigError, match="cannot bind no-such-host"):
        await open_udp("no-such-host.invalid:0")


async def test_bursts_fit_into_a_bigger_buffer_and_what_does_not_is_counted() -> None:
    with await open_udp("127.0.0.1:0") as one, await open_udp("127.0.0.1:0") as two:
        granted = two.receive_buffer_bytes()
        assert granted >= min(2 * SOCKET_BUFFER_BYTES, 200_000)  # Linux reports the double of what was asked for
        two._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        sent = sum(one.send(bytes(1_000), two.address) for _ in range(100))
        arrived = 0
        while batch := two.drain():
            arrived += len(batch)
        assert 0 < arrived < sent == 100
        assert two.kernel_drops() in (100 - arrived, 0)  # 0: not Linux


@pytest.mark.skipif(not HAS_IPV6, reason="this Python has no IPv6")
async def test_one_socket_serves_both_families_with_plain_addresses() -> None:
    try:
        both = await open_udp("[::]:0")
    except ConfigError as error:  # a kernel without IPv6
        pytest.skip(str(error))
    with both, await open_udp("127.0.0.1:0") as four, await open_udp("[::1]:0") as six:
        port = both.address[1]
        assert (both.family, four.family, six.family) == (socket.AF_UNSPEC, socket.AF_INET, socket.AF_INET6)
        assert four.send(b"4", ("127.0.0.1", port))
        assert six.send(b"6", ("::1", port))
        arrived: list[tuple[bytes, tuple[str, int]]] = []
        with trio.fail_after(2):
            while len(arrived) < 2:
                await trio.lowlevel.wait_readable(both)
                arrived += both.drain()
        assert sorted(arrived) == [(b"4", four.address), (b"6", six.address)]
        for datagram, address in arrived:
            assert both.send(datagram, address)
        await trio.lowlevel.wait_readable(four)
        assert four.drain() == [(b"4", ("127.0.0.1", port))]
        await trio.lowlevel.wait_readable(six)
        assert six.drain() == [(b"6", ("::1", port))]
        for host in ("ff02::1", "::", "::1%lo", "fe80::zz"):
            assert not six.send(b"x", (host, port)), host


needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="IP_RECVERR is Linux's")


@needs_linux
@pytest.mark.parametrize("host", ["127.0.0.1", pytest.param("[::1]", marks=pytest.mark.skipif(not HAS_IPV6, reason="no IPv6"))])
async def test_a_port_that_nobody_listens_at_is_told_and_costs_no_other_datagram(host: str) -> None:
    with await open_udp(f"{host}:0") as one, await open_udp(f"{host}:0") as two:
        with await open_udp(f"{host}:0") as three:
            gone = three.address
        assert one.send(b"anybody?", gone)
        with trio.fail_after(5):
            await trio.lowlevel.wait_readable(one)  # the error counts as readable
        for number in range(3):
            assert one.send(b"%d" % number, two.address)  # the first would have been lost to the pending error
        assert one.drain() == []
        assert one.refused() == [gone]
        assert one.refused() == []
        assert [datagram for datagram, _ in two.drain()] == [b"0", b"1", b"2"]
        assert one.counts["refused"] == 1
        assert one.counts["sent"] == 4


@needs_linux
async def test_errors_do_not_keep_the_socket_readable_for_ever() -> None:
    with await open_udp("127.0.0.1:0") as one:
        with await open_udp("127.0.0.1:0") as two, await open_udp("127.0.0.1:0") as three:
            gone = [two.address, three.address]
        for _ in range(5):
            for address in gone:
                one.send(b"x", address)
        one.drain()
        assert sorted(one.refused()) == sorted(gone)
        with trio.move_on_after(0) as scope:
            await trio.lowlevel.wait_readable(one)
        assert scope.cancelled_caught
