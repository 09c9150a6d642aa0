"""Options that several commands share, and how they reach the configuration."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
import yaml

from metagene_classifier.errors import ConfigError

if TYPE_CHECKING:
    from metagene_classifier.config import Config

__all__ = [
    "TRAINING_OPTIONS",
    "calling_options",
    "ckpt_option",
    "config_from",
    "config_options",
    "device_option",
    "long_reads_option",
    "pair_options",
    "quantization_option",
    "scoring_memory_options",
    "trust_option",
]

Command = TypeVar("Command", bound=Callable[..., Any])

# Option: the key that it sets, and its help.
_KEYS: dict[str, tuple[str, Any, str]] = {
    "train-fasta": ("dataset.train_fasta", str, "Training reads: a file, a folder, or a store of mgc prepare."),
    "val-fasta": ("dataset.val_fasta", str, "Validation reads: as --train-fasta."),
    "test-fasta": ("dataset.test_fasta", str, "Test reads, for evaluate --split test."),
    "mapping-tsv": ("dataset.mapping_tsv", str, "Table of class_id, label_name and tax_id."),
    "taxonomy": ("dataset.taxonomy", str, "Folder of NCBI's nodes.dmp and names.dmp: the classes' ranks and lineages."),
    "labels-from": ("dataset.labels_from", str, "Where a read's class stands: header, tsv or filename."),
    "labels-tsv": ("dataset.labels_tsv", str, "Table of read id and class (with --labels-from tsv)."),
    "output-dir": ("training.output_dir", str, "Folder of the run."),
    "batch-size": ("training.batch_size", int, "Reads of a step on one device."),
    "max-epochs": ("training.max_epochs", int, "Passes over the training reads at most."),
    "lr": ("optimizer.lr", float, "Learning rate."),
    "max-tokens": ("training.max_tokens", int, "Tokens in memory at once: the same result in less memory."),
    "seed": ("seed", int, "Of weights, order, dropout and splits."),
    "device": ("device", str, "auto, cuda, cuda:N, mps or cpu."),
}


TRAINING_OPTIONS = tuple(_KEYS)
"""The options of ``mgc train``, which ``mgc check-data`` takes as well."""


def config_options(*names: str) -> Callable[[Command], Command]:
    """``--config``, ``--set`` and the named options, each of which sets one key of the configuration."""

    def decorate(command: Command) -> Command:
        for name in reversed(names):
            key, kind, text = _KEYS[name]
            command = click.option(f"--{name}", type=kind, default=None, help=f"{text} [{key}]")(command)
        command = click.option(
            "--set",
            "settings",
            multiple=True,
            metavar="KEY=VALUE",
            help="Any key of the configuration, as in --set model.lora.r=4; may be given several times.",
        )(command)
        return click.option("--config", type=click.Path(path_type=Path), default=None, help="YAML file.")(command)

    return decorate


def config_from(
    config: Path | None, settings: tuple[str, ...], options: dict[str, Any], tell: Callable[[str], None]
) -> Config:
    """The configuration that a command's options make; ``options`` are named as click passes them.

    Raises:
        ConfigError: a key or value does not fit.
    """
    from metagene_classifier.config_file import load_config

    overrides: dict[str, Any] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals:
            raise ConfigError(f"--set {setting}: expected KEY=VALUE, as in --set training.batch_size=64")
        try:
            overrides[key.strip()] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigError(f"--set {setting}: the value is not YAML") from error
    for name, value in options.items():
        if value is not None:
            overrides[_KEYS[name.replace("_", "-")][0]] = value
    return load_config(config, overrides, tell)


def ckpt_option(command: Command) -> Command:
    """``--ckpt``: the trained model."""
    return click.option(
        "--ckpt", type=str, required=True, help="A trained model's folder, or the folder of the run that made it."
    )(command)


def device_option(command: Command) -> Command:
    """``--device`` of commands that load a trained model."""
    return click.option("--device", default="auto", show_default=True, help="auto, cuda, cuda:N, mps or cpu.")(command)


def quantization_option(command: Command) -> Command:
    """``--quantization`` of the encoder that a model stands on."""
    return click.option(
        "--quantization",
        type=click.Choice(["none", "int8", "nf4"]),
        default=None,
        help="Of the encoder's weights, for less memory; as the model was trained by default.",
    )(command)


def scoring_memory_options(command: Command) -> Command:
    """``--batch-size`` and ``--max-tokens``: two ways to say how much goes through the encoder at once."""
    command = click.option(
        "--max-tokens", type=click.IntRange(min=1), default=None, help="Tokens that go through the encoder at once."
    )(command)
    return click.option(
        "--batch-size",
        type=click.IntRange(min=1),
        default=None,
        help="The same in reads: as many tokens at once as so many reads of full length have.",
    )(command)


def long_reads_option(command: Command) -> Command:
    """``--long-reads``: over the model's own setting."""
    return click.option(
        "--long-reads",
        type=click.Choice(["window", "truncate", "error"]),
        default=None,
        help="Reads longer than the model's context; as the model was trained by default.",
    )(command)


def trust_option(command: Command) -> Command:
    """``--trust-remote-code``."""
    return click.option(
        "--trust-remote-code", is_flag=True, help="Run Python code from the encoder's own repository; read it first."
    )(command)


def calling_options(command: Command) -> Command:
    """How sure a call must be, what is never called, and how strands are scored."""
    decorators = [
        click.option(
            "--confidence",
            type=click.FloatRange(0, 1),
            default=None,
            help="Calibrated probability that a call must reach; as stored with the model by default.",
        ),
        click.option(
            "--target-precision",
            type=click.FloatRange(0, 1, min_open=True),
            default=None,
            help="Instead: the least cut-off that gave this precision on the validation reads.",
        ),
        click.option("--closed-set", is_flag=True, help="Refuse nothing: every read with a base gets a class."),
        click.option(
            "--min-tokens",
            type=click.IntRange(min=0),
            default=None,
            help="Reads of fewer tokens are unclassified; as stored with the model by default.",
        ),
        click.option(
            "--strand",
            type=click.Choice(["single", "average"]),
            default=None,
            help="average scores each read and its reverse complement, for twice the work.",
        ),
        click.option(
            "--taxonomy",
            type=click.Path(path_type=Path),
            default=None,
            help="Folder of NCBI's nodes.dmp and names.dmp; the model's own taxonomy by default.",
        ),
    ]
    for decorate in reversed(decorators):
        command = decorate(command)
    return command


def pair_options(command: Command) -> Command:
    """``--input2`` and ``--interleaved``: reads in pairs, one call each."""
    command = click.option(
        "--interleaved", is_flag=True, help="Mates follow each other in --input: one call for each pair."
    )(command)
    return click.option("--input2", default=None, help="The mates of --input, in the same order: one call per pair.")(
        command
    )
