"""Pictures of calibration, open sets, ranks, kinds of reads and samples: what is drawn is what was measured."""

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from metagene_classifier.metrics.calibration import Reliability
from metagene_classifier.metrics.groups import GroupFigures, GroupRow
from metagene_classifier.metrics.open_set import OpenSetFigures
from metagene_classifier.metrics.ranks import ProfileFigures, RankFigures
from metagene_classifier.report.drawing import svg_text
from metagene_classifier.report.prediction_plots import (
    Histogram,
    Interval,
    histograms_figure,
    intervals_figure,
    stacked_bars_figure,
)
from metagene_classifier.report.quality_plots import (
    groups_figure,
    open_set_figure,
    ranks_figure,
    reliability_figure,
    thresholds_figure,
)

PROFILE = ProfileFigures(0.0, 0.0, 1.0, 1.0, 1.0)


def words(figure):
    """All text in the picture."""
    return [text.strip() for text in ElementTree.fromstring(svg_text(figure)).itertext() if text.strip()]


def test_reliability_shows_bins_that_have_reads():
    bins = Reliability(np.array([0, 0.5, 1]), np.array([0, 8]), np.array([0.0, 0.9]), np.array([0.0, 0.75]), ece=0.15)
    figure = reliability_figure({"Softmax": bins})
    diagonal, curve = figure.axes[0].lines
    assert curve.get_xydata().tolist() == [[0.9, 0.75]], "an empty bin is no point at zero"
    assert diagonal.get_xydata().tolist() == [[0, 0], [1, 1]]
    assert [bar.get_height() for bar in figure.axes[1].patches] == [0, 8]
    assert "Softmax: ECE 0.1500" in words(figure)


def test_open_set_curves_are_those_of_the_scores():
    curve = OpenSetFigures(
        "energy", 0.875, 0.25, 4, 4, np.array([0.0, 0.5, 1.0]), np.array([0.0, 0.125, 1.0]), folds=()
    )
    figure = open_set_figure({"energy": curve}, {"energy": "Energy"})
    assert figure.axes[0].lines[-1].get_xydata().tolist() == [[0, 0], [0.5, 0.125], [1, 1]]
    assert "Energy: AUROC 0.875" in words(figure)


def test_thresholds_mark_the_default_and_leave_gaps_where_nothing_is_called():
    figure = thresholds_figure([0.0, 0.5, 1.0], {"precision": [0.5, 0.75, None]}, 0.5)
    assert np.isnan(figure.axes[0].lines[0].get_ydata()[2])
    assert "default 0.5" in words(figure)


def test_ranks_of_a_classifier_that_lacks_some_have_gaps():
    def at(rank, completeness):
        return RankFigures(rank, 4, 3, 2, 2, completeness, None, None, None, 0.5, PROFILE, None)

    figure = ranks_figure({"this model": [at("genus", 0.75), at("species", 0.5)], "other": [at("genus", 0.25)]})
    ours, other = figure.axes[0].lines
    assert ours.get_ydata().tolist() == [0.75, 0.5]
    assert other.get_ydata()[0] == 0.25
    assert np.isnan(other.get_ydata()[1])
    assert {"this model", "other", "Completeness", "Purity"} <= set(words(figure))


def test_kinds_of_reads_are_named_and_marked():
    rows = (GroupRow("+", 4, 4, 3, 0.75, None, 0.5), GroupRow("-", 2, 1, 1, 0.5, 1.0, 0.5))
    figure = groups_figure([GroupFigures("strand", rows)])
    precision, sensitivity, accuracy = figure.axes[0].collections
    assert precision.get_offsets().filled(np.nan)[:, 0].tolist()[1] == 1.0
    assert sensitivity.get_offsets()[:, 0].tolist() == [0.5, 0.5]
    assert accuracy.get_offsets()[:, 0].tolist() == [0.75, 0.5]
    assert {"By strand", "+", "-"} <= set(words(figure))


def test_bars_of_a_sample_reach_to_the_whole():
    figure = stacked_bars_figure(
        ["monday", "tuesday"],
        {"E. coli": [0.5, 0.0], "S. enterica": [0.125, 0.25]},
        {"other taxa": [0.125, 0.0], "above": [0.0, 0.0]},
        [0.25, 0.75],
    )
    bars = figure.axes[0].patches
    for row in (0, 1):
        ends = [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in bars[row::2]]
        assert [start for start, _ in ends[1:]] == [end for _, end in ends[:-1]], "side by side"
        assert ends[0][0] == 0 and ends[-1][1] == pytest.approx(1)
    shown = words(figure)
    assert {"monday", "tuesday", "E. coli", "unclassified"} <= set(shown)
    assert "above" not in shown, "what no sample has is not in the legend"


def test_abundances_have_lines_from_low_to_high():
    figure = intervals_figure(
        {"monday": {"E. coli": Interval(0.5, 0.375, 0.75)}, "tuesday": {"phiX174": Interval(0.25, None, None)}}
    )
    line, point, other = figure.axes[0].lines
    assert list(line.get_xdata()) == [0.375, 0.75]
    assert list(point.get_xdata()) == [0.5]
    assert list(other.get_xdata()) == [0.25]
    assert {"E. coli", "phiX174", "monday", "tuesday"} <= set(words(figure))


def test_histograms_are_shares_and_a_single_length_is_no_wall():
    one = Histogram(np.array([101.0, 102.0]), np.array([8]))
    confidence = Histogram(np.array([0.0, 0.5, 1.0]), np.array([2, 6]))
    figure = histograms_figure({"monday": one}, {"monday": confidence})
    left, right = figure.axes
    assert left.get_xlim()[1] - left.get_xlim()[0] >= 20
    assert right.patches[0].get_data().values.tolist() == [0.25, 0.75]
    ticks = [tick.get_text() for tick in left.get_xticklabels() if tick.get_text()]
    assert len(ticks) == len(set(ticks))
