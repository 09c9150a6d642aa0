import csv
import gzip
import io
import lzma
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from metagene_classifier.prediction import scorer as scorer_module
from metagene_classifier.reads.files import read_records

from .conftest import GC_SHARES, random_read

HEADER = ["read_id", "call", "taxid", "rank", "confidence", "length_bp", "reason"]


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def fastq(path: Path, reads: list[tuple[str, str]]) -> Path:
    path.write_text("".join(f"@{name}\n{bases}\n+\n{'I' * len(bases)}\n" for name, bases in reads))
    return path


@pytest.fixture(scope="session")
def unlabelled(tmp_path_factory) -> Path:
    """60 reads of 30 to 110 bp as a sequencer names them."""
    rng = random.Random(5)
    shares = list(GC_SHARES.values())
    reads = [
        (f"M00:{number} 1:N:0:ACGT", random_read(rng, shares[number % 3], rng.randint(30, 110))) for number in range(60)
    ]
    return fastq(tmp_path_factory.mktemp("unlabelled") / "reads.fq", reads)


def test_one_row_a_read_in_input_order(trained, unlabelled, mgc, tmp_path):
    output = tmp_path / "calls" / "predictions.csv"
    done = mgc("predict", "--input", unlabelled, "--ckpt", trained, "--output", output, "--batch-size", 16)
    assert done.code == 0, done.err
    table = rows(output.read_text())
    assert list(table[0]) == HEADER
    assert [row["read_id"] for row in table] == [f"M00:{number}" for number in range(60)]
    assert [int(row["length_bp"]) for row in table] == [len(read.sequence) for read in read_records(unlabelled)]
    names = list(GC_SHARES)
    assert all(int(row["taxid"]) == 100 + names.index(row["call"]) for row in table)
    assert sum(row["call"] == names[number % 3] for number, row in enumerate(table)) > 40
    assert all(1 / 3 <= float(row["confidence"]) <= 1 and not row["reason"] for row in table)
    assert not list(output.parent.glob("*.partial"))


def test_probabilities_have_a_column_a_class_and_add_up(trained, unlabelled, mgc, tmp_path):
    done = mgc("predict", "--input", unlabelled, "--ckpt", trained, "--output", "-", "--probabilities")
    for row in rows(done.out):
        shares = [float(row[f"prob_{name}"]) for name in GC_SHARES]
        assert sum(shares) == pytest.approx(1, abs=1e-5)
        assert max(shares) == pytest.approx(float(row["confidence"]))


@pytest.mark.parametrize("options", [("--batch-size", 1), ("--max-tokens", 7), ("--max-tokens", 10**6)])
def test_calls_do_not_depend_on_the_batch(options, trained, unlabelled, mgc):
    usual = rows(mgc("predict", "--input", unlabelled, "--ckpt", trained, "--output", "-").out)
    other = rows(mgc("predict", "--input", unlabelled, "--ckpt", trained, "--output", "-", *options).out)
    for left, right in zip(usual, other, strict=True):
        assert left["call"] == right["call"]
        assert float(left["confidence"]) == pytest.approx(float(right["confidence"]), abs=2e-6)


def test_blocks_leave_no_trace(trained, unlabelled, mgc, monkeypatch):
    usual = rows(mgc("predict", "--input", unlabelled, "--ckpt", trained, "--output", "-").out)
    monkeypatch.setattr(scorer_module, "READS_PER_BLOCK", 7)
    small = rows(mgc("predict", "--input", unlabelled, "--ckpt", trained, "--output", "-").out)
    assert [row["call"] for row in usual] == [row["call"] for row in small]
    for left, right in zip(usual, small, strict=True):
        assert float(left["confidence"]) == pytest.approx(float(right["confidence"]), abs=2e-6)


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress])
def test_compressed_input_under_any_name(pack, trained, unlabelled, mgc, tmp_path):
    packed = tmp_path / "reads.txt"
    packed.write_bytes(pack(unlabelled.read_bytes()))
    plain = mgc("predict", "--input", unlabelled, "--ckpt", trained, "--output", "-").out
    assert mgc("predict", "--input", packed, "--ckpt", trained, "--output", "-").out == plain


def test_standard_input_in_a_pipe(trained, unlabelled):
    command = [sys.executable, "-m", "metagene_classifier", "predict", "--input", "-", "--ckpt", str(trained)]
    done = subprocess.run(
        [*command, "--output", "-"], input=gzip.compress(unlabelled.read_bytes()), capture_output=True
    )
    assert done.returncode == 0, done.stderr
    assert len(rows(done.stdout.decode())) == 60


def test_lower_case_and_rna_are_the_same_reads(trained, mgc, tmp_path):
    rng = random.Random(3)
    bases = [random_read(rng, 0.5, 80) for _ in range(5)]
    dna = fastq(tmp_path / "dna.fq", [(str(n), b) for n, b in enumerate(bases)])
    rna = fastq(tmp_path / "rna.fq", [(str(n), b.lower().replace("t", "u")) for n, b in enumerate(bases)])
    one = mgc("predict", "--input", dna, "--ckpt", trained, "--output", "-")
    other = mgc("predict", "--input", rna, "--ckpt", trained, "--output", "-")
    assert one.out == other.out
    assert "U to T in 5" in other.err


def test_long_reads_are_windowed_truncated_or_refused(trained, mgc, tmp_path):
    rng = random.Random(4)
    low, high = random_read(rng, 0.25, 3000), random_read(rng, 0.75, 1500)
    reads = fastq(tmp_path / "long.fq", [("chimera", high + low), ("short", high[:100])])
    windows = mgc("predict", "--input", reads, "--ckpt", trained, "--output", "-")
    assert "1 reads longer than the model's context, scored by windows" in windows.err
    assert [row["call"] for row in rows(windows.out)] == ["Lowia gcensis", "Highia gcensis"]
    cut = mgc("predict", "--input", reads, "--ckpt", trained, "--output", "-", "--long-reads", "truncate")
    assert rows(cut.out)[0]["call"] == "Highia gcensis"
    assert "1 reads cut" in cut.err
    refused = mgc("predict", "--input", reads, "--ckpt", trained, "--output", "-", "--long-reads", "error")
    assert refused.code == 1 and "read chimera has" in refused.err


def test_a_read_without_bases_keeps_its_row(trained, mgc, tmp_path):
    reads = tmp_path / "reads.fa"
    reads.write_text(">full\nACGTACGTACGTACGTACGT\n>empty\n>gaps\n---\n>last\nACGTACGTACGTACGGACGT\n")
    table = rows(mgc("predict", "--input", reads, "--ckpt", trained, "--output", "-").out)
    assert [row["read_id"] for row in table] == ["full", "empty", "gaps", "last"]
    assert [row["call"] == "unclassified" for row in table] == [False, True, True, False]
    assert table[1]["reason"] == "no bases" and table[1]["taxid"] == ""


def test_a_truncated_file_gives_all_whole_records_and_fails(trained, unlabelled, mgc, tmp_path):
    broken = tmp_path / "reads.fq.gz"
    whole = gzip.compress(unlabelled.read_bytes(), compresslevel=1)
    broken.write_bytes(whole[: len(whole) * 2 // 3])
    output = tmp_path / "predictions.csv"
    failed = mgc("predict", "--input", broken, "--ckpt", trained, "--output", output)
    assert failed.code == 1 and "Traceback" not in failed.err
    assert len(failed.err.strip().splitlines()) == 1
    assert not output.exists()
    kept = rows((tmp_path / "predictions.csv.partial").read_text())
    assert 10 < len(kept) < 60
    assert f"the calls of the first {len(kept)} reads are in" in failed.err
    usual = rows(mgc("predict", "--input", unlabelled, "--ckpt", trained, "--output", "-").out)
    assert [row["read_id"] for row in kept] == [row["read_id"] for row in usual[: len(kept)]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"@r1\nACGT\n+\nIII\n", "record 1"),
        (bytes(range(256)) * 8, "FASTA"),
    ],
)
def test_unusable_input_is_one_clear_line(content, message, trained, mgc, tmp_path):
    reads = tmp_path / "reads.fq"
    reads.write_bytes(content)
    failed = mgc("predict", "--input", reads, "--ckpt", trained, "--output", tmp_path / "p.csv")
    assert failed.code == 1
    assert message in failed.err and len(failed.err.strip().splitlines()) == 1
    assert not list(tmp_path.glob("p.csv*"))


def test_an_output_is_replaced_only_by_a_whole_one(trained, unlabelled, mgc, tmp_path):
    output = tmp_path / "predictions.csv"
    output.write_text("mine")
    failed = mgc("predict", "--input", tmp_path / "missing.fq", "--ckpt", trained, "--output", output)
    assert failed.code == 1 and output.read_text() == "mine"
    assert mgc("predict", "--input", unlabelled, "--ckpt", trained, "--output", output).code == 0
    assert len(rows(output.read_text())) == 60
    folder = mgc("predict", "--input", unlabelled, "--ckpt", trained, "--output", tmp_path)
    assert folder.code == 1 and "is a folder" in folder.err


def test_what_is_no_trained_model_is_told_apart(world, unlabelled, mgc, tmp_path):
    def refused(ckpt: object) -> str:
        outcome = mgc("predict", "--input", unlabelled, "--ckpt", ckpt, "--output", tmp_path / "p.csv")
        assert outcome.code == 1 and len(outcome.err.strip().splitlines()) == 1
        return outcome.err

    assert "encoder without a head" in refused(world.encoder) and "mgc embed" in refused(world.encoder)
    assert "mgc embed --ckpt metagene-ai/METAGENE-1" in refused("metagene-ai/METAGENE-1")
    assert "no such folder" in refused(tmp_path / "missing" / "model")
    assert "holds no trained model" in refused(tmp_path)


def test_samples_of_a_csv_get_one_call_each(trained, mgc, tmp_path):
    rng = random.Random(8)
    table = tmp_path / "samples.csv"
    lines = ["site,reads"]
    for site, gc in (("lake", 0.25), ("sewer", 0.75)):
        lines += [f"{site},{random_read(rng, gc, 90)}" for _ in range(9)]
    table.write_text("\n".join([*lines, "dry,"]) + "\n")
    columns = ["--sample_column", "site", "--sequence_column", "reads", "--probabilities"]
    for aggregation in ("mean", "max", "sum"):
        done = mgc(
            *("predict", "--input", table, "--ckpt", trained, "--output", "-", "--per_sample"),
            *("--aggregation", aggregation, *columns),
        )
        assert done.code == 0, done.err
        found = {row["sample"]: row for row in rows(done.out)}
        assert list(found) == ["lake", "sewer", "dry"]
        assert found["lake"]["call"] == "Lowia gcensis" and found["sewer"]["call"] == "Highia gcensis"
        assert found["lake"]["reads"] == "9" and found["dry"]["call"] == "unclassified"
        assert sum(float(found["lake"][f"prob_{name}"]) for name in GC_SHARES) == pytest.approx(1, abs=1e-5)
    missing = mgc("predict", "--input", table, "--ckpt", trained, "--output", "-", "--per-sample")
    assert missing.code == 1 and "no column 'sample' (--sample-column): it has site, reads" in missing.err


def test_embeddings_are_the_same_in_every_format(trained, unlabelled, mgc, tmp_path):
    for ending in ("npy", "parquet", "csv"):
        done = mgc("embed", "--ckpt", trained, "--input", unlabelled, "--output", tmp_path / f"e.{ending}")
        assert done.code == 0, done.err
    array = np.load(tmp_path / "e.npy")
    assert array.shape == (60, 32) and array.dtype == np.float32
    ids = (tmp_path / "e.ids.txt").read_text().splitlines()
    parquet = pq.read_table(tmp_path / "e.parquet").to_pydict()
    text = rows((tmp_path / "e.csv").read_text())
    assert ids == parquet["read_id"] == [row["read_id"] for row in text] == [f"M00:{number}" for number in range(60)]
    np.testing.assert_array_equal(np.asarray(parquet["embedding"], np.float32), array)
    np.testing.assert_allclose([[float(row[f"e{n}"]) for n in range(32)] for row in text], array, rtol=1e-6)
    refused = mgc("embed", "--ckpt", trained, "--input", unlabelled, "--output", tmp_path / "e.txt")
    assert refused.code == 2 and ".parquet" in refused.err


def test_a_bare_encoder_embeds_too(world, unlabelled, mgc, tmp_path):
    import torch
    from transformers import AutoModel, AutoTokenizer

    done = mgc("embed", "--ckpt", world.encoder, "--input", unlabelled, "--output", tmp_path / "e.npy")
    assert done.code == 0, done.err
    first = next(read_records(unlabelled)).sequence
    ids = AutoTokenizer.from_pretrained(world.encoder)(first, return_tensors="pt").input_ids
    with torch.no_grad():
        expected = AutoModel.from_pretrained(world.encoder)(ids).last_hidden_state[0].mean(0)
    np.testing.assert_allclose(np.load(tmp_path / "e.npy")[0], expected, atol=1e-5)


def digest(path: Path) -> bytes:
    return path.read_bytes()


def test_no_command_writes_over_its_own_input(trained, world, unlabelled, mgc, tmp_path):
    """The input under the output's name, its partial name, or a link to it, is refused before any work."""
    reads = tmp_path / "reads.csv"
    reads.write_bytes(unlabelled.read_bytes())
    link = tmp_path / "link.csv"
    link.symlink_to(reads)
    partial = tmp_path / "calls.csv.partial"
    partial.write_bytes(unlabelled.read_bytes())
    labelled = tmp_path / "evaluation" / "predictions.csv"
    labelled.parent.mkdir()
    labelled.write_bytes(world.test.read_bytes())
    ids = tmp_path / "e.ids.txt"
    ids.write_bytes(unlabelled.read_bytes())
    commands = [
        ("predict", "--input", reads, "--output", reads),
        ("predict", "--input", reads, "--output", link),
        ("predict", "--input", partial, "--output", tmp_path / "calls.csv"),
        ("predict", "--input", reads, "--output", reads, "--per-sample"),
        ("embed", "--input", reads, "--output", reads),
        ("embed", "--input", ids, "--output", tmp_path / "e.npy"),
        ("evaluate", "--input", labelled, "--output-dir", labelled.parent),
    ]
    for command in commands:
        refused = mgc(*command, "--ckpt", trained)
        assert refused.code == 1, command
        assert "would overwrite the input" in refused.err, command
    for path in (reads, partial, ids):
        assert digest(path) == digest(unlabelled)
    assert digest(labelled) == digest(world.test)


def test_check_data_does_not_write_its_figures_over_the_reads(world, mgc, tmp_path):
    reads = tmp_path / "train.fa"
    reads.write_bytes(world.train.read_bytes())
    options = ["--train-fasta", reads, "--mapping-tsv", world.mapping, "--set", f"model.encoder_path={world.encoder}"]
    refused = mgc("check-data", *options, "--json", reads)
    assert refused.code == 1 and "would overwrite the input" in refused.err
    assert digest(reads) == digest(world.train)


@pytest.mark.parametrize("ending", ["npy", "parquet", "csv", "NPY"])
def test_embedding_a_broken_file_is_one_line_and_leaves_nothing(ending, trained, unlabelled, tmp_path):
    """In a process of its own: what the library says while it is torn down would only show there."""
    broken = tmp_path / "reads.fq.gz"
    whole = gzip.compress(unlabelled.read_bytes(), compresslevel=1)
    broken.write_bytes(whole[: len(whole) * 2 // 3])
    command = [sys.executable, "-m", "metagene_classifier", "embed", "--ckpt", trained, "--input", broken]
    command += ["--device", "cpu", "--output", tmp_path / f"e.{ending}"]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"reads.fq.gz"}


def test_a_read_of_unknown_bases_alone_is_not_called(trained, mgc, tmp_path):
    reads = tmp_path / "reads.fa"
    reads.write_text(">unknown\nNNNNNNNNNN\n>some\nNNNNNACGTACGTACGTNNNN\n")
    table = rows(mgc("predict", "--input", reads, "--ckpt", trained, "--output", "-").out)
    assert table[0]["call"] == "unclassified" and table[0]["reason"] == "no bases"
    assert table[0]["length_bp"] == "10" and float(table[0]["confidence"]) == 0
    assert table[1]["call"] != "unclassified"


def test_a_mistyped_folder_is_not_taken_for_an_encoder(trained, unlabelled, mgc, tmp_path):
    refused = mgc("predict", "--input", unlabelled, "--ckpt", "nowhere/model", "--output", tmp_path / "p.csv")
    assert refused.code == 1
    assert "nowhere/model: no such folder here" in refused.err
