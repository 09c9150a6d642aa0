"""Whole commands on a card that runs out of memory, which a stand-in for the classifier's forward pass plays."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from metagene_classifier.model.classifier import ReadClassifier
from metagene_classifier.prediction import scorer

SCRIPT = """
import os, sys, torch
from metagene_classifier.model.classifier import ReadClassifier

forward = ReadClassifier.forward

def on_a_small_card(self, batch):
    if self.training and os.environ["RANK"] == "1" and batch.ids.numel() > 150:
        raise torch.OutOfMemoryError("CUDA out of memory.")
    return forward(self, batch)

ReadClassifier.forward = on_a_small_card
from metagene_classifier.cli.main import main
main(sys.argv[1:])
"""


def losses(run: Path) -> list[float]:
    rows = map(json.loads, (run / "history.jsonl").read_text().splitlines())
    return [row["loss"] for row in rows if "loss" in row]


@pytest.fixture
def small_card(monkeypatch):
    """Lets micro-batches of so many tokens through, and no larger ones."""

    def hold(tokens):
        forward = ReadClassifier.forward

        def limited(self, batch):
            if batch.ids.numel() > tokens:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return forward(self, batch)

        monkeypatch.setattr(ReadClassifier, "forward", limited)

    return hold


def test_training_and_prediction_go_on_with_the_same_result(world, mgc, small_card, tmp_path):
    assert mgc(*world.train_options(tmp_path / "large")).code == 0
    whole = mgc("predict", "--input", world.test, "--ckpt", tmp_path / "large", "--output", "-")
    small_card(120)
    trained = mgc(*world.train_options(tmp_path / "small"))
    assert trained.code == 0, trained.err
    assert trained.err.count("out of memory on the device with") >= 1
    assert losses(tmp_path / "small") == pytest.approx(losses(tmp_path / "large"), rel=1e-4)
    called = mgc("predict", "--input", world.test, "--ckpt", tmp_path / "large", "--output", "-")
    assert called.code == 0, called.err
    assert "out of memory on the device with" in called.err
    rows, expected = ([line.split(",")[:2] for line in one.out.splitlines()] for one in (called, whole))
    assert rows == expected


def test_a_read_that_does_not_fit_ends_in_one_line_and_the_model_before_it_is_whole(world, mgc, small_card, tmp_path):
    run = tmp_path / "run"
    assert mgc(*world.train_options(run), "--set", "training.max_steps=3").code == 0
    small_card(20)
    ended = mgc(*world.train_options(run), "--resume")
    assert ended.code == 1
    line = ended.err.splitlines()[-1]
    assert "one read of" in line and "does not fit" in line
    assert "Traceback" not in ended.err
    called = mgc("predict", "--input", world.test, "--ckpt", run, "--output", tmp_path / "calls.csv")
    assert called.code == 1 and "does not fit" in called.err.splitlines()[-1]
    assert not (tmp_path / "calls.csv").exists()


def test_calls_that_are_kept_are_counted_as_they_stand_in_the_file(
    world, mgc, trained, small_card, tmp_path, monkeypatch
):
    monkeypatch.setattr(scorer, "READS_PER_BLOCK", 16)
    reads = world.test.read_text().split(">")[1:41]
    source = tmp_path / "reads.fa"
    source.write_text("".join(f">{read}" for read in reads) + f">long\n{'ACGTTGCA' * 60}\n")
    small_card(60)
    ended = mgc("predict", "--input", source, "--ckpt", trained, "--output", tmp_path / "calls.csv")
    assert ended.code == 1
    assert "the calls of the first 32 reads are in" in ended.err.splitlines()[-1]
    kept = (tmp_path / "calls.csv.partial").read_text()
    assert kept.endswith("\n") and len(kept.splitlines()) == 1 + 32


def test_all_ranks_begin_the_step_again_when_one_runs_out(world, mgc, tmp_path):
    script = tmp_path / "train_on_small_card.py"
    script.write_text(SCRIPT)
    assert mgc(*world.train_options(tmp_path / "one")).code == 0
    options = [str(word) for word in [*world.train_options(tmp_path / "two"), "--batch-size", 8]]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(script)]
    done = subprocess.run(
        [*command, *options], capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("out of memory on the device with") >= 1
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-4)
