import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metagene_classifier.store.permutation import keys_of, permuted


def places(size, key, values=None):
    values = np.arange(size, dtype=np.uint64) if values is None else np.array(values, np.uint64)
    return permuted(values, np.array([size], np.uint64), np.array([key], np.uint64)).tolist()


def test_every_size_up_to_two_thousand_is_permuted():
    for size in range(1, 2001):
        assert sorted(places(size, 7 * size)) == list(range(size))


@given(size=st.integers(1, 2**62), key=st.integers(0, 2**64 - 1), data=st.data())
def test_places_are_within_the_size_and_no_two_are_the_same(size, key, data):
    values = data.draw(st.sets(st.integers(0, size - 1), min_size=1, max_size=50))
    found = places(size, key, sorted(values))
    assert all(0 <= place < size for place in found)
    assert len(set(found)) == len(values)


@pytest.mark.parametrize("size", [2, 3, 5, 6, 16])
def test_every_place_is_as_likely_as_any_other(size):
    """Over many keys; the bound is four standard deviations."""
    keys = keys_of(30_000, 1)
    for value in (0, size - 1):
        found = permuted(np.full(len(keys), value, np.uint64), np.full(len(keys), size, np.uint64), keys)
        counts = np.bincount(found.astype(np.int64), minlength=size)
        assert np.abs(counts - len(keys) / size).max() < 4 * np.sqrt(len(keys) / size)


def test_values_of_several_permutations_at_once_go_where_they_go_alone():
    sizes, keys = [3, 1000, 1, 70_000], [5, 6, 7, 8]
    alone = [places(size, key, [size // 2])[0] for size, key in zip(sizes, keys, strict=True)]
    together = permuted(
        np.array([size // 2 for size in sizes], np.uint64), np.array(sizes, np.uint64), np.array(keys, np.uint64)
    )
    assert together.tolist() == alone


def test_the_permutation_is_the_same_on_every_machine():
    """A draw that is resumed elsewhere must go on as it began."""
    assert places(10, 42) == [1, 5, 2, 8, 0, 7, 4, 6, 9, 3]
    assert keys_of(2, 3, 4).tolist() == [17483959547179022425, 8769173799256181983]
