"""``mgc check-data``: everything up to the batch, and all that is wrong with it at once."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from metagene_classifier.cli.options import TRAINING_OPTIONS, config_from, config_options
from metagene_classifier.console import say
from metagene_classifier.errors import ConfigError, MgcError, nearest
from metagene_classifier.whole_files import check_output_file, whole_file

if TYPE_CHECKING:
    from metagene_classifier.config import Config, DatasetConfig
    from metagene_classifier.reads.labelled import LabelSource
    from metagene_classifier.reads.labels import Labels
    from metagene_classifier.store.tokens import TokenStore
    from metagene_classifier.tokenization.survey import FileSurvey
    from metagene_classifier.tokenization.tokenizer import ReadTokenizer

__all__ = ["command"]

Result = TypeVar("Result")
CLASSES_SHOWN = 20
UNBALANCED = 10  # times as many reads in the largest class as in the smallest


@click.command("check-data")
@config_options(*TRAINING_OPTIONS)
@click.option("--max-reads", type=click.IntRange(min=1), default=None, help="Look at the first N reads of each file.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), default=None, help="Write the figures here.")
def command(
    config: Path | None, settings: tuple[str, ...], max_reads: int | None, json_path: Path | None, **options: Any
) -> None:
    """Check reads, labels and tokenizer before training; no model, no GPU.

    Takes the options of `mgc train`. Ends with exit code 0 when training would start, and with 1 otherwise, after all
    that has to be mended.
    """
    resolved = config_from(config, settings, options, say)
    if json_path is not None:
        check_output_file(json_path, _inputs(resolved.dataset))
    check = _check(resolved, max_reads)
    print("\n".join(_lines(check, resolved, max_reads)))
    if json_path is not None:
        with whole_file(json_path) as handle:
            json.dump(_facts(check), handle, indent=2)
    if check.problems:
        sys.exit(1)


@dataclass
class _Check:
    """What was found; ``None`` and empty where it could not be looked at."""

    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    tokenizer: ReadTokenizer | None = None
    max_length: int = 0
    labels: Labels | None = None
    surveys: dict[str, list[FileSurvey]] = field(default_factory=dict)
    stores: dict[str, TokenStore] = field(default_factory=dict)

    def attempt(self, work: Callable[[], Result], split: str = "training") -> Result | None:
        """What ``work`` returns; ``None`` when it meets a user's error, which is noted."""
        try:
            return work()
        except MgcError as error:
            self.serious(split).extend(str(error).splitlines())
            return None

    def serious(self, split: str) -> list[str]:
        """Where a fault of a split's reads is noted: training starts without looking at the test reads."""
        return self.warnings if split == "test" else self.problems

    @property
    def splits(self) -> list[str]:
        """Those that were looked at."""
        return [split for split in ("training", "validation", "test") if split in self.stores or split in self.surveys]

    def reads_of(self, split: str) -> list[int]:
        """Reads of each class; ``(classes,)``."""
        assert self.labels is not None
        if split in self.stores:
            return [int(reads) for reads in self.stores[split].reads_per_class]
        columns = [survey.labelling.per_class for survey in self.surveys.get(split, [])]
        return [sum(column[index] for column in columns) for index in range(len(self.labels))]


def _check(config: Config, max_reads: int | None) -> _Check:
    from metagene_classifier.reads.files import expand_inputs
    from metagene_classifier.store.tokens import TokenStore
    from metagene_classifier.tokenization.survey import survey_file
    from metagene_classifier.training.data import label_source, labels_of, store_named, taxonomy_of, tokenizer_of

    check = _Check(max_length=config.tokenizer.max_length)
    fitted = check.attempt(lambda: tokenizer_of(config, check.warnings.append))
    if fitted is not None:
        check.tokenizer, check.max_length = fitted
        check.attempt(lambda: _check_model(config))
    dataset = config.dataset
    asked = {"training": dataset.train_fasta, "validation": dataset.val_fasta, "test": dataset.test_fasta}
    if dataset.train_fasta is None:
        check.problems.append("no training reads: give --train-fasta, or set dataset.train_fasta")
    stores: dict[str, Path] = {}
    files: dict[str, list[Path]] = {}
    for split, inputs in asked.items():
        if inputs is None:
            continue
        named = None if split == "test" else check.attempt(partial(store_named, inputs), split)
        if named is not None:
            stores[split] = named
        else:
            files[split] = check.attempt(partial(expand_inputs, inputs), split) or []
    if "training" in stores and dataset.mapping_tsv is None:
        check.labels = check.attempt(lambda: TokenStore.open(stores["training"]).labels)
    else:
        check.labels = check.attempt(lambda: labels_of(dataset, files.get("training", []))) or None
    source = check.attempt(lambda: label_source(dataset))
    if check.labels is not None:
        _check_labels(check, config, check.labels)
        taxonomy = check.attempt(partial(taxonomy_of, dataset, check.labels))
        check.warnings += taxonomy.faults(check.labels) if taxonomy is not None else []
    for split, folder in stores.items():
        if source is not None:
            check.attempt(partial(_look_at_store, check, config, split, folder, source), split)
    for split, paths in files.items():
        check.surveys[split] = [
            survey_file(
                path,
                labels=check.labels,
                source=source,
                tokenizer=check.tokenizer,
                max_length=check.max_length,
                max_reads=max_reads,
            )
            for path in paths
        ]
        _check_split(check, config, split, source)
    if check.labels is not None and ("training" in check.stores or check.surveys.get("training")):
        _check_classes(check, check.labels)
    _check_validation(check, config, files)
    return check


def _look_at_store(check: _Check, config: Config, split: str, folder: Path, source: LabelSource) -> None:
    """A prepared store: whole, made with what the run asks for, and with no read that it would refuse."""
    from metagene_classifier.batching.framing import framing_for
    from metagene_classifier.store.preparing.request import PrepareRequest
    from metagene_classifier.store.preparing.summary import warnings_of
    from metagene_classifier.store.selection import Selection
    from metagene_classifier.training.data import check_lengths, open_store

    dataset, asked = config.dataset, config.tokenizer
    if check.labels is None or check.tokenizer is None:
        return
    request = PrepareRequest([], check.labels, source, dataset.labels_from, dataset.strict_classes, check.tokenizer)
    store = open_store(folder, request, split)
    check.stores[split] = store
    check.warnings.extend(f"{split}: {line}" for line in warnings_of(store))
    framing = framing_for(
        check.tokenizer, check.max_length, asked.window_overlap, first_only=asked.long_reads == "truncate"
    )
    check_lengths(split, Selection.of(store), framing, asked.long_reads, check.warnings)


def _inputs(dataset: DatasetConfig) -> list[str]:
    """Every file that the check reads, where it is named by itself."""
    named = (dataset.train_fasta, dataset.val_fasta, dataset.test_fasta, dataset.mapping_tsv, dataset.labels_tsv)
    return [file for one in named if one is not None for file in ([one] if isinstance(one, str) else one)]


def _check_model(config: Config) -> None:
    """What of the model shows without loading or fetching it."""
    from metagene_classifier.hub import is_local, resolve_encoder_folder

    model = config.model
    if model.device_map is not None:
        raise ConfigError("model.device_map: auto is for prediction: training places the encoder itself, leave it out")
    if model.init == "pretrained" and is_local(model.encoder_path):
        resolve_encoder_folder(model.encoder_path, model.revision, weights=True)


def _check_labels(check: _Check, config: Config, labels: Labels) -> None:
    if config.model.num_classes not in ("auto", len(labels)):
        check.problems.append(
            f"model.num_classes is {config.model.num_classes} and the mapping has {len(labels)} classes: set it to auto"
        )
    weights = config.loss.class_weights
    for name in weights if isinstance(weights, dict) else ():
        if name not in labels.names:
            check.problems.append(f"loss.class_weights: no class is called {name!r}{nearest(name, labels.names)}")


def _check_split(check: _Check, config: Config, split: str, source: LabelSource | None) -> None:
    surveys, serious = check.surveys[split], check.serious(split)
    for survey in surveys:
        if survey.failure is not None:
            serious.append(survey.failure)
        for fault in survey.labelling.faults(source) if source is not None else ():
            if config.dataset.strict_classes:
                serious.append(f"{survey.path}: {fault} (dataset.strict_classes: false skips such reads)")
            else:
                check.warnings.append(f"{survey.path}: skipped: {fault}")
        if survey.longer:
            line = f"{survey.path}: reads of more than {check.max_length:,} tokens ({survey.longer:,})"
            outcome = {
                "window": "become overlapping windows (tokenizer.long_reads: window)",
                "truncate": "are cut (tokenizer.long_reads: truncate)",
                "error": "are refused (tokenizer.long_reads: error): shorten them, or set window or truncate",
            }[config.tokenizer.long_reads]
            found = serious if config.tokenizer.long_reads == "error" else check.warnings
            found.append(f"{line} {outcome}")
        if survey.unknown_tokens:
            check.warnings.append(f"{survey.path}: {survey.unknown_tokens:,} tokens are unknown to the tokenizer")
    reads = sum(survey.labelling.reads for survey in surveys)
    if reads and not any(survey.labelling.labelled for survey in surveys):
        serious.append(f"{split}: not one of {reads:,} reads has a class")


def _check_classes(check: _Check, labels: Labels) -> None:
    whole = all(survey.whole for survey in check.surveys.get("training", []))
    serious = check.problems if whole else check.warnings
    so_far = "" if whole else " (as far as the training reads were read)"
    train, validation = check.reads_of("training"), check.reads_of("validation")
    seen = [name for name, reads in zip(labels.names, train, strict=True) if reads]
    without = [name for name, reads in zip(labels.names, train, strict=True) if not reads]
    if len(seen) == 1:
        serious.append(f"the training reads are all of one class, {seen[0]}: a classifier needs two at least{so_far}")
    if without and seen:
        check.warnings.append(f"classes without a training read, never to be called: {_some(without)}{so_far}")
    fewest, most = min((reads for reads in train if reads), default=0), max(train, default=0)
    if fewest and most > UNBALANCED * fewest:
        check.warnings.append(
            f"the largest class has {most / fewest:,.0f} times the training reads of the smallest: "
            f"consider loss.class_weights: balanced{so_far}"
        )
    unseen = [name for name, a, b in zip(labels.names, train, validation, strict=True) if b and not a]
    if unseen:
        serious.append(
            f"classes that stand in the validation reads and never in the training reads: {_some(unseen)}: "
            f"take them out, or give training reads of them{so_far}"
        )


def _check_validation(check: _Check, config: Config, files: dict[str, list[Path]]) -> None:
    shared = [str(path) for path in files.get("validation", []) if path in files.get("training", [])]
    if shared:
        check.warnings.append(f"the same file for training and validation: {_some(shared)}")
    fraction = config.dataset.val_fraction
    if config.dataset.val_fasta is None and config.dataset.train_fasta is not None:
        held = (
            f"{fraction:.0%} of the training reads are held out (dataset.val_fraction)" if fraction else "none are used"
        )
        check.warnings.append(f"no validation reads were given: {held}")


def _lines(check: _Check, config: Config, max_reads: int | None) -> list[str]:
    from metagene_classifier.tokenization.survey_text import survey_lines

    lines = [f"encoder    {config.model.encoder_path}{' (new weights)' if config.model.init == 'random' else ''}"]
    if check.tokenizer is not None:
        before, after = len(check.tokenizer.prefix_ids), len(check.tokenizer.suffix_ids)
        lines.append(
            f"tokenizer  {check.tokenizer.name} ({check.tokenizer.kind}, {check.tokenizer.vocab_size:,} ids, "
            f"special tokens before a read {before}, after it {after}; {check.max_length:,} tokens at once)"
        )
    if check.labels is not None:
        lines.append(f"classes    {len(check.labels):,}{_from_mapping(config)}")
    for split, store in check.stores.items():
        lines += ["", f"== {split} reads", f"{store.folder}: a prepared store of {len(store):,} reads, "]
        lines[-1] += f"{store.total_tokens:,} tokens, {store.longest:,} in the longest read"
    for split, surveys in check.surveys.items():
        lines += ["", f"== {split} reads"]
        for survey in surveys:
            lines += survey_lines(survey, check.max_length)
    if check.labels is not None and (check.surveys or check.stores):
        lines += ["", "== classes", *_class_table(check, check.labels)]
    for title, found in (("to know", check.warnings), ("to mend", check.problems)):
        if found:
            lines += ["", f"== {title}", *(f"{number}. {line}" for number, line in enumerate(found, 1))]
    lines.append("")
    if check.problems:
        count = len(check.problems)
        lines.append(f"NOT OK: training would not start: mend the {f'{count} points' if count > 1 else 'point'} above.")
    else:
        part = f", as far as the first {max_reads:,} reads of each file show" if max_reads is not None else ""
        lines.append(f"OK: training would start{part}.")
    return lines


def _from_mapping(config: Config) -> str:
    return f" in {config.dataset.mapping_tsv}" if config.dataset.mapping_tsv is not None else ", one for each file"


def _class_table(check: _Check, labels: Labels) -> list[str]:
    counts = {split: check.reads_of(split) for split in check.splits}
    order = sorted(range(len(labels)), key=lambda index: [-counts[split][index] for split in counts])
    shown = order[:CLASSES_SHOWN]
    width = max(len("label"), *(len(labels.names[index]) for index in shown))
    lines = [f"{'label':<{width}}  {'taxid':>9}" + "".join(f"{split:>14}" for split in counts)]
    for index in shown:
        figures = "".join(f"{counts[split][index]:>14,}" for split in counts)
        lines.append(f"{labels.names[index]:<{width}}  {labels.taxids[index] or '-':>9}{figures}")
    if len(order) > len(shown):
        lines.append(f"and {len(order) - len(shown):,} classes with fewer reads (--json has all)")
    return lines


def _facts(check: _Check) -> dict[str, Any]:
    from metagene_classifier.tokenization.survey_text import survey_facts

    tokenizer, labels = check.tokenizer, check.labels
    counts = {split: check.reads_of(split) for split in check.splits} if labels is not None else {}
    return {
        "would_start": not check.problems,
        "problems": check.problems,
        "warnings": check.warnings,
        "max_length": check.max_length,
        "tokenizer": None
        if tokenizer is None
        else {
            "name": tokenizer.name,
            "kind": tokenizer.kind,
            "vocab_size": tokenizer.vocab_size,
            "fingerprint": tokenizer.fingerprint,
        },
        "files": {split: [survey_facts(survey) for survey in surveys] for split, surveys in check.surveys.items()},
        "classes": [
            {
                "class_id": of.class_id,
                "label": of.label,
                "taxid": of.taxid,
                "reads": {split: counts[split][index] for split in counts},
            }
            for index, of in enumerate(labels.classes if labels is not None else ())
        ],
    }


def _some(words: Sequence[str]) -> str:
    more = f" and {len(words) - 5} more" if len(words) > 5 else ""
    return f"{', '.join(words[:5])}{more}"
