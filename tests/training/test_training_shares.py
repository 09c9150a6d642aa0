"""Ranks share a step's reads, and the validation reads, out evenly by tokens; nothing is left out or done twice."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from metagene_classifier.training import evaluation
from metagene_classifier.training.evaluation import score_in_blocks, to_probabilities
from metagene_classifier.training.shares import fair_shares

SIZES = st.lists(st.integers(1, 2000), max_size=60)


@given(SIZES, st.integers(1, 9))
def test_every_piece_is_in_one_share_and_none_is_larger_than_the_mean_by_more_than_a_piece(sizes, ranks):
    tokens = np.array(sizes, np.int64)
    shares = fair_shares(tokens, ranks)
    assert len(shares) == ranks
    assert sorted(np.concatenate(shares).tolist()) == list(range(len(sizes)))
    assert all((np.diff(share) > 0).all() for share in shares)
    assert max(tokens[share].sum() for share in shares) <= tokens.sum() / ranks + max(sizes, default=0)


def test_reads_of_very_unlike_lengths_are_shared_out_by_their_tokens():
    tokens = np.array([500, 10, 10, 10] * 8)
    assert [int(tokens[share].sum()) for share in fair_shares(tokens, 4)] == [1060] * 4
    assert max(int(tokens[rank::4].sum()) for rank in range(4)) == 4000


def test_one_rank_takes_the_reads_as_they_come():
    assert fair_shares(np.array([3, 9, 1, 7]), 1)[0].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("ranks", [1, 2, 3, 8])
@pytest.mark.parametrize("reads", [0, 1, 7, 150])
def test_every_validation_read_is_scored_once_and_all_ranks_have_all_scores(monkeypatch, reads, ranks):
    monkeypatch.setattr(evaluation, "READS_PER_BLOCK", 16)
    tokens = np.random.default_rng(reads).integers(10, 500, reads)
    expected = np.random.default_rng(1).normal(size=(reads, 3)).astype(np.float32)
    scored: list[int] = []
    found: list[np.ndarray] = []

    def score(block: range) -> np.ndarray:
        scored.extend(block)
        return expected[block.start : block.stop]

    monkeypatch.setattr(evaluation, "_sum_over_ranks", lambda scores, device: found.append(scores))
    for rank in range(ranks):
        accelerator = SimpleNamespace(num_processes=ranks, process_index=rank, device=torch.device("cpu"))
        mine = score_in_blocks(tokens, score, width=3, accelerator=accelerator)
    assert sorted(scored) == list(range(reads))
    np.testing.assert_array_equal(mine if ranks == 1 else np.sum(found, axis=0), expected)


def test_probabilities_are_made_in_place_piece_by_piece(monkeypatch):
    monkeypatch.setattr(evaluation, "PIECE", 10)
    scores = np.random.default_rng(2).normal(size=(11, 3)).astype(np.float32)
    expected = torch.from_numpy(scores.copy()).softmax(1).numpy()
    made = to_probabilities(scores)
    assert made is scores
    np.testing.assert_allclose(made, expected, rtol=1e-5)
