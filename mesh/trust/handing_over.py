"""Replacing the authority's key: by itself, or by the recovery key when it is lost or stolen."""

from __future__ import annotations

from mesh.effects import Now
from mesh.errors import ConfigError
from mesh.trust.directory import Directory
from mesh.trust.identity import Identity
from mesh.trust.statements import (
    ROLL_PAGE_HASHES,
    ROLL_PAGES_MAX,
    Handover,
    issue,
    statement_from_bytes_untrusted,
)
from mesh.trust.succession import page_id, pages_of


def hand_over(
    directory: Directory, by: Identity, to: Identity, recovery: bytes | None, *, until_serial: int | None = None
) -> list[bytes]:
    """The statements that put the key `to` into force, in order; they are added to the directory.

    `by`: the key in force, or the recovery key. `recovery`: public half of the recovery key from now on; only the recovery key
    can name another. `until_serial`: what the former key signed with a higher serial does not count any more (a thief's).
    Raises ConfigError.
    """
    if directory.is_known_key(to.public_key):
        raise ConfigError("this key is in use already: generate a new one")
    kept = [
        raw
        for raw in directory.of_authority()
        if until_serial is None or getattr(statement_from_bytes_untrusted(raw).content, "serial", 0) <= until_serial
    ]
    pages = pages_of(kept, ROLL_PAGE_HASHES)
    if len(pages) > ROLL_PAGES_MAX:
        raise ConfigError(f"{len(kept)} statements count: at most {ROLL_PAGES_MAX * ROLL_PAGE_HASHES} can be carried over")
    roll = tuple(map(page_id, pages))
    handover = Handover(directory.serial_max + 1, directory.seat.id, to.public_key, recovery, roll)
    raws = [issue(handover, by, directory.mesh_id), *(issue(page, by, directory.mesh_id) for page in pages)]
    for raw in raws:
        directory.add_untrusted(raw, Now(0.0, 0))
    if not directory.is_authority(to.public_key):
        raise ConfigError("that key may not replace the authority's, or another one has replaced it already")
    return raws
