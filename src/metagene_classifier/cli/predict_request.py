"""What ``mgc predict`` is asked for, and whether it goes together: before anything is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from metagene_classifier.errors import ConfigError
from metagene_classifier.model.description import ModelDescription
from metagene_classifier.prediction.calling import check_cut_offs
from metagene_classifier.prediction.outputs import RunOutputs, outputs_of_one, outputs_of_samples
from metagene_classifier.prediction.sample_run import SampleJob
from metagene_classifier.prediction.shard_facts import facts_path
from metagene_classifier.prediction.shards import Shard, shard_path
from metagene_classifier.prediction.source import ReadSource, sample_name
from metagene_classifier.reads.sample_sheet import Sample, read_sample_sheet, samples_of_inputs
from metagene_classifier.whole_files import check_output_file

__all__ = ["CsvOfSamples", "Request", "check_together", "jobs_of", "outputs_of"]


@dataclass(frozen=True)
class CsvOfSamples:
    """A CSV of samples and sequences, and how the sequences of a sample become one call."""

    aggregation: str
    sample_column: str
    sequence_column: str


@dataclass(frozen=True)
class Request:
    """The options of ``mgc predict``, by their names."""

    sources: tuple[str, ...]
    input2: str | None
    interleaved: bool
    sample_sheet: Path | None
    ckpt: str
    output: Path | None
    format_name: str | None
    writes: tuple[str, ...]
    output_dir: Path | None
    report: Path | None
    classified_out: Path | None
    unclassified_out: Path | None
    windows: Path | None
    confidence: float | None
    target_precision: float | None
    closed_set: bool
    min_tokens: int | None
    strand: Literal["single", "average"] | None
    taxonomy: Path | None
    bootstraps: int
    genome_lengths: Path | None
    batch_size: int | None
    max_tokens: int | None
    probabilities: bool
    quantization: Literal["none", "int8", "nf4"] | None
    long_reads: Literal["window", "truncate", "error"] | None
    device: str
    device_map: str | None
    cpu_bf16: bool
    trust_remote_code: bool
    shard: str | None
    on_ray: bool
    workers: int | None
    csv_of_samples: CsvOfSamples | None

    def other_cut_offs(self, description: ModelDescription) -> bool:
        """Whether other reads are refused than the model refuses by itself."""
        given = (self.confidence, self.target_precision, self.min_tokens)
        strand = self.strand or description.calling.strand
        deeper = self.taxonomy is not None and not description.taxonomy  # calls above the classes, where were none
        others = self.closed_set or deeper or strand != description.calling.strand
        return others or any(one is not None for one in given)

    @property
    def new_outputs(self) -> dict[str, bool]:
        """Options that ask for other outputs than one file of calls, and whether they are there."""
        return {
            "--sample-sheet": self.sample_sheet is not None,
            "--output-dir": self.output_dir is not None,
            "--write": bool(self.writes),
            "--report": self.report is not None,
            "--classified-out": self.classified_out is not None,
            "--unclassified-out": self.unclassified_out is not None,
            "--windows": self.windows is not None,
        }


def check_together(asked: Request, shard: Shard | None) -> None:
    """Refuse options that do not go together."""
    check_cut_offs(asked.confidence, asked.target_precision, asked.closed_set)
    other = [option for option, there in asked.new_outputs.items() if there]
    if asked.csv_of_samples is not None and (shard is not None or asked.on_ray):
        raise ConfigError("--per-sample needs all reads of a sample in one place: leave --shard and --engine ray out")
    if asked.csv_of_samples is not None:
        pairs = [
            name for name, there in {"--input2": asked.input2, "--interleaved": asked.interleaved}.items() if there
        ]
        cut_offs = {
            "--confidence": asked.confidence,
            "--target-precision": asked.target_precision,
            "--min-tokens": asked.min_tokens,
        }
        if named := next((name for name, value in cut_offs.items() if value is not None), None):
            raise ConfigError(f"--per-sample gives every sample its likeliest class: leave {named} out")
        if other + pairs or asked.format_name or len(asked.sources) > 1:
            named = (other + pairs + (["--format"] if asked.format_name else []) or ["all but one --input"])[0]
            raise ConfigError(f"--per-sample makes one CSV of one CSV: leave {named} out")
    if shard is not None and asked.on_ray:
        raise ConfigError("--engine ray shares the reads out by itself: leave --shard out")
    if shard is not None and (other or asked.format_name not in (None, "csv")):
        raise ConfigError(
            f"--shard writes CSV alone, which mgc merge joins: leave {(other or ['--format'])[0]} out, or call all "
            "reads in one run (--engine ray shares them out too)"
        )
    if asked.workers is not None and not asked.on_ray:
        raise ConfigError("--workers is for --engine ray")
    if asked.output is not None and asked.output_dir is not None:
        raise ConfigError(
            "--output is of one sample and --output-dir of several: give one of them (and --write FORMAT)"
        )
    if asked.output_dir is not None and asked.format_name is not None:
        raise ConfigError(f"--format is of --output: with --output-dir use --write {asked.format_name}")
    if asked.input2 is not None and asked.interleaved:
        raise ConfigError("--input2 gives the mates a file of their own: leave --interleaved out")


def jobs_of(asked: Request) -> list[SampleJob]:
    """The samples and their files."""
    if asked.sample_sheet is not None and asked.sources:
        raise ConfigError("--sample-sheet names the reads: leave --input out")
    if asked.sample_sheet is None and not asked.sources:
        raise ConfigError("say what to call: --input FILE, or --sample-sheet SHEET with --output-dir DIR")
    if asked.sample_sheet is None and len(asked.sources) == 1:
        source = ReadSource(asked.sources[0], asked.input2, asked.interleaved)
        if asked.output_dir is not None:
            samples_of_inputs(asked.sources)  # a name that is none for a file is told
        return [SampleJob(sample_name(source), source)]
    if asked.output_dir is None:
        what = "--sample-sheet" if asked.sample_sheet is not None else "several --input, a sample each"
        raise ConfigError(f"{what}: give --output-dir DIR, a folder for the files of the samples")
    if asked.input2 is not None:
        raise ConfigError("--input2 goes with one --input: name the pairs of several samples in a --sample-sheet")
    samples = samples_of_inputs(asked.sources) if asked.sample_sheet is None else read_sample_sheet(asked.sample_sheet)
    return [SampleJob(one.name, _source_of(one, asked.interleaved)) for one in samples]


def _source_of(sample: Sample, interleaved: bool) -> ReadSource:
    first, *more = [(str(one), None if other is None else str(other)) for one, other in sample.sources]
    if interleaved and first[1] is not None:
        raise ConfigError(f"sample {sample.name} has its mates in two files: leave --interleaved out")
    return ReadSource(first[0], first[1], interleaved, tuple(more))


def outputs_of(asked: Request, shard: Shard | None, jobs: list[SampleJob]) -> RunOutputs:
    """The files that will be written, each of them checked."""
    inputs = [name for job in jobs for name in job.source.files]
    if asked.sample_sheet is not None:
        inputs.append(str(asked.sample_sheet))
    if asked.genome_lengths is not None:
        inputs.append(str(asked.genome_lengths))
    if asked.output_dir is not None:
        outputs = outputs_of_samples(
            asked.output_dir,
            [job.name for job in jobs],
            writes=asked.writes,
            classified=asked.classified_out,
            unclassified=asked.unclassified_out,
            windows=asked.windows,
            report=asked.report,
        )
    else:
        outputs = outputs_of_one(
            output=asked.output,
            format_name=asked.format_name or ("csv" if asked.csv_of_samples else None),
            writes=asked.writes,
            classified=asked.classified_out,
            unclassified=asked.unclassified_out,
            windows=asked.windows,
            report=asked.report,
        )
    if shard is not None:
        if asked.output is None or str(asked.output) == "-":
            raise ConfigError("--shard writes two files, which mgc merge joins: name a file in --output")
        if outputs.formats[0].name != "csv":
            raise ConfigError(
                f"--shard writes CSV alone, which mgc merge joins: end --output {asked.output} in .csv, or call all "
                "reads in one run (--engine ray shares them out too)"
            )
        calls = shard_path(asked.output, shard)
        for path in (calls, facts_path(calls)):
            check_output_file(path, inputs)
        return outputs
    outputs.check([job.source.paired for job in jobs], inputs)
    return outputs
