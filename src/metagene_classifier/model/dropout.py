"""Dropout whose mask follows the token, not the batch.

The mask of a token is a function of its read's key, its position and the module, so a training step gives the same
result however its reads are laid out, split into micro-batches or shared over ranks, and a resumed run needs no
random-number state. Masks are rows of a bank drawn once for each width: a token picks its row by a hash.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import nn

from metagene_classifier.batching.batch import TokenBatch

__all__ = ["KeyedDropout", "TokenKeys"]

BANK_ROWS = 1024
_BANK_SEED = 20260101


def mix(values: torch.Tensor) -> torch.Tensor:
    """Scatter int64 values over all bits (the finalizer of SplitMix64, its shifts kept logical)."""
    values = (values ^ ((values >> 30) & (2**34 - 1))) * -4658895280553007687
    values = (values ^ ((values >> 27) & (2**37 - 1))) * -7723592293110705685
    return values ^ ((values >> 31) & (2**33 - 1))


class TokenKeys:
    """The keys of the batch that is in the encoder now, shared by all its dropout modules."""

    def __init__(self) -> None:
        self._tokens: torch.Tensor | None = None
        self._segments: torch.Tensor | None = None
        self._banks: dict[tuple[int, float, torch.device], torch.Tensor] = {}

    def set(self, batch: TokenBatch) -> None:
        """Take the keys of ``batch``; they hold until the next call, so that recomputation sees the same masks."""
        self.set_segments(batch.keys)
        assert self._segments is not None
        if batch.packed:
            repeats = batch.lengths.to(self._segments.device)
            of_token = torch.repeat_interleave(self._segments, repeats, output_size=batch.ids.shape[1])[None, :]
        else:
            of_token = self._segments[:, None]
        self._tokens = mix(of_token + batch.positions * 0x51ED270B)

    def set_segments(self, keys: torch.Tensor) -> None:
        """Take the keys of segments that no longer have tokens, ``(segments,)`` int64: enough for pooled values."""
        self._segments = mix(keys)
        self._tokens = None

    def source(self, shape: torch.Size, rate: float, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """The keys and the bank that :func:`kept_values` makes a mask of.

        Args:
            shape: of the values, ``(rows, tokens, features)`` or ``(segments, features)``.
            rate: the share of values set to 0.
            device: of the values.
        """
        keys = cast(torch.Tensor, self._tokens if len(shape) == 3 else self._segments)
        return keys, self._bank(shape[-1], rate, device)

    def _bank(self, features: int, rate: float, device: torch.device) -> torch.Tensor:
        found = self._banks.get((features, rate, device))
        if found is None:
            generator = torch.Generator().manual_seed(_BANK_SEED + features)
            found = (torch.rand(BANK_ROWS, features, generator=generator) >= rate).to(device)
            self._banks[features, rate, device] = found
        return found


def kept_values(keys: torch.Tensor, bank: torch.Tensor, module: int) -> torch.Tensor:
    """True where a value is kept; ``(rows, tokens, features)`` or ``(segments, features)``.

    Args:
        keys: of tokens or segments, from :meth:`TokenKeys.source`.
        bank: from there too.
        module: the number of the dropout that asks.
    """
    return bank[mix(keys + module * 0x2545F491) & (BANK_ROWS - 1)]


class KeyedDropout(nn.Module):
    """Drop-in for ``nn.Dropout`` on ``(rows, tokens, features)`` or pooled ``(segments, features)`` values.

    Args:
        rate: the share of values set to 0.
        keys: those of the batch in the encoder.
        module: a number that no other dropout of the model has.
    """

    def __init__(self, rate: float, keys: TokenKeys, module: int) -> None:
        super().__init__()
        self.rate = rate
        self.module = module
        self._keys = keys

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Values of the same shape and type; unchanged outside training."""
        if not self.training or self.rate == 0.0:
            return values
        return self.dropped(values, kept_values(*self.source(values), self.module))

    def source(self, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What the mask of these values is made of: keys and bank."""
        return self._keys.source(values.shape, self.rate, values.device)

    def dropped(self, values: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
        """0 where a value is not kept, and scaled up elsewhere."""
        return (values * kept).mul_(1.0 / (1.0 - self.rate))
