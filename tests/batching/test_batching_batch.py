import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from metagene_classifier.batching.batch import collate

SEGMENTS = [np.array([3, 7, 8, 4]), np.array([3, 4]), np.array([3, 9, 4])]
KEYS = np.array([100, 200, 300])


def laid_out(layout, segments=SEGMENTS, keys=KEYS):
    return collate(segments, keys, layout=layout, padded_length=6, pad_id=0)


def test_packed_reads_lie_one_after_another_and_positions_begin_anew():
    batch = laid_out("packed")
    assert batch.ids.tolist() == [[3, 7, 8, 4, 3, 4, 3, 9, 4]]
    assert batch.positions.tolist() == [[0, 1, 2, 3, 0, 1, 0, 1, 2]]
    assert batch.boundaries().tolist() == [0, 4, 6, 9]
    assert batch.boundaries().dtype is torch.int32
    assert batch.token_mask().all()


def test_bucket_is_as_wide_as_its_longest_read():
    batch = laid_out("buckets")
    assert batch.ids.tolist() == [[3, 7, 8, 4], [3, 4, 0, 0], [3, 9, 4, 0]]
    assert batch.positions.tolist() == [[0, 1, 2, 3]] * 3
    assert batch.token_mask().tolist() == [[True] * 4, [True, True, False, False], [True, True, True, False]]


def test_padded_rows_are_as_wide_as_the_encoder_takes():
    batch = laid_out("padded")
    assert batch.ids.shape == (3, 6)
    assert batch.token_mask().sum(1).tolist() == [4, 2, 3]


@pytest.mark.parametrize("layout", ["packed", "buckets", "padded"])
@given(
    segments=st.lists(st.lists(st.integers(0, 1023), min_size=1, max_size=6), min_size=1, max_size=8).map(
        lambda segments: [np.array(segment, np.uint16) for segment in segments]
    )
)
def test_real_tokens_of_a_batch_are_those_of_the_reads_in_order(layout, segments):
    batch = laid_out(layout, segments, np.arange(len(segments)))
    assert batch.segments == len(segments)
    assert batch.ids[batch.token_mask()].tolist() == np.concatenate(segments).tolist()
    assert batch.positions[batch.token_mask()].tolist() == [place for s in segments for place in range(len(s))]
    assert batch.lengths.tolist() == [len(segment) for segment in segments]
    assert batch.keys.tolist() == list(range(len(segments)))


def test_lengths_stay_on_the_cpu_where_the_splitting_is_done():
    moved = laid_out("buckets").to(torch.device("meta"))
    assert moved.ids.device.type == moved.positions.device.type == moved.keys.device.type == "meta"
    assert moved.lengths.device.type == "cpu"
