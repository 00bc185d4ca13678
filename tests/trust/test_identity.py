"""Keys and the files that hold them."""

from __future__ import annotations

import copy
import hashlib
import os
import pickle
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from mesh.errors import ConfigError
from mesh.trust import Identity, key_id, keyfiles
from mesh.trust.identity import AUTHORITY_KEY_PREFIX, MEMBER_KEY_PREFIX
from mesh.wire.crypto import LIBSODIUM
from tests.trust.world import entropy, identity


@pytest.fixture
def loose_umask() -> Iterator[None]:
    former = os.umask(0)
    yield
    os.umask(former)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_replica_id_is_a_hash_of_the_public_key() -> None:
    someone = identity(1)
    assert someone.replica_id == hashlib.blake2b(someone.public_key, digest_size=8).digest() == key_id(someone.public_key)
    assert LIBSODIUM.verify(someone.public_key, b"message", someone.sign(b"message"))


def test_generated_keys_differ_and_given_entropy_repeats() -> None:
    assert Identity.generate() != Identity.generate()
    assert Identity.generate(entropy("x")) == Identity.generate(entropy("x"))
    with pytest.raises(ConfigError, match="32 bytes, not 31"):
        Identity.generate(bytes(31))


def test_the_secret_shows_nowhere() -> None:
    someone = identity("secret")
    for shown in (repr(someone), str(someone), f"{[someone]}"):
        assert someone.seed.hex() not in shown
        assert repr(someone.seed) not in shown
    for leak in (pickle.dumps, copy.copy):
        with pytest.raises(TypeError, match="save"):
            leak(someone)


def test_a_saved_key_is_its_owners_alone_and_loads_again(tmp_path: Path, loose_umask: None) -> None:
    path = tmp_path / "member.key"
    identity(1).save(path)
    assert mode_of(path) == 0o600
    assert Identity.load(path) == identity(1)
    assert Identity.load(path).seed == identity(1).seed
    assert [each.name for each in tmp_path.iterdir()] == ["member.key"]  # nothing left beside it


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "member.key"
    identity(1).save(path)
    with pytest.raises(ConfigError, match="is there already"):
        identity(2).save(path)
    assert Identity.load(path) == identity(1)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o610, 0o601, 0o666])
def test_a_key_file_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "member.key"
    identity(1).save(path)
    path.chmod(mode)
    with pytest.raises(ConfigError) as refused:
        Identity.load(path)
    assert str(path) in str(refused.value)
    assert f"chmod 600 {path}" in str(refused.value)
    assert f"{mode:04o}" in str(refused.value)
    path.chmod(0o600)
    assert Identity.load(path) == identity(1)


def test_the_mode_of_the_file_behind_a_link_counts(tmp_path: Path) -> None:
    path, link = tmp_path / "real.key", tmp_path / "member.key"
    identity(1).save(path)
    link.symlink_to(path)
    assert Identity.load(link) == identity(1)
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        Identity.load(link)


def test_what_is_no_key_file_is_refused_in_one_line(tmp_path: Path) -> None:
    good = identity(1).to_text(MEMBER_KEY_PREFIX)
    cases = {
        "other": (b"-----BEGIN OPENSSH PRIVATE KEY-----\n", "something else"),
        "newer": (good.replace(b"meshkey1-", b"meshkey2-"), "another version"),
        "cut": (good[:-6], "damaged"),
        "altered": (good.replace(good[20:21], b"A" if good[20:21] != b"A" else b"B", 1), "damaged"),
        "letters": (good[:20] + b"!" + good[21:], "do not belong"),
        "binary": (bytes(range(256)), "something else"),
        "empty": (b"", "empty"),
        "authority": (identity(1).to_text(AUTHORITY_KEY_PREFIX), "something else"),
    }
    for name, (content, expected) in cases.items():
        path = tmp_path / name
        path.write_bytes(content)
        path.chmod(0o600)
        with pytest.raises(ConfigError, match=expected) as refused:
            Identity.load(path)
        assert str(path) in str(refused.value)
        assert "\n" not in str(refused.value)


def test_a_key_of_another_length_is_refused() -> None:
    from mesh.trust.armour import armour

    with pytest.raises(ConfigError, match="31 bytes instead of 32"):
        Identity.from_text(armour(MEMBER_KEY_PREFIX, bytes(31)).encode(), MEMBER_KEY_PREFIX, "the key")


def test_what_is_no_file_is_refused_and_does_not_hang(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)
    for path, expected in (
        (tmp_path, "directory|not a regular file"),
        (pipe, "not a regular file"),
        (tmp_path / "no", "is missing"),
    ):
        with pytest.raises(ConfigError, match=expected):
            Identity.load(path)


def test_a_huge_file_is_not_read_into_memory(tmp_path: Path) -> None:
    path = tmp_path / "member.key"
    with path.open("wb") as file:
        file.truncate(keyfiles.FILE_BYTES_MAX + 1)
    path.chmod(0o600)
    with pytest.raises(ConfigError, match="larger than 16 MiB"):
        Identity.load(path)


def test_a_file_is_replaced_as_a_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "statements"
    keyfiles.replace_file(path, b"old", 0o644)

    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(ConfigError, match="No space left"):
        keyfiles.replace_file(path, b"new", 0o644)
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]

    def no_rename(source: Path, target: Path) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "replace", no_rename)
    with pytest.raises(ConfigError, match="Input/output error"):
        keyfiles.replace_file(path, b"new", 0o644)
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(ConfigError, match="cannot be created"):
        keyfiles.create_file(tmp_path / "file" / "member.key", b"x", 0o600)
    with pytest.raises(ConfigError, match="cannot be made a directory"):
        keyfiles.make_directory(tmp_path / "file")
