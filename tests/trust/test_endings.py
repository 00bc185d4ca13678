"""Cuts and proofs of forking as statements: what is taken, what is refused, and what follows from the set in any order."""

from __future__ import annotations

from contextlib import suppress
from itertools import permutations

import pytest

import crdt
from crdt.delta import Head
from crdt.ids import ReplicaId, shelf_id
from mesh.effects import Now
from mesh.errors import ConfigError, Malformed, Refused
from mesh.trust import Admission, Authority, Directory, Identity, Membership
from mesh.trust.endings import FORKS_MAX, Cut, Endings
from mesh.trust.statements import fork_statement, statement_from_bytes_untrusted
from mesh.wire import cbor
from mesh.wire.delta import sign_header

NOW = Now(0.0, 10**15)


def authority() -> Authority:
    return Authority.generate(entropy=bytes(range(48)))


def member(tool: Authority, name: str) -> Membership:
    return tool.enrol(Identity.generate(name.encode().ljust(32, b".")), name=name)


def heads(tool: Authority, who: Membership, *, birth: int = 1, values: tuple[str, ...] = ("one", "two")) -> list[Head]:
    """Delta 1 of one shelf, once for each value."""
    found = []
    for value in values:
        replica = crdt.Replica(
            shelf_id(who.identity.replica_id, birth),
            sign=lambda header: sign_header(who.identity.sign, header, tool.mesh_id),
            encode=cbor.encode,
            decode=cbor.decode_untrusted,
        )
        found.append(replica.write(1, ("key",), value, now_wall=1).head)
    return found


def knowing(tool: Authority) -> Directory:
    directory = Directory(tool.charter)
    assert directory.restore(tool.statements) == []
    return directory


def test_a_proof_needs_nobody_but_its_author() -> None:
    tool = authority()
    liar = member(tool, "liar")
    directory, raw = knowing(tool), fork_statement(*heads(tool, liar))
    assert directory.add_untrusted(raw, NOW) is not None
    assert directory.endings.forked() == [shelf_id(liar.identity.replica_id, 1)]
    assert directory.take_added() == [raw]
    assert not directory.revoked(liar.identity.replica_id), "an honest author heals"


def test_a_proof_waits_for_its_author() -> None:
    tool = authority()
    directory = knowing(tool)
    liar = member(tool, "liar")
    assert directory.add_untrusted(fork_statement(*heads(tool, liar)), NOW) is None
    assert directory.waiting == 1
    directory.add_untrusted(liar.credential, NOW)
    assert len(directory.endings.forked()) == 1


def test_what_proves_nothing_is_refused() -> None:
    tool = authority()
    liar, other = member(tool, "liar"), member(tool, "other")
    directory = knowing(tool)
    one, two = heads(tool, liar)
    forged = Head(two.header, two.header_bytes, bytes(64))
    with pytest.raises(Refused, match="not signed"):
        directory.add_untrusted(fork_statement(one, forged), NOW)
    for pair in ((one, one), (one, heads(tool, liar, birth=2)[1]), (one, heads(tool, other)[1])):
        with pytest.raises(Malformed):
            directory.add_untrusted(fork_statement(*pair), NOW)
    raw = fork_statement(one, two)
    for at in range(len(raw)):
        with suppress(Malformed, Refused):  # or it waits, for an author that nobody knows
            assert directory.add_untrusted(raw[:at] + bytes((raw[at] ^ 1,)) + raw[at + 1 :], NOW) is None
    assert directory.endings.forked() == []


def test_nobody_fills_the_set_with_proofs_and_all_keep_the_same() -> None:
    tool = authority()
    liar = member(tool, "liar")
    raws = [fork_statement(*heads(tool, liar, birth=birth)) for birth in range(1, 20)]
    raws += [
        fork_statement(*heads(tool, liar, values=("one", "three"))),
        fork_statement(*heads(tool, liar, values=("two", "three"))),
    ]
    digests = set()
    for order in (raws, raws[::-1], raws[7:] + raws[:7]):
        directory = knowing(tool)
        for raw in order:
            directory.add_untrusted(raw, NOW)
        digests.add(directory.digest)
        assert len(directory.endings.forked()) == FORKS_MAX + 1
        assert directory.endings.ended_replicas() == [liar.identity.replica_id]
    assert len(digests) == 1


def test_a_cut_takes_all_rights_and_names_who_may_speak() -> None:
    tool = authority()
    gone, heir, third = (member(tool, name) for name in ("gone", "heir", "third"))
    directory = knowing(tool)
    directory.add_untrusted(tool.cut("gone", host="heir"), NOW)
    replica = gone.identity.replica_id
    assert directory.revoked(replica)
    assert directory.rights(replica) is None
    assert directory.admission(replica, NOW) is Admission.REVOKED
    assert directory.endings.host(replica) == heir.identity.replica_id
    assert directory.endings.may_host(replica, heir.identity.replica_id)
    assert not directory.endings.may_host(replica, third.identity.replica_id)
    assert not directory.endings.may_host(heir.identity.replica_id, replica)


def test_only_the_authority_cuts_and_only_among_members() -> None:
    tool = authority()
    member(tool, "gone")
    with pytest.raises(ConfigError, match="nobody is named"):
        tool.cut("gone", host="nobody")
    with pytest.raises(ConfigError, match="cannot take over"):
        tool.cut("gone", host="gone")
    stranger = Authority.generate(entropy=bytes(reversed(range(48))))
    for name in ("gone", "heir"):
        member(stranger, name)
    directory = knowing(tool)
    assert directory.add_untrusted(stranger.cut("gone", host="heir"), NOW) is None
    assert directory.endings.cuts == {}


def test_hosts_of_hosts_in_any_order() -> None:
    """What an earlier host did stays valid, whoever is named later; and where hosts are cut themselves, their hosts follow."""
    tool = authority()
    names = {name: member(tool, name).identity.replica_id for name in ("a", "b", "c", "d")}
    cuts = [tool.cut("a", host="b"), tool.cut("a", host="c"), tool.cut("b", host="d")]
    for order in permutations(cuts):
        directory = knowing(tool)
        for raw in order:
            directory.add_untrusted(raw, NOW)
        endings = directory.endings
        assert endings.host(names["a"]) == names["c"]
        assert {name for name in names if endings.may_host(names["a"], names[name])} == {"b", "c", "d"}
        assert endings.hosted_by(names["d"]) == [names["b"]]


def test_cuts_that_name_each_other_have_no_host() -> None:
    endings = Endings()
    one, other = ReplicaId(b"a" * 8), ReplicaId(b"b" * 8)
    endings.add_cut(b"1", Cut(1, one, other))
    endings.add_cut(b"2", Cut(2, other, one))
    assert endings.host(one) is None


def test_a_statement_says_what_it_said() -> None:
    tool = authority()
    liar = member(tool, "liar")
    member(tool, "heir")
    cut = statement_from_bytes_untrusted(tool.cut("liar", host="heir"))
    assert cut.raw
    fork = statement_from_bytes_untrusted(fork_statement(*heads(tool, liar)))
    assert fork.issuer == liar.identity.replica_id
