"""The shares of a mixture: cases computed by hand, and what must hold for all."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tests.prediction.profile.called import confusion

from metagene_classifier.calling.confusion import Confusion
from metagene_classifier.prediction.profile.mixture import fit_mixture
from metagene_classifier.prediction.profile.rates import (
    CallRates,
    Concentrations,
    call_rates,
    fit_concentrations,
)

AS_COUNTED = Concentrations(1e-6, 1e-6)
"""No smoothing to speak of: rates are the counts' own."""


def rates_of(
    table: Confusion,
    concentrations: Concentrations | None = None,
    rng: np.random.Generator | None = None,
    groups: np.ndarray | None = None,
) -> CallRates:
    alone = np.arange(table.classes) if groups is None else groups
    return call_rates(table, alone, concentrations or fit_concentrations(table, alone), rng)


def shares_of(
    rows: list[list[int]], observed: list[int], *, has_unknown: bool = False, called_only: bool = False
) -> list[float]:
    rates = rates_of(confusion(rows, has_unknown=has_unknown), AS_COUNTED)
    mixture = fit_mixture(rates.given_called() if called_only else rates, np.array(observed))
    assert mixture.converged
    return [round(float(share), 3) for share in mixture.shares]


def test_two_classes_by_hand() -> None:
    # Of the first class 90% are called right, of the second 80%: 0.9 x 0.6 + 0.2 x 0.4 = 0.62.
    assert shares_of([[9000, 1000, 0], [2000, 8000, 0]], [62_000, 38_000, 0]) == [0.6, 0.4]


def test_three_classes_by_hand() -> None:
    # A third of the second class is called the first, and nothing of it is in the sample.
    rows = [[1000, 0, 0, 0], [500, 1000, 0, 0], [0, 100, 900, 0]]
    assert shares_of(rows, [10_000, 0, 0, 0]) == [1, 0, 0]
    # 0.5 x 1 + 0.3 x 1/3 = 0.6; 0.3 x 2/3 + 0.2 x 1/10 = 0.22; 0.2 x 9/10 = 0.18
    assert shares_of(rows, [60_000, 22_000, 18_000, 0]) == [0.5, 0.3, 0.2]


def test_a_class_that_is_seldom_sure_is_made_up_for() -> None:
    # Half of the first class's reads are unclassified and none of the second's: of 100 reads 25 and 50 are called.
    assert shares_of([[500, 0, 500], [0, 1000, 0]], [25_000, 50_000, 25_000]) == [0.5, 0.5]


def test_organisms_never_seen_take_what_is_unclassified_too_often() -> None:
    # A tenth of the known reads is unclassified, and of the unknown ones eight tenths; the rest is called the first.
    rows = [[900_000, 0, 100_000], [0, 900_000, 100_000], [200_000, 0, 800_000]]
    # Shares 0.3, 0.2, 0.5: 0.27 + 0.10, 0.18, 0.03 + 0.02 + 0.40
    assert shares_of(rows, [37_000, 18_000, 45_000], has_unknown=True) == [0.3, 0.2, 0.5]


def test_at_other_cut_offs_the_called_reads_alone_are_fitted() -> None:
    # Given that they are called, reads of the first class are called right in 8 of 10 cases.
    assert shares_of([[400, 100, 500], [0, 900, 100]], [40_000, 60_000], called_only=True) == [0.5, 0.5]


def test_a_class_that_is_never_called_is_never_estimated_at_other_cut_offs() -> None:
    assert shares_of([[0, 0, 500], [0, 900, 100]], [0, 600], called_only=True) == [0, 1]


def test_a_sample_without_reads_has_no_shares() -> None:
    assert shares_of([[10, 0, 0], [0, 10, 0]], [0, 0, 0]) == [0, 0]


def test_calls_that_no_class_explains_are_passed_over() -> None:
    # Not one validation read was unclassified.
    assert shares_of([[10, 0, 0], [0, 10, 0]], [6, 2, 100]) == [0.75, 0.25]


counts = st.integers(0, 10_000)


@settings(deadline=None)
@given(st.lists(counts, min_size=1, max_size=8).filter(any))
def test_without_confusions_shares_are_those_of_the_reads(observed: list[int]) -> None:
    classes = len(observed)
    table = confusion([[50 * (row == column) for column in range(classes + 1)] for row in range(classes)])
    mixture = fit_mixture(rates_of(table), np.array([*observed, 0]))
    np.testing.assert_allclose(mixture.shares, np.array(observed) / sum(observed), atol=1e-6)


tables = st.integers(1, 5).flatmap(
    lambda classes: st.tuples(
        hnp.arrays(np.int64, (classes + 1, classes + 1), elements=st.integers(0, 200)),
        hnp.arrays(np.int64, classes + 1, elements=st.sampled_from([0, 0, 1, 7, 3000])),
        st.booleans(),
    )
)


@settings(max_examples=150, deadline=None)
@given(tables)
def test_for_any_confusions_shares_are_shares_and_the_likeliest(
    case: tuple[np.ndarray, np.ndarray, bool],
) -> None:
    rows, observed, has_unknown = case
    table = confusion(rows[: None if has_unknown else -1].tolist(), has_unknown=has_unknown)
    rates = rates_of(table, groups=np.arange(table.classes) // 2)
    dense = rates.dense()
    assert (dense >= -1e-12).all()
    np.testing.assert_allclose(dense.sum(axis=1), 1)
    mixture = fit_mixture(rates, observed)
    assert (mixture.shares >= 0).all()
    if not mixture.reads:
        assert not mixture.shares.any()
        return
    assert mixture.shares.sum() == pytest.approx(1)
    np.testing.assert_allclose(mixture.expected[observed > 0], (mixture.shares @ dense)[observed > 0], atol=1e-9)
    # No step toward any single class makes the calls likelier: that is what the largest likelihood is.
    seen = (observed > 0) & (dense.max(axis=0) > 0)
    if not mixture.converged:  # rows that are nearly alike: the likelihood is flat, and its end far
        return
    gains = dense[:, seen] @ (observed[seen] / (mixture.shares @ dense)[seen]) / mixture.reads
    assert gains.max() <= 1 + 0.02 / mixture.reads + 1e-3 * len(rows) / mixture.reads


def test_few_reads_of_a_class_are_helped_out_by_all_the_others() -> None:
    # Nine classes of ten are called right nine times of ten; of the last there is one read, called wrongly by chance.
    rows = [[90 * (row == column) for column in range(10)] + [10] for row in range(9)]
    rows.append([1] + [0] * 10)
    rates = rates_of(confusion(rows)).dense()
    assert rates[9, 9] > 0.7  # and not 0
    assert 0.87 < rates[0, 0] < 0.93


def test_classes_that_differ_stay_as_they_were_measured() -> None:
    rows = [[1000, 0, 0], [500, 500, 0]]
    rates = rates_of(confusion(rows)).dense()
    np.testing.assert_allclose(rates, [[1, 0, 0], [0.5, 0.5, 0]], atol=0.01)


def test_a_class_without_validation_reads_behaves_like_the_others() -> None:
    rows = [[80, 0, 0, 20], [0, 80, 0, 20], [0, 0, 0, 0]]
    rates = rates_of(confusion(rows)).dense()
    np.testing.assert_allclose(rates[2], [0, 0, 0.8, 0.2], atol=1e-9)


@settings(deadline=None)
@given(tables, st.integers(0, 2**32 - 1), st.lists(st.integers(0, 3), min_size=5, max_size=5))
def test_rates_that_are_drawn_are_rates(
    case: tuple[np.ndarray, np.ndarray, bool], seed: int, grouped: list[int]
) -> None:
    rows, _, has_unknown = case
    table = confusion(rows[: None if has_unknown else -1].tolist(), has_unknown=has_unknown)
    groups = np.array(grouped[: table.classes])
    drawn = rates_of(table, rng=np.random.default_rng(seed), groups=groups).dense()
    assert drawn.shape == rates_of(table, groups=groups).dense().shape
    assert (drawn >= -1e-12).all()
    np.testing.assert_allclose(drawn.sum(axis=1), 1)


def test_rates_that_are_drawn_vary_as_the_counts_allow() -> None:
    table = confusion([[60, 30, 5, 5], [0, 0, 0, 0], [0, 0, 5000, 5000], [40, 20, 10, 30]], has_unknown=True)
    rng = np.random.default_rng(0)
    drawn = np.array([rates_of(table, AS_COUNTED, rng).dense() for _ in range(2000)])
    mean = rates_of(table, AS_COUNTED).dense()
    np.testing.assert_allclose(drawn[:, [0, 2, 3]].mean(axis=0), mean[[0, 2, 3]], atol=0.006)
    # A Dirichlet variable's standard deviation, of 100 reads and of 10,000.
    assert drawn[:, 0, 0].std() == pytest.approx(np.sqrt(0.6 * 0.4 / 101), rel=0.06)
    assert drawn[:, 0, 1].std() == pytest.approx(np.sqrt(0.3 * 0.7 / 101), rel=0.06)
    assert drawn[:, 2, 2].std() == pytest.approx(np.sqrt(0.5 * 0.5 / 10_001), rel=0.06)
    assert drawn[:, 3, 0].std() == pytest.approx(np.sqrt(0.4 * 0.6 / 101), rel=0.06)


def test_with_few_classes_the_measured_rates_count_for_more_than_what_they_have_in_common() -> None:
    rows = [[240, 30, 0, 30], [60, 210, 0, 30], [15, 15, 255, 15]]
    rates = rates_of(confusion(rows)).dense()
    np.testing.assert_allclose(rates, np.array(rows) / 300, atol=0.02)


def test_what_a_class_was_never_seen_called_goes_to_its_sisters_where_others_do_so() -> None:
    # Pairs of sisters; of the first three a fifth is called the sister. Of the last there is one read, called right.
    rows = [[80 * (row == column) + 20 * (row ^ 1 == column) for column in range(8)] + [0] for row in range(6)]
    rows += [[0] * 6 + [1, 0, 0], [0] * 9]
    pairs = np.arange(8) // 2
    rates = rates_of(confusion(rows), groups=pairs).dense()
    assert rates[6, 7] > 0.1 > 0.02 > rates[6, :6].sum()
    np.testing.assert_allclose(rates[7], rates[6][[0, 1, 2, 3, 4, 5, 7, 6, 8]], atol=0.03)
    alone = rates_of(confusion(rows)).dense()
    assert alone[6, 7] < 0.05 < alone[6, :6].sum()
