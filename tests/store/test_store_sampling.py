import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metagene_classifier.store.sampling import draw_epoch, epoch_targets
from metagene_classifier.store.selection import Selection
from stores import store_of

COUNTS = st.lists(st.integers(0, 10**9), min_size=1, max_size=40)
SAMPLINGS = st.sampled_from(["natural", "balanced", "sqrt", 1, 7, 10**6])


def targets(counts, sampling):
    return epoch_targets(np.array(counts, np.int64), sampling).tolist()


@pytest.mark.parametrize(
    ("sampling", "wanted"),
    [
        ("natural", [900, 0, 90, 10]),
        ("balanced", [334, 0, 333, 333]),
        ("sqrt", [703, 0, 223, 74]),  # 703.4, 222.4 and 74.1: the largest remainder is that of the second
        (50, [50, 0, 50, 10]),
    ],
)
def test_reads_of_each_class_in_an_epoch(sampling, wanted):
    assert targets([900, 0, 90, 10], sampling) == wanted


@given(counts=COUNTS, sampling=st.sampled_from(["balanced", "sqrt"]))
def test_an_epoch_is_as_long_as_there_are_reads_and_misses_no_class(counts, sampling):
    found = targets(counts, sampling)
    assert sum(found) == sum(counts)
    assert [reads > 0 for reads in found] == [reads > 0 for reads in counts]


@given(counts=COUNTS)
def test_balanced_classes_differ_by_one_read_at_most(counts):
    found = [reads for reads in targets(counts, "balanced") if reads]
    assert not found or max(found) - min(found) <= 1


@given(counts=COUNTS)
def test_roots_are_met_within_a_read(counts):
    roots = np.sqrt(np.array(counts, np.float64))
    ideal = sum(counts) * roots / max(roots.sum(), 1)
    assert np.all(np.abs(np.array(targets(counts, "sqrt")) - ideal) < 1 + 1e-6 * ideal)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Classes of 300, 0, 40, 7 and 1 reads, mixed; two in ten reads are held out."""
    classes = np.random.default_rng(3).permutation(np.repeat([0, 2, 3, 4], [300, 40, 7, 1]))
    reads = [([7], int(index), group) for group, index in enumerate(classes)]
    return store_of(tmp_path_factory.mktemp("store"), reads, shards=3)


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch):
    monkeypatch.setattr("metagene_classifier.store.bits.CHUNK_READS", 64)
    monkeypatch.setattr("metagene_classifier.store.selection.CHUNK_READS", 64)


def times_of(store, selection, sampling, seed=0, epoch=0):
    drawn = draw_epoch(selection, epoch_targets(selection.reads_per_class, sampling), seed=seed, epoch=epoch)
    return drawn.multiplicity(0, len(store))


@given(
    sampling=SAMPLINGS, seed=st.integers(0, 2**32 - 1), epoch=st.integers(0, 99), side=st.sampled_from(["all", "kept"])
)
@settings(deadline=None)
def test_counts_are_exact_and_reads_of_a_class_differ_by_one_time_at_most(store, sampling, seed, epoch, side):
    selection = Selection.of(store, side=side, fraction=0.2, seed=1)
    times = times_of(store, selection, sampling, seed, epoch)
    assert not times[~selection.mask(0, len(store))].any()
    numbers = selection.numbers()
    classes = store.classes_of(numbers)
    wanted = epoch_targets(selection.reads_per_class, sampling)
    assert np.bincount(classes, times[numbers], minlength=5).tolist() == wanted.tolist()
    for index in np.unique(classes):
        of_class = times[numbers][classes == index]
        assert of_class.max() - of_class.min() <= 1


@given(first=st.integers(0, 348), length=st.integers(0, 200))
def test_a_part_of_the_store_is_the_same_as_in_the_whole(store, first, length):
    selection = Selection.of(store, side="kept", fraction=0.2, seed=1)
    drawn = draw_epoch(selection, epoch_targets(selection.reads_per_class, "balanced"), seed=4, epoch=2)
    end = min(first + length, 348)
    assert drawn.multiplicity(first, end).tolist() == drawn.multiplicity(0, 348)[first:end].tolist()


def test_what_is_drawn_differs_by_epoch_and_seed_and_nothing_else(store):
    selection = Selection.of(store)
    first = times_of(store, selection, 20, seed=1, epoch=0).tolist()
    assert times_of(store, selection, 20, seed=1, epoch=0).tolist() == first
    assert times_of(store, selection, 20, seed=1, epoch=1).tolist() != first
    assert times_of(store, selection, 20, seed=2, epoch=0).tolist() != first


def test_every_read_of_a_class_is_drawn_as_often_over_many_epochs(store):
    selection = Selection.of(store)
    times = sum(times_of(store, selection, 30, epoch=epoch) for epoch in range(200))
    of_class = times[store.classes_of(np.arange(348)) == 0]
    assert of_class.sum() == 30 * 200
    assert np.abs(of_class - 20).max() < 5 * np.sqrt(200 * 0.1 * 0.9)


def test_natural_reads_no_column(store, monkeypatch):
    monkeypatch.setattr(type(store), "columns", None)
    assert times_of(store, Selection.of(store), "natural").tolist() == [1] * 348
