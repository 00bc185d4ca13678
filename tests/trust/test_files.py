"""The directory of an agent: made by init or join, read by up, changed by invite and revoke."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from crdt.ids import ReplicaId
from mesh.errors import ConfigError
from mesh.trust import (
    Directory,
    Identity,
    KeyState,
    init_dir,
    list_key_files,
    load_authority,
    load_membership,
    open_authority,
    redeem,
    save_membership,
)
from mesh.wire import cose
from tests.trust.world import at, authority, identity


def modes(directory: Path) -> dict[str, int]:
    return {each.name: stat.S_IMODE(each.stat().st_mode) for each in sorted(directory.iterdir())}


def test_init_makes_a_mesh_and_its_first_member(tmp_path: Path) -> None:
    home = tmp_path / "a" / "home"
    made = init_dir(home, "robot-1", critical=["tasks/**"], score=9)
    assert modes(home) == {"authority.key": 0o600, "charter": 0o644, "member.key": 0o600, "statements": 0o644}
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    loaded = load_membership(home)
    assert loaded.identity == made.identity
    assert (loaded.name, loaded.charter, loaded.credential, loaded.mesh_id) == (
        "robot-1",
        made.charter,
        made.credential,
        made.mesh_id,
    )
    assert loaded.presentation == made.presentation
    known = Directory(loaded.charter)
    assert known.restore(loaded.statements) == []
    grant = known.credential(loaded.replica_id)
    assert grant is not None
    assert (grant.terms.voter, grant.terms.score, grant.terms.may_write) == (True, 9, ("**", "$keys/**"))
    assert known.is_critical(("tasks", "1"))


def test_any_cose_library_can_read_the_charter_file(tmp_path: Path) -> None:
    init_dir(tmp_path / "home", "robot-1")
    assert (
        cose.open1_untrusted((tmp_path / "home" / "charter").read_bytes()).kid
        == load_authority(tmp_path / "home").identity.replica_id
    )


def test_init_refuses_a_directory_in_use(tmp_path: Path) -> None:
    first = init_dir(tmp_path, "robot-1")
    with pytest.raises(ConfigError, match="belongs to a mesh already"):
        init_dir(tmp_path, "robot-2")
    with pytest.raises(ConfigError, match="belongs to a mesh already"):
        save_membership(tmp_path, authority().enrol(identity(1), name="x"))
    assert load_membership(tmp_path).identity == first.identity


def test_wrong_arguments_leave_no_file(tmp_path: Path) -> None:
    for arguments in ({"critical": ["a**"]}, {"may_write": ["/"]}, {"score": 16}):
        with pytest.raises(ConfigError):
            init_dir(tmp_path / "home", "robot-1", **arguments)
    with pytest.raises(ConfigError, match="name"):
        init_dir(tmp_path / "home", "bad/name")
    assert list(tmp_path.iterdir()) == []


def test_invite_and_join_by_files(tmp_path: Path) -> None:
    init_dir(tmp_path / "one", "robot-1")
    with open_authority(tmp_path / "one") as tool:
        token = tool.invite("robot-2", may_write=["robots/2/**"], addresses=[("127.0.0.1", 7946)])
    save_membership(tmp_path / "two", redeem(token, Identity.generate()))
    two = load_membership(tmp_path / "two")
    assert (two.name, two.seeds) == ("robot-2", (("127.0.0.1", 7946),))
    assert two.invite is not None
    one = load_membership(tmp_path / "one")
    known = Directory(one.charter)
    known.restore(one.statements)
    assert known.admit(two.identity.public_key, two.presentation, at(0)) == two.replica_id
    with pytest.raises(ConfigError, match="not the authority"):
        load_authority(tmp_path / "two")


def test_what_the_tool_issues_is_there_the_next_time(tmp_path: Path) -> None:
    init_dir(tmp_path, "robot-1")
    with open_authority(tmp_path) as tool:
        tool.invite("guest")
    with open_authority(tmp_path) as tool:
        with pytest.raises(ConfigError, match="taken"):
            tool.invite("guest")
        tool.revoke("guest", honoured=[])
        serial = tool.directory.serial_max
    assert load_authority(tmp_path).directory.serial_max == serial == 5
    states = {info.name: info.state for info in list_key_files(tmp_path, at(0))}
    assert states == {"robot-1": KeyState.MEMBER, "guest": KeyState.REVOKED}


def test_a_failed_command_issues_nothing(tmp_path: Path) -> None:
    init_dir(tmp_path, "robot-1")
    before = (tmp_path / "statements").read_bytes()
    with pytest.raises(ConfigError, match="nobody"), open_authority(tmp_path) as tool:
        tool.revoke(tool.invite("guest") and "nobody", honoured=[])
    assert (tmp_path / "statements").read_bytes() == before


def test_two_commands_never_use_one_serial(tmp_path: Path) -> None:
    init_dir(tmp_path, "robot-1")
    with open_authority(tmp_path), pytest.raises(ConfigError, match="another program"), open_authority(tmp_path):
        pass
    with open_authority(tmp_path):
        pass  # the lock is free again


def test_every_damaged_file_is_named(tmp_path: Path) -> None:
    init_dir(tmp_path, "robot-1")
    for name in ("member.key", "charter", "statements"):
        path = tmp_path / name
        good = path.read_bytes()
        for bad in (good[:-3], good[:40] + bytes([good[40] ^ 1]) + good[41:], b"x" * 50, b""):
            path.write_bytes(bad)
            with pytest.raises(ConfigError) as refused:
                load_membership(tmp_path)
            assert str(path) in str(refused.value)
            assert "\n" not in str(refused.value)
        path.unlink()
        with pytest.raises(ConfigError, match="is missing"):
            load_membership(tmp_path)
        path.write_bytes(good)
        path.chmod(0o600)
    load_membership(tmp_path)


def test_files_of_two_agents_do_not_mix(tmp_path: Path) -> None:
    init_dir(tmp_path / "one", "robot-1")
    init_dir(tmp_path / "two", "robot-1")
    for name in ("member.key", "charter", "statements", "authority.key"):
        one, two = tmp_path / "one" / name, tmp_path / "two" / name
        good = one.read_bytes()
        one.write_bytes(two.read_bytes())
        with pytest.raises(ConfigError):
            (load_authority if name == "authority.key" else load_membership)(tmp_path / "one")
        one.write_bytes(good)


def test_key_files_with_loose_modes_stop_every_command(tmp_path: Path) -> None:
    init_dir(tmp_path, "robot-1")
    (tmp_path / "member.key").chmod(0o640)
    with pytest.raises(ConfigError, match=r"chmod 600 .*member\.key"):
        load_membership(tmp_path)
    (tmp_path / "authority.key").chmod(0o644)
    with pytest.raises(ConfigError, match=r"chmod 600 .*authority\.key"), open_authority(tmp_path):
        pass


def test_a_revoked_member_can_still_be_loaded_to_be_told_so(tmp_path: Path) -> None:
    made = init_dir(tmp_path, "robot-1")
    with open_authority(tmp_path) as tool:
        tool.revoke(ReplicaId(made.replica_id), honoured=[(1, 5)])
    loaded = load_membership(tmp_path)
    known = Directory(loaded.charter)
    known.restore(loaded.statements)
    assert known.revoked(loaded.replica_id)
    assert known.rights(loaded.replica_id) is None
