"""The report on calls: what is in each sample, how sure that is, and what was refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from metagene_classifier.calling.tree import RANKS, ClassTree
from metagene_classifier.report.cautions import NOT_CALIBRATED, unclassified_caution
from metagene_classifier.report.drawing import CATEGORIES, svg_text
from metagene_classifier.report.evaluation_sections import reasons_table
from metagene_classifier.report.page import Column, DataTable, Figure, Part, Section, SunburstSection, Tile, write_page
from metagene_classifier.report.prediction_plots import (
    Histogram,
    Interval,
    histograms_figure,
    intervals_figure,
    stacked_bars_figure,
)

if TYPE_CHECKING:
    from metagene_classifier.prediction.profile.estimate import Profile
    from metagene_classifier.prediction.profile.result import SampleResult
    from metagene_classifier.prediction.profile.tally import SampleTally

__all__ = ["write_prediction_report"]

SAMPLES_DRAWN = 60
SAMPLES_COLOURED = len(CATEGORIES)
SUNBURSTS = 12
TAXA_WITH_INTERVALS = 15
PROFILE_ROWS = 4000
FEW_READS = 1000
"""Below this many called reads a profile's rare taxa are a matter of chance."""


def write_prediction_report(
    path: Path,
    results: Sequence[SampleResult],
    *,
    facts: Mapping[str, str],
    warnings: Sequence[str] = (),
    title: str = "Calls",
    calibrated: bool = True,
) -> None:
    """Write the report of one or more samples.

    Args:
        path: of the ``.html`` file.
        results: samples called by the same model; at least one.
        facts: names and values that the report shows as what ran.
        warnings: lines that the report shows above everything; those that the figures give are added.
        title: the report's heading.
        calibrated: whether the confidences are calibrated.

    Raises:
        OutputError: the file cannot be written.
    """
    sections = [
        _samples_section(results),
        *([_sunbursts_section(results)] if any(one.tally.reads for one in results) else []),
        _profiles_section(results),
        _reads_section(results),
    ]
    write_page(
        path,
        title=title,
        facts=facts,
        warnings=[*warnings, *_cautions(results, calibrated)],
        tiles=_tiles(results),
        sections=sections,
    )


def _tiles(results: Sequence[SampleResult]) -> list[Tile]:
    reads = sum(one.tally.reads for one in results)
    bases = sum(one.tally.bases for one in results)
    pairs = sum(one.tally.pairs for one in results)
    refused = sum(one.tally.unclassified for one in results)
    tree = results[0].tree
    called = np.sum([one.tally.clade(tree) for one in results], axis=0)
    own = np.unique(tree.taxon_of_class)
    tiles = [
        Tile("Reads", f"{reads:,}", f"{pairs:,} of them pairs" if pairs else ""),
        Tile("Bases", f"{bases:,}"),
        Tile("Called", f"{(reads - refused) / reads:.2%}" if reads else "–", f"{reads - refused:,} reads"),
        Tile("Unclassified", f"{refused / reads:.2%}" if reads else "–", f"{refused:,} reads"),
        Tile("Classes found", f"{int((called[own] > 0).sum()):,}", f"of {len(own):,}"),
    ]
    return [Tile("Samples", f"{len(results):,}"), *tiles] if len(results) > 1 else tiles


def _cautions(results: Sequence[SampleResult], calibrated: bool) -> list[str]:
    lines = []
    for one in results:
        name = f"Sample {one.sample}" if len(results) > 1 else "This sample"
        reads, refused = one.tally.reads, one.tally.unclassified
        if not reads:
            lines.append(f"{name} has no reads.")
            continue
        lines += unclassified_caution(refused, reads, of=name, reasons=one.tally.reasons)
        if reads - refused < FEW_READS:
            lines.append(f"{name} has {reads - refused:,} called reads: its rare taxa are a matter of chance.")
        lines += [f"{name}: {line}" if len(results) > 1 else line for line in one.profile.warnings]
    if not calibrated:
        lines.append(NOT_CALIBRATED)
    return lines


def _samples_section(results: Sequence[SampleResult]) -> Section:
    parts: list[Part] = []
    tree = results[0].tree
    shown = [one for one in results if one.tally.reads][:SAMPLES_DRAWN]
    note = "" if len(shown) == len(results) else f"The first {len(shown):,} of {len(results):,} samples. "
    if shown:
        for rank in _bar_ranks(shown, tree):
            parts.append(_bars(shown, tree, rank, note))
    columns = [
        Column("Sample"),
        Column("Reads", "count"),
        Column("Called", "share"),
        Column("Bases", "count"),
        Column("Richness", "count", "taxa found, at species where there is a taxonomy"),
        Column("Shannon", "figure", "diversity of the estimated abundances, natural logarithms"),
        Column("Simpson", "figure", "chance that two reads are of different taxa"),
        Column(
            "Unknown",
            "share",
            "estimated share of organisms that the model has never seen; a dash where it cannot tell",
        ),
        Column("Source", "line"),
    ]
    rows: list[list[Any]] = []
    for one in results:
        tally, profile = one.tally, one.profile
        called = 1 - tally.unclassified / tally.reads if tally.reads else None
        figures = [profile.richness, profile.shannon, profile.simpson, profile.unknown]
        rows.append([one.sample, tally.reads, called, tally.bases, *figures, one.source])
    parts.append(DataTable("Figures of each sample", columns, rows, filterable=len(rows) > 8, unit="samples"))
    return Section("Samples" if len(results) > 1 else "The sample", parts)


def _bar_ranks(results: Sequence[SampleResult], tree: ClassTree) -> list[str | None]:
    """The ranks to draw: the highest that tells taxa apart, and species; ``None`` for the classes themselves."""
    if not tree.has_taxonomy:
        return [None]
    clade = np.sum([one.tally.clade(tree) for one in results], axis=0)
    telling = []
    for rank in RANKS:
        taxa = np.unique(tree.at_rank(rank))
        taxa = taxa[taxa >= 0]
        if (clade[taxa] > 0).sum() > 1:
            telling.append(rank)
    chosen = [telling[0], telling[-1]] if telling else ["species"]
    return list(dict.fromkeys(chosen))


def _bars(results: Sequence[SampleResult], tree: ClassTree, rank: str | None, note: str) -> Figure:
    at = tree.at_rank(rank) if rank is not None else np.arange(len(tree))
    counts = []
    for one in results:
        # What is called above the rank has no place there.
        by_taxon = np.zeros(len(tree), np.int64)
        direct = one.tally.direct.copy()
        direct[0] = 0
        np.add.at(by_taxon, np.maximum(at, 0), np.where(at > 0, direct, 0))
        counts.append(by_taxon)
    table = np.array(counts)
    reads = np.array([one.tally.reads for one in results])
    shares = table / reads[:, None]
    order = np.argsort(-shares.sum(axis=0), kind="stable")[: len(CATEGORIES)]
    named = [int(taxon) for taxon in order if table[:, taxon].any()]
    unclassified = np.array([one.tally.unclassified for one in results]) / reads
    rest = shares.sum(axis=1) - shares[:, named].sum(axis=1)
    above = 1 - unclassified - shares.sum(axis=1)
    plural = f"other taxa of the rank {rank}" if rank else "other classes"
    other = {plural: _clipped(rest)} | ({f"called above {rank}": _clipped(above)} if rank else {})
    taxa = {_unique(tree, taxon): shares[:, taxon].tolist() for taxon in named}
    figure = stacked_bars_figure([one.sample for one in results], taxa, other, unclassified.tolist())
    how = "Reads as they were called, not corrected for confusions."
    return Figure(f"Reads by {rank or 'class'}", svg_text(figure), note + how)


def _clipped(values: npt.NDArray[np.float64]) -> list[float]:
    return [float(value) if value > 1e-9 else 0.0 for value in values]


def _unique(tree: ClassTree, taxon: int) -> str:
    """A name that no other taxon has."""
    name, taxid = tree.label_of(taxon), tree.taxa[taxon].taxid
    twice = sum(tree.label_of(other) == name for other in range(len(tree))) > 1
    return f"{name} ({taxid if taxid is not None else taxon})" if twice else name


def _sunbursts_section(results: Sequence[SampleResult]) -> Section:
    from metagene_classifier.prediction.formats.sunburst import (
        SUNBURST_SCRIPT,
        SUNBURST_STYLE,
        sunburst_markup,
        sunburst_nodes,
    )

    shown = [one for one in results if one.tally.reads][:SUNBURSTS]
    parts = [
        SunburstSection(
            one.sample,
            sunburst_markup(sunburst_nodes(one.tree, one.tally.direct), one.sample),
            style=SUNBURST_STYLE,
            script=SUNBURST_SCRIPT,
        )
        for one in shown
    ]
    more = len(results) - len(shown)
    note = f"The first {len(shown):,} of {len(results):,} samples." if more > 0 else ""
    return Section("Composition", parts, note)


def _profiles_section(results: Sequence[SampleResult]) -> Section:
    tree = results[0].tree
    rank = "species" if tree.has_taxonomy else ""
    parts: list[Part] = []
    coloured = [one for one in results if one.profile.rows][:SAMPLES_COLOURED]
    if intervals := _intervals(coloured, tree, rank):
        note = "Lines are 95% intervals by resampling." if any(_has_intervals(one.profile) for one in coloured) else ""
        if len(coloured) < len(results):
            note = f"The first {len(coloured):,} of {len(results):,} samples. {note}"
        caption = "The commonest species" if rank else "The commonest classes"
        parts.append(Figure(caption, svg_text(intervals_figure(intervals)), note))
    parts.append(_profile_table(results))
    methods = {one.profile.method for one in results}
    how = (
        "Abundances correct the counts for the confusions that were measured on validation reads (expectation "
        "maximisation)."
        if methods == {"em"}
        else "Abundances are shares of the called reads: this model has no measured confusions to correct for."
    )
    return Section("Profile" if len(results) == 1 else "Profiles", parts, how)


def _has_intervals(profile: Profile) -> bool:
    return any(row.low is not None for row in profile.rows)


def _intervals(results: Sequence[SampleResult], tree: ClassTree, rank: str) -> dict[str, dict[str, Interval]]:
    """Of each sample the abundances of the taxa that are commonest over all of them."""
    leaves = set(np.unique(tree.taxon_of_class).tolist())
    total: Counter[int] = Counter()
    by_sample: dict[str, dict[int, Interval]] = {}
    for one in results:
        rows = {
            row.taxon: Interval(row.abundance, row.low, row.high)
            for row in one.profile.rows
            if row.abundance and (row.rank == rank if rank else row.taxon in leaves)
        }
        by_sample[one.sample] = rows
        total.update({taxon: int(interval.value * 1e12) for taxon, interval in rows.items()})
    named = [taxon for taxon, _ in total.most_common(TAXA_WITH_INTERVALS)]
    if not named:
        return {}
    return {
        sample: {_unique(tree, taxon): rows[taxon] for taxon in named if taxon in rows}
        for sample, rows in by_sample.items()
    }


def _profile_table(results: Sequence[SampleResult]) -> DataTable:
    has_ranks, several = results[0].tree.has_taxonomy, len(results) > 1
    found = [(one.sample, row) for one in results for row in one.profile.rows]
    found.sort(key=lambda item: (-item[1].reads, -(item[1].abundance or 0.0)))
    shown = found[:PROFILE_ROWS]
    reads = Column("Reads", "count", "called here or below")
    columns: dict[Column, list[Any]] = {Column("Taxon"): [row.name for _, row in shown]}
    if several:
        columns[Column("Sample")] = [sample for sample, _ in shown]
    if has_ranks:
        columns[Column("Rank")] = [row.rank or None for _, row in shown]
    columns[Column("Taxid", "id")] = [row.taxid for _, row in shown]
    columns[reads] = [row.reads for _, row in shown]
    if has_ranks:
        columns[Column("Here", "count", "called at this very taxon")] = [row.direct for _, row in shown]
    abundance = Column("Abundance", "share", "estimated share of the organisms")
    columns[abundance] = [row.abundance for _, row in shown]
    if any(_has_intervals(one.profile) for one in results):
        columns[Column("From", "share", "lower end of the 95% interval")] = [row.low for _, row in shown]
        columns[Column("To", "share", "upper end of the 95% interval")] = [row.high for _, row in shown]
    if has_ranks:
        columns[Column("Lineage", "line")] = [row.lineage for _, row in shown]
    names = [column.name for column in columns]
    picks: dict[int, str | None] = {}
    if several:
        picks[names.index("Sample")] = None
    if has_ranks:
        picks[names.index("Rank")] = "species" if any(row.rank == "species" for _, row in shown) else None
    note = ""
    if len(found) > len(shown):
        note = f"The {len(shown):,} largest of {len(found):,} rows; the profile files have all."
    return DataTable(
        "All taxa",
        list(columns),
        list(zip(*columns.values(), strict=True)),
        filterable=True,
        note=note,
        unit="rows" if several else "taxa",
        sorted_by=(names.index("Reads"), "descending"),
        picks=picks,
    )


def _reads_section(results: Sequence[SampleResult]) -> Section:
    shown = [one for one in results if one.tally.reads][:SAMPLES_COLOURED]
    parts: list[Part] = []
    if shown:
        lengths = {one.sample: _lengths(one.tally) for one in shown}
        confidences = {one.sample: _confidences(one.tally) for one in shown}
        note = "An unclassified read has the confidence of the call that it would have had, refused or not sure enough."
        if len(shown) < len(results):
            note = f"The first {len(shown):,} of {len(results):,} samples. {note}"
        parts.append(Figure("Length and confidence", svg_text(histograms_figure(lengths, confidences)), note))
    reasons: Counter[str] = Counter()
    for one in results:
        reasons.update(one.tally.reasons)
    if any(reasons.values()):
        parts.append(_reasons(results) if len(results) > 1 else reasons_table(reasons, results[0].tally.reads))
    return Section("Reads", parts)


def _reasons(results: Sequence[SampleResult]) -> DataTable:
    names = list(dict.fromkeys(name for one in results for name, count in one.tally.reasons.items() if count))
    columns = [Column("Sample"), *(Column(name, "share", "of the sample's reads") for name in names)]
    rows = [
        [one.sample, *(one.tally.reasons.get(name, 0) / one.tally.reads if one.tally.reads else None for name in names)]
        for one in results
    ]
    return DataTable("Why reads are unclassified", columns, rows, filterable=len(rows) > 8, unit="samples")


def _lengths(tally: SampleTally) -> Histogram:
    return Histogram(tally.length_edges.astype(np.float64), tally.length_counts)


def _confidences(tally: SampleTally) -> Histogram:
    counts = tally.confidence_counts
    return Histogram(np.linspace(0, 1, len(counts) + 1), counts)
