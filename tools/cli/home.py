"""A node's directory, and which one a command means.

DIR/mesh.toml        how the node runs: edit it, then restart the node
DIR/keys/            who it is; whoever reads member.key or authority.key can act in its name
DIR/data/            its database and its control socket
"""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import click

from mesh.control.protocol import SOCKET_NAME
from mesh.errors import ConfigError

CONFIG_NAME: Final = "mesh.toml"
VARIABLE: Final = "MESH_DIR"
DEFAULT_PORT: Final = 7946
"""As mesh.config's, which would cost every command the import of trio."""
ANY_INTERFACE: Final = f"0.0.0.0:{DEFAULT_PORT}"

dir_option = click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    envvar=VARIABLE,
    help=f"The node's directory.  [default: ${VARIABLE}, else here]",
)


@dataclass(frozen=True, slots=True)
class Settings:
    """What mesh.toml may say. A name that is not here is an error: a misspelt option must not be silently ignored."""

    bind: str = ANY_INTERFACE
    advertise: str | None = None
    seeds: list[str] = field(default_factory=list)
    preset: str = "lan"
    data_dir: str = "data"
    keys_dir: str = "keys"
    coalesce_ms: float = 5.0


@dataclass(frozen=True, slots=True)
class Home:
    """One node's directory. Without mesh.toml it is the data directory of a program that embeds a node."""

    directory: Path
    config: Path
    settings: Settings

    @property
    def keys(self) -> Path:
        return self.directory / self.settings.keys_dir

    @property
    def data_dir(self) -> Path:
        return self.directory / self.settings.data_dir


def find_home(directory: Path | None) -> Home:
    """The directory that a command means: the one named, or this one, or the only one below. Raises ConfigError."""
    if directory is not None:
        return _home_at(directory)
    here = Path.cwd()
    if (here / CONFIG_NAME).exists() or (here / SOCKET_NAME).exists():
        return _home_at(here)
    below = sorted(path.parent for path in here.glob(f"*/{CONFIG_NAME}"))
    if len(below) == 1:
        return _home_at(below[0])
    if below:
        names = ", ".join(path.name for path in below)
        raise ConfigError(f"several nodes are here ({names}): say which with --dir, or cd into it")
    raise ConfigError(
        f"no {CONFIG_NAME} here: cd into a node's directory, use --dir or ${VARIABLE}, or make one with `mesh init DIR`"
    )


def _home_at(directory: Path) -> Home:
    if (directory / CONFIG_NAME).exists():
        return load_home(directory / CONFIG_NAME)
    if (directory / SOCKET_NAME).exists():
        return Home(directory, directory / CONFIG_NAME, Settings(data_dir="."))
    raise ConfigError(f"no node is in {directory}: it has no {CONFIG_NAME}; `mesh init` or `mesh join` makes one")


def load_home(config: Path) -> Home:
    """Raises ConfigError, naming the line or the option."""
    try:
        found = tomllib.loads(config.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{config} does not exist: `mesh init DIR` or `mesh join TOKEN` makes one") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"cannot read {config}: {error}") from error
    return Home(config.parent, config, _settings(config, found))


def _settings(config: Path, found: dict[str, Any]) -> Settings:
    wanted = {"seeds": list, "coalesce_ms": (int, float)}
    for name, value in found.items():
        if name not in Settings.__dataclass_fields__:
            raise ConfigError(f"{config}: unknown option {name!r}; known are {', '.join(Settings.__dataclass_fields__)}")
        if not isinstance(value, wanted.get(name, str)) or isinstance(value, bool):  # type: ignore[arg-type]
            kind = {"seeds": 'a list such as ["192.0.2.7:7946"]', "coalesce_ms": "a number"}.get(name, "a string in quotes")
            raise ConfigError(f"{config}: {name} must be {kind}")
    if not all(isinstance(seed, str) for seed in found.get("seeds", [])):
        raise ConfigError(f'{config}: seeds must be a list of strings such as ["192.0.2.7:7946"]')
    return Settings(**found)


CONFIG_TEMPLATE: Final = """\
# {name}, a node of a mesh. Lines behind a # show defaults. The node reads this file once, when it starts.

# Where to listen: 0.0.0.0 means every interface.
bind = {bind}

# How others reach this node, when that is not the address it finds itself (behind NAT, several networks).
{advertise}

# Some members to start with, host:port. Others are found through them, and remembered.
seeds = {seeds}

# Timing: local, lan, robot_wifi, wan or lora.
preset = {preset}

# Database and control socket, and who this node is, relative to this file.
#data_dir = "data"
#keys_dir = "keys"

# Writes that follow each other within so many milliseconds share one signature and one datagram.
#coalesce_ms = 5.0
"""


def write_config(config: Path, name: str, settings: Settings) -> None:
    """A new mesh.toml with comments. Raises FileExistsError rather than replace one."""
    advertise = f"advertise = {_toml(settings.advertise)}" if settings.advertise else '#advertise = "192.0.2.7:7946"'
    text = CONFIG_TEMPLATE.format(
        name=name,
        bind=_toml(settings.bind),
        advertise=advertise,
        seeds=f"[{', '.join(_toml(seed) for seed in settings.seeds)}]",
        preset=_toml(settings.preset),
    )
    with open(os.open(config, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "w", encoding="utf-8") as file:
        file.write(text)


def _toml(text: str) -> str:
    """A TOML basic string."""
    escaped = "".join(char if char.isprintable() and char not in '"\\' else f"\\U{ord(char):08x}" for char in text)
    return f'"{escaped}"'
