"""The plan's rows, and throughput that was measured."""

from __future__ import annotations

import json

import pytest

from metagene_classifier.errors import ConfigError
from metagene_classifier.hub import encoder_config_for
from metagene_classifier.memory.budget import Lengths
from metagene_classifier.memory.cards import find_card
from metagene_classifier.memory.device import DeviceMemory, memory_of_card
from metagene_classifier.memory.plan import make_plan
from metagene_classifier.memory.plan_text import plan_facts, plan_table
from metagene_classifier.memory.shape import encoder_shape
from metagene_classifier.memory.throughput import read_throughput, tokens_per_second
from metagene_classifier.memory.units import GIB
from metagene_classifier.memory.ways import StepFacts

METAGENE = encoder_shape(encoder_config_for("builtin:metagene-1"), name="METAGENE-1")


def plan_for(memory: DeviceMemory, lengths=Lengths(512, 40), **more):  # noqa: B008 - frozen
    return make_plan(METAGENE, facts=StepFacts(), memory=memory, lengths=lengths, **more)


def row_of(plan, name):
    return next(row for row in plan.ways if row.way.name == name)


def figures(**changes):
    row = {"way": "lora", "tokens_per_read": 40, "tokens_per_s": 4000.0}
    whole = {"device": "NVIDIA GeForce RTX 4090", "encoder": {"parameters": METAGENE.parameters}, "rows": [row]}
    return {**whole, **changes}


def test_the_parts_of_every_way_sum_to_its_peak():
    plan = plan_for(memory_of_card(find_card("4090")))
    for row in plan_facts(plan, None, None)["ways"]:
        assert sum(row["parts"].values()) == pytest.approx(row["peak_gib"], abs=1e-9)


def test_a_way_fits_when_one_longest_read_does_and_then_has_a_largest_micro_batch():
    plan = plan_for(memory_of_card(find_card("4090")))
    for row in plan.ways:
        assert row.fits == (row.need.peak <= plan.memory.bytes) == (row.max_tokens is not None)
        if row.max_tokens is not None:
            assert row.max_tokens >= 512 and row.max_reads == row.max_tokens // 40
    assert not row_of(plan, "full").fits
    assert row_of(plan, "lora").fits and row_of(plan, "predict").fits


def test_weights_that_learn_are_held_in_float32_and_frozen_ones_in_half_precision():
    plan = plan_for(memory_of_card(find_card("4090")))
    assert row_of(plan, "full").need.parts.weights == 4 * METAGENE.parameters
    assert row_of(plan, "lora").need.parts.weights == 2 * METAGENE.parameters


def test_every_saving_saves():
    plan = plan_for(memory_of_card(find_card("4090")), Lengths(512, 512))
    peaks = {row.way.name: row.need.peak for row in plan.ways}
    for weights in ("lora", "int8", "nf4"):
        assert peaks[f"{weights}+checkpointing+host"] < peaks[f"{weights}+checkpointing"] < peaks[weights]
    # Where all weights learn the optimizer's step may take most, whatever the activations take.
    assert peaks["full+checkpointing+host"] <= peaks["full+checkpointing"] <= peaks["full"]
    assert peaks["nf4"] < peaks["int8"] < peaks["lora"] < peaks["full"]
    assert peaks["predict+nf4"] < peaks["predict"] < peaks["lora"]


def test_the_peak_is_that_of_the_micro_batch_that_was_asked_for():
    card = memory_of_card(find_card("4090"))
    one, many = plan_for(card), plan_for(card, max_tokens=16 * 512)
    assert (one.tokens, many.tokens) == (512, 8192)
    assert row_of(many, "lora").need.peak > card.bytes > row_of(one, "lora").need.peak
    assert not row_of(many, "lora").fits
    assert row_of(many, "lora").max_tokens == row_of(one, "lora").max_tokens


def test_on_a_cpu_there_is_no_other_place_for_checkpoints():
    plan = plan_for(DeviceMemory(64 * GIB, "this machine's memory", "cpu", bfloat16=False))
    assert not any(row.way.offload for row in plan.ways)


def test_time_is_told_only_where_it_was_measured(tmp_path):
    path = tmp_path / "figures.json"
    path.write_text(json.dumps(figures()))
    plan = plan_for(memory_of_card(find_card("4090")), measured=read_throughput(path))
    assert row_of(plan, "lora").seconds_per_million_reads == pytest.approx(1e6 * 40 / 4000)
    assert row_of(plan, "nf4").seconds_per_million_reads is None
    lines = plan_table(plan)
    assert next(line for line in lines if line.startswith("lora ")).endswith("  2.78")
    assert next(line for line in lines if line.startswith("nf4 ")).endswith("  unknown")
    other = plan_for(memory_of_card(find_card("3090")), measured=read_throughput(path))
    assert all(row.tokens_per_s is None for row in other.ways)


def test_of_several_measurements_the_one_with_reads_most_alike_counts(tmp_path):
    rows = [{"way": "lora", "tokens_per_read": size, "tokens_per_s": float(size)} for size in (40, 512)]
    rows.append({"way": "lora", "tokens_per_read": 60, "problem": "out of memory"})
    path = tmp_path / "figures.json"
    path.write_text(json.dumps(figures(rows=rows)))
    measured = read_throughput(path)

    def found(mean, parameters=METAGENE.parameters):
        return tokens_per_second(
            measured, device="RTX 4090 24GB", way="lora", parameters=parameters, tokens_per_read=mean
        )

    assert (found(38.0), found(70.0), found(300.0)) == (40.0, 40.0, 512.0)
    assert found(38.0, parameters=1) is None


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"device": "a", "encoder": {"parameters": 1}, "rows": [{"way": 1}, 5]}']
)
def test_a_file_of_other_figures_is_refused_in_one_line(text, tmp_path):
    path = tmp_path / "figures.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"^--figures [^\n]*gpu_memory\.py --json wrote: run it again$"):
        read_throughput(path)


def test_a_missing_file_of_figures_is_told(tmp_path):
    with pytest.raises(ConfigError, match=r"^--figures .*none\.json: cannot be read: No such file or directory$"):
        read_throughput(tmp_path / "none.json")
