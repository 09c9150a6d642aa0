"""``mgc cut-reads``: labelled reads from reference genomes."""

from __future__ import annotations

import contextlib
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from metagene_classifier.console import progress, say
from metagene_classifier.errors import ConfigError, DataError, OutputError
from metagene_classifier.whole_files import check_output_file, whole_file

if TYPE_CHECKING:
    from metagene_classifier.reads.cutting import ReadShape
    from metagene_classifier.reads.genome_classes import ClassedGenomes

SPLITS = ("train", "val", "test")


@click.command("cut-reads")
@click.option(
    "--genomes",
    multiple=True,
    required=True,
    metavar="DIR|FILE...",
    help="FASTA files, or folders of them; may be repeated, and several names may follow (--genomes *.fna.gz).",
)
@click.argument("more_genomes", nargs=-1, metavar="")
@click.option(
    "--mapping-tsv",
    type=click.Path(path_type=Path, dir_okay=False),
    help="If it exists: which genome is which class. If not: it is written.",
)
@click.option("--output-prefix", required=True, help="PREFIX.train.fa, PREFIX.val.fa and PREFIX.test.fa are written.")
@click.option("--reads-per-class", type=click.IntRange(min=1), required=True, help="Over all splits together.")
@click.option("--length", type=click.IntRange(min=20), default=150, show_default=True, help="Of a read, in bp.")
@click.option(
    "--length-sd",
    type=click.FloatRange(min=0),
    default=0.0,
    show_default=True,
    help="Standard deviation of the lengths, in bp; none lies beyond three of them, under 20 bp or beyond its block.",
)
@click.option(
    "--error-rate",
    type=click.FloatRange(min=0, max=1),
    default=0.0,
    show_default=True,
    help="Substitutions per base; insertions and deletions are not made.",
)
@click.option(
    "--split", default="0.8/0.1/0.1", show_default=True, help="Shares of train, val and test; 0 leaves one out."
)
@click.option(
    "--block",
    type=click.IntRange(min=1),
    default=50_000,
    show_default=True,
    help="Longest block, in bp; a twentieth of the genome where that is shorter.",
)
@click.option("--seed", type=click.IntRange(min=0), default=42, show_default=True)
def command(
    genomes: tuple[str, ...],
    more_genomes: tuple[str, ...],
    mapping_tsv: Path | None,
    output_prefix: str,
    reads_per_class: int,
    length: int,
    length_sd: float,
    error_rate: float,
    split: str,
    block: int,
    seed: int,
) -> None:
    """Cut labelled reads from reference genomes.

    Training, validation and test reads come from disjoint blocks of each genome, from both strands; no read crosses a
    border of a block or a record; a read with more than 10% N is drawn again. The same seed gives the same files.

    The classes come from --mapping-tsv where that file exists (columns class_id, label_name, and if wanted tax_id and
    genome): a genome's file is found by the name in the column genome, or by its label; in a file of many genomes,
    with headers like >name|taxid|accession, each is found by that name or taxid. Without such a table every file is a
    class (Escherichia_coli.K12.fna.gz is "Escherichia coli"), and so is every name in a file of many genomes.

    The classes cut are written to --mapping-tsv if it did not exist, otherwise to PREFIX.mapping.tsv. Headers are
    lbl|class_id|tax_id|length|genome:record:start-end:strand, positions from 1 on the forward strand; with --error-rate
    the number of errors in the read follows, as in ...:+:2.
    """
    from metagene_classifier.reads.cutting import ReadShape
    from metagene_classifier.reads.labels import write_mapping

    shares = _shares(split)
    if block < length:
        raise ConfigError(f"--block {block} is shorter than --length {length}: a read must fit into a block")
    if not output_prefix or output_prefix.endswith("/"):
        raise ConfigError(
            f"--output-prefix {output_prefix}: add how the files' names begin, as in {output_prefix}reads"
        )
    known = mapping_tsv is not None and mapping_tsv.exists()
    mapping_out = mapping_tsv if mapping_tsv is not None and not known else Path(f"{output_prefix}.mapping.tsv")
    outputs = {name: Path(f"{output_prefix}.{name}.fa") for name in SPLITS}
    # A mapping that is read stays as it is, with all its columns, even where the prefix would give it a new one.
    same_mapping = mapping_tsv is not None and known and mapping_out.exists() and mapping_out.samefile(mapping_tsv)
    written = [*outputs.values()] + ([] if same_mapping else [mapping_out])
    for path in written:
        check_output_file(path, [mapping_tsv] if mapping_tsv is not None else [])
    for name, share in zip(SPLITS, shares, strict=True):
        if share == 0 and outputs[name].exists():
            raise OutputError(f"{outputs[name]} is from another run and this one cuts no {name} reads: remove it")
    if mapping_tsv is not None and not known:
        say(f"{mapping_tsv} does not exist yet: the classes are those that the genomes' names give")
    classed = _classed_genomes([*genomes, *more_genomes], mapping_tsv if known else None, written)
    _check_sizes(classed, block, length)
    counts = _reads_per_genome(classed, reads_per_class, shares)
    with contextlib.ExitStack() as stack:
        files = {
            part: stack.enter_context(whole_file(outputs[name])) for part, name in enumerate(SPLITS) if shares[part] > 0
        }
        _cut(classed, counts, shares, block, ReadShape(length, length_sd, error_rate), seed, files)
    if not same_mapping:
        write_mapping(mapping_out, classed.labels)
    for part, name in enumerate(SPLITS):
        if shares[part] > 0:
            click.echo(f"{outputs[name]}\t{sum(count[part] for count in counts):,} reads")
    click.echo(f"{mapping_out}\t{len(classed.labels):,} classes")


def _shares(split: str) -> list[float]:
    """Shares of train, val and test, from text such as ``0.8/0.1/0.1``."""
    try:
        shares = [float(share) for share in split.split("/")]
    except ValueError:
        shares = []
    if len(shares) != len(SPLITS) or min(shares) < 0 or not math.isclose(sum(shares), 1, abs_tol=1e-6):
        raise ConfigError(f"--split {split!r}: expected three shares that sum to 1, such as 0.8/0.1/0.1")
    return shares


def _classed_genomes(inputs: Sequence[str], mapping_tsv: Path | None, outputs: Iterable[Path]) -> ClassedGenomes:
    from metagene_classifier.reads.files import expand_inputs
    from metagene_classifier.reads.genome_classes import classes_from_genomes, classes_from_mapping
    from metagene_classifier.reads.genomes import scan_genomes

    paths = list(dict.fromkeys(expand_inputs(inputs)))
    for path in outputs:
        check_output_file(path, paths)
    if Path("-") in paths:
        raise DataError("--genomes: genomes are read twice, so they cannot come from standard input: name files")
    files = [scan_genomes(path) for path in progress(paths, unit="file", label="measuring genomes")]
    return classes_from_mapping(files, mapping_tsv) if mapping_tsv is not None else classes_from_genomes(files)


def _check_sizes(classed: ClassedGenomes, block_bp: int, length_bp: int) -> None:
    from metagene_classifier.reads.cutting import BLOCKS_PER_GENOME, block_size

    short = [entry for entry, _ in classed.members if block_size(entry.bases, block_bp) < length_bp]
    if short:
        named = ", ".join(f"{entry.name} ({entry.bases:,} bp)" for entry in short[:5])
        more = f" and {len(short) - 5} more" if len(short) > 5 else ""
        raise DataError(
            f"too short for reads of {length_bp:,} bp from blocks of a twentieth of the genome: {named}{more}: choose "
            f"--length {max(20, min(e.bases for e in short) // BLOCKS_PER_GENOME)} or leave them out"
        )


def _reads_per_genome(classed: ClassedGenomes, reads_per_class: int, shares: Sequence[float]) -> list[list[int]]:
    """Reads for each split, of every genome; the genomes of a class share by their length."""
    from metagene_classifier.reads.cutting import share_out

    of_class: dict[int, list[int]] = defaultdict(list)
    for place, (_, class_index) in enumerate(classed.members):
        of_class[class_index].append(place)
    counts = [[0] * len(shares) for _ in classed.members]
    for part, reads in enumerate(share_out(reads_per_class, shares)):
        for places in of_class.values():
            bases = [classed.members[place][0].bases for place in places]
            for place, count in zip(places, share_out(reads, bases), strict=True):
                counts[place][part] = count
    return counts


def _cut(
    classed: ClassedGenomes,
    counts: Sequence[Sequence[int]],
    shares: Sequence[float],
    block_bp: int,
    shape: ReadShape,
    seed: int,
    files: Mapping[int, IO[str]],
) -> None:
    from metagene_classifier.reads.cutting import block_size, cut_reads

    genomes = progress(classed.load(), total=len(classed.members), unit="genome", label="cutting reads")
    for (genome, entry, class_index), wanted in zip(genomes, counts, strict=True):
        of = classed.labels.classes[class_index]
        block = block_size(entry.bases, block_bp)
        for part, read in cut_reads(genome, wanted, shares, block, shape, seed):
            made = f":{read.errors}" if shape.error_rate > 0 else ""
            header = f"lbl|{of.class_id}|{of.taxid or 0}|{len(read.sequence)}|{read.origin}{made}"
            files[part].write(f">{header}\n{read.sequence}\n")
    if any(of.taxid is None for of in classed.labels.classes):
        say("classes without a taxid have 0 in the headers: give a tax_id column in --mapping-tsv to name them")
