"""The training loop, over accelerate: epochs of steps, evaluation, the best and the last model, and stopping.

Everything that it does next follows from :class:`RunState`, so a run that was stopped goes on as if it never had been.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from metagene_classifier.batching.framing import Framing
from metagene_classifier.console import progress
from metagene_classifier.errors import MgcError
from metagene_classifier.metrics.classification import ClassificationMetrics
from metagene_classifier.model.out_of_memory import DeviceMemoryError, TokenBudget, is_out_of_memory, release
from metagene_classifier.model.saved import replace_folder
from metagene_classifier.store.order import ReadOrder, steps_of_epoch
from metagene_classifier.training.exchange import agree_on_failure, clip_gradients, sum_gradients
from metagene_classifier.training.history import History
from metagene_classifier.training.interrupts import StopRequest
from metagene_classifier.training.shares import fair_shares
from metagene_classifier.training.state import LossWindow, RunState, save_state
from metagene_classifier.training.steps import MicroBatchTooLarge, Objective, read_keys

__all__ = ["ENDS_THAT_MOVE", "Loop", "LoopSettings", "Route", "TrainingDiverged"]


STEPS_DONE = "all steps are done"
EPOCHS_DONE = "all epochs are done"
ENDS_THAT_MOVE = (STEPS_DONE, EPOCHS_DONE)
"""Reasons for an end that a longer run does away with."""


class TrainingDiverged(MgcError):
    """The loss is no longer a number."""


class Route(Protocol):
    """From the reads of a step to their gradients: through the encoder, or from stored embeddings."""

    @property
    def budget(self) -> TokenBudget:
        """Tokens in memory at once."""

    def add_gradients(
        self, reads: npt.NDArray[np.int64], keys: npt.NDArray[np.int64], *, divisor: float
    ) -> tuple[torch.Tensor, int]:
        """Add the gradients of the reads' summed loss over ``divisor``; returns that loss, not divided, and tokens.

        Args:
            reads: their numbers in the store; ``(reads,)``.
            keys: of each, for dropout and windows; ``(reads,)``.
            divisor: of the loss.

        Raises:
            MicroBatchTooLarge: memory ran out.
        """

    def validation_scores(self) -> npt.NDArray[np.float32]:
        """Class scores of the validation reads, ``(reads, classes)``, the same on every rank."""


@dataclass(frozen=True)
class LoopSettings:
    """The values of a configuration that the loop itself acts on.

    Attributes:
        reads_per_step: of one optimizer step over all ranks.
        total_steps: of the whole run.
        max_epochs: epochs at most.
        max_grad_norm: gradients are clipped to this norm.
        log_interval: steps between two rows of the history.
        checkpoint_every_steps: besides the end of each epoch; ``None`` for none.
        save_best: keep the best model.
        metric: chooses the best model and ends the run.
        greater_is_better: direction of ``metric``.
        patience: evaluations without a gain after which the run ends; ``None`` never.
        seed: of the order of reads and of dropout.
    """

    reads_per_step: int
    total_steps: int
    max_epochs: int
    max_grad_norm: float
    log_interval: int
    checkpoint_every_steps: int | None
    save_best: bool
    metric: str
    greater_is_better: bool
    patience: int | None
    seed: int


@dataclass
class Loop:
    """A run in progress.

    Attributes:
        output_dir: where ``best/`` and ``last/`` are written.
        weights: those that learn.
        objective: the loss.
        order: of the training reads.
        framing: how their tokens become segments.
        route: from a step's reads to their gradients.
        evaluate: scores the validation reads; ``None`` when there are none.
        write_model: fills a new folder with the model as it is now, given its metrics; without a folder, on a rank that
            does not write, it gives its part of what is sharded.
        tell: called with lines for the user.
    """

    settings: LoopSettings
    output_dir: Path
    accelerator: Any
    weights: list[torch.nn.Parameter]
    optimizer: Any
    scheduler: Any
    objective: Objective
    order: ReadOrder
    framing: Framing
    route: Route
    evaluate: Callable[[], ClassificationMetrics] | None
    write_model: Callable[[Path | None, ClassificationMetrics | None], None]
    state: RunState
    history: History
    tell: Callable[[str], None]
    window: LossWindow = field(default_factory=LossWindow)
    stop: StopRequest = field(default_factory=StopRequest)
    best_metrics: ClassificationMetrics | None = None
    last_metrics: ClassificationMetrics | None = None

    def run(self) -> RunState:
        """Train until the run is finished, or until a stop is asked for; the last model is on disk either way.

        Raises:
            TrainingDiverged: the loss is not finite.
            KeyboardInterrupt: a stop was asked for and everything is saved.
        """
        state, settings = self.state, self.settings
        with self.stop.watching(), self._bar() as bar:
            while not state.finished:
                self._run_epoch(bar)
                if state.step >= settings.total_steps:
                    state.finished = STEPS_DONE
                elif state.epoch + 1 >= settings.max_epochs:
                    state.finished = EPOCHS_DONE
                self._end_of_epoch()
        return state

    def _run_epoch(self, bar: Any) -> None:
        state, settings = self.state, self.settings
        self.last_metrics = None  # those of the epoch before say nothing of the weights to come
        order = self.order.epoch(state.epoch)
        for reads in steps_of_epoch(order, settings.reads_per_step, state.reads_done):
            if state.step >= settings.total_steps:
                break
            started = time.monotonic()
            loss, tokens = self._step(reads)
            state.step += 1
            state.reads_done += len(reads)
            state.seconds += time.monotonic() - started
            self.window.add(loss, len(reads), tokens, time.monotonic() - started)
            bar.update()
            if state.step % settings.log_interval == 0:
                row = self._log()
                bar.set_postfix_str(f"loss {row['loss']:.4f}, {row['reads_per_s']:.0f} reads/s")
            if self.stop.asked(self.accelerator):
                self._save_last()
                raise KeyboardInterrupt
            every = settings.checkpoint_every_steps
            if every and state.step % every == 0 and state.step < settings.total_steps:
                self._save_last()

    def _step(self, reads: npt.NDArray[np.int64]) -> tuple[torch.Tensor, int]:
        """One optimizer step over ``reads`` (of all ranks); returns its mean loss and this rank's tokens."""
        accelerator, store, state = self.accelerator, self.order.selection.store, self.state
        weight = self.objective.weight_of(store.classes_of(reads))
        places = np.arange(state.reads_done, state.reads_done + len(reads))
        keys = read_keys(places, seed=self.settings.seed, epoch=state.epoch)
        tokens_of_reads = self.framing.segment_tokens(store.lengths_of(reads))
        mine = fair_shares(tokens_of_reads, accelerator.num_processes)[accelerator.process_index]
        summed, tokens = self._gradients(reads[mine], keys[mine], weight)
        try:
            sum_gradients(self.weights, accelerator)
            clip_gradients(self.weights, self.settings.max_grad_norm, accelerator)
            self.optimizer.step()
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            raise DeviceMemoryError(
                "out of memory on the device while weights were updated: the optimizer's state does not fit: use "
                "optimizer.name: adamw_8bit, or train less (model.lora, model.freeze_layers); 'mgc plan' shows it"
            ) from error
        self.scheduler.step()
        self.optimizer.zero_grad()
        return accelerator.reduce(summed, "sum") / weight, tokens

    def _gradients(
        self, reads: npt.NDArray[np.int64], keys: npt.NDArray[np.int64], divisor: float
    ) -> tuple[torch.Tensor, int]:
        """Gradients of this rank's reads. When memory runs out on any rank, all begin the step again with less."""
        accelerator, device = self.accelerator, self.accelerator.device
        while True:
            # The encoder's own dropout, where it has any, draws from torch's generators.
            torch.manual_seed(_seed_of_step(self.settings.seed, self.state.step, accelerator.process_index))
            done, failure = None, None
            try:
                done = self.route.add_gradients(reads, keys, divisor=divisor)
            except MicroBatchTooLarge as error:
                failure = MicroBatchTooLarge(error.tokens, error.segments)  # without the frames that it went through
            failure = agree_on_failure(failure, accelerator)
            if failure is None and done is not None:
                if accelerator.scaler is not None:
                    # A rank without reads has scaled no loss yet, and could not scale its gradients back.
                    accelerator.scaler.scale(torch.zeros((), device=device))
                return done
            assert failure is not None
            done = None
            self.optimizer.zero_grad()
            release(device)
            self.route.budget.shrink(failure.tokens, failure.segments)

    def _log(self) -> dict[str, Any]:
        window, self.window = self.window, LossWindow()
        loss = window.mean_loss()
        self._refuse_divergence(loss)
        row = {
            "step": self.state.step,
            "epoch": self._epochs_done(),
            "loss": loss,
            "learning_rate": self.scheduler.get_last_lr()[0],
            "reads_per_s": window.reads / max(window.seconds, 1e-9),
            "tokens_per_s": window.tokens * self.accelerator.num_processes / max(window.seconds, 1e-9),
        }
        self._record(row)
        return row

    def _refuse_divergence(self, loss: float) -> None:
        if not math.isfinite(loss):
            raise TrainingDiverged(
                f"the loss is {loss} at step {self.state.step}: lower optimizer.lr (the last saved model is whole)"
            )

    def _record(self, row: dict[str, Any]) -> None:
        self.history.add(row)
        figures = {name: value for name, value in row.items() if isinstance(value, (int, float)) and name != "step"}
        self.accelerator.log(figures, step=row["step"])

    def _epochs_done(self) -> float:
        return self.state.epoch + self.state.reads_done / self.order.reads_per_epoch

    def _end_of_epoch(self) -> None:
        state, settings = self.state, self.settings
        gained = False
        if self.evaluate is not None:
            metrics = self.last_metrics = self.evaluate()
            value = _value_of(metrics, settings.metric)
            gained = _is_gain(value, state.best, settings.greater_is_better)
            if gained:
                state.best, state.best_step, state.without_gain = value, state.step, 0
                self.best_metrics = metrics
            else:
                state.without_gain += 1
            self._record_validation(metrics, gained)
            if settings.patience is not None and state.without_gain >= settings.patience and not state.finished:
                state.finished = f"{settings.metric} has not improved for {settings.patience} evaluations"
        # Otherwise max_steps ended it, and more steps go on within it.
        if state.reads_done >= self.order.reads_per_epoch:
            state.epoch += 1
            state.reads_done = 0
        if gained and settings.save_best:
            self._save("best")
        self._save_last()

    def _record_validation(self, metrics: ClassificationMetrics, gained: bool) -> None:
        state = self.state
        row = {"step": state.step, "epoch": self._epochs_done(), "eval_loss": metrics.loss}
        names = ("accuracy", "macro_f1", "micro_f1", "weighted_f1", "mcc", "auroc")
        row |= {f"eval_{name}": value for name in names if (value := getattr(metrics, name)) is not None}
        self._record(row)
        self.tell(
            f"epoch {state.epoch + 1}, step {state.step}: validation loss {metrics.loss:.4f}, "
            f"macro-F1 {metrics.macro_f1:.4f}, accuracy {metrics.accuracy:.4f}{' (best so far)' if gained else ''}"
        )

    def _save_last(self) -> None:
        if self.window.losses:
            self._refuse_divergence(self.window.mean_loss())
        self.state.rows = len(self.history.rows)
        self._save("last", with_state=True)

    def _save(self, name: str, *, with_state: bool = False) -> None:
        accelerator = self.accelerator
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            replace_folder(self.output_dir / name, lambda folder: self._write(folder, with_state))
        else:
            self._write(None, with_state)
        accelerator.wait_for_everyone()

    def _write(self, folder: Path | None, with_state: bool) -> None:
        self.write_model(folder, self.last_metrics)
        if with_state:
            save_state(folder, self.state, self.window, self.optimizer, self.scheduler, self.accelerator)

    def _bar(self) -> Any:
        return progress(total=self.settings.total_steps, initial=self.state.step, unit="step", label="training")


def _seed_of_step(seed: int, step: int, rank: int) -> int:
    return int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0])


def _value_of(metrics: ClassificationMetrics, name: str) -> float:
    value = getattr(metrics, name)
    return float("nan") if value is None else float(value)


def _is_gain(value: float, best: float | None, greater_is_better: bool) -> bool:
    if math.isnan(value):
        return False
    if best is None:
        return True
    return value > best if greater_is_better else value < best
