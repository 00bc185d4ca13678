"""`mesh doctor` where something is wrong: each trouble is made for real, with nodes that run."""

from __future__ import annotations

import json
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner

from mesh.net.endpoint import parse_endpoint
from mesh.trust import load_membership
from tests.cli.test_running import Shell, bad_findings, free_port, make
from tests.cli.test_running import shell as shell  # the fixture
from tools.cli import checks, cli
from tools.cli.checks import State


@contextmanager
def hole(target: tuple[str, int], size: int) -> Iterator[tuple[str, int]]:
    """A way to a node on which datagrams above `size` bytes vanish without a word."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as front, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as back:
        for each in (front, back):
            each.bind(("127.0.0.1", 0))
            each.settimeout(0.05)
        ended, asker = threading.Event(), [("", 0)]

        def carry(source: socket.socket, inwards: bool) -> None:
            while not ended.is_set():
                try:
                    datagram, address = source.recvfrom(4096)
                except TimeoutError:
                    continue
                if inwards:
                    asker[0] = address
                if len(datagram) <= size:
                    (back if inwards else front).sendto(datagram, target if inwards else asker[0])

        threads = [threading.Thread(target=carry, args=each) for each in ((front, True), (back, False))]
        for thread in threads:
            thread.start()
        try:
            yield front.getsockname()
        finally:
            ended.set()
            for thread in threads:
                thread.join()


def test_a_black_hole_is_told_with_the_size_that_gets_through(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "PROBE_SECONDS", 0.3)
    make(shell, "a", "b")
    shell.up("a")
    address = parse_endpoint(shell.json("status", "--dir", "a")["address"])
    membership = load_membership(Path("b/keys"))
    with hole(address, 950) as narrow:
        *_, finding = checks.check_reach("a", narrow, membership)
    assert (finding.what, finding.state) == ("size to a", State.BAD)
    assert "900 bytes do" in finding.found
    assert "MTU" in finding.mend
    with hole(address, 1_200) as wide:
        *_, finding = checks.check_reach("a", wide, membership)
    assert (finding.what, finding.state) == ("size to a", State.OK)


def test_a_copied_directory_is_told_on_both_sides(shell: Shell) -> None:
    make(shell, "a", "b")
    shutil.copytree("b", "copy")
    config = Path("copy/mesh.toml")
    lines = [f'bind = "127.0.0.1:{free_port()}"' if line.startswith("bind") else line for line in config.read_text().splitlines()]
    config.write_text("\n".join(lines) + "\n")
    for name in ("a", "b", "copy"):
        shell.up(name)

    def is_told(name: str) -> bool:
        """A node that a busy machine keeps waiting does not answer the doctor, who says that then."""
        return "another living agent uses this agent's key" in bad_findings(shell, name).get("identity", "")

    for name in ("b", "copy"):
        shell.until(partial(is_told, name))
    assert "identity" not in bad_findings(shell, "a")


def test_key_files_that_others_can_read_are_told_and_refused(shell: Shell) -> None:
    make(shell, "a")
    shell.run("keys", "rotate", "--dir", "a")
    keys = Path("a/keys")
    (former,) = keys.glob("member.former.*.key")
    for path in (keys / "authority.key", former, keys / "member.key"):
        path.chmod(0o640)
        assert "others can use this key" in bad_findings(shell, "a")[path.name]
        verb = ("invite",) if path.name == "authority.key" else ("up",)
        complaint = shell.run(*verb, "--dir", "a", exit_code=1)
        assert f"chmod 600 {path}" in complaint
        assert complaint.count("\n") == 1
        path.chmod(0o600)


def test_a_rotation_that_waits_for_the_authority_is_noted(shell: Shell) -> None:
    make(shell, "a", "b")
    shell.run("keys", "rotate", "--dir", "b")
    told = CliRunner().invoke(cli, ["doctor", "--json", "--dir", "b"]).stdout
    found = {each["what"]: each for each in map(json.loads, told.splitlines())}
    assert found["rotation"]["state"] == "note"
    assert "--request" in found["rotation"]["mend"]
