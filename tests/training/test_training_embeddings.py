"""Embeddings at rest: a block is whole or known to be missing, whatever happened to the files or their maker."""

import errno
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.stores import store_of

from metagene_classifier.batching.framing import Framing
from metagene_classifier.errors import OutputError
from metagene_classifier.training import embeddings
from metagene_classifier.training.embeddings import EmbeddingFiles, windows_of
from metagene_classifier.training.steps import read_keys, step_segments

FRAMING = Framing(prefix=(3,), suffix=(4,), pad_id=0, max_length=12, overlap=0.25)
LENGTHS = np.array([5, 40, 10, 11, 3, 27, 9])


@pytest.fixture
def files(tmp_path, monkeypatch) -> EmbeddingFiles:
    """Seven reads in blocks of two; the second and the sixth are long."""
    monkeypatch.setattr(embeddings, "READS_PER_BLOCK", 2)
    return EmbeddingFiles(tmp_path, windows_of(LENGTHS, FRAMING), 3)


def values_of(files: EmbeddingFiles, block: int) -> np.ndarray:
    reads = files.reads_of(block)
    count = int(files.windows.first[reads.stop] - files.windows.first[reads.start])
    return np.random.default_rng(block).normal(size=(count, 3)).astype(np.float32)


def filled(files: EmbeddingFiles, *blocks: int) -> EmbeddingFiles:
    for block in blocks or range(files.blocks):
        files.write(block, values_of(files, block))
    return files


def again(files: EmbeddingFiles) -> EmbeddingFiles:
    files.close()
    return EmbeddingFiles(files.folder, files.windows, files.hidden)


@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=20),
    st.integers(0, 2**32 - 1),
    st.integers(0, 50),
    st.booleans(),
)
def test_the_window_drawn_is_the_one_that_training_through_the_encoder_draws(lengths, seed, epoch, cut):
    framing = replace(FRAMING, first_only=cut)
    reads = np.arange(len(lengths))
    keys = read_keys(reads, seed=seed, epoch=epoch)
    with TemporaryDirectory() as folder:
        store = store_of(Path(folder), [(np.arange(length), 0) for length in lengths])
        step = step_segments(store, reads, keys, framing)
        windows = windows_of(store.lengths_of(reads), framing)
        everything = [segment for read in reads for segment in framing.segments(store.tokens(read))]
    assert int(windows.first[-1]) == len(everything)
    drawn = windows.drawn(reads, keys)
    for read, place in enumerate(drawn):
        np.testing.assert_array_equal(everything[place], step.segments[read])
        assert windows.tokens[read] == len(step.segments[read])


def test_every_window_of_a_read_has_as_many_tokens_as_is_said():
    windows = windows_of(LENGTHS, FRAMING)
    for read, length in enumerate(LENGTHS):
        pieces = FRAMING.segments(np.arange(length))
        assert [len(piece) for piece in pieces] == [windows.tokens[read]] * windows.counts[read]


def test_what_was_written_is_read_back_by_the_next_run(files):
    filled(files)
    files = again(files)
    assert files.missing() == [] and files.damaged == "" and files.check(range(files.blocks)) == 0
    np.testing.assert_array_equal(files.stored().values, np.concatenate([values_of(files, b) for b in range(4)]))


def test_a_block_that_is_not_written_is_missing_and_says_what_it_will_take(files):
    assert files.missing() == [0, 1, 2, 3]
    filled(files, 0, 2)
    files = again(files)
    assert files.missing() == [1, 3]
    assert files.bytes_missing() == (len(values_of(files, 1)) + len(values_of(files, 3))) * 3 * 4
    with pytest.raises(AssertionError):
        files.stored()


def test_a_changed_byte_costs_its_block_alone(files):
    filled(files)
    with open(files.folder / "embeddings.npy", "r+b") as handle:
        handle.seek(-5, 2)
        byte = handle.read(1)
        handle.seek(-5, 2)
        handle.write(bytes([byte[0] ^ 1]))
    files = again(files)
    assert files.check(range(files.blocks)) == 1
    assert files.missing() == [3]


@pytest.mark.parametrize("name", ["embeddings.npy", "blocks.npy"])
@pytest.mark.parametrize("keep", [0, 20, -4])
def test_a_truncated_file_is_named_and_everything_made_again(files, name, keep):
    filled(files)
    path = files.folder / name
    path.write_bytes(path.read_bytes()[:keep])
    files = again(files)
    assert files.damaged == name
    assert files.missing() == [0, 1, 2, 3]
    assert again(filled(files)).missing() == []


def test_a_lost_file_is_damage_and_a_new_folder_is_not(files):
    assert files.damaged == ""
    filled(files)
    (files.folder / "embeddings.npy").unlink()
    assert again(files).damaged == "embeddings.npy"


def test_values_of_another_shape_are_a_bug(files):
    with pytest.raises(ValueError, match="block 0"):
        files.write(0, np.zeros((1, 3), np.float32))


def test_a_full_disk_is_one_line_and_keeps_what_is_written(files, monkeypatch):
    filled(files, 0)
    before = embeddings._overwrite

    def full(path: Path, place: int, values: np.ndarray) -> None:
        before(path, place, values[: len(values) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(embeddings, "_overwrite", full)
        with pytest.raises(OutputError, match="no space left on the disk"):
            files.write(1, values_of(files, 1))
    files = again(files)
    assert files.missing() == [1, 2, 3] and files.check(range(4)) == 0
    np.testing.assert_array_equal(files.values[: files.windows.first[2]], values_of(files, 0))


TAKES = """
import sys
from pathlib import Path
import numpy as np
from metagene_classifier.training import embeddings
from metagene_classifier.batching.framing import Framing
embeddings.READS_PER_BLOCK = 2
framing = Framing((3,), (4,), 0, 12, 0.25)
files = embeddings.EmbeddingFiles(Path(sys.argv[1]), embeddings.windows_of(np.array({lengths}), framing), 3)
with files.taken(1) as mine:
    print(mine, flush=True)
    sys.stdin.read()
"""


def test_a_block_is_taken_by_one_process_and_free_again_when_that_is_killed(files):
    code = TAKES.format(lengths=LENGTHS.tolist())
    other = subprocess.Popen(
        [sys.executable, "-c", code, files.folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout.readline() == "True\n"
    with files.taken(1) as mine, files.taken(0) as another:
        assert (mine, another) == (False, True)
    other.send_signal(signal.SIGKILL)
    other.communicate()
    with files.taken(1) as mine:
        assert mine


def test_a_block_that_is_there_is_not_taken(files):
    filled(files, 1)
    with files.taken(1) as mine:
        assert not mine


def test_a_disk_without_locks_is_used_as_if_by_one_process(files, monkeypatch):
    import fcntl

    def none(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", none)
    files = again(files)
    with files.taken(1) as mine:
        assert mine
