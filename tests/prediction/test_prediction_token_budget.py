"""What goes through the encoder at once in prediction: what was asked for, or what fits beside the weights."""

import pytest
import torch

from metagene_classifier.hub import encoder_config_for
from metagene_classifier.memory.device import DeviceMemory
from metagene_classifier.memory.reserve import KERNELS_BYTES
from metagene_classifier.memory.units import GIB
from metagene_classifier.model.out_of_memory import DeviceMemoryError
from metagene_classifier.prediction.token_budget import (
    DEFAULT_MAX_TOKENS,
    budget_for,
    check_encoder_fits,
    tokens_asked,
    tokens_beside,
)

CPU = torch.device("cpu")


def test_reads_are_counted_at_full_length_and_tokens_win():
    assert tokens_asked(None, None, 512) is None
    assert tokens_asked(16, None, 512) == 8192
    assert tokens_asked(16, 300, 512) == 300


def test_a_budget_that_was_asked_for_is_kept(classifier_of, llama_encoder):
    classifier = classifier_of(llama_encoder)

    def budget(asked):
        return budget_for(classifier, asked=asked, longest=64, layout="buckets", device=CPU, tell=print).tokens

    assert budget(700) == 700
    assert budget(None) == DEFAULT_MAX_TOKENS["cpu"]


def test_more_free_memory_holds_more_tokens_and_one_read_is_the_least(classifier_of, llama_encoder):
    classifier = classifier_of(llama_encoder)

    def tokens(free):
        there = DeviceMemory(KERNELS_BYTES + free, "a card", "cuda")
        return tokens_beside(classifier, there, longest=64, layout="packed")

    assert tokens(0) == 64
    few, more = tokens(2**20), tokens(2**22)
    assert 64 <= few < more < tokens(2**40)
    # Twice the memory, twice the tokens: weights are there already and do not count.
    assert tokens(2**23) == pytest.approx(2 * more, rel=0.1)


def test_what_is_free_holds_what_the_encoder_takes(classifier_of, llama_encoder):
    """The values of one token that are alive at once in the widest place: a few times the width of the MLP."""
    classifier = classifier_of(llama_encoder)
    free = 2**22
    there = DeviceMemory(KERNELS_BYTES + free, "a card", "cuda")
    found = tokens_beside(classifier, there, longest=64, layout="packed")
    assert 4 * 64 * 4 < free / found < 32 * 64 * 4


def test_an_unknown_architecture_takes_the_default(classifier_of, llama_encoder, monkeypatch):
    classifier = classifier_of(llama_encoder)
    monkeypatch.setattr(type(classifier.transformer.config), "to_dict", lambda self: {})
    free = DeviceMemory(2**20, "a card", "cuda")
    assert tokens_beside(classifier, free, longest=64, layout="packed") == DEFAULT_MAX_TOKENS["cuda"]


def check(gib, quantization="none", kind="cuda"):
    check_encoder_fits(
        encoder_config_for("builtin:metagene-1"),
        name="METAGENE-1",
        quantization=quantization,
        weights=torch.bfloat16,
        compute=torch.bfloat16,
        longest=512,
        memory=DeviceMemory(round(gib * GIB), "a card", kind),
    )


def test_an_encoder_that_the_card_cannot_hold_is_refused_with_what_it_can():
    check(24)
    with pytest.raises(DeviceMemoryError, match=r"takes 12\.\d GiB to be run and 10.0 are there .*int8 fits"):
        check(10)
    check(10, "int8")
    with pytest.raises(DeviceMemoryError, match="--quantization nf4 fits"):
        check(5, "int8")
    with pytest.raises(DeviceMemoryError, match="nothing fits: use --device cpu or another card"):
        check(2, "nf4")


def test_a_cpu_is_not_refused_since_it_pages():
    check(2, kind="cpu")
