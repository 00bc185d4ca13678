"""State: what applying, copying, restarting and holding it costs, and what it weighs. One core, or a few processes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from tools.bench.child import in_child
from tools.bench.peers import missing_module
from tools.bench.plan import OURS, Benchmark, Contestant, Figure, Goal, Sample, Scale
from tools.bench.state_runs import many_keys

SIGNED: Final = "every update signed by its author and verified by the reader, paths and registers as in the mesh; pure Python."
ONE_A_DELTA: Final = "one key a delta"
ON_DISK: Final = "SQLite, WAL, synchronous FULL: group commits"


async def _apply(_: Scale) -> Sample:
    rates = await in_child("tools.measure.micro:apply_rates")
    return Sample({"single": rates["single_op_deltas_per_second"], "full": rates["ops_in_full_deltas_per_second"]})


async def _primitives(_: Scale) -> Sample:
    return Sample(await in_child("tools.bench.primitives:rates"))


APPLY: Final = Benchmark(
    name="apply",
    title=lambda _: "Deltas applied on one core",
    method="Signed deltas from bytes: read, verified, merged, and the digest of the shelf at the end; per second of CPU time.",
    figures=(
        Figure(
            key="single",
            title="deltas of one op",
            unit="per second",
            goals=(Goal(">= 14,000 /s", 14_000, at_least=True),),
            higher_is_better=True,
        ),
        Figure(
            key="full",
            title="ops in full deltas",
            unit="per second",
            goals=(Goal(">= 200,000 /s", 200_000, at_least=True),),
            higher_is_better=True,
        ),
    ),
    contestants=(
        Contestant(name=OURS, measure=_apply, configuration=SIGNED),
        Contestant(
            name="verification alone",
            measure=_primitives,
            configuration="PyNaCl's Ed25519 verification of one header, nothing else: the bound for deltas of one op.",
        ),
    ),
)


async def _size(_: Scale) -> Sample:
    sizes = await in_child("tools.measure.micro:delta_size")
    return Sample({"alone": sizes["alone_bytes"], "per_op": sizes["per_op_in_full_delta_bytes"]})


SIZE: Final = Benchmark(
    name="size",
    title=lambda _: "Bytes of a signed update",
    method="A 20-byte path and a float, no covers: header, Ed25519 signature and body, as they travel inside a datagram. What "
    "unsigned libraries need is under CRDT operations.",
    figures=(
        Figure(key="alone", title="alone", unit="bytes", goals=(Goal("<= 215 bytes alone", 215),)),
        Figure(key="per_op", title="per op in a full delta", unit="bytes", goals=(Goal("<= 45 bytes per op", 45),)),
    ),
    contestants=(Contestant(name=OURS, measure=_size, configuration=SIGNED),),
    runs_max=1,
)


async def _operations(library: str, _: Scale) -> Sample:
    return Sample(await in_child("tools.bench.operations:run", library=library))


def _library(name: str, library: str, configuration: str, missing: Callable[[], str | None] = lambda: None) -> Contestant:
    return Contestant(name=name, measure=partial(_operations, library), configuration=configuration, missing=missing)


OPERATIONS: Final = Benchmark(
    name="operations",
    title=lambda _: "CRDT operations on one core",
    method="Keys of a map set one by one, each an update of its own that another document takes; 5,000 keys in one "
    "transaction; appends to a list. CPU time of one process, no network.",
    figures=(
        Figure(key="write", title="sets, each with its update", unit="per second", higher_is_better=True),
        Figure(key="apply", title="such updates taken", unit="per second", higher_is_better=True),
        Figure(key="bytes", title="bytes of such an update", unit=""),
        Figure(key="write_batched", title="sets in one transaction", unit="per second", higher_is_better=True),
        Figure(key="apply_batched", title="sets taken from it", unit="per second", higher_is_better=True),
        Figure(key="bytes_batched", title="bytes per set of it", unit=""),
        Figure(key="append", title="appends to a list, each with its update", unit="per second", higher_is_better=True),
    ),
    contestants=(
        _library(OURS, "signed", SIGNED),
        _library("unsigned", "unsigned", "the `crdt` package of this project alone: no signatures; pure Python."),
        _library("pycrdt", "pycrdt", "Yjs in Rust, unsigned.", lambda: missing_module("pycrdt", "pycrdt")),
        _library("loro", "loro", "Loro in Rust, unsigned.", lambda: missing_module("loro", "loro")),
    ),
)


async def _many_keys(packed: bool, scale: Scale) -> Sample:
    return Sample(await many_keys(scale.keys, scale.authors, packed))


KEYS: Final = Benchmark(
    name="keys",
    title=lambda scale: f"{scale.keys:,} keys of {scale.authors:,} authors",
    method="A member has them on its disk. It starts; a newcomer with nothing joins it and is timed from its readiness until "
    "it shows every key; the member stops cleanly and starts again; it is killed (kill -9) half a second after 2,000 further "
    "writes and starts again. A start is timed from the start of the process, interpreter and imports included, until it answers "
    "and shows every key. After kill -9 the page cache is still there, so this is the work of a recovery, not a slow disk.",
    figures=(
        Figure(key="bootstrap", title="all keys at a newcomer", unit="s", goals=(Goal("<= 5 s", 5.0),)),
        Figure(key="bootstrap_cpu", title="CPU time of the newcomer", unit="s"),
        Figure(key="clean", title="serving after a clean stop", unit="s", goals=(Goal("<= 2 s", 2.0),)),
        Figure(key="clean_cpu", title="CPU time of that", unit="s"),
        Figure(key="cut", title="serving after kill -9", unit="s", goals=(Goal("<= 2 s", 2.0),)),
        Figure(key="cut_cpu", title="CPU time of that start", unit="s"),
        Figure(key="rss_holder", title="resident memory of the member", unit="MiB", goals=(Goal("<= 150 MB", 143.0),)),
        Figure(key="rss_newcomer", title="resident memory of the newcomer", unit="MiB", goals=(Goal("<= 150 MB", 143.0),)),
        Figure(key="deltas", title="deltas", unit="", compared=False),
    ),
    contestants=(
        Contestant(
            name=OURS,
            measure=partial(_many_keys, True),
            configuration="packed as authors pack them: what was written together is sealed together.",
            durability=ON_DISK,
        ),
        Contestant(
            name=ONE_A_DELTA,
            measure=partial(_many_keys, False),
            configuration="the same keys in the worst case, every key in a signed delta of its own.",
            durability=ON_DISK,
        ),
    ),
    runs_max=3,
)
