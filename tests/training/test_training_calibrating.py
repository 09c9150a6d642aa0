"""The end of a run: the chosen model's confidence is measured, and the model is whole whatever happens there."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metagene_classifier.calling.confusion import Confusion
from metagene_classifier.config_file import load_config
from metagene_classifier.metrics.calibration import reliability
from metagene_classifier.metrics.open_set import open_set_from_dict
from metagene_classifier.model.calibration import CalibrationFacts
from metagene_classifier.model.description import read_description
from metagene_classifier.model.out_of_memory import DeviceMemoryError
from metagene_classifier.model.saved import load_model
from metagene_classifier.model.scoring import probabilities_of
from metagene_classifier.prediction.opening import scorer_for
from metagene_classifier.prediction.stream_report import StreamReport
from metagene_classifier.reads.files import read_records
from metagene_classifier.training import calibrating
from metagene_classifier.training.run import train
from metagene_classifier.training.sampled_embeddings import balanced_ranks, drawn_evenly, drawn_whole_groups, groups_of

HERE = Path(__file__).parent
WEIGHTS = ((4, 1, 1, 4), (1, 4, 4, 1), (1, 1, 1, 1), (1, 1, 4, 4))


@dataclass(frozen=True)
class Reads:
    train: Path
    val: Path
    mapping: Path


@pytest.fixture(scope="module")
def reads(tmp_path_factory) -> Reads:
    """Four classes of different composition, in pairs: 160 reads to train on, 240 to validate with."""
    folder = tmp_path_factory.mktemp("calibrating")
    bases = random.Random(3)

    def pairs(per_class: int) -> str:
        return "".join(
            f">lbl|{number}|{100 + number}|90|pair {pair}/{mate}\n{''.join(bases.choices('ACGT', weight, k=90))}\n"
            for pair in range(per_class)
            for number, weight in enumerate(WEIGHTS)
            for mate in (1, 2)
        )

    mapping = folder / "mapping.tsv"
    mapping.write_text("class_id\tlabel_name\ttax_id\n" + "".join(f"{n}\tclass {n}\t{100 + n}\n" for n in range(4)))
    (folder / "train.fa").write_text(pairs(20))
    (folder / "val.fa").write_text(pairs(30))
    return Reads(folder / "train.fa", folder / "val.fa", mapping)


@pytest.fixture
def run(llama_encoder, reads, tmp_path) -> Callable[..., list[str]]:
    """Train in ``tmp_path / "run"``; returns the lines that were told."""

    def trained(resume: bool = False, **changes: Any) -> list[str]:
        lines: list[str] = []
        config = load_config(None, {**values(llama_encoder, reads, tmp_path / "run"), **changes})
        train(config, resume=resume, overwrite=False, tell=lines.append, write_card=lambda folder, facts: None)
        return lines

    return trained


def values(encoder: Path, reads: Reads, output: Path) -> dict[str, Any]:
    return {
        "device": "cpu",
        "dataset.train_fasta": str(reads.train),
        "dataset.val_fasta": str(reads.val),
        "dataset.mapping_tsv": str(reads.mapping),
        "model.encoder_path": str(encoder),
        "training.precision": "32",
        "training.batch_size": 40,
        "training.max_epochs": 3,
        "training.output_dir": str(output),
        "optimizer.lr": 0.05,
        "scheduler.warmup_steps": 0,
        "logging.tensorboard": False,
    }


def calibration_of(folder: Path) -> CalibrationFacts:
    found = read_description(folder).calibration
    assert found is not None
    return found


def scored_by(folder: Path, reads: Reads) -> tuple[np.ndarray, np.ndarray]:
    """Scores and classes of the validation reads, by the model as prediction loads it."""
    model = load_model(folder, device="cpu", tell=lambda line: None)
    scorer = scorer_for(model, batch_size=None, max_tokens=None, long_reads=None, embed=False, tell=lambda line: None)
    records = list(read_records(reads.val))
    scores = np.concatenate([block.values for block in scorer.stream(records, StreamReport())])
    return scores, np.array([int(record.header.split("|")[1]) for record in records])


def check(folder: Path, reads: Reads) -> CalibrationFacts:
    """The calibration is that of the weights in the folder, on the validation reads."""
    facts = calibration_of(folder)
    scores, classes = scored_by(folder, reads)
    probabilities = probabilities_of(scores)
    expected = reliability(probabilities.max(axis=1), probabilities.argmax(axis=1) == classes)
    assert facts.ece_before == pytest.approx(expected.ece, abs=1e-4)
    calibrated = probabilities_of(scores / facts.temperature.single)
    correct = calibrated.argmax(axis=1) == classes
    assert facts.ece_after == pytest.approx(reliability(calibrated.max(axis=1), correct).ece, abs=1e-4)
    return facts


def test_the_chosen_model_keeps_what_was_measured(run, reads, tmp_path):
    lines = run()
    facts = check(tmp_path / "run" / "best", reads)
    assert facts.temperature.reads == 240
    assert facts.temperature.pairs_measured  # 120 pairs
    assert facts.temperature.single <= facts.temperature.pairs <= 2.2 * facts.temperature.single
    assert facts.refusal is not None
    assert (facts.refusal.folds, facts.refusal.unknown) == (4, 240)
    confusion = Confusion.load(tmp_path / "run" / "best")
    assert confusion is not None
    assert confusion.counts.sum(axis=1).tolist() == [60, 60, 60, 60, 240]
    curves = open_set_from_dict(json.loads((tmp_path / "run" / "open_set.json").read_text()))
    assert curves[facts.refusal.score].auroc == facts.refusal.figures[facts.refusal.score].auroc
    assert "confusion.safetensors" in read_description(tmp_path / "run" / "best").files
    assert any("calibrated on 240 validation reads: temperature" in line for line in lines)
    assert any("default threshold" in line for line in lines)
    assert read_description(tmp_path / "run" / "last").calibration is None


def test_the_best_model_is_calibrated_where_the_last_one_is_another(run, reads, tmp_path, monkeypatch):
    seen = iter([True, False, False])
    monkeypatch.setattr("metagene_classifier.training.loop._is_gain", lambda *values: next(seen))
    run()
    best, _ = scored_by(tmp_path / "run" / "best", reads)
    last, _ = scored_by(tmp_path / "run" / "last", reads)
    assert np.abs(best - last).max() > 0.1
    check(tmp_path / "run" / "best", reads)


def test_a_run_that_is_resumed_is_not_calibrated_again(run, tmp_path, monkeypatch):
    run()
    before = calibration_of(tmp_path / "run" / "best")
    monkeypatch.setattr(calibrating, "_measured", lambda *values: pytest.fail("calibrated again"))
    run(resume=True)
    assert calibration_of(tmp_path / "run" / "best") == before


def test_an_interrupt_leaves_a_whole_model_and_resuming_calibrates_it(run, reads, tmp_path, monkeypatch):
    def interrupted(*values: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(calibrating, "leave_taxa_out", interrupted)
        with pytest.raises(KeyboardInterrupt, match="while calibrating"):
            run(**{"training.checkpoint.save_last": False})
    assert read_description(tmp_path / "run" / "best").calibration is None
    scored_by(tmp_path / "run" / "best", reads)
    run(resume=True, **{"training.checkpoint.save_last": False})
    check(tmp_path / "run" / "best", reads)
    assert not (tmp_path / "run" / "last").exists()


def test_memory_that_runs_out_leaves_a_whole_model_and_a_line(run, reads, tmp_path, monkeypatch):
    def no_memory(*values: Any, **options: Any) -> None:
        raise DeviceMemoryError("out of memory on the device")

    monkeypatch.setattr("metagene_classifier.training.sampled_embeddings.score_reads", no_memory)
    lines = run()
    assert [line for line in lines if "not calibrated" in line] == [
        "the model is whole, and not calibrated: out of memory on the device"
    ]
    assert read_description(tmp_path / "run" / "best").calibration is None
    scored_by(tmp_path / "run" / "best", reads)


def test_a_head_alone_is_calibrated_from_its_stored_embeddings(run, reads, tmp_path, monkeypatch):
    run(**{"model.freeze": "encoder"})
    stored = check(tmp_path / "run" / "best", reads)
    (tmp_path / "run").rename(tmp_path / "stored")
    monkeypatch.setenv("MGC_NO_CACHE", "1")
    run(**{"model.freeze": "encoder"})
    anew = calibration_of(tmp_path / "run" / "best")
    assert stored.temperature.single == pytest.approx(anew.temperature.single, rel=1e-2)
    assert stored.refusal is not None and anew.refusal is not None
    assert stored.refusal.figures["centroid"].auroc == pytest.approx(anew.refusal.figures["centroid"].auroc, abs=0.01)


def test_both_strands_are_measured_where_both_are_to_be_scored(run, tmp_path):
    run(**{"calling.strand": "average", "calling.open_set": False})
    facts = calibration_of(tmp_path / "run" / "best")
    assert facts.temperature.strand == "average"
    assert facts.refusal is None
    confusion = Confusion.load(tmp_path / "run" / "best")
    assert confusion is not None and not confusion.has_unknown


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"calling.calibrate": False}, None),
        ({"dataset.max_val_reads": 99}, "the model is not calibrated: 99 validation reads, and 100 are needed"),
        ({"dataset.val_fasta": None, "dataset.val_fraction": 0.0}, "the model is not calibrated: no validation reads"),
    ],
)
def test_a_model_that_is_not_to_be_or_cannot_be_calibrated_stays_as_it_is(run, tmp_path, changes, line):
    lines = run(**changes)
    [folder] = [tmp_path / "run" / name for name in ("best", "last") if (tmp_path / "run" / name).exists()][:1]
    assert read_description(folder).calibration is None
    assert [one for one in lines if "calibrated" in one and line is None] == []
    assert line is None or any(one.startswith(line) for one in lines)


def test_two_ranks_calibrate_as_one(llama_encoder, reads, tmp_path):
    cases = []
    for name in ("ddp", "fsdp"):
        (tmp_path / name).mkdir()
        case = values(llama_encoder, reads, tmp_path / name / "run")
        cases.append({**case, "training.batch_size": 20, "training.parallel": name, "training.max_epochs": 2})
    path = tmp_path / "cases.json"
    path.write_text(json.dumps(cases))
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [*launch, HERE / "sharded_runs.py", path], capture_output=True, text=True, env=environment, timeout=300
    )
    assert done.returncode == 0, done.stderr
    for name in ("ddp", "fsdp"):
        facts = check(tmp_path / name / "run" / "best", reads)
        assert facts.refusal is not None


def test_mates_are_drawn_together(reads, tmp_path):
    from metagene_classifier.training.data import load_training_data

    config = load_config(None, values(Path("builtin:llama-tiny"), reads, tmp_path) | {"model.init": "random"})
    data = load_training_data(config, lambda line: None)
    validation = data.validation
    everything = groups_of(validation, validation.numbers())
    np.testing.assert_array_equal(everything, validation.store.columns(0, len(validation.store)).groups)
    for most in (1, 10, 51, 100):
        drawn = drawn_whole_groups(validation, most, seed=1)
        assert most <= len(drawn) <= most + 1
        assert (np.diff(drawn) > 0).all()
        _, counts = np.unique(groups_of(validation, drawn), return_counts=True)
        assert (counts == 2).all()
    assert drawn_whole_groups(validation, 10, seed=1).tolist() != drawn_whole_groups(validation, 10, seed=2).tolist()


def test_headers_without_names_make_no_mates_and_no_class_is_left_out_of_a_draw(tmp_path):
    from metagene_classifier.training.data import load_training_data

    named = tmp_path / "short.fa"
    bases = random.Random(1)
    reads = [f">lbl|{number % 3}\n{''.join(bases.choices('ACGT', k=60))}\n" for number in range(300)]
    named.write_text("".join(reads))
    mapping = tmp_path / "mapping.tsv"
    mapping.write_text("class_id\tlabel_name\n0\ta\n1\tb\n2\tc\n")
    changes = {
        "model.encoder_path": "builtin:llama-tiny",
        "model.init": "random",
        "dataset.train_fasta": str(named),
        "dataset.val_fasta": str(named),
        "dataset.mapping_tsv": str(mapping),
        "training.output_dir": str(tmp_path / "run"),
    }
    validation = load_training_data(load_config(None, changes), lambda line: None).validation
    drawn = drawn_whole_groups(validation, 100, seed=1)
    assert len(drawn) == 100
    assert (np.bincount(validation.store.classes_of(drawn)) > 15).all()
    assert len(np.unique(groups_of(validation, drawn[:2]))) == 2


def test_reads_of_a_large_store_are_drawn_from_a_part_of_it_and_are_those_of_the_run(reads, tmp_path, monkeypatch):
    from metagene_classifier.training.data import load_training_data

    changes = {"model.init": "random", "dataset.val_fasta": None, "dataset.val_fraction": 0.3}
    config = load_config(None, {**values(Path("builtin:llama-tiny"), reads, tmp_path), **changes})
    train_reads = load_training_data(config, lambda line: None).train
    everything = train_reads.numbers()
    assert 0 < len(everything) < len(train_reads.store)
    monkeypatch.setattr("metagene_classifier.training.sampled_embeddings.LOOKED_AT", 80)
    drawn = drawn_evenly(train_reads, 30, seed=1)
    assert len(drawn) == 30
    assert (np.diff(drawn) > 0).all()
    assert np.isin(drawn, everything).all()


@settings(deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=60), st.integers(0, 3), st.integers(1, 60))
def test_as_many_reads_of_each_class_are_drawn_as_there_are(classes, seed, most):
    classes = np.array(classes)
    ranks = balanced_ranks(classes, seed)
    drawn = classes[np.argsort(ranks, kind="stable")[:most]]
    counts = np.bincount(drawn, minlength=6)
    there = np.bincount(classes, minlength=6)
    # A class has fewer than another only if that is all it has, or by the one that did not fit any more.
    for one in range(6):
        assert counts[one] == there[one] or counts[one] >= counts.max() - 1
