"""What a client of the control socket can ask of the quorum."""

from __future__ import annotations

import base64
import time
from collections.abc import AsyncGenerator, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import trio

from mesh.control.json_values import from_json_untrusted, to_json
from mesh.critical.handle import Receipt, Thought
from mesh.critical.lease import RENEWALS, Lease
from mesh.errors import LeaseLost, MeshError, NotCommitted, OutcomeUnknown
from mesh.nursery import open_plain_nursery
from mesh.paths import PathLike

if TYPE_CHECKING:
    from mesh.node import Node

Request: TypeAlias = Mapping[str, Any]
TIMEOUT_S: Final = 10.0
"""For a majority, unless the request says otherwise: two elections and a slow disk (guess)."""
MAJORITY_EVERY_S: Final = 5.0
"""Between two looks whether a majority is there, while somebody waits for a lease. Guess."""
CHUNK_BYTES: Final = 1 << 19
"""Of a file, in one line."""


class BadRequest(MeshError):
    """The command was used wrongly."""


async def agreed_now(node: Node, path: PathLike, request: Request) -> None:
    """Until this agent has all that was ever committed. Raises NotCommitted when no majority answers in time."""
    seconds = _seconds(request)
    with trio.move_on_after(seconds) as waiting:
        await node.critical(path).get()
    if waiting.cancelled_caught:
        found = node.quorum()
        voters = ", ".join(sorted(node.name_of(voter) for voter in found.voters))
        raise NotCommitted(
            f"no majority of the voters ({voters}) answered within {seconds:g} s: bring them back (see `mesh members`), "
            "or, if they are lost for ever, begin anew with `mesh quorum reset`"
        )


async def propose(node: Node, request: Request) -> Any:
    """A critical write; with `expected` only if that is there, with `remove` a delete, without `path` a decision alone."""
    thought = Thought(
        intent=_text(request, "intent"),
        arguments=from_json_untrusted(request.get("arguments")),
        rationale=_text(request, "rationale"),
        trace=_text(request, "trace"),
        path=request.get("path"),
        value=from_json_untrusted(request.get("value")),
        dangerous=bool(request.get("dangerous")),
    )
    key = _text(request, "idempotency_key") if request.get("idempotency_key") is not None else node.fresh_key()
    if not key:
        raise BadRequest("the idempotency key is empty, so it names nothing: give the write a name, or leave the key out")
    made: list[Receipt] = []
    with trio.move_on_after(_seconds(request)):
        try:
            made.append(await _write(node, thought, request, key))
        except NotCommitted as error:
            if error.reason != "mismatch":
                raise
            raise NotCommitted(f"not done: {thought.path} holds {to_json(error.current)!r}") from None
    if not made:
        raise OutcomeUnknown(
            f"no answer of a majority in time: it may still be done; ask with `mesh get`, or again with --key {key}", key
        )
    receipt = made[0]
    return {
        "epoch": receipt.epoch,
        "index": receipt.index,
        "term": receipt.term,
        "acknowledged_by": [node.name_of(ack.voter) for ack in receipt.certificate.acks],
        "idempotency_key": receipt.idempotency_key,
    }


async def _write(node: Node, thought: Thought, request: Request, key: str | None) -> Receipt:
    if thought.path is None or not ("expected" in request or request.get("remove")):
        return await node.propose(thought, idempotency_key=key)
    handle = node.critical(thought.path)
    if request.get("remove"):
        return await handle.delete(idempotency_key=key, thought=thought)
    expected = from_json_untrusted(request["expected"])
    return await handle.compare_and_set(expected, thought.value, idempotency_key=key, thought=thought)


async def quorum(node: Node, request: Request) -> Any:
    found, anchor = node.quorum(), node.anchor
    scores, states = node.scores(), {member.replica: member.state.value for member in node.members()}
    return {
        "leader": None if found.leader is None else node.name_of(found.leader),
        "term": found.term,
        "epoch": found.epoch,
        "commit_index": found.commit_index,
        "proven_index": found.proven_index,
        "awaited_index": found.awaited_index,
        "anchor": None if anchor is None else [part.hex() if isinstance(part, bytes) else part for part in anchor],
        "voters": [
            {
                "name": node.name_of(voter),
                "replica": voter.hex(),
                "state": states.get(voter, "unknown"),
                "score": max(scores[voter], 0),
                "demoted": scores[voter] < 0,
            }
            for voter in found.voters
            if voter in scores
        ],
        "rules": [dict(rule._asdict()) for rule in node.rules()],
        "refusals": [
            {
                "term": each.proposal.term,
                "author": node.name_of(each.proposal.entry.author),  # type: ignore[arg-type]  # a replica id
                "voter": node.name_of(each.verdict.voter),
                "rule": each.verdict.rule,
            }
            for each in node.refusals()
        ],
    }


async def lease(node: Node, request: Request) -> AsyncGenerator[Any, None]:
    """Held until the client hangs up: {"event": "held", "token": ..., "until": ...}, then {"event": "renewed", "until": ...}
    again and again, and when it cannot be renewed {"event": "lost"}. A client that hears nothing has to
    give up before `until`, in seconds of the monotonic clock: this process may be stopped.
    """
    ttl = request.get("ttl")
    if isinstance(ttl, bool) or not isinstance(ttl, int | float):
        raise BadRequest(f"ttl={ttl!r}: a number of seconds")
    try:
        context = node.lease(_text(request, "path"), ttl=float(ttl))
    except ValueError as error:
        raise BadRequest(str(error)) from None
    send, receive = trio.open_memory_channel[dict[str, Any]](2)

    async def hold() -> None:
        async with send:
            try:
                async with context as held:
                    await send.send({"event": "held", "token": held.fencing_token, "until": _until(held)})
                    while True:
                        await trio.sleep(held.ttl / RENEWALS / 2)
                        await send.send({"event": "renewed", "until": _until(held)})
            except LeaseLost as error:
                await send.send({"event": "lost", "message": str(error)})

    async with open_plain_nursery() as nursery:
        nursery.start_soon(hold)
        nursery.start_soon(_while_agreed, node, _text(request, "path"), request, is_held := trio.Event())
        async for item in receive:
            is_held.set()
            yield item
        nursery.cancel_scope.cancel()


async def _while_agreed(node: Node, path: str, request: Request, is_held: trio.Event) -> None:
    """A lease that somebody else holds is waited for; a majority that is not there, not for ever."""
    while not is_held.is_set():
        await agreed_now(node, path, request)
        with trio.move_on_after(MAJORITY_EVERY_S):
            await is_held.wait()


def _until(lease: Lease) -> float:
    now = time.monotonic()  # first: if this process is stopped between the two, the end is told too early, not too late
    return now + lease.remaining


async def ledger(node: Node, request: Request) -> AsyncGenerator[Any, None]:
    """The decision ledger as a file, in base64 pieces; with `index`, of that block alone."""
    only = request.get("index")
    if only is not None and not isinstance(only, int):
        raise BadRequest(f"index={only!r}: a number")
    raw = node.ledger(only=only)
    for start in range(0, len(raw), CHUNK_BYTES):
        yield base64.b64encode(raw[start : start + CHUNK_BYTES]).decode()
        await trio.lowlevel.checkpoint()


def _text(request: Request, name: str) -> str:
    text = request.get(name, "")
    if not isinstance(text, str):
        raise BadRequest(f"{name}={text!r}: text")
    return text


def _seconds(request: Request) -> float:
    seconds = request.get("timeout", TIMEOUT_S)
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds > 0:
        raise BadRequest(f"timeout={seconds!r}: seconds")
    return float(seconds)
