"""Inputs that broke something once: none of them does so again."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.fuzz import corpus

FOLDER = Path(__file__).parent / "corpus"
FILES = sorted(FOLDER.glob("*.txt"))


def test_there_is_a_corpus() -> None:
    assert FILES


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_is_harmless_now(path: Path) -> None:
    corpus.load(path).replay()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_says_what_was_wrong(path: Path) -> None:
    assert len(corpus.load(path).about) > 20


def test_what_is_saved_can_be_loaded(tmp_path: Path) -> None:
    target = corpus.load(FILES[0]).target
    path = corpus.save(tmp_path, "case", "two\nlines", target, (b"\x01\x02", b""))
    case = corpus.load(path)
    assert (case.name, case.about, case.target, case.inputs) == ("case", "two lines", target, (b"\x01\x02", b""))


@pytest.mark.parametrize("text", ["", "target: nobody\n00\n", "target: cbor\n", "target: cbor\nxyz\n"])
def test_a_damaged_file_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "broken.txt"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"broken\.txt"):
        corpus.load(path)
