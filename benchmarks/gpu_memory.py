"""Training METAGENE-1's full size under 24, 16, 12 and 8 GiB: what the plan chose and predicted, and what it took.

    python benchmarks/gpu_memory.py [--quick] [--json PATH] [--caps 24,16,12,8] [--folder PLACE]

The encoder has random weights, written as bfloat16 shards into a temporary folder (13 GB) and loaded as a user's would
be; nothing is fetched. Every cap runs in a process of its own, whose share of the card is held to it. Without a card
``--device cpu --encoder builtin:llama-tiny --caps 1`` runs the same code; a CPU's peaks are not measured.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from setting import CLASSES, framing, machine, metagene_tokenizer, record

from metagene_classifier.config import Config
from metagene_classifier.config_file import load_config
from metagene_classifier.console import say
from metagene_classifier.errors import MgcError
from metagene_classifier.hub import encoder_config_for
from metagene_classifier.memory.budget import Lengths, need_of
from metagene_classifier.memory.cards import known_card
from metagene_classifier.memory.device import DeviceMemory
from metagene_classifier.memory.fit import FitChoice, choose_fit
from metagene_classifier.memory.from_config import fit_request, step_facts
from metagene_classifier.memory.reserve import CONTEXT_BYTES
from metagene_classifier.memory.shape import EncoderShape, encoder_shape
from metagene_classifier.memory.units import GIB
from metagene_classifier.training.steps import (
    MicroBatchTooLarge,
    Objective,
    StepReads,
    backward_micro_batches,
    micro_batches_of,
)

SHARD_BYTES = 2 * 10**9
FIRST_BASE_ID = 7  # of METAGENE-1's tokenizer; below are special tokens


@dataclass(frozen=True)
class Workload:
    """A step of reads of one length."""

    tokens_per_read: int
    reads: int

    @property
    def name(self) -> str:
        return f"{self.reads} x {self.tokens_per_read}"


# As the earlier pipeline padded its reads, and reads of 150 bp as they are.
WORKLOADS = (Workload(512, 16), Workload(40, 204))
# Besides the plan's own choices: the whole step at once under these weights, as the first workload has it.
AT_ONCE = (("24", "none"), ("8", "nf4"))


@click.command()
@click.option("--quick", is_flag=True, help="Fewer steps.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the figures here too.")
@click.option("--caps", default="24,16,12,8", show_default=True, help="GiB, one after another.")
@click.option(
    "--encoder", default="builtin:metagene-1", show_default=True, help="Architecture; its weights are random."
)
@click.option("--layers", type=click.IntRange(min=1), default=None, help="Layers of it, instead of all.")
@click.option(
    "--folder", type=click.Path(path_type=Path), default=None, help="Where the weights are written meanwhile."
)
@click.option("--device", type=click.Choice(["cuda", "cpu"]), default="cuda", show_default=True)
@click.option(
    "--reads", type=click.IntRange(min=1), default=None, help="Of a step, instead of 16 of 512 tokens and 204 of 40."
)
@click.option(
    "--one", nargs=2, type=(float, int), default=None, hidden=True, help="A cap and the number of a workload."
)
@click.option("--at-once", default=None, hidden=True, help="With --one: these weights, and the whole step at once.")
def main(
    quick: bool,
    json_path: Path | None,
    caps: str,
    encoder: str,
    layers: int | None,
    folder: Path | None,
    device: str,
    reads: int | None,
    one: tuple[float, int] | None,
    at_once: str | None,
) -> None:
    """Peak memory, predicted and measured, and speed, for the plan's own choice under each cap."""
    steps = 2 if quick else 8
    workloads = [replace(workload, reads=reads or workload.reads) for workload in WORKLOADS]
    if one is not None:
        print(json.dumps(_measured(Path(encoder), one[0], workloads[one[1]], at_once, device, steps)))
        return
    if device == "cuda" and not torch.cuda.is_available():
        raise click.ClickException("no CUDA card is here: --device cpu runs the same code without measuring peaks")
    with tempfile.TemporaryDirectory(dir=folder) as place:
        written = Path(place) / "encoder"
        # In a process of its own: what it takes of the card is free again before the first cap.
        writer = multiprocessing.get_context("spawn").Process(
            target=write_random_encoder, args=(encoder, layers, written, device)
        )
        writer.start()
        writer.join()
        if writer.exitcode:
            raise click.ClickException(f"the random weights were not written to {written}, see above")
        shape = encoder_shape(encoder_config_for(str(written)), name=encoder)
        rows = [
            _in_own_process(written, cap.strip(), workloads, number, device, quick)
            for cap in caps.split(",")
            for number in range(len(workloads))
        ]
        if layers is None and device == "cuda":
            rows += [
                _in_own_process(written, cap, workloads, 0, device, quick, at_once=weights) for cap, weights in AT_ONCE
            ]
    figures = {
        "benchmark": "gpu_memory",
        **machine(torch.device(device)),
        "encoder": {"name": encoder, "parameters": shape.parameters, "layers": shape.layers},
        "rows": rows,
    }
    figures["versions"] |= {package: metadata.version(package) for package in ("peft", "bitsandbytes")}
    print("\n".join(_table(figures)))
    record(figures, json_path)


def write_random_encoder(architecture: str, layers: int | None, folder: Path, device: str) -> None:
    """An encoder's folder with random bfloat16 weights, written shard by shard: one shard is in memory at a time."""
    from safetensors.torch import save_file
    from transformers import AutoConfig, AutoModel

    config = AutoConfig.for_model(**encoder_config_for(architecture))
    config.num_hidden_layers = layers or config.num_hidden_layers
    with torch.device("meta"):
        names = {name: weight.shape for name, weight in AutoModel.from_config(config).named_parameters()}
    folder.mkdir(parents=True)
    config.save_pretrained(folder)
    torch.manual_seed(0)
    places: dict[str, str] = {}
    for number, shard in enumerate(_shards(names), 1):
        file = f"model-{number:05d}.safetensors"
        weights = {
            name: torch.ones(names[name], dtype=torch.bfloat16)
            if len(names[name]) == 1
            else (torch.randn(names[name], dtype=torch.bfloat16, device=device) * 0.02).cpu()
            for name in shard
        }
        save_file(weights, folder / file, metadata={"format": "pt"})
        places |= dict.fromkeys(shard, file)
    size = 2 * sum(shape.numel() for shape in names.values())
    index = {"metadata": {"total_size": size}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")


def _shards(names: dict[str, torch.Size]) -> Iterator[list[str]]:
    shard: list[str] = []
    held = 0
    for name, shape in names.items():
        size = 2 * shape.numel()
        if shard and held + size > SHARD_BYTES:
            yield shard
            shard, held = [], 0
        shard.append(name)
        held += size
    yield shard


def _in_own_process(
    folder: Path,
    cap: str,
    workloads: list[Workload],
    number: int,
    device: str,
    quick: bool,
    at_once: str | None = None,
) -> dict[str, Any]:
    workload = workloads[number]
    say(f"{cap} GiB, {workload.name}")
    words = [sys.executable, __file__, "--encoder", str(folder), "--device", device, "--one", cap, str(number)]
    words += ["--reads", str(workload.reads)]
    words += ["--at-once", at_once] if at_once else []
    done = subprocess.run(
        words + ["--quick"] * quick,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        env=os.environ | {"MGC_NO_CACHE": "1"},
    )
    if done.returncode:
        return _row(cap, workload) | {"problem": f"ended with code {done.returncode}, see above"}
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return row


def _row(cap: float | str, workload: Workload) -> dict[str, Any]:
    return {
        "cap_gib": float(cap),
        "workload": workload.name,
        "tokens_per_read": workload.tokens_per_read,
        "reads_per_step": workload.reads,
    }


def _measured(
    folder: Path, cap_gib: float, workload: Workload, at_once: str | None, device_name: str, steps: int
) -> dict[str, Any]:
    """One row: the plan's choice under a cap, and what came of it."""
    device = torch.device(device_name, 0) if device_name == "cuda" else torch.device(device_name)
    row = _row(cap_gib, workload)
    memory = _memory(cap_gib, device)
    shape = encoder_shape(encoder_config_for(str(folder)), name="the encoder")
    lengths = Lengths(workload.tokens_per_read, workload.tokens_per_read)
    settings = {"model.encoder_path": str(folder), "training.batch_size": workload.reads, "device": device_name}
    if at_once is not None:
        tokens = workload.reads * workload.tokens_per_read
        settings |= {"model.quantization": at_once, "training.max_tokens": tokens}
    config = load_config(None, settings)
    facts = step_facts(config, kind=memory.kind, bfloat16=memory.bfloat16, classes=CLASSES)
    try:
        choice = choose_fit(shape, request=fit_request(config), facts=facts, memory=memory, lengths=lengths)
    except MgcError as error:
        return row | {"problem": str(error)}
    row |= {"way": choice.way.name, "max_tokens": choice.max_tokens, "plan": choice.line()}
    if device.type == "cuda":
        # The plan counts the context within the cap; torch's allocator does not hold it.
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, (cap_gib * GIB - CONTEXT_BYTES) / total), device)
    try:
        return row | _train(_fitted(config, choice), shape, choice, workload, device, steps)
    except (torch.OutOfMemoryError, MicroBatchTooLarge) as error:
        return row | {"problem": f"out of memory: {str(error).splitlines()[0]}", **_peaks(device)}


def _memory(cap_gib: float, device: torch.device) -> DeviceMemory:
    amount = round(cap_gib * GIB)
    if device.type == "cpu":
        return DeviceMemory(amount, "this machine's memory", "cpu", bfloat16=False)
    name = torch.cuda.get_device_name(device)
    bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)
    amount = min(amount, torch.cuda.get_device_properties(device).total_memory)
    return DeviceMemory(amount, name, "cuda", bfloat16, with_context=True, card=known_card(name))


def _fitted(config: Config, choice: FitChoice) -> Config:
    """The configuration with nothing left to choose."""
    chosen = {
        "quantization": choice.quantization,
        "gradient_checkpointing": choice.gradient_checkpointing,
        "checkpoint_every": choice.checkpoint_every,
        "checkpoint_offload": choice.checkpoint_offload,
    }
    return config.model_copy(update={"model": config.model.model_copy(update=chosen)})


def _train(
    config: Config, shape: EncoderShape, choice: FitChoice, workload: Workload, device: torch.device, steps: int
) -> dict[str, Any]:
    """Training steps as :mod:`metagene_classifier.training` does them."""
    from accelerate import Accelerator

    from metagene_classifier.training.builder import build_classifier, set_training
    from metagene_classifier.training.optimizer import make_optimizer

    accelerator = Accelerator(
        cpu=device.type == "cpu",
        mixed_precision="fp16" if choice.facts.compute == "float16" else "no",
        device_placement=False,
    )
    built = build_classifier(config, classes=CLASSES, device=device, tell=say)
    classifier = built.classifier
    set_training(classifier, "none")
    weights = [weight for weight in classifier.parameters() if weight.requires_grad]
    optimizer = accelerator.prepare_optimizer(
        make_optimizer(weights, name="adamw", lr=1e-4, betas=(0.9, 0.999), weight_decay=0.01)
    )
    frame = framing(metagene_tokenizer())
    random = np.random.default_rng(0)
    largest = (0, 0)

    def step() -> None:
        nonlocal largest
        reads = _random_reads(random, workload, int(shape.vocab), frame.prefix, frame.suffix)
        parts = micro_batches_of(reads, frame, max_tokens=choice.max_tokens, layout=built.layout)
        largest = max(largest, *((batch.ids.numel(), batch.segments) for batch, _ in parts))
        backward_micro_batches(
            classifier,
            parts,
            Objective(None, 0.0),
            divisor=float(workload.reads),
            device=device,
            accelerator=accelerator,
        )
        accelerator.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        optimizer.zero_grad()

    loading = _peaks(device)["measured_tensors_gib"]
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    step()  # the optimizer's state is made, and kernels are chosen
    _wait(device)
    started = time.perf_counter()
    for _ in range(steps):
        step()
    _wait(device)
    seconds = (time.perf_counter() - started) / steps
    tokens = workload.reads * workload.tokens_per_read
    need = need_of(shape, choice.way, choice.facts, choice.memory, choice.lengths, largest[0])
    return {
        "layout": built.layout,
        "micro_batch_tokens": largest[0],
        "predicted_tensors_gib": need.parts.tensor_peak / GIB,
        "predicted_gib": need.peak / GIB,
        "loading_tensors_gib": loading,
        **_peaks(device),
        "seconds_per_step": seconds,
        "tokens_per_s": tokens / seconds,
        "reads_per_s": workload.reads / seconds,
        "share_of_peak_flops": _share(shape, choice, tokens / seconds),
    }


def _random_reads(
    random: np.random.Generator, workload: Workload, vocab: int, prefix: tuple[int, ...], suffix: tuple[int, ...]
) -> StepReads:
    inner = workload.tokens_per_read - len(prefix) - len(suffix)
    segments = [
        np.concatenate([prefix, random.integers(FIRST_BASE_ID, vocab, inner), suffix]).astype(np.int64)
        for _ in range(workload.reads)
    ]
    keys = random.integers(0, 2**62, workload.reads)
    return StepReads(segments, keys, random.integers(0, CLASSES, workload.reads).astype(np.int32))


def _peaks(device: torch.device) -> dict[str, float | None]:
    """GiB of tensors at most, of what the allocator held at most, and of all else of the card that is taken."""
    if device.type != "cuda":
        return {"measured_tensors_gib": None, "measured_reserved_gib": None, "besides_gib": None}
    free, total = torch.cuda.mem_get_info(device)
    return {
        "measured_tensors_gib": torch.cuda.max_memory_allocated(device) / GIB,
        "measured_reserved_gib": torch.cuda.max_memory_reserved(device) / GIB,
        "besides_gib": (total - free - torch.cuda.memory_reserved(device)) / GIB,
    }


def _share(shape: EncoderShape, choice: FitChoice, tokens_per_s: float) -> float | None:
    """Of the card's dense half-precision peak.

    Counted are products with the linear layers' weights, forward and for the inputs' gradients, and not what
    checkpointing computes again.
    """
    card = choice.memory.card
    if card is None or card.tflops is None:
        return None
    return tokens_per_s * 4 * shape.quantizable_parameters / (card.tflops * 1e12)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _table(figures: dict[str, Any]) -> list[str]:
    head = f"{'cap':>4}  {'step':<12}{'way':<26}{'tokens':>7}{'predicted':>11}{'measured':>10}{'reserved':>10}"
    lines = [
        f"{figures['device']}, torch {figures['versions']['torch']}, {figures['encoder']['name']}",
        f"{head}{'besides':>9}{'tokens/s':>10}{'reads/s':>9}{'of peak':>9}",
    ]
    for row in figures["rows"]:
        start = f"{row['cap_gib']:>4.0f}  {row['workload']:<12}"
        if "problem" in row:
            lines.append(f"{start}{row['problem']}")
            continue
        share = row["share_of_peak_flops"]
        lines.append(
            f"{start}{row['way']:<26}{row['micro_batch_tokens']:>7,}{row['predicted_tensors_gib']:>11.2f}"
            f"{_cell(row['measured_tensors_gib'], 10)}{_cell(row['measured_reserved_gib'], 10)}"
            f"{_cell(row['besides_gib'], 9)}{row['tokens_per_s']:>10,.0f}{row['reads_per_s']:>9,.1f}"
            f"{'-' if share is None else f'{share:.0%}':>9}"
        )
    return [
        *lines,
        "GiB. predicted, measured: tensors at most. reserved: by torch's allocator. besides: what else of the card is "
        "taken.",
    ]


def _cell(value: float | None, width: int) -> str:
    return f"{'-' if value is None else f'{value:.2f}':>{width}}"


if __name__ == "__main__":
    main()
