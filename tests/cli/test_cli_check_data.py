"""``mgc check-data``: what it shows, and that its exit code is whether training would start."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from metagene_classifier.cli.main import main

ROOT = Path(__file__).parents[2]


def dna(length: int, seed: int = 1) -> str:
    return "".join(random.Random(seed).choices("ACGT", k=length))


def write_reads(path: Path, classes: dict[int, int], length: int = 60) -> Path:
    lines = [
        f">lbl|{of}|{of + 100}|{length}|read {number}\n{dna(length, of * 1000 + number)}"
        for of, reads in classes.items()
        for number in range(reads)
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def mapping(tmp_path: Path) -> Path:
    path = tmp_path / "mapping.tsv"
    path.write_text("class_id\tlabel_name\ttax_id\n1\tEscherichia coli\t562\n2\tBacillus subtilis\t1423\n3\tPhage\t\n")
    return path


@pytest.fixture
def train(tmp_path: Path) -> Path:
    return write_reads(tmp_path / "train.fa", {1: 30, 2: 20, 3: 10})


class Run:
    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, *words: str | Path) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(["check-data", *map(str, words)])
        output, messages = self.capsys.readouterr()
        return int(ended.value.code or 0), output, messages


@pytest.fixture
def check(capsys: pytest.CaptureFixture[str]) -> Run:
    return Run(capsys)


def section(output: str, title: str) -> list[str]:
    """The numbered lines under a title."""
    if f"== {title}\n" not in output:
        return []
    lines = output.split(f"== {title}\n")[1].split("\n\n")[0].splitlines()
    return [line.partition(". ")[2] for line in lines]


def test_good_data_is_shown_and_ok(check: Run, train: Path, mapping: Path, tmp_path: Path) -> None:
    val = write_reads(tmp_path / "val.fa", {1: 5, 2: 5, 3: 5})
    code, output, _ = check("--train-fasta", train, "--val-fasta", val, "--mapping-tsv", mapping)
    assert code == 0
    assert output.endswith("OK: training would start.\n")
    assert "tokenizer  metagene-ai/METAGENE-1 (huggingface, 1,024 ids" in output
    assert f"{train}: FASTA\n  reads 60: with a class 60" in output
    assert [line.split() for line in output.split("== classes\n")[1].splitlines()[:4]] == [
        ["label", "taxid", "training", "validation"],
        ["Escherichia", "coli", "562", "30", "5"],
        ["Bacillus", "subtilis", "1423", "20", "5"],
        ["Phage", "-", "10", "5"],
    ]
    assert section(output, "to mend") == []


def test_all_that_is_wrong_is_listed_at_once(check: Run, mapping: Path, tmp_path: Path) -> None:
    train = write_reads(tmp_path / "train.fa", {1: 5, 2: 5, 9: 2})
    val = write_reads(tmp_path / "val.fa", {3: 2})
    with open(val, "a") as handle:
        handle.write(f">no class\nACGT\n>lbl|2|102|4000|long\n{dna(4000)}\n")
    code, output, _ = check(
        *("--train-fasta", train, "--val-fasta", val, "--mapping-tsv", mapping),
        *("--set", "model.num_classes=7", "--set", "tokenizer.long_reads=error"),
        *("--set", "loss.class_weights={Echerichia coli: 2}"),
    )
    assert code == 1
    mend = section(output, "to mend")
    assert output.endswith("NOT OK: training would not start: mend the 6 points above.\n")
    expected = [
        "model.num_classes is 7 and the mapping has 3 classes",
        "loss.class_weights: no class is called 'Echerichia coli' (did you mean 'Escherichia coli'?)",
        f"{train}: 2 reads of 1 classes that are not in the mapping: 9 (2), first: 'lbl|9|109|60|read 0'",
        f"{val}: 1 reads: header does not match the pattern, first: 'no class' ({val}, record 3)",
        f"{val}: reads of more than 512 tokens (1) are refused",
        "classes that stand in the validation reads and never in the training reads: Phage",
    ]
    assert len(mend) == len(expected)
    assert all(line.startswith(start) for line, start in zip(mend, expected, strict=True)), mend


def test_what_is_not_there_does_not_hide_the_rest(check: Run, tmp_path: Path, train: Path) -> None:
    broken = tmp_path / "broken.fa"
    broken.write_text("not a sequence file\n")
    code, output, _ = check(
        *("--train-fasta", train, "--val-fasta", broken, "--mapping-tsv", tmp_path / "gone.tsv"),
        *("--set", "model.encoder_path=builtin:llama-tin"),
    )
    assert code == 1
    mend = "\n".join(section(output, "to mend"))
    for said in ("did you mean 'builtin:llama-tiny'", "gone.tsv", f"{broken}: neither FASTA nor FASTQ"):
        assert said in mend
    assert f"{train}: FASTA\n  reads 60: with a class 60" in output


def test_faulty_test_reads_are_told_and_do_not_stop_training(
    check: Run, train: Path, mapping: Path, tmp_path: Path
) -> None:
    test = write_reads(tmp_path / "test.fa", {9: 2})
    code, output, _ = check("--train-fasta", train, "--test-fasta", test, "--mapping-tsv", mapping)
    assert code == 0
    assert f"{test}: 2 reads of 1 classes that are not in the mapping: 9 (2)" in "\n".join(section(output, "to know"))


def test_one_file_for_each_class_and_no_file(check: Run, tmp_path: Path) -> None:
    code, output, _ = check("--train-fasta", tmp_path / "gone", "--labels-from", "filename")
    assert code == 1
    assert section(output, "to mend") == [f"no such file or folder: {tmp_path / 'gone'}"]


def test_nothing_given_is_told_without_a_traceback(check: Run) -> None:
    code, output, _ = check()
    assert code == 1
    assert section(output, "to mend") == [
        "no training reads: give --train-fasta, or set dataset.train_fasta",
        "no table of classes: give --mapping-tsv (class_id, label_name, tax_id), or set dataset.mapping_tsv",
    ]


@pytest.mark.parametrize(("strict", "code"), [("true", 1), ("false", 0)])
def test_unknown_classes_stop_training_only_when_strict(
    check: Run, mapping: Path, tmp_path: Path, strict: str, code: int
) -> None:
    train = write_reads(tmp_path / "train.fa", {1: 5, 2: 5, 9: 2})
    found, output, _ = check(
        "--train-fasta", train, "--mapping-tsv", mapping, "--set", f"dataset.strict_classes={strict}"
    )
    assert found == code
    assert any("not in the mapping: 9 (2)" in line for line in section(output, "to mend" if code else "to know"))


def test_no_class_at_all_and_one_class_alone_stop_training(check: Run, mapping: Path, tmp_path: Path) -> None:
    lenient = ("--mapping-tsv", mapping, "--set", "dataset.strict_classes=false")
    nothing = write_reads(tmp_path / "a.fa", {8: 3, 9: 2})
    assert "training: not one of 5 reads has a class" in section(
        check("--train-fasta", nothing, *lenient)[1], "to mend"
    )
    one = write_reads(tmp_path / "b.fa", {1: 3})
    assert "all of one class, Escherichia coli" in check("--train-fasta", one, *lenient)[1]


def test_what_is_good_to_know_does_not_stop_training(check: Run, mapping: Path, tmp_path: Path) -> None:
    train = write_reads(tmp_path / "train.fa", {1: 40, 2: 2})
    long = write_reads(tmp_path / "long.fa", {1: 3}, length=4000)
    code, output, _ = check(
        *("--train-fasta", train, "--mapping-tsv", mapping, "--test-fasta", long),
        *("--set", "tokenizer.name_or_path=builtin:minbpe", "--set", "tokenizer.use_hf_tokenizer=false"),
    )
    assert code == 0
    know = "\n".join(section(output, "to know"))
    for said in (
        "its own tokenizer is used",
        "reads of more than 512 tokens (3) become overlapping windows",
        "without a training read, never to be called: Phage",
        "20 times the training reads of the smallest",
        "no validation reads were given: 10% of the training reads are held out",
    ):
        assert said in know


def test_a_tokenizer_that_does_not_fit_stops_training(check: Run, train: Path, mapping: Path) -> None:
    code, output, _ = check(
        *("--train-fasta", train, "--mapping-tsv", mapping),
        *("--set", "model.encoder_path=builtin:llama-tiny", "--set", "model.init=random"),
        *("--set", "tokenizer.name_or_path=minbpe", "--set", "tokenizer.use_hf_tokenizer=false"),
    )
    assert code == 1
    assert "ids up to 1024, and the encoder's vocabulary ends at 1023" in "\n".join(section(output, "to mend"))


def test_only_the_first_reads_when_asked(check: Run, mapping: Path, tmp_path: Path) -> None:
    train = write_reads(tmp_path / "train.fa", {1: 9, 2: 5, 3: 5})
    val = write_reads(tmp_path / "val.fa", {3: 5})
    words = ("--train-fasta", train, "--val-fasta", val, "--mapping-tsv", mapping)
    code, output, _ = check(*words, "--max-reads", "8")
    assert code == 0
    assert "all of one class, Escherichia coli" in "\n".join(section(output, "to know"))
    assert f"{train}: FASTA, not read to its end" in output
    assert "never in the training reads: Phage" in "\n".join(section(output, "to know"))
    assert output.endswith("OK: training would start, as far as the first 8 reads of each file show.\n")


def test_labels_from_a_table_and_from_file_names(check: Run, tmp_path: Path, mapping: Path) -> None:
    folder = tmp_path / "reads"
    folder.mkdir()
    (folder / "ecoli.fa").write_text(f">r1\n{dna(50)}\n>r2\n{dna(60)}\n")
    (folder / "phage.fa").write_text(f">r3\n{dna(70)}\n")
    code, output, _ = check("--train-fasta", folder, "--labels-from", "filename")
    assert code == 0
    assert "classes    2, one for each file" in output
    table = tmp_path / "labels.tsv"
    table.write_text("r1\t1\nr3\tPhage\n")
    code, output, _ = check(
        *("--train-fasta", folder, "--mapping-tsv", mapping, "--labels-from", "tsv", "--labels-tsv", table),
    )
    assert code == 1
    assert "1 reads: not in the table of labels, first: 'r2'" in "\n".join(section(output, "to mend"))


def test_the_same_figures_as_json(check: Run, train: Path, mapping: Path, tmp_path: Path) -> None:
    path = tmp_path / "new" / "figures.json"
    check("--train-fasta", train, "--mapping-tsv", mapping, "--json", path)
    facts = json.loads(path.read_text())
    assert facts["would_start"] is True
    assert facts["problems"] == []
    assert [of["reads"] for of in facts["classes"]] == [{"training": 30}, {"training": 20}, {"training": 10}]
    file = facts["files"]["training"][0]
    assert (file["reads"], file["with_class"], file["length_bp"]["percentiles"]["50"]) == (60, 60, 60)
    assert file["tokens"]["reads"] == 60
    assert facts["tokenizer"]["vocab_size"] == 1024


def test_a_wrong_key_is_an_error_of_the_configuration(check: Run, train: Path) -> None:
    code, output, messages = check("--train-fasta", train, "--set", "training.learning=1")
    assert (code, output) == (2, "")
    assert "unknown key 'training.learning'" in messages


def test_the_earlier_script_runs_without_torch(train: Path, mapping: Path) -> None:
    code = (
        "import runpy, sys\n"
        "sys.argv[0] = 'test_dataloader_only.py'\n"
        "try:\n"
        f"    runpy.run_path({str(ROOT / 'test_dataloader_only.py')!r}, run_name='__main__')\n"
        "finally:\n"
        "    assert not {'torch', 'transformers'} & set(sys.modules)\n"
    )
    words = ["--train_fasta", str(train), "--mapping_tsv", str(mapping)]
    ran = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.endswith("OK: training would start.\n")


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ((), "no weights in safetensors, none at all"),
        (("pytorch_model.bin",), "only pickled ones (pytorch_model.bin)"),
    ],
)
def test_an_encoder_s_folder_without_weights_would_not_start(
    check, mapping, train, llama_encoder, tmp_path, weights, message
):
    folder = tmp_path / "encoder"
    shutil.copytree(llama_encoder, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    for name in weights:
        (folder / name).write_bytes(b"pickle")
    chosen = ("--set", f"model.encoder_path={folder}", "--set", f"tokenizer.name_or_path={folder}")
    code, output, _ = check(*chosen, "--train-fasta", train, "--mapping-tsv", mapping)
    assert code == 1
    assert message in output


def test_a_device_map_would_not_start(check, mapping, train):
    code, output, _ = check("--set", "model.device_map=auto", "--train-fasta", train, "--mapping-tsv", mapping)
    assert code == 1
    assert "model.device_map: auto is for prediction" in output


def test_classes_that_the_taxonomy_lacks_are_told_and_a_broken_one_stops_training(
    check: Run, train: Path, tmp_path: Path
) -> None:
    mapping = tmp_path / "strange.tsv"
    mapping.write_text("class_id\tlabel_name\ttax_id\n1\tEscherichia coli\t562\n2\tNobody\t99999999\n3\tPhage\t\n")
    told = ("--train-fasta", train, "--mapping-tsv", mapping, "--set", "model.encoder_path=builtin:llama-tiny")
    code, output, _ = check(*told, "--set", "model.init=random", "--taxonomy", ROOT / "data" / "taxonomy")
    assert code == 0
    assert "1 of 3 classes have taxids that it lacks; they get no ranks: Nobody (99999999)" in output
    (tmp_path / "nodes.dmp").write_text("1\t|\t1\t|\tno rank\t|\n7\t|\t8\t|\tgenus\t|\n")
    code, output, _ = check(*told, "--set", "model.init=random", "--taxonomy", tmp_path)
    assert code == 1
    assert "taxid 7 has the parent 8, which is not there" in output
