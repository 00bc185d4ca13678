"""Looking at the mesh through the local node: members, status, get, watch, history."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from tools.cli import complain
from tools.cli.home import dir_option, find_home
from tools.cli.output import escape, is_terminal, json_option, print_json, print_pairs, print_table, show_value
from tools.cli.put import TIMEOUT
from tools.control import Client, ControlError

type_option = click.option("--type", "type_name", metavar="TYPE", help="register, counter, set ...: where a path has several.")


@click.command()
@dir_option
@json_option
def members(directory: Path | None, as_json: bool) -> None:
    """List the members that the local node knows."""
    with Client(find_home(directory).data_dir) as node:
        found = node.ask("members")
    if as_json:
        print_json(found)
        return
    print_table(
        ("NAME", "STATE", "ADDRESS", "RTT", "INCARNATION", "REPLICA"),
        (
            (
                m["name"],
                m["state"] + (" (this one)" if m["me"] else ""),
                m["address"],
                _rtt(m["rtt_ms"]),
                str(m["incarnation"]),
                m["replica"],
            )
            for m in found
        ),
    )


@click.command()
@dir_option
@json_option
def status(directory: Path | None, as_json: bool) -> None:
    """Show how the local node is.

    With --json: every counter that it keeps.
    """
    with Client(find_home(directory).data_dir) as node:
        found = node.ask("status")
    if as_json:
        print_json(found)
        return
    states = ", ".join(f"{count} {state}" for state, count in found["members"].items())
    statistics = found["statistics"]
    drops = ", ".join(f"{reason} {count}" for reason, count in statistics["drops"].items()) or "none"
    traffic = statistics["socket"]
    print_pairs(
        [
            ("name", found["name"]),
            ("replica", found["replica"]),
            ("mesh", found["mesh"]),
            ("address", found["address"]),
            ("members", states),
            ("in step", "yes" if found["synced"] else "not yet: still catching up"),
            ("quorum", _quorum(found["quorum"])),
            ("clock", _clock(found["clock_offset_s"])),
            ("up for", f"{found['uptime_s']:.0f} s"),
            ("received", f"{traffic.get('received', 0)} datagrams, {traffic.get('received_bytes', 0)} bytes"),
            ("sent", f"{traffic.get('sent', 0)} datagrams, {traffic.get('sent_bytes', 0)} bytes"),
            ("dropped", drops),
            *(("ended", each["told"]) for each in statistics["ended"]),
        ]
    )


def _quorum(found: dict[str, Any]) -> str:
    if not found["voters"]:
        return "none"
    names = ", ".join(voter["name"] for voter in found["voters"])
    if found["leader"] is None:
        return f"led by {why_nobody_leads(found['voters'])}"
    return f"{found['leader']} of {names}, index {found['commit_index']}"


def why_nobody_leads(voters: Sequence[dict[str, Any]]) -> str:
    alive, needed = sum(voter["state"] == "alive" for voter in voters), len(voters) // 2 + 1
    if alive >= needed:
        return "nobody that is known here: the voters elect one now, or cannot reach each other"
    return f"nobody: {alive} of {len(voters)} voters alive, {needed} needed. Bring them back; if lost for ever: mesh quorum reset"


def _clock(offset_s: float | None) -> str:
    if offset_s is None:
        return "no peer to compare with"
    return f"{abs(offset_s):.3f} s {'behind' if offset_s > 0 else 'ahead of'} the median of the peers"


@click.command()
@click.argument("path")
@type_option
@dir_option
@click.option("--now", is_flag=True, help="Of a critical path: ask the quorum what is there now, not what was proven here.")
@click.option("--timeout", type=TIMEOUT, default=10.0, show_default=True, help="With --now: seconds to wait for a majority.")
@json_option
def get(path: str, type_name: str | None, directory: Path | None, now: bool, timeout: float, as_json: bool) -> None:
    """Print the value at PATH.

    When PATH ends with a slash: all values at and below it. `mesh get /` prints everything.
    """
    with Client(find_home(directory).data_dir, timeout=30 + timeout) as node:
        if path.endswith("/"):
            _print_values(node.stream("snapshot", prefix=path, type=type_name), as_json)
            return
        found = node.ask("get", path=path, type=type_name, now=now, timeout=timeout)
    if not found:
        what = f"no {type_name}" if type_name else "nothing"
        raise ControlError(f"{what} at {path}: `mesh get {path}/` lists what is below it, `mesh get /` everything")
    if len(found) > 1:
        types = ", ".join(item["type"] for item in found)
        raise click.UsageError(f"{path} holds several types ({types}): say which with --type.", click.get_current_context())
    if as_json:
        print_json(found[0])
    else:
        text = show_value(found[0]["value"])
        click.echo(escape(text) if is_terminal() else text)


@click.command()
@click.argument("prefix", default="/")
@type_option
@dir_option
@json_option
def watch(prefix: str, type_name: str | None, directory: Path | None, as_json: bool) -> None:
    """Print what is below PREFIX, then every change.

    Until Ctrl-C. A value that is gone is printed as (gone); with --json it has no dot.
    """
    with Client(find_home(directory).data_dir) as node:
        try:
            for item in node.stream("watch", prefix=prefix, type=type_name):
                _print_change(item, as_json)
        except KeyboardInterrupt:
            return


def _print_change(item: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(item)
    elif item["event"] == "changed":
        value = show_value(item["value"]) if item["dot"] else "(gone)"
        if is_terminal():
            click.echo(f"{click.style(item['path'], bold=True)}  {click.style(item['type'], dim=True)}  {escape(value)}")
        else:
            click.echo("\t".join((item["path"], item["type"], escape(value))))
    elif item["event"] == "lagged":
        complain(f"{item['n']} changes came faster than they could be printed; what follows is the newest state")


@click.command()
@click.argument("path")
@type_option
@dir_option
@json_option
def history(path: str, type_name: str | None, directory: Path | None, as_json: bool) -> None:
    """Show who wrote at PATH, and why one won."""
    with Client(find_home(directory).data_dir) as node:
        found = node.ask("history", path=path, type=type_name)
    if not found:
        raise ControlError(f"nothing at {path}: `mesh get /` lists what there is")
    if as_json:
        print_json(found)
        return
    print_table(
        ("AUTHOR", "WRITTEN (its clock)", "TYPE", "VALUE", "SHOWN", "WHY", "DOT"),
        (
            (
                entry["author"],
                show_time(entry["time"]),
                entry["type"],
                _written(entry, path) if entry["kind"] == "value" else f"({entry['kind']}{_element(entry, path)})",
                "yes" if entry["shown"] else "no",
                entry["why"],
                entry["dot"],
            )
            for entry in found
        ),
    )


def _element(entry: dict[str, Any], path: str) -> str:
    """Which of a set, a list or a log this write is about: that is in its path."""
    return " " + entry["path"][len(path) + 1 :] if len(entry["path"]) > len(path) else ""


def _written(entry: dict[str, Any], path: str) -> str:
    element = _element(entry, path).strip()
    return element if element and entry["value"] is None else f"{show_value(entry['value'])} {element}".strip()


def _print_values(items: Iterator[dict[str, Any]], as_json: bool) -> None:
    if as_json or not is_terminal():
        for item in items:
            print_json(item) if as_json else print_table((), [(item["path"], item["type"], show_value(item["value"]))])
        return
    print_table(("PATH", "TYPE", "VALUE"), ((item["path"], item["type"], show_value(item["value"])) for item in items))


def show_time(microseconds: int) -> str:
    """In UTC: members are in many places, and the clocks are those of the authors."""
    try:
        return datetime.fromtimestamp(microseconds / 1e6, UTC).isoformat(sep=" ", timespec="milliseconds").removesuffix("+00:00")
    except (OverflowError, ValueError, OSError):
        return f"{microseconds} us"


def _rtt(milliseconds: float | None) -> str:
    return "-" if milliseconds is None else f"{milliseconds:.1f} ms"
