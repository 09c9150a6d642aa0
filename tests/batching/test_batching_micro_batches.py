import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metagene_classifier.batching.micro_batches import padding_share, split_into_micro_batches

LENGTHS = st.lists(st.integers(1, 512), min_size=0, max_size=60).map(lambda lengths: np.array(lengths, np.int64))
PADDED_LENGTH = 512


def split(lengths, layout, max_tokens):
    lengths = np.asarray(lengths, np.int64)
    return split_into_micro_batches(lengths, max_tokens=max_tokens, layout=layout, padded_length=PADDED_LENGTH)


def computed_tokens(lengths, members, layout):
    """Tokens that the encoder works on, padding included."""
    widths = {
        "packed": int(lengths[members].sum()),
        "buckets": len(members) * int(lengths[members].max()),
        "padded": len(members) * PADDED_LENGTH,
    }
    return widths[layout]


@pytest.mark.parametrize("layout", ["packed", "buckets", "padded"])
@given(lengths=LENGTHS, max_tokens=st.integers(1, 5000))
def test_every_segment_is_in_exactly_one_micro_batch(layout, lengths, max_tokens):
    batches = split(lengths, layout, max_tokens)
    assert all(len(members) for members in batches)
    assert sorted(index for members in batches for index in members.tolist()) == list(range(len(lengths)))


@pytest.mark.parametrize("layout", ["packed", "buckets", "padded"])
@given(lengths=LENGTHS, max_tokens=st.integers(1, 5000))
def test_token_budget_is_kept_except_by_a_single_segment_that_is_longer(layout, lengths, max_tokens):
    for members in split(lengths, layout, max_tokens):
        assert len(members) == 1 or computed_tokens(lengths, members, layout) <= max_tokens


def test_packed_segments_fill_micro_batches_in_their_order():
    assert [members.tolist() for members in split([30, 40, 30, 90, 200, 5, 5], "packed", 100)] == [
        [0, 1, 2],
        [3],
        [4],
        [5, 6],
    ]


def test_buckets_hold_segments_of_like_length():
    lengths = [40] * 20 + [200] * 12
    assert [sorted(members.tolist()) for members in split(lengths, "buckets", 8192)] == [
        list(range(20, 32)),
        list(range(20)),
    ]


def test_equal_lengths_fill_buckets_to_the_budget_without_padding():
    batches = split([40] * 250, "buckets", 4000)
    assert [len(members) for members in batches] == [100, 100, 50]
    assert padding_share(np.full(250, 40), batches) == 0.0


def test_padding_share_counts_what_is_computed_for_nothing():
    assert padding_share(np.array([10, 5, 5, 20]), [np.array([0, 1]), np.array([2, 3])]) == pytest.approx(1 - 40 / 60)
    assert padding_share(np.zeros(0, np.int64), []) == 0.0


# METAGENE-1's tokenizer gives 150 bp about 38 tokens and BOS and EOS, 300 bp about 75.
TOKENS_OF_150_BP = np.random.default_rng(1).normal(39.5, 2.2, 4096).round().clip(30, 47)
TOKENS_OF_100_TO_300_BP = np.random.default_rng(2).uniform(100, 300, 4096) / 4 + 2


@pytest.mark.parametrize("lengths", [TOKENS_OF_150_BP, TOKENS_OF_100_TO_300_BP], ids=["150 bp", "100-300 bp"])
@pytest.mark.parametrize("max_tokens", [2048, 4096, 8192, 32768])
def test_buckets_of_real_read_lengths_waste_less_than_five_percent(lengths, max_tokens):
    lengths = lengths.astype(np.int64)
    batches = split(lengths, "buckets", max_tokens)
    assert padding_share(lengths, batches) < 0.05
    # and do not pay for it with batches too small for the hardware
    assert len(batches) < 2.5 * lengths.sum() / max_tokens + 20


@pytest.mark.parametrize("lengths", [TOKENS_OF_150_BP, TOKENS_OF_100_TO_300_BP], ids=["150 bp", "100-300 bp"])
@pytest.mark.parametrize("reads", [128, 512])
def test_buckets_of_a_training_step_waste_little(lengths, reads):
    """A step has few reads to choose from; below 512 tokens a bucket is not split further."""
    lengths = lengths[:reads].astype(np.int64)
    assert padding_share(lengths, split(lengths, "buckets", 4096)) < 0.08
