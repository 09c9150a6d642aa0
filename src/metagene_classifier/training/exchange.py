"""What ranks tell one another in a step: whether memory ran out, and the gradients.

The exchange is a step of its own, after the backward pass of every rank. One that came with the backward pass would
leave the other ranks waiting for ever when memory runs out on one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch

from metagene_classifier.model.sharding import is_shard
from metagene_classifier.training.steps import MicroBatchTooLarge

__all__ = ["agree_on_failure", "clip_gradients", "share_weights", "sum_gradients"]

# Gradients travel in pieces of this many values: few calls, and little memory beside them.
PIECE = 2**25


def agree_on_failure(failure: MicroBatchTooLarge | None, accelerator: Any) -> MicroBatchTooLarge | None:
    """The smallest micro-batch that failed on any rank; the same on all of them."""
    if accelerator.num_processes == 1:
        return failure
    most = torch.iinfo(torch.int64).max
    mine = [failure.tokens, failure.segments] if failure is not None else [most, most]
    told = accelerator.gather(torch.tensor([mine], device=accelerator.device)).tolist()
    tokens, segments = min(told)
    return MicroBatchTooLarge(tokens, segments) if tokens < most else None


def sum_gradients(weights: Iterable[torch.nn.Parameter], accelerator: Any) -> None:
    """Sum the gradients over the ranks; a rank without reads in the step adds nothing.

    Those of sharded weights have been summed as the backward pass came to them.
    """
    if accelerator.num_processes == 1:
        return
    for piece in _pieces(weight for weight in weights if not is_shard(weight)):
        for weight in piece:
            if weight.grad is None:
                weight.grad = torch.zeros_like(weight)
        gradients = [weight.grad for weight in piece if weight.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        torch.distributed.all_reduce(flat)
        sums = torch.split(flat, [gradient.numel() for gradient in gradients])
        for gradient, summed in zip(gradients, sums, strict=True):
            gradient.copy_(summed.view_as(gradient))


def clip_gradients(weights: Sequence[torch.nn.Parameter], most: float, accelerator: Any) -> None:
    """Hold the norm of all gradients together to ``most``; of sharded weights the parts of all ranks count."""
    if not any(is_shard(weight) for weight in weights):
        accelerator.clip_grad_norm_(weights, most)
        return
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    parts: list[Any] = [gradient for gradient in gradients if is_shard(gradient)]
    squares = torch.zeros((), dtype=torch.float64, device=accelerator.device)
    for part in parts:
        squares += torch.linalg.vector_norm(part.to_local(), dtype=torch.float32).double() ** 2
    torch.distributed.all_reduce(squares)
    for gradient in gradients:
        if not is_shard(gradient):
            squares += torch.linalg.vector_norm(gradient, dtype=torch.float32).double() ** 2
    factor = (most / (squares.sqrt() + 1e-6)).clamp(max=1.0).float()
    for gradient in [*(part.to_local() for part in parts), *(one for one in gradients if not is_shard(one))]:
        gradient.mul_(factor)


def share_weights(weights: Iterable[torch.nn.Parameter], accelerator: Any) -> None:
    """Let every rank begin with the first one's trained weights; sharded ones were read from the same files."""
    if accelerator.num_processes > 1:
        for weight in weights:
            if not is_shard(weight):
                torch.distributed.broadcast(weight.data, src=0)


def _pieces(weights: Iterable[torch.nn.Parameter]) -> Iterator[list[torch.nn.Parameter]]:
    """Weights of one number format, so many at a time."""
    piece: list[torch.nn.Parameter] = []
    held = 0
    for weight in sorted(weights, key=lambda weight: str(weight.dtype)):
        if piece and (held + weight.numel() > PIECE or weight.dtype != piece[0].dtype):
            yield piece
            piece, held = [], 0
        piece.append(weight)
        held += weight.numel()
    if piece:
        yield piece
