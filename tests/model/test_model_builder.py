"""From a configuration to a classifier in which the right parts learn."""

import numpy as np
import pytest
import torch

from metagene_classifier.batching.batch import collate
from metagene_classifier.config_file import load_config
from metagene_classifier.training.builder import build_classifier, set_training

CPU = torch.device("cpu")
HEAD = {"head.weight", "head.bias"}
READS = [np.random.default_rng(length).integers(6, 1024, length) for length in (20, 7, 33)]


@pytest.fixture
def build(llama_encoder):
    def built(**changes):
        values = {"model.encoder_path": str(llama_encoder), "training.precision": "32"}
        config = load_config(None, values | {key.replace("__", "."): value for key, value in changes.items()})
        told = []
        made = build_classifier(config, classes=3, device=CPU, tell=told.append)
        set_training(made.classifier, config.model.freeze)
        return made, told

    return built


def learning(classifier):
    return {name for name, weight in classifier.named_parameters() if weight.requires_grad}


def gradients(made):
    """Of the sum of all scores, by the names of what learns."""
    classifier = made.classifier
    batch = collate(READS, np.arange(3), layout=made.layout, padded_length=64, pad_id=0)
    classifier.zero_grad()
    (classifier(batch) * torch.tensor([1.0, -2.0, 3.0])).sum().backward()
    return {name: weight.grad for name, weight in classifier.named_parameters() if weight.requires_grad}


def test_lora_trains_adapters_and_head_alone(build):
    made, _ = build(model__lora__r=4)
    found = learning(made.classifier)
    assert found == HEAD | {name for name in found if ".lora_" in name}
    assert len(found) == 2 + 2 * 4 * 2
    assert made.weights_dtype is torch.float32
    assert made.layout == "buckets"
    assert set(gradients(made)) == found


def test_freezing_the_encoder_trains_the_head_alone_and_without_the_encoders_dropout(build):
    made, _ = build(model__freeze="encoder")
    assert learning(made.classifier) == HEAD
    assert made.classifier.training
    assert not made.classifier.encoder.training


def test_full_fine_tuning_trains_every_weight(build):
    made, _ = build(model__lora__enabled=False)
    assert learning(made.classifier) == {name for name, _ in made.classifier.named_parameters()}
    assert all(gradient is not None for gradient in gradients(made).values())


def test_a_random_encoder_learns_wholly_and_a_line_says_that_lora_is_left_aside(build):
    made, told = build(model__init="random", model__encoder_path="builtin:llama-tiny")
    assert learning(made.classifier) == {name for name, _ in made.classifier.named_parameters()}
    assert [line for line in told if "model.lora is left aside" in line]


def test_a_frozen_encoder_lies_in_half_precision_where_that_is_asked_for(build):
    made, _ = build(model__dtype="bfloat16")
    dtypes = {name: weight.dtype for name, weight in made.classifier.named_parameters()}
    assert {dtypes[name] for name in learning(made.classifier)} == {torch.float32}
    assert {dtypes[name] for name in set(dtypes) - learning(made.classifier)} == {torch.bfloat16}
    assert made.classifier.compute_dtype is torch.bfloat16
    # what comes out for pooling and the head is float32 again
    batch = collate(READS, np.arange(3), layout="buckets", padded_length=64, pad_id=0)
    assert made.classifier.embed(batch).dtype is torch.float32
    assert made.classifier(batch).dtype is torch.float32


@pytest.mark.parametrize("how", [{}, {"model__lora__enabled": False}], ids=["lora", "full"])
@pytest.mark.parametrize("layout", ["buckets", "packed"])
def test_recomputing_activations_changes_no_gradient(build, how, layout):
    """Dropout is on: its masks must be the same in the recomputation."""
    plain, _ = build(training__layout=layout, model__lora__dropout=0.3, model__dropout=0.3, **how)
    recomputed, _ = build(
        training__layout=layout,
        model__lora__dropout=0.3,
        model__dropout=0.3,
        model__gradient_checkpointing=True,
        **how,
    )
    calls = []
    recomputed.classifier.transformer.layers[0].input_layernorm.register_forward_hook(lambda *_: calls.append(1))
    for name, weight in (*plain.classifier.named_parameters(), *recomputed.classifier.named_parameters()):
        if "lora_B" in name:
            weight.data.fill_(0.1)
    expected, found = gradients(plain), gradients(recomputed)
    assert len(calls) == 2
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        assert expected[name].abs().max() > 0, name
        torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-6)


def test_the_same_configuration_builds_the_same_classifier(build):
    first, again, other = (build(seed=seed)[0].classifier.state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_the_layout_asked_for_is_taken_with_the_attention_asked_for(build, attention):
    made, _ = build(training__layout="packed", model__attention=attention)
    assert made.layout == "packed"
    assert made.classifier.transformer.config._attn_implementation == attention
