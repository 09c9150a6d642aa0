"""What is kept on disk between runs: whole or absent, and never anything outside its root."""

import multiprocessing
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metagene_classifier import cache
from metagene_classifier.errors import OutputError

WORDS = b"four score and seven"


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "root"
    monkeypatch.setenv("MGC_CACHE", str(folder))
    return folder


def fill(folder: Path) -> None:
    (folder / "weights").write_bytes(WORDS)
    (folder / "more").mkdir()
    (folder / "more" / "weights").write_bytes(WORDS)


def written(kind: str = "quantized", key: str = "k1") -> Path:
    return cache.write_entry(kind, key, "tiny-llama in nf4", {"dtype": "bfloat16"}, fill)


def left_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"MGC_CACHE": "/big/disk"}, "/big/disk"),
        ({"MGC_CACHE": "~/mgc"}, "/people/ada/mgc"),
        ({"XDG_CACHE_HOME": "/var/ada"}, "/var/ada/metagene-classifier"),
        ({"MGC_CACHE": "", "XDG_CACHE_HOME": ""}, "/people/ada/.cache/metagene-classifier"),
        ({}, "/people/ada/.cache/metagene-classifier"),
    ],
)
def test_the_root_is_where_the_environment_says(monkeypatch, variables, expected):
    for name in ("MGC_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/people/ada")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cache.cache_root() == Path(expected)


@pytest.mark.parametrize(("value", "off"), [(None, False), ("", False), ("0", False), ("1", True), ("true", True)])
def test_it_can_be_turned_off(monkeypatch, value, off):
    monkeypatch.delenv("MGC_NO_CACHE", raising=False)
    if value is not None:
        monkeypatch.setenv("MGC_NO_CACHE", value)
    assert cache.caching_is_off() is off


def test_an_entry_is_found_again_as_it_was_written(root):
    folder = written()
    assert folder == root / "quantized" / "k1"
    assert (folder / "more" / "weights").read_bytes() == WORDS
    entry = cache.find_entry("quantized", "k1")
    assert entry is not None
    assert (entry.kind, entry.key, entry.description) == ("quantized", "k1", "tiny-llama in nf4")
    assert entry.facts == {"dtype": "bfloat16"}
    assert entry.bytes == 2 * len(WORDS) + (folder / "entry.json").stat().st_size
    assert entry.created.endswith("+00:00")
    assert cache.what_is_damaged(entry) is None
    assert cache.find_entry("quantized", "k2") is None
    written(key="k0")
    written(kind="a")
    assert [(found.kind, found.key) for found in cache.entries()] == [
        ("a", "k1"),
        ("quantized", "k0"),
        ("quantized", "k1"),
    ]


def test_a_cache_that_does_not_exist_is_an_empty_one(root):
    assert cache.entries() == []
    assert cache.clear() == 0
    assert not root.exists()


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_what_broke_off_leaves_nothing(root, error):
    def broken(folder):
        fill(folder)
        raise error

    with pytest.raises(error):
        cache.write_entry("quantized", "k1", "", {}, broken)
    assert cache.entries() == []
    assert left_in(root) == {"quantized"}


def test_a_full_disk_is_one_line_and_leaves_nothing(root):
    def full(folder):
        fill(folder)
        raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match=r"cannot write to the cache .*No space left on device.*MGC_CACHE"):
        cache.write_entry("quantized", "k1", "", {}, full)
    assert left_in(root) == {"quantized"}


def test_a_root_that_cannot_be_a_folder_is_one_line(root):
    root.write_text("a file")
    for make in (written, lambda: cache.growing_entry("embeddings", "k1", "", {})):
        with pytest.raises(OutputError, match="cannot write to the cache"):
            make()
    assert cache.entries() == []
    assert cache.clear() == 0


def test_of_two_writers_at_once_the_first_wins_and_both_go_on(root):
    def slow(folder):
        written()  # another process, meanwhile
        (folder / "weights").write_bytes(b"the same, but later")

    assert cache.write_entry("quantized", "k1", "", {}, slow) == root / "quantized" / "k1"
    assert (root / "quantized" / "k1" / "weights").read_bytes() == WORDS
    assert [path.name for path in (root / "quantized").iterdir()] == ["k1"]


def _write_and_read(times: int) -> int:
    """Entries seen whole, in a process of its own."""
    whole = 0
    for time in range(times):
        written(key=f"k{time}")
        entry = cache.find_entry("quantized", f"k{time}")
        whole += entry is not None and cache.what_is_damaged(entry) is None
    return whole


def test_processes_that_write_the_same_entries_at_once_all_see_whole_ones(root):
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        assert pool.map(_write_and_read, [20] * 3) == [20] * 3
    assert len(cache.entries()) == 20
    assert not [path for path in root.rglob("*") if path.name.endswith(".partial")]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(place=st.integers(0, len(WORDS) - 1), change=st.integers(1, 255), cut=st.booleans())
def test_any_byte_changed_or_lost_is_noticed(root, place, change, cut):
    shutil.rmtree(root, ignore_errors=True)
    path = written() / "more" / "weights"
    content = bytearray(WORDS)
    content[place] ^= change
    path.write_bytes(WORDS[:place] if cut else bytes(content))
    entry = cache.find_entry("quantized", "k1")
    assert entry is not None
    assert cache.what_is_damaged(entry) == "more/weights"


@pytest.mark.parametrize("content", ["", "{", "[]", '{"description": "x"}'])
def test_an_entry_whose_description_is_damaged_is_listed_as_such_and_can_be_removed(root, content):
    (written() / "entry.json").write_text(content)
    (entry,) = cache.entries()
    assert "damaged" in entry.description
    assert cache.what_is_damaged(entry) == "entry.json"
    assert cache.clear("quantized", "k1") == entry.bytes
    assert cache.entries() == []


def test_a_file_that_is_gone_is_noticed():
    (written() / "weights").unlink()
    entry = cache.find_entry("quantized", "k1")
    assert entry is not None
    assert cache.what_is_damaged(entry) == "weights"


def test_use_is_remembered():
    folder = written()
    os.utime(folder / "entry.json", (0, 1_000_000))
    assert cache.entries()[0].last_used == 1_000_000
    cache.mark_used(folder)
    assert cache.entries()[0].last_used > 1_000_000
    cache.mark_used(folder / "not there")


def test_a_growing_entry_is_there_from_its_first_moment_and_keeps_what_is_in_it():
    folder = cache.growing_entry("embeddings", "k1", "reads.fa by tiny-llama", {"reads": 3})
    (folder / "part-0").write_bytes(WORDS)
    assert cache.what_is_damaged(cache.entries()[0]) is None
    assert cache.growing_entry("embeddings", "k1", "something else", {}) == folder
    (entry,) = cache.entries()
    assert (entry.description, entry.facts) == ("reads.fa by tiny-llama", {"reads": 3})
    assert (folder / "part-0").read_bytes() == WORDS
    assert cache.clear("embeddings") == entry.bytes
    assert not folder.exists()


@pytest.mark.parametrize(
    ("kind", "key", "left"),
    [
        (None, None, []),
        ("embeddings", None, ["quantized/k1", "quantized/k2"]),
        ("quantized", "k1", ["embeddings/k1", "quantized/k2"]),
        (None, "k2", ["embeddings/k1", "quantized/k1"]),
        ("no such", None, ["embeddings/k1", "quantized/k1", "quantized/k2"]),
    ],
)
def test_clearing_takes_what_was_named(kind, key, left):
    for place in ("embeddings/k1", "quantized/k1", "quantized/k2"):
        written(*place.split("/"))
    before = sum(entry.bytes for entry in cache.entries())
    freed = cache.clear(kind, key)
    assert [f"{entry.kind}/{entry.key}" for entry in cache.entries()] == left
    assert freed == before - sum(entry.bytes for entry in cache.entries())


def test_clearing_takes_what_broken_off_writing_left(root):
    (root / "quantized" / ".k1.abc.partial").mkdir(parents=True)
    (root / "quantized" / ".k1.abc.partial" / "weights").write_bytes(WORDS)
    assert cache.clear() == len(WORDS)
    assert left_in(root) == {"quantized"}


def test_clearing_follows_no_link_and_touches_nothing_that_is_not_an_entry(root, tmp_path):
    """Someone may name their home as the root."""
    elsewhere = written().parent
    shutil.move(elsewhere, tmp_path / "elsewhere")
    elsewhere = tmp_path / "elsewhere"
    real = written(key="real")
    (real / "link").symlink_to(elsewhere)
    (root / "linked-kind").symlink_to(elsewhere)
    (root / "quantized" / "linked-key").symlink_to(elsewhere / "k1")
    (root / "quantized" / ".linked.partial").symlink_to(elsewhere)
    (root / "documents" / "thesis").mkdir(parents=True)
    (root / "documents" / "thesis" / "chapter-1").touch()
    (root / "notes").touch()
    assert [entry.key for entry in cache.entries()] == ["real"]
    cache.clear()
    assert not real.exists()
    assert (elsewhere / "k1" / "weights").read_bytes() == WORDS
    assert (root / "documents" / "thesis" / "chapter-1").exists()
    assert (root / "notes").exists()
    assert (root / "linked-kind" / "k1").exists()


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "/etc", ".hidden", "a\0b", "k1\n"])
def test_a_name_that_could_lead_elsewhere_is_refused(name):
    for kind, key in ((name, "k1"), ("quantized", name)):
        with pytest.raises(ValueError, match="cannot be the name"):
            cache.entry_folder(kind, key)


def test_others_may_read_what_the_umask_lets_them_read(monkeypatch):
    def private(folder):
        fill(folder)
        (folder / "weights").chmod(0o600)

    before = os.umask(0o022)
    try:
        folder = cache.write_entry("quantized", "k1", "", {}, private)
    finally:
        os.umask(before)
    assert folder.stat().st_mode & 0o777 == 0o755
    assert (folder / "weights").stat().st_mode & 0o777 == 0o644
