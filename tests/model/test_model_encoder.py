import json
import shutil

import pytest
import torch

from metagene_classifier.errors import EncoderError
from metagene_classifier.model.encoder import EncoderSource, load_encoder, probe_matches, weight_probe
from metagene_classifier.model.quiet import quiet_transformers

CPU = torch.device("cpu")


def loaded(name, dtype=torch.float32, seed=0, **source):
    return load_encoder(EncoderSource(str(name), **source), dtype=dtype, device=CPU, seed=seed)


@pytest.fixture
def copy_of(llama_encoder, tmp_path):
    """A copy of the tiny Llama's folder with other values in its config.json."""

    def copied(**config):
        folder = shutil.copytree(llama_encoder, tmp_path / "encoder")
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | config))
        return folder

    return copied


def refusal(folder, **source):
    with pytest.raises(EncoderError) as caught:
        loaded(folder, **source)
    message = str(caught.value)
    assert "\n" not in message
    assert str(folder) in message
    return message


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_a_float32_checkpoint_has_only_weights_of_the_format_asked_for(llama_encoder, bert_encoder, dtype):
    """METAGENE-1's files are float32: 26 GB where bfloat16 takes 13."""
    for folder in (llama_encoder, bert_encoder):
        assert {weight.dtype for weight in loaded(folder, dtype).parameters()} == {dtype}


def test_a_half_precision_checkpoint_is_float32_when_that_is_asked_for(llama_encoder, tmp_path):
    with quiet_transformers():
        loaded(llama_encoder, torch.bfloat16).save_pretrained(tmp_path)
    assert {weight.dtype for weight in loaded(tmp_path).parameters()} == {torch.float32}


def test_the_language_model_head_is_left_behind(llama_encoder):
    encoder = loaded(llama_encoder)
    assert type(encoder).__name__ == "LlamaModel"
    assert not encoder.training
    assert encoder.config.use_cache is False


def test_values_are_those_of_the_files(llama_encoder):
    from safetensors.torch import load_file

    in_file = load_file(llama_encoder / "model.safetensors")
    for name, weight in loaded(llama_encoder).named_parameters():
        assert torch.equal(weight, in_file[f"model.{name}"])


def test_missing_weights_are_refused_and_named(copy_of):
    message = refusal(copy_of(num_hidden_layers=3))
    assert "lack 9 of the weights that a LlamaModel needs, layers.2.input_layernorm.weight first" in message


def test_a_missing_pooler_is_no_fault_and_it_never_learns(bert_encoder):
    """Masked language models are saved without one, and hidden states do not need it."""
    pooler = loaded(bert_encoder).pooler
    assert not any(weight.requires_grad for weight in pooler.parameters())


def test_weights_of_other_shapes_are_refused(copy_of):
    assert "weights have other shapes than its config.json says" in refusal(copy_of(vocab_size=4096))


@pytest.mark.parametrize("content", [b"", b"\xff" * 200, None], ids=["empty", "rubbish", "cut short"])
def test_damaged_weights_are_refused(copy_of, content):
    folder = copy_of()
    path = folder / "model.safetensors"
    path.write_bytes(content if content is not None else path.read_bytes()[:5000])
    assert "cannot be loaded as an encoder" in refusal(folder)


@pytest.mark.parametrize("content", ["", "{", '{"model_type": "llama",', "[]"])
def test_a_damaged_config_is_refused(copy_of, content):
    folder = copy_of()
    (folder / "config.json").write_text(content)
    refusal(folder)


@pytest.mark.parametrize(
    "config",
    [{"hidden_size": "wide"}, {"hidden_size": None}, {"num_attention_heads": 0}, {"hidden_act": "no such"}],
    ids=str,
)
@pytest.mark.parametrize("new", [True, False])
def test_a_config_that_makes_no_sense_is_refused(copy_of, config, new):
    refusal(copy_of(**config), new=new)


def test_an_unknown_architecture_is_refused(copy_of):
    assert "hyenadna" in refusal(copy_of(model_type="hyenadna"))


def test_code_from_an_encoders_repository_does_not_run_unasked(copy_of, tmp_path):
    folder = copy_of(model_type="hyenadna", auto_map={"AutoConfig": "theirs.Config", "AutoModel": "theirs.Model"})
    (folder / "theirs.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Config: pass\nclass Model: pass\n")
    message = refusal(folder)
    assert "runs Python code from its own repository" in message
    assert "model.trust_remote_code: true" in message
    assert not (tmp_path / "ran").exists()


def test_a_new_encoder_has_random_weights_that_follow_from_the_seed(llama_encoder):
    first, again, other = (loaded("builtin:llama-tiny", seed=seed, new=True) for seed in (1, 1, 2))
    weights = [encoder.layers[0].mlp.up_proj.weight for encoder in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    from_files = loaded(llama_encoder, new=True)
    assert not torch.equal(from_files.embed_tokens.weight, loaded(llama_encoder).embed_tokens.weight)


def test_a_new_encoder_leaves_torchs_random_numbers_alone():
    before = torch.random.get_rng_state()
    loaded("builtin:llama-tiny", new=True)
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_new_encoder_has_the_format_asked_for():
    encoder = loaded("builtin:llama-tiny", torch.bfloat16, new=True)
    assert {weight.dtype for weight in encoder.parameters()} == {torch.bfloat16}


def test_an_architecture_without_weights_is_refused_when_weights_are_wanted():
    assert "set model.init: random" in refusal("builtin:llama-tiny")


def test_metagene_1_of_the_package_is_the_architecture_of_the_paper():
    from transformers import AutoConfig, AutoModel

    from metagene_classifier.hub import resolve_encoder_folder

    config = AutoConfig.from_pretrained(resolve_encoder_folder("metagene-ai/METAGENE-1", weights=False))
    with torch.device("meta"):
        encoder = AutoModel.from_config(config)
    head = config.vocab_size * config.hidden_size
    assert type(encoder).__name__ == "LlamaModel"
    assert sum(weight.numel() for weight in encoder.parameters()) + head == 6_484_660_224


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("seen_as", [torch.float32, torch.bfloat16])
def test_an_encoder_is_known_again_in_any_number_format(llama_encoder, seen_as, dtype):
    probe = weight_probe(loaded(llama_encoder, seen_as))
    assert len(probe) == 4
    assert probe_matches(loaded(llama_encoder, dtype), probe)


def test_another_encoder_of_the_same_shape_is_not_taken_for_it(llama_encoder):
    probe = weight_probe(loaded(llama_encoder, new=True, seed=1))
    assert probe_matches(loaded(llama_encoder, new=True, seed=1), probe)
    assert not probe_matches(loaded(llama_encoder, torch.bfloat16, new=True, seed=2), probe)
    assert not probe_matches(loaded(llama_encoder), probe)


def test_an_encoder_of_another_shape_is_not_taken_for_it(llama_encoder, bert_encoder):
    assert not probe_matches(loaded(bert_encoder), weight_probe(loaded(llama_encoder)))
    assert not probe_matches(loaded("builtin:llama-tiny", new=True), weight_probe(loaded(llama_encoder)))


def test_parts_that_are_new_at_every_load_do_not_count(bert_encoder):
    """The pooler that its files lack gets random weights each time."""
    first, second = loaded(bert_encoder), loaded(bert_encoder)
    assert not torch.equal(first.pooler.dense.weight, second.pooler.dense.weight)
    assert probe_matches(second, weight_probe(first))


def test_an_encoder_is_known_again_under_an_adapter(classifier_of, llama_encoder):
    adapted = classifier_of(llama_encoder, lora=("q_proj", "v_proj")).encoder
    assert probe_matches(adapted.get_base_model(), weight_probe(loaded(llama_encoder)))
