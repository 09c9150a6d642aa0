"""Linear layers in 8 or 4 bits: all of them, nothing else, and the same scores whenever they are loaded."""

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel, MambaConfig, MambaForCausalLM, ResNetConfig, ResNetModel

from metagene_classifier.errors import EncoderError
from metagene_classifier.model.adapter import AdapterSettings, add_adapter
from metagene_classifier.model.dropout import TokenKeys
from metagene_classifier.model.encoder import EncoderSource, load_encoder, probe_matches, weight_probe
from metagene_classifier.model.quantization import is_quantized, quantization_of, require_bitsandbytes
from metagene_classifier.model.quiet import quiet_transformers

CPU = torch.device("cpu")
QUANTIZED = ["int8", "nf4"]
IDS = torch.tensor([[3, 7, 200, 300, 9, 4, 512, 1000]])
STORED_AS = {"int8": torch.int8, "nf4": torch.uint8}


@pytest.fixture(autouse=True)
def _no_cache(monkeypatch):
    monkeypatch.setenv("MGC_NO_CACHE", "1")


def loaded(folder, quantization="none", dtype=torch.float32, told=None, **options):
    return load_encoder(
        EncoderSource(str(folder)),
        dtype=dtype,
        device=CPU,
        seed=0,
        quantization=quantization,
        tell=(told if told is not None else []).append,
        **options,
    )


def hidden(encoder):
    with torch.inference_mode():
        return encoder(IDS).last_hidden_state


def saved(model, folder: Path) -> Path:
    with quiet_transformers():
        model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def gpt2_encoder(tmp_path_factory):
    """Its linear layers are of a class of its own."""
    torch.manual_seed(1)
    config = GPT2Config(vocab_size=1024, n_embd=32, n_layer=2, n_head=4, bos_token_id=3, eos_token_id=4)
    return saved(GPT2LMHeadModel(config), tmp_path_factory.mktemp("gpt2") / "tiny-gpt2")


@pytest.mark.parametrize("quantization", QUANTIZED)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["llama_encoder", "bert_encoder", "gpt2_encoder"])
def test_every_linear_layer_is_quantized_and_nothing_else(request, kind, dtype, quantization):
    encoder = loaded(request.getfixturevalue(kind), quantization, dtype)
    full = loaded(request.getfixturevalue(kind), dtype=dtype)
    linear = {
        f"{path}.weight"
        for path, module in full.named_modules()
        if type(module).__name__ in ("Linear", "Conv1D") and not path.startswith("pooler")
    }
    assert {name for name, weight in encoder.named_parameters() if is_quantized(weight)} == linear
    assert {weight.dtype for weight in encoder.parameters() if is_quantized(weight)} == {STORED_AS[quantization]}
    assert {weight.dtype for weight in encoder.parameters() if not is_quantized(weight)} == {dtype}
    assert {name for name, _ in encoder.named_parameters()} == {name for name, _ in full.named_parameters()}
    assert quantization_of(encoder) == quantization
    assert quantization_of(full) == "none"
    assert not encoder.training


def test_nf4_is_doubly_quantized_and_computes_in_the_format_asked_for(llama_encoder):
    layer = loaded(llama_encoder, "nf4", torch.bfloat16, compute_dtype=torch.float32).layers[1].mlp.down_proj
    assert (layer.weight.quant_type, layer.weight.blocksize, layer.weight.quant_state.nested) == ("nf4", 64, True)
    assert layer.compute_dtype == torch.float32
    assert loaded(llama_encoder, "nf4", torch.bfloat16).layers[0].mlp.up_proj.compute_dtype == torch.bfloat16


def values_of(module):
    """The numbers that a quantized layer stands for, as it computes with them."""
    wide = torch.eye(module.in_features)
    bias = 0 if module.bias is None else module.bias
    with torch.no_grad():
        return (module(wide) - bias).T


@pytest.mark.parametrize(("quantization", "step"), [("int8", 1 / 127), ("nf4", 0.16)])
@pytest.mark.parametrize("kind", ["llama_encoder", "bert_encoder", "gpt2_encoder"])
def test_weights_are_the_nearest_numbers_that_there_are(request, kind, quantization, step):
    """Half the widest step of NormalFloat is 0.152 of a block's largest weight, of int8 1/254 of a row's."""
    folder = request.getfixturevalue(kind)
    encoder, full = loaded(folder, quantization), loaded(folder)
    seen = 0
    for path, module in encoder.named_modules():
        if is_quantized(getattr(module, "weight", torch.empty(0))):
            exact = full.get_submodule(path).weight
            exact = exact.T if kind == "gpt2_encoder" else exact
            assert 0 < (values_of(module) - exact).abs().max() <= step * exact.abs().max()
            seen += 1
    assert seen >= 8


@pytest.mark.parametrize("width", [32, 48, 80, 192])
def test_nf4_is_right_on_a_cpu_for_layers_of_any_width(width):
    """ESM-2 has an encoder of width 480, and the blocks of 64 then do not end where the rows do."""
    import bitsandbytes
    from bitsandbytes.functional import dequantize_4bit

    from metagene_classifier.model.nf4_on_cpu import mend_nf4_on_cpu

    torch.manual_seed(0)
    exact = nn.Linear(width, 64)
    layer = bitsandbytes.nn.Linear4bit(width, 64, compute_dtype=torch.float32, quant_type="nf4")
    layer.load_state_dict(exact.state_dict())
    layer.to("cpu")
    mend_nf4_on_cpu(layer)
    inputs = torch.randn(5, width, requires_grad=True)
    out = layer(inputs)
    out.sum().backward()
    assert (values_of(layer) - exact.weight).abs().max() <= 0.16 * exact.weight.abs().max()
    torch.testing.assert_close(out, nn.functional.linear(inputs, values_of(layer), layer.bias))
    torch.testing.assert_close(inputs.grad, values_of(layer).sum(0).expand(5, -1))
    if width % 64 == 0:
        theirs = dequantize_4bit(layer.weight.data, layer.weight.quant_state)
        torch.testing.assert_close(values_of(layer), theirs)


def test_nf4_gives_the_same_when_it_learns_and_when_it_scores(llama_encoder):
    """On CPUs with bfloat16 units bitsandbytes would compute in bfloat16, and only when scoring."""
    encoder = loaded(llama_encoder, "nf4")
    scoring = hidden(encoder)
    with torch.no_grad():
        learning = encoder.train()(IDS).last_hidden_state
    assert torch.equal(scoring, learning)
    assert torch.equal(hidden(encoder.eval()), scoring)


@pytest.mark.parametrize("quantization", QUANTIZED)
def test_an_adapter_learns_and_its_quantized_base_does_not_change(llama_encoder, quantization):
    encoder = loaded(llama_encoder, quantization, torch.bfloat16)
    before = {name: weight.detach().clone() for name, weight in encoder.named_parameters()}
    kinds = {name: (type(weight), weight.dtype) for name, weight in encoder.named_parameters()}
    settings = AdapterSettings(r=4, alpha=8, dropout=0.0, target_modules="all-linear", bias="none")
    adapted = add_adapter(encoder, settings, encoder_name="x", keys=TokenKeys(), seed=0).train()
    optimizer = torch.optim.AdamW([weight for weight in adapted.parameters() if weight.requires_grad], lr=0.01)
    losses = []
    for _ in range(4):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = adapted(input_ids=IDS).last_hidden_state.float().pow(2).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    after = {
        name.replace(".base_layer", ""): weight
        for name, weight in adapted.get_base_model().named_parameters()
        if ".lora_" not in name
    }
    assert {name: (type(weight), weight.dtype) for name, weight in after.items()} == kinds
    assert all(torch.equal(after[name], before[name]) for name in before)
    learns = {name: weight for name, weight in adapted.named_parameters() if weight.requires_grad}
    assert {weight.dtype for weight in learns.values()} == {torch.float32}
    assert len(learns) == 2 * 14
    assert all(".lora_" in name for name in learns)


@pytest.mark.parametrize("quantization", QUANTIZED)
def test_the_head_stays_in_float32(classifier_of, llama_encoder, quantization, monkeypatch):
    from metagene_classifier.model.classifier import ReadClassifier

    classifier = ReadClassifier(
        loaded(llama_encoder, quantization),
        hidden_size=32,
        classes=5,
        pooling="mean",
        dropout=0.0,
        keys=TokenKeys(),
        compute_dtype=torch.float32,
    ).to(CPU)
    assert type(classifier.head) is nn.Linear
    assert classifier.head.weight.dtype == torch.float32
    assert quantization_of(classifier.encoder) == quantization
    assert hidden(classifier.encoder).isfinite().all()


@pytest.mark.parametrize("quantization", QUANTIZED)
def test_an_encoder_without_linear_layers_is_refused(tmp_path, quantization):
    model = ResNetModel(ResNetConfig(embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1]))
    with pytest.raises(EncoderError) as caught:
        loaded(saved(model, tmp_path / "resnet"), quantization)
    assert str(caught.value) == (
        f"{tmp_path / 'resnet'}: a ResNetModel has no linear layers that could be held in {quantization}: "
        "set model.quantization: none"
    )


@pytest.mark.parametrize("quantization", QUANTIZED)
def test_an_encoder_that_reads_its_weights_past_its_layers_is_refused(tmp_path, quantization):
    model = MambaForCausalLM(MambaConfig(vocab_size=1024, hidden_size=32, num_hidden_layers=2, state_size=4))
    with pytest.raises(EncoderError) as caught:
        loaded(saved(model, tmp_path / "mamba"), quantization)
    message = str(caught.value)
    assert f"a MambaModel does not run with {quantization} weights" in message
    assert message.endswith("set model.quantization: none")
    assert "\n" not in message


@pytest.mark.parametrize("quantization", QUANTIZED)
def test_a_linear_layer_that_the_library_leaves_as_it_is_is_not_passed_over(llama_encoder, quantization, monkeypatch):
    from transformers import LlamaModel

    monkeypatch.setattr(LlamaModel, "_keep_in_fp32_modules", ["down_proj"])
    with pytest.raises(EncoderError, match=r"2 linear layers of a LlamaModel cannot be held in .*layers\.0\.mlp\.down"):
        loaded(llama_encoder, quantization)


@pytest.mark.parametrize("quantization", QUANTIZED)
def test_random_weights_are_not_quantized(quantization):
    with pytest.raises(EncoderError, match=f"random weights are all trained, and {quantization} weights cannot be"):
        load_encoder(
            EncoderSource("builtin:llama-tiny", new=True),
            dtype=torch.float32,
            device=CPU,
            seed=0,
            quantization=quantization,
        )


@pytest.mark.parametrize("quantization", QUANTIZED)
def test_without_the_library_the_extra_is_named(llama_encoder, quantization, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "bitsandbytes" else found(name))
    with pytest.raises(EncoderError) as caught:
        loaded(llama_encoder, quantization)
    assert str(caught.value) == (
        f"quantization {quantization} needs bitsandbytes, which is not installed: "
        "pip install 'metagene-classifier[quantization]'"
    )


def test_a_broken_library_is_one_line(monkeypatch):
    def broken(name, *rest, **more):
        if name == "bitsandbytes":
            raise OSError("libcudart.so.13:\n  cannot open shared object file")
        return real(name, *rest, **more)

    real = importlib.import_module
    monkeypatch.setattr(importlib, "import_module", broken)
    with pytest.raises(EncoderError, match=r"cannot be imported \(libcudart.so.13: cannot open .*\): pip install"):
        require_bitsandbytes("nf4")


def test_the_librarys_own_warnings_and_downloads_are_kept_away(llama_encoder, tmp_path):
    """On some CPUs it fetches compiled code from the hub when a package called kernels is installed."""
    (tmp_path / "kernels.py").write_text("def get_kernel(*name, **version):\n    print('fetched')\n")
    code = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
import kernels
import torch
from metagene_classifier.model.encoder import EncoderSource, load_encoder
for quantization in ("nf4", "int8"):
    encoder = load_encoder(
        EncoderSource({str(llama_encoder)!r}), dtype=torch.float32, device=torch.device("cpu"), seed=0,
        quantization=quantization,
    )
    encoder(torch.tensor([[3, 7, 4]]))
assert sys.modules["kernels"] is kernels
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("quantization", QUANTIZED)
@pytest.mark.parametrize("seen_as", ["none", "int8", "nf4"])
@pytest.mark.parametrize("kind", ["llama_encoder", "bert_encoder", "gpt2_encoder"])
def test_an_encoder_is_known_again_however_it_is_held(request, kind, seen_as, quantization):
    folder = request.getfixturevalue(kind)
    probe = weight_probe(loaded(folder, seen_as))
    assert probe_matches(loaded(folder, quantization), probe)
    assert probe_matches(loaded(folder), probe)


@pytest.mark.parametrize("quantization", ["none", "int8", "nf4"])
@pytest.mark.parametrize("seen_as", ["none", "int8", "nf4"])
def test_another_encoder_of_the_same_shape_is_not_taken_for_it(llama_encoder, tmp_path, seen_as, quantization):
    """The padding's row is zeros in both."""
    torch.manual_seed(5)
    from transformers import AutoConfig, AutoModel

    other = saved(AutoModel.from_config(AutoConfig.from_pretrained(llama_encoder)), tmp_path / "other")
    assert not loaded(other).embed_tokens.weight[0].any()
    probe = weight_probe(loaded(llama_encoder, seen_as))
    assert not probe_matches(loaded(other, quantization), probe)


def test_a_probe_of_the_first_schema_is_still_understood(llama_encoder):
    full = loaded(llama_encoder)
    name = "layers.1.mlp.up_proj.weight"
    old = {
        "embed_tokens.weight": full.embed_tokens.weight.flatten()[:8].tolist(),
        name: full.get_parameter(name).flatten()[:8].tolist(),
    }
    assert probe_matches(full, old)
    assert probe_matches(loaded(llama_encoder, "nf4"), old)
    assert not probe_matches(full, old | {name: [1.0] * 8})


@pytest.fixture(scope="session")
def stored_in(llama_encoder, tmp_path_factory):
    """The tiny Llama as somebody publishes it quantized."""
    folders = {}
    for quantization in QUANTIZED:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MGC_NO_CACHE", "1")
            folders[quantization] = saved(
                loaded(llama_encoder, quantization), tmp_path_factory.mktemp("stored") / quantization
            )
    return folders


@pytest.mark.parametrize("quantization", QUANTIZED)
@pytest.mark.parametrize("ask", [True, False])
def test_an_encoder_that_is_quantized_already_is_taken_as_it_is(llama_encoder, stored_in, quantization, ask):
    told = []
    encoder = loaded(stored_in[quantization], quantization if ask else "none", told=told)
    assert quantization_of(encoder) == quantization
    assert torch.equal(hidden(encoder), hidden(loaded(llama_encoder, quantization)))
    line = f"{stored_in[quantization]}: its weights are in {quantization} and stay so"
    assert told == ([] if ask else [line])


@pytest.mark.parametrize(
    "settings",
    [
        {"load_in_8bit": True, "llm_int8_skip_modules": ["layers.0"]},
        {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "llm_int8_skip_modules": ["layers.0"]},
        {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_quant_storage": torch.bfloat16},
    ],
)
def test_what_others_chose_when_they_quantized_it_is_kept(llama_encoder, tmp_path, settings):
    from transformers import AutoModel, BitsAndBytesConfig

    with quiet_transformers():
        theirs = AutoModel.from_pretrained(llama_encoder, quantization_config=BitsAndBytesConfig(**settings))
    encoder = loaded(saved(theirs, tmp_path / "theirs"), dtype=torch.bfloat16)
    assert {weight.dtype for weight in encoder.parameters() if not is_quantized(weight)} == {torch.bfloat16}
    kinds = [type(module.mlp.up_proj).__name__ for module in encoder.layers]
    assert (kinds[0] == "Linear") == ("llm_int8_skip_modules" in settings)
    assert kinds[1] != "Linear"
    if "load_in_4bit" in settings:
        assert encoder.layers[1].mlp.up_proj.compute_dtype == torch.bfloat16
    assert hidden(encoder).isfinite().all()
    assert probe_matches(encoder, weight_probe(loaded(llama_encoder)))


@pytest.mark.parametrize(("stored", "asked"), [("int8", "nf4"), ("nf4", "int8")])
def test_one_that_is_quantized_in_another_way_is_refused(stored_in, stored, asked):
    with pytest.raises(EncoderError, match=f"its weights are in {stored} already: set model.quantization: {stored}"):
        loaded(stored_in[stored], asked)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"quant_method": "gptq", "bits": 4}, "gptq"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "fp4"}, "fp4"),
    ],
)
@pytest.mark.parametrize("asked", ["none", "nf4"])
def test_one_that_is_quantized_by_other_means_is_refused(stored_in, tmp_path, settings, named, asked):
    folder = shutil.copytree(stored_in["nf4"], tmp_path / "encoder")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": settings}))
    with pytest.raises(EncoderError, match=rf"its weights are quantized already \({named}\)"):
        loaded(folder, asked)
