import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metagene_classifier.errors import DataError, OutputError
from metagene_classifier.store.facts import shard_path
from metagene_classifier.store.shards import Shard, write_shard
from metagene_classifier.store.tokens import TokenStore
from stores import store_of

READS = [([7, 8, 9], 0), ([], 1), ([1023] * 5, 2, 77)]


def written(folder, reads=READS, read_ids=None, dtype=np.uint16):
    return write_shard(
        folder,
        "shard-00000",
        ids=np.array([token for read in reads for token in read[0]], dtype),
        lengths=np.array([len(read[0]) for read in reads], np.int64),
        classes=np.array([read[1] for read in reads], np.int32),
        groups=np.array([read[2] if len(read) > 2 else 0 for read in reads], np.uint64),
        read_ids=read_ids,
    )


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32])
def test_a_shard_reads_back_as_it_was_written(tmp_path, dtype):
    written(tmp_path, dtype=dtype)
    shard = Shard.open(shard_path(tmp_path, "shard-00000"))
    assert shard.ids.dtype == dtype
    assert shard.ids.tolist() == [7, 8, 9] + [1023] * 5
    assert shard.offsets.tolist() == [0, 3, 3, 8]
    assert shard.classes.tolist() == [0, 1, 2]
    assert shard.groups.tolist() == [0, 0, 77]
    assert shard.read_ids is None
    assert not shard.ids.flags.writeable


def test_size_and_checksum_are_those_of_the_file(tmp_path):
    size, sha256 = written(tmp_path)
    content = shard_path(tmp_path, "shard-00000").read_bytes()
    assert (len(content), hashlib.sha256(content).hexdigest()) == (size, sha256)


def test_the_same_reads_give_the_same_bytes(tmp_path):
    assert written(tmp_path / "a", read_ids=["x", "y", "z"]) == written(tmp_path / "b", read_ids=["x", "y", "z"])


def test_the_same_shard_may_be_without_a_read(tmp_path):
    written(tmp_path, [], read_ids=[])
    shard = Shard.open(shard_path(tmp_path, "shard-00000"))
    assert (len(shard), shard.offsets.tolist(), shard.ids.tolist()) == (0, [0], [])


def test_a_shard_opens_with_pyarrow_alone(tmp_path):
    written(tmp_path, read_ids=["r1", "r2", "r3"])
    with pa.memory_map(str(shard_path(tmp_path, "shard-00000"))) as source:
        table = pa.ipc.open_stream(source).read_all()
    assert table.num_rows == 3
    assert table.column("tokens").to_pylist() == [[7, 8, 9], [], [1023] * 5]
    assert table.column("class").to_pylist() == [0, 1, 2]
    assert table.column("group").to_pylist() == [0, 0, 77]
    assert table.column("read_id").to_pylist() == ["r1", "r2", "r3"]
    assert len(table.column("tokens").chunks) == 1


def test_a_shard_opens_with_datasets(tmp_path):
    datasets = pytest.importorskip("datasets")
    written(tmp_path, read_ids=["r1", "r2", "r3"])
    data = datasets.Dataset.from_file(str(shard_path(tmp_path, "shard-00000")))
    assert data[2] == {"tokens": [1023] * 5, "class": 2, "group": 77, "read_id": "r3"}
    assert data.with_format("numpy")[0]["tokens"].tolist() == [7, 8, 9]


def test_no_file_stays_open_for_a_shard(tmp_path):
    psutil = pytest.importorskip("psutil")
    store = store_of(tmp_path, [([read], 0) for read in range(40)], shards=40)
    before = psutil.Process().num_fds()
    assert [int(tokens[0]) for tokens in store.tokens_of(np.arange(40))] == list(range(40))
    assert psutil.Process().num_fds() == before


def test_a_full_disk_is_one_line_and_leaves_no_shard(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("metagene_classifier.store.shards._Hashing.write", full)
    with pytest.raises(OutputError, match=r"no space left on the disk of .*shard-00000\.arrow"):
        written(tmp_path)
    assert list((tmp_path / "shards").iterdir()) == []


def test_arrays_that_do_not_belong_together_are_a_bug(tmp_path):
    with pytest.raises(ValueError, match="3 lengths, 2 classes"):
        write_shard(
            tmp_path,
            "shard-00000",
            ids=np.zeros(3, np.uint16),
            lengths=np.ones(3, np.int64),
            classes=np.zeros(2, np.int32),
            groups=np.zeros(3, np.uint64),
            read_ids=None,
        )


def test_reading_and_writing_imports_no_pandas(tmp_path):
    code = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from stores import store_of
store_of(Path({str(tmp_path)!r}), [([1, 2], 0)]).tokens(0)
assert not {{"pandas", "torch"}} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def damaged_line(path):
    return rf"^{path} is missing or damaged \(.+\): run the same mgc prepare again, it makes this shard anew$"


@pytest.mark.parametrize("content", [b"", b"not a shard", b"\xff\xff\xff\xff\x10\x00\x00\x00" + bytes(100)])
def test_what_is_no_shard_is_named(tmp_path, content):
    path = tmp_path / "shard-00000.arrow"
    path.write_bytes(content)
    with pytest.raises(DataError, match=damaged_line(path)):
        Shard.open(path)


def test_a_missing_shard_is_named(tmp_path):
    path = tmp_path / "shard-00000.arrow"
    with pytest.raises(DataError, match=damaged_line(path)):
        Shard.open(path)


def test_a_shard_that_ends_early_is_named(tmp_path):
    written(tmp_path)
    path = shard_path(tmp_path, "shard-00000")
    content = path.read_bytes()
    for size in range(0, len(content) - 8, 16):  # the last eight bytes say that no batch follows
        path.write_bytes(content[:size])
        with pytest.raises(DataError, match=damaged_line(path)):
            Shard.open(path)


def test_other_columns_are_refused(tmp_path):
    path = tmp_path / "other.arrow"
    batch = pa.record_batch({"tokens": pa.array([[1, 2]], pa.list_(pa.uint16())), "label": pa.array([0])})
    with pa.ipc.new_stream(str(path), batch.schema) as stream:
        stream.write_batch(batch)
    with pytest.raises(DataError, match=r"its columns are tokens, label"):
        Shard.open(path)


@pytest.fixture(scope="module")
def whole_store(tmp_path_factory):
    store = store_of(tmp_path_factory.mktemp("stores") / "store", READS)
    return store.folder, shard_path(store.folder, "shard-00000").read_bytes()


@settings(max_examples=300, deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), value=st.integers(1, 255))
def test_any_changed_byte_is_found_by_its_checksum_and_never_a_crash(whole_store, place, value):
    folder, whole = whole_store
    path = shard_path(folder, "shard-00000")
    content = bytearray(whole)
    content[int(place * len(content))] ^= value
    path.write_bytes(content)
    store = TokenStore.open(folder)
    assert store.damaged() == ["shard-00000"]
    try:
        store.tokens_of(np.arange(3))
        store.columns(0, 3).lengths.sum()
    except DataError as error:
        assert str(path) in str(error) and "\n" not in str(error)
