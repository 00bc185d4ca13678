"""What a run says at its end: for people, as JSON, and as a picture."""

from __future__ import annotations

from textwrap import wrap
from typing import Any, Final

from mesh.testing import SECOND
from tools.sim import theory
from tools.sim.figure import Curve, Panel, Span, svg
from tools.sim.history import Run
from tools.sim.meter import quantiles
from tools.sim.script import Line
from tools.weigh import fresh_bytes, state_bytes

CURVE_POINTS: Final = 120
WEIGHED_NODES_MAX: Final = 300


def summary(run: Run) -> dict[str, Any]:
    """Plain values, stable names: this is the --json output."""
    outcome, meter, mesh = run.outcome, run.meter, run.mesh
    network, sync = mesh.world.network, meter.sync_counts()
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
        "theory_to_each_ms": {"theory": theory.NAME, **quantiles(_theory(run))},
        "detection_seconds": quantiles(sorted(delay / SECOND for delay, _ in meter.detections)),
        "false_deaths": len(meter.false_deaths),
        "caught_up_seconds": {**quantiles(sorted(time / SECOND for time in meter.caught_up)), "times": len(meter.caught_up)},
        "per_node": {name: round(value, 1) for name, value in meter.traffic(run.counters_at_start).items()},
        "datagrams": {
            "delivered": network.delivered,
            "duplicated": network.duplicated,
            "reordered": network.reordered,
            "largest_bytes": network.largest,
            "dropped": dict(sorted(network.dropped.items())),
        },
        "frames": {name: {"frames": frames, "bytes": size} for name, (frames, size) in mesh.crypto.by_kind().items()},
        "sync": sync,
        "received_per_delta": round(1 + sync.get("deltas_duplicate", 0) / max(1, sync.get("deltas_new", 0)), 4),
        "state_times_fresh": _state_times_fresh(run),
        "events": dict(sorted(meter.events.items())),
        "played": dict(sorted(run.stage.played.items())),
        "happened": dict(sorted(outcome.happened.items())),
        "checked": dict(sorted(outcome.counts.items())),
    }


def _state_times_fresh(run: Run) -> float | None:
    """The state of the first node beside one that just wrote what is shown; of a large mesh too dear to say."""
    mesh = run.mesh
    if not mesh.hosts[0].running or run.options.nodes > WEIGHED_NODES_MAX:
        return None
    replica = mesh.peer(0).replica
    return round(state_bytes(replica) / fresh_bytes(replica), 3) if replica.keys() else None


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

    everybody, each = report["write_to_everybody_ms"], report["write_to_each_ms"]
    written = sum(count for name, count in run.outcome.writes.items() if name in run.options.types)
    line("writes", f"{written} ({_counts(report['writes'])})")
    line("seen by everybody", spread(everybody, "ms") + (f"; {everybody['not_at_all']} never" if everybody["not_at_all"] else ""))
    line("seen by each", spread(each, "ms"))
    line("  in theory", spread(report["theory_to_each_ms"], "ms") + f"  ({theory.NAME}; no other faults)")
    line("crash known", spread(report["detection_seconds"], "s") + f"; {report['false_deaths']} living taken for dead meanwhile")
    if run.meter.caught_up:
        line("caught up", spread(report["caught_up_seconds"], "s") + " after a restart")
    line(
        "one again after",
        "not" if report["converged_after_seconds"] is None else f"{report['converged_after_seconds']:g} s of calm",
    )
    traffic = report["per_node"]
    line("per node", f"{traffic['bytes_per_second']:g} bytes/s, {traffic['datagrams_per_second']:g} datagrams/s")
    datagrams = report["datagrams"]
    line(
        "datagrams",
        f"{datagrams['delivered']} delivered, {datagrams['duplicated']} of them twice; "
        f"dropped: {_counts(datagrams['dropped']) or 'none'}",
    )
    line("duplicates", f"each delta was received {report['received_per_delta']:g} times")
    if report["state_times_fresh"] is not None:
        line("state", f"{report['state_times_fresh']:g} times that of a replica that just wrote what is shown")
    line("sync", _counts(report["sync"]))
    line("told to users", _counts(report["events"]) or "nothing")
    line("played", _counts(report["played"]) or "no script")
    line("happened", _counts(report["happened"]) or "no faults")
    line("checked", _counts(report["checked"]))
    line("digest", report["digest"])
    return "\n".join(lines)


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def picture(run: Run) -> str:
    """SVG: how writes spread, with the theory beside it, and the run as a timeline."""
    return svg([_spread(run), _timeline(run)])


def _spread(run: Run) -> Panel:
    """Share of (write, host) pairs reached so long after the write."""
    delays = run.meter.to_each()
    expected = _theory(run)
    return Panel(
        f"A write on its way to {run.options.nodes} nodes",
        "ms after the write",
        "share of nodes",
        [
            Curve("measured", _curve(delays, sum(track.to - 1 for track in run.meter.tracks))),
            Curve(f"theory: {theory.NAME}", _curve(expected, len(expected)), dashed=True),
        ],
        log_x=True,
        y_max=1.0,
    )


def _curve(ascending: list[float], total: int) -> list[tuple[float, float]]:
    """The share of `total` that is there by each of these times, in so many points."""
    count = len(ascending)
    indices = sorted({number * count // CURVE_POINTS for number in range(1, CURVE_POINTS)} | {count - 1}) if count else []
    start = [(ascending[0], 0.0)] if count else []
    return start + [(ascending[index], (index + 1) / total) for index in indices]


def _theory(run: Run) -> list[float]:
    return theory.push_tree(run.options, run.mesh.world.rng("theory"))


def _timeline(run: Run) -> Panel:
    samples = run.samples
    agreeing = [(time, share) for time, share, _ in samples]
    alive = [(time, share) for time, _, share in samples]
    return Panel(
        "Who agrees, and who is taken for alive",
        "virtual seconds",
        "share",
        [Curve("largest group with one state", agreeing), Curve("members taken for alive", alive, dashed=True)],
        _spans(run),
        y_max=1.0,
    )


def _spans(run: Run) -> list[Span]:
    """What the script broke, from then until it was mended."""
    open_since: dict[str, float] = {}
    spans: list[Span] = []
    for line in sorted(run.script, key=lambda line: line.at or 0.0):
        at = run.fault_start + (line.at or 0.0)
        name = _broken(line)
        if name is None:
            continue
        if line.verb in ("mend", "restart") or "base" in line.options.values() or line.words[-1:] == ("good",):
            if name in open_since:
                spans.append(Span(open_since.pop(name), at, name))
        else:
            open_since.setdefault(name, at)
    return spans + [Span(start, run.fault_end, name) for name, start in open_since.items()]


def _broken(line: Line) -> str | None:
    """A name for what this line breaks or mends, the same for both."""
    match line.verb:
        case "cut":
            return f"cut {line.options.get('name', 'cut')}"
        case "mend":
            return f"cut {line.words[0]}"
        case "crash" | "restart":
            return f"down {line.words[0]}"
        case "disk":
            return f"disk {line.words[0]}"
        case "link":
            return f"{next(iter(line.options), 'link')} {' '.join(line.words)}"
        case _:
            return None


def heading(run: Run, commit: str) -> str:
    """Everything that is needed to repeat the run; printed before it begins."""
    options = run.options.describe()
    shown = ", ".join(f"{name}={_shown(value)}" for name, value in options.items() if name not in ("script", "finale"))
    lines = [f"seed {run.options.seed}, commit {commit}", *wrap(shown, 120, initial_indent="  ", subsequent_indent="  ")]
    if run.options.script:
        lines += ["  script:", *(f"    {line}" for line in run.script)]
    elif run.script:
        lines.append(f"  history drawn by the seed: {len(run.script)} lines, {len({line.verb for line in run.script})} verbs")
    if run.options.finale:
        lines += ["  finale:", *(f"    {line.strip()}" for line in run.options.finale.strip().splitlines())]
    return "\n".join(lines)


def _shown(value: Any) -> str:
    return (",".join(value) or "none") if isinstance(value, tuple) else f"{value:g}" if isinstance(value, float) else str(value)
