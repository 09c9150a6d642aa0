"""The head alone, from embeddings made once: the same model as through the encoder, and what a user sees of it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from metagene_classifier.cache import entries
from metagene_classifier.cli.main import main
from metagene_classifier.model.classifier import ReadClassifier
from metagene_classifier.training import embed_once, embeddings
from metagene_classifier.training.from_embeddings import FromEmbeddings
from metagene_classifier.training.interrupts import StopRequest

from .conftest import World, write_labelled

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _cache_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("MGC_CACHE", str(tmp_path / "cache"))


def options(world: World, run: Path, *more: object) -> list[object]:
    return [*world.train_options(run), "--set", "model.freeze=encoder", "--lr", 1e-2, *more]


def losses(run: Path) -> list[tuple[int, float]]:
    rows = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    return [(row["step"], row.get("loss", row.get("eval_loss"))) for row in rows]


def head(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "last" / "head.safetensors")


@pytest.fixture(scope="module")
def whole_run(world, tmp_path_factory) -> Path:
    """A run that was never stopped, with its cache beside it."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setenv("MGC_CACHE", str(folder / "cache"))
        main([str(word) for word in options(world, folder / "run")])
    assert not ended.value.code
    return folder / "run"


def same_bits(one: Path, other: Path) -> bool:
    return all(torch.equal(weights, head(other)[name]) for name, weights in head(one).items())


def same_losses(one: Path, other: Path) -> bool:
    pairs = zip(losses(one), losses(other), strict=True)
    return all(
        step == other_step and loss == pytest.approx(other_loss, rel=1e-4)
        for (step, loss), (other_step, other_loss) in pairs
    )


def never(self, batch):
    raise AssertionError("the encoder was run")


@pytest.fixture
def long_reads(world, tmp_path) -> tuple[object, ...]:
    """Reads of one to six windows, and the words that say so."""
    train, val = tmp_path / "long.fa", tmp_path / "long_val.fa"
    write_labelled(train, 12, seed=4, length=400)
    write_labelled(val, 6, seed=5, length=300)
    train.write_text(train.read_text() + world.train.read_text())
    val.write_text(val.read_text() + world.val.read_text())
    return ("--train-fasta", train, "--val-fasta", val, "--set", "tokenizer.max_length=24")


@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_the_head_is_the_one_that_training_through_the_encoder_gives(
    pooling, long_reads, world, mgc, tmp_path, monkeypatch
):
    changes = [*long_reads, "--max-epochs", 3, "--set", "model.dropout=0.3", "--set", f"model.pooling={pooling}"]
    changes += ["--set", "loss.label_smoothing=0.1", "--set", "loss.class_weights={Midia gcensis: 3}"]
    stored, through = tmp_path / "stored", tmp_path / "through"
    done = mgc(*options(world, stored, *changes))
    assert done.code == 0, done.err
    assert sorted(entry.kind for entry in entries()) == ["embeddings", "embeddings", "stores", "stores"]
    monkeypatch.setenv("MGC_NO_CACHE", "1")
    done = mgc(*options(world, through, *changes))
    assert done.code == 0 and "MGC_NO_CACHE is set: the encoder runs in every epoch" in done.err
    assert len(losses(stored)) == 3 * (12 + 1)
    assert same_losses(stored, through)
    for name, weights in head(stored).items():
        torch.testing.assert_close(weights, head(through)[name], rtol=1e-3, atol=1e-4)


def test_a_second_run_with_another_rate_never_runs_the_encoder_and_its_model_predicts(
    whole_run, world, mgc, tmp_path, monkeypatch
):
    second = tmp_path / "second"
    monkeypatch.setenv("MGC_CACHE", str(whole_run.parent / "cache"))
    with monkeypatch.context() as patch:
        patch.setattr(ReadClassifier, "embed", never)
        done = mgc(*options(world, second, "--lr", 5e-2, "--max-epochs", 10))
    assert done.code == 0, done.err
    assert "training: using the stored embeddings of 144 reads" in done.err
    assert "validation: using the stored embeddings of 48 reads" in done.err
    assert {path.name for path in (whole_run / "best").iterdir()} == {path.name for path in (second / "best").iterdir()}
    calls, metrics = tmp_path / "calls.csv", tmp_path / "evaluation"
    assert mgc("predict", "--input", world.test, "--ckpt", second, "--output", calls, "--device", "cpu").code == 0
    assert len(calls.read_text().splitlines()) == 1 + 48
    done = mgc("evaluate", "--input", world.val, "--ckpt", second, "--output-dir", metrics, "--device", "cpu")
    assert done.code == 0, done.err
    validation = json.loads((second / "validation" / "metrics.json").read_text())
    evaluated = json.loads(next(metrics.rglob("metrics.json")).read_text())
    assert evaluated["accuracy"] == validation["accuracy"] > 0.5  # chance is 0.33
    assert evaluated["loss"] == pytest.approx(validation["loss"], rel=1e-4)


def test_the_encoder_takes_no_memory_while_the_head_is_trained(whole_run, world, mgc, tmp_path, monkeypatch):
    monkeypatch.setenv("MGC_CACHE", str(whole_run.parent / "cache"))
    held = []
    scores = FromEmbeddings.validation_scores

    def watched(self):
        held.append(sum(weight.numel() for weight in self.classifier.encoder.parameters() if not weight.is_meta))
        return scores(self)

    monkeypatch.setattr(FromEmbeddings, "validation_scores", watched)
    assert mgc(*options(world, tmp_path / "run", "--max-epochs", 1)).code == 0
    assert held == [0]


def test_a_resumed_run_takes_the_stored_embeddings_and_equals_one_that_never_stopped(
    long_reads, world, mgc, tmp_path, monkeypatch
):
    whole, run = tmp_path / "whole", tmp_path / "run"
    assert mgc(*options(world, whole, *long_reads)).code == 0
    with monkeypatch.context() as patch:
        calls = iter(range(1, 10**6))
        patch.setattr(StopRequest, "asked", lambda self, accelerator: next(calls) == 7)
        assert mgc(*options(world, run, *long_reads)).code == 130
    monkeypatch.setattr(ReadClassifier, "embed", never)
    resumed = mgc(*options(world, run, *long_reads), "--resume")
    assert resumed.code == 0, resumed.err
    assert losses(run) == losses(whole) and same_bits(run, whole)


def test_a_quantized_encoder_has_embeddings_of_its_own(whole_run, world, mgc, tmp_path, monkeypatch):
    pytest.importorskip("bitsandbytes")
    monkeypatch.setenv("MGC_CACHE", str(whole_run.parent / "cache"))
    done = mgc(*options(world, tmp_path / "first", "--set", "model.quantization=nf4", "--max-epochs", 1))
    assert done.code == 0 and "the encoder runs once over the reads" in done.err, done.err
    monkeypatch.setattr(ReadClassifier, "embed", never)
    done = mgc(*options(world, tmp_path / "second", "--set", "model.quantization=nf4", "--max-epochs", 1))
    assert done.code == 0 and "using the stored embeddings of 144 reads" in done.err, done.err
    first, second = losses(tmp_path / "first"), losses(tmp_path / "second")
    assert first == second
    assert first[:9] != losses(whole_run)[:9]


def test_too_small_a_disk_is_one_line_and_the_old_run_stays(whole_run, world, mgc, tmp_path, monkeypatch):
    run = tmp_path / "run"
    shutil.copytree(whole_run, run)
    usage = type("Usage", (), {"free": 100})
    monkeypatch.setattr(embed_once.shutil, "disk_usage", lambda path: usage)
    refused = mgc(*options(world, run), "--overwrite")
    assert refused.code == 1
    assert "the embeddings take 18.4 kB for the training reads and 6.1 kB for the validation reads" in refused.err
    assert "set MGC_CACHE" in refused.err and "Traceback" not in refused.err
    assert losses(run) == losses(whole_run) and same_bits(run, whole_run)


SLOW = """
import sys, time
from metagene_classifier.cli.main import main
from metagene_classifier.cli.main import main
from metagene_classifier.model.classifier import ReadClassifier
from metagene_classifier.training import embeddings
embeddings.READS_PER_BLOCK = 16
embed = ReadClassifier.embed
def slowly(self, batch):
    time.sleep({seconds})
    return embed(self, batch)
ReadClassifier.embed = slowly
main(sys.argv[1:])
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_is_stopped_while_embedding_goes_on_with_the_same_command(
    number, whole_run, world, mgc, tmp_path, monkeypatch
):
    run, cache = tmp_path / "run", tmp_path / "cache"
    words = [str(word) for word in options(world, run)]
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW.format(seconds=0.3), *words],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    until = time.monotonic() + 120
    while not blocks_done(cache) and process.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert "stopped while embedding: the blocks that are done are kept" in err and "Traceback" not in err
    assert 0 < blocks_done(cache) < 9
    assert not run.exists()
    monkeypatch.setattr(embeddings, "READS_PER_BLOCK", 16)
    again = mgc(*words)
    assert again.code == 0, again.err
    assert "of 144 reads are stored already" in again.err
    assert same_losses(run, whole_run)


def blocks_done(cache: Path) -> int:
    done = 0
    for path in (cache / "embeddings").glob("*/blocks.npy"):
        done += int(np.count_nonzero(np.load(path)))
    return done


def test_two_ranks_share_the_embedding_and_train_the_same_head(whole_run, world, tmp_path):
    run, script = tmp_path / "run", tmp_path / "slow.py"
    script.write_text(SLOW.format(seconds=0.02))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", script]
    words = options(world, run, "--batch-size", 8)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([str(word) for word in [*launcher, *words]], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert blocks_done(tmp_path / "cache") == 9 + 3
    assert same_losses(run, whole_run)
