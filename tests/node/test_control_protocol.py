"""The local socket's lines: every value survives, no line is too long, no path is too long."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crdt.ops import Value
from mesh.control.json_values import from_json_untrusted, to_json
from mesh.control.protocol import LINE_BYTES_MAX, Lines, SocketPath, decode_line_untrusted, encode_line, someone_listens
from mesh.errors import ConfigError, Malformed

VALUES: st.SearchStrategy[Value] = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**64), 2**64 - 1), st.floats(allow_nan=False), st.text(), st.binary()),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.one_of(st.text(), st.binary(), st.just("$bytes")), inner)),
    max_leaves=12,
)


@settings(deadline=None, max_examples=200)
@given(VALUES)
def test_every_value_survives_the_way_there_and_back(value: Value) -> None:
    assert from_json_untrusted(json.loads(json.dumps(to_json(value), allow_nan=False))) == value


def test_a_set_is_printed_in_the_same_order_everywhere() -> None:
    assert to_json({"b", "a", 10, 9, b"x"}) == [9, 10, "a", "b", {"$bytes": "eA=="}]


@pytest.mark.parametrize(
    "strange", [{"$bytes": "?"}, {"$bytes": 1}, {"$what": 1}, {"a": 1, "$bytes": "eA=="}, {"$map": [[1, 2]]}, {"$map": [["a"]]}]
)
def test_an_object_that_only_looks_like_ours_is_refused(strange: object) -> None:
    with pytest.raises(Malformed):
        from_json_untrusted(strange)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.dictionaries(st.text(max_size=5), st.text(max_size=20), max_size=3), max_size=5), st.data())
def test_lines_come_out_whole_however_the_stream_is_cut(messages: list[dict[str, str]], data: st.DataObject) -> None:
    stream = b"".join(encode_line(message) for message in messages)
    lines, seen = Lines(), []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        lines.feed(stream[:size])
        stream = stream[size:]
        while (line := lines.next()) is not None:
            seen.append(decode_line_untrusted(line))
    assert seen == messages


def test_a_line_has_a_limit_on_both_sides() -> None:
    with pytest.raises(ConfigError, match="ask for a part"):
        encode_line({"value": "x" * LINE_BYTES_MAX})
    lines = Lines()
    lines.feed(b"x" * (LINE_BYTES_MAX + 1))
    with pytest.raises(Malformed):
        lines.next()


@pytest.mark.parametrize("line", [b"", b"\xff", b"[1]", b"{", b"[" * 100_000])
def test_a_line_that_is_no_message_is_malformed(line: bytes) -> None:
    with pytest.raises(Malformed):
        decode_line_untrusted(line)


def test_a_data_directory_may_be_deeper_than_a_socket_path_is_long(tmp_path: Path) -> None:
    """A kernel takes 107 bytes: nodes in deep directories once had no control socket."""
    deep = tmp_path.joinpath(*["directory-with-a-long-name"] * 6)
    deep.mkdir(parents=True)
    assert not someone_listens(deep)
    with SocketPath(deep) as address, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(address)
        assert not someone_listens(deep), "left over by a process that is gone"
        listener.listen()
        assert someone_listens(deep)
