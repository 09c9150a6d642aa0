"""Results are kept so long, so many and so large."""

import pytest

from metagene_classifier.prediction.call import Call
from metagene_classifier.prediction.profile.tally import SampleTally
from metagene_classifier.reads.read import Read
from metagene_classifier.serving.results import ResultStore
from metagene_classifier.serving.worker import Called


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def kept(opened_model):
    """Keeps a result of one read of so many bases; gives its id."""
    caller = opened_model.caller

    def made(store, bases=10):
        reads = (Read("a", "A" * bases),)
        call = Call("a", "x", None, "", 1.0, bases, "", None, 1, 0, reads, ())
        called = Called([call], SampleTally(caller.tree))
        more = {"paired": False, "threshold": None, "confusion": None, "default_cut_offs": True}
        return store.add(called, labels=caller.labels, tree=caller.tree, **more).id

    return made


def test_ids_cannot_be_guessed(kept):
    store = ResultStore(100, 10**9, 60)
    keys = {kept(store) for _ in range(50)}
    assert len(keys) == 50
    assert min(map(len, keys)) >= 32


def test_the_oldest_of_too_many_is_forgotten(kept):
    store = ResultStore(2, 10**9, 60)
    keys = [kept(store) for _ in range(3)]
    assert [store.get(key) is not None for key in keys] == [False, True, True]


def test_results_end(kept):
    clock = Clock()
    store = ResultStore(10, 10**9, 60, clock)
    first = kept(store)
    clock.now = 59
    second = kept(store)
    assert store.get(first)
    clock.now = 60
    store.forget_old()
    assert list(store._results) == [second]
    assert store.get(first) is None
    assert store.get(second)


def test_large_results_push_older_ones_out_and_the_newest_stays(kept):
    store = ResultStore(10, 10_000, 60)
    keys = [kept(store, 5_000), kept(store, 3_000), kept(store, 3_000)]
    assert [store.get(key) is not None for key in keys] == [False, True, True]
    huge = kept(store, 50_000)
    assert [store.get(key) is not None for key in [*keys, huge]] == [False, False, False, True]


def test_a_forgotten_result_is_gone(kept):
    store = ResultStore(10, 10**9, 60)
    key = kept(store)
    assert store.remove(key)
    assert not store.remove(key)
    assert store.get(key) is None
