import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from metagene_classifier.batching.framing import Framing, framing_for
from metagene_classifier.batching.windows import window_count, window_starts

CASES = given(tokens=st.integers(1, 5000), capacity=st.integers(2, 600), overlap=st.floats(0.0, 0.95))


@CASES
def test_windows_cover_every_token_and_the_last_ends_with_the_read(tokens, capacity, overlap):
    starts = window_starts(tokens, capacity, overlap)
    assert len(starts) == window_count(tokens, capacity, overlap)
    assert starts[0] == 0
    assert starts[-1] == max(0, tokens - capacity)
    assert (np.diff(starts) <= capacity).all()


@CASES
def test_windows_overlap_by_at_least_the_share_asked_for(tokens, capacity, overlap):
    assume(capacity * (1 - overlap) >= 1)  # every window goes on by a token at least
    shared = capacity - np.diff(window_starts(tokens, capacity, overlap))
    assert (shared >= capacity * overlap - 1e-9).all()


@CASES
def test_windows_are_evenly_spaced(tokens, capacity, overlap):
    strides = np.diff(window_starts(tokens, capacity, overlap))
    if len(strides):
        assert strides.max() - strides.min() <= 1
        assert strides.min() >= 1


@CASES
def test_no_window_is_more_than_needed(tokens, capacity, overlap):
    count = window_count(tokens, capacity, overlap)
    stride = max(1, int(capacity * (1 - overlap) - 1e-9))
    assert count == 1 or capacity + (count - 2) * stride < tokens


def test_windows_of_a_read_of_2000_tokens():
    assert window_starts(2000, 510, 0.125).tolist() == [0, 372, 745, 1118, 1490]


def test_a_read_that_fits_is_one_window():
    assert window_starts(510, 510, 0.125).tolist() == [0]
    assert window_starts(511, 510, 0.125).tolist() == [0, 1]


FRAMING = Framing(prefix=(3,), suffix=(4,), pad_id=0, max_length=8, overlap=0.25)


def test_special_tokens_stand_around_every_window():
    segments = FRAMING.segments(np.arange(10, 20, dtype=np.uint16))
    assert [segment.tolist() for segment in segments] == [
        [3, 10, 11, 12, 13, 14, 15, 4],
        [3, 14, 15, 16, 17, 18, 19, 4],
    ]
    assert FRAMING.windows(10) == 2


def test_a_short_read_is_one_segment_with_special_tokens_around_it():
    assert [segment.tolist() for segment in FRAMING.segments(np.array([10, 11], np.uint16))] == [[3, 10, 11, 4]]


def test_without_special_tokens_the_whole_length_is_the_reads():
    plain = Framing(prefix=(), suffix=(), pad_id=0, max_length=8, overlap=0.25)
    assert plain.capacity == 8
    assert plain.segments(np.arange(8))[0].tolist() == list(range(8))


@given(tokens=st.integers(1, 200), max_length=st.integers(4, 40), overlap=st.floats(0.0, 0.9))
def test_segments_hold_every_token_and_none_is_too_long(tokens, max_length, overlap):
    framing = Framing((3,), (4,), 0, max_length, overlap)
    segments = framing.segments(np.arange(100, 100 + tokens))
    assert {token for segment in segments for token in segment.tolist()} == {3, 4, *range(100, 100 + tokens)}
    assert max(map(len, segments)) <= max_length


def test_framing_takes_the_tokenizers_special_tokens(tokenizer):
    assert framing_for(tokenizer, 512, 0.125) == Framing((3,), (4,), 0, 512, 0.125)
    bare = tokenizer.with_specials(add_bos=False, add_eos=False)
    assert framing_for(bare, 512, 0.125).capacity == 512
