import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from metagene_classifier.training.interrupts import StopRequest

from .conftest import World, write_labelled


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter_model.safetensors") | load_file(folder / "head.safetensors")


def same_bits(one: Path, other: Path) -> bool:
    left, right = weights(one), weights(other)
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def losses(run: Path) -> list[tuple[int, float]]:
    rows = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    return [(row["step"], row.get("loss", row.get("eval_loss"))) for row in rows]


def stop_after(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    calls = iter(range(1, 10**6))
    monkeypatch.setattr(StopRequest, "asked", lambda self, accelerator: next(calls) == steps)


@pytest.fixture(scope="session")
def whole_run(world: World, tmp_path_factory) -> Path:
    """A LoRA run that was never stopped: 144 reads, batches of 16, two epochs."""
    from metagene_classifier.cli.main import main

    folder = tmp_path_factory.mktemp("whole") / "run"
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in world.train_options(folder)])
    assert not ended.value.code
    return folder


def test_a_run_leaves_model_report_and_history(whole_run, world):
    assert {path.name for path in whole_run.iterdir()} == {
        *("best", "last", "config.yaml", "plan.json", "history.jsonl", "validation")
    }
    best = {path.name for path in (whole_run / "best").iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "head.safetensors", "README.md"} <= best
    assert len([step for step, _ in losses(whole_run)]) == 18 + 2  # 9 steps an epoch, an evaluation after each
    assert (whole_run / "validation" / "report.html").stat().st_size > 1000
    card = (whole_run / "best" / "README.md").read_text()
    assert "Midia gcensis" in card and "mgc train" in card


def test_checkpoints_hold_adapter_and_head_only_and_no_pickle(whole_run):
    for path in whole_run.rglob("*"):
        assert path.suffix not in {".bin", ".pkl", ".pth", ".ckpt"}, path
    size = sum(path.stat().st_size for path in (whole_run / "best").rglob("*.safetensors"))
    assert size < 100_000  # the encoder alone has 4 * 50,000 bytes
    state = torch.load(whole_run / "last" / "training_state.pt", weights_only=True)
    assert state["counters"]["step"] == 18


@pytest.mark.parametrize("steps", [1, 5, 9, 12])
def test_resuming_equals_never_having_stopped(steps, whole_run, world, mgc, tmp_path, monkeypatch):
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        stop_after(patch, steps)
        stopped = mgc(*world.train_options(run))
    assert stopped.code == 130
    assert "--resume" in stopped.err
    assert not (run / "validation").exists()
    resumed = mgc(*world.train_options(run), "--resume")
    assert resumed.code == 0, resumed.err
    assert same_bits(run / "last", whole_run / "last")
    assert same_bits(run / "best", whole_run / "best")
    assert losses(run) == losses(whole_run)


def test_a_killed_run_resumes_from_its_last_checkpoint(whole_run, world, mgc, tmp_path):
    run = tmp_path / "run"
    options = [*world.train_options(run), "--set", "training.checkpoint.every_steps=4"]
    command = [sys.executable, "-m", "metagene_classifier", *map(str, options)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    until = time.monotonic() + 120
    while not (run / "last" / "training_state.pt").exists() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    resumed = mgc(*options, "--resume")
    assert resumed.code == 0, resumed.err
    assert same_bits(run / "last", whole_run / "last")
    assert losses(run) == losses(whole_run)


def test_ctrl_c_saves_and_says_how_to_go_on(world, tmp_path):
    run = tmp_path / "run"
    options = [*world.train_options(run), "--max-epochs", 500]
    command = [sys.executable, "-m", "metagene_classifier", *map(str, options)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    until = time.monotonic() + 120
    while not (run / "history.jsonl").exists() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "--resume" in err and "Traceback" not in err
    assert (run / "last" / "training_state.pt").exists()


@pytest.mark.parametrize(
    "change",
    [
        ("--max-tokens", 64),
        ("--max-tokens", 100_000),
        ("--set", "training.layout=packed"),
        ("--set", "training.layout=padded"),
        ("--set", "model.gradient_checkpointing=true"),
    ],
)
def test_memory_settings_never_change_the_result(change, whole_run, world, mgc, tmp_path):
    run = tmp_path / "run"
    assert mgc(*world.train_options(run), *change).code == 0
    for (step, loss), (whole_step, whole_loss) in zip(losses(run), losses(whole_run), strict=True):
        assert step == whole_step
        assert loss == pytest.approx(whole_loss, rel=1e-4)


def test_accumulated_steps_are_the_same_steps(whole_run, world, mgc, tmp_path):
    run = tmp_path / "run"
    assert mgc(*world.train_options(run), "--batch-size", 4, "--set", "training.grad_accum_steps=4").code == 0
    assert same_bits(run / "last", whole_run / "last")


def test_the_last_partial_step_is_taken(world, mgc, tmp_path):
    run = tmp_path / "run"
    assert mgc(*world.train_options(run), "--batch-size", 100, "--max-epochs", 1).code == 0
    assert [step for step, _ in losses(run)] == [1, 2, 2]  # 100 reads and 44, then the evaluation


def test_an_organism_is_learned_by_full_training(trained):
    metrics = json.loads((trained / "validation" / "metrics.json").read_text())
    assert metrics["macro_f1"] > 0.8  # chance is 0.33


def test_head_alone_leaves_the_encoder_untouched(world, mgc, tmp_path):
    run = tmp_path / "run"
    assert mgc(*world.train_options(run), "--set", "model.freeze=encoder").code == 0
    best = {path.name for path in (run / "best").iterdir()}
    assert "head.safetensors" in best
    assert not best & {"adapter_model.safetensors", "encoder"}


def test_early_stopping_on_a_flat_score(world, mgc, tmp_path):
    run = tmp_path / "run"
    options = ["--max-epochs", 20, "--lr", 1e-12, "--set", "training.early_stopping.patience=2"]
    stopped = mgc(*world.train_options(run), *options)
    assert stopped.code == 0
    assert "has not improved for 2 evaluations" in stopped.err
    assert losses(run)[-1][0] == 3 * 9


def test_the_lowest_loss_can_choose_the_best(world, mgc, tmp_path):
    run = tmp_path / "run"
    options = ["--set", "training.early_stopping.metric=loss", "--set", "training.early_stopping.mode=min"]
    assert mgc(*world.train_options(run), *options, "--lr", 1e-3).code == 0
    state = torch.load(run / "last" / "training_state.pt", weights_only=True)["counters"]
    evaluated = [loss for step, loss in losses(run)[9::10]]
    assert state["best"] == min(evaluated)


def test_smoothing_and_class_weights_change_the_loss(whole_run, world, mgc, tmp_path):
    for number, change in enumerate(["loss.label_smoothing=0.2", "loss.class_weights={Midia gcensis: 5}"]):
        run = tmp_path / str(number)
        assert mgc(*world.train_options(run), "--max-epochs", 1, "--set", change).code == 0
        assert losses(run)[0][1] != losses(whole_run)[0][1]
    refused = mgc(*world.train_options(tmp_path / "x"), "--set", "loss.class_weights={Midia: 5}")
    assert refused.code == 2
    assert "no class is called 'Midia' (did you mean 'Midia gcensis'?)" in refused.err


def test_save_last_false_keeps_the_best_alone(world, mgc, tmp_path):
    run = tmp_path / "run"
    assert mgc(*world.train_options(run), "--max-epochs", 1, "--set", "training.checkpoint.save_last=false").code == 0
    assert (run / "best").is_dir() and not (run / "last").exists()


def test_a_finished_run_can_be_given_more_epochs(world, mgc, tmp_path):
    run = tmp_path / "run"
    constant = ["--set", "scheduler.name=constant", "--set", "scheduler.warmup_steps=0"]
    assert mgc(*world.train_options(run), *constant, "--max-epochs", 1).code == 0
    longer = mgc(*world.train_options(run), *constant, "--max-epochs", 2, "--resume")
    assert longer.code == 0 and "training.max_epochs" in longer.err
    whole = tmp_path / "whole"
    assert mgc(*world.train_options(whole), *constant, "--max-epochs", 2).code == 0
    assert same_bits(run / "last", whole / "last")


def test_another_run_in_the_folder_is_refused_and_overwritten_when_asked(whole_run, world, mgc, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(whole_run, run)
    (run / "notes.txt").write_text("mine")
    refused = mgc(*world.train_options(run))
    assert refused.code == 1
    assert "holds a run already" in refused.err and "--overwrite" in refused.err
    assert same_bits(run / "last", whole_run / "last")
    assert mgc(*world.train_options(run), "--overwrite", "--max-epochs", 1).code == 0
    assert (run / "notes.txt").read_text() == "mine"


def test_resuming_is_refused_where_it_would_not_be_the_same_run(whole_run, world, mgc, tmp_path):
    nothing = mgc(*world.train_options(tmp_path / "none"), "--resume")
    assert nothing.code == 1 and "no run to resume" in nothing.err
    begun = tmp_path / "begun"
    begun.mkdir()
    shutil.copy(whole_run / "config.yaml", begun)
    again = mgc(*world.train_options(begun), "--resume", "--max-epochs", 1)
    assert again.code == 0 and "had saved nothing yet: it begins again" in again.err
    shutil.rmtree(begun / "last")
    finished = mgc(*world.train_options(begun), "--resume", "--max-epochs", 1)
    assert finished.code == 1 and "what going on needs was not kept" in finished.err
    assert (begun / "best" / "head.safetensors").is_file()
    run = tmp_path / "run"
    shutil.copytree(whole_run, run)
    other = mgc(*world.train_options(run), "--resume", "--lr", 0.1)
    assert other.code == 2 and "optimizer.lr was 0.0002 and is 0.1" in other.err
    reads = tmp_path / "train.fa"
    write_labelled(reads, 48, seed=9)
    saved = run / "config.yaml"
    saved.write_text(saved.read_text().replace(str(world.train), str(reads)))
    changed = mgc(*world.train_options(run), "--resume", "--train-fasta", reads)
    assert changed.code == 1 and "the train reads are not those that the run began with" in changed.err
    both = mgc(*world.train_options(run), "--resume", "--overwrite")
    assert both.code == 2


def test_a_damaged_checkpoint_is_named(whole_run, world, mgc, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(whole_run, run)
    state = run / "last" / "training_state.pt"
    state.write_bytes(state.read_bytes()[:1000])
    refused = mgc(*world.train_options(run), "--resume")
    assert refused.code == 1
    assert "training_state.pt is damaged" in refused.err and "Traceback" not in refused.err


def test_no_space_left_keeps_the_last_whole_model(whole_run, world, mgc, tmp_path, monkeypatch):
    from metagene_classifier.training import loop

    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        stop_after(patch, 5)
        assert mgc(*world.train_options(run)).code == 130
    before = weights(run / "last")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(loop, "save_state", full)
        refused = mgc(*world.train_options(run), "--resume")
    assert refused.code == 1
    assert "no space left on the disk" in refused.err and "Traceback" not in refused.err
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights(run / "last").items())
    assert mgc(*world.train_options(run), "--resume").code == 0
    assert same_bits(run / "last", whole_run / "last")


def test_without_validation_reads_some_are_held_out_and_told(world, mgc, tmp_path):
    run = tmp_path / "run"
    options = [word for word in world.train_options(run) if word not in ("--val-fasta", world.val)]
    held = mgc(*options, "--max-epochs", 1)
    assert held.code == 0
    assert "no validation reads were given" in held.err
    assert (run / "validation" / "metrics.json").exists()
    none = mgc(*options, "--max-epochs", 1, "--set", "dataset.val_fraction=0", "--overwrite")
    assert none.code == 0
    assert not (run / "best").exists() and (run / "last").is_dir()


def test_the_earlier_commands_and_spellings(world, tmp_path):
    root = Path(__file__).resolve().parents[2]
    run = tmp_path / "run"
    config = tmp_path / "config.yaml"
    config.write_text(
        f"device: cuda\nmodel: {{encoder_path: {world.encoder}}}\noptimizer: {{lr: 2e-4}}\n"
        "tokenizer: {padding: max_length}\nmemory_optimization: {empty_cache_steps: 10}\n"
    )
    command = [sys.executable, root / "train.py", "--config", config, "--train_fasta", world.train]
    command += ["--val_fasta", world.val, "--mapping_tsv", world.mapping, "--output_dir", run]
    command += ["--batch_size", "16", "--max_epochs", "1", "--lr", "1e-3"]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "tokenizer.padding is accepted" in done.stderr
    output = tmp_path / "predictions.csv"
    command = [sys.executable, root / "predict.py", "--input", world.test, "--ckpt", run]
    command += ["--output", output, "--batch_size", "16"]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(output.read_text().splitlines()) == 1 + 48


def test_two_ranks_are_one(world, tmp_path):
    """torchrun with two processes covers the same reads and gives the same losses as one, dropout included."""
    root = Path(__file__).resolve().parents[2]
    runs = {}
    for ranks, batch in ((1, 16), (2, 8)):
        run = tmp_path / str(ranks)
        options = [str(word) for word in [*world.train_options(run), "--batch-size", batch]][1:]
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={ranks}"]
        command = [*launcher, str(root / "train.py"), *options]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        assert done.returncode == 0, done.stderr
        runs[ranks] = losses(run)
    # The best model is of an earlier session then, and its figures are made anew by both ranks.
    again = subprocess.run(
        [*command, "--resume"], capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert again.returncode == 0, again.stderr
    for (step, loss), (other_step, other_loss) in zip(runs[1], runs[2], strict=True):
        assert step == other_step and loss == pytest.approx(other_loss, rel=1e-5)


def test_steps_added_to_a_run_that_ended_within_an_epoch_go_on_within_it(world, mgc, tmp_path):
    def options(run: Path) -> list[object]:
        return [*world.train_options(run), *("--set", "scheduler.name=constant", "--set", "scheduler.warmup_steps=0")]

    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert mgc(*options(whole)).code == 0
    assert mgc(*options(parts), "--set", "training.max_steps=5").code == 0
    resumed = mgc(*options(parts), "--resume")
    assert resumed.code == 0, resumed.err
    assert "resuming in epoch 1 after step 5" in resumed.err
    assert same_bits(parts / "last", whole / "last")
