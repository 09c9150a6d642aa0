"""Whole training steps run on tensors that have a size and no memory, and the most bytes that they held at once."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from quantized_fakes import buffers_of, kernels_as_on_cuda, quantize
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from metagene_classifier.batching.batch import TokenBatch, collate
from metagene_classifier.memory.parts import StepSetup
from metagene_classifier.model.adapter import AdapterSettings, add_adapter
from metagene_classifier.model.attention import VARLEN, register_varlen
from metagene_classifier.model.checkpointing import _to_host as to_host
from metagene_classifier.model.checkpointing import checkpoint_layers, layers_of
from metagene_classifier.model.classifier import ReadClassifier
from metagene_classifier.model.dropout import TokenKeys
from metagene_classifier.model.quiet import quiet_transformers
from metagene_classifier.training.optimizer import make_optimizer
from metagene_classifier.training.steps import Objective

CPU = torch.device("cpu")
DTYPES = {2: torch.bfloat16, 4: torch.float32}


@dataclass(frozen=True)
class Moment:
    """When tensors held most: the bytes, the operator, and all of them by (operator, shape, type): (count, bytes)."""

    bytes: int = 0
    operator: str = ""
    held: Mapping[tuple[str, tuple[int, ...], str], tuple[int, int]] = field(default_factory=dict)

    def table(self, lines: int = 40) -> str:
        """What was held, the largest first: for whoever looks for waste."""
        rows = [f"peak {self.bytes / 2**20:.1f} MiB in {self.operator}"]
        for key, (count, size) in sorted(self.held.items(), key=lambda item: -item[1][1])[:lines]:
            rows.append(f"{size / 2**20:10.2f} MiB {count:4d} x {key}")
        return "\n".join(rows)


@dataclass(frozen=True)
class Traced:
    """The peaks of a step: over its forward passes, its backward passes, and its optimizer steps."""

    forward: Moment
    backward: Moment
    optimizer: Moment

    @property
    def peak(self) -> int:
        """The most bytes that tensors held at any time."""
        return max(self.forward.bytes, self.backward.bytes, self.optimizer.bytes)


class _Peak(TorchDispatchMode):
    """Sums the bytes of all storages alive, after every operator."""

    def __init__(self) -> None:
        super().__init__()
        self.phase = "forward"
        self.moments = {phase: Moment() for phase in ("forward", "backward", "optimizer")}
        self._now = 0
        self._alive: dict[int, tuple[Any, int, tuple[str, tuple[int, ...], str]]] = {}

    def count(self, tensor: torch.Tensor, source: str) -> None:
        """Count a tensor's memory as long as anything holds it."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._alive:
            return
        size = storage.nbytes()

        def gone(_: Any) -> None:
            del self._alive[key]
            self._now -= size

        what = (source, tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))
        self._alive[key] = (weakref.ref(storage, gone), size, what)
        self._now += size

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, torch.Tensor):
                self.count(leaf, str(function))
        if self._now > self.moments[self.phase].bytes:
            self.moments[self.phase] = Moment(self._now, str(function), self._held())
        return out

    def _held(self) -> dict[tuple[str, tuple[int, ...], str], tuple[int, int]]:
        held: dict[tuple[str, tuple[int, ...], str], tuple[int, int]] = {}
        for _, size, what in self._alive.values():
            count, total = held.get(what, (0, 0))
            held[what] = (count + 1, total + size)
        return held


@contextmanager
def _adapters_of_fakes() -> Iterator[None]:
    """``Module.to`` cannot swap fake parameters; PEFT makes its own where they belong."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    with (
        patch.object(BaseTunerLayer, "_move_adapter_to_device_of_base_layer", lambda self, *_, **__: None),
        patch.object(torch.nn.Module, "to", lambda self, *_, **__: self),
    ):
        yield


def _built(config: Mapping[str, Any], setup: StepSetup, keys: TokenKeys, layers: int | None) -> ReadClassifier:
    from transformers import AutoConfig, AutoModel

    values = {key: value for key, value in config.items() if key != "model_type"}
    if layers is not None:
        values["num_hidden_layers"] = layers
    built = AutoConfig.for_model(config["model_type"], **values)
    built.use_cache = False
    with quiet_transformers():
        encoder = AutoModel.from_config(built, dtype=DTYPES[setup.weights_bytes]).eval()
    name = VARLEN if setup.attention == "varlen" else "sdpa"
    if name == VARLEN:
        register_varlen()
    encoder.set_attn_implementation(name)
    if setup.quantization != "none":
        quantize(encoder, setup.quantization)
    transformer = encoder
    hidden = int(encoder.config.hidden_size)
    names = [name for name, _ in layers_of(encoder)]
    if setup.learns == "adapter":
        settings = AdapterSettings(
            setup.lora_r,
            16.0,
            0.1 if setup.lora_dropout else 0.0,
            setup.lora_targets,
            "none",
            without=tuple(names[: setup.freeze_layers]),
        )
        with _adapters_of_fakes():
            encoder = add_adapter(encoder, settings, encoder_name="traced", keys=keys, seed=0)
    elif setup.learns != "all":
        encoder.requires_grad_(False)
    if setup.checkpoint_every and setup.learns in ("adapter", "all"):
        checkpoint_layers(
            transformer, every=setup.checkpoint_every, offload=setup.checkpoint_offload, first=setup.freeze_layers
        )
    return ReadClassifier(
        encoder,
        hidden_size=hidden,
        classes=setup.classes,
        pooling="mean",
        dropout=0.1,
        keys=keys,
        compute_dtype=DTYPES[setup.compute_bytes],
    )


@contextmanager
def _no_values_read(longest: int) -> Iterator[None]:
    """A tensor without values has no longest length; and transformers makes masks only where it is being traced."""
    with (
        patch("metagene_classifier.model.attention.int", lambda _: longest, create=True),
        patch("metagene_classifier.model.checkpointing._to_host", _to_host),
        patch("transformers.masking_utils.find_packed_sequence_indices", lambda _: None),
    ):
        yield


class _OnHost:
    """A checkpoint in the host's memory: of the device's it takes nothing."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.shape, self.dtype = tensor.shape, tensor.dtype

    def to(self, device: torch.device, non_blocking: bool) -> torch.Tensor:
        return torch.empty(self.shape, dtype=self.dtype, device=device)


def _to_host(tensor: torch.Tensor) -> tuple[torch.device, Any]:
    device, kept = to_host(tensor)
    return device, kept if kept is tensor else _OnHost(tensor)


def _with_state(learning: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    """AdamW as it is after its first step."""
    optimizer = make_optimizer(learning, name="adamw", lr=1e-4, betas=(0.9, 0.999), weight_decay=0.01)
    for weight in learning:
        weight.grad = torch.zeros_like(weight)
    optimizer.step()
    optimizer.zero_grad()
    return optimizer


def trace_step(
    config: Mapping[str, Any],
    setup: StepSetup,
    *,
    lengths: list[int],
    layers: int | None = None,
) -> Traced:
    """A training step of two micro-batches, or a prediction, of the classifier on segments of these lengths.

    Args:
        config: an encoder's ``config.json``.
        setup: how the step is computed; nothing quantized.
        lengths: tokens of each segment.
        layers: of the encoder, where not those of the configuration.
    """
    layout = "buckets" if setup.attention == "sdpa" else "packed"
    segments = [np.zeros(length, np.int64) for length in lengths]
    batch = collate(segments, np.arange(len(lengths)), layout=layout, padded_length=0, pad_id=0)
    places = batch.real_places()
    keys = TokenKeys()
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    peak = _Peak()
    training = setup.learns in ("adapter", "all")
    longest = max(lengths)

    class OfFakes(TokenBatch):
        """The same batch where a number that is read out of a tensor cannot be."""

        def real_places(self) -> torch.Tensor | None:
            return None if places is None else fake.from_tensor(places)

    with fake, _no_values_read(longest), kernels_as_on_cuda():
        classifier = _built(config, setup, keys, layers)
        classifier.train(training)
        for tensor in [*classifier.parameters(), *classifier.buffers(), *buffers_of(classifier)]:
            peak.count(tensor, "weight" if not tensor.requires_grad else "learns")
        objective = Objective(None, 0.0)
        learning = [weight for weight in classifier.parameters() if weight.requires_grad]
        optimizer = _with_state(learning) if training else None
        for state in optimizer.state.values() if optimizer else ():
            for tensor in state.values():
                peak.count(tensor, "state")
        with peak:
            # Micro-batches: the gradients of the first are there while the second runs.
            for _ in range(2 if training else 1):
                given = OfFakes(
                    fake.from_tensor(batch.ids.clone()),
                    fake.from_tensor(batch.positions.clone()),
                    batch.lengths,
                    fake.from_tensor(batch.keys.clone()),
                    batch.packed,
                )
                for tensor in (given.ids, given.positions, given.keys):
                    peak.count(tensor, "batch")
                if not training:
                    with torch.inference_mode():
                        classifier(given)
                    continue
                classes = torch.zeros(len(lengths), dtype=torch.int64)
                peak.phase = "forward"
                loss = objective.summed(classifier(given), classes)
                peak.phase = "backward"
                (loss / len(lengths)).backward()
                del loss
            if optimizer is not None:
                peak.phase = "optimizer"
                optimizer.step()
                optimizer.zero_grad()
    return Traced(**peak.moments)
