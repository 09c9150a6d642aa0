"""8-bit optimizers and quantized encoders: resuming equals never having stopped."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from metagene_classifier.training.optimizer import make_optimizer

WAYS = {
    "adamw_8bit": ["optimizer.name=adamw_8bit", "model.lora.r=64", "model.lora.target_modules=all-linear"],
    "nf4": ["model.quantization=nf4", "model.gradient_checkpointing=true"],
    "int8": ["model.quantization=int8", "model.freeze_layers=1"],
}


def options(world, run: Path, way: str, *more: str) -> list[object]:
    settings = [*WAYS[way], "scheduler.name=constant", "scheduler.warmup_steps=0", *more]
    return [*world.train_options(run), "--lr", 3e-3, *(word for one in settings for word in ("--set", one))]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return {
        f"{file.name}:{name}": tensor
        for file in folder.glob("*.safetensors")
        for name, tensor in load_file(file).items()
    }


@pytest.mark.parametrize("way", WAYS)
def test_a_run_that_was_stopped_ends_like_one_that_was_not(world, mgc, tmp_path, way):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert mgc(*options(world, whole, way)).code == 0
    assert mgc(*options(world, parts, way, "training.max_steps=7")).code == 0
    resumed = mgc(*options(world, parts, way), "--resume")
    assert resumed.code == 0, resumed.err
    expected, found = weights(whole / "last"), weights(parts / "last")
    assert expected.keys() == found.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    moved = [tensor for name, tensor in expected.items() if "lora_B" in name]
    assert moved and all(tensor.abs().max() > 0 for tensor in moved)


def test_the_state_of_an_8_bit_optimizer_takes_a_byte_for_each_mean():
    weight = torch.nn.Parameter(torch.randn(64, 256))
    optimizer = make_optimizer([weight], name="adamw_8bit", lr=1e-3, betas=(0.9, 0.999), weight_decay=0.0)
    weight.grad = torch.randn_like(weight)
    optimizer.step()
    means = [value for value in optimizer.state[weight].values() if getattr(value, "shape", None) == weight.shape]
    assert [mean.dtype for mean in means] == [torch.uint8, torch.uint8]


def test_a_paged_state_without_a_card_is_refused_in_one_line(world, mgc, tmp_path):
    ended = mgc(*world.train_options(tmp_path / "run"), "--set", "optimizer.name=paged_adamw_8bit")
    assert ended.code == 2
    assert "paged_adamw_8bit is for CUDA cards: use adamw_8bit or adamw here" in ended.err.splitlines()[-1]
