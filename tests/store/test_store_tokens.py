import shutil
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import Pipe, get_context

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metagene_classifier.errors import DataError
from metagene_classifier.reads.labels import write_mapping
from metagene_classifier.store.facts import MAPPING_FILE, STORE_FILE, read_shard_facts, read_store_facts, shard_path
from metagene_classifier.store.tokens import TokenStore
from stores import TOKENIZER, labels_of, store_of

READS = [([7, 8, 9], 0), ([], 1), ([1023] * 5, 2, 77), ([4], 0), ([5, 6], 0)]
ANY_FOLDER = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@pytest.fixture
def store(tmp_path):
    return store_of(tmp_path / "store", READS, shards=[2, 0, 1, 2], classes=4, read_ids=list("abcde"))


def numbers(*reads):
    return np.array(reads, np.int64)


def test_reads_are_numbered_over_all_shards(store):
    assert len(store) == 5
    assert [store.tokens(read).tolist() for read in range(5)] == [read[0] for read in READS]
    assert [store.read_id(read) for read in range(5)] == list("abcde")
    assert store.labels == labels_of(4)


def test_what_is_known_of_the_whole_store(store):
    assert store.reads_per_class.tolist() == [3, 1, 1, 0]
    assert (store.total_tokens, store.longest, store.token_bytes) == (11, 5, 22)


@ANY_FOLDER
@given(data=st.data())
def test_chosen_reads_come_in_the_order_asked_for(store, data):
    chosen = data.draw(st.lists(st.integers(0, 4), max_size=9))
    assert [tokens.tolist() for tokens in store.tokens_of(numbers(*chosen))] == [READS[read][0] for read in chosen]
    assert store.lengths_of(numbers(*chosen)).tolist() == [len(READS[read][0]) for read in chosen]
    assert store.classes_of(numbers(*chosen)).tolist() == [READS[read][1] for read in chosen]


@pytest.mark.parametrize("first", range(6))
@pytest.mark.parametrize("end", range(8))
def test_consecutive_reads_come_as_columns(store, first, end):
    columns, wanted = store.columns(first, end), READS[first:end]
    assert columns.lengths.tolist() == [len(read[0]) for read in wanted]
    assert columns.classes.tolist() == [read[1] for read in wanted]
    assert columns.groups.tolist() == [0, 1, 77, 3, 4][first:end]
    assert (columns.lengths.dtype, columns.classes.dtype, columns.groups.dtype) == (np.int64, np.int32, np.uint64)


@pytest.mark.parametrize("read", [-1, 5])
def test_there_is_no_read_beyond_the_last(store, read):
    for look in (store.tokens, store.read_id):
        with pytest.raises(IndexError, match=f"no read {read}"):
            look(read)
    for look in (store.tokens_of, store.lengths_of, store.classes_of):
        with pytest.raises(IndexError):
            look(numbers(0, read))


def test_a_store_may_be_without_names_and_without_reads(tmp_path):
    assert store_of(tmp_path / "unnamed", READS).read_id(0) is None
    empty = store_of(tmp_path / "empty", [], shards=[], classes=2)
    assert (len(empty), empty.longest, empty.reads_per_class.tolist()) == (0, 0, [0, 0])
    assert (
        empty.columns(0, 9).lengths.tolist() == empty.classes_of(numbers()).tolist() == empty.tokens_of(numbers()) == []
    )


def test_a_vocabulary_of_more_than_two_bytes(tmp_path):
    store = store_of(tmp_path, [([70_000], 0)], dtype=np.uint32)
    assert store.tokens(0).tolist() == [70_000]
    assert store.token_bytes == 4


def test_an_open_store_is_read_in_forked_processes_and_in_threads(store):
    store.tokens(0)
    receive, send = Pipe(duplex=False)
    child = get_context("fork").Process(target=lambda: send.send(store.lengths_of(np.arange(5)).tolist()))
    child.start()
    assert receive.recv() == [3, 0, 5, 1, 2]
    child.join()
    with ThreadPoolExecutor(4) as pool:
        found = pool.map(lambda _: store.lengths_of(np.arange(5)).tolist(), range(40))
        assert all(lengths == [3, 0, 5, 1, 2] for lengths in found)


def test_only_shards_that_are_read_are_opened(store):
    shard_path(store.folder, "shard-00003").unlink()
    assert store.tokens(2).tolist() == [1023] * 5
    with pytest.raises(DataError, match=r"shard-00003\.arrow is missing or damaged"):
        store.tokens(3)


def test_the_fingerprint_is_that_of_reads_classes_and_order(tmp_path):
    prints = [
        store_of(tmp_path / str(number), reads, classes=3).fingerprint()
        for number, reads in enumerate(
            (
                [([7, 8], 0), ([9], 1)],
                [([7, 8], 0), ([9], 1)],
                [([9], 1), ([7, 8], 0)],
                [([7], 0), ([8, 9], 1)],
                [([7, 8], 0), ([9], 2)],
                [([7, 8], 0), ([10], 1)],
            )
        )
    ]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 5


def test_store_json_leaves_the_classes_of_each_shard_to_the_shard(store):
    """Thousands of shards times thousands of classes would not be opened in a moment."""
    assert "noticed" not in (store.folder / STORE_FILE).read_text()
    assert read_shard_facts(store.folder, "shard-00003").reads_per_class == {0: 2}
    assert read_store_facts(store.folder).tokenizer == TOKENIZER


def test_damaged_shards_are_named_and_every_byte_is_told(store):
    sizes = {shard.name: shard.bytes for shard in store.facts.shards}
    seen = []
    assert store.damaged(seen=seen.append) == []
    assert sum(seen) == sum(sizes.values())
    for name in ("shard-00003", "shard-00000"):
        path = shard_path(store.folder, name)
        content = bytearray(path.read_bytes())
        content[-20] ^= 1
        path.write_bytes(content)
    shard_path(store.folder, "shard-00001").unlink()
    assert store.damaged() == ["shard-00000", "shard-00001", "shard-00003"]
    assert store.damaged(["shard-00003", "shard-00002"]) == ["shard-00003"]


AGAIN = "run the same mgc prepare again"


def refused(folder):
    with pytest.raises(DataError) as error:
        TokenStore.open(folder)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_what_is_no_store_is_refused(tmp_path):
    no_store = "is no store: there is no store.json in it (mgc prepare makes stores)"
    assert refused(tmp_path) == f"{tmp_path} {no_store}"
    assert refused(tmp_path / "nowhere") == f"{tmp_path / 'nowhere'} {no_store}"
    (tmp_path / "shards").mkdir()
    assert refused(tmp_path) == f"{tmp_path} {no_store}"


def test_an_unfinished_store_is_refused(store):
    (store.folder / STORE_FILE).unlink()
    assert refused(store.folder) == f"{store.folder} is an unfinished store: {AGAIN}, it goes on where it stopped"


def test_a_store_of_a_later_version_is_refused(store):
    path = store.folder / STORE_FILE
    path.write_text(path.read_text().replace('"schema_version": 1', '"schema_version": 2').replace("inputs", "outputs"))
    assert refused(store.folder) == (
        f"{store.folder} was written by a later version (schema 2, this one reads up to 1): upgrade metagene-classifier"
    )


@pytest.mark.parametrize(
    ("before", "after", "what"),
    [
        ('"reads": 2', '"reads": "two"', "shards.0.reads: "),
        ('"ids_dtype": "uint16"', '"ids_dtype": "uint8"', "ids_dtype: "),
        ('"inputs"', '"outputs"', "inputs: Field required"),
        ("{", "", "Extra data"),
        ("{", "[{", "Expecting"),
    ],
)
def test_a_damaged_store_json_is_refused(store, before, after, what):
    path = store.folder / STORE_FILE
    path.write_text(path.read_text().replace(before, after, 1))
    line = refused(store.folder)
    assert line.startswith(f"{path} is damaged (") and what in line and line.endswith(f"): {AGAIN}")


def test_a_missing_shard_is_refused_by_name(store):
    path = shard_path(store.folder, "shard-00002")
    path.unlink()
    assert refused(store.folder) == f"{path} cannot be read (No such file or directory): {AGAIN}, it makes it anew"


def test_a_short_shard_is_refused_by_name(store):
    path = shard_path(store.folder, "shard-00002")
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-1])
    assert refused(store.folder) == (
        f"{path} has {size - 1:,} bytes and was written with {size:,}: {AGAIN}, it makes this shard anew"
    )


def test_a_shard_of_another_store_is_refused(store, tmp_path):
    other = store_of(tmp_path / "other", [([7], 0), ([8, 9, 10], 0)], read_ids=["a", "b"])
    path = shard_path(store.folder, "shard-00003")
    shutil.copy(shard_path(other.folder, "shard-00000"), path)
    with pytest.raises(DataError) as error:
        store.tokens(4)
    assert str(error.value) == (
        f"{path} has 4 tokens in 2 reads and was written with 3 in 2: {AGAIN}, it makes this shard anew"
    )


def test_a_table_of_fewer_classes_is_refused(store):
    write_mapping(store.folder / MAPPING_FILE, labels_of(2))
    assert refused(store.folder).startswith(f"{store.folder / MAPPING_FILE} was changed since the store was made")


def test_a_missing_table_of_classes_is_refused(store):
    (store.folder / MAPPING_FILE).unlink()
    assert str(store.folder / MAPPING_FILE) in refused(store.folder)
