"""What reads and pairs are called, on cases worked out by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.prediction.scored import FLAT, TREE, caller, energy_cutoff, facts, scored

from metagene_classifier.calling.tree import ClassTree
from metagene_classifier.errors import ConfigError
from metagene_classifier.prediction.call import Hit
from metagene_classifier.prediction.calling import check_cut_offs
from metagene_classifier.prediction.scorer import ScoredBlock
from metagene_classifier.prediction.stream_report import StreamReport
from metagene_classifier.reads.labels import ClassLabel, Labels

LOW, MIDDLE, HIGH, EVEN = (0.9, 0.05, 0.05), (0.5, 0.4, 0.1), (0.05, 0.05, 0.9), (0.35, 0.3, 0.35)


def one(calls):
    assert len(calls) == 1
    return calls[0]


def said(calls):
    return [(call.call, call.taxid, call.rank, call.reason) for call in calls]


def test_without_calibration_and_taxonomy_the_likeliest_class_is_called():
    calls = caller(FLAT).calls(scored([[LOW], [], [EVEN]]))
    assert said(calls) == [("Lowia", 100, "", ""), ("unclassified", None, "", "no bases"), ("Lowia", 100, "", "")]
    assert [call.confidence for call in calls] == pytest.approx([0.9, 0, 0.35])
    assert [call.best_class for call in calls] == [0, -1, 0]
    assert calls[1].probabilities.tolist() == [0, 0, 0]
    assert [call.length_bp for call in calls] == [100, 0, 100]


def test_without_calibration_a_taxonomy_gives_ranks_and_not_deeper_calls():
    assert said(caller(TREE).calls(scored([[EVEN]]))) == [("Lowia", 100, "species", "")]


def test_a_read_is_called_where_its_probability_adds_up_to_the_threshold():
    """0.5 and 0.4 make 0.9 for the genus; 0.35 and 0.3 do not reach it, and all three make 1 for the superkingdom."""
    calls = caller(TREE, threshold=0.85).calls(scored([[LOW], [MIDDLE], [EVEN]]))
    assert said(calls) == [
        ("Lowia", 100, "species", ""),
        ("Gcensis", 50, "genus", ""),
        ("Bacteria", 2, "superkingdom", ""),
    ]
    assert [call.confidence for call in calls] == pytest.approx([0.9, 0.9, 1.0])
    assert [TREE.taxa[call.taxon].taxid for call in calls] == [100, 50, 2]


def test_a_read_that_reaches_the_root_alone_is_unclassified():
    call = one(caller(FLAT, threshold=0.85).calls(scored([[MIDDLE]])))
    assert said([call]) == [("unclassified", None, "", "not sure enough")]
    assert call.confidence == pytest.approx(0.5) and call.taxon == 0 and call.best_class == 0
    assert call.probabilities.tolist() == pytest.approx(MIDDLE)


def test_the_temperature_decides_what_is_sure():
    """Scores halved: square roots of the probabilities, scaled to add up to 1."""
    roots = np.sqrt(MIDDLE)
    call = one(caller(FLAT, facts(single=2.0)).calls(scored([[MIDDLE]])))
    assert call.probabilities.tolist() == pytest.approx((roots / roots.sum()).tolist())


def test_short_and_simple_reads_are_unclassified_with_a_reason_and_keep_their_probabilities():
    block = scored([[LOW], [LOW], [], [LOW]], complexity=[0.9, 0.1, math.nan, math.nan])
    calls = caller(FLAT, min_tokens=41, min_complexity=0.2).calls(block)
    assert [call.reason for call in calls] == ["too short", "too short", "no bases", "too short"]
    calls = caller(FLAT, min_tokens=40, min_complexity=0.2).calls(block)
    assert [call.reason for call in calls] == ["", "low complexity", "no bases", ""]
    assert calls[1].call == "unclassified" and calls[1].confidence == pytest.approx(0.9) and calls[1].best_class == 0


def test_a_stranger_is_refused_whatever_its_probability():
    """Energy is minus the logarithm of the sum of exponentials: 0 for these scores, -5 with 5 added to each."""
    refusing = caller(FLAT, facts(refusal=energy_cutoff(-2.0)), threshold=0.8)
    assert one(refusing.calls(scored([[LOW]]))).reason == "unlike the training reads"
    assert one(refusing.calls(scored([[LOW]], shift=5.0))).reason == ""
    assert one(refusing.calls(scored([[EVEN]]))).reason == "not sure enough"
    closed = caller(FLAT, facts(refusal=energy_cutoff(-2.0)), closed_set=True)
    assert one(closed.calls(scored([[EVEN]]))).call == "Lowia"


def test_mates_are_called_together_by_their_product():
    """0.5 * 0.1, 0.4 * 0.6 and 0.1 * 0.3: of 0.32, three quarters for the second class."""
    pair = scored([[MIDDLE], [(0.1, 0.6, 0.3)]], names=["x/1", "x/2"])
    call = one(caller(FLAT, paired=True).calls(pair))
    assert call.probabilities.tolist() == pytest.approx([0.05 / 0.32, 0.24 / 0.32, 0.03 / 0.32])
    assert (call.read_id, call.call, call.length_bp) == ("x", "Midia", 200)
    assert [read.header for read in call.reads] == ["x/1", "x/2"]


def test_a_pair_has_a_temperature_of_its_own_and_a_single_mate_that_of_reads():
    block = scored([[MIDDLE], [MIDDLE], [MIDDLE], []])
    both, alone = caller(FLAT, facts(single=1.0, pairs=2.0), paired=True).calls(block)
    assert both.probabilities.tolist() == pytest.approx(MIDDLE)
    assert alone.probabilities.tolist() == pytest.approx(MIDDLE)
    both, alone = caller(FLAT, facts(single=2.0, pairs=1.0), paired=True).calls(block)
    squares, roots = np.square(MIDDLE), np.sqrt(MIDDLE)
    assert both.probabilities.tolist() == pytest.approx((squares / squares.sum()).tolist())
    assert alone.probabilities.tolist() == pytest.approx((roots / roots.sum()).tolist())


def test_a_mate_that_says_nothing_does_not_count_and_two_of_them_are_unclassified():
    simple, fine, unknown = 0.1, 0.9, math.nan
    windows = [[HIGH], [LOW], [LOW], [], [HIGH], [LOW], [], [], [], [LOW]]
    complexity = [simple, fine, fine, unknown, simple, simple, unknown, unknown, unknown, simple]
    calls = caller(FLAT, paired=True, min_complexity=0.2).calls(scored(windows, complexity=complexity))
    assert [call.call for call in calls] == ["Lowia", "Lowia", "unclassified", "unclassified", "unclassified"]
    assert [call.reason for call in calls] == ["", "", "low complexity", "no bases", "low complexity"]
    assert [call.confidence for call in calls] == pytest.approx([0.9, 0.9, 18 / 37, 0, 0.9])
    assert [call.best_class for call in calls] == [0, 0, 0, -1, 0]
    assert calls[0].length_bp == 200


def test_the_strangeness_of_a_pair_is_the_mean_of_its_mates():
    """Energies of -5 and 0: their mean lies on one side of -2 and on the other of -3."""
    mates = [scored([[LOW]], shift=5.0), scored([[LOW]])]
    block = ScoredBlock(
        [read for mate in mates for read in mate.reads],
        np.array([100, 100]),
        np.concatenate([mate.values for mate in mates]),
        StreamReport(reads=2),
        tokens=np.array([40, 40]),
        window_counts=np.array([1, 1]),
        window_values=np.concatenate([mate.values for mate in mates]),
        window_tokens=np.array([40, 40]),
    )
    assert one(caller(FLAT, facts(refusal=energy_cutoff(-2.0)), paired=True).calls(block)).reason == ""
    assert one(caller(FLAT, facts(refusal=energy_cutoff(-3.0)), paired=True).calls(block)).reason != ""


def test_hits_are_what_windows_are_called_by_themselves():
    block = scored([[LOW, HIGH, EVEN], [MIDDLE], []])
    calls = caller(TREE, threshold=0.85).calls(block)
    assert calls[0].hits == ((Hit(100, 40), Hit(102, 40), Hit(2, 40)),)
    assert [call.hits for call in calls[1:]] == [((Hit(50, 40),),), ((),)]
    pair = one(caller(FLAT, threshold=0.85, paired=True).calls(scored([[LOW, EVEN], [HIGH]])))
    assert pair.hits == ((Hit(100, 40), Hit(0, 40)), (Hit(102, 40),))
    assert one(caller(FLAT, hits=False).calls(scored([[LOW]]))).hits == ()


def test_a_read_that_is_refused_has_no_hit():
    assert one(caller(FLAT, min_tokens=41).calls(scored([[LOW]]))).hits == ((Hit(0, 40),),)
    long = scored([[LOW, LOW]], complexity=[0.1])
    assert one(caller(FLAT, min_complexity=0.2).calls(long)).hits == ((Hit(0, 40), Hit(0, 40)),)


def test_windows_of_a_chimera_are_called_by_their_parts():
    windows = caller(TREE, threshold=0.85).window_calls(scored([[LOW, LOW, HIGH], [], [MIDDLE]]))
    assert [(w.read_id, w.mate, w.window, w.start_bp, w.end_bp, w.call, w.rank) for w in windows] == [
        ("r0", 1, 1, 0, 100, "Lowia", "species"),
        ("r0", 1, 2, 100, 200, "Lowia", "species"),
        ("r0", 1, 3, 200, 300, "Highia", "species"),
        ("r2", 1, 1, 0, 100, "Gcensis", "genus"),
    ]
    assert [w.confidence for w in windows] == pytest.approx([0.9, 0.9, 0.9, 0.9])
    mates = caller(FLAT, paired=True).window_calls(scored([[LOW], [LOW, HIGH]], names=["x/1", "x/2"]))
    assert [(w.read_id, w.mate, w.window) for w in mates] == [("x", 1, 1), ("x", 2, 1), ("x", 2, 2)]


def test_classes_that_share_a_taxid_keep_their_labels_in_a_closed_set():
    labels = Labels((ClassLabel("0", "strain A", 7), ClassLabel("1", "strain B", 7), ClassLabel("2", "other", 8)))
    block = scored([[MIDDLE], [(0.4, 0.5, 0.1)]])
    assert [call.call for call in caller(ClassTree.of(labels)).calls(block)] == ["strain A", "strain B"]
    open_set = caller(ClassTree.of(labels), threshold=0.85).calls(block)
    assert [(call.call, call.taxid) for call in open_set] == [("strain A", 7), ("strain A", 7)]


SHARES = st.tuples(st.integers(1, 50), st.integers(1, 50), st.integers(1, 50)).map(
    lambda weights: tuple(weight / sum(weights) for weight in weights)
)


@settings(deadline=None)
@given(
    st.lists(st.lists(SHARES, max_size=3), max_size=8).filter(lambda reads: len(reads) % 2 == 0),
    st.booleans(),
    st.integers(0, 4),
    st.sampled_from([0.0, 0.4, 0.8]),
)
def test_a_read_is_called_the_same_beside_whichever_others(windows, paired, cut, threshold):
    """Byte for byte: blocks may be cut between any reads, or pairs, by shards, workers and requests."""
    cut = min(2 * cut, len(windows))
    calls_them = caller(TREE, facts(single=1.7, pairs=0.6), paired=paired, threshold=threshold, min_tokens=41)
    names = [f"r{number // 2}/{number % 2 + 1}" for number in range(len(windows))]
    whole = calls_them.calls(scored(windows, names=names))
    parts = [
        call
        for part in (slice(None, cut), slice(cut, None))
        if windows[part]
        for call in calls_them.calls(scored(windows[part], names=names[part]))
    ]
    assert len(whole) == len(parts) == len(windows) // (2 if paired else 1)
    for left, right in zip(whole, parts, strict=True):
        assert left.probabilities.tobytes() == right.probabilities.tobytes()
        assert (left.call, left.confidence, left.reason, left.hits, left.best_class, left.read_id) == (
            *(right.call, right.confidence, right.reason, right.hits, right.best_class, right.read_id),
        )


@settings(deadline=None)
@given(st.lists(SHARES, min_size=1, max_size=6), st.sampled_from([0.0, 0.5, 0.8]))
def test_a_read_of_one_window_is_called_as_its_window_is(rows, threshold):
    calls_them = caller(TREE, facts(single=0.7), threshold=threshold)
    block = scored([[row] for row in rows])
    for call, window in zip(calls_them.calls(block), calls_them.window_calls(block), strict=True):
        assert (call.call, call.taxid, call.rank, call.confidence) == (
            *(window.call, window.taxid, window.rank, window.confidence),
        )


def test_two_ways_to_say_how_sure_are_refused():
    check_cut_offs(0.5, None, False)
    with pytest.raises(ConfigError, match="--confidence and --closed-set each say how sure"):
        check_cut_offs(0.5, None, True)
