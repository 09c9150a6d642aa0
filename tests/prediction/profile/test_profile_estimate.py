"""A sample's profile: abundances, intervals and diversity, on samples that can be computed by hand or are simulated."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.prediction.profile.called import TREE, call, confusion, flat, place, tally_of

from metagene_classifier.calling.confusion import Confusion
from metagene_classifier.calling.tree import ClassTree
from metagene_classifier.errors import ModelFolderError
from metagene_classifier.prediction.profile.estimate import Profile, ProfileRow, estimate_profile
from metagene_classifier.prediction.profile.tally import SampleTally


def by_name(profile: Profile) -> dict[str, ProfileRow]:
    return {row.name: row for row in profile.rows}


def abundances(profile: Profile) -> dict[str, float]:
    return {row.name: round(row.abundance, 3) for row in profile.rows}


def test_without_confusions_abundances_are_shares_of_the_called_reads() -> None:
    tally = SampleTally(TREE)
    tally.add([call(place(200), 0)] * 20 + [call(place(2001), 1)] * 10 + [call(place(20), 2)] * 10)
    tally.add([call(place(210), 3)] * 40 + [call(0, 3)] * 20)
    profile = estimate_profile("lake", tally, TREE, None, bootstraps=50)
    assert (profile.sample, profile.method, profile.unknown) == ("lake", "counts", None)
    assert (profile.reads, profile.unclassified) == (100, 20)
    rows = [(row.name, row.rank, row.reads, row.direct, row.abundance) for row in profile.rows]
    # Parents first, the larger of siblings first.
    assert rows == [
        ("Bacteria", "superkingdom", 80, 0, 1.0),
        ("Alpha", "genus", 40, 10, 0.5),
        ("prima", "species", 30, 20, 0.375),
        ("K", "strain", 10, 10, 0.125),
        ("Beta", "genus", 40, 0, 0.5),
        ("beta", "species", 40, 40, 0.5),
    ] or rows == [
        ("Bacteria", "superkingdom", 80, 0, 1.0),
        ("Beta", "genus", 40, 0, 0.5),
        ("beta", "species", 40, 40, 0.5),
        ("Alpha", "genus", 40, 10, 0.5),
        ("prima", "species", 30, 20, 0.375),
        ("K", "strain", 10, 10, 0.125),
    ]
    strain = by_name(profile)["K"]
    assert (strain.taxid, strain.lineage) == (2001, "Bacteria;Alpha;prima;K")
    assert strain.low is not None and strain.high is not None
    # A share of 1/8 of 80 reads: about 1.96 standard deviations of 3.7% either way.
    assert strain.low == pytest.approx(0.125 - 0.0725, abs=0.03) and strain.low < strain.abundance < strain.high


def test_a_systematic_confusion_is_corrected() -> None:
    # A fifth of the reads of Alpha secunda is called its sister, and the sample is of secunda and Beta alone.
    table = confusion([[980, 0, 0, 0, 20], [0, 980, 0, 0, 20], [200, 0, 780, 0, 20], [0, 0, 0, 980, 20]])
    tally = tally_of(TREE, [2000, 0, 7800, 9800], unclassified=400)
    counted = abundances(estimate_profile("s", tally, TREE, None, bootstraps=0))
    assert counted["prima"] == 0.102
    profile = estimate_profile("s", tally, TREE, table)
    found = by_name(profile)
    assert profile.method == "em" and profile.warnings == ()
    assert found["prima"].abundance < 0.01 and found["prima"].reads == 2000
    assert found["secunda"].abundance == pytest.approx(0.5, abs=0.01)
    assert found["Alpha"].abundance == pytest.approx(0.5, abs=0.01)
    assert found["beta"].low is not None and found["beta"].low <= 0.5 <= (found["beta"].high or 0)


def test_classes_that_nothing_speaks_for_have_no_row() -> None:
    table = confusion([[99, 1, 0, 0, 0], [0, 100, 0, 0, 0], [0, 0, 100, 0, 0], [0, 0, 0, 100, 0]])
    profile = estimate_profile("s", tally_of(TREE, [0, 0, 0, 500]), TREE, table)
    assert abundances(profile) == {"Bacteria": 1, "Beta": 1, "beta": 1}
    assert profile.richness == 1 and profile.shannon == 0 and profile.simpson == 0


def test_reads_of_organisms_never_seen_have_a_share_of_their_own() -> None:
    table = confusion([[9000, 0, 1000], [0, 9000, 1000], [1000, 1000, 8000]], has_unknown=True)
    # 0.4 of the first, 0.2 of the second, 0.4 unknown
    tally = tally_of(flat(2), [4000, 2200], unclassified=3800)
    profile = estimate_profile("s", tally, flat(2), table)
    assert profile.unknown == pytest.approx(0.4, abs=0.01)
    assert abundances(profile)["class 0"] == pytest.approx(0.4, abs=0.01)
    assert sum(row.abundance for row in profile.rows) + profile.unknown == pytest.approx(1)
    assert any("40% of this sample is of organisms that the model does not know" in line for line in profile.warnings)


def test_reads_that_could_not_be_judged_make_nothing_unknown() -> None:
    table = confusion([[9000, 0, 1000], [0, 9000, 1000], [1000, 1000, 8000]], has_unknown=True)
    tally = tally_of(flat(2), [900, 0], unclassified=100)
    tally.add(
        [call(0, -1, reason="no bases"), call(0, 0, reason="too short"), call(0, 0, reason="low complexity")] * 500
    )
    profile = estimate_profile("s", tally, flat(2), table, bootstraps=0)
    assert profile.unknown is not None and profile.unknown < 0.01
    assert profile.reads == 2500 and profile.unclassified == 1600


@given(st.lists(st.integers(0, 3000), min_size=4, max_size=4), st.integers(0, 300), st.booleans())
@settings(deadline=None, max_examples=40)
def test_abundances_add_up_at_every_level(counts: list[int], unclassified: int, measured: bool) -> None:
    table = confusion(
        [[50, 9, 2, 0, 6], [8, 40, 0, 1, 9], [3, 0, 60, 2, 0], [0, 0, 0, 70, 4], [5, 5, 5, 5, 90]], has_unknown=True
    )
    tally = tally_of(TREE, counts, unclassified)
    profile = estimate_profile("s", tally, TREE, table if measured else None, bootstraps=3)
    rows = {row.taxon: row for row in profile.rows}
    for row in profile.rows:
        below = [other for other in profile.rows if TREE.parents[other.taxon] == row.taxon]
        assert sum(other.abundance for other in below) <= row.abundance + 1e-9
        assert sum(other.reads for other in below) + row.direct == row.reads
        assert row.low is not None and row.high is not None
        assert 0 <= row.low <= row.abundance <= row.high <= 1 + 1e-9
    everything = rows[1].abundance + (profile.unknown or 0) if rows else 1
    if sum(counts) + (unclassified if measured else 0):
        assert everything == pytest.approx(1) or profile.unknown == pytest.approx(1)
    assert profile.method == ("em" if measured else "counts")


def test_the_same_seed_gives_the_same_intervals() -> None:
    table = confusion([[90, 10, 0], [20, 80, 0]])
    tally = tally_of(flat(2), [600, 400])
    first, again, other = (estimate_profile("s", tally, flat(2), table, seed=seed) for seed in (0, 0, 1))
    assert first == again != other
    assert [row.abundance for row in first.rows] == [row.abundance for row in other.rows]


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(5)
    rates = np.array([[0.85, 0.1, 0.0, 0.05], [0.1, 0.85, 0.0, 0.05], [0.05, 0.05, 0.85, 0.05]])
    truth = np.array([0.2, 0.5, 0.3])
    tree, held = flat(3), 0
    samples = 50
    for _ in range(samples):
        table = confusion([rng.multinomial(300, row).tolist() for row in rates])
        *counts, unclassified = rng.multinomial(2000, truth @ rates).tolist()
        profile = estimate_profile("s", tally_of(tree, counts, unclassified), tree, table, bootstraps=50)
        row = by_name(profile)["class 1"]
        assert row.low is not None and row.high is not None and row.high - row.low < 0.3
        held += row.low <= truth[1] <= row.high
    assert held / samples > 0.85  # 95% less what chance and 50 resamples take


def test_the_confusions_own_uncertainty_widens_the_intervals() -> None:
    tally = tally_of(flat(2), [6200, 3800])

    def width(times: int) -> float:
        table = confusion([[9 * times, times, 0], [2 * times, 8 * times, 0]])
        row = by_name(estimate_profile("s", tally, flat(2), table))["class 0"]
        return (row.high or 0) - (row.low or 0)

    assert width(2) > 3 * width(1000)


def test_no_bootstrap_no_intervals() -> None:
    profile = estimate_profile("s", tally_of(flat(2), [6, 4]), flat(2), None, bootstraps=0)
    assert [(row.low, row.high) for row in profile.rows] == [(None, None)] * 2


@pytest.mark.parametrize("table", [None, confusion([[9, 1, 0], [0, 10, 0]])], ids=["counts", "em"])
def test_a_sample_without_reads(table: Confusion | None) -> None:
    profile = estimate_profile("s", SampleTally(flat(2)), flat(2), table)
    assert profile.rows == () and profile.reads == 0
    assert (profile.shannon, profile.simpson, profile.richness) == (None, None, 0)


def test_nothing_but_unclassified_reads() -> None:
    profile = estimate_profile("s", tally_of(flat(2), [0, 0], unclassified=9), flat(2), None)
    assert profile.rows == () and profile.unclassified == 9


def test_diversity_by_hand() -> None:
    # Species: prima with its strain 1/2, secunda 1/4, beta 1/4. Reads that are called a genus alone are of no species.
    tally = tally_of(TREE, [30, 20, 25, 25])
    tally.add([call(place(20), 0)] * 50)
    profile = estimate_profile("s", tally, TREE, None, bootstraps=0)
    assert profile.shannon == pytest.approx(1.5 * math.log(2))
    assert profile.simpson == pytest.approx(1 - (1 / 4 + 1 / 16 + 1 / 16))
    assert profile.richness == 3


def test_diversity_of_classes_without_a_taxonomy() -> None:
    profile = estimate_profile("s", tally_of(flat(4), [10, 10, 10, 10]), flat(4), None, bootstraps=0)
    assert profile.shannon == pytest.approx(math.log(4)) and profile.richness == 4


def test_half_a_read_makes_no_species() -> None:
    # All calls of the second class are explained by the first.
    table = confusion([[9000, 1000, 0], [0, 10_000, 0]])
    profile = estimate_profile("s", tally_of(flat(2), [905, 95]), flat(2), table, bootstraps=0)
    assert profile.richness == 1 and abundances(profile) == {"class 0": 1, "class 1": 0}


def test_cells_instead_of_reads() -> None:
    # As many reads of both, and the genome of the first is four times as long: four times as many cells of the second.
    tally = tally_of(flat(2), [500, 500])
    lengths = {1: 8_000_000, 2: 2_000_000}
    profile = estimate_profile("s", tally, flat(2), None, genome_lengths=lengths)
    assert abundances(profile) == {"class 0": 0.2, "class 1": 0.8}
    assert profile.warnings == ()
    low = by_name(profile)["class 0"].low
    assert low is not None and 0.17 < low < 0.2


def test_cells_where_a_length_is_missing_and_some_organisms_are_unknown() -> None:
    table = confusion([[90, 0, 10], [0, 90, 10], [10, 10, 80]], has_unknown=True)
    tally = tally_of(flat(2), [4000, 2200], unclassified=3800)
    plain = estimate_profile("s", tally, flat(2), table)
    cells = estimate_profile("s", tally, flat(2), table, genome_lengths={1: 3_000_000})
    assert abundances(cells) == abundances(plain) and cells.unknown == plain.unknown
    assert any("no genome length is given for class 1: the mean" in line for line in cells.warnings)


def test_pairs_and_other_cut_offs_are_told() -> None:
    table = confusion([[90, 10, 10], [5, 95, 10]])
    tally = SampleTally(flat(2))
    tally.add([call(1, 0, mates=2)] * 90 + [call(2, 1, mates=2)] * 15 + [call(0, 0, mates=2)] * 10)
    profile = estimate_profile("s", tally, flat(2), table, default_cut_offs=False)
    assert any("measured on single reads" in line for line in profile.warnings)
    assert any("at the model's own cut-offs" in line for line in profile.warnings)


def test_at_other_cut_offs_what_is_unclassified_says_nothing() -> None:
    table = confusion([[500, 0, 500], [0, 1000, 0]])
    few = tally_of(flat(2), [500, 500])
    many = tally_of(flat(2), [500, 500], unclassified=5000)
    found = [estimate_profile("s", one, flat(2), table, default_cut_offs=False) for one in (few, many)]
    assert abundances(found[0]) == abundances(found[1]) == {"class 0": 0.5, "class 1": 0.5}
    # Of the called reads of the first class a fifth is called the second: 0.8 x 0.5 = 0.4.
    table = confusion([[40_000, 10_000, 50_000], [0, 90_000, 10_000]])
    profile = estimate_profile("s", tally_of(flat(2), [4000, 6000]), flat(2), table, default_cut_offs=False)
    assert by_name(profile)["class 0"].abundance == pytest.approx(0.5, abs=0.005)


def test_calls_that_do_not_fit_the_confusions_are_told() -> None:
    # Not a tenth but half of the reads of whatever this is are unclassified.
    table = confusion([[900, 0, 100], [0, 900, 100]])
    profile = estimate_profile("s", tally_of(flat(2), [300, 200], unclassified=500), flat(2), table)
    assert any("do not fit the confusions" in line for line in profile.warnings)
    fits = estimate_profile("s", tally_of(flat(2), [540, 360], unclassified=100), flat(2), table)
    assert fits.warnings == ()


def test_few_validation_reads_are_told_where_the_sample_rests_on_them() -> None:
    table = confusion([[900, 0, 100], [0, 6, 0]])
    rests = estimate_profile("s", tally_of(flat(2), [0, 500]), flat(2), table, bootstraps=0)
    assert any("rest on about 6 validation reads" in line for line in rests.warnings)
    does_not = estimate_profile("s", tally_of(flat(2), [900, 0], unclassified=100), flat(2), table, bootstraps=0)
    assert does_not.warnings == ()


def test_confusions_of_another_model_are_refused() -> None:
    with pytest.raises(ModelFolderError, match="of 2 classes and the model has 3"):
        estimate_profile("s", tally_of(flat(3), [1, 1, 1]), flat(3), confusion([[9, 1, 0], [0, 10, 0]]))


def test_thousands_of_classes_take_sparse_memory() -> None:
    import tracemalloc

    from scipy.sparse import csr_array

    classes = 3507
    rng = np.random.default_rng(0)
    truth = np.repeat(np.arange(classes), 6)
    called = np.where(rng.random(len(truth)) < 0.8, truth, np.minimum(truth + rng.integers(0, 3, len(truth)), classes))
    table = Confusion.of(truth, called, classes)
    assert isinstance(table.counts, csr_array)
    tree: ClassTree = flat(classes)
    tally = SampleTally(tree)
    tally.direct[1:] = rng.multinomial(10_000, rng.dirichlet(np.full(classes, 0.05)))
    tally.observed[:-1] = tally.direct[1:]
    tally.reads = 10_000
    tracemalloc.start()
    profile = estimate_profile("s", tally, tree, table, bootstraps=3)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 30e6  # classes x classes of float64 would take 98 MB
    assert sum(row.abundance for row in profile.rows) == pytest.approx(1)
