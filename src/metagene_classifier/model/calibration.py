"""What was measured of a model's confidence on its validation reads; kept with the model."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

__all__ = ["CalibrationFacts"]


class CalibrationFacts(BaseModel):
    """Temperatures, thresholds and refusal of a model."""

    model_config = ConfigDict(extra="forbid", frozen=True)
