"""How well a score tells reads of organisms that a model never saw from those that it knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = [
    "RETAINED",
    "FoldFigures",
    "FoldNovelty",
    "OpenSetFigures",
    "known_quantiles",
    "open_set_as_dict",
    "open_set_figures",
    "open_set_from_dict",
]

RETAINED = 0.95
"""The share of known reads at which false calls are told, as is usual."""
CURVE_POINTS = 101


@dataclass(frozen=True)
class FoldNovelty:
    """How strange reads are to a model without some classes.

    Attributes:
        left_out: labels of these classes.
        known: of reads of the other classes, larger is stranger; ``(known,)``.
        unknown: of reads of the left-out ones; ``(unknown,)``.
    """

    left_out: tuple[str, ...]
    known: npt.NDArray[np.float64]
    unknown: npt.NDArray[np.float64]


@dataclass(frozen=True)
class FoldFigures:
    """One fold; see :class:`OpenSetFigures`."""

    left_out: tuple[str, ...]
    known: int
    unknown: int
    auroc: float
    false_calls_at_95: float


@dataclass(frozen=True)
class OpenSetFigures:
    """All folds together.

    The folds' models differ, and so do their scores. Folds are put together by the share of their own known reads that
    are less strange than a read.

    Attributes:
        score: by which reads are told apart.
        auroc: chance that a read of a left-out class is stranger than a known one, ties counting half.
        false_calls_at_95: share of left-out reads that are called where 95% of the known ones are.
        known: known reads of all folds.
        unknown: left-out reads of all folds.
        retained: shares of known reads that are called, from 0 to 1; ``(points,)``, at most 101.
        false_calls: share of left-out reads that are called then; ``(points,)``.
        folds: one by one.
    """

    score: str
    auroc: float
    false_calls_at_95: float
    known: int
    unknown: int
    retained: npt.NDArray[np.float64]
    false_calls: npt.NDArray[np.float64]
    folds: tuple[FoldFigures, ...]

    def as_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        folds = [asdict(fold) | {"left_out": list(fold.left_out)} for fold in self.folds]
        return values | {
            "retained": self.retained.tolist(),
            "false_calls": self.false_calls.tolist(),
            "folds": folds,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> OpenSetFigures:
        """What :meth:`as_dict` gave.

        Raises:
            KeyError, TypeError: it gave something else.
        """
        folds = tuple(FoldFigures(**{**fold, "left_out": tuple(fold["left_out"])}) for fold in values["folds"])
        curves = {name: np.asarray(values[name], np.float64) for name in ("retained", "false_calls")}
        return cls(**{**values, **curves, "folds": folds})


def open_set_as_dict(figures: Mapping[Any, OpenSetFigures]) -> dict[str, Any]:
    """Figures of several scores, ready for JSON: what ``open_set.json`` holds."""
    return {name: one.as_dict() for name, one in figures.items()}


def open_set_from_dict(values: Mapping[str, Any]) -> dict[str, OpenSetFigures]:
    """What :func:`open_set_as_dict` gave."""
    return {name: OpenSetFigures.from_dict(one) for name, one in values.items()}


def open_set_figures(score: str, folds: Sequence[FoldNovelty]) -> OpenSetFigures:
    """Figures of each fold and of all together.

    Args:
        score: its name.
        folds: each with known and unknown reads; at least one.
    """
    each = tuple(
        FoldFigures(
            fold.left_out,
            len(fold.known),
            len(fold.unknown),
            _auroc(fold.known, fold.unknown),
            float(_called(fold.known, fold.unknown, np.array([RETAINED]))[0]),
        )
        for fold in folds
    )
    known = np.concatenate([known_quantiles(fold.known, fold.known) for fold in folds])
    unknown = np.concatenate([known_quantiles(fold.unknown, fold.known) for fold in folds])
    retained = np.linspace(0.0, 1.0, CURVE_POINTS)
    counts = np.array([fold.unknown for fold in each])
    called = np.stack([_called(fold.known, fold.unknown, retained) for fold in folds])
    return OpenSetFigures(
        score=score,
        auroc=_auroc(known, unknown),
        false_calls_at_95=float(np.average([fold.false_calls_at_95 for fold in each], weights=counts)),
        known=len(known),
        unknown=len(unknown),
        retained=retained,
        false_calls=np.average(called, axis=0, weights=counts),
        folds=each,
    )


def known_quantiles(values: npt.NDArray[np.floating[Any]], known: npt.NDArray[np.floating[Any]]) -> npt.NDArray[Any]:
    """The share of known reads that are less strange than each value, those as strange counting half."""
    ordered = np.sort(known)
    below, not_above = np.searchsorted(ordered, values, "left"), np.searchsorted(ordered, values, "right")
    shares: npt.NDArray[np.float64] = (below + not_above) / (2.0 * len(ordered))
    return shares


def _auroc(known: npt.NDArray[np.float64], unknown: npt.NDArray[np.float64]) -> float:
    from sklearn.metrics import roc_auc_score

    strange = np.concatenate([np.zeros(len(known)), np.ones(len(unknown))])
    return float(roc_auc_score(strange, np.concatenate([known, unknown])))


def _called(
    known: npt.NDArray[np.float64], unknown: npt.NDArray[np.float64], retained: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Share of unknown reads that are no stranger than so large a share of the known ones."""
    ordered = np.sort(known)
    # The least cut-off that retains the share; nothing is retained below the first read.
    kept = np.ceil(retained * len(ordered) - 1e-9).astype(np.int64)
    cutoffs = np.where(kept > 0, ordered[np.maximum(kept - 1, 0)], -np.inf)
    called: npt.NDArray[np.float64] = np.searchsorted(np.sort(unknown), cutoffs, "right") / len(unknown)
    return called
