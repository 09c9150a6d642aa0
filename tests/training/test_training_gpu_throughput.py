"""``benchmarks/gpu_throughput.py``: its count of operations, and its whole path on a CPU with a tiny encoder."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch.utils.flop_counter import FlopCounterMode

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu_throughput.py"


@pytest.fixture(scope="module")
def benchmark():
    patch = pytest.MonkeyPatch()
    patch.setenv("MGC_NO_CACHE", "1")
    patch.syspath_prepend(str(SCRIPT.parent))
    spec = importlib.util.spec_from_file_location("gpu_throughput", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["gpu_throughput"] = module
    spec.loader.exec_module(module)
    yield module
    patch.undo()


@pytest.mark.parametrize("work", ["prediction", "adapters", "all"])
def test_the_operations_of_a_token_are_those_that_torch_counts(benchmark, work):
    """On a Llama of hidden 256; torch also counts attention, and leaves the lowest inputs out."""
    from setting import small_llama

    from metagene_classifier.model.adapter import AdapterSettings, add_adapter
    from metagene_classifier.model.dropout import TokenKeys

    encoder = small_llama(torch.device("cpu"))
    linear = sum(weight.numel() for name, weight in encoder.named_parameters() if "proj" in name)
    adapters = 0
    if work != "all":
        targets = ("q_proj", "k_proj", "v_proj", "o_proj")
        settings = AdapterSettings(r=8, alpha=16, dropout=0.0, target_modules=targets, bias="none")
        encoder = add_adapter(encoder, settings, encoder_name="small", keys=TokenKeys(), seed=0)
        adapters = sum(weight.numel() for weight in encoder.parameters() if weight.requires_grad)
    ids = torch.zeros(2, 40, dtype=torch.int64)
    with FlopCounterMode(display=False) as counter, torch.set_grad_enabled(work != "prediction"):
        hidden = encoder(input_ids=ids).last_hidden_state
        if work != "prediction":
            hidden.sum().backward()
    counted = counter.get_total_flops() / ids.numel()
    assert benchmark.flops_per_token(work, linear, adapters) == pytest.approx(counted, rel=0.06)


def test_no_card_is_said_so(benchmark, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    ended = CliRunner().invoke(benchmark.main, ["--quick"])
    assert ended.exit_code == 1
    assert "no CUDA card is here: --device cpu" in ended.output


@pytest.mark.slow
def test_every_way_is_measured(benchmark, tmp_path):
    words = ["--quick", "--device", "cpu", "--encoder", "builtin:llama-tiny", "--json", str(tmp_path / "figures.json")]
    ended = CliRunner().invoke(benchmark.main, words)
    assert ended.exit_code == 0, ended.output
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["device"]
    speeds = {(row["work"], row["reads_lie"]): row["reads_per_s"] for row in figures["rows"]}
    assert {work for work, _ in speeds} == {"lora", "qlora", "prediction"}
    for work in ("lora", "qlora", "prediction"):
        assert speeds[work, "buckets"] > 2 * speeds[work, "padded to 512"]
    assert [target["met"] for target in figures["targets"]] == [None, None]
