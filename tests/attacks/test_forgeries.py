"""Bytes of all kinds that nobody entitled made. A million of them: `python -m tools.measure forgeries`."""

from __future__ import annotations

from typing import Any

import pytest

from mesh.testing.crypto import SharedCrypto
from tests.attacks.stage import both, without
from tools.measure.forgeries import Victim, forgeries

THREAT = "forged and mutated datagrams and claims"


def accepted(figures: dict[str, Any]) -> set[str]:
    return {name.removeprefix("ACCEPTED, ") for name, number in figures.items() if name.startswith("ACCEPTED") and number}


@both
def test_no_signature_that_does_not_fit_moves_anything(defended: bool) -> None:
    with without(defended, SharedCrypto, "verify", lambda *_: True):
        figures = forgeries(2_400 if defended else 200, Victim(seed=2), at_each=not defended)
    if defended:
        assert not accepted(figures)
        assert figures["victim_still_in_step"]
    else:
        assert {"member: claim in another's name", "member: head of another, changed"} <= accepted(figures)
        assert {"member: statement in the authority's name", "stranger: presentation at the door"} <= accepted(figures)


def test_what_is_not_sealed_in_the_session_moves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same without the seal: who knows the tag of a session could speak in it."""

    sealed_open = SharedCrypto.open

    def unsealed(self: SharedCrypto, key: bytes, nonce: bytes, sealed: bytes, associated: bytes) -> bytes | None:
        return b"" if victims else sealed_open(self, key, nonce, sealed, associated)

    victims: list[Victim] = []
    monkeypatch.setattr(SharedCrypto, "open", unsealed)  # before there are sessions: they find it once
    victims.append(victim := Victim(seed=3))
    assert "outsider: live session tag, forged content" in accepted(forgeries(200, victim, at_each=True))
