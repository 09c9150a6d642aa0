"""Stores made on the spot from given tokens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from metagene_classifier.reads.labels import ClassLabel, Labels, write_mapping
from metagene_classifier.store.facts import (
    MAPPING_FILE,
    LabellingFacts,
    ShardFacts,
    SourceFacts,
    StoreFacts,
    TokenizerFacts,
    reads_per_class_of,
    shard_name,
    write_shard_facts,
    write_store_facts,
)
from metagene_classifier.store.shards import write_shard
from metagene_classifier.store.tokens import TokenStore

TOKENIZER = TokenizerFacts(kind="huggingface", name="metagene-1", fingerprint="0" * 64)


def labels_of(classes: int) -> Labels:
    """``class 0``, ``class 1`` and so on."""
    return Labels(tuple(ClassLabel(str(index), f"class {index}") for index in range(classes)))


def store_of(
    folder: Path,
    reads: Sequence[tuple],
    *,
    classes: int | Labels | None = None,
    shards: int | Sequence[int] = 1,
    read_ids: Sequence[str] | None = None,
    tokenizer: TokenizerFacts = TOKENIZER,
    dtype: type = np.uint16,
) -> TokenStore:
    """A store in ``folder``.

    Args:
        folder: is made.
        reads: ``(tokens, class)`` or ``(tokens, class, group)``; a group of its own for each read by default.
        classes: how many, or their labels; as many as the reads need by default.
        shards: how many of about the same number of reads, or the reads of each.
        read_ids: a name for each read.
        tokenizer: that is said to have made the tokens.
        dtype: of the ids.
    """
    if classes is None:
        classes = 1 + max((read[1] for read in reads), default=0)
    labels = classes if isinstance(classes, Labels) else labels_of(classes)
    if isinstance(shards, int):
        shards = [len(part) for part in np.array_split(np.arange(len(reads)), shards)]
    assert sum(shards) == len(reads)
    folder.mkdir(parents=True, exist_ok=True)
    write_mapping(folder / MAPPING_FILE, labels)
    facts = []
    first = 0
    for number, size in enumerate(shards):
        part = reads[first : first + size]
        facts.append(_shard_of(folder, shard_name(number), part, first, read_ids, dtype))
        first += size
    write_store_facts(
        folder,
        StoreFacts(
            package_version="0",
            tokenizer=tokenizer,
            labelling=LabellingFacts(labels_from="header", strict_classes=True),
            classes_sha256=labels.fingerprint(),
            inputs=(),
            ids_dtype=np.dtype(dtype).name,
            read_ids=read_ids is not None,
            shards=tuple(facts),
            reads_per_class=reads_per_class_of(facts),
        ),
    )
    return TokenStore.open(folder)


def _shard_of(folder, name, part, first, read_ids, dtype) -> ShardFacts:
    lengths = np.array([len(read[0]) for read in part], np.int64)
    classes = np.array([read[1] for read in part], np.int32)
    written, sha256 = write_shard(
        folder,
        name,
        ids=np.array([token for read in part for token in read[0]], dtype),
        lengths=lengths,
        classes=classes,
        groups=np.array([read[2] if len(read) > 2 else first + row for row, read in enumerate(part)], np.uint64),
        read_ids=None if read_ids is None else read_ids[first : first + len(part)],
    )
    present, counts = np.unique(classes, return_counts=True)
    facts = ShardFacts(
        name=name,
        reads=len(part),
        tokens=int(lengths.sum()),
        bytes=written,
        sha256=sha256,
        longest=int(lengths.max(initial=0)),
        reads_per_class=dict(zip(present.tolist(), counts.tolist(), strict=True)),
        source=SourceFacts(input=0, first_byte=0, text_bytes=0, first_record=1, first_line=1),
    )
    write_shard_facts(folder, facts)
    return facts
