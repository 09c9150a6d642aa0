"""``training.fit``: a run takes what fits its device, keeps what is set, and says why before any weight is loaded."""

import json

import pytest
import torch
import yaml

from metagene_classifier.model import encoder


@pytest.fixture
def way_peaks(world, mgc):
    """GiB that each way takes at the least, as ``mgc plan`` says it of a CPU."""
    options = [
        *("plan", "--json", "--reads", world.train, "--mapping-tsv", world.mapping),
        *("--set", "device=cpu", "--set", f"model.encoder_path={world.encoder}"),
    ]
    told = json.loads(mgc(*options).out)
    return {way["name"]: way["peak_gib"] for way in told["ways"]}


def mib(gib: float) -> str:
    return f"{gib * 1024:.6f}MiB"


def chosen(run):
    return yaml.safe_load((run / "config.yaml").read_text())["model"]["quantization"]


def losses(run):
    rows = map(json.loads, (run / "history.jsonl").read_text().splitlines())
    return [row["loss"] for row in rows if "loss" in row]


def test_less_memory_means_smaller_micro_batches_then_fewer_bits_and_the_same_steps(world, mgc, way_peaks, tmp_path):
    runs = {}
    for name, limit in {
        "plenty": "1GiB",
        "little": mib(1.001 * way_peaks["lora"]),
        "less": mib((way_peaks["int8"] + way_peaks["lora+checkpointing"]) / 2),
    }.items():
        ended = mgc(*world.train_options(tmp_path / name), "--set", f"training.memory_limit={limit}")
        assert ended.code == 0, ended.err
        (runs[name],) = [line for line in ended.err.splitlines() if line.startswith("plan: ")]
    assert "float32 LoRA without checkpointing" in runs["plenty"] and "float32 LoRA" in runs["little"]
    assert chosen(tmp_path / "plenty") == chosen(tmp_path / "little") == "none"
    tokens = [int(runs[name].split(" tokens at once")[0].rsplit(" ", 1)[1].replace(",", "")) for name in runs]
    assert tokens[1] < tokens[0]
    # Micro-batches change nothing; 8-bit weights take the same steps and change a little.
    assert losses(tmp_path / "little") == pytest.approx(losses(tmp_path / "plenty"), rel=1e-4)
    assert chosen(tmp_path / "less") == "int8" and "takes" in runs["less"]
    assert losses(tmp_path / "less") == pytest.approx(losses(tmp_path / "plenty"), rel=0.1)


def test_a_run_goes_on_with_the_weights_that_it_began_with(world, mgc, way_peaks, tmp_path):
    run = tmp_path / "run"
    limit = mib((way_peaks["int8"] + way_peaks["lora+checkpointing"]) / 2)
    begun = mgc(*world.train_options(run), "--set", "training.max_steps=3", "--set", f"training.memory_limit={limit}")
    assert begun.code == 0, begun.err
    resumed = mgc(*world.train_options(run), "--resume")
    assert resumed.code == 0, resumed.err
    assert "plan: int8 LoRA" in resumed.err
    assert chosen(run) == "int8"
    refused = mgc(*world.train_options(run), "--resume", "--set", "model.quantization=none")
    assert refused.code == 2
    assert "model.quantization was 'int8' and is 'none'" in refused.err
    called = mgc("predict", "--input", world.test, "--ckpt", run, "--output", "-")
    assert called.code == 0 and len(called.out.splitlines()) == 49
    shifted = mgc("predict", "--input", world.test, "--ckpt", run, "--output", "-", "--quantization", "none")
    assert shifted.code == 0
    assert "was trained on int8 weights and is used on full weights: scores shift a little" in shifted.err


@pytest.mark.parametrize(
    ("settings", "fraction", "expected"),
    [
        (["training.max_tokens=4000"], 1.001, "fits with up to"),
        (["model.quantization=none"], 0.2, "no way fits"),
        ([], 0.1, "no way fits"),
    ],
)
def test_what_cannot_fit_is_refused_before_any_weight_is_loaded(
    world, mgc, way_peaks, tmp_path, monkeypatch, settings, fraction, expected
):
    def loaded(*_, **__):
        raise AssertionError("a weight was loaded")

    monkeypatch.setattr(encoder, "_from_files", loaded)
    options = [word for setting in settings for word in ("--set", setting)]
    limit = mib(fraction * way_peaks["lora"])
    ended = mgc(*world.train_options(tmp_path / "run"), *options, "--set", f"training.memory_limit={limit}")
    assert ended.code == 2
    line = ended.err.splitlines()[-1]
    assert line.startswith("mgc: error: ") and expected in line and "training.fit: off" in line
    assert not (tmp_path / "run").exists()


def test_without_a_plan_nothing_is_looked_at(world, mgc, way_peaks, tmp_path):
    limit = mib(0.1 * way_peaks["lora"])
    off = ("--set", "training.fit=off", "--set", f"training.memory_limit={limit}", "--set", "training.max_steps=2")
    ended = mgc(*world.train_options(tmp_path / "run"), *off)
    assert ended.code == 0, ended.err
    assert "plan:" not in ended.err
    assert chosen(tmp_path / "run") == "none"


def test_the_model_card_and_the_report_say_what_the_run_took(world, mgc, tmp_path):
    run = tmp_path / "run"
    settings = ("--set", "model.quantization=nf4", "--set", "model.gradient_checkpointing=true")
    ended = mgc(*world.train_options(run), *settings, "--set", "training.max_steps=2", "--set", "model.freeze_layers=1")
    assert ended.code == 0, ended.err
    card = (run / "best" / "README.md").read_text()
    assert "NF4 LoRA with checkpointing" in card and "nf4 and float32" in card
    assert "NF4 LoRA with checkpointing" in (run / "validation" / "report.html").read_text()
    adapter = json.loads((run / "best" / "adapter_config.json").read_text())
    assert adapter["exclude_modules"] == r"(layers\.0)\..*"


def test_a_resumed_run_keeps_its_micro_batches_where_they_fit(world, mgc, way_peaks, tmp_path):
    run = tmp_path / "run"
    little = mib(1.001 * way_peaks["lora"])
    limit = ("--set", f"training.memory_limit={little}")
    assert mgc(*world.train_options(run), *limit, "--set", "training.max_steps=3").code == 0
    tokens = json.loads((run / "plan.json").read_text())["max_tokens"]
    resumed = mgc(*world.train_options(run), "--resume")
    assert resumed.code == 0, resumed.err
    assert f" {tokens:,} tokens at once" in resumed.err
    assert json.loads((run / "plan.json").read_text())["max_tokens"] == tokens


def test_a_run_that_does_not_fit_any_more_is_told_what_it_began_with(world, mgc, way_peaks, tmp_path):
    run = tmp_path / "run"
    assert mgc(*world.train_options(run), "--set", "training.max_steps=3").code == 0
    limit = mib((way_peaks["int8"] + way_peaks["lora+checkpointing"]) / 2)
    refused = mgc(*world.train_options(run), "--resume", "--set", f"training.memory_limit={limit}")
    assert refused.code == 2
    line = refused.err.splitlines()[-1]
    assert "the run began with model.quantization: none, which --resume keeps" in line
    assert "leave those settings out" not in line


def test_an_encoder_that_is_quantized_in_its_files_is_planned_as_it_is(world, mgc, tmp_path, monkeypatch):
    monkeypatch.setenv("MGC_NO_CACHE", "1")  # transformers saves what was quantized now, and not what it read so
    folder = tmp_path / "quantized"
    loaded = encoder.load_encoder(
        encoder.EncoderSource(str(world.encoder)),
        dtype=torch.float32,
        device=torch.device("cpu"),
        seed=0,
        quantization="nf4",
    )
    loaded.save_pretrained(folder)
    for file in world.encoder.glob("*token*"):
        (folder / file.name).write_bytes(file.read_bytes())
    options = [*world.train_options(tmp_path / "run"), "--set", f"model.encoder_path={folder}"]
    ended = mgc(*options, "--set", "training.max_steps=2")
    assert ended.code == 0, ended.err
    assert "plan: NF4 LoRA" in ended.err
    assert "nf4 and float32" in (tmp_path / "run" / "best" / "README.md").read_text()


def test_checkpoints_that_are_shaped_are_made(world, mgc, tmp_path):
    ended = mgc(
        *world.train_options(tmp_path / "run"), "--set", "model.checkpoint_every=2", "--set", "training.max_steps=1"
    )
    assert ended.code == 0 and "with checkpointing of every 2nd layer" in ended.err
    settings = ("--set", "model.checkpoint_offload=true", "--set", "model.gradient_checkpointing=false")
    refused = mgc(*world.train_options(tmp_path / "other"), *settings)
    assert refused.code == 2 and "need gradient_checkpointing: true" in refused.err


def test_a_folder_without_a_model_is_not_said_to_be_resumable(world, mgc, tmp_path, monkeypatch):
    run = tmp_path / "run"

    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(torch.optim.AdamW, "step", full)
    ended = mgc(*world.train_options(run))
    assert ended.code == 1 and "while weights were updated" in ended.err.splitlines()[-1]
    monkeypatch.undo()
    again = mgc(*world.train_options(run))
    assert again.code == 1
    assert "replace it (--overwrite)" in again.err and "--resume" not in again.err
    assert mgc(*world.train_options(run), "--overwrite", "--set", "training.max_steps=1").code == 0


def test_an_encoder_that_does_not_fit_while_it_is_loaded_is_one_line(world, mgc, trained, tmp_path, monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(encoder, "_from_files", full)
    for words in (
        [*world.train_options(tmp_path / "run"), "--set", "training.fit=off"],
        ["predict", "--input", world.test, "--ckpt", trained, "--output", tmp_path / "calls.csv"],
    ):
        ended = mgc(*words)
        assert ended.code == 1
        assert "does not fit in the memory of cpu: 'mgc plan' shows what does" in ended.err.splitlines()[-1]
