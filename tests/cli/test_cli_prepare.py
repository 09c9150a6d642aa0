"""``mgc prepare`` as a user types it."""

from __future__ import annotations

import json

import pytest

from metagene_classifier.cli.main import main
from metagene_classifier.store.tokens import TokenStore


@pytest.fixture
def mgc(capfd):
    """Exit code, standard output and standard error of a command."""

    def run(*words) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main([str(word) for word in words])
        out, err = capfd.readouterr()
        return int(ended.value.code or 0), out, err

    return run


def test_several_inputs_and_a_folder_become_one_store(mgc, labelled_files, tmp_path):
    folder = tmp_path / "reads"
    folder.mkdir()
    (folder / "b.fa").write_text(">lbl|0|562|4|x/1\nACGTACGT\n>lbl|2|1|4|y\nACGTAC\n")
    mapping = ("--mapping-tsv", labelled_files.mapping_tsv)
    inputs = ("--input", labelled_files.train_fasta, "--input", folder)
    code, out, _ = mgc("prepare", *inputs, *mapping, "--output", tmp_path / "store")
    assert code == 0
    assert "50 reads of 3 classes" in out
    assert "Escherichia coli" in out
    assert len(TokenStore.open(tmp_path / "store")) == 50
    code, out, err = mgc("prepare", *inputs, *mapping, "--output", tmp_path / "store", "--json")
    assert code == 0
    assert "is whole: 2 shards verified" in err
    facts = json.loads(out)
    assert (facts["reads"], facts["reads_per_class"]["phiX174"]) == (50, 17)
    assert facts["token_lengths"]["reads"] == 50


def test_the_configuration_names_the_reads(mgc, labelled_files, tmp_path):
    config = tmp_path / "my.yaml"
    config.write_text(
        f"dataset:\n  train_fasta: {labelled_files.train_fasta}\n  val_fasta: {labelled_files.val_fasta}\n"
        f"  mapping_tsv: {labelled_files.mapping_tsv}\n"
    )
    for split, reads in (("train", 48), ("val", 12)):
        code, out, _ = mgc("prepare", "--config", config, "--split", split, "--output", tmp_path / split)
        assert (code, f"{reads} reads" in out) == (0, True)
    config.write_text(f"dataset:\n  mapping_tsv: {labelled_files.mapping_tsv}\n")
    code, _, err = mgc("prepare", "--config", config, "--split", "val", "--output", tmp_path / "none")
    assert (code, "dataset.val_fasta" in err) == (2, True)


def test_another_store_in_the_folder_needs_overwrite(mgc, labelled_files, tmp_path):
    words = ("--mapping-tsv", labelled_files.mapping_tsv, "--output", tmp_path / "store")
    assert mgc("prepare", "--input", labelled_files.train_fasta, *words)[0] == 0
    code, _, err = mgc("prepare", "--input", labelled_files.val_fasta, *words)
    assert code == 1
    assert len(err.splitlines()) == 1
    assert "has another content" in err
    assert "--overwrite" in err
    assert mgc("prepare", "--input", labelled_files.val_fasta, *words, "--overwrite")[0] == 0
    assert len(TokenStore.open(tmp_path / "store")) == 12
