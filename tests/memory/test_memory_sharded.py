"""What a rank takes when the weights are shared out, and when a run does so of itself."""

from __future__ import annotations

import pytest
import torch

from metagene_classifier.errors import ConfigError
from metagene_classifier.hub import encoder_config_for
from metagene_classifier.memory.budget import Lengths
from metagene_classifier.memory.device import DeviceMemory
from metagene_classifier.memory.fit import FitRequest, choose_fit
from metagene_classifier.memory.parts import GATHERED_LAYERS, StepSetup, memory_parts
from metagene_classifier.memory.shape import encoder_shape
from metagene_classifier.memory.units import GIB
from metagene_classifier.memory.ways import StepFacts
from metagene_classifier.model.classifier import ReadClassifier
from metagene_classifier.model.dropout import TokenKeys
from metagene_classifier.model.sharding import shard_encoder

METAGENE = encoder_shape(encoder_config_for("builtin:metagene-1"), name="METAGENE-1")
CPU = torch.device("cpu")


def choose(memory_gib: float, **request):
    memory = DeviceMemory(round(memory_gib * GIB), "a card", "cuda", True, with_context=True)
    asked = FitRequest(**{"learns": "adapter", "ranks": 4, **request})
    return choose_fit(METAGENE, request=asked, facts=StepFacts(), memory=memory, lengths=Lengths(512, 40))


@pytest.fixture
def four_ranks():
    """One of four ranks, of which the others are not there: enough to share weights out, and not to run."""
    from torch.testing._internal.distributed.fake_pg import FakeStore

    torch.distributed.init_process_group("fake", store=FakeStore(), rank=0, world_size=4)
    yield 4
    torch.distributed.destroy_process_group()


def local_bytes(tensor: torch.Tensor) -> int:
    part = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return part.untyped_storage().nbytes()


@pytest.mark.parametrize("learns", ["all", "adapter"])
def test_a_ranks_part_is_what_the_plan_says(four_ranks, learns):
    """All that the plan counts as weights is the rank's part and the layers that are gathered meanwhile."""
    from transformers import LlamaConfig, LlamaModel

    config = LlamaConfig(
        hidden_size=64,
        intermediate_size=160,
        num_hidden_layers=6,
        num_attention_heads=4,
        vocab_size=1024,
        tie_word_embeddings=False,
    )
    encoder = LlamaModel(config).requires_grad_(learns == "all")
    classifier = ReadClassifier(
        encoder,
        hidden_size=64,
        classes=4,
        pooling="mean",
        dropout=0.0,
        keys=TokenKeys(),
        compute_dtype=torch.float32,
    )
    shard_encoder(classifier, device=CPU, encoder_learns=learns == "all")
    mine = sum(local_bytes(weight) for weight in encoder.parameters())
    shape = encoder_shape(config.to_dict(), name="tiny")
    setup = StepSetup(learns, weights_bytes=4, compute_bytes=4, classes=4)
    parts = {
        ranks: memory_parts(shape, StepSetup(**{**vars(setup), "ranks": ranks}), tokens=64, segments=2, longest=32)
        for ranks in (1, four_ranks)
    }
    layer = 4 * shape.layer_parameters
    outside = 4 * shape.parameters - shape.layers * layer
    assert mine == pytest.approx(parts[1].weights / four_ranks, rel=0.01)
    assert parts[four_ranks].weights == pytest.approx(mine + GATHERED_LAYERS * layer + outside, rel=0.01)
    if learns == "all":
        assert parts[four_ranks].optimizer == pytest.approx(parts[1].optimizer / four_ranks, rel=0.01)
    else:
        assert parts[four_ranks].gradients == parts[1].gradients


def test_full_size_weights_shared_out_over_four_ranks():
    """12.08 GiB of weights in bfloat16: a quarter of them, three layers of 0.377 GiB, and the embedding."""
    parts = memory_parts(METAGENE, StepSetup(ranks=4), tokens=512, segments=1, longest=512)
    assert parts.weights / GIB == pytest.approx(12.08 / 4 + 3 * 0.377 + 0.008, abs=0.01)


def test_a_run_shares_weights_out_only_where_a_card_cannot_hold_them():
    assert choose(24).way.ranks == 1
    chosen = choose(12)
    assert (chosen.way.ranks, chosen.quantization) == (4, "none")
    assert "shared out over 4 ranks" in chosen.line()
    assert choose(12, ranks=1).quantization == "int8" or choose(12, ranks=1).quantization == "nf4"
    assert choose(12, parallel="ddp").way.ranks == 1
    assert choose(24, parallel="fsdp").way.ranks == 4


def test_an_encoder_that_learns_as_a_whole_is_shared_out_with_its_optimizer():
    """6.5 billion weights of 16 bytes are 97 GiB: no card of 80 holds them, four together do."""
    with pytest.raises(ConfigError):
        choose(79, learns="all", ranks=1)
    chosen = choose(79, learns="all")
    assert chosen.way.ranks == 4
    assert chosen.need.parts.optimizer / GIB == pytest.approx(48.3 / 4, rel=0.01)


def test_int8_and_a_head_alone_are_never_shared_out():
    assert choose(12, learns="head").way.ranks == 1
    assert choose(12, quantization="int8").way.ranks == 1
    assert choose(12, quantization="nf4", parallel="fsdp").way.ranks == 4
    with pytest.raises(ConfigError, match="use nf4, or ddp"):
        choose(12, quantization="int8", parallel="fsdp")


def test_the_plan_of_several_ranks_shows_both_ways(capsys):
    from metagene_classifier.cli.main import main

    words = ["plan", "--set", "model.encoder_path=builtin:metagene-1", "--memory", "12GiB", "--ranks", "4"]
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert not ended.value.code
    shown = capsys.readouterr().out
    assert "lora+fsdp" in shown and "full+fsdp+checkpointing" in shown and "int8+fsdp" not in shown
    assert "shared out over 4 ranks" in shown
