"""What people write and read: units, scripts, pictures."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.testing import Fixed, LogNormal, PerLink, Uniform
from tools.sim import units
from tools.sim.figure import Curve, Panel, Span, svg
from tools.sim.script import Line, parse, parse_line, render


@pytest.mark.parametrize(
    ("text", "value"),
    [("30ms", 0.03), ("2s", 2.0), ("1.5h", 5_400.0), ("30d", 2_592_000.0), ("7", 7.0), ("-1h", -3_600.0), ("250us", 0.00025)],
)
def test_durations(text: str, value: float) -> None:
    assert units.seconds(text) == pytest.approx(value)


def test_shares_rates_and_delays() -> None:
    assert [units.share(text) for text in ("10%", "0.1", "100%", "0")] == [0.1, 0.1, 1.0, 0.0]
    assert [units.rate(text) for text in ("8Mbit/s", "100kB/s")] == [1_000_000, 100_000]
    assert units.delay("30ms") == Fixed(30_000)
    assert units.delay("10-50ms") == Uniform(10_000, 50_000)
    assert units.delay("10ms-1s") == Uniform(10_000, 1_000_000)
    assert units.delay("links:10-50ms", seed=3) == PerLink(10_000, 50_000, jitter=2_000, seed=3)
    assert units.delay("lognormal:30ms,0.7") == LogNormal(30_000, 0.7)


@pytest.mark.parametrize(
    ("parser", "text"),
    [
        (units.seconds, "soon"),
        (units.seconds, "3 parsecs"),
        (units.share, "110%"),
        (units.share, "-1%"),
        (units.rate, "8"),
        (units.rate, "0kB/s"),
        (units.delay, "50-10ms"),
        (units.delay, "normal:3ms"),
        (units.delay, "lognormal:3ms,x"),
        (lambda text: units.hosts(text, 5), "0-5"),
        (lambda text: units.hosts(text, 5), "0-999999999"),
        (lambda text: units.hosts(text, 5), "a"),
    ],
)
def test_a_text_that_says_nothing_is_refused_by_name(parser: object, text: str) -> None:
    assert callable(parser)
    with pytest.raises(units.TextError, match=text[:3]):
        parser(text)


@given(st.sets(st.integers(0, 40)))
def test_sets_of_hosts_read_back(chosen: set[int]) -> None:
    if chosen:
        assert units.hosts(units.hosts_text(chosen), 41) == sorted(chosen)
    assert units.hosts("*", 3) == [0, 1, 2]


@given(st.floats(0.001, 1e6).map(lambda value: round(value, 6)))
def test_durations_read_back(value: float) -> None:
    assert units.seconds(units.duration_text(value)) == pytest.approx(value, rel=1e-6, abs=1e-6)


def test_a_script_is_lines_of_verbs() -> None:
    lines = parse("# a comment\nwrite 0 a/b 'two words'   # why\n\n3.5s cut 0-3 | 4-7 name=a\n")
    assert lines == [Line("write", ("0", "a/b", "two words")), Line("cut", ("0-3", "|", "4-7"), {"name": "a"}, 3.5)]
    assert render(lines) == "write 0 a/b 'two words'\n3.5s cut 0-3 | 4-7 name=a\n"
    for bad in ("write 'x", "2s"):
        with pytest.raises(units.TextError, match="line 1"):
            parse(bad)


words = st.text(st.characters(blacklist_categories=("Cs", "Cc", "Zl", "Zp")), min_size=1, max_size=8).filter(
    lambda word: "=" not in word
)


@given(st.sampled_from(["run", "cut"]), st.lists(words, max_size=4), st.one_of(st.none(), st.integers(1, 10**7)))
def test_every_line_reads_back(verb: str, arguments: list[str], when: int | None) -> None:
    line = Line(verb, tuple(arguments), {"name": "a b"}, None if when is None else when / 1_000)
    assert parse_line(str(line)) == line


def test_a_picture_is_well_formed_and_shows_its_curves() -> None:
    text = svg(
        [
            Panel(
                "A <cut>",
                "s",
                "share",
                [Curve("up", [(0, 0), (1, 0.5), (2, 1)]), Curve("theory", [(0, 0), (2, 1)], dashed=True)],
                [Span(0.5, 1, "cut")],
            ),
            Panel("empty", "x", "y", [Curve("none", [])]),
        ]
    )
    tree = ET.fromstring(text)
    paths = [element.get("d", "") for element in tree.iter("{http://www.w3.org/2000/svg}path")]
    assert sum(path.count("L") == 2 for path in paths) == 1
    assert "A <cut>" in [element.text for element in tree.iter("{http://www.w3.org/2000/svg}text")]
