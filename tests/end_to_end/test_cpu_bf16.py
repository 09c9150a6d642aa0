"""``mgc predict --cpu-bf16``: the same calls in half the bytes, and refused where it is no gain."""

from __future__ import annotations

import csv
import io

import pytest
import torch

from metagene_classifier.prediction import opening


@pytest.fixture
def units(monkeypatch):
    """A CPU that says of itself that it has units for bfloat16; every CPU can compute in it."""
    monkeypatch.setattr(opening, "has_bf16_units", lambda: True)


def test_calls_agree_with_float32_and_scores_nearly(units, trained, world, mgc, monkeypatch):
    formats = []
    load_model = opening.load_model

    def watched(*args, **kwargs):
        model = load_model(*args, **kwargs)
        formats.append({weight.dtype for weight in model.classifier.transformer.parameters()})
        return model

    monkeypatch.setattr(opening, "load_model", watched)
    words = ("predict", "--input", world.test, "--ckpt", trained, "--output", "-", "--device", "cpu")
    usual, half = (list(csv.DictReader(io.StringIO(mgc(*words, *more).out))) for more in ((), ("--cpu-bf16",)))
    assert formats == [{torch.float32}, {torch.bfloat16}]
    assert len(usual) == len(half) == 48
    sure = [(one, other) for one, other in zip(usual, half, strict=True) if float(one["confidence"]) > 0.6]
    assert len(sure) > 24
    assert all(one["call"] == other["call"] for one, other in sure)
    assert all(float(one["confidence"]) == pytest.approx(float(other["confidence"]), abs=0.03) for one, other in sure)


def refused(mgc, trained, world, *more):
    outcome = mgc("predict", "--input", world.test, "--ckpt", trained, "--output", "-", "--cpu-bf16", *more)
    assert outcome.code == 2 and len(outcome.err.splitlines()) == 1 and not outcome.out
    return outcome.err


def test_it_is_refused_where_it_is_no_gain(trained, world, mgc, monkeypatch):
    monkeypatch.setattr(opening, "has_bf16_units", lambda: False)
    assert "no units for bfloat16" in refused(mgc, trained, world, "--device", "cpu")
    monkeypatch.setattr(opening, "has_bf16_units", lambda: True)
    assert "for full weights" in refused(mgc, trained, world, "--device", "cpu", "--quantization", "nf4")
    assert "--device cpu" in refused(mgc, trained, world, "--device", "cpu", "--device-map", "auto")
