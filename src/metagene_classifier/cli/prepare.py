"""``mgc prepare``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from metagene_classifier.cli.options import config_from, config_options
from metagene_classifier.console import say
from metagene_classifier.errors import ConfigError

if TYPE_CHECKING:
    from metagene_classifier.config import Config
    from metagene_classifier.store.tokens import TokenStore

__all__ = ["command"]

OPTIONS = ("mapping-tsv", "labels-from", "labels-tsv")


@click.command("prepare")
@click.option(
    "--input",
    "inputs",
    multiple=True,
    metavar="PATH",
    help="Labelled reads: a file, a folder of files, or - for standard input; may be given several times. "
    "By default those of --config.",
)
@click.option("--output", type=click.Path(path_type=Path), required=True, help="Folder of the store.")
@config_options(*OPTIONS)
@click.option(
    "--split",
    type=click.Choice(["train", "val"]),
    default="train",
    show_default=True,
    help="Which reads of --config, where there is no --input.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=None,
    help="Processes that parse and tokenize; by default one for each core, 8 at most. [dataset.prepare_workers]",
)
@click.option("--read-ids", is_flag=True, help="Keep the reads' names in the store.")
@click.option("--overwrite", is_flag=True, help="Replace another store in the output folder.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def command(
    inputs: tuple[str, ...],
    output: Path,
    config: Path | None,
    settings: tuple[str, ...],
    split: Literal["train", "val", "test"],
    workers: int | None,
    read_ids: bool,
    overwrite: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Turn labelled reads into a store of tokens, once, that training reads from.

    Cleans, labels and tokenizes in constant memory. The store's folder can be given to `mgc train` as --train-fasta
    or --val-fasta. What broke off goes on where it stopped when the same command is run again; run on a finished
    store, it verifies it and makes damaged parts again. `mgc train` does the same by itself, into the cache.
    """
    resolved = config_from(config, settings, options, say)
    store = _prepare(resolved, inputs, output, split, workers, read_ids, overwrite)
    from metagene_classifier.store.preparing.summary import summary_lines

    print(json.dumps(_facts(store), indent=2) if as_json else "\n".join(summary_lines(store)))


def _prepare(
    config: Config,
    inputs: tuple[str, ...],
    output: Path,
    split: Literal["train", "val", "test"],
    workers: int | None,
    read_ids: bool,
    overwrite: bool,
) -> TokenStore:
    from metagene_classifier.reads.files import expand_inputs
    from metagene_classifier.store.preparing.pool import worker_count
    from metagene_classifier.store.preparing.prepare import prepare
    from metagene_classifier.store.preparing.request import PrepareRequest
    from metagene_classifier.training.data import label_source, labels_of, tokenizer_of

    dataset = config.dataset
    named = list(inputs) or {"train": dataset.train_fasta, "val": dataset.val_fasta, "test": dataset.test_fasta}[split]
    if not named:
        raise ConfigError(f"no reads: give --input, or set dataset.{split}_fasta")
    files = expand_inputs(named)
    labels = labels_of(dataset, files)
    request = PrepareRequest(
        files=files,
        labels=labels,
        source=label_source(dataset),
        labels_from=dataset.labels_from,
        strict=dataset.strict_classes,
        tokenizer=tokenizer_of(config, say)[0],
        read_ids=read_ids,
    )
    return prepare(
        request, output, workers=workers or worker_count(dataset.prepare_workers), tell=say, overwrite=overwrite
    )


def _facts(store: TokenStore) -> dict[str, Any]:
    facts = store.facts
    return {
        "store": str(store.folder),
        "reads": len(store),
        "tokens": store.total_tokens,
        "bytes": sum(shard.bytes for shard in facts.shards),
        "shards": len(facts.shards),
        "tokenizer": facts.tokenizer.name,
        "inputs": [made.model_dump() for made in facts.inputs],
        "reads_per_class": {store.labels.names[index]: reads for index, reads in facts.reads_per_class.items()},
        **facts.summary,
    }
