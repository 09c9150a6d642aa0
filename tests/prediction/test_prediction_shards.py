"""Which reads are in which shard, and that joining them gives the whole again."""

import gzip
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.prediction.shard_files import HEADER, write_shard, write_shards

from metagene_classifier.errors import ConfigError, DataError
from metagene_classifier.prediction.merging import find_shards, join_shards, what_differs
from metagene_classifier.prediction.shards import Census, Shard, parse_shard, shard_of_name, shard_path
from metagene_classifier.reads.blocks import in_blocks
from metagene_classifier.reads.files import read_records
from metagene_classifier.reads.read import Read

ROWS = [f"r{number},a\n" for number in range(7)]


@given(reads=st.integers(0, 60), size=st.integers(1, 9), count=st.integers(1, 12))
def test_every_read_is_in_one_shard_in_whole_blocks(reads, size, count):
    records = [Read(str(number), "A") for number in range(reads)]
    shares = [list(Shard(number, count).own(in_blocks(records, size))) for number in range(1, count + 1)]
    blocks = list(in_blocks(records, size))
    assert [block for turn in range(len(blocks)) for share in shares for block in share[turn : turn + 1]] == blocks
    assert [Shard(number, count).blocks(len(blocks)) for number in range(1, count + 1)] == list(map(len, shares))


def test_a_shard_is_named_as_people_count():
    assert parse_shard("2/8") == Shard(2, 8)
    assert str(parse_shard("1/1")) == "1/1"
    for wrong, told in [("0/8", "counted from 1"), ("9/8", "counted from 1"), ("2", "as in --shard 2/8"), ("", "2/8")]:
        with pytest.raises(ConfigError, match=told):
            parse_shard(wrong)


@pytest.mark.parametrize("name", ["calls.csv", "calls", "a.b.csv", "calls.1-of-2.csv"])
def test_a_shard_file_tells_its_output_and_number(name):
    path = shard_path(Path("out") / name, Shard(3, 12))
    assert path.parent == Path("out")
    assert shard_of_name(path) == (name, Shard(3, 12))


def test_other_names_are_no_shards():
    assert shard_path(Path("calls.csv"), Shard(2, 8)) == Path("calls.2-of-8.csv")
    for name in ("calls.csv", "calls.2-of-8.csv.json", "calls.2-of-8.csv.partial", "calls.2-of-.csv"):
        assert shard_of_name(Path(name)) is None


def test_the_same_reads_are_known_under_any_name_compression_and_wrapping(tmp_path):
    def digest(path):
        census = Census()
        list(census.watch(in_blocks(read_records(path), 2)))
        return census.reads, census.digest

    plain, packed, wrapped, moved, renamed = (tmp_path / name for name in ("a.fa", "b.gz", "c.fa", "d.fa", "e.fa"))
    plain.write_text(">one\nACGT\n>two\nGG\n>three\nTT\n")
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    wrapped.write_text(">one\nAC\nGT\n>two\nGG\n>three\nTT\n")
    moved.write_text(">two\nGG\n>one\nACGT\n>three\nTT\n")
    renamed.write_text(">one\nACGT\n>two\nGG\n>four\nTT\n")
    assert digest(plain) == digest(packed) == digest(wrapped)
    assert digest(plain)[0] == 3
    assert len({digest(path)[1] for path in (plain, moved, renamed)}) == 3


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.text(st.characters(codec="utf-8"), max_size=6).map(lambda text: f'"{text}"\n'), max_size=40),
    size=st.integers(1, 6),
    count=st.integers(1, 9),
)
def test_joined_shards_are_the_whole_whatever_stands_in_the_rows(rows, size, count):
    """Line ends inside a quoted cell too: rows are parted by their length and never by their text."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        paths = write_shards(folder, rows, count, size)
        shards = find_shards(list(reversed(paths)), folder / "calls.csv")
        report = join_shards(shards, folder / "calls.csv")
        assert (folder / "calls.csv").read_bytes() == (HEADER + "".join(rows)).encode()
        assert (report.reads, report.empty) == (len(rows), count)


def found(named, output=Path("calls.csv")):
    return [shard.csv.name for shard in find_shards(named, output)]


def test_shards_are_found_by_name_by_folder_and_beside_the_output(tmp_path):
    paths = write_shards(tmp_path, ROWS, 3)
    names = [path.name for path in paths]
    (tmp_path / "calls.2-of-3.csv.partial").write_text("")
    (tmp_path / "other.1-of-2.csv").write_text("")
    beside = [path for path in tmp_path.iterdir() if path.name.startswith("calls.") and "partial" not in path.name]
    assert found(paths) == found(beside) == found([tmp_path]) == found([], tmp_path / "calls.csv") == names


def test_ten_shards_come_in_the_order_of_their_numbers(tmp_path):
    assert found(write_shards(tmp_path, ROWS, 10)) == [f"calls.{number}-of-10.csv" for number in range(1, 11)]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"input_sha256": "others"}, r"their reads are others, reads.fq with 7 reads and reads.fq with 7 reads"),
        ({"model_sha256": "others", "model": "old/best"}, "their models are others, run/best and old/best"),
        ({"options": {"long reads": "truncate"}}, "long reads is window and truncate"),
        ({"options": {"long reads": "window", "probabilities": True}}, "probabilities is False and True"),
    ],
)
def test_shards_of_different_runs_are_refused_by_name(changes, told, tmp_path):
    paths = [write_shard(tmp_path, ROWS, "1/2"), write_shard(tmp_path, ROWS, "2/2", **changes)]
    with pytest.raises(DataError, match=f"calls.1-of-2.csv and .*calls.2-of-2.csv do not belong together: {told}"):
        found(paths)


def test_another_cut_is_refused(tmp_path):
    with pytest.raises(DataError, match="they are of 2 shards and of 3"):
        found([write_shard(tmp_path, ROWS, "1/2"), write_shard(tmp_path, ROWS, "2/3")])
    with pytest.raises(DataError, match="their blocks have 2 reads and 3"):
        found([write_shard(tmp_path, ROWS, "1/2"), write_shard(tmp_path, ROWS, "2/2", block_reads=3)])


def test_missing_shards_are_told_as_a_job_array_takes_them(tmp_path):
    paths = write_shards(tmp_path, ROWS, 5)
    with pytest.raises(DataError, match=r"2 of 5 shards missing: 2,4: run them \(again\), as in --shard 2/5"):
        found([paths[0], paths[2], paths[4]])


def test_a_shard_that_is_there_twice_is_refused(tmp_path):
    (tmp_path / "again").mkdir()
    paths = [*write_shards(tmp_path, ROWS, 2), write_shard(tmp_path / "again", ROWS, "2/2")]
    with pytest.raises(DataError, match=r"shard 2/2 is there twice: .*calls.2-of-2.csv and .*again"):
        found(paths)


def test_a_shard_without_its_facts_is_not_finished(tmp_path):
    paths = write_shards(tmp_path, ROWS, 2)
    (tmp_path / "calls.2-of-2.csv.json").unlink()
    with pytest.raises(DataError, match=r"calls.2-of-2.csv is no finished shard, calls.2-of-2.csv.json is not beside"):
        found(paths)
    with pytest.raises(DataError, match="no such file"):
        found([tmp_path / "nowhere.csv"])


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema_version": 1}', "\0"])
def test_damaged_facts_are_told(text, tmp_path):
    path = write_shard(tmp_path, ROWS, "1/1")
    path.with_name(f"{path.name}.json").write_text(text)
    with pytest.raises(DataError, match=r"calls.1-of-1.csv.json is damaged \(.*run that shard again"):
        found([path])


def test_facts_of_a_later_version_or_of_other_blocks_are_told(tmp_path):
    with pytest.raises(DataError, match="later version: upgrade"):
        found([write_shard(tmp_path, ROWS, "1/1", schema_version=99)])
    with pytest.raises(DataError, match="its blocks are not those of shard 1/1"):
        found([write_shard(tmp_path, ROWS, "1/1", block_bytes=[3])])


def changed(path, how):
    content = path.read_bytes()
    path.write_bytes({"cut": content[:-1], "longer": content + b"\n", "other": content[:-2] + b"x\n"}[how])


@pytest.mark.parametrize("how", ["cut", "longer", "other"])
@pytest.mark.parametrize("number", [0, 2])
def test_a_changed_file_is_refused_and_the_output_stays(number, how, tmp_path):
    paths = write_shards(tmp_path, ROWS, 3)
    output = tmp_path / "calls.csv"
    output.write_text("mine")
    changed(paths[number], how)
    with pytest.raises(DataError, match=rf"calls.{number + 1}-of-3.csv is not the file .*run shard {number + 1}/3 aga"):
        join_shards(find_shards(paths, output), output)
    assert output.read_text() == "mine"
    assert not list(tmp_path.glob("*.partial"))


def test_what_may_move_last_digits_is_told_and_no_more(tmp_path):
    there = {"device": "cpu", "tokens at once": 1024}
    paths = [write_shard(tmp_path, ROWS, "1/2"), write_shard(tmp_path, ROWS, "2/2", circumstances=there)]
    assert what_differs(find_shards(paths, tmp_path / "calls.csv")) == ["tokens at once: 2048, 1024"]
    assert what_differs(find_shards(write_shards(tmp_path, ROWS, 2), tmp_path / "calls.csv")) == []
