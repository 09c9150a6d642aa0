"""Memory by arithmetic against whole steps of the real classifier, traced on tensors without values.

The widths are METAGENE-1's, with few layers; its 32 are in the slow tests.
"""

from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tracing import trace_step

from metagene_classifier.hub import METAGENE_1, encoder_config_for
from metagene_classifier.memory.parts import StepSetup, memory_parts
from metagene_classifier.memory.shape import encoder_shape

FULL = encoder_config_for(METAGENE_1)
TINY = FULL | {
    "hidden_size": 256,
    "intermediate_size": 688,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
    "head_dim": 32,
}
QWEN = TINY | {"model_type": "qwen2", "num_key_value_heads": 2}
ALL = "all-linear"
HALF = {"weights_bytes": 2, "compute_bytes": 2}
SINGLE = {"weights_bytes": 4, "compute_bytes": 4}
MIXED = {"weights_bytes": 4, "compute_bytes": 2}
READS_150_BP = [40] * 50


def predicted_and_traced(config, layers, lengths, setup):
    config = config | {"num_hidden_layers": layers}
    tokens = len(lengths) * max(lengths) if setup.attention == "sdpa" else sum(lengths)
    shape = encoder_shape(config, name="traced")
    parts = memory_parts(shape, setup, tokens=tokens, segments=len(lengths), longest=max(lengths))
    return parts, trace_step(config, setup, lengths=lengths).peak


def check(parts, peak, within=0.02):
    """The whole peak, and what of it comes and goes with the micro-batch."""
    standing = parts.weights + parts.adapters_and_head + parts.gradients + parts.optimizer
    assert parts.tensor_peak == pytest.approx(peak, rel=within)
    assert parts.tensor_peak - standing == pytest.approx(peak - standing, rel=2 * within)


# Name: configuration, layers, tokens of each segment, and how the step differs from LoRA in bfloat16.
STEPS = {
    "lora": (FULL, 3, [512] * 4, {}),
    "lora_one_read": (FULL, 2, [512], {}),
    "lora_buckets": (FULL, 2, [512, 500, 480], {}),
    "lora_packed_150_bp": (FULL, 3, READS_150_BP, {"attention": "varlen"}),
    "lora_packed_uneven": (FULL, 2, [512, 100, 40, 300], {"attention": "varlen"}),
    "lora_packed_under_a_mask": (FULL, 2, READS_150_BP, {"attention": "mask"}),
    "lora_r_64": (FULL, 2, [512] * 4, {"lora_r": 64}),
    "lora_many_classes": (FULL, 2, [40] * 50, {"attention": "varlen", "classes": 3507}),
    "lora_everywhere": (FULL, 2, [512] * 4, {"lora_targets": ALL}),
    "lora_everywhere_checkpointed_r_64": (
        FULL,
        3,
        [512] * 4,
        {"lora_targets": ALL, "checkpoint_every": 1, "lora_r": 64},
    ),
    "lora_without_dropout": (FULL, 2, [512] * 4, {"lora_targets": ALL, "lora_dropout": False, "checkpoint_every": 1}),
    "lora_single_precision": (FULL, 2, [512] * 2, SINGLE),
    "lora_single_precision_checkpointed": (FULL, 3, [512] * 2, SINGLE | {"checkpoint_every": 1}),
    "lora_single_weights_half_arithmetic": (FULL, 2, [512] * 2, MIXED),
    "checkpointed": (FULL, 4, [512] * 4, {"checkpoint_every": 1}),
    "checkpointed_packed_150_bp": (FULL, 3, READS_150_BP, {"checkpoint_every": 1, "attention": "varlen"}),
    "every_second": (FULL, 4, [512] * 4, {"checkpoint_every": 2}),
    "every_third": (FULL, 4, [512] * 4, {"checkpoint_every": 3}),
    "on_the_host": (FULL, 4, [512] * 4, {"checkpoint_every": 1, "checkpoint_offload": True}),
    "two_layers_frozen": (FULL, 4, [512] * 4, {"freeze_layers": 2}),
    "all_but_one_layer_frozen": (FULL, 2, [512] * 16, SINGLE | {"freeze_layers": 1, "checkpoint_every": 1}),
    "nf4": (FULL, 2, [512] * 4, {"quantization": "nf4"}),
    "nf4_checkpointed": (FULL, 3, [512] * 4, {"quantization": "nf4", "checkpoint_every": 1}),
    "nf4_everywhere_checkpointed": (
        FULL,
        2,
        [512] * 4,
        {"quantization": "nf4", "checkpoint_every": 1, "lora_targets": ALL},
    ),
    "nf4_on_the_host": (
        FULL,
        3,
        [512] * 4,
        {"quantization": "nf4", "checkpoint_every": 1, "checkpoint_offload": True},
    ),
    "int8": (FULL, 2, [512] * 4, {"quantization": "int8"}),
    "int8_checkpointed": (FULL, 3, [512] * 4, {"quantization": "int8", "checkpoint_every": 1}),
    "full_training": (FULL, 2, [512] * 4, MIXED | {"learns": "all"}),
    "full_training_many_tokens": (FULL, 2, [512] * 24, MIXED | {"learns": "all"}),
    "full_training_checkpointed": (FULL, 3, [512] * 32, MIXED | {"learns": "all", "checkpoint_every": 1}),
    "full_training_one_read": (FULL, 2, [512], MIXED | {"learns": "all", "checkpoint_every": 1}),
    "full_training_packed": (FULL, 2, [40] * 400, MIXED | {"learns": "all", "attention": "varlen"}),
    "full_training_half_weights": (FULL, 2, [512] * 4, HALF | {"learns": "all"}),
    "full_training_small": (TINY, 6, [64] * 32, SINGLE | {"learns": "all"}),
    "predict": (FULL, 3, [512] * 4, {"learns": "nothing", "lora_r": 0}),
    "predict_packed": (FULL, 2, [40] * 200, {"learns": "nothing", "lora_r": 0, "attention": "varlen"}),
    "predict_single_precision": (FULL, 2, [512] * 4, SINGLE | {"learns": "nothing", "lora_r": 0}),
    "predict_nf4": (FULL, 2, [512] * 4, {"learns": "nothing", "lora_r": 0, "quantization": "nf4"}),
    "predict_int8": (FULL, 2, [512] * 4, {"learns": "nothing", "lora_r": 0, "quantization": "int8"}),
    "head_only": (FULL, 2, [512] * 4, {"learns": "head"}),
    "small": (TINY, 6, [64] * 32, {}),
    "small_checkpointed": (TINY, 6, [64] * 32, {"checkpoint_every": 1}),
    "shared_key_heads": (QWEN, 4, [64] * 32, {"checkpoint_every": 2}),
    "shared_key_heads_packed": (QWEN, 4, [64] * 32, {"attention": "varlen"}),
}


@pytest.mark.parametrize("step", STEPS)
def test_the_peak_of_a_step_is_known_beforehand(step):
    config, layers, lengths, how = STEPS[step]
    check(*predicted_and_traced(config, layers, lengths, StepSetup(**how)))


def test_no_copies_of_weights_are_held_to_the_end_of_a_pass_that_is_run_again():
    setup = StepSetup(**MIXED, learns="all", checkpoint_every=1)
    config = FULL | {"num_hidden_layers": 3}
    parts = memory_parts(encoder_shape(config, name="traced"), setup, tokens=64, segments=1, longest=64)
    standing = parts.weights + parts.adapters_and_head + parts.gradients + parts.optimizer
    of_a_layer = 2 * encoder_shape(config, name="traced").layer_parameters
    assert trace_step(config, setup, lengths=[64]).forward.bytes - standing < of_a_layer


@settings(max_examples=10, deadline=None)
@given(
    heads=st.sampled_from([(2, 2), (4, 4), (4, 2)]),
    wide=st.sampled_from([2.0, 2.6875, 4.0]),
    layers=st.integers(2, 4),
    lengths=st.lists(st.integers(60, 200), min_size=8, max_size=24),
    attention=st.sampled_from(["varlen", "sdpa"]),
    number=st.sampled_from([HALF, SINGLE]),
    every=st.integers(0, 3),
    offload=st.booleans(),
    targets=st.sampled_from([ALL, ("q_proj", "k_proj", "v_proj", "o_proj"), ("q_proj", "v_proj")]),
    rank=st.sampled_from([4, 16]),
)
def test_the_peak_is_known_for_any_llama(
    heads, wide, layers, lengths, attention, number, every, offload, targets, rank
):
    hidden = heads[0] * 64
    config = FULL | {
        "hidden_size": hidden,
        "head_dim": 64,
        "num_attention_heads": heads[0],
        "num_key_value_heads": heads[1],
        "intermediate_size": int(hidden * wide),
    }
    setup = StepSetup(
        **number,
        attention=attention,
        checkpoint_every=every,
        checkpoint_offload=offload,
        lora_targets=targets,
        lora_r=rank,
    )
    parts, peak = predicted_and_traced(config, layers, lengths, setup)
    assert parts.tensor_peak == pytest.approx(peak, rel=0.05)


OTHERS = {
    "bert": ({"num_attention_heads": 4}, ("query", "value")),
    "esm": ({"num_attention_heads": 4, "mask_token_id": 5, "pad_token_id": 1}, ("query", "value")),
    "gpt_neox": ({"num_attention_heads": 4, "bos_token_id": 3, "eos_token_id": 4}, ("query_key_value",)),
}


@pytest.mark.parametrize("every", [0, 1])
@pytest.mark.parametrize("model_type", OTHERS)
def test_other_encoders_take_no_more_than_is_said(model_type, every):
    more, targets = OTHERS[model_type]
    size = {"hidden_size": 256, "intermediate_size": 1024, "vocab_size": 64, "max_position_embeddings": 514}
    config = {"model_type": model_type} | size | more
    parts, peak = predicted_and_traced(
        config, 3, [500, 510, 512, 512], StepSetup(lora_targets=targets, checkpoint_every=every)
    )
    assert peak <= parts.tensor_peak <= 4 * peak


SHAPE = encoder_shape(FULL, name="metagene-1")
SETUPS = st.builds(
    StepSetup,
    learns=st.sampled_from(["adapter", "head", "nothing"]),
    quantization=st.sampled_from(["none", "int8", "nf4"]),
    checkpoint_every=st.integers(0, 40),
    checkpoint_offload=st.booleans(),
    lora_r=st.integers(1, 64),
    lora_targets=st.sampled_from([ALL, ("q_proj",), ("down_proj",)]),
    lora_dropout=st.booleans(),
    optimizer=st.sampled_from(["adamw", "adamw_8bit", "paged_adamw_8bit"]),
    classes=st.integers(1, 4000),
    attention=st.sampled_from(["varlen", "sdpa", "mask"]),
    freeze_layers=st.integers(0, 31),
)


def peak_of(setup, tokens, segments=1, longest=40):
    return memory_parts(SHAPE, setup, tokens=tokens, segments=segments, longest=longest).tensor_peak


@given(SETUPS, st.integers(1, 70_000), st.integers(1, 5_000))
def test_more_tokens_never_take_less(setup, tokens, more):
    assert peak_of(setup, tokens) <= peak_of(setup, tokens + more)


@given(SETUPS, st.integers(40, 70_000))
def test_the_parts_are_bytes_of_their_own_and_sum_to_the_peak(setup, tokens):
    parts = memory_parts(SHAPE, setup, tokens=tokens, segments=1, longest=40)
    each = [
        parts.weights,
        parts.adapters_and_head,
        parts.gradients,
        parts.optimizer,
        parts.activations,
        parts.temporary,
    ]
    assert all(isinstance(part, int) and part >= 0 for part in each)
    assert sum(each) == parts.tensor_peak


@given(SETUPS, st.integers(1_000, 70_000))
def test_what_saves_memory_saves_it(setup, tokens):
    assume(setup.learns == "adapter" and setup.freeze_layers < 28)
    plain = peak_of(replace(setup, checkpoint_every=0), tokens)
    every, second = (peak_of(replace(setup, checkpoint_every=n, checkpoint_offload=False), tokens) for n in (1, 2))
    host = peak_of(replace(setup, checkpoint_every=1, checkpoint_offload=True), tokens)
    assert host <= every <= second <= plain


def test_fewer_bits_are_fewer_bytes():
    weights = {
        quantization: memory_parts(
            SHAPE, StepSetup(quantization=quantization), tokens=512, segments=1, longest=512
        ).weights
        for quantization in ("none", "int8", "nf4")
    }
    assert weights["none"] == 2 * SHAPE.parameters
    # One byte a weight and float32 for each row; 4 bits, and 8.127 bits for each block of 64 (QLoRA, section 3).
    assert weights["int8"] / SHAPE.quantizable_parameters == pytest.approx(1.0, rel=0.003)
    assert 8 * weights["nf4"] / SHAPE.quantizable_parameters == pytest.approx(4 + 8.125 / 64, rel=0.01)


LARGE = {
    "lora_1_x_512": ([512], {}),
    "lora_16_x_512": ([512] * 16, {}),
    "lora_22_x_47": ([47] * 22, {}),
    "checkpointed_16_x_512": ([512] * 16, {"checkpoint_every": 1}),
    "nf4_on_the_host_16_x_512": (
        [512] * 16,
        {"quantization": "nf4", "checkpoint_every": 1, "checkpoint_offload": True},
    ),
    "int8_checkpointed_16_x_512": ([512] * 16, {"quantization": "int8", "checkpoint_every": 1}),
    "full_training_1_x_512": ([512], MIXED | {"learns": "all"}),
    "predict_16_x_512": ([512] * 16, {"learns": "nothing", "lora_r": 0}),
}


@pytest.mark.slow
@pytest.mark.parametrize("step", LARGE)
def test_the_peak_of_all_of_metagene_1_is_known_beforehand(step):
    lengths, how = LARGE[step]
    check(*predicted_and_traced(FULL, 32, lengths, StepSetup(**how)), within=0.01)
