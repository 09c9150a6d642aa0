"""Every output format by name, a line each. A format is a module of this folder with one function:

* of reads: ``open_calls(path, context)``, a context manager that gives a ``ReadWriter``;
* of a sample: ``write(path, result)`` of a ``SampleResult``;
* of several samples: ``write(path, results)``.
"""

from __future__ import annotations

import importlib
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from metagene_classifier.calling.tree import ClassTree
from metagene_classifier.errors import ConfigError, nearest
from metagene_classifier.prediction.formats.writing import FormatContext, ReadWriter

if TYPE_CHECKING:
    from metagene_classifier.prediction.profile.result import SampleResult

__all__ = [
    "FORMATS",
    "READ_FORMATS",
    "SAMPLE_FORMATS",
    "TABLE_FORMATS",
    "Format",
    "check_format",
    "format_named",
    "format_of_ending",
    "open_reads",
    "write_sample",
    "write_table",
]

Kind = Literal["read", "sample", "table"]
NAMED_AT_MOST = 3


@dataclass(frozen=True, slots=True)
class Format:
    """One format.

    Attributes:
        name: as a user says it.
        kind: whether it holds reads, a sample, or a table of samples.
        ending: of its files; no two formats have the same.
        module: of this folder.
        what: one line for a user.
        text: whether it is text, and so may go to standard output where it holds reads.
        needs_hits: whether it says what each window is called.
        needs: every class must have a taxid, or there must be a taxonomy.
    """

    name: str
    kind: Kind
    ending: str
    module: str
    what: str
    text: bool = True
    needs_hits: bool = False
    needs: Literal["", "taxids", "ranks"] = ""


FORMATS = {
    one.name: one
    for one in (
        Format("csv", "read", ".csv", "csv_calls", "calls, a row a read"),
        Format("tsv", "read", ".tsv", "tsv_calls", "the same with tabs"),
        Format("parquet", "read", ".parquet", "parquet_calls", "the same in Parquet", text=False),
        Format("kraken", "read", ".kraken", "kraken_output", "Kraken 2 output", needs_hits=True, needs="taxids"),
        Format("cami-binning", "read", ".binning", "cami_binning", "CAMI binning 0.10.0", needs="taxids"),
        Format("kraken-report", "sample", ".kreport", "kraken_report", "Kraken 2 report", needs="taxids"),
        Format("cami-profile", "sample", ".profile", "cami_profile", "CAMI profile 0.10.0", needs="ranks"),
        Format("krona", "sample", ".krona", "krona_text", "text for ktImportText"),
        Format("krona-html", "sample", ".krona.html", "krona_html", "sunburst in one HTML file"),
        Format("profile", "sample", ".profile.tsv", "profile_table", "reads and abundances by taxon"),
        Format("biom", "table", ".biom", "biom_table", "BIOM 2.1: reads by taxon and sample", text=False),
        Format("matrix", "table", ".matrix.tsv", "matrix", "reads by taxon and sample"),
    )
}
READ_FORMATS, SAMPLE_FORMATS, TABLE_FORMATS = (
    {name: one for name, one in FORMATS.items() if one.kind == kind} for kind in ("read", "sample", "table")
)


def format_named(name: str, known: Collection[str] = FORMATS.keys()) -> Format:
    """The format of a name.

    Raises:
        ConfigError: there is none, or it is none of ``known``.
    """
    if name not in known:
        raise ConfigError(f"no format {name!r}{nearest(name, known)}: there are {', '.join(known)}")
    return FORMATS[name]


def format_of_ending(path: Path, known: Collection[str] = FORMATS.keys()) -> Format:
    """The format that the end of a file's name says, the longest where several do.

    Raises:
        ConfigError: it says none of ``known``.
    """
    name = path.name.lower()
    fitting = [FORMATS[one] for one in known if name.endswith(FORMATS[one].ending)]
    if not fitting:
        endings = ", ".join(FORMATS[one].ending for one in known)
        raise ConfigError(f"{path}: the name says no format: end it with one of {endings}, or name the format")
    return max(fitting, key=lambda one: len(one.ending))


def check_format(name: str, tree: ClassTree) -> None:
    """Refuse a format that names taxa by what these classes do not have.

    Raises:
        ConfigError: a class has no taxid, or there is no taxonomy, and the format needs it.
    """
    one = format_named(name)
    if one.needs == "ranks" and not tree.has_taxonomy:
        raise ConfigError(f"format {name} is about ranks, and the model has no taxonomy: give one with --taxonomy")
    lacking = [label.label for label in tree.labels.classes if label.taxid is None]
    if one.needs == "taxids" and lacking:
        shown = ", ".join(lacking[:NAMED_AT_MOST]) + (", …" if len(lacking) > NAMED_AT_MOST else "")
        raise ConfigError(
            f"format {name} names taxa by taxid alone, and {len(lacking):,} of {len(tree.labels):,} classes have none "
            f"({shown}): add a column tax_id to the classes' table and train again, or write csv, profile or krona"
        )


def open_reads(name: str, path: Path, context: FormatContext) -> AbstractContextManager[ReadWriter]:
    """A file of calls; a context manager. The file is there when it is whole, and ``.partial`` when it broke off.

    Args:
        name: of a format of reads.
        path: the file; ``-`` is standard output where the format is text.
        context: what is said beside the calls.

    Raises:
        ConfigError: see :func:`check_format`; or the format is not text and the path is ``-``.
        OutputError: the file cannot be written.
    """
    one = format_named(name, READ_FORMATS)
    check_format(name, context.tree)
    if str(path) == "-" and not one.text:
        raise ConfigError(f"format {name} is not text and cannot go to standard output: name a file")
    opened: AbstractContextManager[ReadWriter] = _module(one).open_calls(path, context)
    return opened


def write_sample(name: str, path: Path, result: SampleResult) -> None:
    """Write what a sample holds.

    Raises:
        ConfigError: see :func:`check_format`.
        OutputError: the file cannot be written.
    """
    one = format_named(name, SAMPLE_FORMATS)
    check_format(name, result.tree)
    _module(one).write(path, result)


def write_table(name: str, path: Path, results: Sequence[SampleResult]) -> None:
    """Write what several samples hold; they are of one model.

    Raises:
        OutputError: the file cannot be written.
    """
    one = format_named(name, TABLE_FORMATS)
    _module(one).write(path, results)


def _module(one: Format) -> Any:
    return importlib.import_module(f"{__package__}.{one.module}")
