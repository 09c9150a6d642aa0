"""A model of three organisms behind the server, its thread running."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from tests.browser import browser
from tests.model.conftest import load, run_of

from metagene_classifier.model.description import CallingFacts
from metagene_classifier.prediction.calling import Caller, caller_of
from metagene_classifier.prediction.opening import ScorerRecipe
from metagene_classifier.prediction.scorer import Scorer
from metagene_classifier.serving.app import ServedModel, make_app
from metagene_classifier.serving.guard import Guard
from metagene_classifier.serving.limits import Limits
from metagene_classifier.serving.worker import ModelWorker

__all__ = ["browser", "load", "run_of"]

TAXONOMY = Path(__file__).parents[2] / "data" / "taxonomy"


@dataclass(frozen=True)
class Opened:
    """A model in hand."""

    scorer: Scorer
    caller: Caller
    calls_as: Callable[..., Caller]
    screening: CallingFacts


@dataclass(frozen=True)
class Served:
    """A model behind the server."""

    app: Guard
    worker: ModelWorker
    client: TestClient

    def call(self, text: str | bytes, mates: str | None = None, **form: str) -> Any:
        """The answer to reads."""
        files = {"reads": ("../../etc/passwd", text)}
        if mates is not None:
            files["mates"] = ("mates", mates)
        return self.client.post("/api/calls", files=files, data=form)


@pytest.fixture(scope="session")
def model_folder(run_of, tmp_path_factory) -> Path:
    """A saved model of Escherichia coli, Bacillus subtilis and phiX174, whose head has random weights."""
    return run_of(calling__calibrate=False).save(tmp_path_factory.mktemp("served") / "model")


@pytest.fixture(scope="session")
def opened_model(model_folder) -> Opened:
    """The model, with ranks and lineages; any read of 4 tokens is called."""
    model, scorer = ScorerRecipe(model_folder, device="cpu").open(lambda line: None)
    calls = partial(caller_of, model, taxonomy=TAXONOMY, min_tokens=4)
    return Opened(scorer, calls(), calls, model.description.calling)


@pytest.fixture
def served(opened_model) -> Callable[..., Any]:
    """A context manager of the model behind the server; ``run`` stands in for the model itself."""

    @contextmanager
    def made(
        *,
        run: Callable[..., Any] | None = None,
        caller: Caller | None = None,
        works: bool = True,
        hosts: tuple[str, ...] = (),
        stopping: Callable[[], bool] = lambda: False,
        **limits: Any,
    ) -> Iterator[Served]:
        bounds = Limits(**limits)
        scorer = opened_model.scorer if run is None else replace(opened_model.scorer, run=run)
        worker = ModelWorker(scorer, max_queued=bounds.max_queued)
        if works:
            worker.start()
        calls = caller or opened_model.caller
        screened = {"screening": opened_model.screening, "min_tokens": calls.options.min_tokens}
        about = ServedModel("tiny", "tests/encoder", scorer.strand, **screened)
        app = make_app(worker, calls, about, bounds, hosts=hosts, stopping=stopping)
        client = TestClient(app, base_url="http://localhost:8000", raise_server_exceptions=False)
        try:
            yield Served(app, worker, client)
        finally:
            worker.stop()

    return made


def sequences(count: int, length: int = 60, seed: int = 0) -> list[str]:
    """Random bases."""
    rng = random.Random(seed)
    return ["".join(rng.choices("ACGT", k=length)) for _ in range(count)]


def fasta(count: int, length: int = 60, seed: int = 0) -> str:
    """So many reads as text."""
    return "".join(f">read{number} of {seed}\n{text}\n" for number, text in enumerate(sequences(count, length, seed)))
