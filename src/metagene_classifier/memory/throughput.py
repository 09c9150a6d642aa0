"""Tokens a second that were measured on a card: read from what ``benchmarks/gpu_memory.py`` wrote, never guessed."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metagene_classifier.errors import ConfigError
from metagene_classifier.hub import RESOURCES
from metagene_classifier.memory.cards import known_card

__all__ = ["Throughput", "read_throughput", "shipped_throughput", "tokens_per_second"]

FOLDER = RESOURCES / "throughput"


@dataclass(frozen=True)
class Throughput:
    """One measurement.

    Attributes:
        device: as its driver calls it.
        way: the way's name in the plan.
        parameters: of the encoder.
        tokens_per_read: of the reads that were measured.
        tokens_per_s: forward and backward for training, forward for prediction.
    """

    device: str
    way: str
    parameters: int
    tokens_per_read: float
    tokens_per_s: float


def read_throughput(path: Path) -> list[Throughput]:
    """The measurements in a file of ``benchmarks/gpu_memory.py --json``.

    Raises:
        ConfigError: the file is missing or is not of that kind.
    """
    try:
        values: Any = json.loads(path.read_text(encoding="utf-8"))
        return [
            Throughput(
                str(values["device"]),
                str(row["way"]),
                int(values["encoder"]["parameters"]),
                float(row["tokens_per_read"]),
                float(row["tokens_per_s"]),
            )
            for row in values["rows"]
            if row.get("tokens_per_s")
        ]
    except OSError as error:
        raise ConfigError(f"--figures {path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"--figures {path}: not a file that benchmarks/gpu_memory.py --json wrote: run it again"
        ) from error


def shipped_throughput() -> list[Throughput]:
    """The measurements that ship with the package; empty while there are none."""
    return [one for path in sorted(FOLDER.glob("*.json")) for one in read_throughput(path)] if FOLDER.is_dir() else []


def tokens_per_second(
    measured: Sequence[Throughput], *, device: str, way: str, parameters: int, tokens_per_read: float
) -> float | None:
    """What was measured of the same way with an encoder of the same size on the same card; ``None`` where nothing was.

    Of several the one counts whose reads were the most alike in length.

    Args:
        measured: all there is.
        device: a card's name, as the driver or this project calls it.
        way: the way's name in the plan.
        parameters: of the encoder.
        tokens_per_read: of the reads to come.
    """
    names = _names(device)
    same: Iterable[Throughput] = (
        one for one in measured if one.way == way and one.parameters == parameters and names & _names(one.device)
    )
    nearest = min(same, key=lambda one: abs(math.log(one.tokens_per_read / tokens_per_read)), default=None)
    return nearest.tokens_per_s if nearest is not None else None


def _names(device: str) -> set[str]:
    card = known_card(device)
    return {device, card.name} if card is not None else {device}
