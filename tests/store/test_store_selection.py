import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metagene_classifier.store import bits as bits_module
from metagene_classifier.store.bits import Bits
from metagene_classifier.store.selection import Selection
from stores import store_of

READS = 400


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Pairs; every third pair of class 1, of longer reads."""
    reads = [([7] * (2 + pair % 3), int(pair % 3 == 0), pair) for pair in range(READS // 2) for _ in (1, 2)]
    return store_of(tmp_path_factory.mktemp("store"), reads, shards=3, classes=3)


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch):
    """So that what is carried from one chunk to the next is tried."""
    monkeypatch.setattr("metagene_classifier.store.bits.CHUNK_READS", 64)
    monkeypatch.setattr("metagene_classifier.store.selection.CHUNK_READS", 64)


SEEDS = st.integers(0, 2**32 - 1)
FRACTIONS = st.floats(0, 0.99)


def test_all_reads_are_taken_without_looking_at_any(store, monkeypatch):
    monkeypatch.setattr(type(store), "columns", None)
    everything = Selection.of(store)
    assert len(everything) == READS
    assert everything.numbers().tolist() == list(range(READS))
    assert everything.mask(5, 9).tolist() == [True] * 4
    assert everything.reads_per_class.tolist() == store.reads_per_class.tolist()
    assert (everything.total_tokens, everything.longest) == (store.total_tokens, 4)


@given(seed=SEEDS, fraction=FRACTIONS)
def test_every_read_is_kept_or_held_out_and_mates_go_together(store, seed, fraction):
    kept, held_out = (Selection.of(store, side=side, fraction=fraction, seed=seed) for side in ("kept", "held_out"))
    assert sorted([*kept.numbers(), *held_out.numbers()]) == list(range(READS))
    pairs = [set((chosen.numbers() // 2).tolist()) for chosen in (kept, held_out)]
    assert pairs[0].isdisjoint(pairs[1])
    assert (kept.reads_per_class + held_out.reads_per_class).tolist() == store.reads_per_class.tolist()
    assert kept.total_tokens + held_out.total_tokens == store.total_tokens


@given(seed=SEEDS, fraction=FRACTIONS, max_reads=st.none() | st.integers(1, READS + 5))
def test_counts_are_those_of_the_reads_taken(store, seed, fraction, max_reads):
    chosen = Selection.of(store, side="kept", fraction=fraction, seed=seed, max_reads=max_reads)
    numbers = chosen.numbers()
    lengths = store.lengths_of(numbers)
    assert len(chosen) == len(numbers)
    assert chosen.reads_per_class.tolist() == np.bincount(store.classes_of(numbers), minlength=3).tolist()
    assert (chosen.total_tokens, chosen.longest) == (lengths.sum(), lengths.max(initial=0))


@given(seed=SEEDS, first=st.integers(0, READS), length=st.integers(0, 100))
def test_the_mask_of_any_part_is_part_of_the_whole(store, seed, first, length):
    chosen = Selection.of(store, side="kept", fraction=0.4, seed=seed, max_reads=100)
    end = min(first + length, READS)
    assert (np.flatnonzero(chosen.mask(first, end)) + first).tolist() == [
        read for read in chosen.numbers() if first <= read < end
    ]


@given(seed=SEEDS, side=st.sampled_from(["all", "kept", "held_out"]), max_reads=st.integers(1, READS))
def test_exactly_so_many_are_drawn_from_the_side_asked_for(store, seed, side, max_reads):
    among = Selection.of(store, side=side, fraction=0.5, seed=seed)
    drawn = Selection.of(store, side=side, fraction=0.5, seed=seed, max_reads=max_reads)
    assert len(drawn) == min(max_reads, len(among))
    assert set(drawn.numbers()) <= set(among.numbers())


def test_every_read_is_as_likely_to_be_drawn(store):
    times = np.zeros(READS)
    for seed in range(400):
        times[Selection.of(store, seed=seed, max_reads=100).numbers()] += 1
    assert np.abs(times - 100).max() < 5 * np.sqrt(400 * 0.25 * 0.75)


def test_another_seed_takes_others(store):
    for asked in ({"side": "held_out", "fraction": 0.3}, {"max_reads": 200}):
        one, again, other = (Selection.of(store, seed=seed, **asked) for seed in (1, 1, 2))
        assert one.numbers().tolist() == again.numbers().tolist() != other.numbers().tolist()
        assert one.fingerprint() == again.fingerprint() != other.fingerprint()


def test_the_fingerprint_is_that_of_the_reads_however_they_were_chosen(store, tmp_path):
    everything = Selection.of(store).fingerprint()
    assert Selection.of(store, side="kept", fraction=0.0, seed=9, max_reads=READS).fingerprint() == everything
    other = store_of(tmp_path, [([9], 0)] * READS)
    assert Selection.of(other).fingerprint() != everything


@given(keep=st.sets(st.integers(0, 99), min_size=1))
@settings(deadline=None, max_examples=30)
def test_a_reads_side_does_not_depend_on_the_other_reads(tmp_path_factory, keep):
    whole, fewer = (
        store_of(tmp_path_factory.mktemp("side"), [([7], 0, group) for group in groups])
        for groups in (range(100), sorted(keep))
    )
    held_out = Selection.of(whole, side="held_out", fraction=0.4, seed=5).numbers()
    held_out_of_fewer = Selection.of(fewer, side="held_out", fraction=0.4, seed=5).numbers()
    assert {sorted(keep)[read] for read in held_out_of_fewer} == set(held_out.tolist()) & keep


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("groups", ["random", "in order"])
def test_about_the_share_asked_for_is_held_out(tmp_path, fraction, groups):
    numbers = np.random.default_rng(0).integers(0, 2**63, 4000).tolist() if groups == "random" else range(4000)
    store = store_of(tmp_path, [([7], 0, group) for group in numbers])
    assert len(Selection.of(store, side="held_out", fraction=fraction, seed=1)) / 4000 == pytest.approx(
        fraction, abs=0.02
    )


def test_the_reads_held_out_are_the_same_on_every_machine(store):
    assert Selection.of(store, side="held_out", fraction=0.02, seed=42).numbers().tolist() == [
        74,
        75,
        84,
        85,
        266,
        267,
        346,
        347,
    ]
    assert Selection.of(store, seed=42, max_reads=4).numbers().tolist() == [294, 349, 362, 379]


def test_no_reads_may_be_left(tmp_path):
    store = store_of(tmp_path, [([7], 0)])
    none = Selection.of(store, side="held_out")
    assert (len(none), none.numbers().tolist(), none.longest, none.mask(0, 1).tolist()) == (0, [], 0, [False])
    assert len(Selection.of(store_of(tmp_path / "empty", [], shards=[]), side="kept", fraction=0.5)) == 0


@given(values=st.lists(st.booleans(), max_size=200), data=st.data())
def test_bits_are_kept_one_by_one(values, data):
    wanted = np.array(values, np.bool_)
    bits = Bits.filled(len(values), lambda first, end: wanted[first:end])
    end = data.draw(st.integers(0, len(values)))
    first = data.draw(st.integers(0, end))
    assert bits.part(first, end).tolist() == values[first:end]
    assert bits.total() == sum(values)
    assert bits.packed.nbytes == -(-len(values) // 8)
    assert bits_module.CHUNK_READS % 8 == 0
