"""An encoder's sizes from its config.json, as the encoder has them when it is built."""

import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metagene_classifier.errors import EncoderError
from metagene_classifier.hub import METAGENE_1, encoder_config_for
from metagene_classifier.memory.shape import encoder_shape
from metagene_classifier.model.checkpointing import layers_of
from metagene_classifier.model.quiet import quiet_transformers

LM_HEAD = 1024 * 4096


def built(config):
    """The encoder, of weights that have a shape and no values."""
    from transformers import AutoConfig, AutoModel

    values = {key: value for key, value in config.items() if key != "model_type"}
    with quiet_transformers(), torch.device("meta"):
        return AutoModel.from_config(AutoConfig.for_model(config["model_type"], **values))


def parameters(module):
    return sum(weight.numel() for weight in module.parameters())


def linear_weights(module):
    return sum(part.weight.numel() for part in module.modules() if isinstance(part, torch.nn.Linear))


def test_metagene_1_has_the_parameters_that_it_is_known_for():
    config = encoder_config_for(METAGENE_1)
    shape = encoder_shape(config, name=METAGENE_1)
    encoder = built(config)
    assert shape.parameters == 6_484_660_224 - LM_HEAD == parameters(encoder)
    assert shape.quantizable_parameters == linear_weights(encoder)
    assert shape.layer_parameters == parameters(encoder.layers[0])
    assert (shape.layers, shape.hidden, shape.intermediate, shape.heads, shape.head_dim) == (32, 4096, 11008, 32, 128)
    assert shape.exact and shape.gated


@settings(max_examples=15, deadline=None)
@given(
    model_type=st.sampled_from(["llama", "mistral", "qwen2"]),
    layers=st.integers(1, 3),
    kv_heads=st.sampled_from([1, 2, 4]),
    shared=st.sampled_from([1, 2]),
    head_dim=st.sampled_from([8, 16]),
    hidden=st.sampled_from([32, 48]),
    wide=st.integers(8, 80),
    biases=st.booleans(),
)
def test_llama_like_encoders_are_counted_as_they_are_built(
    model_type, layers, kv_heads, shared, head_dim, hidden, wide, biases
):
    config = {
        "model_type": model_type,
        "vocab_size": 40,
        "hidden_size": hidden,
        "intermediate_size": wide,
        "num_hidden_layers": layers,
        "num_attention_heads": kv_heads * shared,
        "num_key_value_heads": kv_heads,
        "head_dim": head_dim,
        "attention_bias": biases,
        "mlp_bias": biases,
        "pad_token_id": None,
    }
    if model_type == "qwen2":  # it has no width of its own for heads
        config["hidden_size"] = kv_heads * shared * head_dim
    shape, encoder = encoder_shape(config, name="mine"), built(config)
    assert shape.exact
    assert shape.parameters == parameters(encoder)
    assert shape.quantizable_parameters == linear_weights(encoder)
    found = {path: part for path, part in encoder.layers[0].named_modules() if isinstance(part, torch.nn.Linear)}
    assert {(linear.name, linear.inputs, linear.outputs, linear.bias) for linear in shape.linears} == {
        (path, part.in_features, part.out_features, part.bias is not None) for path, part in found.items()
    }


OTHERS = {
    "bert": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64},
    "esm": {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "mask_token_id": 5,
        "pad_token_id": 1,
    },
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4},
    "gpt_neox": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64},
}


@pytest.mark.parametrize("model_type", OTHERS)
def test_any_other_encoder_is_built_without_weights_and_counted(model_type):
    config = {"model_type": model_type, "vocab_size": 50, "bos_token_id": 3, "eos_token_id": 4} | OTHERS[model_type]
    shape, encoder = encoder_shape(config, name="mine"), built(config)
    assert not shape.exact
    assert shape.parameters == parameters(encoder)
    assert (shape.layers, shape.hidden) == (2, 32)
    of_layers = sum(parameters(layer) for _, layer in layers_of(encoder))
    biases_and_norms = of_layers - shape.quantizable_parameters
    assert 0 < biases_and_norms < 0.1 * of_layers


def test_targets_are_the_last_parts_of_names():
    shape = encoder_shape(encoder_config_for(METAGENE_1), name="mine")
    assert [linear.name for linear in shape.targeted(("proj",))] == []
    assert [linear.name for linear in shape.targeted(("q_proj", "mlp.down_proj"))] == [
        "self_attn.q_proj",
        "mlp.down_proj",
    ]
    assert len(shape.targeted("all-linear")) == 7


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"hidden_size": None},
            "mine: its config.json lacks hidden_size, a whole number above 0: fetch or copy it again",
        ),
        ({"num_hidden_layers": 0}, "mine: its config.json has 0 for num_hidden_layers"),
        ({"vocab_size": "many"}, "mine: its config.json has 'many' for vocab_size"),
        ({"num_attention_heads": True}, "mine: its config.json has True for num_attention_heads"),
        ({"model_type": None}, "mine: its config.json names no model_type"),
        ({"model_type": "new-mamba"}, "mine: transformers knows no architecture 'new-mamba'"),
        ({"model_type": "bert", "hidden_size": "wide"}, "mine: no bert can be built from its config.json: "),
    ],
)
def test_a_configuration_that_lacks_what_is_needed_is_one_line(changes, said):
    with pytest.raises(EncoderError) as refused:
        encoder_shape(encoder_config_for(METAGENE_1) | changes, name="mine")
    assert str(refused.value).startswith(said)
    assert "\n" not in str(refused.value)


def test_a_plan_for_a_llama_needs_no_heavy_library():
    code = """
import sys
from metagene_classifier.hub import encoder_config_for
from metagene_classifier.memory.parts import StepSetup, memory_parts
from metagene_classifier.memory.shape import encoder_shape
shape = encoder_shape(encoder_config_for("builtin:metagene-1"), name="metagene-1")
memory_parts(shape, StepSetup(), tokens=512, segments=1, longest=512)
print(sorted({"torch", "transformers", "numpy"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr
