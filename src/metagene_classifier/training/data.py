"""What a run trains on: labels, and the token stores for training and validation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from metagene_classifier.batching.framing import Framing, framing_for
from metagene_classifier.config import Config, DatasetConfig
from metagene_classifier.console import progress
from metagene_classifier.errors import ConfigError, DataError
from metagene_classifier.hub import encoder_config_for
from metagene_classifier.reads.files import expand_inputs
from metagene_classifier.reads.headers import HeaderPattern
from metagene_classifier.reads.labelled import LabelledRead, LabellingReport, LabelSource, labelled_reads
from metagene_classifier.reads.labels import Labels, infer_labels_from_files, read_label_table, read_mapping
from metagene_classifier.store.tokens import StoreReport, TokenStore, build_store, split_store
from metagene_classifier.tokenization.choice import check_fits, choose_tokenizer, context_of, vocabulary_of
from metagene_classifier.tokenization.tokenizer import ReadTokenizer

__all__ = ["TrainingData", "label_source", "labels_of", "load_training_data", "tokenizer_of"]


@dataclass(frozen=True)
class TrainingData:
    """Everything that a run reads from files.

    Attributes:
        labels: the classes, in the order of the head's outputs.
        train: reads to learn from.
        validation: reads to choose the best model by; may be empty.
        tokenizer: the encoder's.
        framing: how tokens become segments.
        warnings: lines for the user and the report.
    """

    labels: Labels
    train: TokenStore
    validation: TokenStore
    tokenizer: ReadTokenizer
    framing: Framing
    warnings: list[str] = field(default_factory=list)


def load_training_data(config: Config, tell: Callable[[str], None]) -> TrainingData:
    """Read, label, clean and tokenize a run's reads.

    Raises:
        MgcError: anything in the configuration or the files that keeps training from starting.
    """
    dataset = config.dataset
    if dataset.train_fasta is None:
        raise ConfigError("no training reads: give --train-fasta, or set dataset.train_fasta")
    tokenizer, max_length = tokenizer_of(config, tell)
    framing = framing_for(tokenizer, max_length, config.tokenizer.window_overlap)
    train_files = expand_inputs(dataset.train_fasta)
    labels = labels_of(dataset, train_files)
    if config.model.num_classes not in ("auto", len(labels)):
        raise ConfigError(
            f"model.num_classes is {config.model.num_classes} and the mapping has {len(labels)} classes: "
            "set it to auto, or give the mapping that it was meant for"
        )
    source = label_source(dataset)
    warnings: list[str] = []

    def load(files: Sequence[Path], what: str) -> TokenStore:
        return _load_store(files, what, config, labels, source, tokenizer, framing, warnings, tell)

    train = load(train_files, "training")
    if dataset.val_fasta is not None:
        validation = load(expand_inputs(dataset.val_fasta), "validation")
    else:
        train, validation = split_store(train, dataset.val_fraction, config.seed)
        if len(validation):
            warnings.append(
                f"no validation reads were given: {len(validation):,} of the training reads are held out "
                "(dataset.val_fraction), from the same regions of the genomes, so validation will look too good"
            )
    if not len(train):
        raise DataError("no training reads are left after holding some out: give more reads or --val-fasta")
    _check_classes(labels, train, validation, warnings)
    for line in warnings:
        tell(line)
    return TrainingData(labels, train, validation, tokenizer, framing, warnings)


def tokenizer_of(config: Config, tell: Callable[[str], None]) -> tuple[ReadTokenizer, int]:
    """The tokenizer that goes with the encoder, and the longest segment in tokens.

    Raises:
        TokenizerError: they do not go together.
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


def _load_store(
    files: Sequence[Path],
    what: str,
    config: Config,
    labels: Labels,
    source: LabelSource,
    tokenizer: ReadTokenizer,
    framing: Framing,
    warnings: list[str],
    tell: Callable[[str], None],
) -> TokenStore:
    labelling = LabellingReport()
    filling = StoreReport()
    reads = labelled_reads(files, labels, source, config.dataset.strict_classes, labelling)

    def counted() -> Iterator[LabelledRead]:
        with progress(unit="read", label=f"reading {what} reads") as bar:
            for item in reads:
                bar.update()
                yield item

    store = build_store(
        counted(),
        tokenizer,
        capacity=framing.capacity,
        long_reads=config.tokenizer.long_reads,
        report=filling,
    )
    tell(f"{what}: {len(store):,} reads of {len(labelling.classes_seen())} classes, {len(store.ids):,} tokens")
    told = [filling.cleaning.summary(), *labelling.faults(source)]
    if labelling.empty + filling.empty_reads:
        told.append(f"{labelling.empty + filling.empty_reads:,} reads without a base skipped")
    if filling.long_reads:
        done = "windows of one are drawn in training and all are averaged in evaluation"
        done = "cut" if config.tokenizer.long_reads == "truncate" else done
        told.append(f"{filling.long_reads:,} reads of more than {framing.capacity} tokens: {done}")
    warnings += [f"{what}: {line}" for line in told if line]
    return store


def _check_classes(labels: Labels, train: TokenStore, validation: TokenStore, warnings: list[str]) -> None:
    trained = set(train.classes.tolist())
    unseen = sorted(set(validation.classes.tolist()) - trained)
    if unseen:
        names = ", ".join(labels.names[index] for index in unseen[:10])
        raise DataError(
            f"{len(unseen)} classes stand in the validation reads and never in the training reads: {names}"
            f"{' and more' if len(unseen) > 10 else ''}: take them out, or give training reads of them"
        )
    if len(trained) < 2:
        raise DataError("the training reads are all of one class: a classifier needs two at least")
    without = [labels.names[index] for index in range(len(labels)) if index not in trained]
    if without:
        more = f" and {len(without) - 5} more" if len(without) > 5 else ""
        warnings.append(f"classes without a training read, never to be called: {', '.join(without[:5])}{more}")
