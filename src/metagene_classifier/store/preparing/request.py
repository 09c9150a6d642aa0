"""What a store is asked to be made of, and how that differs from what another one was made of."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from metagene_classifier.errors import DataError
from metagene_classifier.reads.files import sequence_stem
from metagene_classifier.reads.labelled import LabelSource
from metagene_classifier.reads.labels import Labels
from metagene_classifier.store.facts import InputFacts, LabellingFacts, TokenizerFacts
from metagene_classifier.store.preparing.digests import input_facts
from metagene_classifier.tokenization.tokenizer import ReadTokenizer

__all__ = [
    "STDIN",
    "Identity",
    "PrepareRequest",
    "differences",
    "identity_of",
    "input_differences",
]

STDIN = "-"


@dataclass(frozen=True)
class PrepareRequest:
    """What a store is to hold.

    Attributes:
        files: FASTA or FASTQ files, in this order; ``-`` is standard input.
        labels: the classes.
        source: where a read's class stands.
        labels_from: the same in the configuration's word: header, tsv or filename.
        strict: whether reads without a class among ``labels`` are an error. It is raised when all are counted, and
            does not change what is prepared.
        tokenizer: the encoder's.
        read_ids: whether the reads' names are kept.
    """

    files: list[Path]
    labels: Labels
    source: LabelSource
    labels_from: str
    strict: bool
    tokenizer: ReadTokenizer
    read_ids: bool = False


@dataclass(frozen=True)
class Identity:
    """All that decides what stands in a store, its inputs aside."""

    tokenizer: TokenizerFacts
    labelling: LabellingFacts
    read_ids: bool


def identity_of(request: PrepareRequest) -> Identity:
    """What a request asks for, its inputs and labels aside."""
    tokenizer, source = request.tokenizer, request.source
    table = None
    if source.table is not None:
        digest = hashlib.sha256()
        for name, word in source.table.items():
            digest.update(json.dumps([name, word]).encode())
        table = digest.hexdigest()
    return Identity(
        TokenizerFacts(kind=tokenizer.kind, name=tokenizer.name, fingerprint=tokenizer.fingerprint),
        LabellingFacts(
            labels_from=request.labels_from,
            header_regex=source.pattern.regex if source.pattern is not None else None,
            labels_table_sha256=table,
            strict_classes=request.strict,
        ),
        request.read_ids,
    )


def differences(
    made: Identity, made_labels: Labels, asked: Identity, labels: Labels, *, with_files: bool = True
) -> list[str]:
    """How a store's making differs from a request, inputs aside; a line each, in the user's words.

    Args:
        made: of the store.
        made_labels: its classes.
        asked: of the request.
        labels: its classes.
        with_files: whether the request names files to prepare, and not the store alone.
    """
    found = []
    if made.tokenizer.fingerprint != asked.tokenizer.fingerprint:
        found.append(
            f"tokenizer: the store's tokens are {made.tokenizer.name}'s ({made.tokenizer.fingerprint[:12]}), this run "
            f"takes {asked.tokenizer.name}'s ({asked.tokenizer.fingerprint[:12]})"
        )
    was, now = made.labelling, asked.labelling
    if not with_files and was.labels_from != "header" and now.labels_from == "header":
        pass  # the store knows its reads' classes, and the files or tables that they came from need not be there
    elif was.labels_from != now.labels_from:
        found.append(f"dataset.labels_from: {was.labels_from} in the store, {now.labels_from} here")
    elif was.header_regex != now.header_regex:
        found.append(f"dataset.header_regex: '{was.header_regex}' in the store, '{now.header_regex}' here")
    elif was.labels_table_sha256 != now.labels_table_sha256:
        found.append("dataset.labels_tsv: the store was made with a table of other content")
    if made_labels != labels:
        found.append(f"dataset.mapping_tsv: {_difference_of_labels(made_labels, labels)}")
    return found


def input_differences(made: Sequence[InputFacts], files: Sequence[Path], labels_from: str) -> list[str]:
    """How the files that a store was made from differ from those named now; a line each.

    Where size and time of change are the same, a file is taken for the same; otherwise its content is compared.
    """
    if len(made) != len(files):
        return [f"the store was made from {len(made)} files, {len(files)} are named here"]
    found = []
    for was, path in zip(made, files, strict=True):
        if STDIN in (was.path, str(path)):
            found.append("the store was made from standard input, which cannot be compared")
            continue
        if labels_from == "filename" and sequence_stem(Path(was.path).name) != sequence_stem(path.name):
            found.append(f"the store was made from {was.path}, and {path} gives another class")
            continue
        try:
            status = path.stat()
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror}") from error
        same_name = was.path == str(path.absolute())
        if status.st_size != was.bytes:
            why = f"which changed since: it had {was.bytes:,} bytes and has {status.st_size:,}" if same_name else ""
        elif status.st_mtime_ns != was.mtime_ns and input_facts(path).sha256 != was.sha256:
            why = "which changed since: its content is another" if same_name else ""
        else:
            continue
        found.append(f"it was made from {was.path}, {why or f'and {path} has another content'}")
    return found


def _difference_of_labels(made: Labels, labels: Labels) -> str:
    if len(made) != len(labels):
        return f"{len(made)} classes in the store, {len(labels)} here"
    was, now = next((a, b) for a, b in zip(made.classes, labels.classes, strict=True) if a != b)
    if was.class_id != now.class_id:
        return (
            f"class {was.class_id} ({was.label}) in the store stands where class {now.class_id} ({now.label}) does here"
        )
    if was.label != now.label:
        return f"class {was.class_id} is {was.label} in the store and {now.label} here"
    taxids = f"taxid {was.taxid or 'none'} in the store and {now.taxid or 'none'} here"
    return f"class {was.class_id} ({was.label}) has {taxids}"
