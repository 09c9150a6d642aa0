"""The launch files: what they start, with the batch system's commands replaced by ones that only say what they got."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"


@pytest.fixture
def batch_system(tmp_path) -> dict[str, str]:
    """The environment of a job, whose commands print their words, one a line."""
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, does in (
        ("srun", 'printf "%s\\n" "$@"'),
        ("mgc", 'printf "%s\\n" "$@"'),
        ("scontrol", "printf 'node1\\nnode2\\n'"),
    ):
        (commands / name).write_text(f"#!/bin/sh\n{does}\n")
        (commands / name).chmod(0o755)
    slurm = {
        "SLURM_JOB_NODELIST": "node[1-2]",
        "SLURM_NNODES": "2",
        "SLURM_GPUS_ON_NODE": "4",
        "SLURM_JOB_ID": "77",
        "SLURM_CPUS_PER_TASK": "16",
        "SLURM_ARRAY_TASK_ID": "3",
        "SLURM_ARRAY_TASK_COUNT": "8",
    }
    return {**os.environ, **slurm, "PATH": f"{commands}:{os.environ['PATH']}"}


def words_of(script: str, *words: object, environment: dict[str, str]) -> list[str]:
    command = ["bash", str(DEPLOY / script), *map(str, words)]
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.splitlines()


def options_are_known(command: str, words: list[str]) -> bool:
    """Whether all long options among the words are the command's."""
    from metagene_classifier.cli.main import _mgc

    shown = CliRunner().invoke(_mgc, [command, "--help"], terminal_width=200).output
    return all(word in shown for word in words if word.startswith("--"))


def test_training_on_two_nodes_starts_a_rank_for_each_card(batch_system, tmp_path):
    run = tmp_path / "run"
    words = words_of("slurm_train.sh", run, "--lr", "1e-4", environment=batch_system)
    assert words[:3] == ["--kill-on-bad-exit=1", "--cpus-per-task=16", "torchrun"]
    assert {"--nnodes=2", "--nproc-per-node=4", "--rdzv-endpoint=node1:29500"} <= set(words)
    own = words[words.index("--module") + 1 :]
    assert own == ["metagene_classifier", "train", "--output-dir", str(run), "--lr", "1e-4"]
    run.mkdir()
    (run / "config.yaml").touch()
    again = words_of("slurm_train.sh", run, "--lr", "1e-4", environment=batch_system)
    assert again == [*words[: len(words) - 2], "--resume", *words[-2:]]
    assert options_are_known("train", again[again.index("train") :])


def test_a_task_of_the_array_calls_its_shard(batch_system):
    words = words_of("slurm_predict.sh", "calls.csv", "--input", "reads.fq", environment=batch_system)
    assert words == ["predict", "--shard", "3/8", "--output", "calls.csv", "--input", "reads.fq"]
    assert options_are_known("predict", words)
    alone = {**batch_system, "SHARDS": "8", "SLURM_ARRAY_TASK_COUNT": "2"}
    assert "3/8" in words_of("slurm_predict.sh", "calls.csv", environment=alone)


def test_a_script_without_its_first_word_says_what_that_is(batch_system):
    ended = subprocess.run(["bash", DEPLOY / "slurm_train.sh"], env=batch_system, capture_output=True, text=True)
    assert ended.returncode != 0
    assert "the run's folder, and then the words of mgc train" in ended.stderr


def test_the_cloud_file_starts_a_training_that_there_is():
    job = yaml.safe_load((DEPLOY / "skypilot.yaml").read_text())
    words = job["run"].split("--module", 1)[1].split()
    assert words[:2] == ["metagene_classifier", "train"]
    assert options_are_known("train", words)
    assert job["num_nodes"] == 1 and job["workdir"] == "."


def test_what_the_image_is_made_of_is_there():
    copied = [line.split()[1:-1] for line in (DEPLOY / "Dockerfile").read_text().splitlines() if "COPY" in line]
    assert all((DEPLOY.parent / name).exists() for names in copied for name in names)
