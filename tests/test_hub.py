"""Encoders on this machine: folders, and architectures that ship with the package. The hub is in test_cli_download."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from metagene_classifier.errors import EncoderError
from metagene_classifier.hub import METAGENE_1, encoder_config_for, resolve_encoder_folder


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text('{"model_type": "llama", "vocab_size": 12}')
    return tmp_path


def no_network(*_: object, **__: object) -> None:
    raise AssertionError("asked the hub")


def test_a_folder_is_used_as_it_is(encoder: Path) -> None:
    assert resolve_encoder_folder(str(encoder), weights=False) == encoder
    assert encoder_config_for(str(encoder))["vocab_size"] == 12


def test_metagene_1s_configuration_needs_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.snapshot_download", no_network)
    config = encoder_config_for(METAGENE_1)
    assert (config["hidden_size"], config["vocab_size"], config["max_position_embeddings"]) == (4096, 1024, 512)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        # 4096 for each of 1024 tokens, 32 layers of attention, MLP and two norms, and the last norm; no output layer.
        ("builtin:metagene-1", 1024 * 4096 + 32 * (4 * 4096**2 + 3 * 4096 * 11008 + 2 * 4096) + 4096),
        ("builtin:llama-tiny", 1024 * 128 + 2 * (4 * 128**2 + 3 * 128 * 344 + 2 * 128) + 128),
    ],
)
def test_shipped_architectures_load_with_transformers(name: str, parameters: int) -> None:
    import torch
    from transformers import AutoConfig, AutoModel

    with torch.device("meta"):
        model = AutoModel.from_config(AutoConfig.from_pretrained(resolve_encoder_folder(name, weights=False)))
    assert sum(weight.numel() for weight in model.parameters()) == parameters


def test_an_architecture_that_does_not_ship_names_the_nearest() -> None:
    with pytest.raises(EncoderError, match="did you mean 'builtin:llama-tiny'"):
        resolve_encoder_folder("builtin:lama-tiny", weights=False)


def test_an_architecture_has_no_weights() -> None:
    with pytest.raises(EncoderError, match=r"set model\.init: random"):
        resolve_encoder_folder("builtin:llama-tiny", weights=True)


@pytest.mark.parametrize("name", ["", "./no/such/folder", "/no/such/folder", "a/b/c", "~/no-such-folder-of-mine"])
def test_a_path_that_is_not_there_is_never_asked_of_the_hub(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.snapshot_download", no_network)
    with pytest.raises(EncoderError, match="no such folder"):
        resolve_encoder_folder(name, weights=False)


def test_a_file_is_no_encoder(encoder: Path) -> None:
    with pytest.raises(EncoderError, match="is a file: give the folder"):
        resolve_encoder_folder(str(encoder / "config.json"), weights=False)


def test_a_folder_without_a_configuration_is_no_encoder(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match=r"holds no config\.json"):
        resolve_encoder_folder(str(tmp_path), weights=False)


def test_a_damaged_configuration_is_told_with_its_line(encoder: Path) -> None:
    (encoder / "config.json").write_text('{\n"vocab_size": 12,\n')
    with pytest.raises(EncoderError, match=r"config\.json, line 3: not JSON"):
        encoder_config_for(str(encoder))


def test_pickled_weights_are_refused(encoder: Path) -> None:
    (encoder / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(EncoderError, match=r"pytorch_model\.bin.*never loaded"):
        resolve_encoder_folder(str(encoder), weights=True)


def test_a_missing_shard_is_named(encoder: Path) -> None:
    shards = {"a": "model-1.safetensors", "b": "model-2.safetensors"}
    (encoder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    (encoder / "model-1.safetensors").write_bytes(b"")
    with pytest.raises(EncoderError, match=r"1 of 2 weight files are missing, model-2\.safetensors first"):
        resolve_encoder_folder(str(encoder), weights=True)
    (encoder / "model-2.safetensors").write_bytes(b"")
    assert resolve_encoder_folder(str(encoder), weights=True) == encoder
