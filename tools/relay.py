"""A lossy relay between agents on loopback: every datagram passes through it, a share is lost, and it can cut the
mesh in two.

Each agent has a *face*, a socket of the relay that stands for it towards all others. An agent binds its own port,
advertises its face, and sees every other agent behind that agent's face:

    agent i  --(from own port i, to face j)-->  relay  --(from face i, to own port j)-->  agent j
"""

from __future__ import annotations

import random
import selectors
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field

import trio

HOST = "127.0.0.1"
BUFFER_BYTES = 4 * 1024 * 1024
DRAIN_MAX = 256
"""Datagrams taken from one face before the others get their turn."""


@dataclass
class Traffic:
    """Per agent: what it handed to the relay."""

    datagrams: list[int]
    bytes: list[int]
    lost: int = 0
    cut: int = 0


@dataclass
class Relay:
    """`loss`: the share of datagrams that vanish. `side`: agents of different sides do not reach each other."""

    loss: float
    rng: random.Random
    own: list[int]
    """The port that each agent binds."""
    side: list[int] = field(init=False)
    faces: list[socket.socket] = field(init=False)
    traffic: Traffic = field(init=False)

    def __post_init__(self) -> None:
        count = len(self.own)
        self.side = [0] * count
        self.faces = [_face() for _ in range(count)]
        self.traffic = Traffic([0] * count, [0] * count)
        self._agent_at = {(HOST, port): i for i, port in enumerate(self.own)}

    def face_address(self, agent: int) -> str:
        host, port = self.faces[agent].getsockname()
        return f"{host}:{port}"

    def cut(self, sides: Sequence[int]) -> None:
        self.side = list(sides)

    def heal(self) -> None:
        self.side = [0] * len(self.own)

    async def run(self) -> None:
        """Forward until cancelled."""
        with selectors.DefaultSelector() as selector:
            for agent, face in enumerate(self.faces):
                selector.register(face, selectors.EVENT_READ, agent)
            while True:
                # One descriptor for all faces: trio waits for the selector, which is readable when any face is.
                await trio.lowlevel.wait_readable(selector.fileno())
                for key, _ in selector.select(0):
                    self._drain(key.data)
                await trio.lowlevel.checkpoint()

    def close(self) -> None:
        for face in self.faces:
            face.close()

    def _drain(self, to: int) -> None:
        for _ in range(DRAIN_MAX):
            try:
                datagram, address = self.faces[to].recvfrom(65536)
            except BlockingIOError:
                return
            sender = self._agent_at.get(address)
            if sender is not None:
                self._forward(datagram, sender, to)

    def _forward(self, datagram: bytes, sender: int, to: int) -> None:
        self.traffic.datagrams[sender] += 1
        self.traffic.bytes[sender] += len(datagram)
        if self.side[sender] != self.side[to]:
            self.traffic.cut += 1
        elif self.rng.random() < self.loss:
            self.traffic.lost += 1
        else:
            try:
                self.faces[sender].sendto(datagram, (HOST, self.own[to]))
            except (BlockingIOError, ConnectionRefusedError):  # a full buffer or a killed agent: lost, as on a real link
                self.traffic.lost += 1


def _face() -> socket.socket:
    face = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    face.setblocking(False)
    face.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
    face.bind((HOST, 0))
    return face


def free_ports(count: int) -> list[int]:
    """UDP ports that are free now, all different."""
    probes = [_face() for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports
