"""What a run says at its end: for people, as JSON, and as a picture."""

from __future__ import annotations

import math
from typing import Any, Final

from mesh.testing import SECOND
from tools.sim.figure import Curve, Panel, Span, svg
from tools.sim.history import Run
from tools.sim.meter import quantiles
from tools.sim.units import duration_text

CURVE_POINTS: Final = 120


def summary(run: Run) -> dict[str, Any]:
    """Plain values, stable names: this is the --json output."""
    outcome, meter, mesh = run.outcome, run.meter, run.mesh
    network = mesh.world.network
    return {
        "passed": outcome.passed,
        "failed": outcome.failed or None,
        "failure": outcome.failure or None,
        "digest": outcome.digest,
        "virtual_seconds": round(outcome.virtual_seconds, 3),
        "converged_after_seconds": None if outcome.converged_after is None else round(outcome.converged_after, 3),
        "calm_bound_seconds": round(run.options.calm_bound(), 3),
        "writes": dict(sorted(outcome.writes.items())),
        "write_to_everybody_ms": {
            **quantiles(meter.to_all()),
            "writes": len(meter.tracks),
            "not_at_all": meter.unfinished(),
            "not_followed": meter.skipped,
        },
        "write_to_each_ms": quantiles(meter.to_each()),
        "detection_seconds": quantiles(sorted(delay / SECOND for delay, _ in meter.detections)),
        "false_deaths": len(meter.false_deaths),
        "per_node": {name: round(value, 1) for name, value in meter.traffic(run.counters_at_start).items()},
        "datagrams": {
            "delivered": network.delivered,
            "duplicated": network.duplicated,
            "reordered": network.reordered,
            "largest_bytes": network.largest,
            "dropped": dict(sorted(network.dropped.items())),
        },
        "frames": {name: {"frames": frames, "bytes": size} for name, (frames, size) in mesh.crypto.by_kind().items()},
        "sync": meter.sync_counts(),
        "checked": dict(sorted(outcome.counts.items())),
        "exercised": dict(sorted(run.stage.played.items())),
    }


def text(run: Run) -> str:
    """The same for people."""
    report = summary(run)
    lines = []

    def line(name: str, value: str) -> None:
        lines.append(f"  {name:<22}{value}")

    def spread(values: dict[str, Any], unit: str) -> str:
        if values["p50"] is None:
            return "none"
        return "  ".join(f"{name} {values[name]:g} {unit}" for name in ("p50", "p99", "max"))

    everybody = report["write_to_everybody_ms"]
    line(
        "writes",
        f"{sum(count for name, count in run.outcome.writes.items() if name in run.options.types)} ({_counts(report['writes'])})",
    )
    line("seen by everybody", spread(everybody, "ms") + (f"; {everybody['not_at_all']} never" if everybody["not_at_all"] else ""))
    line("seen by each", spread(report["write_to_each_ms"], "ms"))
    line("crash known", spread(report["detection_seconds"], "s") + f"; {report['false_deaths']} living taken for dead meanwhile")
    line(
        "one again after",
        "not" if report["converged_after_seconds"] is None else f"{report['converged_after_seconds']:g} s of calm",
    )
    traffic = report["per_node"]
    line("per node", f"{traffic['bytes_per_second']:g} bytes/s, {traffic['datagrams_per_second']:g} datagrams/s")
    datagrams = report["datagrams"]
    line("datagrams", f"{datagrams['delivered']} delivered; dropped: {_counts(datagrams['dropped']) or 'none'}")
    line("sync", _counts(report["sync"]))
    line("exercised", _counts(report["exercised"]) or "no faults")
    line("checked", _counts(report["checked"]))
    line("digest", report["digest"])
    return "\n".join(lines)


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def picture(run: Run) -> str:
    """SVG: how writes spread, with the theory of a push tree beside it, and the run as a timeline."""
    return svg([_spread(run), _timeline(run)])


def _spread(run: Run) -> Panel:
    """Share of (write, host) pairs reached so long after the write."""
    delays = run.meter.to_each()
    total = sum(track.to - 1 for track in run.meter.tracks) or 1
    points = [(0.0, 0.0)]
    for number in range(1, CURVE_POINTS + 1):
        reached = len(delays) * number // CURVE_POINTS
        if reached:
            points.append((delays[reached - 1], reached / total))
    cut_at = delays[int(len(delays) * 0.995)] if delays else 1.0
    points = [(x, y) for x, y in points if x <= cut_at]
    return Panel(
        f"A write on its way to {run.options.nodes} nodes",
        "ms after the write",
        "share of nodes",
        [Curve("measured", points), Curve("theory: push tree over these links", _theory(run, cut_at), dashed=True)],
    )


def _theory(run: Run, until: float) -> list[tuple[float, float]]:
    """One link delay per level of the tree, nothing lost: drawn from the run's own distribution."""
    nodes, sync = run.options.nodes, run.mesh.preset.sync
    rng = run.mesh.world.rng("theory")
    delay = run.options.link().delay

    def hop() -> float:
        return delay.draw(rng.random, rng.randrange(nodes), rng.randrange(nodes)) / 1_000

    arrivals = []
    for _ in range(2_000):
        position = rng.randrange(1, nodes) if nodes > 1 else 0
        levels = (
            1 if nodes <= sync.direct_max else max(1, math.ceil(math.log(max(2, position * (sync.degree - 1) + 1), sync.degree)))
        )
        arrivals.append(sum(hop() for _ in range(levels)))
    arrivals.sort()
    return [(0.0, 0.0)] + [
        (arrivals[index], (index + 1) / len(arrivals)) for index in range(0, len(arrivals), 20) if arrivals[index] <= until
    ]


def _timeline(run: Run) -> Panel:
    samples = run.samples
    agreeing = [(time, share) for time, share, _ in samples]
    alive = [(time, share) for time, _, share in samples]
    return Panel(
        "The run: who agrees, who is taken for alive",
        "virtual seconds",
        "share",
        [Curve("largest group with one state", agreeing), Curve("members taken for alive", alive)],
        _spans(run),
    )


def _spans(run: Run) -> list[Span]:
    """Cuts and crashes of the script, with their ends."""
    open_since: dict[str, float] = {}
    spans: list[Span] = []
    end = run.fault_end
    for line in run.script:
        at = run.fault_start + (line.at or 0.0)
        if line.verb == "cut":
            open_since[f"cut {line.options.get('name', '')}".strip()] = at
        elif line.verb == "crash":
            open_since[f"down {line.words[0]}"] = at
        elif line.verb in ("mend", "restart"):
            name = f"cut {line.words[0]}" if line.verb == "mend" else f"down {line.words[0]}"
            if name in open_since:
                spans.append(Span(open_since.pop(name), at, name))
    return spans + [Span(start, end, name) for name, start in open_since.items()]


def heading(run: Run, commit: str) -> str:
    """Everything that is needed to repeat the run; printed before it begins."""
    options = ", ".join(f"{name}={value}" for name, value in run.options.describe().items() if name not in ("script", "faults"))
    lines = [
        f"seed {run.options.seed}, commit {commit}",
        f"  {options}",
        f"  faults: {', '.join(run.options.faults) or 'none drawn'}",
    ]
    if run.script:
        lines.append(f"  {len(run.script)} scripted events, from {duration_text(run.script[0].at or 0.0)} on")
    return "\n".join(lines)
