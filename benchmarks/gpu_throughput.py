"""Tokens and reads a second of METAGENE-1's full size on one card, and which share of the card's arithmetic they are.

    python benchmarks/gpu_throughput.py [--quick] [--json PATH] [--folder PLACE]

LoRA and QLoRA training, and prediction with adapters in bfloat16, on reads of 150 bp: as this project lays them out,
padded to the longest of the micro-batch, and padded to 512 tokens. The encoder has random weights, written as bfloat16
shards into a temporary folder (13 GB); nothing is fetched. Without a card ``--device cpu --encoder builtin:llama-tiny``
runs the same code, and there is no share of a peak to give.

Model-FLOP utilisation counts the work that the model needs for the reads' own tokens: none for padding, none for what
checkpointing computes again. With N the weights of the encoder's linear layers and A those of the adapters, a token
takes 2 operations for each weight in the forward pass (one product, one sum), 2 more for the gradient of a layer's
inputs, and 2 more for the gradient of a weight that learns:

    prediction 2 N + 2 A        LoRA, QLoRA 4 N + 6 A        full training 6 N

Attention itself is left out (in a read of 40 tokens it is 0.2% of METAGENE-1's arithmetic), and so is what turns 4-bit
weights into bfloat16. The peak is that of dense bfloat16 by the card's data sheet.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import click
import numpy as np
import torch
from gpu_memory import write_random_encoder
from setting import CLASSES, PADDED_TOKENS, framing, machine, metagene_tokenizer, reads_of_genome, record

from metagene_classifier.batching.batch import TokenBatch, collate
from metagene_classifier.batching.framing import Framing
from metagene_classifier.batching.micro_batches import Layout, split_into_micro_batches
from metagene_classifier.config import Config
from metagene_classifier.config_file import load_config
from metagene_classifier.console import say
from metagene_classifier.errors import MgcError
from metagene_classifier.hub import encoder_config_for
from metagene_classifier.memory.budget import Lengths
from metagene_classifier.memory.cards import known_card
from metagene_classifier.memory.device import device_memory
from metagene_classifier.memory.fit import FitChoice, choose_fit
from metagene_classifier.memory.from_config import fit_request, step_facts
from metagene_classifier.memory.shape import EncoderShape, encoder_shape
from metagene_classifier.model.out_of_memory import is_out_of_memory, release
from metagene_classifier.model.packing import choose_layout
from metagene_classifier.training.builder import BuiltClassifier, build_classifier, set_training
from metagene_classifier.training.exchange import clip_gradients
from metagene_classifier.training.optimizer import make_optimizer
from metagene_classifier.training.steps import MicroBatchTooLarge, Objective, backward_micro_batches

Work = Literal["prediction", "adapters", "all"]
Arrangement = Literal["ours", "longest", "512"]

ARRANGEMENTS: tuple[Arrangement, ...] = ("512", "longest", "ours")  # ours last: it sets the attention for packed rows
SAYS = {"512": "padded to 512", "longest": "padded to the longest"}
TARGETS = {"prediction": 0.5, "lora": 0.4}
PREDICTION_TOKENS = {"cuda": 32_768, "cpu": 2_048}
MICRO_BATCHES = 2
LEAST_TOKENS = PADDED_TOKENS


@dataclass(frozen=True)
class Measured:
    """What so many seconds have computed.

    Attributes:
        tokens: of reads, padding left out.
        computed: tokens, padding included.
        reads: in all.
        seconds: they took.
    """

    tokens: int
    computed: int
    reads: int
    seconds: float


def flops_per_token(work: Work, linear_weights: int, adapter_weights: int) -> int:
    """Operations that one token of a read takes; see the top of this file.

    Args:
        work: what is done.
        linear_weights: of the encoder's linear layers, N.
        adapter_weights: A.
    """
    if work == "all":
        return 6 * linear_weights
    if work == "adapters":
        return 4 * linear_weights + 6 * adapter_weights
    return 2 * linear_weights + 2 * adapter_weights


@click.command()
@click.option("--quick", is_flag=True, help="Measure each for a second instead of ten.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the figures here too.")
@click.option(
    "--encoder", default="builtin:metagene-1", show_default=True, help="Architecture; its weights are random."
)
@click.option("--layers", type=click.IntRange(min=1), default=None, help="Layers of it, instead of all.")
@click.option(
    "--folder", type=click.Path(path_type=Path), default=None, help="Where the weights are written meanwhile."
)
@click.option("--device", type=click.Choice(["cuda", "cpu"]), default="cuda", show_default=True)
def main(
    quick: bool, json_path: Path | None, encoder: str, layers: int | None, folder: Path | None, device: str
) -> None:
    """Speed of training and prediction, packed against padded, and its share of the card's peak."""
    if device == "cuda" and not torch.cuda.is_available():
        raise click.ClickException(
            "no CUDA card is here: --device cpu --encoder builtin:llama-tiny runs the same code, without a share of a "
            "peak"
        )
    os.environ["MGC_NO_CACHE"] = "1"
    place = torch.device(device, 0) if device == "cuda" else torch.device(device)
    seconds = 1.0 if quick else 10.0
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        written = Path(temporary) / "encoder"
        say("writing random weights")
        # In a process of its own: what it takes of the card is free again before anything is measured.
        writer = multiprocessing.get_context("spawn").Process(
            target=write_random_encoder, args=(encoder, layers, written, device)
        )
        writer.start()
        writer.join()
        if writer.exitcode:
            raise click.ClickException(f"the random weights were not written to {written}, see above")
        rows = []
        for quantization in ("none", "nf4"):
            rows += list(_of_weights(written, quantization, place, seconds))
            gc.collect()  # the classifier that was measured
            release(place)
        shape = encoder_shape(encoder_config_for(str(written)), name=encoder)
    figures = {
        "benchmark": "gpu_throughput",
        **machine(place),
        "encoder": {"name": encoder, "parameters": shape.parameters, "layers": shape.layers},
        "peak_tflops": _peak(place),
        "rows": rows,
        "targets": [_target(name, share, rows) for name, share in TARGETS.items()],
    }
    figures["versions"] |= {package: metadata.version(package) for package in ("peft", "bitsandbytes")}
    print("\n".join(_table(figures)))
    record(figures, json_path)


def _of_weights(folder: Path, quantization: str, device: torch.device, seconds: float) -> Iterator[dict[str, Any]]:
    """Rows of one kind of weights: training, and where they are whole prediction as well."""
    name = "lora" if quantization == "none" else "qlora"
    say(f"{name}: loading")
    settings = {
        "model.encoder_path": str(folder),
        "model.quantization": quantization,
        "device": device.type,
        "training.batch_size": 4096,
        "training.layout": "buckets",
    }
    config = load_config(None, settings)
    shape = encoder_shape(encoder_config_for(str(folder)), name="the encoder")
    frame = framing(metagene_tokenizer())
    reads = [frame.frame(tokens) for tokens in metagene_tokenizer().encode_batch(reads_of_genome(8192))]
    try:
        choice = _chosen(config, shape, reads, device)
        say(f"{name}: {choice.line()}")
        built = build_classifier(_fitted(config, choice), classes=CLASSES, device=device, tell=say)
    except MgcError as error:
        yield {"work": name, "problem": str(error)}
        return
    adapters = sum(weight.numel() for weight in built.classifier.encoder.parameters() if weight.requires_grad)
    works: list[tuple[str, Work, int, Callable[..., Measured]]] = [(name, "adapters", choice.max_tokens, _train)]
    if quantization == "none":
        works.append(("prediction", "prediction", PREDICTION_TOKENS[device.type], _predict))
    for arrangement in ARRANGEMENTS:
        layout: Layout = "padded" if arrangement == "512" else "buckets"
        if arrangement == "ours":
            compute = built.classifier.compute_dtype
            layout = choose_layout(built.classifier.transformer, "auto", "auto", compute, device)
        for work, kind, tokens, measure in works:
            row = {"work": work, "way": choice.way.name, "reads_lie": SAYS.get(arrangement, layout)}
            say(f"{work}: {row['reads_lie']}")
            per_token = flops_per_token(kind, shape.quantizable_parameters, adapters)

            def run(most: int, measure=measure, layout=layout, arrangement=arrangement) -> Measured:  # type: ignore[no-untyped-def]
                return measure(built, _batches(reads, frame, arrangement, layout, most), device, seconds)

            found = _halving(tokens, run, device)
            yield row | _figures(*found, per_token, device)


def _chosen(config: Config, shape: EncoderShape, reads: list[np.ndarray[Any, Any]], device: torch.device) -> FitChoice:
    memory = device_memory(device, None)
    lengths = [len(read) for read in reads]
    # Rows of 512 tokens are to fit as well.
    return choose_fit(
        shape,
        request=fit_request(config),
        facts=step_facts(config, kind=memory.kind, bfloat16=memory.bfloat16, classes=CLASSES),
        memory=memory,
        lengths=Lengths(PADDED_TOKENS, float(np.mean(lengths))),
    )


def _fitted(config: Config, choice: FitChoice) -> Config:
    """The configuration with nothing left to choose."""
    chosen = {
        "gradient_checkpointing": choice.gradient_checkpointing,
        "checkpoint_every": choice.checkpoint_every,
        "checkpoint_offload": choice.checkpoint_offload,
    }
    return config.model_copy(update={"model": config.model.model_copy(update=chosen)})


def _batches(
    reads: list[np.ndarray[Any, Any]], frame: Framing, arrangement: Arrangement, layout: Layout, max_tokens: int
) -> list[TokenBatch]:
    """Whole micro-batches of so many tokens, padding included, in one of the three ways."""
    lengths = np.array([len(read) for read in reads])
    if arrangement == "longest":
        rows = max(1, max_tokens // int(lengths.max()))
        members = [np.arange(first, min(first + rows, len(reads))) for first in range(0, len(reads), rows)]
    else:
        members = split_into_micro_batches(lengths, max_tokens=max_tokens, layout=layout, padded_length=PADDED_TOKENS)
    return [
        collate(
            [reads[place] for place in chosen],
            chosen,
            layout=layout,
            padded_length=PADDED_TOKENS,
            pad_id=frame.pad_id,
        )
        for chosen in members[:MICRO_BATCHES]
    ]


def _train(built: BuiltClassifier, batches: list[TokenBatch], device: torch.device, seconds: float) -> Measured:
    from accelerate import Accelerator

    classifier = built.classifier
    accelerator = Accelerator(cpu=device.type == "cpu", device_placement=False)
    set_training(classifier, "none")
    weights = [weight for weight in classifier.parameters() if weight.requires_grad]
    optimizer = make_optimizer(weights, name="adamw", lr=1e-4, betas=(0.9, 0.999), weight_decay=0.01)
    parts = [(batch, torch.arange(batch.segments) % CLASSES) for batch in batches]
    reads = sum(batch.segments for batch in batches)

    def step() -> None:
        backward_micro_batches(
            classifier,
            parts,
            Objective(None, 0.0),
            divisor=float(reads),
            device=device,
            accelerator=accelerator,
        )
        clip_gradients(weights, 1.0, accelerator)
        optimizer.step()
        optimizer.zero_grad()

    return _timed(step, batches, device, seconds)


def _predict(built: BuiltClassifier, batches: list[TokenBatch], device: torch.device, seconds: float) -> Measured:
    classifier = built.classifier.eval()

    @torch.inference_mode()
    def passes() -> None:
        for batch in batches:
            classifier(batch.to(device)).float().cpu()

    return _timed(passes, batches, device, seconds)


def _timed(run: Callable[[], None], batches: list[TokenBatch], device: torch.device, seconds: float) -> Measured:
    run()  # kernels are chosen, and the optimizer's state is made
    _wait(device)
    started = time.perf_counter()
    times = 0
    while times == 0 or time.perf_counter() - started < seconds:
        run()
        _wait(device)
        times += 1
    taken = time.perf_counter() - started
    return Measured(
        tokens=times * sum(int(batch.lengths.sum()) for batch in batches),
        computed=times * sum(batch.tokens for batch in batches),
        reads=times * sum(batch.segments for batch in batches),
        seconds=taken,
    )


def _halving(tokens: int, run: Callable[[int], Measured], device: torch.device) -> tuple[int, Measured | None]:
    """What ``run`` gives with the largest micro-batch that fits, and that."""
    while tokens >= LEAST_TOKENS:
        found = _or_none(run, tokens)
        if found is not None:
            return tokens, found
        release(device)
        tokens //= 2
    return tokens, None


def _or_none(run: Callable[[int], Measured], tokens: int) -> Measured | None:
    try:
        return run(tokens)
    except MicroBatchTooLarge:
        return None
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        return None


def _figures(max_tokens: int, measured: Measured | None, per_token: int, device: torch.device) -> dict[str, Any]:
    if measured is None:
        return {"problem": "out of memory"}
    rate = measured.tokens / measured.seconds
    peak = _peak(device)
    return {
        "max_tokens": max_tokens,
        "tokens_per_read": measured.tokens / measured.reads,
        "tokens_per_s": rate,
        "reads_per_s": measured.reads / measured.seconds,
        "padding": 1.0 - measured.tokens / measured.computed,
        "model_tflops": rate * per_token / 1e12,
        "mfu": rate * per_token / (peak * 1e12) if peak is not None else None,
    }


def _peak(device: torch.device) -> float | None:
    card = known_card(torch.cuda.get_device_name(device)) if device.type == "cuda" else None
    return card.tflops if card is not None else None


def _target(work: str, share: float, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Whether the best arrangement reaches a share of the peak; ``None`` where that cannot be said."""
    shares = [row["mfu"] for row in rows if row["work"] == work and row.get("mfu") is not None]
    return {"work": work, "share": share, "reached": max(shares) if shares else None, "met": None} | (
        {"met": max(shares) >= share} if shares else {}
    )


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _table(figures: dict[str, Any]) -> list[str]:
    peak = f"{figures['peak_tflops']:,.0f} TFLOP/s" if figures["peak_tflops"] is not None else "not known"
    lines = [
        f"{figures['device']} (peak {peak}), torch {figures['versions']['torch']}, {figures['encoder']['name']}",
        f"{'work':<12}{'reads':<23}{'tokens':>7}{'padding':>9}{'tokens/s':>11}{'reads/s':>10}{'TFLOP/s':>9}{'MFU':>6}",
    ]
    for row in figures["rows"]:
        start = f"{row['work']:<12}{row.get('reads_lie', ''):<23}"
        if "problem" in row:
            lines.append(f"{start}{row['problem']}")
            continue
        share = f"{row['mfu']:.0%}" if row["mfu"] is not None else "-"
        lines.append(
            f"{start}{row['max_tokens']:>7,}{row['padding']:>9.1%}{row['tokens_per_s']:>11,.0f}"
            f"{row['reads_per_s']:>10,.1f}{row['model_tflops']:>9.1f}{share:>6}"
        )
    for target in figures["targets"]:
        said = {True: "met", False: "missed", None: "cannot be said: the peak of this device is not known"}
        reached = f" with {target['reached']:.1%}" if target["reached"] is not None else ""
        lines.append(f"target: {target['share']:.0%} of the peak in {target['work']}: {said[target['met']]}{reached}")
    return [*lines, "tokens: of a micro-batch, padding included. MFU: of the reads' own tokens, see --help."]


main.help = f"{main.help}\n\n\b\n" + (__doc__ or "").split("\n\n", 2)[2].strip()

if __name__ == "__main__":
    main()
