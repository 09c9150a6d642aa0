"""How reads lie in a batch, how they are split, and which other reads are there never changes a read's scores."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metagene_classifier.batching.framing import Framing
from metagene_classifier.model.out_of_memory import TokenBudget
from metagene_classifier.model.scoring import score_reads

FRAMING = Framing(prefix=(3,), suffix=(4,), pad_id=0, max_length=64, overlap=0.125)
FEW = settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
POOLINGS = ("mean", "max", "cls", "last")
# A read of up to 150 tokens is three windows of 64.
READS = st.lists(
    st.integers(1, 150).flatmap(lambda length: st.integers(0, 2**32 - 1).map(lambda seed: (length, seed))),
    min_size=1,
    max_size=9,
).map(lambda drawn: [np.random.default_rng(seed).integers(6, 1024, length) for length, seed in drawn])


def scores(classifier, reads, layout, max_tokens):
    return score_reads(
        classifier,
        reads,
        FRAMING,
        width=5,
        budget=TokenBudget(max_tokens),
        layout=layout,
        device=torch.device("cpu"),
    )


def one_by_one(classifier, reads):
    return np.concatenate([scores(classifier, [read], "padded", 1) for read in reads])


def assert_same(values, expected):
    np.testing.assert_allclose(values, expected, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_llama_scores_reads_alike_packed_bucketed_and_padded(classifier_of, llama_encoder, attention, pooling):
    classifier = classifier_of(llama_encoder, pooling, attention)

    @FEW
    @given(reads=READS, max_tokens=st.integers(1, 1500))
    def check(reads, max_tokens):
        expected = one_by_one(classifier, reads)
        for layout in ("packed", "buckets", "padded"):
            assert_same(scores(classifier, reads, layout, max_tokens), expected)

    check()


@pytest.mark.parametrize("pooling", POOLINGS)
def test_bert_scores_reads_alike_packed_bucketed_and_padded(classifier_of, bert_encoder, pooling):
    classifier = classifier_of(bert_encoder, pooling)

    @FEW
    @given(reads=READS, max_tokens=st.integers(1, 1500))
    def check(reads, max_tokens):
        expected = one_by_one(classifier, reads)
        for layout in ("packed", "buckets", "padded"):
            assert_same(scores(classifier, reads, layout, max_tokens), expected)

    check()


@pytest.mark.parametrize("layout", ["packed", "buckets", "padded"])
def test_scores_of_a_read_do_not_depend_on_its_neighbours(classifier_of, llama_encoder, layout):
    classifier = classifier_of(llama_encoder)

    @FEW
    @given(reads=READS, others=READS)
    def check(reads, others):
        alone = scores(classifier, reads, layout, 4096)
        together = scores(classifier, [*others, *reads, *others], layout, 4096)
        assert_same(together[len(others) : len(others) + len(reads)], alone)

    check()


def test_an_adapter_changes_nothing_of_that(classifier_of, llama_encoder):
    classifier = classifier_of(llama_encoder, lora=("q_proj", "v_proj", "down_proj"))

    @FEW
    @given(reads=READS, max_tokens=st.integers(1, 1500))
    def check(reads, max_tokens):
        expected = one_by_one(classifier, reads)
        for layout in ("packed", "buckets"):
            assert_same(scores(classifier, reads, layout, max_tokens), expected)

    check()


def test_reads_that_differ_get_scores_that_differ(classifier_of, llama_encoder):
    """Without this the tests above would pass on an encoder that looks at nothing."""
    classifier = classifier_of(llama_encoder)
    one, other = np.arange(10, 50), np.arange(10, 50)[::-1]
    assert np.abs(scores(classifier, [one], "packed", 999) - scores(classifier, [other], "packed", 999)).max() > 0.1


@pytest.mark.slow
def test_flex_attention_scores_packed_reads_as_sdpa_does(classifier_of, llama_encoder):
    reads = [np.random.default_rng(length).integers(6, 1024, length) for length in (30, 7, 41, 12)]
    expected = scores(classifier_of(llama_encoder, attention="sdpa"), reads, "packed", 1000)
    assert_same(scores(classifier_of(llama_encoder, attention="flex_attention"), reads, "packed", 1000), expected)
