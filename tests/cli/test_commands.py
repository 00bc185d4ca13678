"""The command line without a running node: what it makes, what it prints, and how it fails."""

from __future__ import annotations

import configparser
import json
import os
import stat
import subprocess
import sys
import tomllib
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from mesh import config as mesh_config
from mesh.errors import ConfigError
from tools import cli as cli_package
from tools.cli import COMMANDS, cli, home
from tools.cli.home import Settings, find_home, load_home, write_config
from tools.cli.output import escape
from tools.cli.put import parse_value
from tools.cli.up import unit

Mesh = Callable[..., Result]


@pytest.fixture
def mesh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mesh:
    """Runs `mesh ...` in an empty directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MESH_DIR", raising=False)

    def run(*arguments: str, stdin: str | None = None) -> Result:
        result = CliRunner().invoke(cli, arguments, input=stdin)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
        return result

    return run


def the_complaint(result: Result, exit_code: int) -> str:
    """An error is one line on stderr, and nothing on stdout."""
    assert result.exit_code == exit_code
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("mesh: ")
    return line


def test_every_command_says_what_it_does(mesh: Mesh) -> None:
    listed = mesh("--help").stdout
    for name in COMMANDS:
        assert f"\n  {name} " in listed
        page = mesh(name, "--help")
        assert page.exit_code == 0
        assert page.stdout.startswith(f"Usage: mesh {name}")


def test_a_group_alone_shows_what_there_is(mesh: Mesh) -> None:
    """Regression: `mesh` alone said all of its help in one line."""
    for name in ((), ("keys",), ("quorum",)):
        shown = mesh(*name)
        assert shown.output == mesh(*name, "--help").stdout


def test_what_is_not_there_is_wrong_usage(mesh: Mesh) -> None:
    """Verbs that are there are not tried: some of them would run."""
    assert "No such command" in the_complaint(mesh("frobnicate"), 2)
    assert "No such command" in the_complaint(mesh("keys", "frobnicate"), 2)


def test_a_mesh_begins_with_one_command(mesh: Mesh, tmp_path: Path) -> None:
    made = mesh("init", "demo", "--name", "a")
    assert made.exit_code == 0
    assert "mesh up\n" in made.stdout, "no --dir: it is the only one here"
    for key in ("member.key", "authority.key"):
        assert stat.S_IMODE((tmp_path / "demo/keys" / key).stat().st_mode) == 0o600
    found = find_home(None)
    assert found.directory == tmp_path / "demo"
    assert found.settings.bind.startswith("0.0.0.0:79")


def test_init_never_overwrites(mesh: Mesh, tmp_path: Path) -> None:
    mesh("init", "demo", "--name", "a")
    before = (tmp_path / "demo/keys/member.key").read_bytes()
    assert "already is a node" in the_complaint(mesh("init", "demo", "--name", "b"), 1)
    (tmp_path / "demo/mesh.toml").unlink()
    assert "belongs to a mesh already" in the_complaint(mesh("init", "demo", "--name", "b"), 1)
    assert (tmp_path / "demo/keys/member.key").read_bytes() == before


def test_an_invite_lets_another_in_without_a_network(mesh: Mesh, tmp_path: Path) -> None:
    mesh("init", "demo", "--name", "a")
    invited = mesh("invite", "--name", "b", "--address", "192.0.2.7:7946", "--may-write", "robots/b/**")
    (token,) = invited.stdout.splitlines()
    joined = mesh("join", token, "--json")
    assert joined.exit_code == 0
    assert json.loads(joined.stdout)["name"] == "b"
    found = find_home(tmp_path / "b")
    assert found.settings.seeds == ["192.0.2.7:7946"]
    members = {key["name"]: key for key in json.loads(mesh("keys", "show", "--json", "--dir", "b").stdout)}
    assert members["b"]["state"] == "member"
    assert members["b"]["may_write"] == ["robots/b/**"]


def test_an_authority_of_several_keys_takes_as_many_as_it_says(mesh: Mesh, tmp_path: Path) -> None:
    told = mesh("init", "home", "--name", "a", "--authority-keys", "3", "--threshold", "2")
    assert "2 of 3 keys" in told.stdout
    for number in (1, 2, 3):  # each to its holder
        key = tmp_path / "home/keys" / f"authority-{number}.key"
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
        key.rename(tmp_path / f"{number}.key")
    asked = mesh("invite", "--name", "b", "--address", "192.0.2.7:7946", "--json")
    proposal = json.loads(asked.stdout)
    assert proposal["missing"] == 2
    file = proposal["proposal"]
    assert "name one with --key" in the_complaint_after_words(mesh("keys", "sign", file))
    refused = mesh("keys", "sign", file, "--key", "1.key", stdin="n\n")
    assert refused.exit_code == 1
    assert "let in b" in refused.stderr
    assert "lacks 1 more" in mesh("keys", "sign", file, "--key", "1.key", stdin="y\n").stdout
    assert "signed this already" in the_complaint_after_words(mesh("keys", "sign", file, "--key", "1.key", "--yes"))
    assert "lacks 1 of 2" in the_complaint(mesh("keys", "import", file), 1)
    assert "is complete" in mesh("keys", "sign", file, "--key", "3.key", "--yes").stdout
    assert "all the 2 signatures" in the_complaint_after_words(mesh("keys", "sign", file, "--key", "2.key", "--yes"))
    taken = mesh("keys", "import", file)
    assert "in force" in taken.stderr
    assert not Path(file).exists()
    assert mesh("join", taken.stdout.strip(), "--dir", "b").exit_code == 0
    assert (tmp_path / "b/keys/member.key").exists()
    assert mesh("init", "other", "--name", "a", "--authority-keys", "3").exit_code == 1


def the_complaint_after_words(result: Result) -> str:
    """What was to be signed is told first."""
    assert result.exit_code == 1
    assert result.stdout == ""
    return result.stderr.splitlines()[-1]


def test_two_nodes_made_on_one_machine_do_not_want_the_same_port(mesh: Mesh, tmp_path: Path) -> None:
    """The second once had the first one's port in its mesh.toml, and `mesh up` failed."""
    mesh("init", "demo", "--name", "a")
    mesh("join", mesh("invite", "--name", "b").stdout)
    assert find_home(tmp_path / "b").settings.bind != find_home(tmp_path / "demo").settings.bind


def test_a_token_does_not_choose_a_directory_elsewhere(mesh: Mesh, tmp_path: Path) -> None:
    mesh("init", "demo", "--name", "a")
    token = mesh("invite", "--name", "..").stdout.strip()
    assert "--dir" in the_complaint(mesh("join", token), 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["demo"]


def test_a_token_can_come_from_standard_input(mesh: Mesh) -> None:
    mesh("init", "demo", "--name", "a")
    assert mesh("join", "-", stdin=mesh("invite", "--name", "b").stdout).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "exit_code", "hint"),
    [
        (["nonsense"], 2, "No such command"),
        (["get"], 2, "PATH"),
        (["put", "a"], 2, "Give a VALUE"),
        (["put", "a", "1", "--copies", "0"], 2, "copies"),
        (["status"], 1, "mesh init"),
        (["status", "--dir", "nowhere"], 1, "nowhere"),
        (["join", "nonsense"], 1, "token"),
        (["init", "x", "--name", "a/b\n"], 1, "name"),
        (["init", "x", "--name", "a", "--bind", "nonsense"], 1, "host:port"),
        (["up", "--config", "missing.toml"], 1, "missing.toml"),
        (["up", "--config", "x.toml", "--dir", "y"], 2, "give one"),
    ],
)
def test_an_error_is_one_line_that_says_what_to_do(mesh: Mesh, arguments: list[str], exit_code: int, hint: str) -> None:
    assert hint in the_complaint(mesh(*arguments), exit_code)


def test_commands_for_a_node_that_does_not_run_say_how_to_start_it(mesh: Mesh) -> None:
    mesh("init", "demo", "--name", "a")
    for command in (
        ["status"],
        ["members"],
        ["get", "a"],
        ["put", "a", "1"],
        ["watch"],
        ["history", "a"],
        ["keys", "revoke", "b"],
    ):
        assert "mesh up" in the_complaint(mesh(*command), 1)


def test_which_node_is_meant(mesh: Mesh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "two"):
        mesh("init", name, "--name", name)
    with pytest.raises(ConfigError, match="several nodes are here"):
        find_home(None)
    monkeypatch.setenv("MESH_DIR", "two")
    assert "two/data" in the_complaint(mesh("status"), 1)
    assert "one/data" in the_complaint(mesh("status", "--dir", "one"), 1)
    monkeypatch.delenv("MESH_DIR")
    monkeypatch.chdir(tmp_path / "one")
    assert find_home(None).directory == tmp_path / "one"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("bin = '0.0.0.0:1'", "unknown option 'bin'"),
        ("bind = 7946", "bind must be a string"),
        ("seeds = 'a:1'", "seeds must be a list"),
        ("seeds = [1]", "seeds must be a list of strings"),
        ("coalesce_ms = true", "coalesce_ms must be a number"),
        ("bind = ", "cannot read"),
        ("\xff", "unknown option|cannot read"),
    ],
)
def test_a_wrong_mesh_toml_is_named(tmp_path: Path, text: str, complaint: str) -> None:
    config = tmp_path / "mesh.toml"
    config.write_text(text, encoding="latin-1")
    with pytest.raises(ConfigError, match=complaint) as failure:
        load_home(config)
    assert str(config) in str(failure.value)


def test_what_init_writes_is_what_up_reads(tmp_path: Path) -> None:
    settings = Settings(bind="[::]:1", advertise='192.0.2.1:2 "quoted"\n\\', seeds=["host:3", "[::1]:4"], preset="wan")
    write_config(tmp_path / "mesh.toml", "a", settings)
    assert load_home(tmp_path / "mesh.toml").settings == settings
    with pytest.raises(FileExistsError):
        write_config(tmp_path / "mesh.toml", "a", settings)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("-1.5", -1.5),
        ('"1"', "1"),
        ("hello", "hello"),
        ("hello world", "hello world"),
        ("[1, 2", "[1, 2"),
        ('{"a": null}', {"a": None}),
        ("NaN", "NaN"),
        ("", ""),
    ],
)
def test_a_value_is_json_or_else_text(text: str, value: object) -> None:
    assert parse_value(text) == value


def test_what_other_agents_wrote_cannot_steer_the_terminal() -> None:
    assert escape("\x1b[2Jok\n\ud800é") == "\\x1b[2Jok\\n\\ud800é"


def test_the_unit_file_is_one(mesh: Mesh) -> None:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(mesh("up", "--print-unit").stdout)
    assert parser["Service"]["Type"] == "notify"
    command = parser["Service"]["ExecStart"].split()
    assert os.path.isabs(command[0])
    assert command[1:] == ["up", "--dir", "/var/lib/gossipmesh/%i"]
    assert unit().startswith("# One node of a gossipmesh")


def test_commands_are_commands() -> None:
    for name in COMMANDS:
        assert isinstance(cli.get_command(click.Context(cli), name), click.Command)


def test_the_default_port_is_the_library_s() -> None:
    assert home.DEFAULT_PORT == mesh_config.DEFAULT_PORT
    assert mesh_config.NodeConfig.__dataclass_fields__["bind"].default == home.ANY_INTERFACE


def test_a_command_that_asks_a_node_does_not_load_one() -> None:
    """`mesh get` once took half of its time importing trio and rich."""
    program = "import sys, tools.cli.look, tools.cli.put; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert not {"trio", "rich", "nacl", "mesh.node"} & set(loaded)


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_is_no_traceback(closed: str) -> None:
    """Regression: with stdout closed each verb did its work and then ended with an AttributeError, exit code 1."""
    run = subprocess.run(
        ["sh", "-c", f'exec "$0" -m tools.cli sim --list {closed}', sys.executable], capture_output=True, text=True, check=True
    )
    assert run.stderr == ""
    assert bool(run.stdout) == (closed == "2>&-")


def test_files_that_are_not_python_are_packaged() -> None:
    """The unit file was once missing from the wheel, and `mesh up --print-unit` failed outside of the repository."""
    root = Path(cli_package.__file__).parents[2]
    patterns = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["*"]
    for found in (root / "tools").rglob("*"):
        if found.is_file() and found.suffix not in (".py", ".pyc") and "." in found.name:
            assert any(fnmatch(found.name, pattern) for pattern in patterns), found


@pytest.mark.parametrize(
    ("where", "arguments"),
    [
        ("tools.sim.hunt.hunt", ["sim", "--seeds", "1", "5"]),
        ("tools.demo.show._run", ["demo"]),
        ("tools.cli.enrol.init_dir", ["init", "here", "--name", "a"]),
    ],
)
def test_who_presses_ctrl_c_sees_the_same_exit_code_everywhere(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch, where: str, arguments: list[str]
) -> None:
    """Some exited with 130, which is none of the four codes."""

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(where, interrupted)
    assert mesh(*arguments).exit_code == 1


def test_who_presses_ctrl_c_twice_sees_no_traceback(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    """Regression: the demo ended with a group of them, from the nursery that ended its agents."""

    def interrupted(*_: object, **__: object) -> None:
        raise BaseExceptionGroup("nursery", [KeyboardInterrupt(), BaseExceptionGroup("inner", [KeyboardInterrupt()])])

    monkeypatch.setattr("tools.demo.show._run", interrupted)
    result = mesh("demo")
    assert (result.exit_code, result.stderr) == (1, "mesh: interrupted\n")


@pytest.mark.parametrize("command", ["bench", "sim"])
def test_lists_are_json_for_programs(mesh: Mesh, command: str) -> None:
    """Regression: `--list --json` was for people."""
    listed = json.loads(mesh(command, "--list", "--json").stdout)
    assert [line.split()[0] for line in mesh(command, "--list").stdout.splitlines()] == list(listed)


INTERRUPTED_EARLY = """
import sys

class Impatient:
    def find_spec(self, name, *_):
        if name == "click":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Impatient())
from tools.console import main
main()
"""


def test_ctrl_c_while_it_is_imported_is_no_traceback() -> None:
    done = subprocess.run([sys.executable, "-c", INTERRUPTED_EARLY], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "mesh: interrupted\n")
    scripts = tomllib.loads((Path(cli_package.__file__).parents[2] / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"mesh": "tools.console:main"}


def test_a_critical_pattern_that_means_nothing_is_refused(mesh: Mesh) -> None:
    result = mesh("init", "here", "--name", "a", "--critical", "tasks/[")
    assert result.exit_code == 1
    assert "[ means nothing here" in result.stderr
