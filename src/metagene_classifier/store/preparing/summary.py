"""What came out of preparing: for ``store.json``, for the user, and as the warnings of a run that trains on it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from metagene_classifier.reads.headers import HeaderPattern
from metagene_classifier.reads.labelled import LabelSource
from metagene_classifier.store.facts import ShardEntry
from metagene_classifier.store.preparing.noticed import Noticed
from metagene_classifier.store.tokens import TokenStore
from metagene_classifier.tokenization.histogram import Histogram

__all__ = ["summary_lines", "summary_of", "warnings_of"]

CLASSES_SHOWN = 20


def summary_of(noticed: Noticed, tokens: int, shards: Sequence[ShardEntry]) -> dict[str, Any]:
    """The summary that ``store.json`` keeps."""
    lengths = Histogram(
        counts=noticed.lengths,
        total=noticed.labelled,
        sum=tokens,
        shortest=min(noticed.lengths, default=0),
        longest=max((shard.longest for shard in shards), default=0),
    )
    return {
        "token_lengths": lengths.summary(),
        "noticed": noticed.as_json(),
    }


def warnings_of(store: TokenStore) -> list[str]:
    """What was cleaned and what was skipped, a line each; empty when nothing was."""
    if "noticed" not in store.facts.summary:
        return []
    noticed = Noticed.from_json(store.facts.summary["noticed"])
    report = noticed.labelling([Path(made.path) for made in store.facts.inputs])
    told = [noticed.cleaning.summary(), *report.faults(_source_of(store))]
    if noticed.empty:
        told.append(f"{noticed.empty:,} reads without a base skipped")
    return [line for line in told if line]


def summary_lines(store: TokenStore) -> list[str]:
    """What ``mgc prepare`` prints at its end."""
    facts = store.facts
    stored = sum(shard.bytes for shard in facts.shards)
    lines = [
        f"{store.folder}: {len(store):,} reads of {len(facts.reads_per_class)} classes, {store.total_tokens:,} tokens, "
        f"{len(facts.shards)} shards, {stored / 1e6:,.1f} MB",
        "",
        f"{'reads':>13}  class",
    ]
    ordered = sorted(facts.reads_per_class.items(), key=lambda item: (-item[1], item[0]))
    lines += [f"{reads:>13,}  {store.labels.names[index]}" for index, reads in ordered[:CLASSES_SHOWN]]
    rest = ordered[CLASSES_SHOWN:]
    if rest:
        reads = sum(count for _, count in rest)
        lines.append(f"{reads:>13,}  in {len(rest):,} more classes of {rest[-1][1]:,} to {rest[0][1]:,} reads")
    without = len(store.labels) - len(ordered)
    if without:
        lines.append(f"{0:>13}  in each of {without:,} more classes")
    if "noticed" in facts.summary:
        noticed = Noticed.from_json(facts.summary["noticed"])
        lengths = Histogram(
            counts=noticed.lengths,
            total=noticed.labelled,
            sum=store.total_tokens,
            shortest=min(noticed.lengths, default=0),
            longest=store.longest,
        )
        lines += ["", *lengths.lines("tokens")]
    warnings = warnings_of(store)
    return [*lines, "", *warnings] if warnings else lines


def _source_of(store: TokenStore) -> LabelSource:
    """Enough of the source to say what was wrong with a read that has no class."""
    labelling = store.facts.labelling
    if labelling.header_regex is not None:
        return LabelSource(pattern=HeaderPattern(labelling.header_regex))
    return LabelSource(table={} if labelling.labels_table_sha256 is not None else None)
