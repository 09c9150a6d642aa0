"""How far a run has come: what resuming needs besides the model, in one file beside it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from metagene_classifier.errors import ModelFolderError
from metagene_classifier.training.optimizer import optimizer_in_parts, page_state, whole_optimizer

__all__ = ["STATE_FILE", "LossWindow", "RunState", "load_state", "restore_optimization", "save_state"]

STATE_FILE = "training_state.pt"


@dataclass
class RunState:
    """Counters of a run; together with the seed they say which reads are still to come, and what they draw.

    Attributes:
        epoch: the epoch under way, from 0.
        reads_done: places of this epoch's order that steps have covered, over all ranks: a run may go on with another
            number of ranks, and every read is still met as often as its epoch has it.
        step: optimizer steps taken.
        rows: of ``history.jsonl`` that were written by then.
        best: best value of the metric so far.
        best_step: the step that gave it.
        without_gain: evaluations since.
        seconds: spent in training, over all sessions.
        finished: why the run has ended; empty while it has not.
        data: fingerprints of the reads.
    """

    epoch: int = 0
    reads_done: int = 0
    step: int = 0
    rows: int = 0
    best: float | None = None
    best_step: int = 0
    without_gain: int = 0
    seconds: float = 0.0
    finished: str = ""
    data: dict[str, str] = field(default_factory=dict)


@dataclass
class LossWindow:
    """Sums since the last row of the history; losses stay on the device until they are asked for."""

    losses: list[torch.Tensor] = field(default_factory=list)
    reads: int = 0
    tokens: int = 0
    seconds: float = 0.0

    def add(self, loss: torch.Tensor, reads: int, tokens: int, seconds: float) -> None:
        """Count one step."""
        self.losses.append(loss)
        self.reads += reads
        self.tokens += tokens
        self.seconds += seconds

    def mean_loss(self) -> float:
        """Mean of the steps' losses."""
        return float(torch.stack([loss.cpu() for loss in self.losses]).double().mean())

    def as_dict(self) -> dict[str, Any]:
        """Plain values, from which the same window can be made again."""
        losses = [loss.cpu() for loss in self.losses]
        return {"losses": losses, "reads": self.reads, "tokens": self.tokens, "seconds": self.seconds}


def save_state(
    folder: Path | None, state: RunState, window: LossWindow, optimizer: Any, scheduler: Any, accelerator: Any
) -> None:
    """Write counters, and the state of optimizer, schedule and the like, as plain tensors and numbers.

    All ranks call this; those that do not write, without a folder, give their parts of what is sharded.
    """
    of_optimizer = whole_optimizer(optimizer, keep=folder is not None)
    if folder is None:
        return
    parts = {
        "counters": asdict(state),
        "window": window.as_dict(),
        "optimizer": of_optimizer,
        "scheduler": scheduler.state_dict(),
        "scaler": accelerator.scaler.state_dict() if accelerator.scaler is not None else {},
    }
    torch.save(parts, folder / STATE_FILE)


def restore_optimization(saved: dict[str, Any], optimizer: Any, scheduler: Any, accelerator: Any) -> LossWindow:
    """Put the parts that :func:`load_state` read back where they were; returns the sums since the last log row."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    optimizer.load_state_dict(optimizer_in_parts(saved["optimizer"], weights))
    page_state(optimizer)
    scheduler.load_state_dict(saved["scheduler"])
    if accelerator.scaler is not None and saved["scaler"]:
        accelerator.scaler.load_state_dict(saved["scaler"])
    return LossWindow(**saved["window"])


def load_state(folder: Path, *, mapped: bool = False) -> tuple[RunState, dict[str, Any]]:
    """Counters and the other parts that :func:`save_state` wrote.

    Args:
        folder: where they are.
        mapped: read tensors as they are used, not at once: for ranks that take a part each.

    Raises:
        ModelFolderError: the file is missing or damaged.
    """
    path = folder / STATE_FILE
    try:
        # A file that is mapped is read as its tensors are used: of what is sharded, each rank reads its part.
        parts = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
        return RunState(**parts.pop("counters")), parts
    except FileNotFoundError as error:
        raise ModelFolderError(f"{folder} holds no {STATE_FILE}: there is nothing to resume from") from error
    except Exception as error:  # a damaged file fails in as many ways as there are bytes
        raise ModelFolderError(
            f"{path} is damaged ({type(error).__name__}): start again with --overwrite, or restore the file"
        ) from error
