import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metagene_classifier.store.order import (
    LARGEST_FOR_ALL_BYTES,
    ReadOrder,
    planned_steps,
    steps_of_epoch,
    steps_per_epoch,
)
from metagene_classifier.store.selection import Selection
from stores import store_of

SEEDS = st.integers(0, 2**32 - 1)
SAMPLINGS = st.sampled_from(["natural", "balanced", "sqrt", 1, 20])
SHUFFLES = st.sampled_from(["all", "blocks"])
READS = 348


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Classes of 300, 0, 40, 7 and 1 reads, one behind the other."""
    classes = np.repeat([0, 2, 3, 4], [300, 40, 7, 1])
    reads = [([7], int(index), group) for group, index in enumerate(classes)]
    return store_of(tmp_path_factory.mktemp("store"), reads, shards=[100, 0, 248])


@pytest.fixture(scope="module")
def kept(store):
    return Selection.of(store, side="kept", fraction=0.2, seed=1)


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch, request):
    """So that what is carried from one chunk to the next is tried; a large store is scanned as always."""
    if "kept" in request.fixturenames:
        for module in ("bits", "selection", "order"):
            monkeypatch.setattr(f"metagene_classifier.store.{module}.CHUNK_READS", 64)


def order_of(selection, *, sampling="natural", shuffle="all", buffer=64, seed=0, **more):
    return ReadOrder(selection, sampling=sampling, shuffle=shuffle, buffer=buffer, seed=seed, **more)


def reads_of(order):
    return order.at(0, len(order)).tolist()


@given(shuffle=SHUFFLES, buffer=st.integers(1, 500), block=st.integers(1, 400), seed=SEEDS, epoch=st.integers(0, 1000))
@settings(deadline=None)
def test_an_epoch_takes_every_read_once(kept, shuffle, buffer, block, seed, epoch):
    order = order_of(kept, shuffle=shuffle, buffer=buffer, seed=seed, block=block)
    assert sorted(reads_of(order.epoch(epoch))) == kept.numbers().tolist()


@given(sampling=SAMPLINGS, shuffle=SHUFFLES, buffer=st.integers(1, 500), block=st.integers(1, 400), seed=SEEDS)
@settings(deadline=None)
def test_an_epoch_has_the_reads_of_each_class_that_were_asked_for(store, kept, sampling, shuffle, buffer, block, seed):
    order = order_of(kept, sampling=sampling, shuffle=shuffle, buffer=buffer, seed=seed, block=block)
    epoch = order.epoch(3)
    reads = epoch.at(0, len(epoch))
    assert np.bincount(store.classes_of(reads), minlength=5).tolist() == order.reads_per_class.tolist()
    assert len(reads) == len(epoch) == order.reads_per_epoch
    assert set(reads.tolist()) <= set(kept.numbers().tolist())


@given(sampling=SAMPLINGS, shuffle=SHUFFLES, buffer=st.integers(1, 200), data=st.data())
@settings(deadline=None)
def test_the_order_is_the_same_however_it_is_cut(kept, sampling, shuffle, buffer, data):
    order = order_of(kept, sampling=sampling, shuffle=shuffle, buffer=buffer, block=16)
    whole, epoch = reads_of(order.epoch(1)), order.epoch(1)
    for _ in range(5):
        first, length = data.draw(st.integers(0, len(whole))), data.draw(st.integers(0, 150))
        assert epoch.at(first, first + length).tolist() == whole[first : first + length]


@pytest.mark.parametrize("sampling", ["natural", "balanced"])
@pytest.mark.parametrize("shuffle", ["all", "blocks"])
def test_order_is_that_of_seed_and_epoch_and_of_nothing_else(kept, sampling, shuffle):
    def reads(seed, epoch):
        return reads_of(order_of(kept, sampling=sampling, shuffle=shuffle, seed=seed).epoch(epoch))

    first = reads(7, 3)
    np.random.seed(1)  # noqa: NPY002 (the global state must not matter)
    np.random.random(5)  # noqa: NPY002
    used = order_of(kept, sampling=sampling, shuffle=shuffle, seed=7)
    reads_of(used.epoch(0))
    assert reads(7, 3) == reads_of(used.epoch(3)) == first
    assert first not in (reads(8, 3), reads(7, 4), reads(3, 7))


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        ({}, [3, 7, 1, 5, 6, 8, 2, 4, 9, 0]),
        ({"sampling": "balanced"}, [3, 8, 1, 7, 8, 9, 2, 5, 9, 0]),
        ({"shuffle": "blocks", "buffer": 6, "block": 2}, [3, 7, 9, 6, 2, 8, 1, 0, 5, 4]),
    ],
)
def test_order_is_the_same_on_every_machine(tmp_path, asked, wanted):
    """A run that is resumed elsewhere must find the order that it began with."""
    selection = Selection.of(store_of(tmp_path, [([7], int(read > 6)) for read in range(10)]))
    assert reads_of(order_of(selection, seed=42, **asked).epoch(0)) == wanted


def test_order_is_the_same_in_another_process(store, kept):
    code = f"""
from pathlib import Path
from metagene_classifier.store.order import ReadOrder
from metagene_classifier.store.selection import Selection
from metagene_classifier.store.tokens import TokenStore
kept = Selection.of(TokenStore.open(Path({str(store.folder)!r})), side="kept", fraction=0.2, seed=1)
epoch = ReadOrder(kept, sampling="sqrt", shuffle="blocks", buffer=64, seed=5).epoch(2)
print(epoch.at(0, len(epoch)).tolist())
"""
    environment = os.environ | {"PYTHONHASHSEED": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout.strip() == str(reads_of(order_of(kept, sampling="sqrt", shuffle="blocks", seed=5).epoch(2)))


class Numbers:
    """Stands in for a large store: its reads follow one another by class."""

    def __init__(self, reads, classes, token_bytes=0):
        self.reads, self.labels, self.token_bytes = reads, range(classes), token_bytes
        self.total_tokens, self.longest = reads, 1
        self.reads_per_class = np.bincount(self.classes_of(np.arange(reads)), minlength=classes)

    def __len__(self):
        return self.reads

    def classes_of(self, reads):
        return (reads * len(self.labels) // self.reads).astype(np.int32)

    def columns(self, first, end):
        return type("Columns", (), {"classes": self.classes_of(np.arange(first, end))})


def test_auto_goes_by_the_store_alone():
    for token_bytes, wanted in ((LARGEST_FOR_ALL_BYTES, "all"), (LARGEST_FOR_ALL_BYTES + 1, "blocks")):
        assert order_of(Selection.of(Numbers(100, 2, token_bytes)), shuffle="auto").shuffle == wanted


def classes_met(store, order, reads_per_step, steps):
    found = [store.classes_of(order.at(step * reads_per_step, (step + 1) * reads_per_step)) for step in range(steps)]
    return [len(np.unique(classes)) for classes in found]


def test_steps_from_blocks_of_a_sorted_store_hold_nearly_as_many_classes_as_from_all():
    """Half a million reads of 100 classes one behind the other, of which an eighth is in the buffer at a time: ten
    blocks of each class, give or take three."""
    store = Numbers(2**19, 100)
    met = {}
    for shuffle in ("all", "blocks"):
        order = order_of(Selection.of(store), shuffle=shuffle, buffer=2**16, block=64).epoch(0)
        met[shuffle] = np.mean(classes_met(store, order, 128, 512))
    assert met["all"] == pytest.approx(100 * (1 - 0.99**128), abs=0.5)
    assert met["blocks"] > 0.95 * met["all"]


def test_a_small_class_that_is_repeated_is_met_throughout_the_epoch():
    """Ten reads of 100,000 in one block, as many times in an epoch as the others together."""
    store = Numbers(100_000, 2)
    store.classes_of = lambda reads: (reads >= 99_990).astype(np.int32)
    store.reads_per_class = np.array([99_990, 10])
    order = order_of(Selection.of(store), sampling="balanced", shuffle="blocks", buffer=10_000).epoch(0)
    shares = [store.classes_of(order.at(first, first + 10_000)).mean() for first in range(0, 100_000, 10_000)]
    assert min(shares) > 0.3 and max(shares) < 0.7
    assert len(np.unique(order.at(0, 10_000)[store.classes_of(order.at(0, 10_000)) == 1])) == 10


def test_a_buffer_is_about_as_large_as_asked_for():
    """Reads that lie far apart in the store meet in a buffer, and a buffer's reads leave it before the next one's."""
    order = order_of(Selection.of(Numbers(10_000, 2)), shuffle="blocks", buffer=1000, block=50).epoch(0)
    reads = order.at(0, 10_000).reshape(10, 1000)
    for buffer in reads:
        assert len(np.unique(buffer // 50)) == 20


@given(sampling=SAMPLINGS, shuffle=SHUFFLES, reads_per_step=st.integers(1, 64), seed=SEEDS)
@settings(deadline=None)
def test_steps_are_the_epochs_order_cut_into_equal_parts(kept, sampling, shuffle, reads_per_step, seed):
    epoch = order_of(kept, sampling=sampling, shuffle=shuffle, seed=seed).epoch(0)
    steps = list(steps_of_epoch(epoch, reads_per_step))
    assert len(steps) == steps_per_epoch(len(epoch), reads_per_step)
    assert all(len(step) == reads_per_step for step in steps[:-1])
    assert np.concatenate(steps).tolist() == reads_of(epoch)


@given(shuffle=SHUFFLES, reads_per_step=st.integers(1, 64), stop_after=st.integers(0, 50), seed=SEEDS)
@settings(deadline=None)
def test_a_run_that_stopped_goes_on_with_the_very_next_step(kept, shuffle, reads_per_step, stop_after, seed):
    order = order_of(kept, sampling="sqrt", shuffle=shuffle, seed=seed)
    whole = list(steps_of_epoch(order.epoch(2), reads_per_step))
    done = sum(len(step) for step in whole[:stop_after])
    rest = list(steps_of_epoch(order.epoch(2), reads_per_step, done))
    assert [step.tolist() for step in rest] == [step.tolist() for step in whole[stop_after:]]


def test_no_reads_make_an_epoch_without_a_step(tmp_path):
    none = Selection.of(store_of(tmp_path, [], shards=[], classes=2))
    for shuffle in ("all", "blocks"):
        for sampling in ("natural", "balanced", "sqrt", 5):
            epoch = order_of(none, sampling=sampling, shuffle=shuffle).epoch(0)
            assert len(epoch) == 0 and list(steps_of_epoch(epoch, 8)) == []


@pytest.mark.parametrize(
    ("max_steps", "wanted"),
    [(None, 12), (100, 12), (5, 5)],
)
def test_steps_of_a_whole_run(max_steps, wanted):
    assert planned_steps(31, 8, 3, max_steps) == wanted
