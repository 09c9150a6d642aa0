"""What a run takes of its reads: from files or a store, all or some, and what is told and refused before it starts."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from metagene_classifier.config_file import load_config
from metagene_classifier.errors import ConfigError, DataError
from metagene_classifier.store.preparing.prepare import prepare
from metagene_classifier.store.preparing.request import PrepareRequest
from metagene_classifier.training import data as training_data
from metagene_classifier.training.data import label_source, labels_of, load_training_data, tokenizer_of
from metagene_classifier.training.fitting import lengths_of


@pytest.fixture
def settings(llama_encoder, labelled_files):
    """Keys of a run on the labelled files."""
    return {
        "device": "cpu",
        "dataset.train_fasta": str(labelled_files.train_fasta),
        "dataset.val_fasta": str(labelled_files.val_fasta),
        "dataset.mapping_tsv": str(labelled_files.mapping_tsv),
        "model.encoder_path": str(llama_encoder),
    }


def load(settings, **changes):
    told: list[str] = []
    values = settings | {key.replace("__", "."): value for key, value in changes.items()}
    return load_training_data(load_config(None, values), told.append), told


@pytest.fixture
def stored(settings, labelled_files, tmp_path):
    """The training reads as a store that the user prepared."""
    config = load_config(None, settings)
    tokenizer, _ = tokenizer_of(config, print)
    files = [labelled_files.train_fasta]
    request = PrepareRequest(
        files, labels_of(config.dataset, files), label_source(config.dataset), "header", True, tokenizer
    )
    return prepare(request, tmp_path / "store", workers=1, tell=lambda line: None).folder


def reads_of(selection):
    return [ids.tolist() for ids in selection.store.tokens_of(selection.numbers())]


def test_a_store_named_in_the_place_of_files_is_read_as_those_files_are(settings, stored):
    from_files, _ = load(settings)
    from_store, told = load(settings, dataset__train_fasta=str(stored), dataset__mapping_tsv=None)
    assert from_store.labels == from_files.labels
    assert reads_of(from_store.train) == reads_of(from_files.train)
    assert from_store.train.fingerprint() == from_files.train.fingerprint()
    assert "training: 48 reads of 3 classes" in told[0]
    assert not list(stored.glob("*.partial"))


def test_a_store_serves_for_validation_as_well(settings, stored):
    data, _ = load(settings, dataset__val_fasta=str(stored))
    assert len(data.validation) == 48


def test_a_store_of_another_mapping_is_refused(settings, stored, tmp_path):
    mapping = tmp_path / "other.tsv"
    mapping.write_text("class_id\tlabel_name\n0\tA\n1\tB\n2\tC\n")
    with pytest.raises(DataError, match=r"mapping_tsv.*Escherichia coli"):
        load(settings, dataset__train_fasta=str(stored), dataset__mapping_tsv=str(mapping))


def test_a_damaged_shard_is_named_before_anything_starts(settings, stored):
    shard = stored / "shards" / "shard-00000.arrow"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    with pytest.raises(DataError, match=r"damaged: shard-00000: run the same mgc prepare again"):
        load(settings, dataset__train_fasta=str(stored))


def test_one_process_of_a_machine_checks_the_store_for_all(settings, stored, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(training_data.TokenStore, "damaged", lambda *_, **__: pytest.fail("checked again"))
    load(settings | {"dataset.val_fasta": str(stored)}, dataset__train_fasta=str(stored))


def test_a_store_is_read_alone(settings, stored, labelled_files):
    with pytest.raises(ConfigError, match="a run reads one store alone: mgc prepare takes several files into one"):
        load(settings, dataset__train_fasta=[str(stored), str(labelled_files.train_fasta)])


def test_an_unfinished_store_is_refused_with_what_to_do(settings, stored):
    (stored / "store.json").unlink()
    with pytest.raises(DataError, match="unfinished store: run the same mgc prepare again"):
        load(settings, dataset__train_fasta=str(stored))


def test_max_reads_takes_so_many_for_the_whole_run_and_leaves_the_held_out_ones_alone(settings):
    whole, _ = load(settings, dataset__val_fasta=None, dataset__val_fraction=0.3)
    data, told = load(settings, dataset__val_fasta=None, dataset__val_fraction=0.3, dataset__max_reads=20)
    assert len(data.train) == 20 == data.order.reads_per_epoch
    assert set(data.train.numbers()) < set(whole.train.numbers())
    assert data.validation.numbers().tolist() == whole.validation.numbers().tolist()
    assert any(line == "training on 20 reads, 20 in an epoch" for line in told)
    again = np.sort(data.order.epoch(0).at(0, 20)).tolist()
    assert again == np.sort(data.order.epoch(1).at(0, 20)).tolist() == data.train.numbers().tolist()


def test_a_class_that_max_reads_leaves_out_is_told_and_not_refused(settings, tmp_path, labelled_files):
    records = labelled_files.train_fasta.read_text().split(">")[1:]
    rare = [record for record in records if record.startswith("lbl|2|")]
    reads = tmp_path / "reads.fa"
    reads.write_text("".join(f">{record}" for record in [r for r in records if r not in rare] + rare[:1]))
    with pytest.raises(DataError, match="never in the training reads: phiX174"):
        load(settings, dataset__train_fasta=str(_without(reads, rare[0], tmp_path)))
    for seed in range(20):
        data, told = load(settings, dataset__train_fasta=str(reads), dataset__max_reads=8, seed=seed)
        if data.train.reads_per_class[2] == 0:
            assert any("classes without a training read, never to be called: phiX174" in line for line in told)
            return
    pytest.fail("the rare read was always drawn")


def _without(reads: Path, record: str, folder: Path) -> Path:
    fewer = folder / "fewer.fa"
    fewer.write_text(reads.read_text().replace(f">{record}", ""))
    return fewer


def test_validation_reads_are_drawn_where_their_scores_would_fill_the_memory(settings, monkeypatch):
    monkeypatch.setattr(training_data, "VALIDATION_VALUES", 3 * 7)
    data, told = load(settings)
    assert len(data.validation) == 7
    assert any(line.startswith("validation: 7 of the reads are drawn, whose scores for 3 classes") for line in told)
    data, told = load(settings, dataset__max_val_reads=9)
    assert len(data.validation) == 9 and not any("are drawn" in line for line in told)
    data, told = load(settings, dataset__max_val_reads=10_000)
    assert len(data.validation) == 12


def test_sampling_shows_in_what_an_epoch_has(settings):
    data, told = load(settings, dataset__sampling={"per_class": 5})
    assert data.order.reads_per_class.tolist() == [5, 5, 5]
    assert any(line == "training on 48 reads, 15 in an epoch" for line in told)


def test_long_reads_are_refused_where_they_are_not_wanted(settings, labelled_files):
    with pytest.raises(DataError, match=r"training: \d+ reads have more tokens than fit at once \(14\)") as caught:
        load(settings, tokenizer__max_length=16, tokenizer__long_reads="error")
    assert str(labelled_files.train_fasta) in str(caught.value)


@pytest.mark.parametrize("long_reads", ["window", "truncate"])
def test_long_reads_are_told_and_planned_for_as_they_are_taken(settings, long_reads):
    whole, _ = load(settings)
    lengths = [min(len(ids), 14) + 2 for part in (whole.train, whole.validation) for ids in reads_of(part)]
    data, told = load(settings, tokenizer__max_length=16, tokenizer__long_reads=long_reads)
    longer = sum(len(ids) > 14 for ids in reads_of(data.train))
    assert any(line.startswith(f"training: {longer} reads of more than 14 tokens") for line in told)
    planned = lengths_of(data, padded=False)
    assert planned.longest == 16 and planned.mean == pytest.approx(sum(lengths) / len(lengths))
    pieces = [data.framing.segments(np.array(ids)) for ids in reads_of(data.train)]
    assert (max(map(len, pieces)) == 1) == (long_reads == "truncate")


def test_what_a_store_left_out_is_told_again_in_each_run(settings, labelled_files, tmp_path):
    reads = tmp_path / "reads.fa"
    shutil.copy(labelled_files.train_fasta, reads)
    with reads.open("a") as out:
        out.write(">lbl|77|1|4|x\nACGT\n")
    for _ in range(2):
        _, told = load(settings, dataset__train_fasta=str(reads), dataset__strict_classes=False)
        assert any(line.startswith("training: ") and "77" in line for line in told), told


def test_check_data_looks_at_a_store_as_training_would(settings, stored, capsys):
    from metagene_classifier.cli.main import main

    def checked(*changes: str) -> tuple[int, str]:
        options = ["--set", f"model.encoder_path={settings['model.encoder_path']}", "--train-fasta", str(stored)]
        with pytest.raises(SystemExit) as ended:
            main(["check-data", *options, "--val-fasta", settings["dataset.val_fasta"], *changes])
        return int(ended.value.code or 0), capsys.readouterr().out

    code, out = checked()
    assert code == 0 and "a prepared store of 48 reads" in out and "OK: training would start" in out
    assert [int(word) for line in out.splitlines() if "phiX174" in line for word in line.split()[-2:]] == [16, 4]
    code, out = checked("--set", "tokenizer.max_length=16", "--set", "tokenizer.long_reads=error")
    assert code == 1 and "reads have more tokens than fit at once (14)" in out
    shard = stored / "shards" / "shard-00000.arrow"
    shard.write_bytes(shard.read_bytes()[:-8] + b"damaged!")
    code, out = checked()
    assert code == 1 and "damaged: shard-00000" in out
