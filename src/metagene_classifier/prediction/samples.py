"""One call for each sample of a CSV that holds its sequences: sample and sequence, a row each."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import numpy.typing as npt

from metagene_classifier.errors import DataError
from metagene_classifier.prediction.calling import Caller
from metagene_classifier.prediction.scorer import Scorer
from metagene_classifier.prediction.stream_report import StreamReport
from metagene_classifier.reads.labels import UNCLASSIFIED
from metagene_classifier.reads.read import Read
from metagene_classifier.whole_files import whole_file

__all__ = ["call_samples"]


def call_samples(
    scorer: Scorer,
    caller: Caller,
    *,
    source: str,
    output: Path,
    aggregation: str,
    sample_column: str,
    sequence_column: str,
    probabilities: bool,
    report: StreamReport,
) -> int:
    """Write ``sample,call,taxid,confidence,reads`` for each sample, in the order of its first row.

    Args:
        scorer: class scores.
        caller: of the model; its calibrated probabilities count.
        source: CSV with a header row.
        output: CSV, or ``-``.
        aggregation: ``mean``, ``max`` or ``sum`` of the reads' probabilities, scaled to add up to 1 over the classes.
        sample_column: name of the column with the sample.
        sequence_column: name of the column with the sequence.
        probabilities: add a column ``prob_<label>`` for each class.
        report: filled on the way.

    Returns:
        How many samples there are.

    Raises:
        DataError: the CSV lacks a column, or holds no row.
    """
    labels = caller.labels
    totals: dict[str, npt.NDArray[np.float64]] = {}
    counts: dict[str, int] = {}
    for block in scorer.stream(_rows(Path(source), sample_column, sequence_column), report):
        probabilities_of_reads = caller.probabilities(caller.units(block))
        for read, bases, row in zip(block.reads, block.bases, probabilities_of_reads, strict=True):
            total = totals.setdefault(read.header, np.zeros(len(labels)))
            counts.setdefault(read.header, 0)
            if not bases:
                continue
            counts[read.header] += 1
            if aggregation == "max":
                np.maximum(total, row, out=total)
            else:
                total += row
    if not totals:
        raise DataError(f"{source}: no row below the header: give sequences in column {sequence_column!r}")
    to_file = str(output) != "-"
    with whole_file(output, keep_partial=True) if to_file else nullcontext(sys.stdout) as out:
        writer = csv.writer(out, lineterminator="\n")
        names = [f"prob_{name}" for name in labels.names] if probabilities else []
        writer.writerow(["sample", "call", "taxid", "confidence", "reads", *names])
        for sample, total in totals.items():
            share = total / total.sum() if total.sum() else total
            best = int(share.argmax())
            label = labels.classes[best]
            known = counts[sample] > 0
            shares = [f"{value:.6f}" for value in share] if probabilities else []
            call = label.label if known else UNCLASSIFIED
            taxid = label.taxid if known and label.taxid is not None else ""
            writer.writerow([sample, call, taxid, f"{share[best]:.6f}", counts[sample], *shares])
    return len(totals)


def _rows(path: Path, sample_column: str, sequence_column: str) -> Iterator[Read]:
    """Rows as reads whose header is the sample's name."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as handle:
            rows = csv.DictReader(handle)
            columns = rows.fieldnames or []
            for name, option in ((sample_column, "--sample-column"), (sequence_column, "--sequence-column")):
                if name not in columns:
                    raise DataError(f"{path}: no column {name!r} ({option}): it has {', '.join(columns) or 'none'}")
            for row in rows:
                sample, sequence = row[sample_column], row[sequence_column]
                if sample is None or sequence is None:
                    raise DataError(f"{path}, line {rows.line_num}: fewer cells than the header has")
                yield Read(sample, sequence)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except IsADirectoryError as error:
        raise DataError(f"{path} is a folder: give a CSV file") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a CSV file: {error}") from error
