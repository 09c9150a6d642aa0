"""A run that is killed, wherever that happens, and resumed is the run that was never killed, to the last bit."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

HURRY = (
    "--set",
    "training.checkpoint.every_steps=3",
    "--set",
    "metrics.compute_auroc=false",
    "--set",
    "model.dropout=0.2",
)
SAMPLED = (
    *("--set", "dataset.sampling=balanced", "--set", "dataset.shuffle=blocks", "--set", "dataset.shuffle_buffer=50"),
    *("--set", "loss.class_weights=balanced"),
)
NATURAL = ("--set", "dataset.val_fraction=0.2", "--max-epochs", "3")


def rows_of(run: Path) -> list[dict]:
    """What the run's history says of learning; how fast it went is another thing each time."""
    rows = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if not name.endswith("_per_s")} for row in rows]


def unequal(world, folder: Path) -> list[object]:
    """Options that train on reads of which the three classes have 48, 20 and 7."""
    records = world.train.read_text().split(">")[1:]
    of_class = [[record for record in records if record.startswith(f"lbl|{index}|")] for index in range(3)]
    reads = folder / "unequal.fa"
    reads.write_text(
        "".join(f">{record}" for kept, rest in zip((48, 20, 7), of_class, strict=True) for record in rest[:kept])
    )
    return ["--train-fasta", reads]


def start(options: list[object]) -> subprocess.Popen:
    command = [sys.executable, "-m", "metagene_classifier", *map(str, options)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


def killed(run: Path, options: list[object], moment) -> int:
    """Start, send SIGKILL at the moment, and return the steps that the history has then."""
    process = start(options)
    deadline = time.monotonic() + 300
    while not moment():
        assert process.poll() is None, f"ended before it was killed: {process.communicate()[1]}"
        assert time.monotonic() < deadline
        time.sleep(0.0005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    return lines(run)


def lines(run: Path) -> int:
    try:
        return (run / "history.jsonl").read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0


def check(world, mgc, tmp_path, sampling, seed: int, kills: int) -> None:
    whole, run = tmp_path / "whole", tmp_path / "run"
    reads = unequal(world, tmp_path) if sampling is SAMPLED else []
    changes = [*HURRY, *sampling, *reads, "--batch-size", 4]
    done = mgc(*world.train_options(whole), *changes)
    assert done.code == 0, done.err
    expected = rows_of(whole)
    options = [*world.train_options(run), *changes]
    rng, before = random.Random(seed), 0
    for number in range(kills):
        if number % 2:  # as soon as the checkpoint after a few more steps is begun
            enough = before + rng.randrange(3, 8)
            moment = lambda enough=enough: lines(run) > enough and (run / "last.partial").exists()  # noqa: E731
        else:
            enough = before + rng.randrange(4, 9)
            moment = lambda enough=enough: lines(run) > enough  # noqa: E731
        before = killed(run, [*options, *(["--resume"] if number else [])], moment)
        assert before < len(expected)
    process = start([*options, "--resume"])
    said = process.communicate()[1]
    assert process.returncode == 0, said
    assert "resuming in epoch" in said
    assert rows_of(run) == expected
    weights = "head.safetensors", "adapter_model.safetensors"
    for model in ("best", "last"):
        for name in weights:
            assert (run / model / name).read_bytes() == (whole / model / name).read_bytes(), (model, name)


def test_a_run_killed_in_the_middle_of_an_epoch_and_of_a_checkpoint_is_resumed_to_the_last_bit(world, mgc, tmp_path):
    check(world, mgc, tmp_path, SAMPLED, seed=1, kills=2)


@pytest.mark.slow
@pytest.mark.parametrize("sampling", [NATURAL, SAMPLED], ids=["natural", "balanced, in blocks"])
@pytest.mark.parametrize("seed", [2, 3])
def test_a_run_killed_five_times_is_resumed_to_the_last_bit(world, mgc, tmp_path, sampling, seed):
    check(world, mgc, tmp_path, sampling, seed=seed, kills=5)


@pytest.mark.parametrize("name", ["last", "best"])
def test_a_kill_between_the_two_renames_of_a_checkpoint_loses_nothing(world, mgc, tmp_path, name):
    run = tmp_path / "run"
    assert mgc(*world.train_options(run), "--max-epochs", 1).code == 0
    before = rows_of(run)
    (run / name).rename(run / f"{name}.old")
    done = mgc(*world.train_options(run), "--max-epochs", 1, "--resume")
    assert done.code == 0, done.err
    assert (run / name / "head.safetensors").is_file() and rows_of(run) == before


def test_a_validation_row_written_before_the_kill_stands_once_in_the_history(world, mgc, tmp_path):
    run = tmp_path / "run"
    assert mgc(*world.train_options(run), "--max-epochs", 1, *HURRY).code == 0
    expected = rows_of(run)
    with (run / "history.jsonl").open("a") as out:
        out.write(json.dumps({"step": expected[-1]["step"], "epoch": 1.0, "eval_loss": 0.1}) + "\n" + '{"step": 1')
    done = mgc(*world.train_options(run), "--max-epochs", 1, *HURRY, "--resume")
    assert done.code == 0, done.err
    assert rows_of(run) == expected


def test_overwrite_leaves_nothing_of_a_run_that_was_killed_while_it_saved(world, mgc, tmp_path):
    run = tmp_path / "run"
    assert mgc(*world.train_options(run), "--max-epochs", 1).code == 0
    (run / "best").rename(run / "best.old")
    changes = ("--max-epochs", 1, "--set", "training.checkpoint.save_best=false", "--overwrite")
    assert mgc(*world.train_options(run), *changes).code == 0
    assert not (run / "best.old").exists()
