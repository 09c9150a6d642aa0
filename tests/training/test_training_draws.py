"""What a run draws for a read (dropout, a window) follows from the seed and the read's place in the epoch alone."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
from tests.training.recorded_runs import run as recorded

from metagene_classifier.config_file import load_config
from metagene_classifier.training.data import load_training_data


def settings_of(encoder, labelled_files, output: Path, **changes) -> dict:
    return {
        "device": "cpu",
        "dataset.train_fasta": str(labelled_files.train_fasta),
        "dataset.val_fasta": str(labelled_files.val_fasta),
        "dataset.mapping_tsv": str(labelled_files.mapping_tsv),
        "model.encoder_path": str(encoder),
        "training.precision": "32",
        "training.batch_size": 8,
        "training.max_epochs": 1,
        "training.output_dir": str(output / "run"),
        "logging.tensorboard": False,
        "logging.log_interval": 1,
        **changes,
    }


def losses(folder: Path) -> list[float]:
    rows = [json.loads(line) for line in (folder / "run" / "history.jsonl").read_text().splitlines()]
    return [row["loss"] for row in rows if "loss" in row]


def test_a_read_that_an_epoch_repeats_draws_anew_each_time(llama_encoder, labelled_files, tmp_path):
    records = labelled_files.train_fasta.read_text().split(">")[1:]
    reads = tmp_path / "unequal.fa"
    kept = [record for record in records if not record.startswith("lbl|1|") or "pair 0" in record]
    reads.write_text("".join(f">{record}" for record in kept))
    changes = {"dataset.train_fasta": str(reads), "dataset.sampling": "balanced"}
    settings = settings_of(llama_encoder, labelled_files, tmp_path, **changes)
    recorded(dict(settings))
    rows = [json.loads(line) for line in (tmp_path / "reads.0.jsonl").read_text().splitlines()]
    taken = np.array([read for row in rows for read in row["reads"]])
    data = load_training_data(load_config(None, settings), lambda line: None)
    assert np.bincount(data.train.store.classes_of(taken)).tolist() == data.order.reads_per_class.tolist()
    assert max(Counter(taken.tolist()).values()) >= 5
    assert len({key for row in rows for key in row["keys"]}) == len(taken)


def test_the_dropout_that_an_encoder_brings_itself_goes_on_where_it_was(bert_encoder, labelled_files, tmp_path):
    lora = {"model.lora.target_modules": ["query", "value"], "scheduler.name": "constant"}
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    whole.mkdir()
    stopped.mkdir()
    recorded(settings_of(bert_encoder, labelled_files, whole, **lora))
    recorded(settings_of(bert_encoder, labelled_files, stopped, **lora, **{"training.max_steps": 3}))
    recorded(settings_of(bert_encoder, labelled_files, stopped, **lora, resume=True))
    assert len(losses(whole)) == 6
    assert losses(stopped) == losses(whole)
