"""What ``training.fit: auto`` chooses for METAGENE-1, and what it says when nothing fits."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metagene_classifier.config import Config
from metagene_classifier.config_file import load_config
from metagene_classifier.errors import ConfigError
from metagene_classifier.hub import encoder_config_for
from metagene_classifier.memory.budget import MOST_TOKENS, ROUND_TOKENS, Lengths, fits, largest_budget, need_of
from metagene_classifier.memory.device import DeviceMemory
from metagene_classifier.memory.fit import FitRequest, candidate_ways, choose_fit
from metagene_classifier.memory.from_config import fit_request, step_facts
from metagene_classifier.memory.reserve import CONTEXT_BYTES, KERNELS_BYTES
from metagene_classifier.memory.shape import encoder_shape
from metagene_classifier.memory.units import GIB
from metagene_classifier.memory.ways import StepFacts, Way, plan_ways
from metagene_classifier.model.devices import choose_dtypes, dtype_name

METAGENE = encoder_shape(encoder_config_for("builtin:metagene-1"), name="METAGENE-1")
LONG = Lengths(512, 512)
SHORT = Lengths(47, 40)


def card(gib: float, host_gib: float | None = None) -> DeviceMemory:
    host = round(host_gib * GIB) if host_gib is not None else None
    return DeviceMemory(round(gib * GIB), "a card", "cuda", with_context=True, host_bytes=host)


def choose(gib: float, lengths: Lengths = LONG, learns="adapter", host_gib=None, **asked):
    request = FitRequest(learns, **asked)
    return choose_fit(METAGENE, request=request, facts=StepFacts(), memory=card(gib, host_gib), lengths=lengths)


def refusal(gib: float, lengths: Lengths = LONG, learns="adapter", **asked) -> str:
    with pytest.raises(ConfigError) as error:
        choose(gib, lengths, learns, **asked)
    line = str(error.value)
    assert "\n" not in line
    return line


def least(way: Way, lengths: Lengths = LONG, tokens: int | None = None) -> float:
    need = need_of(METAGENE, way, StepFacts(), card(1000), lengths, tokens or lengths.longest)
    return need.peak / GIB


LORA = Way("adapter")


@pytest.mark.parametrize(
    ("gib", "quantization", "checkpointing"),
    [(80, "none", False), (23.6, "none", False), (14.5, "none", True), (11, "int8", False), (5, "nf4", True)],
)
def test_a_smaller_card_gets_checkpointing_before_quantized_weights(gib, quantization, checkpointing):
    choice = choose(gib)
    assert (choice.quantization, choice.gradient_checkpointing) == (quantization, checkpointing)
    assert choice.need.peak <= gib * GIB


def test_the_order_of_the_ways():
    names = [way.name for way in candidate_ways(FitRequest("adapter"), 3, card(24))]
    assert names == [
        f"{weights}{checkpointing}"
        for weights in ("lora", "int8", "nf4")
        for checkpointing in (*("", "+checkpointing/3", "+checkpointing/2", "+checkpointing", "+checkpointing+host"),)
    ]


def test_full_training_is_never_quantized_and_the_head_alone_never_checkpointed():
    assert {way.quantization for way in candidate_ways(FitRequest("all"), 3, card(24))} == {"none"}
    assert [way.name for way in candidate_ways(FitRequest("head"), 3, card(24))] == [
        *("head-only", "head-only+int8", "head-only+nf4"),
    ]


def test_checkpoints_go_to_the_host_only_from_a_card():
    for kind in ("cpu", "mps"):
        memory = DeviceMemory(GIB, "a machine", kind)
        assert not any(way.offload for way in candidate_ways(FitRequest("adapter"), 3, memory))


def test_layers_that_may_not_be_checkpointed_one_by_one_are_checkpointed_all_or_not_at_all():
    ways = list(candidate_ways(FitRequest("adapter"), 3, card(24), one_by_one=False))
    assert {way.checkpoint_every for way in ways} == {0, 1}
    assert not any(way.offload for way in ways)


def test_as_few_layers_are_checkpointed_as_will_do():
    none, every = least(LORA), least(replace(LORA, checkpoint_every=1))
    between = (3 * none + every) / 4
    choice = choose(between)
    assert choice.quantization == "none" and 1 < choice.checkpoint_every < METAGENE.layers
    assert least(choice.way) <= between < least(replace(choice.way, checkpoint_every=choice.checkpoint_every + 1))
    assert "with checkpointing of every " in choice.line()


@given(
    gib=st.floats(2, 200),
    longest=st.integers(8, 2048),
    share=st.floats(0.05, 1),
    learns=st.sampled_from(["adapter", "all", "head"]),
    reads=st.integers(1, 4096),
)
@settings(max_examples=120, deadline=None)
def test_what_is_chosen_fits_and_a_larger_micro_batch_would_not(gib, longest, share, learns, reads):
    lengths = Lengths(longest, max(1.0, longest * share))
    memory = card(gib)
    request = FitRequest(learns, reads_per_step=reads)
    try:
        choice = choose_fit(METAGENE, request=request, facts=StepFacts(), memory=memory, lengths=lengths)
    except ConfigError as error:
        assert "\n" not in str(error)
        for way in candidate_ways(request, METAGENE.layers, memory):
            assert not fits(need_of(METAGENE, way, StepFacts(), memory, lengths, longest), memory)
        return
    assert choice.need.peak <= memory.bytes
    # The embeddings of a head are made for all reads; a step's reads bound every other micro-batch.
    most = MOST_TOKENS["cuda"] if learns == "head" else min(MOST_TOKENS["cuda"], reads * longest)
    assert longest <= choice.max_tokens <= max(longest, most)
    for way in candidate_ways(request, METAGENE.layers, memory):
        if way == choice.way:
            break
        assert not fits(need_of(METAGENE, way, StepFacts(), memory, lengths, longest), memory)
    if choice.max_tokens < most:
        more = need_of(METAGENE, choice.way, StepFacts(), memory, lengths, choice.max_tokens + ROUND_TOKENS)
        assert not fits(more, memory)


@given(small=st.floats(2, 100), more=st.floats(0, 100), lengths=st.sampled_from([LONG, SHORT]))
@settings(max_examples=60, deadline=None)
def test_more_memory_never_gives_less_faithful_weights(small, more, lengths):
    order = ["nf4", "int8", "none"]
    try:
        one = choose(small, lengths)
    except ConfigError:
        return
    other = choose(small + more, lengths)
    assert order.index(other.quantization) >= order.index(one.quantization)
    if other.way == one.way:
        assert other.max_tokens >= one.max_tokens


@given(
    quantization=st.sampled_from(["auto", "none", "int8", "nf4"]),
    checkpointing=st.sampled_from(["auto", True, False]),
    every=st.sampled_from(["auto", 1, 4]),
    offload=st.sampled_from(["auto", True, False]),
    tokens=st.sampled_from(["auto", 100, 2048]),
    gib=st.floats(5, 90),
)
@settings(max_examples=120, deadline=None)
def test_what_was_set_is_kept(quantization, checkpointing, every, offload, tokens, gib):
    asked = {
        "quantization": quantization,
        "checkpointing": checkpointing,
        "checkpoint_every": every,
        "checkpoint_offload": offload,
        "max_tokens": tokens,
    }
    try:
        choice = choose(gib, **asked)
    except ConfigError as error:
        assert "\n" not in str(error)
        return
    assert quantization in ("auto", choice.quantization)
    assert checkpointing in ("auto", choice.gradient_checkpointing)
    assert tokens in ("auto", choice.max_tokens)
    if choice.gradient_checkpointing:
        assert every in ("auto", choice.checkpoint_every)
        assert offload in ("auto", choice.checkpoint_offload)


def test_checkpointing_that_was_asked_for_is_of_every_layer():
    assert choose(80, checkpointing=True).checkpoint_every == 1
    assert choose(80, checkpointing=True, checkpoint_every=4).checkpoint_every == 4


def test_a_micro_batch_that_was_set_decides_the_way():
    tokens = 16 * 512
    free, asked = choose(23.6), choose(23.6, max_tokens=tokens)
    assert not free.gradient_checkpointing and asked.gradient_checkpointing
    assert asked.max_tokens == tokens and asked.need.peak <= 23.6 * GIB


def test_no_micro_batch_is_larger_than_a_step_or_than_is_any_faster():
    assert choose(80, SHORT, reads_per_step=3).max_tokens == 3 * SHORT.longest
    assert choose(180, SHORT, reads_per_step=10**6, quantization="nf4", checkpointing=True).max_tokens == 65_536
    # What is set counts only as far as a step's reads reach.
    assert choose(23.6, SHORT, reads_per_step=3, max_tokens=10**9).max_tokens == 3 * SHORT.longest


def test_embeddings_for_a_head_are_made_in_micro_batches_as_large_as_fit():
    assert choose(80, SHORT, learns="head", reads_per_step=3).max_tokens == 65_536


def test_a_cpu_computes_in_float32_and_takes_4096_tokens_at_most():
    memory = DeviceMemory(60 * GIB, "this machine's memory", "cpu", bfloat16=False)
    facts = step_facts(Config(), kind="cpu", bfloat16=False, classes=10)
    assert (facts.compute, facts.weight_bytes, facts.attention) == ("float32", 4, "sdpa")
    choice = choose_fit(METAGENE, request=FitRequest("adapter"), facts=facts, memory=memory, lengths=LONG)
    assert choice.max_tokens <= 4096
    assert choice.need.parts.weights > 24 * 10**9


def test_checkpoints_go_to_the_host_only_where_it_has_room_for_them():
    everywhere = largest_budget(
        METAGENE, Way("adapter", "nf4", 1, True), StepFacts(), card(7.6), LONG, reads_per_step=128
    )
    little = largest_budget(
        METAGENE, Way("adapter", "nf4", 1, True), StepFacts(), card(7.6, host_gib=0.5), LONG, reads_per_step=128
    )
    none = largest_budget(METAGENE, Way("adapter", "nf4", 1, True), StepFacts(), card(7.6, host_gib=0.01), LONG)
    assert everywhere > little > 0 and none is None


def test_the_context_counts_where_the_memory_is_that_of_a_whole_card():
    way, whole = Way("adapter", "nf4", 1), card(24)
    free = replace(whole, with_context=False)
    difference = (
        need_of(METAGENE, way, StepFacts(), whole, LONG, 512).peak
        - need_of(METAGENE, way, StepFacts(), free, LONG, 512).peak
    )
    assert difference == CONTEXT_BYTES - KERNELS_BYTES


def test_the_line_says_what_was_chosen_and_why():
    line = choose(14.5).line()
    assert line.startswith("plan: bf16 LoRA with checkpoint")
    assert " tokens at once (" in line and "of 14.5 GiB" in line
    assert f"; bf16 LoRA without checkpointing takes {least(LORA):.1f} GiB for 1 x 512 tokens" in line
    first = choose(80, SHORT).line()
    assert first.startswith("plan: bf16 LoRA without checkpointing, ") and ";" not in first
    assert choose(5.5, max_tokens=2000, checkpoint_offload=True, checkpointing=True).line().count("of the host's") == 1


def test_a_micro_batch_too_large_for_what_was_set_says_the_largest():
    line = refusal(23.6, max_tokens=32_768, checkpointing=False, reads_per_step=64)
    assert "model.gradient_checkpointing: false, training.max_tokens: 32768" in line
    assert (
        "GiB for 32,768 tokens, and 23.6 are there (a card): bf16 LoRA without checkpointing fits with up to " in line
    )
    assert line.endswith("lower training.max_tokens")


def test_settings_that_cannot_fit_say_what_would():
    line = refusal(11, quantization="none")
    assert line.startswith("bf16 LoRA with checkpoints in host memory (model.quantization: none) takes ")
    assert "GiB for 1 x 512 tokens, and 11.0 are there (a card): int8 LoRA" in line
    assert line.endswith("leave those settings out")


def test_a_micro_batch_and_weights_that_cannot_fit_together_say_what_would():
    line = refusal(11, quantization="none", max_tokens=4096)
    assert ": int8 LoRA" in line and line.endswith("leave those settings out")
    assert "no way fits" in refusal(2, max_tokens=4096)
    assert "no way fits" in refusal(2, quantization="none", max_tokens=4096)


def test_a_card_smaller_than_the_weights_says_so_and_what_the_least_is():
    line = refusal(2)
    smallest = least(Way("adapter", "nf4", 1, True))
    assert "no way fits (its weights alone take 3." in line
    named = float(line.split(" takes ")[1].split(" GiB")[0])
    assert smallest <= named <= smallest + 0.11
    assert choose(named).quantization == "nf4"


def test_full_training_that_does_not_fit_points_to_adapters():
    line = refusal(23.6, learns="all")
    assert line.startswith("full training in bf16") and "adapters (model.lora" in line


def test_quantized_weights_that_all_learn_are_refused():
    assert refusal(80, learns="all", quantization="nf4").startswith("model.quantization: nf4: weights that are all")


@pytest.mark.parametrize(
    ("setting", "learns"),
    [
        ({}, "adapter"),
        ({"model.init": "random"}, "all"),
        ({"model.lora.enabled": False}, "all"),
        ({"model.freeze": "encoder"}, "head"),
    ],
)
def test_what_learns_is_read_from_the_configuration(setting, learns):
    assert load_config(None, setting).model.learns == learns


def test_what_is_set_is_read_from_the_configuration():
    config = load_config(
        None,
        {
            "model.quantization": "int8",
            "model.checkpoint_every": 2,
            "training.batch_size": 32,
            "training.grad_accum_steps": 4,
            "training.max_tokens": 999,
        },
    )
    request = fit_request(config)
    assert request == FitRequest("adapter", "int8", True, 2, "auto", 999, 128)
    assert request.settings() == [
        "model.quantization: int8",
        "model.gradient_checkpointing: true",
        "model.checkpoint_every: 2",
        "training.max_tokens: 999",
    ]


@pytest.mark.parametrize(
    ("setting", "kind", "bfloat16", "compute", "weight_bytes", "attention"),
    [
        ({}, "cuda", True, "bfloat16", 2, "varlen"),
        ({}, "cuda", False, "float16", 2, "varlen"),
        ({"training.precision": "32"}, "cuda", True, "float32", 4, "sdpa"),
        ({"model.dtype": "float32"}, "cuda", True, "bfloat16", 4, "varlen"),
        ({"training.layout": "buckets"}, "cuda", True, "bfloat16", 2, "sdpa"),
        ({"training.layout": "packed"}, "cpu", True, "float32", 4, "mask"),
        ({"model.attention": "sdpa"}, "cuda", True, "bfloat16", 2, "sdpa"),
    ],
)
def test_formats_and_attention_are_those_of_the_device(setting, kind, bfloat16, compute, weight_bytes, attention):
    facts = step_facts(load_config(None, setting), kind=kind, bfloat16=bfloat16, classes=7)
    assert (facts.compute, facts.weight_bytes, facts.attention) == (compute, weight_bytes, attention)
    assert facts.classes == 7


def test_the_names_of_the_ways_are_each_one_ways():
    names = [way.name for way in plan_ways()]
    assert len(set(names)) == len(names)
    assert {"full", "lora", "lora+checkpointing", "int8", "int8+checkpointing", "nf4"} <= set(names)
    assert {"nf4+checkpointing", "nf4+checkpointing+host", "head-only", "predict"} <= set(names)


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
@pytest.mark.parametrize("bfloat16", [True, False])
@pytest.mark.parametrize("dtype", ["auto", "float32", "bfloat16", "float16"])
@pytest.mark.parametrize("precision", ["bf16-mixed", "fp16-mixed", "32"])
@pytest.mark.parametrize("learns", ["adapter", "all"])
def test_number_formats_are_those_that_training_chooses(kind, bfloat16, dtype, precision, learns, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation: bfloat16)
    settings = {"model.dtype": dtype, "training.precision": precision, "model.lora.enabled": learns == "adapter"}
    facts = step_facts(load_config(None, settings), kind=kind, bfloat16=bfloat16, classes=2)
    weights, compute = choose_dtypes(
        asked=dtype,
        precision=precision,
        device=torch.device(kind),
        encoder_learns=learns == "all",
        tell=lambda line: None,
    )
    assert facts.compute == dtype_name(compute)
    assert (facts.learning_weight_bytes if learns == "all" else facts.weight_bytes) == weights.itemsize
