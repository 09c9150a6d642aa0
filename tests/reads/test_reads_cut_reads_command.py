"""mgc cut-reads, as a user runs it."""

import random
import re
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from metagene_classifier.cli.main import main
from metagene_classifier.config import DEFAULT_HEADER_REGEX
from metagene_classifier.reads.files import read_records
from metagene_classifier.reads.headers import HeaderPattern
from metagene_classifier.reads.labelled import LabellingReport, LabelSource, labelled_reads
from metagene_classifier.reads.labels import read_mapping

DATA = Path(__file__).parents[2] / "data"
PATTERN = HeaderPattern(DEFAULT_HEADER_REGEX)


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(["cut-reads", *map(str, arguments)])
    return stopped.value.code


def write_genome(path: Path, bases: int, seed: int) -> Path:
    path.write_text(f">c{seed} x\n{''.join(random.Random(seed).choices('ACGT', k=bases))}\n")
    return path


@pytest.fixture
def genomes(tmp_path):
    folder = tmp_path / "genomes"
    folder.mkdir()
    write_genome(folder / "Aus_bus.1.fna", 30_000, 1)
    write_genome(folder / "Aus_bus.2.fna", 10_000, 2)
    write_genome(folder / "Cus_dus.fna", 8_000, 3)
    return folder


def origins(path: Path) -> list[tuple[str, str, int, int]]:
    """Class id, genome and record, first and last base of every read."""
    found = []
    for read in read_records(path):
        parsed = PATTERN.parse(read.header)
        assert int(parsed.readlen) == len(read.sequence)
        record, place, strand = parsed.name.rsplit(":", 2)
        assert strand in "+-"
        first, last = map(int, place.split("-"))
        found.append((parsed.class_id, record, first, last))
    return found


def test_no_base_of_a_test_or_validation_read_lies_in_a_training_block(genomes, tmp_path):
    assert run("--genomes", genomes, "--output-prefix", tmp_path / "out", "--reads-per-class", 2000) == 0
    block = {"Aus_bus.1:c1": 1500, "Aus_bus.2:c2": 500, "Cus_dus:c3": 400}
    blocks = {
        split: {
            (record, (base - 1) // block[record])
            for _, record, *ends in origins(tmp_path / f"out.{split}.fa")
            for base in ends
        }
        for split in ("train", "val", "test")
    }
    assert all(len(found) >= 6 for found in blocks.values())
    assert blocks["train"].isdisjoint(blocks["val"] | blocks["test"])
    assert blocks["val"].isdisjoint(blocks["test"])


def test_reads_are_divided_by_class_split_and_length_of_genome(genomes, tmp_path, capsys):
    run("--genomes", genomes, "--output-prefix", tmp_path / "out", "--reads-per-class", 1000, "--split", "0.7/0.2/0.1")
    counts = {s: Counter((c, r) for c, r, *_ in origins(tmp_path / f"out.{s}.fa")) for s in ("train", "val", "test")}
    assert counts == {
        "train": {("0", "Aus_bus.1:c1"): 525, ("0", "Aus_bus.2:c2"): 175, ("1", "Cus_dus:c3"): 700},
        "val": {("0", "Aus_bus.1:c1"): 150, ("0", "Aus_bus.2:c2"): 50, ("1", "Cus_dus:c3"): 200},
        "test": {("0", "Aus_bus.1:c1"): 75, ("0", "Aus_bus.2:c2"): 25, ("1", "Cus_dus:c3"): 100},
    }
    printed = capsys.readouterr()
    assert f"{tmp_path}/out.train.fa\t1,400 reads" in printed.out
    assert f"{tmp_path}/out.mapping.tsv\t2 classes" in printed.out
    assert "classes without a taxid" in printed.err


def test_the_same_seed_gives_the_same_bytes_and_one_more_genome_changes_no_other(genomes, tmp_path):
    def cut(name: str, *more: object) -> bytes:
        run(
            "--genomes",
            genomes,
            "--output-prefix",
            tmp_path / name,
            "--reads-per-class",
            50,
            "--error-rate",
            0.01,
            *more,
        )
        return b"".join((tmp_path / f"{name}.{split}.fa").read_bytes() for split in ("train", "val", "test"))

    first = cut("a")
    assert cut("b") == first
    assert cut("c", "--seed", 1) != first
    write_genome(genomes / "Zus_zus.fna", 8_000, 4)
    assert set(first.splitlines()) < set(cut("d").splitlines())


def test_headers_count_the_errors_that_were_made(genomes, tmp_path):
    def cut(name: str, *more: object) -> list[str]:
        run("--genomes", genomes, "--output-prefix", tmp_path / name, "--reads-per-class", 40, *more)
        return [read.header for read in read_records(tmp_path / f"{name}.train.fa")]

    clean, dirty = cut("clean"), cut("dirty", "--error-rate", 0.05)
    assert [header.rsplit(":", 1)[0] for header in dirty] == clean
    errors = [int(header.rsplit(":", 1)[1]) for header in dirty]
    assert 4 < sum(errors) / len(errors) < 11  # of 150 bases


def test_a_mapping_that_does_not_exist_is_written_and_then_gives_the_same_reads(genomes, tmp_path, capsys):
    table = tmp_path / "classes.tsv"
    arguments = ("--genomes", genomes, "--mapping_tsv", table, "--reads_per_class", 30)
    assert run(*arguments, "--output_prefix", tmp_path / "a") == 0
    assert "does not exist yet" in capsys.readouterr().err
    assert read_mapping(table).names == ["Aus bus", "Cus dus"]
    assert not (tmp_path / "a.mapping.tsv").exists()
    assert run(*arguments, "--output_prefix", tmp_path / "b") == 0
    assert (tmp_path / "a.train.fa").read_bytes() == (tmp_path / "b.train.fa").read_bytes()
    assert (tmp_path / "b.mapping.tsv").read_text() == table.read_text()


def test_several_genomes_after_one_option_as_a_shell_gives_them(genomes, tmp_path):
    files = sorted(genomes.iterdir())
    assert run("--genomes", *files, "--output-prefix", tmp_path / "a", "--reads-per-class", 20) == 0
    assert (
        run("--genomes", files[0], "--genomes", genomes, "--output-prefix", tmp_path / "b", "--reads-per-class", 20)
        == 0
    )
    assert (tmp_path / "a.train.fa").read_bytes() == (tmp_path / "b.train.fa").read_bytes()


def test_a_split_of_nothing_writes_no_file_and_an_old_one_is_not_taken_for_it(genomes, tmp_path, capsys):
    arguments = ("--genomes", genomes, "--output-prefix", tmp_path / "out", "--reads-per-class", 20)
    assert run(*arguments, "--split", "0.9/0.1/0") == 0
    assert sorted(p.name for p in tmp_path.glob("out*")) == ["out.mapping.tsv", "out.train.fa", "out.val.fa"]
    assert run(*arguments) == 0
    assert run(*arguments, "--split", "0.9/0.1/0") == 1
    assert "out.test.fa is from another run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--split", "0.8/0.1"), 2, "expected three shares that sum to 1"),
        (("--split", "0.8/0.1/0.3"), 2, "expected three shares that sum to 1"),
        (("--output-prefix", "out/"), 2, "add how the files' names begin, as in out/reads"),
        (("--output-prefix", ""), 2, "add how the files' names begin, as in reads"),
        (("--block", 100), 2, "--block 100 is shorter than --length 150"),
        (
            ("--length", 450),
            1,
            "too short for reads of 450 bp .*: Cus_dus \\(8,000 bp\\): choose --length 400 or leave",
        ),
        (("--genomes", "/nowhere/x.fa"), 1, "no such file or folder: /nowhere/x.fa"),
        (("--genomes", "-"), 1, "cannot come from standard input"),
    ],
)
def test_what_cannot_work_is_said_in_one_line_and_leaves_nothing(genomes, tmp_path, capsys, arguments, code, message):
    (genomes / "Aus_bus.2.fna").unlink()
    assert run("--genomes", genomes, "--output-prefix", tmp_path / "out", "--reads-per-class", 10, *arguments) == code
    error = capsys.readouterr().err.strip()
    assert re.fullmatch(f"mgc: error: .*{message}.*", error)
    assert not list(tmp_path.glob("out*"))


def test_a_genome_is_never_written_over(tmp_path, capsys):
    genome = write_genome(tmp_path / "aus.train.fa", 8_000, 1)
    before = genome.read_bytes()
    assert run("--genomes", genome, "--output-prefix", tmp_path / "aus", "--reads-per-class", 20) == 1
    assert f"would overwrite the input {genome}" in capsys.readouterr().err
    assert genome.read_bytes() == before


def test_a_broken_genome_leaves_no_output(genomes, tmp_path, capsys):
    (genomes / "Broken.fna.gz").write_bytes(b"\x1f\x8b\x08\x00rubbish")
    assert run("--genomes", genomes, "--output-prefix", tmp_path / "out", "--reads-per-class", 10) == 1
    assert "Broken.fna.gz" in capsys.readouterr().err
    assert not list(tmp_path.glob("out*"))


def test_the_shipped_bacteria_with_their_taxids(tmp_path):
    mapping = DATA / "genomes" / "mapping.tsv"
    prefix = tmp_path / "bacteria"
    assert (
        run("--genomes", DATA / "genomes", "--mapping-tsv", mapping, "--output-prefix", prefix, "--reads-per-class", 50)
        == 0
    )
    labels = read_mapping(f"{prefix}.mapping.tsv")
    assert labels == read_mapping(mapping)
    report = LabellingReport()
    train = list(labelled_reads([Path(f"{prefix}.train.fa")], labels, LabelSource(pattern=PATTERN), True, report))
    assert report.per_class == [40] * 10
    for item in train:
        assert int(PATTERN.parse(item.read.header).tax_id) == labels.taxids[item.class_index]


def test_the_shipped_viruses_of_a_few_kilobases_and_several_segments(tmp_path):
    prefix = tmp_path / "viruses"
    arguments = ("--genomes", DATA / "viruses", "--mapping-tsv", DATA / "viruses" / "mapping.tsv")
    assert run(*arguments, "--output-prefix", prefix, "--reads-per-class", 100) == 0
    covered: dict[str, dict[str, set[int]]] = {}
    classes: dict[str, set[str]] = {}
    for split in ("train", "val", "test"):
        places = defaultdict(set)
        found = origins(Path(f"{prefix}.{split}.fa"))
        for _, record, first, last in found:
            places[record].update(range(first, last + 1))
        covered[split], classes[split] = places, {class_id for class_id, *_ in found}
    assert all(len(found) == 30 for found in classes.values())
    assert sum("InfluenzaA_H1N1_PR8" in record for record in covered["train"]) > 3
    for split in ("val", "test"):
        for record, bases in covered[split].items():
            assert bases.isdisjoint(covered["train"].get(record, set()))


def test_a_mapping_under_the_prefix_keeps_its_own_columns(genomes, tmp_path):
    mapping = tmp_path / "out.mapping.tsv"
    text = "class_id\tlabel_name\ttax_id\tgenome\n0\tA\t1\tAus_bus.1.fna\n1\tC\t2\tCus_dus.fna\n"
    mapping.write_text(text)
    (genomes / "Aus_bus.2.fna").unlink()
    options = ["--genomes", genomes, "--mapping-tsv", mapping, "--output-prefix", tmp_path / "out"]
    assert run(*options, "--reads-per-class", 100) == 0
    assert mapping.read_text() == text
    assert {class_id for class_id, *_ in origins(tmp_path / "out.train.fa")} == {"0", "1"}


def test_a_mapping_is_never_overwritten_by_reads(genomes, tmp_path, capsys):
    mapping = tmp_path / "out.train.fa"
    mapping.write_text("class_id\tlabel_name\n0\tA\n")
    options = ["--genomes", genomes, "--mapping-tsv", mapping, "--output-prefix", tmp_path / "out"]
    assert run(*options, "--reads-per-class", 100) == 1
    assert "would overwrite the input" in capsys.readouterr().err
    assert mapping.read_text().startswith("class_id")
