"""Calls over a Ray cluster: one worker reads, others tokenize on CPUs and score on GPUs, and blocks come back in order.

Ray Data (https://docs.ray.io/en/latest/data/data.html) moves the blocks, holds readers back when scoring is slower, and
gives the blocks of a worker that died to another one. The work itself is that of a single process: the same blocks
through the same functions, so the same scores.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from metagene_classifier.errors import ConfigError, MgcError
from metagene_classifier.prediction.opening import ScorerRecipe
from metagene_classifier.prediction.preparing import PreparedBlock, Preparer
from metagene_classifier.prediction.ray_cluster import (
    READING_CPUS,
    TOKENIZING_CPUS,
    ClusterError,
    Workers,
    choose_workers,
    connected,
)
from metagene_classifier.prediction.scorer import ScoredBlock, Scorer
from metagene_classifier.prediction.source import ReadSource
from metagene_classifier.prediction.stream_report import StreamReport
from metagene_classifier.reads.files import read_records
from metagene_classifier.reads.read import Read

__all__ = ["Recipe", "check_for_ray", "scored_on_ray", "scoring_on_ray"]

# Of a block whose worker died. A machine that is taken away costs one; a block that kills its workers stops the run.
RETRIES = 3


class Recipe(Protocol):
    """What workers open: :class:`ScorerRecipe`."""

    def preparer(self) -> Preparer:
        """For those that tokenize."""

    def open(self, tell: Callable[[str], None]) -> tuple[Any, Scorer]:
        """A model, and its class scores."""


def check_for_ray(source: ReadSource, device_map: str | None) -> None:
    """Refuse what the workers of a cluster cannot do, before one is asked for.

    Raises:
        ConfigError: they cannot read the input, or the model is to be spread over devices.
        DataError: a file is missing or holds no reads.
    """
    for name in source.files:
        path = Path(name)
        if name == "-" or (path.exists() and not path.is_file() and not path.is_dir()):
            raise ConfigError(f"--engine ray: the workers of a cluster cannot read {name}: name a file in --input")
    if device_map is not None:
        raise ConfigError("--engine ray holds the whole model in each worker: leave --device-map out")
    for name in source.files:
        if not Path(name).is_file():
            next(read_records(name))  # says what is wrong with it


@contextlib.contextmanager
def scoring_on_ray(
    recipe: ScorerRecipe, *, workers: int | None, block_reads: int, tell: Callable[[str], None]
) -> Iterator[Callable[[ReadSource, StreamReport], Iterator[ScoredBlock]]]:
    """A connection to a cluster as a function that scores reads there; standard output is silent meanwhile.

    Args:
        recipe: of the model; each worker has the device that the cluster gives it.
        workers: that hold the model; as many as there are GPUs, or machines, by default.
        block_reads: reads of a block.
        tell: called with lines for the user.

    Raises:
        MgcError: as in a single process.
        ClusterError: the cluster is not there, or its workers die.
    """
    import torch

    # There Ray writes what it notices of workers; what matters of that comes with the blocks.
    with connected() as nodes, open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        laid_out = choose_workers(nodes, device=recipe.device, asked=workers, threads=torch.get_num_threads())
        if laid_out.threads and laid_out.threads != torch.get_num_threads():
            tell(
                f"each worker computes with {laid_out.threads} threads, a run on this machine with "
                f"{torch.get_num_threads()}: scores may differ in their last digits"
            )
        there = replace(recipe, device="cuda" if laid_out.gpus else "cpu")

        def score(source: ReadSource, report: StreamReport) -> Iterator[ScoredBlock]:
            return scored_on_ray(
                source.absolute(), workers=laid_out, recipe=there, block_reads=block_reads, report=report, tell=tell
            )

        yield score


def scored_on_ray(
    source: ReadSource,
    *,
    workers: Workers,
    recipe: Recipe,
    block_reads: int,
    report: StreamReport,
    tell: Callable[[str], None],
) -> Iterator[ScoredBlock]:
    """Score reads on a cluster to which there is a connection; blocks in order.

    Args:
        source: files that every machine can read.
        workers: see :func:`choose_workers`.
        recipe: of what each worker opens once.
        block_reads: reads of a block.
        report: filled on the way.
        tell: called here with each line, once.

    Raises:
        MgcError: as in a single process, after the blocks before the fault.
        ClusterError: workers died over one block again and again, or the cluster is gone.
    """
    from ray.data import ActorPoolStrategy, DataContext, read_datasource
    from ray.exceptions import RayError, RayTaskError

    attempts = _attempts()
    context = DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True
    context.target_max_block_size = 1  # each of our blocks is one of Ray's, and so one task
    told: set[str] = set()
    budgets: set[int] = set()
    with DataContext.current(context):
        blocks = read_datasource(_source(source, block_reads), override_num_blocks=1, num_cpus=READING_CPUS)
        prepared = blocks.map(
            _Preparing,
            fn_constructor_args=(recipe, attempts),
            compute=ActorPoolStrategy(min_size=1, max_size=workers.tokenizing),
            num_cpus=TOKENIZING_CPUS,
        )
        scored = prepared.map(
            _Scoring,
            fn_constructor_args=(recipe, attempts, workers.threads),
            compute=ActorPoolStrategy(min_size=1, max_size=workers.scoring),
            num_cpus=workers.cpus,
            num_gpus=workers.gpus,
        )
    try:
        for row in scored.iter_rows():
            found: _Scored | _Failure = row["block"]
            if isinstance(found, _Failure):
                raise found.error
            for line in found.told:
                if line not in told:
                    tell(line)
                told.add(line)
            budgets.add(found.max_tokens)
            report.add(found.block.noticed)
            yield found.block
    except RayTaskError:
        raise  # a fault of this program
    except RayError as error:
        raise ClusterError(f"the cluster failed: {' '.join(str(error).split())[:300]}") from error
    if len(budgets) > 1:
        tell(f"workers took different tokens at once ({budgets}): scores may differ in their last digits")


@dataclass(frozen=True)
class _Reads:
    """A block of reads, and which it is."""

    number: int
    reads: list[Read]


@dataclass(frozen=True)
class _Prepared:
    """The same, with tokens, and what its worker has to say."""

    number: int
    block: PreparedBlock
    told: list[str]


@dataclass(frozen=True)
class _Scored:
    """A block with what its worker has to say."""

    block: ScoredBlock
    told: list[str]
    max_tokens: int


@dataclass(frozen=True)
class _Failure:
    """An error in the place of a block, so that those before it are still written."""

    error: MgcError


def _source(source: ReadSource, block_reads: int) -> Any:
    """Files as Ray Data reads them: one task that yields rows of one block each."""
    import pandas
    from ray.data import Datasource, ReadTask
    from ray.data.block import BlockMetadata

    def rows() -> Iterator[Any]:
        for block in _blocks_or_failure(source, block_reads):
            yield pandas.DataFrame({"block": pandas.Series([block], dtype=object)})

    class Blocks(Datasource):  # type: ignore[misc]
        def estimate_inmemory_data_size(self) -> int | None:
            return None

        def get_read_tasks(self, parallelism: int, *unused: Any, **also_unused: Any) -> list[Any]:
            return [ReadTask(rows, BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None))]

    return Blocks()


def _blocks_or_failure(source: ReadSource, block_reads: int) -> Iterator[_Reads | _Failure]:
    try:
        for number, block in enumerate(source.blocks(block_reads)):
            yield _Reads(number, block)
    except MgcError as error:
        yield _Failure(error)


class _Attempts:
    """Counts how often a block was begun: Ray itself would give it to a new worker for ever."""

    def __init__(self) -> None:
        self._begun: Counter[tuple[str, int]] = Counter()

    def begin(self, stage: str, number: int) -> int:
        self._begun[stage, number] += 1
        return self._begun[stage, number]

    def end(self, stage: str, number: int) -> None:
        del self._begun[stage, number]


def _attempts() -> Any:
    import ray

    return ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(_Attempts).remote()


class _Worker:
    """What takes a row of one block and gives another; what goes wrong takes the block's place."""

    stage = ""

    def __init__(self, recipe: Recipe, attempts: Any) -> None:
        self.told: list[str] = []
        self._recipe = recipe
        self._attempts = attempts

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        import ray

        block = row["block"]
        if isinstance(block, _Failure):
            return row
        try:
            begun = ray.get(self._attempts.begin.remote(self.stage, block.number))
            if begun > RETRIES + 1:
                raise ClusterError(
                    f"{begun - 1} workers died over block {block.number + 1} of the reads, {self.stage} it: out of "
                    "memory, perhaps: see Ray's log files, or call these reads without --engine ray"
                )
            if begun > 1:
                self.told.append(f"a worker died {self.stage} block {block.number + 1} of the reads: doing it again")
            done = self.work(block)
            self._attempts.end.remote(self.stage, block.number)
        except MgcError as error:
            return {"block": _Failure(error)}
        return {"block": done}

    def work(self, block: Any) -> Any:
        """One block."""
        raise NotImplementedError

    def take_told(self) -> list[str]:
        """What is to be told since the last time."""
        told, self.told = self.told, []
        return told


class _Preparing(_Worker):
    """Tokenizes."""

    stage = "tokenizing"
    _preparer: Preparer | None = None

    def work(self, block: _Reads) -> _Prepared:
        if self._preparer is None:
            self._preparer = self._recipe.preparer()
        return _Prepared(block.number, self._preparer.prepare(block.reads), self.take_told())


class _Scoring(_Worker):
    """Holds the model, which is loaded with the first block, so that failing to is an error in its place."""

    stage = "scoring"
    _scorer: Scorer | None = None

    def __init__(self, recipe: Recipe, attempts: Any, threads: int) -> None:
        super().__init__(recipe, attempts)
        self._threads = threads

    def work(self, block: _Prepared) -> _Scored:
        if self._scorer is None:
            if self._threads:
                import torch

                torch.set_num_threads(self._threads)
            _, self._scorer = self._recipe.open(lambda line: self.told.append(line))
        scored = self._scorer.score(block.block)
        return _Scored(scored, block.told + self.take_told(), self._scorer.budget.tokens)
