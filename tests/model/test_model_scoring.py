import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from metagene_classifier.batching.framing import Framing
from metagene_classifier.model.out_of_memory import TokenBudget
from metagene_classifier.model.scoring import probabilities_of, score_reads

CPU = torch.device("cpu")
FRAMING = Framing(prefix=(3,), suffix=(4,), pad_id=0, max_length=32, overlap=0.125)
LONG = np.random.default_rng(0).integers(6, 1024, 100)  # four windows
SHORT = np.random.default_rng(1).integers(6, 1024, 12)


def scored(run, reads, width, layout="buckets", max_tokens=1000):
    return score_reads(run, reads, FRAMING, width=width, budget=TokenBudget(max_tokens), layout=layout, device=CPU)


def test_scores_of_windows_are_averaged_by_their_tokens():
    """A stand-in whose score of a segment is its first own token, so that the average can be made by hand."""

    def run(batch):
        return batch.ids[:, 1:2].float()

    windows = FRAMING.segments(LONG)
    expected = np.average([window[1] for window in windows], weights=[len(window) for window in windows])
    values = scored(run, [SHORT, LONG, SHORT], 1)
    assert values[:, 0].tolist() == pytest.approx([SHORT[0], expected, SHORT[0]])


def test_windows_of_mean_pooled_reads_score_as_all_their_tokens_pooled_together(classifier_of, llama_encoder):
    classifier = classifier_of(llama_encoder, "mean")
    tokens = []
    for window in FRAMING.segments(LONG):
        with torch.no_grad():
            tokens.append(classifier.encoder(torch.tensor(window)[None]).last_hidden_state[0])
    with torch.no_grad():
        expected = classifier.head(torch.cat(tokens).mean(0)).numpy()
    np.testing.assert_allclose(scored(classifier, [LONG], 5)[0], expected, rtol=1e-4, atol=1e-5)


def test_embeddings_come_out_in_the_order_of_the_reads(classifier_of, llama_encoder):
    encoder = classifier_of(llama_encoder, pooled_only=True)
    reads = [LONG, SHORT, LONG[:40], SHORT[:5]]
    together = scored(encoder.embed, reads, 32, max_tokens=70)
    assert together.shape == (4, 32)
    for place, read in enumerate(reads):
        np.testing.assert_allclose(together[place], scored(encoder.embed, [read], 32)[0], rtol=1e-4, atol=1e-5)


def test_an_encoder_without_a_head_has_no_scores(classifier_of, llama_encoder):
    with pytest.raises(RuntimeError, match="without a head"):
        scored(classifier_of(llama_encoder, pooled_only=True), [SHORT], 5)


def test_no_reads_give_no_rows(classifier_of, llama_encoder):
    assert scored(classifier_of(llama_encoder), [], 5).shape == (0, 5)


def test_pooling_and_head_are_in_float32(classifier_of, llama_encoder):
    classifier = classifier_of(llama_encoder)
    assert classifier.head.weight.dtype is torch.float32
    assert classifier.head.bias is not None


@given(rows=st.lists(st.lists(st.floats(-300, 300, width=32), min_size=4, max_size=4), min_size=1, max_size=5))
def test_probabilities_sum_to_one_and_rank_as_the_scores(rows):
    scores = np.array(rows, np.float32)
    probabilities = probabilities_of(scores)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
    best = probabilities.max(1)
    assert (probabilities[np.arange(len(rows)), scores.argmax(1)] == best).all()
