"""Heads of listings: whoever believes one takes the state that it names, so none may pass that its author did not sign."""

from __future__ import annotations

from typing import Final

from mesh.errors import Malformed
from mesh.notary import Notary
from mesh.sync.messages import ListingPage
from mesh.trust import Directory
from mesh.wire.crypto import LIBSODIUM
from mesh.wire.frames import Frame
from tools.fuzz.grammar import Grammar
from tools.fuzz.material import material
from tools.fuzz.subject import Broken, Subject, Target, mixed


class Heads(Subject):
    """A member that is shown heads of those it knows."""

    def __init__(self) -> None:
        stuff = material()
        directory = Directory(stuff.authority.charter)
        directory.restore(stuff.statements)
        self._notary = Notary(stuff.authority.identity, directory, LIBSODIUM)
        self._said = set(stuff.headers)

    def feed(self, data: bytes) -> bool:
        try:
            page = ListingPage.decode_untrusted(data)
            head = self._notary.check_head_untrusted(page.shelf, page.header, page.signature)
        except Malformed:
            return False
        if head is not None and page.header not in self._said:
            raise Broken("believes a head that its author did not sign")
        return head is not None


HEADS: Final[tuple[Target, ...]] = (
    Target(
        "heads",
        "signed heads of listings, as one believes them",
        Heads,
        mixed(lambda m: m.frames[Frame.LISTING], Grammar.listing),
        weight=2,
    ),
)
