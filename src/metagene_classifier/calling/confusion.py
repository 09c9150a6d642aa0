"""How often reads of each class are called each class: what a profile's abundances are corrected by."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from metagene_classifier.errors import ModelFolderError
from metagene_classifier.model.calibration import CONFUSION_FILE

__all__ = ["Confusion"]


@dataclass(frozen=True)
class Confusion:
    """Counts of validation reads by their true class and by their likeliest class, where they are called at all.

    Attributes:
        counts: sparse ``(classes, classes + 1)`` int64, with a row more where :attr:`has_unknown`. The last column is
            of unclassified reads.
        has_unknown: the last row is of reads whose taxa were left out of the head: of organisms never seen.
    """

    counts: Any
    has_unknown: bool

    @classmethod
    def of(
        cls,
        truth: npt.NDArray[np.int64],
        called: npt.NDArray[np.int64],
        classes: int,
        unknown_called: npt.NDArray[np.int64] | None = None,
    ) -> Confusion:
        """Count reads.

        Args:
            truth: class of each read; ``(reads,)``.
            called: likeliest class of each, ``classes`` where it is unclassified; ``(reads,)``.
            classes: of the model.
            unknown_called: likewise, of reads of left-out taxa; ``(unknown,)``.
        """
        from scipy.sparse import csr_array

        strangers = np.zeros(0, np.int64) if unknown_called is None else unknown_called
        rows = np.concatenate([truth, np.full(len(strangers), classes, np.int64)])
        columns = np.concatenate([called, strangers])
        shape = (classes + (unknown_called is not None), classes + 1)
        counts = csr_array((np.ones(len(rows), np.int64), (rows, columns)), shape=shape)
        counts.sum_duplicates()
        return cls(counts, unknown_called is not None)

    @property
    def classes(self) -> int:
        """Of the model."""
        return int(self.counts.shape[1]) - 1

    def save(self, folder: Path) -> None:
        """Write it into a model's folder."""
        from safetensors.numpy import save

        from metagene_classifier.whole_files import whole_file

        cells = self.counts.tocoo()
        rows, columns = cells.coords
        with whole_file(folder / CONFUSION_FILE, "wb") as out:
            out.write(
                save(
                    {
                        "rows": np.asarray(rows, np.int32),
                        "columns": np.asarray(columns, np.int32),
                        "counts": np.asarray(cells.data, np.int64),
                        "shape": np.array(self.counts.shape, np.int64),
                    }
                )
            )

    @classmethod
    def load(cls, folder: Path) -> Confusion | None:
        """Read it from a model's folder; ``None`` where there is none.

        Raises:
            ModelFolderError: the file is damaged.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file
        from scipy.sparse import csr_array

        path = folder / CONFUSION_FILE
        if not path.is_file():
            return None
        try:
            parts = load_file(path)
            rows, columns = (int(size) for size in parts["shape"])
            counts = csr_array((parts["counts"], (parts["rows"], parts["columns"])), shape=(rows, columns))
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            first = " ".join(str(error).split())[:200]
            raise ModelFolderError(f"{path} is damaged ({first}): copy the model again") from error
        return cls(counts, rows == columns)
