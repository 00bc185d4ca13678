"""The floor under every convergence figure: a bare push, signed and sealed, by a trio program over the same sockets.

No membership, merging, loss repair or storage: the author signs 100 bytes, seals them for each receiver and sends; a
receiver opens, verifies and notes the time. What a mesh takes above this is its own doing.
"""

from __future__ import annotations

import argparse
import socket

import trio
from nacl import bindings

from tools.measure.notebook import Notebook, say
from tools.measure.orders import Orders

MESSAGE_BYTES = 100
SEALED = bytes(32)


class Pusher:
    def __init__(self, port: int, peers: list[int]) -> None:
        self._notebook = Notebook(str(port))
        self._peers = [("127.0.0.1", peer) for peer in peers]
        self._public_key, self._secret_key = bindings.crypto_sign_seed_keypair(SEALED)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind(("127.0.0.1", port))

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._receive)
            say({"ready": self._notebook.name})
            await self._obey()
            nursery.cancel_scope.cancel()
        self._socket.close()

    async def _obey(self) -> None:
        async for line in Orders():
            match line.split():
                case ["write", number]:
                    self._push(int(number))
                case ["report"]:
                    say({"report": self._notebook.report()})
                case ["leave"]:
                    return

    async def _receive(self) -> None:
        while True:
            await trio.lowlevel.wait_readable(self._socket)
            while True:
                try:
                    datagram, (_, port) = self._socket.recvfrom(2048)
                except BlockingIOError:
                    break
                opened = bindings.crypto_aead_xchacha20poly1305_ietf_decrypt(datagram[24:], b"", datagram[:24], SEALED)
                message = bindings.crypto_sign_open(opened, self._public_key)
                self._notebook.sees(str(port), int.from_bytes(message[:4], "big"))

    def _push(self, number: int) -> None:
        self._notebook.writes(number)
        signed = bindings.crypto_sign(number.to_bytes(4, "big") + bytes(MESSAGE_BYTES - 4), self._secret_key)
        for index, peer in enumerate(self._peers):
            nonce = number.to_bytes(12, "big") + index.to_bytes(12, "big")
            self._socket.sendto(nonce + bindings.crypto_aead_xchacha20poly1305_ietf_encrypt(signed, b"", nonce, SEALED), peer)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--peer", type=int, action="append", default=[])
    arguments = parser.parse_args()
    trio.run(Pusher(arguments.port, arguments.peer).run)


if __name__ == "__main__":
    main()
