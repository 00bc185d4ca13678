"""What a client of the control socket can ask: one function per verb, from the node and the request to a JSON value."""

from __future__ import annotations

import base64
import binascii
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import trio

from crdt.ids import ReplicaId, replica_of
from crdt.ops import Path
from crdt.types import parse_path
from mesh.config import format_endpoint
from mesh.control.agreement import BadRequest as BadRequest
from mesh.control.agreement import agreed_now, lease, ledger, propose, quorum
from mesh.control.json_values import from_json_untrusted, to_json
from mesh.control.writers import WRITERS
from mesh.critical.view import CRITICAL, NAME
from mesh.errors import ConfigError, OutcomeUnknown
from mesh.events import Changed, Lagged, Synced
from mesh.net.endpoint import parse_endpoint
from mesh.paths import parse_prefix
from mesh.trust import KeyInfo
from mesh.values import read_value, type_code, type_name, types_at

if TYPE_CHECKING:
    from mesh.node import Node

Request: TypeAlias = Mapping[str, Any]
COPIES_TIMEOUT_S: Final = 10.0


# --- the node


async def members(node: Node, request: Request) -> Any:
    return [
        {
            "name": member.name,
            "replica": member.replica.hex(),
            "state": member.state.value,
            "address": format_endpoint(member.address),
            "incarnation": member.incarnation,
            "rtt_ms": None if member.rtt is None else round(member.rtt * 1e3, 3),
            "me": member.replica == node.replica_id,
        }
        for member in node.members()
    ]


async def status(node: Node, request: Request) -> Any:
    states: dict[str, int] = {}
    for member in node.members():
        states[member.state.value] = states.get(member.state.value, 0) + 1
    statistics = node.statistics()
    return {
        "name": node.name,
        "replica": node.replica_id.hex(),
        "mesh": node.mesh_id.hex(),
        "address": format_endpoint(node.address),
        "members": states,
        "synced": node.caught_up,
        "quorum": await quorum(node, {}),
        "identity_in_use": statistics.pop("identity_in_use"),
        "clock_offset_s": node.clock_offset,
        "uptime_s": statistics.pop("uptime_s"),
        "statistics": statistics,
    }


async def digest(node: Node, request: Request) -> Any:
    """One hash over everything visible: two replicas that agree here show the same."""
    return node.state_digest().hex()


# --- keys


async def keys(node: Node, request: Request) -> Any:
    return [key_row(key) for key in node.keys_known()]


def key_row(key: KeyInfo) -> dict[str, Any]:
    """What a statement says of one key, as JSON."""
    return {
        "name": key.name,
        "key": key.key_id.hex(),
        "public_key": key.public_key.hex(),
        "state": key.state.value,
        "serial": key.serial,
        "may_write": list(key.may_write),
        "voter": key.voter,
        "score": key.score,
        "expires": key.expires,
    }


async def statements(node: Node, request: Request) -> AsyncGenerator[Any, None]:
    """Everything that is known about keys, as it travels: what the authority must know before it issues more."""
    for raw in node.statements():
        yield base64.b64encode(raw).decode()
        await trio.lowlevel.checkpoint()


async def shelves(node: Node, request: Request) -> Any:
    """[birth, last seq] of each shelf of a replica, as known here: what a revocation honours."""
    replica = _bytes(request, "replica", from_hex=True)
    return [list(each) for each in node.written_by(ReplicaId(replica))]


async def tell(node: Node, request: Request) -> Any:
    """Take a statement of the authority, and pass it on; True when it was new."""
    return node.tell(_bytes(request, "statement"))


async def delegate(node: Node, request: Request) -> Any:
    """A token with which somebody joins below this agent."""
    may_write, places = request.get("may_write"), request.get("addresses")
    if not isinstance(may_write, list) or not all(isinstance(each, str) for each in may_write):
        raise BadRequest("the request lacks 'may_write', a list of patterns")
    if not isinstance(places, list) or not all(isinstance(each, str) for each in places):
        raise BadRequest("the request lacks 'addresses', a list")
    levels = request.get("delegates", 0)
    if type(levels) is not int:
        raise BadRequest("'delegates' is a number of levels")
    name, redeem_by = request.get("name"), request.get("redeem_by")
    token = node.delegate(
        name, may_write=may_write, delegates=levels, redeem_by=redeem_by, addresses=[parse_endpoint(each) for each in places]
    )
    await node.flush()
    return {"token": token}


async def below(node: Node, request: Request) -> Any:
    """Ids of all that a replica let in, and those again, the nearest first."""
    return [each.hex() for each in node.below(ReplicaId(_bytes(request, "replica", from_hex=True)))]


async def encrypt(node: Node, request: Request) -> Any:
    """Encrypt what is written below a prefix from now on; the number of the key in use."""
    readers = request.get("readers")
    if not isinstance(readers, list) or not all(isinstance(each, str) for each in readers):
        raise BadRequest("the request lacks 'readers', a list of names")
    number = node.encrypt(_text(request, "pattern"), readers)
    await node.flush()
    return {"pattern": request["pattern"], "epoch": number, "readers": node.encrypted()[_text(request, "pattern")]}


async def encrypted(node: Node, request: Request) -> Any:
    """{pattern: [reader...]} of what is encrypted."""
    return node.encrypted()


# --- values


async def get(node: Node, request: Request) -> Any:
    """Every value at one path; several when it holds several types."""
    path = parse_path(_text(request, "path"))
    name = request.get("type")
    if name == "map":
        found = node.map(path).value
        return [{"path": request["path"], "type": "map", "value": to_json(found), "dot": None}] if found else []
    if node.is_critical(path) and name in (None, NAME):
        if request.get("now"):
            await agreed_now(node, path, request)
        changes = [node.read_value((CRITICAL, path)).change]
    elif request.get("now"):
        raise BadRequest(f"{request['path']} is not critical: nobody knows more of it than this agent, leave --now away")
    else:
        codes = [_code(name)] if name else types_at(node, path)
        changes = [read_value(node, (code, path)).change for code in codes]
    return [_value(change) for change in changes if change.dot is not None]


async def snapshot(node: Node, request: Request) -> AsyncGenerator[Any, None]:
    """Every value below a prefix."""
    wanted = _type_wanted(request)
    for key in list(node.watched_keys(parse_prefix(_text(request, "prefix")))):
        change = node.read_value(key).change
        if change.dot is not None and wanted in (None, change.type):
            yield _value(change)
        await trio.lowlevel.checkpoint()


async def watch(node: Node, request: Request) -> AsyncGenerator[Any, None]:
    wanted = _type_wanted(request)
    async with node.watch(_text(request, "prefix")) as changes:
        async for change in changes:
            match change:
                case Changed() if wanted in (None, change.type):
                    yield {"event": "changed", **_value(change)}
                case Synced():
                    yield {"event": "synced"}
                case Lagged():
                    yield {"event": "lagged", "n": change.n}


async def history(node: Node, request: Request) -> Any:
    """Every live write at a path."""
    if node.is_critical(_text(request, "path")):
        told = "`mesh quorum export FILE` and `mesh verify FILE` tell who wanted what there"
        raise ConfigError(f"{request['path']} is critical, each value replaces the one before: {told}")
    wanted = _type_wanted(request)
    return [
        {
            "path": entry.path,
            "type": entry.type,
            "author": entry.author,
            "replica": replica_of(entry.dot.origin).hex(),
            "dot": str(entry.dot),
            "time": entry.time,
            "kind": entry.kind,
            "value": to_json(entry.value),
            "shown": entry.shown,
            "why": entry.why,
        }
        for entry in node.history(_text(request, "path"))
        if wanted in (None, entry.type)
    ]


async def put(node: Node, request: Request) -> Any:
    """Write, and wait for the disk; with `copies`, for other members too."""
    path = parse_path(_text(request, "path"))
    name = request.get("type") or _type_there(node, path, _text(request, "path"))
    copies, timeout_s = request.get("copies") or 0, request.get("timeout") or COPIES_TIMEOUT_S
    if not isinstance(copies, int) or copies < 0 or not isinstance(timeout_s, int | float) or not timeout_s > 0:
        raise BadRequest(f"copies={copies!r}, timeout={timeout_s!r}: a number of members, and seconds to wait for them")
    if not isinstance(name, str) or name not in WRITERS:
        raise BadRequest(f"there is no type {name!r} to put to; there are {', '.join(WRITERS)}")
    writer = WRITERS[name]
    if not request.get("remove"):
        writer.put(node, path, from_json_untrusted(request.get("value")))
    elif "value" not in request:
        writer.clear(node, path)
    elif writer.discard is not None:
        writer.discard(node, path, from_json_untrusted(request["value"]))
    else:
        raise BadRequest(f"a {name} has no elements to remove: leave the value away to clear it")
    await node.flush()
    if copies:
        with trio.move_on_after(timeout_s) as scope:
            await node.replicated(copies)
        if scope.cancelled_caught:
            raise OutcomeUnknown(f"written here, but {copies} other members have not all confirmed it in time: they may yet")
    return {"path": request["path"], "type": name}


def _type_there(node: Node, path: Path, text: str) -> str:
    found = [type_name(code) for code in types_at(node, path)]
    if len(found) > 1:
        raise BadRequest(f"{text} holds several types ({', '.join(found)}): say which with --type")
    return found[0] if found else "register"


def _type_wanted(request: Request) -> str | None:
    """The only type to tell of, checked: a misspelt one would look as if there were nothing."""
    name: object = request.get("type")
    if name == "map":
        raise BadRequest("a map is told as the values in it: leave --type away, or say the type of those values")
    return None if name is None else NAME if name == NAME else type_name(_code(name))


def _code(name: object) -> int:
    try:
        return type_code(str(name))
    except ConfigError as error:
        raise BadRequest(str(error)) from None


def _value(change: Changed) -> dict[str, Any]:
    dot = None if change.dot is None else str(change.dot)
    return {"path": change.path, "type": change.type, "value": to_json(change.value), "dot": dot}


def _text(request: Request, name: str) -> str:
    text = request.get(name)
    if not isinstance(text, str):
        raise BadRequest(f"the request lacks {name!r}")
    return text


def _bytes(request: Request, name: str, *, from_hex: bool = False) -> bytes:
    text = _text(request, name)
    try:
        return bytes.fromhex(text) if from_hex else base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error) as error:
        raise BadRequest(f"{name!r} is not {'hex' if from_hex else 'base64'}: {error}") from error


ANSWERS: Final[Mapping[str, Callable[[Node, Request], Awaitable[Any]]]] = {
    verb.__name__: verb
    for verb in (
        members,
        status,
        digest,
        keys,
        shelves,
        tell,
        delegate,
        below,
        encrypt,
        encrypted,
        get,
        history,
        put,
        propose,
        quorum,
    )
}
STREAMS: Final[Mapping[str, Callable[[Node, Request], AsyncGenerator[Any, None]]]] = {
    verb.__name__: verb for verb in (statements, snapshot, watch, lease, ledger)
}
