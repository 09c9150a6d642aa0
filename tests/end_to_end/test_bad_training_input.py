"""What keeps a run from starting is one clear line, a non-zero exit, and nothing written."""

import gzip

import pytest

from .conftest import GC_SHARES, write_labelled


def refusal(mgc, world, tmp_path, *options, code=1):
    run = tmp_path / "run"
    outcome = mgc(*world.train_options(run), *options)
    assert outcome.code == code, outcome.err
    assert not (run / "best").exists() and not (run / "last").exists()
    lines = [line for line in outcome.err.splitlines() if line.startswith("mgc: error:")]
    assert len(lines) == 1
    return lines[0]


def test_headers_that_do_not_parse_are_counted_and_shown(world, mgc, tmp_path):
    reads = tmp_path / "reads.fa"
    reads.write_text("".join(f">read{number}\nACGT\n" for number in range(7)))
    line = refusal(mgc, world, tmp_path, "--train-fasta", reads)
    assert "7 reads" in line and "read0" in line and "read4" in line and "read5" not in line


def test_a_class_that_is_not_in_the_mapping(world, mgc, tmp_path):
    reads = tmp_path / "reads.fa"
    reads.write_text(world.train.read_text() + ">lbl|9|1|4|x\nACGT\n" * 3)
    assert "9 (3)" in refusal(mgc, world, tmp_path, "--train-fasta", reads)
    run = tmp_path / "lenient"
    options = ["--set", "dataset.strict_classes=false", "--train-fasta", reads, "--max-epochs", 1]
    lenient = mgc(*world.train_options(run), *options)
    assert lenient.code == 0 and "training: 3 reads of 1 classes that are not in the mapping" in lenient.err


def test_a_validation_class_that_training_never_had(world, mgc, tmp_path):
    reads = tmp_path / "reads.fa"
    lines = world.train.read_text().split(">")
    reads.write_text(">".join(line for line in lines if not line.startswith("lbl|2|")))
    assert "never in the training reads: Highia gcensis" in refusal(mgc, world, tmp_path, "--train-fasta", reads)


def test_empty_truncated_and_missing_files(world, mgc, tmp_path):
    empty = tmp_path / "empty.fa"
    empty.touch()
    assert "empty.fa" in refusal(mgc, world, tmp_path, "--train-fasta", empty)
    broken = tmp_path / "broken.fa.gz"
    broken.write_bytes(gzip.compress(world.train.read_bytes())[:2000])
    line = refusal(mgc, world, tmp_path, "--train-fasta", broken)
    assert "broken.fa.gz" in line and "whole records" in line
    assert "missing.fa" in refusal(mgc, world, tmp_path, "--train-fasta", tmp_path / "missing.fa")


def test_mapping_faults(world, mgc, tmp_path):
    mapping = tmp_path / "mapping.tsv"
    mapping.write_text("class_id\tlabel_name\n0\tA\n1\tA\n")
    assert "line 3" in refusal(mgc, world, tmp_path, "--mapping-tsv", mapping)
    mapping.write_text("class_id\tname\n0\tA\n")
    assert "label_name" in refusal(mgc, world, tmp_path, "--mapping-tsv", mapping)


def test_settings_that_cannot_work(world, mgc, tmp_path):
    assert "num_classes is 5 and the mapping has 3" in refusal(
        mgc, world, tmp_path, "--set", "model.num_classes=5", code=2
    )
    assert "did you mean 'batch_size'" in refusal(mgc, world, tmp_path, "--set", "training.batchsize=5", code=2)
    assert "q_proj" in refusal(mgc, world, tmp_path, "--set", "model.lora.target_modules=[query]", code=2)
    assert "device_map" in refusal(mgc, world, tmp_path, "--set", "model.device_map=auto", code=2)
    assert "model.init: random" in refusal(mgc, world, tmp_path, "--set", "model.encoder_path=builtin:llama-tiny")
    assert "is a file" in refusal(mgc, world, tmp_path, "--output-dir", world.mapping)


def test_a_tokenizer_that_does_not_fit_the_encoder(world, mgc, tmp_path):
    import shutil

    import torch
    from transformers import LlamaConfig, LlamaModel

    small = tmp_path / "small"
    torch.manual_seed(0)
    LlamaModel(
        LlamaConfig(vocab_size=100, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2)
    ).save_pretrained(small)
    for file in world.encoder.glob("*token*"):
        shutil.copy(file, small)
    line = refusal(mgc, world, tmp_path, "--set", f"model.encoder_path={small}")
    assert "1023" in line or "1024" in line


def test_the_minbpe_file_beside_another_encoder_gives_way_to_its_own_tokenizer(world, mgc, tmp_path):
    run = tmp_path / "run"
    options = ["--set", "tokenizer.use_hf_tokenizer=false", "--set", "tokenizer.name_or_path=builtin:minbpe"]
    done = mgc(*world.train_options(run), *options, "--max-epochs", 1)
    assert done.code == 0, done.err
    assert "minbpe" in done.err
    plain = tmp_path / "plain"
    assert mgc(*world.train_options(plain), "--max-epochs", 1).code == 0
    for name in ("adapter_model.safetensors", "head.safetensors", "tokenizer/tokenizer.json"):
        assert (run / "best" / name).read_bytes() == (plain / "best" / name).read_bytes()


def test_an_encoder_trained_with_minbpe_from_the_start(world, mgc, tmp_path):
    import json

    architecture = tmp_path / "architecture"
    architecture.mkdir()
    config = json.loads((world.encoder / "config.json").read_text()) | {"vocab_size": 1025}
    (architecture / "config.json").write_text(json.dumps(config))
    run = tmp_path / "run"
    options = ["--set", "tokenizer.use_hf_tokenizer=false", "--set", "tokenizer.name_or_path=builtin:minbpe"]
    options += ["--set", f"model.encoder_path={architecture}", "--set", "model.init=random"]
    done = mgc(*world.train_options(run), *options, "--max-epochs", 1)
    assert done.code == 0, done.err
    called = mgc("predict", "--input", world.test, "--ckpt", run, "--output", "-")
    assert called.code == 0 and len(called.out.splitlines()) == 49


def test_labels_from_a_table_and_from_file_names(world, mgc, tmp_path):
    folder = tmp_path / "by_file"
    folder.mkdir()
    table = ["read_id\tclass"]
    plain = tmp_path / "plain.fa"
    records = []
    for number, record in enumerate(world.train.read_text().split(">")[1:]):
        header, bases = record.split("\n", 1)
        class_id = header.split("|")[1]
        records.append(f">r{number}\n{bases}")
        table.append(f"r{number}\t{class_id}")
        with open(folder / f"{list(GC_SHARES)[int(class_id)].replace(' ', '_')}.fa", "a") as out:
            out.write(records[-1])
    plain.write_text("".join(records))
    (tmp_path / "labels.tsv").write_text("\n".join(table) + "\n")
    common = ["--mapping-tsv", world.mapping, "--device", "cpu", "--max-epochs", 1, "--batch-size", 16]
    common += ["--set", f"model.encoder_path={world.encoder}", "--set", "training.precision=32"]
    by_table = ["--train-fasta", plain, "--labels-from", "tsv", "--labels-tsv", tmp_path / "labels.tsv"]
    done = mgc("train", *common, *by_table, "--output-dir", tmp_path / "a")
    assert done.code == 0, done.err
    done = mgc("train", *common, "--train-fasta", folder, "--labels-from", "filename", "--output-dir", tmp_path / "b")
    assert done.code == 0, done.err


def test_mates_stay_on_one_side_of_the_split(world, tmp_path):
    from metagene_classifier.config_file import load_config
    from metagene_classifier.training.data import load_training_data

    one, two = tmp_path / "1.fa", tmp_path / "2.fa"
    write_labelled(one, 100, seed=1)
    two.write_text(one.read_text().replace("/1\n", "/2\n"))
    values = {
        "dataset.train_fasta": [str(one), str(two)],
        "dataset.mapping_tsv": str(world.mapping),
        "dataset.val_fraction": 0.2,
        "model.encoder_path": str(world.encoder),
    }
    data = load_training_data(load_config(None, values), lambda line: None)
    groups = data.train.store.columns(0, 600).groups
    trained, held_out = data.train.numbers(), data.validation.numbers()
    assert sorted([*trained, *held_out]) == list(range(600)) and 60 < len(held_out) < 180
    assert not set(groups[trained].tolist()) & set(groups[held_out].tolist())
    assert len(set(groups[held_out].tolist())) * 2 == len(held_out)


@pytest.mark.parametrize("precision", ["bf16-mixed", "fp16-mixed"])
def test_half_precision_on_a_cpu_is_told_and_runs(precision, world, mgc, tmp_path):
    done = mgc(*world.train_options(tmp_path / "run"), "--set", f"training.precision={precision}", "--max-epochs", 1)
    assert done.code == 0 and f"precision {precision} is for accelerators" in done.err


def test_bfloat16_weights_when_asked_for(world, mgc, tmp_path):
    from metagene_classifier.model.saved import load_model

    options = ["--set", "model.dtype=bfloat16", "--max-epochs", 1]
    done = mgc(*world.train_options(tmp_path / "run"), *options)
    assert done.code == 0, done.err
    description = load_model(tmp_path / "run" / "best", device="cpu", tell=print).description
    assert description.encoder.dtype == description.encoder.compute_dtype == "bfloat16"
