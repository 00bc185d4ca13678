"""What a node needs to know before it starts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike, fsencode, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mesh.effects import Address
from mesh.errors import ConfigError
from mesh.net.endpoint import parse_endpoint
from mesh.presets import preset

if TYPE_CHECKING:
    from mesh.critical.judges import Judge
    from mesh.trust import Membership

DEFAULT_PORT: Final = 7946
"""The port of serf and memberlist, which firewalls of this field know."""
COALESCE_MS_MAX: Final = 1_000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeConfig:
    """Raises ConfigError when it cannot work, naming the field."""

    membership: Membership
    """Who this agent is, and what lets it in: `Authority.enrol`, or loaded from the files of `mesh init` and `mesh join`."""

    bind: str = f"0.0.0.0:{DEFAULT_PORT}"
    """Where to listen, "host:port". Port 0 takes a free one. 0.0.0.0 and [::] mean every interface."""

    advertise: str | None = None
    """Where others reach this node, "host:port", when that is not the address it sees itself (behind NAT, several networks)."""

    seeds: Sequence[str] = ()
    """Members to start with, "host:port"; others are found through them. Names are resolved again while nobody was found."""

    data_dir: str | PathLike[str] | None = None
    """Where state, known peers and the control socket live. None: memory only, and every start begins with nothing."""

    preset: str = "lan"
    """Timing and rates: "local", "lan", "robot_wifi", "wan" or "lora"."""

    coalesce_ms: float = 5.0
    """Writes that follow each other within so many milliseconds share a delta; the first after a quiet moment goes at once."""

    judges: Sequence[Judge] = ()
    """Of a voter: who says yes or no to what the rules leave open (`mesh.critical.judges`). Without any, the answer is no."""

    predicates: Sequence[Callable[..., Any]] = ()
    """Python functions that this mesh's own rules may call, the same on every agent (`mesh.critical.predicates`)."""

    control: bool = True
    """Answer the `mesh` command through a socket in `data_dir`; its mode lets only the owner in."""

    def __post_init__(self) -> None:
        _check_membership(self.membership)
        _named("bind", self.bind)
        if self.advertise is not None and _named("advertise", self.advertise)[1] == 0:
            raise ConfigError(f"advertise={self.advertise!r}: others cannot reach port 0")
        if isinstance(self.seeds, str):
            raise ConfigError(f"seeds={self.seeds!r}: write a list of them, seeds=[{self.seeds!r}]")
        if not isinstance(self.seeds, Sequence):
            raise ConfigError(f"seeds={self.seeds!r}: a list of host:port, empty when this is the first member")
        for seed in self.seeds:
            if _named("seeds", seed)[1] == 0:
                raise ConfigError(f"seeds: {seed!r} has port 0, which nobody listens on")
        if not isinstance(self.judges, Sequence) or not all(callable(judge) for judge in self.judges):
            raise ConfigError(f"judges={self.judges!r}: a list of async functions, judges=[foreman]")
        if not isinstance(self.predicates, Sequence):
            raise ConfigError(f"predicates={self.predicates!r}: a list of functions, predicates=[in_pool]")
        if self.predicates:
            from mesh.critical.predicates import predicates_of

            predicates_of(self.predicates)
        _check_data_dir(self.data_dir)
        if not isinstance(self.preset, str):
            raise ConfigError(f"preset={self.preset!r}: the name of one")
        preset(self.preset)
        if isinstance(self.coalesce_ms, bool) or not isinstance(self.coalesce_ms, int | float):
            raise ConfigError(f"coalesce_ms={self.coalesce_ms!r}: a number of milliseconds")
        if not 0 <= self.coalesce_ms <= COALESCE_MS_MAX:
            raise ConfigError(f"coalesce_ms={self.coalesce_ms}: between 0 (every write a datagram) and {COALESCE_MS_MAX:g}")

    @property
    def data_path(self) -> Path | None:
        return None if self.data_dir is None else Path(self.data_dir)


def _check_membership(membership: object) -> None:
    """The class is imported late: `import mesh` is quick for who needs no keys."""
    from mesh.trust import Membership

    if not isinstance(membership, Membership):
        kind = type(membership).__name__
        raise ConfigError(f"membership is of type {kind}: take what Authority.enrol, redeem or load_membership gave")


def _check_data_dir(data_dir: object) -> None:
    if data_dir is None:
        return
    if not isinstance(data_dir, str | PathLike) or isinstance(fspath(data_dir), bytes):
        raise ConfigError(f"data_dir={data_dir!r}: a path as text, or None for memory only")
    if not fspath(data_dir):
        raise ConfigError("data_dir='': name a directory ('.' for the current one), or None for memory only")
    try:
        named = fsencode(data_dir)
    except UnicodeEncodeError:
        named = b"\0"
    if b"\0" in named:
        raise ConfigError(f"data_dir={fspath(data_dir)!r}: no file system has such a name")


def _named(field: str, endpoint: object) -> tuple[str, int]:
    if not isinstance(endpoint, str):
        raise ConfigError(f"{field}: {endpoint!r} is not an endpoint: write host:port as text, for example '192.0.2.7:7946'")
    try:
        return parse_endpoint(endpoint)
    except ConfigError as error:
        raise ConfigError(f"{field}: {error}") from None


def format_endpoint(address: Address) -> str:
    """What `parse_endpoint` reads: host:port, an IPv6 host in brackets."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
