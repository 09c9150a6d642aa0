"""A Ray cluster: how to reach it, and how the work of a prediction is laid on its machines."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass

from metagene_classifier.errors import ConfigError, MgcError

__all__ = ["QUIET", "READING_CPUS", "TOKENIZING_CPUS", "ClusterError", "Workers", "choose_workers", "connected"]

# Reading and tokenizing wait for scoring most of the time. Were the two numbers the same, Ray would do both in one
# worker, and there is one alone that reads.
READING_CPUS = 0.2
TOKENIZING_CPUS = 0.25
# Read when Ray is imported. Nothing is sent anywhere, and what Ray says of itself goes into its own log files.
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DATA_LOG_LEVEL": "ERROR",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


class ClusterError(MgcError):
    """A cluster that is not there, or whose workers die."""


@dataclass(frozen=True)
class Workers:
    """How work is laid on a cluster.

    Attributes:
        scoring: processes that hold the model, at most.
        tokenizing: processes that tokenize, at most.
        gpus: of each that holds the model; 0 or 1.
        cpus: of each that holds the model.
        threads: of its arithmetic on a CPU; 0 leaves them as they are.
    """

    scoring: int
    tokenizing: int
    gpus: int
    cpus: float
    threads: int


def choose_workers(nodes: list[dict[str, float]], *, device: str, asked: int | None, threads: int) -> Workers:
    """Lay the work on a cluster: a worker for each GPU, or for each machine where there is none.

    Args:
        nodes: ``CPU`` and ``GPU`` of each machine, as Ray counts them.
        device: ``--device``.
        asked: workers that the user wants.
        threads: of one process on one machine.

    Raises:
        ConfigError: the device is one of a machine's own, or there are fewer GPUs than workers asked for.
    """
    if device not in ("auto", "cuda", "cpu"):
        raise ConfigError(f"--engine ray gives each worker its own device: --device auto, cuda or cpu, not {device}")
    gpus = sum(int(node.get("GPU", 0)) for node in nodes)
    cpu_nodes = [int(node.get("CPU", 0)) for node in nodes if node.get("CPU", 0) >= 1]
    if not cpu_nodes:
        raise ConfigError("--engine ray: the cluster has no machine with a free CPU")
    all_cpus = sum(cpu_nodes)
    if device == "cuda" and not gpus:
        raise ConfigError("--engine ray --device cuda: the cluster has no GPU: use --device cpu")
    if gpus and device != "cpu":
        if asked is not None and asked > gpus:
            raise ConfigError(f"--workers {asked}: the cluster has {gpus} GPUs, and each worker takes one")
        scoring = asked or gpus
        return Workers(scoring, max(1, min(scoring, all_cpus // 2)), gpus=1, cpus=0.0, threads=0)
    scoring = asked or len(cpu_nodes)
    each = min(cpu_nodes) // -(-scoring // len(cpu_nodes))
    cpus = float(each - 1) if each > 1 else 0.5
    if scoring * cpus + READING_CPUS + TOKENIZING_CPUS > all_cpus:
        raise ConfigError(f"--workers {asked}: too many for the {all_cpus} CPUs of the cluster")
    return Workers(
        scoring, max(1, min(scoring, all_cpus // 4)), gpus=0, cpus=cpus, threads=max(1, min(threads, each or 1))
    )


@contextlib.contextmanager
def connected() -> Iterator[list[dict[str, float]]]:
    """A connection to the cluster of ``RAY_ADDRESS`` or of this machine; without one, Ray starts here and ends again.

    Yields:
        What each of its machines has.

    Raises:
        ClusterError: Ray is not installed, or the cluster is not there.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ClusterError(
            f"--engine ray needs Ray, which cannot be imported ({error}): pip install 'metagene-classifier[ray]'"
        ) from error
    started = not ray.is_initialized()
    if started:
        try:
            with _no_stderr():
                ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.CRITICAL)
        except (OSError, RuntimeError, ValueError) as error:
            where = os.environ.get("RAY_ADDRESS", "this machine")
            first = " ".join(str(error).split())[:200]
            raise ClusterError(f"no Ray cluster at {where} ({first}): start it, or set RAY_ADDRESS") from error
    try:
        yield [node["Resources"] for node in ray.nodes() if node["Alive"]]
    finally:
        if started:
            ray.shutdown()


@contextlib.contextmanager
def _no_stderr() -> Iterator[None]:
    """Drop what Ray's compiled part says of its own start; what goes wrong there is raised."""
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
