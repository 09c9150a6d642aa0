"""``mgc plan``: what every way to train takes of a card, before there is a card, or weights, or a download."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from metagene_classifier.cli.options import TRAINING_OPTIONS, config_from, config_options
from metagene_classifier.console import say
from metagene_classifier.errors import ConfigError

if TYPE_CHECKING:
    from metagene_classifier.config import Config
    from metagene_classifier.memory.budget import Lengths
    from metagene_classifier.memory.device import DeviceMemory
    from metagene_classifier.memory.fit import FitChoice
    from metagene_classifier.memory.plan import MemoryPlan
    from metagene_classifier.memory.throughput import Throughput

__all__ = ["command"]

READS_SAMPLED = 10_000
EXAMPLE_TOKENS = 40  # of a read of 150 bp, special tokens included
CLASSES_ASSUMED = 100


@click.command("plan")
@config_options(*TRAINING_OPTIONS)
@click.option(
    "--gpu", default=None, metavar="NAME", help='Plan for a card by name, as in "RTX 4090" (see --list-cards).'
)
@click.option("--memory", default=None, metavar="SIZE", help="Plan for so much memory, as in 24GiB.")
@click.option(
    "--ranks",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Plan for so many of them (+fsdp: weights shared out).",
)
@click.option(
    "--reads",
    type=click.Path(path_type=Path),
    default=None,
    help="Reads whose lengths count: the first 10,000 of them.",
)
@click.option(
    "--figures",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Throughput that benchmarks/gpu_memory.py --json measured; may be given several times.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--list-cards", is_flag=True, help="Print the cards that are known, and end.")
def command(
    config: Path | None,
    settings: tuple[str, ...],
    gpu: str | None,
    memory: str | None,
    ranks: int,
    reads: Path | None,
    figures: tuple[Path, ...],
    as_json: bool,
    list_cards: bool,
    **options: Any,
) -> None:
    """Show what each way to train takes of a card, and what fits.

    Needs no GPU, no weights and no download. Takes the options of `mgc train`; without --gpu and --memory it plans for
    the card that is here, or for this machine's memory where there is none.
    """
    if list_cards:
        print("\n".join(_cards()))
        return
    resolved = config_from(config, settings, options, say)
    found = _plan(resolved, gpu, memory, ranks, reads, figures)
    print(json.dumps(_facts(found), indent=2) if as_json else "\n".join(_lines(found)))


class _Found:
    """All that is shown."""

    plan: MemoryPlan
    choice: FitChoice | None = None
    problem: str | None = None
    compute: str
    classes: str
    lengths: str
    reads: int | None = None  # of the files; None where that is not known
    steps: int | None = None
    fit_is_off: bool = False


def _plan(
    config: Config, gpu: str | None, memory: str | None, ranks: int, reads: Path | None, figures: tuple[Path, ...]
) -> _Found:
    from metagene_classifier.hub import encoder_config_for
    from metagene_classifier.memory.fit import choose_fit
    from metagene_classifier.memory.from_config import check_layers, fit_request, step_facts
    from metagene_classifier.memory.plan import make_plan
    from metagene_classifier.memory.shape import encoder_shape
    from metagene_classifier.store.order import planned_steps
    from metagene_classifier.training.sharing import check_parallel

    found = _Found()
    model, training = config.model, config.training
    measured = _measured(figures)
    encoder = encoder_config_for(model.encoder_path, model.revision, trust_remote_code=model.trust_remote_code)
    shape = encoder_shape(encoder, name=model.encoder_path)
    check_layers(model, shape)
    device = _memory(config, gpu, memory)
    lengths = _lengths(config, encoder, reads, found)
    facts = step_facts(config, kind=device.kind, bfloat16=device.bfloat16, classes=_classes(config, found))
    found.compute = _compute_line(facts.compute, device)
    request = fit_request(config, ranks=ranks)
    found.fit_is_off = training.fit == "off"
    check_parallel(config, ranks)
    found.plan = make_plan(
        shape,
        facts=facts,
        memory=device,
        lengths=lengths,
        max_tokens=None if training.max_tokens == "auto" else training.max_tokens,
        measured=measured,
        ranks=ranks,
        strands=request.strands,
    )
    try:
        found.choice = choose_fit(shape, request=request, facts=facts, memory=device, lengths=lengths)
    except ConfigError as error:
        found.problem = str(error)
    if found.reads is not None:
        held_out = 0.0 if config.dataset.val_fasta is not None else config.dataset.val_fraction
        found.steps = planned_steps(
            round(found.reads * (1 - held_out)), ranks * request.reads_per_step, training.max_epochs, training.max_steps
        )
    return found


def _measured(figures: tuple[Path, ...]) -> list[Throughput]:
    from metagene_classifier.memory.throughput import read_throughput, shipped_throughput

    return [*(one for path in figures for one in read_throughput(path)), *shipped_throughput()]


def _memory(config: Config, gpu: str | None, memory: str | None) -> DeviceMemory:
    from metagene_classifier.memory.cards import find_card
    from metagene_classifier.memory.device import memory_here, memory_of_card, memory_of_host
    from metagene_classifier.memory.units import parse_memory

    limit = config.training.memory_limit
    if gpu is not None and memory is not None:
        raise ConfigError("--gpu and --memory: give one of them (training.memory_limit caps a card)")
    if gpu is not None:
        return memory_of_card(find_card(gpu), limit=limit)
    if memory is None:
        return memory_here(config.device, limit, say)
    amount = parse_memory(memory, "--memory")
    return memory_of_host(amount, limit) if config.device == "cpu" else memory_of_card(None, amount=amount, limit=limit)


def _lengths(config: Config, encoder: dict[str, Any], reads: Path | None, found: _Found) -> Lengths:
    """Of the reads given, or else of the longest segment there can be and of an example."""
    from metagene_classifier.memory.budget import Lengths
    from metagene_classifier.store.facts import is_store
    from metagene_classifier.tokenization.choice import context_of

    named = config.dataset.train_fasta
    if reads is None and isinstance(named, str) and named != "-" and Path(named).exists():
        reads = Path(named)
    elif reads is None and named is not None:
        say("dataset.train_fasta cannot be looked at from here: --reads takes a file, a folder or a store")
    if reads is not None and is_store(reads):
        return _stored(config, reads, found)
    if reads is not None:
        return _sampled(config, reads, found)
    longest = min(config.tokenizer.max_length, context_of(encoder) or config.tokenizer.max_length)
    found.lengths = (
        f"longest segment {longest:,} tokens (tokenizer.max_length), reads as if of {min(EXAMPLE_TOKENS, longest)} "
        "tokens, which is 150 bp; --reads FILE takes yours"
    )
    return Lengths(longest, min(EXAMPLE_TOKENS, longest))


def _stored(config: Config, folder: Path, found: _Found) -> Lengths:
    """Of a store's reads, which it has counted."""
    from metagene_classifier.errors import DataError
    from metagene_classifier.memory.budget import Lengths
    from metagene_classifier.store.tokens import TokenStore
    from metagene_classifier.training.data import tokenizer_of

    tokenizer, max_length = tokenizer_of(config, say)
    store = TokenStore.open(folder)
    if not len(store):
        raise DataError(f"--reads {folder}: no reads in this store")
    mean = min(store.total_tokens / len(store) + tokenizer.special_count, float(max_length))
    longest = min(store.longest + tokenizer.special_count, max_length)
    found.reads = len(store)
    found.lengths = f"all {len(store):,} reads of {folder}: {mean:.1f} tokens on average, {longest:,} at most"
    return Lengths(longest, mean)


def _sampled(config: Config, reads: Path, found: _Found) -> Lengths:
    from metagene_classifier.errors import DataError
    from metagene_classifier.memory.budget import Lengths
    from metagene_classifier.reads.files import expand_inputs
    from metagene_classifier.tokenization.histogram import Histogram
    from metagene_classifier.tokenization.survey import survey_file
    from metagene_classifier.training.data import tokenizer_of

    tokenizer, max_length = tokenizer_of(config, say)
    counts: Histogram = Histogram()
    whole = True
    for path in expand_inputs(str(reads)):
        left = READS_SAMPLED - counts.total
        if left <= 0:
            whole = False
            break
        survey = survey_file(path, labels=None, source=None, tokenizer=tokenizer, max_length=max_length, max_reads=left)
        if survey.failure is not None:
            raise DataError(survey.failure)
        whole = whole and survey.whole
        for length, reads_of in survey.tokens.counts.items():
            counts.add([min(length, max_length)] * reads_of)
    if not counts.total:
        raise DataError(f"--reads {reads}: no reads in it: give a FASTA or FASTQ file of reads")
    which = "all" if whole else "the first"
    found.reads = counts.total if whole else None
    found.lengths = (
        f"{which} {counts.total:,} reads of {reads}: {counts.sum / counts.total:.1f} tokens on average, "
        f"{counts.longest:,} at most"
    )
    return Lengths(counts.longest, counts.sum / counts.total)


def _classes(config: Config, found: _Found) -> int:
    from metagene_classifier.reads.labels import read_mapping

    dataset = config.dataset
    if dataset.mapping_tsv is not None:
        count = len(read_mapping(dataset.mapping_tsv, dataset.class_column, dataset.label_column, dataset.tax_column))
        found.classes = f"{count:,} (of {dataset.mapping_tsv})"
    elif config.model.num_classes != "auto":
        count = config.model.num_classes
        found.classes = f"{count:,} (model.num_classes)"
    else:
        count = CLASSES_ASSUMED
        found.classes = f"{count:,} assumed (--mapping-tsv tells)"
    return count


def _compute_line(compute: str, device: DeviceMemory) -> str:
    if device.kind == "cuda" and not device.bfloat16 and compute == "float16":
        return "float16 with loss scaling (this card has no bfloat16)"
    return compute


def _facts(found: _Found) -> dict[str, Any]:
    from metagene_classifier.memory.plan_text import plan_facts

    facts = plan_facts(found.plan, found.choice, found.problem)
    return {**facts, "compute": found.compute, "reads": found.reads, "optimizer_steps": found.steps}


def _lines(found: _Found) -> list[str]:
    from metagene_classifier.memory.plan_text import plan_table
    from metagene_classifier.memory.units import gib_text

    plan = found.plan
    guess = "" if plan.shape.exact else "; its activations are a cautious guess"
    steps = f"{found.steps:,} for the whole run" if found.steps is not None else "unknown (--reads FILE with all reads)"
    return [
        f"encoder   {plan.shape.name} ({plan.shape.parameters:,} parameters, {plan.shape.layers} layers{guess})",
        f"memory    {gib_text(plan.memory.bytes)} GiB, {plan.memory.name}",
        f"computes  in {found.compute}",
        f"reads     {found.lengths}",
        f"classes   {found.classes}",
        f"steps     {steps}",
        f"peak      of a micro-batch of {plan.tokens:,} tokens",
        "",
        *plan_table(plan),
        "",
        *(["training.fit is off, so nothing is chosen for the run; auto would:"] if found.fit_is_off else []),
        found.choice.line() if found.choice is not None else f"plan: {found.problem}",
    ]


def _cards() -> list[str]:
    from metagene_classifier.memory.cards import CARDS

    width = max(len(card.name) for card in CARDS)
    rows = [f"{'card':<{width}}{'GiB':>7}  {'bfloat16':<8}{'TFLOP/s':>9}{'GB/s':>7}"]
    for card in CARDS:
        speed = f"{card.tflops:,.0f}" if card.tflops is not None else "-"
        wide = f"{card.bandwidth_gb_s:,.0f}" if card.bandwidth_gb_s is not None else "-"
        rows.append(
            f"{card.name:<{width}}{card.memory_gib:>7.1f}  {'yes' if card.bfloat16 else 'no':<8}{speed:>9}{wide:>7}"
        )
    return [*rows, "TFLOP/s: half precision, dense, summed in float32, by the maker's data sheet; - where not known."]
