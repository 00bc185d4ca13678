"""Keys of running nodes, with real processes: rotation, delegation, encrypted prefixes."""

from __future__ import annotations

import json
import stat
from pathlib import Path

from tests.cli.test_running import Shell, free_port, make
from tests.cli.test_running import shell as shell  # the fixture


def public_key(shell: Shell, name: str, *, seen_by: str) -> str:
    return next(str(key["public_key"]) for key in shell.json("keys", "show", "--dir", seen_by) if key["name"] == name)


def test_a_running_agent_gets_a_new_key_with_the_authority_at_hand(shell: Shell) -> None:
    make(shell, "a", "b")
    a = shell.up("a")
    shell.up("b")
    shell.until(lambda: shell.alive("a") == shell.alive("b") == {"a", "b"})
    former = public_key(shell, "a", seen_by="b")
    shell.run("put", "before", "1", "--dir", "a", "--copies", "1")
    told = shell.json("keys", "rotate", "--dir", "a")
    assert told["running"]
    shell.run("put", "after", "2", "--dir", "a", "--copies", "1")
    shell.until(lambda: public_key(shell, "a", seen_by="b") == told["public_key"] != former)
    assert shell.run("get", "before", "--dir", "b") == "1\n"
    assert shell.run("get", "after", "--dir", "b") == "2\n"
    keys = Path("a/keys")
    assert not (keys / "member.next.key").exists()
    (kept,) = keys.glob("member.former.*.key")
    assert stat.S_IMODE(kept.stat().st_mode) == stat.S_IMODE((keys / "member.key").stat().st_mode) == 0o600
    shell.end(a)
    shell.up("a")
    shell.until(lambda: shell.alive("b") == {"a", "b"})
    shell.run("put", "restarted", "3", "--dir", "a", "--copies", "1")


def test_encrypted_for_some(shell: Shell) -> None:
    make(shell, "a", "b", "c")
    for name in ("a", "b", "c"):
        shell.up(name)
    shell.until(lambda: shell.alive("a") == {"a", "b", "c"})
    assert "no member is named" in shell.run("keys", "encrypt", "secret/**", "--reader", "nobody", "--dir", "a", exit_code=1)
    assert "cannot be encrypted" in shell.run("keys", "encrypt", "secret", "--dir", "a", exit_code=1)
    assert "outside what this agent may write" in shell.run("keys", "encrypt", "secret/**", "--dir", "b", exit_code=1)
    told = shell.json("keys", "encrypt", "secret/**", "--reader", "b", "--dir", "a")
    assert (told["epoch"], sorted(told["readers"])) == (1, ["a", "b"])
    shell.run("put", "secret/code", "42", "--dir", "a", "--copies", "2")
    shell.run("put", "open/code", "43", "--dir", "a", "--copies", "2")
    assert shell.run("get", "secret/code", "--dir", "b") == "42\n"
    listed = {item["path"]: item["value"] for item in map(json.loads, shell.run("get", "/", "--json", "--dir", "c").splitlines())}
    assert listed["open/code"] == 43
    assert list(listed["secret/code"]) == ["$sealed"], "that it is there shows, and stops no listing"
    assert "no reader" in shell.run("put", "secret/code", "1", "--dir", "c", exit_code=1)
    assert "key is not here" in shell.run("history", "secret/code", "--dir", "c", exit_code=1)
    assert set(shell.json("keys", "encrypt", "--dir", "c")["secret/**"]) == {"a", "b"}


def test_an_agent_elsewhere_asks_with_one_line(shell: Shell) -> None:
    make(shell, "a", "b")
    shell.up("a")
    b = shell.up("b")
    shell.until(lambda: shell.alive("a") == shell.alive("b") == {"a", "b"})
    request = shell.json("keys", "rotate", "--dir", "b")["request"]
    assert shell.json("keys", "rotate", "--dir", "b")["request"] == request, "asked again: the same key"
    shell.run("put", "meanwhile", "1", "--dir", "b", "--copies", "1")
    told = shell.json("keys", "rotate", "--request", request, "--dir", "a")
    assert told["rotated"] == "b"
    shell.until(lambda: not Path("b/keys/member.next.key").exists())
    shell.run("put", "after", "2", "--dir", "b", "--copies", "1")
    assert shell.run("get", "meanwhile", "--dir", "a") == "1\n"
    assert "signs with a new key" in shell.end(b)
    assert "not signed by the key" in shell.run("keys", "rotate", "--request", request, "--dir", "a", exit_code=1)
    assert "damaged" in shell.run("keys", "rotate", "--request", request[:-9], "--dir", "a", exit_code=1)


def test_a_member_lets_a_tool_in_and_goes_with_it(shell: Shell) -> None:
    make(shell, "a")
    shell.up("a")
    token = shell.run("invite", "--name", "b", "--may-write", "robots/7/**", "--delegates", "1", "--dir", "a").strip()
    shell.run("join", token, "--bind", f"127.0.0.1:{free_port()}")
    shell.up("b")
    shell.until(lambda: shell.alive("a") == shell.alive("b") == {"a", "b"})
    assert "not all of it is within" in shell.run("invite", "--below", "robots/8", "--dir", "b", exit_code=1)
    assert "--below gives no vote" in shell.run("invite", "--below", "robots/7", "--voter", "--dir", "b", exit_code=2)
    assert "may not let others in" in shell.run("invite", "--below", "robots", "--dir", "a", exit_code=1)
    token = shell.run("invite", "--below", "robots/7/arm", "--name", "arm", "--dir", "b").strip()
    shell.run("join", token, "--bind", f"127.0.0.1:{free_port()}")
    shell.up("arm")
    shell.until(lambda: shell.alive("a") == {"a", "b", "arm"})
    shell.run("put", "robots/7/arm/angle", "90", "--dir", "arm", "--copies", "2")
    assert "outside what this agent may write" in shell.run("put", "robots/7/pose", "1", "--dir", "arm", exit_code=1)
    told = shell.json("keys", "revoke", "b", "--dir", "a")
    assert len(told["below"]) == 1
    shell.until(lambda: shell.key_states("a") == {"a": "member", "b": "revoked", "arm": "revoked"})
    assert shell.run("get", "robots/7/arm/angle", "--dir", "a") == "90\n", "what it wrote until then counts"
    shell.until(lambda: shell.key_states("arm")["arm"] == "revoked")
    assert "revoked" in shell.run("put", "robots/7/arm/angle", "91", "--dir", "arm", exit_code=1)


def test_the_authoritys_key_is_replaced_and_recovered(shell: Shell) -> None:
    shell.run("init", "a", "--name", "a", "--bind", f"127.0.0.1:{free_port()}", "--recovery", "safe.key")
    token = shell.run("invite", "--name", "b", "--dir", "a").strip()
    shell.run("join", token, "--bind", f"127.0.0.1:{free_port()}")
    for name in ("a", "b"):
        shell.up(name)
    shell.until(lambda: shell.alive("a") == shell.alive("b") == {"a", "b"})
    stolen = Path("a/keys/authority.key").read_bytes()
    first = shell.json("keys", "rotate", "--authority", "--dir", "a")["authority"]
    token = shell.run("invite", "--name", "c", "--dir", "a").strip()
    shell.run("join", token, "--bind", f"127.0.0.1:{free_port()}")
    shell.up("c")
    shell.until(lambda: shell.alive("b") == {"a", "b", "c"})
    Path("a/keys/authority.key").write_bytes(stolen)
    assert "not the one in force" in shell.run("invite", "--name", "thief", "--dir", "a", exit_code=1)
    second = shell.json("keys", "recover", "safe.key", "--new-recovery", "safe2.key", "--dir", "b")["authority"]
    assert second != first
    shell.run("invite", "--name", "d", "--dir", "b")
    complaint = shell.run("keys", "recover", "safe.key", "--new-recovery", "safe3.key", "--dir", "b", exit_code=1)
    assert "used already" in complaint
    assert not Path("b/keys/authority.next.key").exists(), "a key that nothing rests on was left behind"
    assert not Path("safe3.key").exists()
    shell.run("put", "after", "1", "--dir", "c", "--copies", "2")
    shell.run("keys", "revoke", "c", "--dir", "b")
    shell.until(lambda: shell.key_states("a")["c"] == "revoked")


def test_an_agent_that_is_down_has_the_new_key_at_its_next_start(shell: Shell) -> None:
    make(shell, "a", "b")
    b = shell.up("b")
    request = shell.json("keys", "rotate", "--dir", "b")["request"]
    shell.run("put", "alone", "1", "--dir", "b")
    shell.end(b)
    shell.run("keys", "rotate", "--request", request, "--dir", "a")
    assert not shell.json("keys", "rotate", "--dir", "a")["running"]
    shell.up("a")
    shell.up("b")
    shell.until(lambda: not Path("b/keys/member.next.key").exists())
    shell.run("put", "after", "2", "--dir", "b", "--copies", "1")
    shell.until(lambda: shell.json("status", "--dir", "a")["members"]["alive"] == 2)
    shell.run("put", "other", "2", "--dir", "a", "--copies", "1")
    assert shell.run("get", "alone", "--dir", "a") == "1\n"


def test_two_of_three_keys_revoke_where_nodes_run(shell: Shell) -> None:
    shell.run("init", "a", "--name", "a", "--bind", f"127.0.0.1:{free_port()}", "--authority-keys", "3", "--threshold", "2")
    for number in (2, 3):
        Path(f"a/keys/authority-{number}.key").rename(f"{number}.key")
    file = shell.json("invite", "--name", "b", "--dir", "a")["proposal"]
    shell.run("keys", "sign", file, "--key", "2.key", "--yes")
    token = shell.json("keys", "import", file, "--dir", "a")["tokens"][0]
    shell.run("join", token, "--bind", f"127.0.0.1:{free_port()}")
    for name in ("a", "b"):
        shell.up(name)
    shell.until(lambda: shell.alive("a") == shell.alive("b") == {"a", "b"})
    shell.run("put", "before", "1", "--dir", "b", "--copies", "1")
    file = shell.json("keys", "revoke", "b", "--dir", "a")["proposal"]
    assert shell.key_states("a")["b"] == "member", "one signature is none"
    assert shell.json("keys", "sign", file, "--key", "3.key", "--yes")["missing"] == 0
    assert shell.json("keys", "import", file, "--dir", "a")["told"]
    shell.until(lambda: shell.key_states("a")["b"] == "revoked")
    assert shell.run("get", "before", "--dir", "a") == "1\n"
