"""``benchmarks/gpu_memory.py``, its whole path run on a CPU with a small encoder."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from metagene_classifier.hub import encoder_config_for
from metagene_classifier.memory.budget import Lengths, need_of
from metagene_classifier.memory.device import DeviceMemory
from metagene_classifier.memory.shape import encoder_shape
from metagene_classifier.memory.throughput import read_throughput
from metagene_classifier.memory.units import GIB
from metagene_classifier.memory.ways import StepFacts, Way

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu_memory.py"


@pytest.fixture(scope="module")
def benchmark():
    patch = pytest.MonkeyPatch()
    patch.setenv("MGC_NO_CACHE", "1")
    sys.path.insert(0, str(SCRIPT.parent))
    try:
        spec = importlib.util.spec_from_file_location("gpu_memory", SCRIPT)
        module = importlib.util.module_from_spec(spec)
        sys.modules["gpu_memory"] = module
        spec.loader.exec_module(module)
        yield module
    finally:
        patch.undo()
        sys.path.remove(str(SCRIPT.parent))


@pytest.fixture(scope="module")
def encoder(benchmark, tmp_path_factory):
    folder = tmp_path_factory.mktemp("random") / "encoder"
    benchmark.SHARD_BYTES, kept = 100_000, benchmark.SHARD_BYTES
    benchmark.write_random_encoder("builtin:llama-tiny", None, folder, "cpu")
    benchmark.SHARD_BYTES = kept
    return folder


def test_random_weights_are_written_in_shards_that_load_as_an_encoder(encoder):
    from metagene_classifier.model.encoder import EncoderSource, load_encoder

    assert len(list(encoder.glob("*.safetensors"))) > 2
    loaded = load_encoder(
        EncoderSource(str(encoder)), dtype=torch.float32, device=torch.device("cpu"), seed=0, tell=lambda line: None
    )
    assert 0.015 < float(loaded.layers[0].self_attn.q_proj.weight.detach().std()) < 0.025


def test_a_row_has_the_plan_and_what_came_of_it(benchmark, encoder):
    row = benchmark._measured(encoder, 1.0, benchmark.Workload(40, 3), None, "cpu", 1)
    assert row["way"] == "lora" and row["plan"].startswith("plan: float32 LoRA without checkpointing")
    assert row["micro_batch_tokens"] == 120
    assert 0 < row["predicted_tensors_gib"] <= row["predicted_gib"] <= 1
    assert row["tokens_per_s"] == pytest.approx(40 * row["reads_per_s"])
    assert row["measured_tensors_gib"] is None and row["share_of_peak_flops"] is None


def test_under_a_low_cap_the_encoder_is_quantized_and_trains(benchmark, encoder):
    work, shape = benchmark.Workload(10, 2), encoder_shape(encoder_config_for(str(encoder)), name="the encoder")
    facts = StepFacts(weight_bytes=4, compute="float32", attention="sdpa", classes=benchmark.CLASSES)
    memory = DeviceMemory(GIB, "this machine's memory", "cpu", bfloat16=False)
    int8 = need_of(shape, Way("adapter", "int8", 1), facts, memory, Lengths(10, 10), 10).peak
    row = benchmark._measured(encoder, (int8 - 1000) / GIB, work, None, "cpu", 1)
    assert row["way"].startswith("nf4") and row["tokens_per_s"] > 0
    assert row["predicted_gib"] < int8 / GIB


def test_a_whole_step_at_once_keeps_the_weights_and_the_tokens_that_it_is_asked_for(benchmark, encoder):
    row = benchmark._measured(encoder, 1.0, benchmark.Workload(40, 3), "nf4", "cpu", 1)
    assert row["way"] == "nf4" and row["max_tokens"] == row["micro_batch_tokens"] == 120


def test_a_cap_that_nothing_fits_is_a_row_with_the_plans_own_line(benchmark, encoder):
    row = benchmark._measured(encoder, 0.0001, benchmark.Workload(512, 1), None, "cpu", 1)
    assert "no way fits" in row["problem"] and "tokens_per_s" not in row


@pytest.mark.skipif(torch.cuda.is_available(), reason="a card is here")
def test_without_a_card_one_line_says_so(benchmark):
    done = CliRunner().invoke(benchmark.main, [])
    assert done.exit_code == 1
    assert done.output.startswith("Error: no CUDA card is here: --device cpu") and done.output.count("\n") == 1


@pytest.mark.slow
def test_the_script_prints_a_table_and_writes_what_the_plan_reads(tmp_path):
    path = tmp_path / "figures.json"
    words = [
        "--device",
        "cpu",
        "--encoder",
        "builtin:llama-tiny",
        "--layers",
        "1",
        "--reads",
        "2",
        "--caps",
        "1,0.0001",
    ]
    done = subprocess.run([sys.executable, SCRIPT, "--quick", *words, "--json", path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 7
    figures = json.loads(path.read_text())
    assert [row["cap_gib"] for row in figures["rows"]] == [1, 1, 0.0001, 0.0001]
    assert [one.tokens_per_read for one in read_throughput(path)] == [512, 40]
