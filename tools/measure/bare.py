"""The floor under every convergence figure: a bare push, signed and sealed, by a trio program over the same sockets.

No membership, merging, loss repair or storage: the author signs 100 bytes, seals them for each receiver and sends; a
receiver opens, verifies and notes the time. What a mesh takes above this is its own doing.
"""

from __future__ import annotations

import argparse
import json
import socket
import sys
import time

import trio
from nacl import bindings

MESSAGE_BYTES = 100
SEALED = bytes(32)


def now_us() -> int:
    return time.monotonic_ns() // 1000


async def run(arguments: argparse.Namespace) -> None:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.bind(("127.0.0.1", arguments.port))
    public_key, secret_key = bindings.crypto_sign_seed_keypair(SEALED)
    peers = [("127.0.0.1", port) for port in arguments.peer]
    seen: list[tuple[int, int]] = []
    written: list[tuple[int, int]] = []

    async def receive() -> None:
        while True:
            await trio.lowlevel.wait_readable(sock)
            while True:
                try:
                    datagram = sock.recv(2048)
                except BlockingIOError:
                    break
                opened = bindings.crypto_aead_xchacha20poly1305_ietf_decrypt(datagram[24:], b"", datagram[:24], SEALED)
                message = bindings.crypto_sign_open(opened, public_key)
                seen.append((int.from_bytes(message[:4], "big"), now_us()))

    def push(number: int) -> None:
        written.append((number, now_us()))
        signed = bindings.crypto_sign(number.to_bytes(4, "big") + bytes(MESSAGE_BYTES - 4), secret_key)
        for index, peer in enumerate(peers):
            nonce = number.to_bytes(12, "big") + index.to_bytes(12, "big")
            sock.sendto(nonce + bindings.crypto_aead_xchacha20poly1305_ietf_encrypt(signed, b"", nonce, SEALED), peer)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        print(json.dumps({"ready": arguments.port}), flush=True)
        async for line in trio.wrap_file(sys.stdin):
            match line.split():
                case ["write", number]:
                    push(int(number))
                case ["report"]:
                    print(json.dumps({"report": {"name": str(arguments.port), "written": written, "seen": seen}}), flush=True)
                case ["leave"]:
                    break
        nursery.cancel_scope.cancel()
    sock.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--peer", type=int, action="append", default=[])
    trio.run(run, parser.parse_args())


if __name__ == "__main__":
    main()
