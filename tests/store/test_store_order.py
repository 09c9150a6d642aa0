import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from metagene_classifier.store.order import epoch_order, steps_of_epoch, steps_per_epoch

SEEDS = st.integers(0, 2**32 - 1)


@given(reads=st.integers(0, 500), seed=SEEDS, epoch=st.integers(0, 1000))
def test_an_epoch_takes_every_read_once(reads, seed, epoch):
    assert sorted(epoch_order(reads, seed=seed, epoch=epoch).tolist()) == list(range(reads))


def test_order_is_that_of_seed_and_epoch_and_of_nothing_else():
    first = epoch_order(200, seed=7, epoch=3)
    np.random.seed(1)  # noqa: NPY002 (the global state must not matter)
    np.random.random(5)  # noqa: NPY002
    epoch_order(90, seed=1, epoch=1)
    assert np.array_equal(epoch_order(200, seed=7, epoch=3), first)
    assert not np.array_equal(epoch_order(200, seed=8, epoch=3), first)
    assert not np.array_equal(epoch_order(200, seed=7, epoch=4), first)
    assert not np.array_equal(epoch_order(200, seed=3, epoch=7), first)


def test_order_is_the_same_on_every_machine():
    """A run that is resumed elsewhere must find the order that it began with."""
    assert epoch_order(10, seed=42, epoch=0).tolist() == [3, 7, 1, 5, 6, 8, 2, 4, 9, 0]


@given(reads=st.integers(1, 300), reads_per_step=st.integers(1, 64), seed=SEEDS, epoch=st.integers(0, 9))
def test_steps_are_the_epochs_order_cut_into_equal_parts(reads, reads_per_step, seed, epoch):
    steps = list(steps_of_epoch(reads, reads_per_step, seed=seed, epoch=epoch))
    assert len(steps) == steps_per_epoch(reads, reads_per_step)
    assert all(len(step) == reads_per_step for step in steps[:-1])
    assert np.concatenate(steps).tolist() == epoch_order(reads, seed=seed, epoch=epoch).tolist()


@given(reads=st.integers(1, 300), reads_per_step=st.integers(1, 64), stop_after=st.integers(0, 50), seed=SEEDS)
def test_a_run_that_stopped_goes_on_with_the_very_next_step(reads, reads_per_step, stop_after, seed):
    whole = list(steps_of_epoch(reads, reads_per_step, seed=seed, epoch=2))
    done = sum(len(step) for step in whole[:stop_after])
    rest = list(steps_of_epoch(reads, reads_per_step, seed=seed, epoch=2, reads_done=done))
    assert [step.tolist() for step in rest] == [step.tolist() for step in whole[stop_after:]]
