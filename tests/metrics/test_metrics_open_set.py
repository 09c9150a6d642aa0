"""Known reads and strangers told apart, on cases that can be computed by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metagene_classifier.metrics.open_set import (
    FoldNovelty,
    known_quantiles,
    open_set_as_dict,
    open_set_figures,
    open_set_from_dict,
)


def fold(known: list[float], unknown: list[float], name: str = "a") -> FoldNovelty:
    return FoldNovelty((name,), np.array(known, np.float64), np.array(unknown, np.float64))


def test_one_fold_by_hand():
    # 20 known reads of novelty 1 to 20: the least cut-off that keeps 95% of them is 19.
    found = open_set_figures("energy", [fold(list(range(1, 21)), [0.5, 10.5, 19.0, 19.5, 30.0])])
    assert (found.known, found.unknown) == (20, 5)
    # Strangers are above 0, 10, 18 (and as strange as one), 19 and 20 of 20 known reads.
    assert found.auroc == pytest.approx((0 + 10 + 18.5 + 19 + 20) / 100)
    assert found.false_calls_at_95 == pytest.approx(3 / 5)
    curve = dict(zip(found.retained.round(2).tolist(), found.false_calls.tolist(), strict=True))
    assert (curve[0.0], curve[0.05], curve[0.5], curve[1.0]) == pytest.approx((0.0, 1 / 5, 1 / 5, 4 / 5))
    assert len(found.retained) <= 101


def test_strangers_beyond_all_known_reads_are_told_apart_perfectly():
    found = open_set_figures("energy", [fold([1, 2, 3], [4, 5])])
    assert (found.auroc, found.false_calls_at_95, found.false_calls.max()) == (1.0, 0.0, 0.0)


def test_folds_whose_scores_are_of_another_scale_count_alike():
    one, other = fold([1, 2, 3, 4], [3.5, 5], "a"), fold([101, 102, 103, 104], [103.5, 105], "b")
    alone, both = open_set_figures("energy", [one]), open_set_figures("energy", [one, other])
    assert both.auroc == alone.auroc
    assert both.false_calls_at_95 == alone.false_calls_at_95
    np.testing.assert_allclose(both.false_calls, alone.false_calls)
    assert [each.left_out for each in both.folds] == [("a",), ("b",)]


def test_folds_weigh_by_their_strangers():
    found = open_set_figures("energy", [fold([1, 2], [3, 3, 3]), fold([1, 2], [0.5])])
    assert found.false_calls_at_95 == pytest.approx(1 / 4)


def test_quantiles_of_known_reads():
    found = known_quantiles(np.array([0.0, 2.0, 2.5, 9.0]), np.array([1.0, 2.0, 3.0, 4.0]))
    assert found.tolist() == [0.0, 1.5 / 4, 2 / 4, 1.0]


VALUES = st.lists(st.integers(0, 9), min_size=1, max_size=30)


@settings(deadline=None)
@given(VALUES, VALUES)
def test_the_more_known_reads_are_kept_the_more_strangers_are_called(known, unknown):
    found = open_set_figures("energy", [fold(known, unknown)])
    assert (np.diff(found.false_calls) >= 0).all()
    assert 0 <= found.auroc <= 1
    assert found.false_calls_at_95 == found.false_calls[95]


def test_figures_come_back_from_json():
    figures = {"energy": open_set_figures("energy", [fold([1, 2, 3], [2.5, 4])])}
    back = open_set_from_dict(json.loads(json.dumps(open_set_as_dict(figures))))
    assert back["energy"].folds == figures["energy"].folds
    assert back["energy"].false_calls.tolist() == figures["energy"].false_calls.tolist()
    assert (back["energy"].auroc, back["energy"].score) == (figures["energy"].auroc, "energy")
