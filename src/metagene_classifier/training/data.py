"""What a run trains on: labels, and the reads of its stores for training and validation."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from metagene_classifier.batching.framing import Framing, framing_for
from metagene_classifier.config import Config, DatasetConfig
from metagene_classifier.console import progress
from metagene_classifier.errors import ConfigError, DataError
from metagene_classifier.hub import encoder_config_for
from metagene_classifier.reads.files import expand_inputs
from metagene_classifier.reads.headers import HeaderPattern
from metagene_classifier.reads.labelled import LabelSource
from metagene_classifier.reads.labels import Labels, infer_labels_from_files, read_label_table, read_mapping
from metagene_classifier.reads.taxonomy import Taxonomy
from metagene_classifier.store.bits import CHUNK_READS, Bits
from metagene_classifier.store.facts import is_store
from metagene_classifier.store.order import ReadOrder
from metagene_classifier.store.preparing.cached import cached_store
from metagene_classifier.store.preparing.pool import worker_count
from metagene_classifier.store.preparing.prepare import check_same
from metagene_classifier.store.preparing.request import PrepareRequest
from metagene_classifier.store.preparing.summary import warnings_of
from metagene_classifier.store.selection import Selection
from metagene_classifier.store.tokens import TokenStore
from metagene_classifier.tokenization.choice import check_fits, choose_tokenizer, context_of, vocabulary_of
from metagene_classifier.tokenization.tokenizer import ReadTokenizer
from metagene_classifier.training.strands import check_strands

__all__ = [
    "TrainingData",
    "check_lengths",
    "label_source",
    "labels_of",
    "load_training_data",
    "open_store",
    "store_named",
    "taxonomy_of",
    "tokenizer_of",
]

VALIDATION_VALUES = 2**28
"""Class scores of the validation reads that are held at once, where ``dataset.max_val_reads`` says nothing: 1 GiB."""


@dataclass(frozen=True)
class TrainingData:
    """Everything that a run reads from files.

    Attributes:
        labels: the classes, in the order of the head's outputs.
        train: reads to learn from.
        order: in which, and how often, every epoch takes them.
        validation: reads to choose the best model by; may be empty.
        tokenizer: the encoder's.
        framing: how tokens become segments.
        warnings: lines for the user and the report.
        taxonomy: of the classes, where one is named.
    """

    labels: Labels
    train: Selection
    order: ReadOrder
    validation: Selection
    tokenizer: ReadTokenizer
    framing: Framing
    warnings: list[str] = field(default_factory=list)
    taxonomy: Taxonomy | None = None


def load_training_data(config: Config, tell: Callable[[str], None]) -> TrainingData:
    """Open a run's stores, or prepare its files into stores of the cache, and choose the reads that it takes.

    Raises:
        MgcError: anything in the configuration or the files that keeps training from starting.
    """
    dataset = config.dataset
    if dataset.train_fasta is None:
        raise ConfigError("no training reads: give --train-fasta, or set dataset.train_fasta")
    tokenizer, max_length = tokenizer_of(config, tell)
    cut = config.tokenizer.long_reads == "truncate"
    framing = framing_for(tokenizer, max_length, config.tokenizer.window_overlap, first_only=cut)
    stored = store_named(dataset.train_fasta)
    files = [] if stored is not None else expand_inputs(dataset.train_fasta)
    if stored is not None and dataset.mapping_tsv is None:
        labels = TokenStore.open(stored).labels
    else:
        labels = labels_of(dataset, files)
    if config.model.num_classes not in ("auto", len(labels)):
        raise ConfigError(
            f"model.num_classes is {config.model.num_classes} and the mapping has {len(labels)} classes: "
            "set it to auto, or give the mapping that it was meant for"
        )
    taxonomy = taxonomy_of(dataset, labels)
    stores = _Stores(config, labels, label_source(dataset), tokenizer, tell)
    store = stores.of("training", files, stored)
    if dataset.val_fasta is None:
        held_out = dataset.val_fraction
        validation_store = store
    else:
        held_out = 0.0
        named = store_named(dataset.val_fasta)
        validation_store = stores.of("validation", [] if named else expand_inputs(dataset.val_fasta), named)
    warnings = [*stores.warnings, *(taxonomy.faults(labels) if taxonomy else [])]
    train = Selection.of(
        store, side="kept" if held_out else "all", fraction=held_out, seed=config.seed, max_reads=dataset.max_reads
    )
    if dataset.max_reads is not None and len(train) < dataset.max_reads:
        warnings.append(f"dataset.max_reads is {dataset.max_reads:,} and there are {len(train):,} reads: all are taken")
    most = dataset.max_val_reads or VALIDATION_VALUES // len(labels)
    if dataset.val_fasta is None and not held_out:
        validation = _none_of(store)
    else:
        validation = Selection.of(
            validation_store,
            side="held_out" if held_out else "all",
            fraction=held_out,
            seed=config.seed,
            max_reads=most,
        )
    if held_out and len(validation):
        warnings.append(
            f"no validation reads were given: {len(validation):,} of the training reads are held out "
            "(dataset.val_fraction), from the same regions of the genomes, so validation will look too good"
        )
    if dataset.max_val_reads is None and len(validation) == most:
        warnings.append(
            f"validation: {most:,} of the reads are drawn, whose scores for {len(labels):,} classes fill 1 GiB of "
            "memory (dataset.max_val_reads)"
        )
    if not len(train):
        raise DataError("no training reads are left after holding some out: give more reads or --val-fasta")
    for what, selection in (("training", train), ("validation", validation)):
        check_lengths(what, selection, framing, config.tokenizer.long_reads, warnings)
    _check_classes(labels, train, validation, drawn=dataset.max_reads is not None, warnings=warnings)
    order = ReadOrder(
        train,
        sampling=dataset.sampling if isinstance(dataset.sampling, str) else dataset.sampling.per_class,
        shuffle=dataset.shuffle,
        buffer=dataset.shuffle_buffer,
        seed=config.seed,
    )
    if len(train) < len(store) - (len(validation) if held_out else 0) or dataset.sampling != "natural":
        tell(f"training on {len(train):,} reads, {order.reads_per_epoch:,} in an epoch")
    for line in warnings:
        tell(line)
    return TrainingData(labels, train, order, validation, tokenizer, framing, warnings, taxonomy)


def store_named(reads: str | Sequence[str]) -> Path | None:
    """The store's folder that is named where files of reads may be; ``None`` where files are.

    Raises:
        ConfigError: a store is named among others.
    """
    names = [reads] if isinstance(reads, str) else list(reads)
    folders = [Path(name) for name in names if name != "-" and is_store(Path(name))]
    if folders and len(names) > 1:
        raise ConfigError(
            f"{folders[0]} is a store, and a run reads one store alone: mgc prepare takes several files into one"
        )
    return folders[0] if folders else None


def tokenizer_of(config: Config, tell: Callable[[str], None]) -> tuple[ReadTokenizer, int]:
    """The tokenizer that goes with the encoder, and the longest segment in tokens.

    Raises:
        TokenizerError: they do not go together.
        ConfigError: both strands are to be learned from, and its tokens are not bases.
    """
    model, asked = config.model, config.tokenizer
    tokenizer = choose_tokenizer(
        name_or_path=asked.name_or_path,
        use_hf_tokenizer=asked.use_hf_tokenizer,
        encoder=model.encoder_path,
        revision=model.revision,
        encoder_is_new=model.init == "random",
        add_bos=asked.add_bos,
        add_eos=asked.add_eos,
        trust_remote_code=model.trust_remote_code,
        tell=tell,
    )
    facts = encoder_config_for(model.encoder_path, model.revision, trust_remote_code=model.trust_remote_code)
    max_length = check_fits(
        tokenizer,
        vocab_size=vocabulary_of(facts, model.encoder_path),
        context=context_of(facts),
        max_length=asked.max_length,
        tell=tell,
    )
    check_strands(config.training.reverse_complement, tokenizer)
    return tokenizer, max_length


def labels_of(dataset: DatasetConfig, files: Sequence[Path]) -> Labels:
    """The classes: from the mapping, or from the names of one-class files.

    Raises:
        ConfigError: there is no mapping where one is needed.
        DataError: the mapping cannot be used.
    """
    if dataset.mapping_tsv is not None:
        return read_mapping(dataset.mapping_tsv, dataset.class_column, dataset.label_column, dataset.tax_column)
    if dataset.labels_from == "filename":
        return infer_labels_from_files(files)
    raise ConfigError(
        "no table of classes: give --mapping-tsv (class_id, label_name, tax_id), or set dataset.mapping_tsv"
    )


def taxonomy_of(dataset: DatasetConfig, labels: Labels) -> Taxonomy | None:
    """The classes' taxa and all above them, where a taxonomy is named.

    Raises:
        DataError: it cannot be read.
    """
    if dataset.taxonomy is None:
        return None
    return Taxonomy.read(dataset.taxonomy, [taxid for taxid in labels.taxids if taxid is not None])


def label_source(dataset: DatasetConfig) -> LabelSource:
    """Where a read's class stands.

    Raises:
        DataError: the table of labels cannot be used.
    """
    if dataset.labels_from == "tsv":
        return LabelSource(table=read_label_table(str(dataset.labels_tsv)))
    if dataset.labels_from == "filename":
        return LabelSource()
    return LabelSource(pattern=HeaderPattern(dataset.header_regex))


@dataclass
class _Stores:
    """The stores of a run: opened and checked where a folder is named, prepared in the cache where files are."""

    config: Config
    labels: Labels
    source: LabelSource
    tokenizer: ReadTokenizer
    tell: Callable[[str], None]
    warnings: list[str] = field(default_factory=list)

    def of(self, what: str, files: list[Path], folder: Path | None) -> TokenStore:
        dataset = self.config.dataset
        request = PrepareRequest(
            files=files,
            labels=self.labels,
            source=self.source,
            labels_from=dataset.labels_from,
            strict=dataset.strict_classes,
            tokenizer=self.tokenizer,
        )
        if folder is None:
            store = cached_store(request, workers=worker_count(dataset.prepare_workers), tell=self.tell)
        else:
            store = open_store(folder, request, what)
        present = int(np.count_nonzero(store.reads_per_class))
        self.tell(f"{what}: {len(store):,} reads of {present} classes, {store.total_tokens:,} tokens")
        self.warnings += [f"{what}: {line}" for line in warnings_of(store)]
        return store


def open_store(folder: Path, request: PrepareRequest, what: str) -> TokenStore:
    """Open a prepared store that a run names, and check it: what it was made with, and every byte of it.

    Args:
        folder: the store's.
        request: what the run would have prepared; it names no files.
        what: the reads, in a word.

    Raises:
        DataError: it is no whole store, was made with something else than the run asks for, or is damaged.
    """
    store = TokenStore.open(folder)
    check_same(store, request)
    _check_whole(store, what)
    return store


def _check_whole(store: TokenStore, what: str) -> None:
    """Every byte of a store is read once before a run, by one process of a machine."""
    if os.environ.get("LOCAL_RANK", "0") != "0":
        return
    total = sum(shard.bytes for shard in store.facts.shards)
    with progress(total=total, unit="B", label=f"checking the {what} store") as bar:
        damaged = store.damaged(seen=bar.update)
    if damaged:
        more = f" and {len(damaged) - 5} more" if len(damaged) > 5 else ""
        raise DataError(
            f"{store.folder}: damaged: {', '.join(damaged[:5])}{more}: run the same mgc prepare again, which makes "
            "damaged shards anew and leaves the others"
        )


def _none_of(store: TokenStore) -> Selection:
    return Selection(store, Bits(len(store)), np.zeros(len(store.labels), np.int64), 0, 0)


def check_lengths(what: str, selection: Selection, framing: Framing, long_reads: str, warnings: list[str]) -> None:
    """Tell how many reads are longer than a segment, or refuse them; the store is scanned only where there are any.

    Args:
        what: the reads, in a word.
        selection: those that are taken.
        framing: of the run.
        long_reads: ``tokenizer.long_reads``.
        warnings: a line is added.

    Raises:
        DataError: there are some, and ``long_reads`` is ``error``.
    """
    capacity, store = framing.capacity, selection.store
    if selection.longest <= capacity:
        return
    count, longest = 0, -1
    for first in range(0, len(store), CHUNK_READS):
        end = min(first + CHUNK_READS, len(store))
        lengths = np.where(selection.mask(first, end), store.columns(first, end).lengths, 0)
        count += int((lengths > capacity).sum())
        if longest < 0 and int(lengths.max()) == selection.longest:
            longest = first + int(lengths.argmax())
    if long_reads == "error":
        raise DataError(
            f"{what}: {count:,} reads have more tokens than fit at once ({capacity}); the longest has "
            f"{selection.longest:,}{_whereabouts(store, longest)} (tokenizer.long_reads: error): shorten them, or set "
            "tokenizer.long_reads to window or truncate"
        )
    done = "cut" if framing.first_only else "windows of one are drawn in training and all are averaged in evaluation"
    warnings.append(f"{what}: {count:,} reads of more than {capacity} tokens: {done}")


def _whereabouts(store: TokenStore, read: int) -> str:
    """Where a read stands, as far as the store knows."""
    name = store.read_id(read)
    if name is not None:
        return f", {name}"
    first = 0
    for shard in store.facts.shards:
        first += shard.reads
        if read < first and shard.source.input < len(store.facts.inputs):
            return f", in {store.facts.inputs[shard.source.input].path}"
    return ""


def _check_classes(
    labels: Labels, train: Selection, validation: Selection, *, drawn: bool, warnings: list[str]
) -> None:
    trained = train.reads_per_class > 0
    unseen = np.flatnonzero((validation.reads_per_class > 0) & ~trained).tolist()
    if unseen and not drawn:
        names = ", ".join(labels.names[index] for index in unseen[:10])
        raise DataError(
            f"{len(unseen)} classes stand in the validation reads and never in the training reads: {names}"
            f"{' and more' if len(unseen) > 10 else ''}: take them out, or give training reads of them"
        )
    if np.count_nonzero(trained) < 2:
        raise DataError("the training reads are all of one class: a classifier needs two at least")
    without = [labels.names[index] for index in np.flatnonzero(~trained).tolist()]
    if without:
        more = f" and {len(without) - 5} more" if len(without) > 5 else ""
        warnings.append(f"classes without a training read, never to be called: {', '.join(without[:5])}{more}")
