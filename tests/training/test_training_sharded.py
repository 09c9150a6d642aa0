"""Ranks that share the encoder's weights out learn what one rank learns, and go on as any number of ranks."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.training.sharded_runs import run

from metagene_classifier.cli.main import main
from metagene_classifier.config_file import load_config
from metagene_classifier.errors import ConfigError
from metagene_classifier.training.sharing import check_parallel

PROGRAM = Path(__file__).with_name("sharded_runs.py")
ROOT = Path(__file__).resolve().parents[2]

# 37 reads and 12 to a step: the last step has one, and all ranks but one have none. Of 10 validation reads, in blocks
# of two, one of two ranks scores a block more.
READS_PER_STEP = 12
KINDS: dict[str, dict[str, Any]] = {
    "adapters": {},
    "adapters, checkpointed": {"model.gradient_checkpointing": True},
    "adapters, checkpoints on the host": {"model.gradient_checkpointing": True, "model.checkpoint_offload": True},
    "all": {"model.lora.enabled": False},
    "all, lowest layer frozen": {"model.lora.enabled": False, "model.freeze_layers": 1},
    "4-bit": {"model.quantization": "nf4"},
}


@pytest.fixture(scope="module")
def settings_of(llama_encoder, labelled_files, tmp_path_factory) -> Callable[..., dict[str, Any]]:
    folder = tmp_path_factory.mktemp("sharded")
    lines = labelled_files.train_fasta.read_text().splitlines()
    order = list(range(0, len(lines), 2))
    random.Random(0).shuffle(order)
    train = folder / "train.fa"
    train.write_text("".join(f"{lines[place]}\n{lines[place + 1]}\n" for place in order[:37]))
    validation = folder / "val.fa"
    validation.write_text("".join(f"{line}\n" for line in labelled_files.val_fasta.read_text().splitlines()[:20]))

    def settings(name: str, ranks: int, **changes: Any) -> dict[str, Any]:
        return {
            "device": "cpu",
            "dataset.train_fasta": str(train),
            "dataset.val_fasta": str(validation),
            "dataset.mapping_tsv": str(labelled_files.mapping_tsv),
            "model.encoder_path": str(llama_encoder),
            "tokenizer.name_or_path": str(llama_encoder),
            "tokenizer.max_length": 32,
            "training.output_dir": str(folder / name),
            "training.precision": "32",
            "training.batch_size": READS_PER_STEP // ranks,
            "training.max_epochs": 1,
            "training.max_tokens": 80,
            "optimizer.lr": 1e-3,
            "scheduler.warmup_steps": 0,
            "logging.log_interval": 1,
            "logging.tensorboard": False,
            **changes,
        }

    return settings


def on_ranks(ranks: int, cases: list[dict[str, Any]], folder: Path) -> None:
    """Runs, one after another, on several ranks of this machine."""
    path = folder / "cases.json"
    path.write_text(json.dumps(cases))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={ranks}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    done = subprocess.run([*launcher, PROGRAM, path], capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr


def figures(settings: dict[str, Any]) -> list[float]:
    """The losses of all steps, and that of the validation reads."""
    rows = (Path(settings["training.output_dir"]) / "history.jsonl").read_text().splitlines()
    return [row.get("loss", row.get("eval_loss")) for row in map(json.loads, rows)]


@pytest.fixture(scope="module")
def two_ranks(settings_of, tmp_path_factory) -> dict[tuple[str, str], dict[str, Any]]:
    """Settings of what two ranks ran: every kind sharded, one of them not, and one that stopped within an epoch."""
    cases = {
        (kind, "fsdp"): settings_of(f"{kind} fsdp", 2, **changes, **{"training.parallel": "fsdp"})
        for kind, changes in KINDS.items()
    }
    cases["all", "ddp"] = settings_of("all ddp", 2, **KINDS["all"], **{"training.parallel": "ddp"})
    constant = {"scheduler.name": "constant", "training.parallel": "fsdp", "training.max_steps": 2}
    cases["all", "stopped"] = settings_of("moved", 2, **KINDS["all"], **constant)
    on_ranks(2, list(cases.values()), tmp_path_factory.mktemp("two"))
    return cases


@pytest.fixture(scope="module")
def alone(settings_of) -> Callable[[str], list[float]]:
    """Losses of one rank."""
    known: dict[str, list[float]] = {}

    def losses(kind: str) -> list[float]:
        if kind not in known:
            settings = settings_of(f"{kind} alone", 1, **KINDS[kind])
            run(dict(settings))
            known[kind] = figures(settings)
        return known[kind]

    return losses


@pytest.mark.parametrize("kind", KINDS)
def test_sharded_over_two_ranks_the_losses_are_those_of_one(kind, two_ranks, alone):
    shared = figures(two_ranks[kind, "fsdp"])
    assert len(shared) == 5
    assert shared == pytest.approx(alone(kind), rel=1e-5)


def test_what_is_gathered_for_the_model_folder_is_what_ranks_with_whole_weights_write(two_ranks):
    sharded, whole = (
        load_file(Path(two_ranks["all", how]["training.output_dir"]) / "last" / "encoder" / "model.safetensors")
        for how in ("fsdp", "ddp")
    )
    assert sharded.keys() == whole.keys()
    for name, weight in whole.items():
        torch.testing.assert_close(sharded[name], weight, rtol=1e-3, atol=1e-5)


def test_a_sharded_runs_model_is_a_model_like_any_other(two_ranks, labelled_files, tmp_path):
    calls = tmp_path / "calls.csv"
    folder = two_ranks["all", "fsdp"]["training.output_dir"]
    words = ["predict", "--input", labelled_files.val_fasta, "--ckpt", folder, "--output", calls, "--device", "cpu"]
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    assert not ended.value.code
    assert len(calls.read_text().splitlines()) == 1 + 12


@pytest.fixture
def stopped(two_ranks, tmp_path) -> dict[str, Any]:
    """A run that two ranks shared and that ended after two of its four steps."""
    folder = tmp_path / "stopped"
    settings = two_ranks["all", "stopped"]
    shutil.copytree(settings["training.output_dir"], folder)
    return {**settings, "training.output_dir": str(folder), "resume": True}


def steps_of(settings: dict[str, Any]) -> list[float]:
    """The losses of a run's steps, and at its end that of the validation reads, which every stop scores in passing."""
    rows = (Path(settings["training.output_dir"]) / "history.jsonl").read_text().splitlines()
    return [row["loss"] for row in map(json.loads, rows) if "loss" in row] + figures(settings)[-1:]


@pytest.fixture(scope="module")
def straight(settings_of) -> list[float]:
    """The same steps of one rank that never stopped."""
    settings = settings_of("straight", 1, **KINDS["all"], **{"scheduler.name": "constant"})
    run(dict(settings))
    return steps_of(settings)


ONE_RANK = {"training.parallel": "ddp", "training.batch_size": 12, "training.max_steps": 4}


def test_a_checkpoint_of_two_ranks_goes_on_on_one_rank_with_whole_weights(stopped, straight):
    run(stopped | ONE_RANK)
    assert steps_of(stopped) == pytest.approx(straight, rel=1e-5)


@pytest.mark.slow
def test_a_checkpoint_of_two_ranks_goes_on_on_four_and_then_on_one(stopped, straight, tmp_path):
    on_ranks(4, [stopped | {"training.batch_size": 3, "training.max_steps": 3}], tmp_path)
    run(stopped | ONE_RANK)
    assert steps_of(stopped) == pytest.approx(straight, rel=1e-5)


def test_another_number_of_reads_to_a_step_is_another_run(stopped):
    with pytest.raises(ConfigError, match="batch_size was 6 and is 5"):
        run(stopped | ONE_RANK | {"training.batch_size": 5})


def on_two(changes: dict[str, Any], monkeypatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    check_parallel(load_config(None, {"training.parallel": "fsdp", **changes}), 2)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model.freeze": "encoder"}, "use ddp"),
        ({"model.quantization": "int8"}, "use nf4"),
        ({"model.lora.enabled": False, "optimizer.name": "adamw_8bit"}, "use adamw"),
        ({"training.torch_compile": True}, "set it to false"),
    ],
)
def test_what_cannot_be_shared_out_is_refused_before_anything_is_loaded(changes, says, monkeypatch):
    with pytest.raises(ConfigError, match=says):
        on_two(changes, monkeypatch)


def test_adapters_with_an_8_bit_optimizer_can_be(monkeypatch):
    on_two({"optimizer.name": "adamw_8bit"}, monkeypatch)
