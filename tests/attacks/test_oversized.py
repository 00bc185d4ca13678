"""Values above the limit: refused at an honest author, and put together by nobody when a hostile one writes them all the same."""

from __future__ import annotations

import random

import pytest

from crdt import body as body_module
from crdt.ids import ShelfId
from crdt.limits import BODY_BYTES_LIMIT, LARGE_BYTES_MAX
from mesh.errors import Malformed, ValueTooLarge
from mesh.testing import Mesh, open_mesh
from mesh.wire import cbor
from mesh.wire.frames import Frame
from tests.attacks.stage import Author, alive_at, both, say, shows, without

THREAT = "oversized values"
LIAR = 2
SHELF = ShelfId(b"12345678abcd")


def test_a_value_above_the_limit_is_refused_at_its_author() -> None:
    with open_mesh(2, seed=1) as mesh, pytest.raises(ValueTooLarge):
        mesh.node(0).register("key").set("x" * (LARGE_BYTES_MAX + 1))


@both
def test_an_author_that_writes_more_than_anybody_takes(defended: bool) -> None:
    """1.3 MiB in 1,400 signed chunks, by a program that has no limit. Undefended: they are put together all the same."""
    with open_mesh(3, seed=2) as mesh:
        if not defended:
            for number in mesh.running:
                mesh.peer(number).replica.chunks._content_bytes_max = 1 << 30
        author = Author(mesh, LIAR, birth=7, large_bytes_max=1 << 30)
        raws = author.write_large("key", random.Random(1).randbytes(int(1.3 * LARGE_BYTES_MAX)))
        assert len(raws) > 1_000
        _tell_slowly(mesh, raws)
        assert (shows(mesh, 0, "key") is not None) == (not defended)
        mesh.node(1).register("still").set("here")
        mesh.run(0.5)
        assert shows(mesh, 0, "still") == "here"
        assert alive_at(mesh, 0) == 2


def _tell_slowly(mesh: Mesh, raws: list[bytes]) -> None:
    for at in range(0, len(raws), 20):
        say(mesh, LIAR, 0, Frame.REPAIR, *raws[at : at + 20])
        mesh.run(0.02)
    mesh.run(1.0)


@both
def test_a_body_larger_than_any_datagram(defended: bool) -> None:
    with without(defended, body_module, "BODY_BYTES_LIMIT", 1 << 30):
        huge = cbor.encode([[1, 1], 1, [], [[1, 1, [0, "k"], "x" * BODY_BYTES_LIMIT]]])
        if defended:
            with pytest.raises(Malformed):
                body_module.body_from_bytes_untrusted(SHELF, 1, huge)
        else:
            assert body_module.body_from_bytes_untrusted(SHELF, 1, huge).ops
