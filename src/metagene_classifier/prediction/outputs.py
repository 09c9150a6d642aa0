"""Which files a prediction writes, in which formats: worked out and checked before a model is loaded."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from metagene_classifier.calling.tree import ClassTree
from metagene_classifier.errors import ConfigError, OutputError
from metagene_classifier.prediction.calling import Caller
from metagene_classifier.prediction.formats.fastq_out import SplitReads, split_paths
from metagene_classifier.prediction.formats.registry import (
    FORMATS,
    Format,
    check_format,
    format_named,
    format_of_ending,
)
from metagene_classifier.prediction.formats.writing import FormatContext
from metagene_classifier.prediction.reads import BlockWriter, CallFile, call_writer, format_file
from metagene_classifier.prediction.windows import open_windows
from metagene_classifier.whole_files import check_output_file, partial_path

__all__ = ["RunOutputs", "SampleOutputs", "outputs_of_one", "outputs_of_samples"]

FORMATS_OF_SAMPLES = ("csv", "profile", "matrix")
"""What is written of a sheet of samples where nothing is named."""
TABLES_STEM = "samples"
STANDARD_OUTPUT = "-"


@dataclass(frozen=True)
class SampleOutputs:
    """The files of one sample.

    Attributes:
        reads: formats of reads with their files; ``-`` is standard output.
        summaries: formats of samples with their files.
        classified: for the reads that are called.
        unclassified: for the others.
        windows: table of windows.
    """

    reads: tuple[tuple[Format, Path], ...] = ()
    summaries: tuple[tuple[Format, Path], ...] = ()
    classified: Path | None = None
    unclassified: Path | None = None
    windows: Path | None = None

    def paths(self, paired: bool) -> list[Path]:
        """Every file that is written.

        Raises:
            ConfigError: a file of reads has an ending that is not written.
        """
        named = [path for _, path in (*self.reads, *self.summaries) if str(path) != STANDARD_OUTPUT]
        split = [part for path in (self.classified, self.unclassified) if path for part in split_paths(path, paired)]
        return [*named, *split, *filter(None, [self.windows])]

    def call_files(self, context: FormatContext, caller: Caller) -> list[CallFile]:
        """The outputs that calls go to as they come."""
        files = [format_file(one.name, path, context) for one, path in self.reads]
        if self.classified or self.unclassified:
            classified, unclassified = self.classified, self.unclassified

            @contextlib.contextmanager
            def split() -> Iterator[BlockWriter]:
                with SplitReads(classified, unclassified, context.paired) as writer:
                    yield call_writer(writer)

            paths = tuple(
                part for one in (classified, unclassified) if one for part in split_paths(one, context.paired)
            )
            files.append(CallFile(paths, split, cut=False))
        if self.windows is not None:
            windows = self.windows
            files.append(CallFile((windows,), lambda: open_windows(windows, caller)))
        return files


@dataclass(frozen=True)
class RunOutputs:
    """The files of a run.

    Attributes:
        samples: of each sample, in order.
        tables: formats of several samples with their files.
        report: HTML page over all samples.
        facts: what is kept of each finished sample, so that it is not done again; empty for a single file of reads.
    """

    samples: tuple[SampleOutputs, ...]
    tables: tuple[tuple[Format, Path], ...] = ()
    report: Path | None = None
    facts: tuple[Path, ...] = ()

    @property
    def formats(self) -> list[Format]:
        """All that are written."""
        found = [one for sample in self.samples[:1] for one, _ in (*sample.reads, *sample.summaries)]
        return [*found, *(one for one, _ in self.tables)]

    @property
    def needs_hits(self) -> bool:
        """Whether a format says what each window is called."""
        return any(one.needs_hits for one in self.formats)

    @property
    def needs_profile(self) -> bool:
        """Whether anything is wanted of a sample as a whole."""
        return bool(self.tables or self.report or any(one.summaries for one in self.samples))

    def check(self, paired: Sequence[bool], inputs: Iterable[str]) -> None:
        """Refuse outputs that cannot become files, that are an input, or of which two have one name.

        Args:
            paired: of each sample, whether it has pairs.
            inputs: everything that is read.

        Raises:
            OutputError: the line names the file.
        """
        named = [path for one, pairs in zip(self.samples, paired, strict=True) for path in one.paths(pairs)]
        named += [*(path for _, path in self.tables), *filter(None, [self.report]), *self.facts]
        inputs = list(inputs)
        seen: set[Path] = set()
        for path in named:
            place = path.resolve()
            if place in seen or partial_path(place) in seen:
                raise OutputError(f"{path}: two outputs would have this name: name another file")
            seen |= {place, partial_path(place)}
        for path in named:
            check_output_file(path, inputs)

    def check_formats(self, tree: ClassTree) -> None:
        """Refuse formats that these classes cannot be written in.

        Raises:
            ConfigError: a format needs taxids or ranks that are not there.
        """
        for one in self.formats:
            check_format(one.name, tree)


def outputs_of_one(
    *,
    output: Path | None,
    format_name: str | None,
    writes: Sequence[str],
    classified: Path | None,
    unclassified: Path | None,
    windows: Path | None,
    report: Path | None,
) -> RunOutputs:
    """The outputs of a single sample, each with a name that the user gave.

    Args:
        output: the first output; ``-`` is standard output.
        format_name: of ``output``; by its ending by default, CSV where that says nothing.
        writes: further ones, as ``FORMAT=FILE``.
        classified: for the reads that are called.
        unclassified: for the others.
        windows: table of windows.
        report: HTML page.

    Raises:
        ConfigError: an unknown format, or one that cannot go where it is to go.
    """
    wanted: list[tuple[Format, Path]] = []
    if output is not None:
        wanted.append((_format_of(output, format_name), output))
    elif format_name is not None:
        raise ConfigError(f"--format {format_name} is of --output: name a file there, or use --write FORMAT=FILE")
    for text in writes:
        one, file = _asked(text)
        if file is None:
            raise ConfigError(f"--write {text}: name its file, as in --write {one.name}=calls{one.ending}")
        wanted.append((one, file))
    for one, path in wanted:
        if str(path) == STANDARD_OUTPUT and (one.kind != "read" or not one.text):
            raise ConfigError(f"format {one.name} cannot go to standard output: name a file")
    if sum(str(path) == STANDARD_OUTPUT for _, path in wanted) > 1:
        raise ConfigError("standard output holds one format: name files for the others")
    if not (wanted or classified or unclassified or windows or report):
        raise ConfigError("say where the calls go: --output FILE (- is standard output), or --output-dir DIR")
    by_kind = {kind: tuple(pair for pair in wanted if pair[0].kind == kind) for kind in ("read", "sample", "table")}
    sample = SampleOutputs(by_kind["read"], by_kind["sample"], classified, unclassified, windows)
    return RunOutputs((sample,), by_kind["table"], report)


def outputs_of_samples(
    folder: Path,
    samples: Sequence[str],
    *,
    writes: Sequence[str],
    classified: Path | None,
    unclassified: Path | None,
    windows: Path | None,
    report: Path | None,
) -> RunOutputs:
    """The outputs of several samples: ``FOLDER/SAMPLE.ENDING`` each, and tables over all of them.

    Args:
        folder: for all of them.
        samples: their names, which are good file names.
        writes: formats; tables of samples may have their file named, as ``FORMAT=FILE``.
        classified: the ending of the files for the reads that are called.
        unclassified: likewise for the others.
        windows: likewise for tables of windows.
        report: HTML page, a path.

    Raises:
        ConfigError: an unknown format, or a file named where files are named by their sample.
        OutputError: the folder is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"--output-dir {folder} is a file: name a folder")
    asked = [_asked(text) for text in writes or FORMATS_OF_SAMPLES]
    tables = []
    for one, file in asked:
        if one.kind == "table":
            tables.append((one, file or folder / f"{TABLES_STEM}{one.ending}"))
        elif file is not None:
            raise ConfigError(
                f"--write {one.name}={file}: with --output-dir files are named by sample: leave ={file} out"
            )

    def named(sample: str, ending: Path | None, option: str) -> Path | None:
        if ending is None:
            return None
        if ending.name != str(ending):
            raise ConfigError(f"{option} {ending}: with --output-dir this is the end of a file's name, without folders")
        return folder / f"{sample}.{ending}"

    def of(sample: str) -> SampleOutputs:
        def files(kind: str) -> tuple[tuple[Format, Path], ...]:
            return tuple((one, folder / f"{sample}{one.ending}") for one, _ in asked if one.kind == kind)

        return SampleOutputs(
            files("read"),
            files("sample"),
            named(sample, classified, "--classified-out"),
            named(sample, unclassified, "--unclassified-out"),
            named(sample, windows, "--windows"),
        )

    facts = tuple(folder / f"{sample}.done.json" for sample in samples)
    return RunOutputs(tuple(of(sample) for sample in samples), tuple(tables), report, facts)


def _format_of(output: Path, name: str | None) -> Format:
    if name is not None:
        return format_named(name)
    try:
        return format_of_ending(output)
    except ConfigError:
        return FORMATS["csv"]


def _asked(text: str) -> tuple[Format, Path | None]:
    name, equals, file = text.partition("=")
    if equals and not file:
        raise ConfigError(f"--write {text}: no file behind '='")
    return format_named(name.strip()), Path(file) if file else None
