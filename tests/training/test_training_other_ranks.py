"""A run that goes on with another number of ranks still meets every read of the epoch once."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.training.recorded_runs import run as recorded

from metagene_classifier.training.settings import total_steps
from metagene_classifier.training.state import RunState

HERE = Path(__file__).parent


def settings_of(llama_encoder, labelled_files, output: Path, **changes) -> dict:
    return {
        "device": "cpu",
        "dataset.train_fasta": str(labelled_files.train_fasta),
        "dataset.val_fasta": str(labelled_files.val_fasta),
        "dataset.mapping_tsv": str(labelled_files.mapping_tsv),
        "model.encoder_path": str(llama_encoder),
        "training.precision": "32",
        "training.batch_size": 5,
        "training.max_epochs": 2,
        "training.output_dir": str(output / "run"),
        "logging.tensorboard": False,
        **changes,
    }


def read_of(folder: Path) -> tuple[list[list[int]], list[list[int]]]:
    """Reads and keys of all steps of all ranks and sessions."""
    rows = [json.loads(line) for path in folder.glob("reads.*.jsonl") for line in path.read_text().splitlines()]
    return [row["reads"] for row in rows], [row["keys"] for row in rows]


def test_two_ranks_go_on_as_one_and_one_as_two(llama_encoder, labelled_files, tmp_path):
    fewer, more = tmp_path / "fewer", tmp_path / "more"
    fewer.mkdir()
    more.mkdir()
    # 48 reads: 5 steps of 10, or 10 steps of 5. Both stop in the middle of the first epoch.
    first, second = [
        settings_of(llama_encoder, labelled_files, folder, **{"training.max_steps": 3}) for folder in (more, fewer)
    ]
    on = [settings_of(llama_encoder, labelled_files, folder, resume=True) for folder in (more, fewer)]
    recorded(first)
    cases = tmp_path / "cases.json"
    cases.write_text(json.dumps([on[0], second]))
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [*launch, HERE / "recorded_runs.py", cases], capture_output=True, text=True, env=environment, timeout=300
    )
    assert done.returncode == 0, done.stderr
    recorded(on[1])
    for folder, steps in ((more, 3 + 4 + 5), (fewer, 3 + 4 + 10)):
        reads, keys = read_of(folder)
        assert Counter(read for step in reads for read in step) == dict.fromkeys(range(48), 2), folder
        assert len({key for step in keys for key in step}) == 96
        rows = [json.loads(line) for line in (folder / "run" / "history.jsonl").read_text().splitlines()]
        assert rows[-1]["step"] == steps and rows[-1]["epoch"] == 2.0


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (RunState(), 40),
        (RunState(epoch=1, reads_done=50, step=15), 40),
        (RunState(epoch=1, reads_done=50, step=8), 33),  # on two ranks so far
        (RunState(epoch=3, reads_done=95, step=99), 99),
        (RunState(epoch=4, step=40), 40),
    ],
)
def test_the_steps_of_a_run_are_those_behind_it_and_those_to_come(state, expected):
    assert total_steps(state, 95, 10, max_epochs=4, max_steps=None) == expected
    assert total_steps(state, 95, 10, max_epochs=4, max_steps=30) == min(expected, 30)


@given(st.integers(1, 500), st.integers(1, 64), st.integers(1, 5), st.data())
def test_a_run_that_keeps_its_ranks_keeps_its_steps(reads, per_step, epochs, data):
    steps = -(-reads // per_step)
    epoch, step = data.draw(st.integers(0, epochs - 1)), data.draw(st.integers(0, steps))
    state = RunState(epoch=epoch, reads_done=min(step * per_step, reads), step=epoch * steps + step)
    assert total_steps(state, reads, per_step, max_epochs=epochs, max_steps=None) == steps * epochs
