"""The authority's tool: what it refuses to issue, and the serials that it gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from crdt.ids import ReplicaId
from mesh.errors import ConfigError
from mesh.trust import Authority, Directory, Identity, redeem
from mesh.trust.statements import HONOURED_MAX
from tests.trust.world import at, authority, entropy, identity

A, B = identity("a"), identity("b")


def test_a_new_mesh_has_an_id_and_a_key_of_its_own() -> None:
    one, two = Authority.generate(), Authority.generate()
    assert one.mesh_id != two.mesh_id
    assert one.identity != two.identity
    assert len(one.mesh_id) == 16
    assert authority("x").charter == authority("x").charter
    with pytest.raises(ConfigError, match="48 bytes of entropy"):
        Authority.generate(entropy=bytes(32))


def test_enrol_gives_all_that_a_member_needs() -> None:
    tool = authority()
    member = tool.enrol(A, name="robot-1", may_write=["a/**"], voter=True, score=9)
    assert (member.identity, member.name, member.replica_id, member.mesh_id) == (A, "robot-1", A.replica_id, tool.mesh_id)
    known = Directory(member.charter)
    assert known.restore(member.statements) == []
    grant = known.credential(A.replica_id)
    assert grant is not None
    assert (grant.name, grant.terms.may_write, grant.terms.voter, grant.terms.score) == ("robot-1", ("a/**",), True, 9)
    assert A.seed.hex() not in repr(member)


def test_serials_rise_over_every_kind() -> None:
    tool = authority()
    serials = [tool.directory.serial_max]
    steps: list[Callable[[], object]] = [
        lambda: tool.certify(A.public_key, name="a"),
        lambda: tool.invite("guest"),
        lambda: tool.reissue("a", score=3),
        lambda: tool.amend(critical=["x"]),
        lambda: tool.revoke("a", honoured=[]),
        lambda: tool.revoke("guest", honoured=[]),
    ]
    for step in steps:
        step()
        serials.append(tool.directory.serial_max)
    assert serials == list(range(1, 8))
    again = Authority(tool.identity, tool.charter, tool.statements)
    assert again.directory.serial_max == 7
    assert again.statements == tool.statements


def test_a_restored_authority_goes_on_above_what_the_mesh_knows() -> None:
    tool = authority()
    backup = Authority(tool.identity, tool.charter, tool.statements)
    tool.certify(A.public_key, name="a")
    tool.revoke("a", honoured=[])
    assert backup.observe_untrusted([b"junk", *reversed(tool.statements)]) != []
    wrong: Any
    for wrong in (None, 7, b"12345678", "text", [None], [b"junk", "text"], {1: b""}):  # Regression: an AttributeError or so
        with pytest.raises(ConfigError, match=r"as `node\.statements\(\)`"):
            backup.observe_untrusted(wrong)
    assert backup.directory.serial_max == 3
    with pytest.raises(ConfigError, match="reissue"):
        backup.certify(A.public_key, name="other")


def test_a_key_and_a_charter_of_two_meshes_do_not_mix() -> None:
    with pytest.raises(ConfigError, match="different meshes"):
        Authority(authority("one").identity, authority("two").charter)
    with pytest.raises(ConfigError, match="another mesh"):
        Authority(authority("one").identity, authority("one").charter, [authority("two").certify(A.public_key, name="a")])


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"name": ""}, "name ''"),
        ({"name": "a/b"}, "name 'a/b'"),
        ({"name": "x" * 65}, "65 bytes"),
        ({"name": "a\n"}, "name"),
        ({"name": "x", "may_write": "**"}, "as a list"),
        ({"name": "x", "may_write": ["/abs"]}, "not a pattern"),
        ({"name": "x", "may_write": [b"a"]}, "not text"),
        ({"name": "x", "score": 16}, "0 to 15"),
        ({"name": "x", "score": True}, "0 to 15"),
        ({"name": "x", "voter": 1}, "True or False"),
        ({"name": "x", "expires": 1.5}, "whole seconds"),
        ({"name": "x", "expires": 0}, "whole seconds"),
        ({"name": "taken"}, "'taken' is taken"),
        ({"name": "promised"}, "'promised' is taken"),
    ],
)
def test_what_cannot_be_issued_is_named_and_uses_no_serial(arguments: dict[str, Any], expected: str) -> None:
    tool = authority()
    tool.certify(B.public_key, name="taken")
    tool.invite("promised")
    before = tool.directory.digest
    for issue in (lambda: tool.enrol(A, **arguments), lambda: tool.invite(**arguments)):
        with pytest.raises(ConfigError, match=expected) as refused:
            issue()
        assert "\n" not in str(refused.value)
    assert tool.directory.digest == before


def test_a_public_key_and_a_name_are_needed() -> None:
    tool = authority()
    with pytest.raises(ConfigError, match="name None"):
        tool.enrol(A, name=None)  # type: ignore[arg-type]
    for wrong in (b"", bytes(31), "x" * 32, None):
        with pytest.raises(ConfigError, match="32 bytes"):
            tool.certify(wrong, name="x")  # type: ignore[arg-type]


def test_a_replica_id_that_is_taken_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    tool = authority()
    tool.certify(A.public_key, name="a")
    for module in ("authority", "ledger"):
        monkeypatch.setattr(f"mesh.trust.{module}.key_id", lambda public_key: A.replica_id)  # every key collides
    before = tool.directory.digest
    with pytest.raises(ConfigError, match=f"replica id {A.replica_id.hex()} is taken"):
        tool.certify(B.public_key, name="b")
    assert tool.directory.digest == before


def test_one_key_gets_one_credential_and_then_newer_ones() -> None:
    tool = authority()
    tool.certify(A.public_key, name="a", may_write=["a"], score=3, expires=10**10)
    with pytest.raises(ConfigError, match="reissue"):
        tool.enrol(A, name="other")
    tool.reissue("a", score=5)
    grant = tool.directory.credential(A.replica_id)
    assert grant is not None
    assert (grant.terms.may_write, grant.terms.score, grant.terms.expires) == (("a",), 5, None)
    with pytest.raises(ConfigError, match="nobody is named"):
        tool.reissue("b")
    with pytest.raises(ConfigError, match="no credential of"):
        tool.reissue(B.replica_id)


def test_revoking_by_name_or_id() -> None:
    tool = authority()
    tool.certify(A.public_key, name="a")
    token = tool.invite("guest", entropy=entropy("t"))
    with pytest.raises(ConfigError, match="nobody is named 'nobody'"):
        tool.revoke("nobody", honoured=[])
    for pairs in ([(1, 0)], [(1 << 32, 1)], [(1, 1), (1, 2)], [(i, 1) for i in range(HONOURED_MAX + 1)]):
        with pytest.raises(ConfigError, match="honour"):
            tool.revoke("a", honoured=pairs)
    tool.revoke(A.replica_id.hex(), honoured=[])
    assert tool.directory.revoked(A.replica_id)
    tool.revoke("guest", honoured=[])
    late = redeem(token, B)
    assert Directory(tool.charter).admit(B.public_key, late.presentation, at(0)) is not None  # who knows nothing yet
    known = Directory(tool.charter)
    known.restore(tool.statements)
    assert known.admit(B.public_key, late.presentation, at(0)) is None
    assert known.drops == {"invite revoked": 1}
    for raw in late.statements:  # let in elsewhere, by somebody who did not know: it has no rights all the same
        known.add_untrusted(raw, at(0))
    assert known.revoked(B.replica_id)


def test_a_name_borne_by_several_is_not_guessed() -> None:
    tool = authority()
    for number in range(2):
        token = tool.invite(entropy=entropy(number))
        member = redeem(token, identity(number), name="twin")
        tool.observe_untrusted(member.statements)
    with pytest.raises(ConfigError, match="borne by") as refused:
        tool.revoke("twin", honoured=[])
    assert all(identity(number).replica_id.hex() in str(refused.value) for number in range(2))
    tool.revoke(ReplicaId(identity(0).replica_id), honoured=[])
    tool.revoke("twin", honoured=[])  # one is left
    assert tool.directory.revoked(identity(1).replica_id)


def test_critical_patterns_and_limits_are_checked() -> None:
    with pytest.raises(ConfigError, match="not a pattern"):
        Authority.generate(critical=[""])
    with pytest.raises(ConfigError, match="as a list"):
        Authority.generate(critical="tasks/**")
    tool = authority(critical=["a"])
    tool.amend()
    assert tool.directory.charter.critical == ("a",)


def test_members_enrolled_after_an_amendment_know_it() -> None:
    tool = authority()
    tool.amend(critical=["tasks/**"])
    member = tool.enrol(Identity.generate(), name="late")
    known = Directory(member.charter)
    known.restore(member.statements)
    assert known.is_critical(("tasks", "1"))


@pytest.mark.parametrize("wrong", [7, "text", b"short", [7]], ids=repr)
@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda tool, wrong: tool.enrol(wrong, name="b"), "Identity.generate"),
        (lambda tool, wrong: tool.certify(wrong, name="b"), "public key has 32 bytes"),
        (lambda tool, wrong: tool.rotate("a", wrong), "public key has 32 bytes"),
        (lambda tool, wrong: tool.begin_quorum(wrong), "public key has 32 bytes"),
        (lambda tool, wrong: tool.begin_quorum(A.public_key, base=wrong), "the hash of a state"),
        (lambda tool, wrong: tool.hand_over(wrong), "Identity.generate"),
        (lambda tool, wrong: tool.amend(limits=wrong), "Limits"),
        (lambda tool, wrong: tool.amend(critical=wrong), "pattern"),
        (lambda tool, wrong: tool.invite("b", may_write=wrong), "pattern"),
        (lambda tool, wrong: tool.invite("b", addresses=wrong), "address|host"),
        (lambda tool, wrong: tool.invite("b", anchor=wrong), "node.anchor"),
        (lambda tool, wrong: tool.reissue(wrong), "member's id|nobody is named"),
        (lambda tool, wrong: tool.cut(wrong, host="a"), "member's id|nobody is named"),
        (lambda tool, wrong: tool.revoke(wrong, honoured=[]), "member's id|nobody is named"),
        (lambda tool, wrong: tool.revoke("a", honoured=wrong), "written_by"),
        (lambda tool, wrong: Authority.generate(recovery=wrong), "public key has 32 bytes"),
        (lambda tool, wrong: Authority.generate(entropy=wrong), "bytes of entropy"),
        (lambda tool, wrong: Authority.generate(keys=wrong), "numbers|keys"),
        (lambda tool, wrong: Authority.generate(limits=wrong), "Limits"),
    ],
)
def test_wrong_types_are_told_with_what_to_pass(call: Callable[[Authority, Any], object], says: str, wrong: Any) -> None:
    """Regression: an AttributeError, or a TypeError from somewhere inside."""
    tool = authority()
    tool.enrol(A, name="a", voter=True)
    before = tool.statements
    with pytest.raises(ConfigError, match=says):
        call(tool, wrong)
    assert tool.statements == before
