"""``mgc cache``."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from metagene_classifier import cache
from metagene_classifier.cli.main import main

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MGC_CACHE", str(tmp_path / "root"))
    return tmp_path / "root"


@pytest.fixture
def mgc_cache(capsys: pytest.CaptureFixture[str]) -> Run:
    """Exit code, standard output and standard error of ``mgc cache …``."""

    def run(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(["cache", *words])
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return run


@pytest.fixture
def three() -> None:
    for kind, key, what, size in (
        ("quantized", "aa11", "tiny-llama in nf4", 3_600_000),
        ("quantized", "aa22", "tiny-bert in int8", 1_000),
        ("embeddings", "bb33", "train.fa by tiny-llama", 10),
    ):
        folder = cache.write_entry(
            kind, key, what, {"n": 1}, lambda new, size=size: (new / "x").write_bytes(b"x" * size)
        )
        os.utime(folder / "entry.json", (0, 1_700_000_000))


def keys() -> list[str]:
    return [entry.key for entry in cache.entries()]


def test_the_table_says_kind_key_what_size_and_last_use(mgc_cache: Run, three: None, root: Path) -> None:
    code, out, err = mgc_cache("list")
    assert code == 0
    lines = out.splitlines()
    assert lines[0].split() == ["kind", "key", "what", "size", "last", "used"]
    assert lines[2].startswith("quantized   aa11  tiny-llama in nf4       3.6 MB  2023-11-1")
    assert [line.split()[1] for line in lines[1:]] == ["bb33", "aa11", "aa22"]
    assert err == f"3.6 MB in {root}\n"


def test_the_same_for_programs(mgc_cache: Run, three: None, root: Path) -> None:
    facts = json.loads(mgc_cache("list", "--json")[1])
    assert [(entry["kind"], entry["key"]) for entry in facts] == [
        ("embeddings", "bb33"),
        ("quantized", "aa11"),
        ("quantized", "aa22"),
    ]
    assert facts[1]["folder"] == str(root / "quantized" / "aa11")
    assert facts[1]["last_used"] == 1_700_000_000
    assert facts[1]["bytes"] > 3_600_000


def test_an_empty_cache_is_said_to_be_empty(mgc_cache: Run, root: Path) -> None:
    assert mgc_cache("list") == (0, "", f"nothing is cached in {root}\n")
    assert json.loads(mgc_cache("list", "--json")[1]) == []
    assert mgc_cache("clear") == (0, "", f"0 B freed: 0 entries removed from {root}\n")


@pytest.mark.parametrize(
    ("words", "left"),
    [
        ([], []),
        (["--kind", "quantized"], ["bb33"]),
        (["bb33"], ["aa11", "aa22"]),
        (["b"], ["aa11", "aa22"]),
        (["aa2"], ["bb33", "aa11"]),
    ],
)
def test_what_was_named_is_removed_and_the_space_told(mgc_cache: Run, three: None, words: list[str], left: list[str]):
    code, out, err = mgc_cache("clear", *words, "--yes")
    assert (code, out) == (0, "")
    assert keys() == left
    gone = 3 - len(left)
    assert f"freed: {gone} entr{'y' if gone == 1 else 'ies'} removed" in err


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["aa"], "aa: 2 entries begin so (quantized aa11, quantized aa22): give more of the key, or --kind"),
        (["aa12"], "aa12: no cached entry has this key: see 'mgc cache list'"),
        (["bb33", "--kind", "quantized"], "bb33: no cached entry has this key: see 'mgc cache list'"),
        (
            ["--kind", "quantised"],
            "--kind quantised: nothing of that kind is cached (did you mean 'quantized'?): there are embeddings, "
            "quantized",
        ),
    ],
)
def test_what_is_not_there_is_one_line_and_removes_nothing(mgc_cache: Run, three: None, words: list[str], line: str):
    assert mgc_cache("clear", *words) == (2, "", f"mgc: error: {line}\n")
    assert len(keys()) == 3


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("answer", "left"), [("n\n", 3), ("", 3), ("y\n", 0)])
def test_at_a_terminal_it_asks(
    mgc_cache: Run, three: None, monkeypatch: pytest.MonkeyPatch, root: Path, answer: str, left: int
):
    monkeypatch.setattr("sys.stdin", Terminal(answer))
    code, out, err = mgc_cache("clear")
    assert len(keys()) == left
    assert f"Remove 3 entries (3.6 MB) from {root}?" in err + out
    assert code == (130 if left else 0)


def test_where_nobody_can_be_asked_nothing_is_removed_without_yes(mgc_cache: Run, three: None):
    code, _, err = mgc_cache("clear")
    assert (code, err) == (
        2,
        "mgc: error: this would remove 3 entries (3.6 MB): give --yes where nobody can be asked\n",
    )
    assert len(keys()) == 3


def test_with_yes_it_does_not_ask(mgc_cache: Run, three: None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.stdin", Terminal(""))
    assert mgc_cache("clear", "--yes")[0] == 0
    assert keys() == []
