"""A training step gives one gradient, however its reads are laid out and split, with dropout on."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.stores import store_of

from metagene_classifier.batching.framing import Framing
from metagene_classifier.training.steps import (
    Objective,
    backward_micro_batches,
    balanced_weights,
    micro_batches_of,
    read_keys,
    step_segments,
)

CLASSES = 5
# Reads of up to 90 tokens: of those that do not fit, each epoch trains one window.
FRAMING = Framing(prefix=(3,), suffix=(4,), pad_id=0, max_length=48, overlap=0.125)
LORA = ("q_proj", "v_proj", "down_proj")


@pytest.fixture(scope="module")
def accelerator():
    from accelerate import Accelerator

    return Accelerator(cpu=True, mixed_precision="no", device_placement=False)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    generator = np.random.default_rng(0)
    reads = [
        (generator.integers(6, 1024, generator.integers(1, 90)), int(generator.integers(0, CLASSES))) for _ in range(40)
    ]
    return store_of(tmp_path_factory.mktemp("stores") / "store", reads, classes=CLASSES, shards=3)


@pytest.fixture(scope="module")
def gradient_of(accelerator, store):
    """The loss and all gradients of one step, as one vector each."""

    def computed(classifier, layout, max_tokens, *, reads=None, epoch=0, objective=None):
        chosen = np.arange(len(store)) if reads is None else np.asarray(reads)
        objective = objective or Objective(None, 0.0)
        step = step_segments(store, chosen, read_keys(chosen, seed=7, epoch=epoch), FRAMING)
        parts = micro_batches_of(step, FRAMING, max_tokens=max_tokens, layout=layout)
        classifier.train()
        classifier.zero_grad()
        divisor = objective.weight_of(store.classes_of(chosen))
        loss = backward_micro_batches(
            classifier, parts, objective, divisor=divisor, device=torch.device("cpu"), accelerator=accelerator
        )
        learning = [weight for weight in classifier.parameters() if weight.requires_grad]
        return float(loss) / divisor, torch.cat([weight.grad.flatten() for weight in learning])

    return computed


def assert_same(found, expected):
    assert found[0] == pytest.approx(expected[0], rel=1e-5)
    torch.testing.assert_close(found[1], expected[1], rtol=1e-3, atol=1e-5 * float(expected[1].abs().max()))


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_gradient_is_the_same_for_every_layout_and_token_budget(
    classifier_of, llama_encoder, gradient_of, attention, pooling
):
    classifier = classifier_of(llama_encoder, pooling, attention, lora=LORA, dropout=0.1)
    expected = gradient_of(classifier, "padded", 1)
    assert expected[1].count_nonzero() > 0.9 * len(expected[1])

    @settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
    @given(layout=st.sampled_from(["packed", "buckets", "padded"]), max_tokens=st.integers(1, 3000))
    def check(layout, max_tokens):
        assert_same(gradient_of(classifier, layout, max_tokens), expected)

    check()


def test_gradient_of_a_step_is_the_mean_of_its_halves(classifier_of, llama_encoder, gradient_of):
    """Ranks and accumulation share a step's reads out; dropout must not depend on who gets which."""
    classifier = classifier_of(llama_encoder, lora=LORA, dropout=0.1)
    halves = [gradient_of(classifier, "buckets", 400, reads=range(start, 40, 2)) for start in (0, 1)]
    mean = (halves[0][0] + halves[1][0]) / 2, (halves[0][1] + halves[1][1]) / 2
    assert_same(gradient_of(classifier, "packed", 900), mean)


def test_class_weights_and_smoothing_do_not_change_that(classifier_of, llama_encoder, gradient_of, store):
    classifier = classifier_of(llama_encoder, lora=LORA, dropout=0.1)
    objective = Objective(balanced_weights(store.reads_per_class), 0.1)
    expected = gradient_of(classifier, "padded", 1, objective=objective)
    assert_same(gradient_of(classifier, "packed", 700, objective=objective), expected)
    assert_same(gradient_of(classifier, "buckets", 350, objective=objective), expected)


def test_pooled_values_are_dropped_before_the_head_in_training_alone(classifier_of, llama_encoder, store):
    classifier = classifier_of(llama_encoder, dropout=0.5)
    step = step_segments(store, np.arange(10), read_keys(np.arange(10), seed=7, epoch=0), FRAMING)
    (batch, _), *_ = micro_batches_of(step, FRAMING, max_tokens=10_000, layout="packed")
    with torch.no_grad():
        pooled = classifier.embed(batch)
        torch.testing.assert_close(classifier(batch), classifier.head(pooled))
        classifier.train()
        torch.testing.assert_close(classifier(batch), classifier.head(classifier.dropout(pooled)))
        assert not torch.allclose(classifier(batch), classifier.head(pooled), atol=0.05)


def test_dropout_takes_part_and_is_another_in_each_epoch(classifier_of, llama_encoder, gradient_of):
    with_dropout = classifier_of(llama_encoder, lora=LORA, dropout=0.1)
    without = classifier_of(llama_encoder, lora=LORA, dropout=0.0)
    short = [read for read in range(40) if read % 3 == 0]
    first, second = (gradient_of(with_dropout, "buckets", 900, reads=short, epoch=epoch)[1] for epoch in (0, 1))
    plain = gradient_of(without, "buckets", 900, reads=short)[1]
    scale = float(plain.abs().max())
    assert float((first - plain).abs().max()) > 0.01 * scale
    assert float((first - second).abs().max()) > 0.01 * scale
