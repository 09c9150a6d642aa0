"""One rank dies: all stop, the user reads which one and why, and the run goes on from what was saved."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("dying_rank.py")
ROOT = Path(__file__).resolve().parents[2]


def launch(program: list[object], options: list[object]) -> subprocess.CompletedProcess[str]:
    """Two ranks of a program under ``torchrun``; one that hangs fails the test."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    words = [str(word) for word in [*launcher, *program, *options]]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
    return subprocess.run(words, capture_output=True, text=True, timeout=300, env=environment)


def options_of(world, run: Path, parallel: str) -> list[object]:
    steps = ["--set", "training.max_steps=5", "--set", "training.checkpoint.every_steps=1"]
    return [
        *world.train_options(run),
        *("--batch-size", 8, "--set", f"training.parallel={parallel}", "--set", "training.max_tokens=110"),
        *("--set", "model.gradient_checkpointing=false", *steps),
    ]


def losses(run: Path) -> list[tuple[int, float]]:
    rows = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    return [(row["step"], row["loss"]) for row in rows if "loss" in row]


def own_lines(errors: str) -> list[str]:
    """What the ranks said at their end, without the launcher's report of it."""
    return [line for line in errors.splitlines() if line.startswith("mgc: error:")]


def test_a_killed_rank_ends_the_run_which_resumes_as_if_nothing_had_been(world, tmp_path, mgc):
    run, whole = tmp_path / "run", tmp_path / "whole"
    options = options_of(world, run, "fsdp")
    killed = launch([PROGRAM, "killed"], options)
    assert killed.returncode != 0
    [line] = own_lines(killed.stderr)
    assert "another rank has ended" in line and "--resume" in line
    assert "exitcode  : -9" in killed.stderr and killed.stderr.count("Traceback") == 1  # the launcher's
    assert 0 < len(losses(run)) < 5
    resumed = launch([ROOT / "train.py"], [*options[1:], "--resume"])
    assert resumed.returncode == 0, resumed.stderr
    assert mgc(*options_of(world, whole, "ddp"), "--batch-size", 16).code == 0
    for (step, loss), (other_step, other_loss) in zip(losses(run), losses(whole), strict=True):
        assert step == other_step and loss == pytest.approx(other_loss, rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_an_error_on_one_rank_is_told_with_its_number(world, tmp_path, parallel):
    ended = launch([PROGRAM, "error"], options_of(world, tmp_path / "run", parallel))
    assert ended.returncode != 0
    lines = own_lines(ended.stderr)
    assert "mgc: error: rank 1: reads.fa: the disk is gone: mount it again" in lines
    assert next(line for line in lines if "rank 1" not in line).startswith("mgc: error: another rank has ended")


@pytest.mark.slow
def test_memory_that_runs_out_on_one_of_the_ranks_that_share_weights_ends_all(world, tmp_path):
    ended = launch([PROGRAM, "out of memory"], options_of(world, tmp_path / "run", "fsdp"))
    assert ended.returncode != 0
    [line] = [line for line in own_lines(ended.stderr) if "rank 1" in line]
    assert "set training.max_tokens to" in line and "--resume" in line
