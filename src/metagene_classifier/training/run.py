"""A training run from its configuration: data, model, loop, and what is left on disk."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from metagene_classifier.calling.tree import ClassTree
from metagene_classifier.config import Config
from metagene_classifier.console import is_first_rank
from metagene_classifier.errors import ConfigError, DataError
from metagene_classifier.metrics.classification import ClassificationMetrics, classification_metrics
from metagene_classifier.model.classifier import ReadClassifier
from metagene_classifier.model.devices import choose_device, dtype_name, own_device
from metagene_classifier.model.out_of_memory import TokenBudget
from metagene_classifier.model.saved import restore_weights, save_model
from metagene_classifier.model.sharding import is_sharded, save_encoder
from metagene_classifier.store.selection import Selection
from metagene_classifier.training.builder import BuiltClassifier, build_classifier, set_training
from metagene_classifier.training.calibrating import CalibrationSettings, calibrate_run, is_due
from metagene_classifier.training.data import TrainingData, load_training_data
from metagene_classifier.training.embeddings import StoredEmbeddings
from metagene_classifier.training.evaluation import to_probabilities
from metagene_classifier.training.exchange import share_weights
from metagene_classifier.training.fitting import fit_to_device
from metagene_classifier.training.from_embeddings import FromEmbeddings
from metagene_classifier.training.head_only import OTHER_STRAND, embeddings_for_head
from metagene_classifier.training.history import History, trackers_for
from metagene_classifier.training.loop import ENDS_THAT_MOVE, Loop, Route
from metagene_classifier.training.optimizer import check_optimizer, make_optimizer
from metagene_classifier.training.output import (
    begin_output_dir,
    check_output_dir,
    has_saved_state,
    resumed_config,
    tokens_before,
    with_quantization,
)
from metagene_classifier.training.parallel import (
    AllAlike,
    check_same_everywhere,
    join_ranks,
    one_line_of_a_lost_rank,
    ranks,
)
from metagene_classifier.training.sampled_embeddings import EmbedsReads, FromDisk, MadeAnew, embedding_passes
from metagene_classifier.training.schedule import make_schedule, warmup_for
from metagene_classifier.training.settings import describe, loop_settings, objective_of
from metagene_classifier.training.sharing import check_parallel
from metagene_classifier.training.state import LossWindow, RunState, load_state, restore_optimization
from metagene_classifier.training.steps import Objective
from metagene_classifier.training.strands import both_strands_of
from metagene_classifier.training.through_encoder import ThroughEncoder

__all__ = ["RunFacts", "TrainingResult", "train"]


@dataclass(frozen=True)
class RunFacts:
    """What a model card says of the run that made the model."""

    config: Config
    data: TrainingData
    state: RunState
    device: str
    weights_dtype: str
    quantization: str
    plan: str
    reads_per_step: int
    metrics: ClassificationMetrics | None


@dataclass(frozen=True)
class TrainingResult:
    """A finished run.

    Attributes:
        model_folder: the best model, or the last where no best one was kept.
        metrics: of that model on the validation reads; ``None`` when there were none.
        history: rows of ``history.jsonl``.
        facts: of the run.
    """

    model_folder: Path
    metrics: ClassificationMetrics | None
    history: list[dict[str, Any]]
    facts: RunFacts


@one_line_of_a_lost_rank
def train(
    config: Config,
    *,
    resume: bool,
    overwrite: bool,
    tell: Callable[[str], None],
    write_card: Callable[[Path, RunFacts], None],
) -> TrainingResult:
    """Fine-tune an encoder into a classifier.

    Args:
        config: the resolved configuration.
        resume: go on with the run in ``training.output_dir``.
        overwrite: replace the run that is there.
        tell: called with lines for the user.
        write_card: writes ``README.md`` into a model's folder.

    Raises:
        MgcError: anything in configuration, data, encoder or output that a user can mend.
        KeyboardInterrupt: stopped by the user, with everything saved.
    """
    from accelerate import Accelerator

    output_dir = Path(config.training.output_dir)
    if config.model.device_map is not None:
        raise ConfigError("model.device_map: auto is for prediction: training places the encoder itself, leave it out")
    check_parallel(config, ranks())
    check_output_dir(output_dir, config, resume=resume, overwrite=overwrite, tell=tell)
    resume = resume and has_saved_state(output_dir)
    before, begun = None, resume and config.model.quantization == "auto"
    if resume:
        config, before = resumed_config(output_dir, config), tokens_before(output_dir)
    data = load_training_data(config, tell)
    device = own_device(choose_device(config.device, tell))
    join_ranks(device)
    check_optimizer(config.optimizer.name, device)
    fitted = fit_to_device(config, data, device, tell, before=before, begun=begun)
    config = with_quantization(config, fitted.config.model.quantization)
    built = build_classifier(fitted.config, classes=len(data.labels), device=device, tell=tell)
    objective = objective_of(config, data)
    budget = TokenBudget(fitted.max_tokens, tell, fitted.advice)
    embeddings = embeddings_for_head(fitted.config, data, built, budget=budget, device=device, tell=tell)
    # From here on the old run is gone.
    begin_output_dir(output_dir, config, max_tokens=fitted.max_tokens, resume=resume)
    run = _Run(config, data, built, objective, budget, embeddings, str(device), fitted.line, output_dir)
    logging = config.logging
    trackers = trackers_for(
        output_dir, tensorboard=logging.tensorboard, wandb=logging.use_wandb, first_rank=is_first_rank(), tell=tell
    )
    accelerator = Accelerator(
        cpu=device.type == "cpu",
        mixed_precision="fp16" if built.classifier.compute_dtype is torch.float16 else "no",
        log_with=trackers or None,
        project_dir=output_dir,
        device_placement=False,
    )
    if trackers:
        accelerator.init_trackers(logging.wandb_project, init_kwargs={"wandb": {"entity": logging.wandb_entity}})
    loop = _make_loop(run, accelerator, resume, write_card, tell)
    started = time.monotonic()
    try:
        state = loop.run()
        tell(f"training ended after {state.step} steps ({time.monotonic() - started:.0f} s): {state.finished}")
        kept_best = loop.evaluate is not None and config.training.checkpoint.save_best and state.best is not None
        folder = output_dir / ("best" if kept_best else "last")
        metrics = loop.last_metrics
        if kept_best:
            metrics = loop.best_metrics
            if metrics is None:  # the best model is of an earlier session
                restore_weights(built.classifier, folder)
                metrics = loop.evaluate() if loop.evaluate is not None else None
        is_loaded = not kept_best or loop.best_metrics is None or state.best_step == state.step
        _calibrate(run, folder, loop.route, accelerator, is_loaded=is_loaded, tell=tell)
    finally:
        accelerator.end_training()  # ranks cannot speak to one another afterwards
    if kept_best and not config.training.checkpoint.save_last and is_first_rank():
        shutil.rmtree(output_dir / "last")  # it was kept that long so that the run could be resumed
    facts = run.facts(state, loop.settings.reads_per_step, metrics)
    return TrainingResult(folder, metrics, loop.history.rows, facts)


def _calibrate(
    run: _Run, folder: Path, route: Route, accelerator: Any, *, is_loaded: bool, tell: Callable[[str], None]
) -> None:
    """Measure the confidence of the model in ``folder``, whose weights may have to be put back first."""
    config, data, classifier, asked = run.config, run.data, run.built.classifier, run.config.calling
    both = asked.strand == "average" and run.embeddings is None and data.tokenizer.loses() is None
    settings = CalibrationSettings(
        calibrate=asked.calibrate,
        reads=asked.calibration_reads,
        open_set=asked.open_set,
        open_set_reads=asked.open_set_reads,
        folds=asked.folds,
        seed=config.seed,
        strand="average" if both else "single",
    )
    due = is_due(folder, len(data.validation), settings, tell)
    accelerator.wait_for_everyone()  # until every rank has looked
    if not due:
        return
    if not is_loaded:
        restore_weights(classifier, folder)
    classifier.eval()
    head = classifier.head
    assert head is not None

    def embeds(reads: Selection, name: str) -> EmbedsReads:
        if run.embeddings is not None:
            return FromDisk(reads, run.embeddings[name])
        alike = getattr(route, "alike", None)
        return MadeAnew(
            reads=reads,
            classifier=classifier,
            framing=data.framing,
            budget=run.budget,
            layout=run.built.layout,
            accelerator=accelerator,
            both_strands=data.tokenizer if both else None,
            alike=None if alike is None else embedding_passes(classifier, alike),
        )

    calibrate_run(
        folder,
        run.output_dir,
        train=embeds(data.train, "training"),
        validation=embeds(data.validation, "validation"),
        head=head,
        tree=ClassTree.of(data.labels, data.taxonomy),
        settings=settings,
        accelerator=accelerator,
        tell=tell,
    )


@dataclass(frozen=True)
class _Run:
    """What a run has in hand before its first step."""

    config: Config
    data: TrainingData
    built: BuiltClassifier
    objective: Objective
    budget: TokenBudget
    embeddings: dict[str, StoredEmbeddings] | None
    device: str
    plan: str
    output_dir: Path

    def facts(self, state: RunState, reads_per_step: int, metrics: ClassificationMetrics | None) -> RunFacts:
        """What there is to say of the run as it stands."""
        built = self.built
        return RunFacts(
            config=self.config,
            data=self.data,
            state=state,
            device=self.device,
            weights_dtype=dtype_name(built.weights_dtype),
            quantization=built.quantization,
            plan=self.plan,
            reads_per_step=reads_per_step,
            metrics=metrics,
        )


def _make_loop(
    run: _Run,
    accelerator: Any,
    resume: bool,
    write_card: Callable[[Path, RunFacts], None],
    tell: Callable[[str], None],
) -> Loop:
    config, data, classifier, output_dir = run.config, run.data, run.built.classifier, run.output_dir
    state, saved = _start_or_resume(classifier, data, output_dir / "last", resume)
    settings = loop_settings(config, data, state, accelerator)
    if state.finished in ENDS_THAT_MOVE and state.step < settings.total_steps:
        state.finished = ""  # the run was given more epochs or steps
    weights = [weight for weight in classifier.parameters() if weight.requires_grad]
    share_weights(weights, accelerator)
    optimizer = make_optimizer(
        weights,
        name=config.optimizer.name,
        lr=config.optimizer.lr,
        betas=config.optimizer.betas,
        weight_decay=config.optimizer.weight_decay,
    )
    horizon = config.scheduler.num_training_steps
    scheduler = make_schedule(
        optimizer,
        name=config.scheduler.name,
        warmup_steps=warmup_for(config.scheduler.warmup_steps, settings.total_steps, tell),
        total_steps=settings.total_steps if horizon == "auto" else horizon,
    )
    prepared_optimizer = accelerator.prepare_optimizer(optimizer)
    window = LossWindow()
    if saved:
        window = restore_optimization(saved, prepared_optimizer, scheduler, accelerator)
        tell(f"resuming in epoch {state.epoch + 1} after step {state.step}")

    compute_auroc = config.metrics.compute_auroc or settings.metric == "auroc"
    route = _route(run, accelerator)

    def evaluate() -> ClassificationMetrics:
        classifier.eval()
        scores = route.validation_scores()
        set_training(classifier, config.model.freeze)
        truth = data.validation.store.classes_of(data.validation.numbers())
        return classification_metrics(truth, to_probabilities(scores), data.labels.names, compute_auroc=compute_auroc)

    def write_model(folder: Path | None, metrics: ClassificationMetrics | None) -> None:
        if folder is None:
            if config.model.learns == "all" and is_sharded(classifier):
                save_encoder(classifier.transformer, None)
            return
        save_model(folder, classifier, data.tokenizer, describe(config, data, run.built), data.taxonomy)
        write_card(folder, run.facts(state, settings.reads_per_step, metrics))

    set_training(classifier, config.model.freeze)
    return Loop(
        settings=settings,
        output_dir=output_dir,
        accelerator=accelerator,
        weights=weights,
        optimizer=prepared_optimizer,
        scheduler=scheduler,
        objective=run.objective,
        order=data.order,
        framing=data.framing,
        route=route,
        evaluate=evaluate if len(data.validation) else None,
        write_model=write_model,
        state=state,
        history=History(output_dir / "history.jsonl" if is_first_rank() else None, state.rows),
        tell=tell,
        window=window,
    )


def _route(run: _Run, accelerator: Any) -> Route:
    data, classifier = run.data, run.built.classifier
    if run.embeddings is not None:
        return FromEmbeddings(
            classifier=classifier,
            reads=data.train,
            train=run.embeddings["training"],
            validation=run.embeddings["validation"],
            objective=run.objective,
            budget=run.budget,
            accelerator=accelerator,
            other_strand=run.embeddings.get(OTHER_STRAND),
        )
    strands = both_strands_of(run.config.training.reverse_complement, data.tokenizer)
    alike = None
    if is_sharded(classifier):
        alike = AllAlike(classifier, data.framing, run.built.layout, accelerator, run.objective.strands)
    return ThroughEncoder(
        classifier=classifier,
        train=data.train,
        validation=data.validation,
        framing=data.framing,
        objective=run.objective,
        budget=run.budget,
        layout=run.built.layout,
        accelerator=accelerator,
        alike=alike,
        strands=strands,
    )


def _start_or_resume(
    classifier: ReadClassifier, data: TrainingData, last: Path, resume: bool
) -> tuple[RunState, dict[str, Any]]:
    """A new state, or the saved one with the classifier's weights put back and the other parts for later.

    Raises:
        DataError: the reads are not those that the run began with, or not the same on all ranks.
    """
    fingerprints = {"train": data.train.fingerprint(), "validation": data.validation.fingerprint()}
    check_same_everywhere(fingerprints)
    if not resume:
        return RunState(data=fingerprints), {}
    state, saved = load_state(last, mapped=is_sharded(classifier))
    changed = [name for name, value in fingerprints.items() if state.data.get(name) != value]
    if changed:
        raise DataError(
            f"cannot resume: the {' and '.join(changed)} reads are not those that the run began with: "
            "give the same files, or start again with --overwrite"
        )
    restore_weights(classifier, last)
    return state, saved
