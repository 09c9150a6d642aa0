"""A model trained on quantized weights: saved without them, and the same when it is loaded again."""

import json
import re

import pytest
import torch

from metagene_classifier.errors import ModelFolderError
from metagene_classifier.model.adapter import AdapterSettings, add_adapter
from metagene_classifier.model.classifier import ReadClassifier
from metagene_classifier.model.description import DESCRIPTION_FILE, SCHEMA_VERSION, read_description
from metagene_classifier.model.dropout import TokenKeys
from metagene_classifier.model.encoder import EncoderSource, load_encoder, weight_probe
from metagene_classifier.model.out_of_memory import TokenBudget
from metagene_classifier.model.quantization import quantization_of
from metagene_classifier.model.saved import load_model, restore_weights, save_model
from metagene_classifier.model.scoring import score_reads
from metagene_classifier.training.settings import describe

CPU = torch.device("cpu")
QUANTIZED = ["int8", "nf4"]


def as_trained(module, seed):
    generator = torch.Generator().manual_seed(seed)
    for weight in module.parameters():
        if weight.requires_grad:
            weight.data += 0.1 * torch.randn(weight.shape, generator=generator)


def classifier_on(folder, quantization, seed=2):
    encoder = load_encoder(
        EncoderSource(str(folder)),
        dtype=torch.float32,
        device=CPU,
        seed=0,
        quantization=quantization,
        tell=lambda line: None,
    )
    keys = TokenKeys()
    settings = AdapterSettings(r=4, alpha=8, dropout=0.1, target_modules=("q_proj", "down_proj"), bias="none")
    adapted = add_adapter(encoder, settings, encoder_name=str(folder), keys=keys, seed=0)
    classifier = ReadClassifier(
        adapted, hidden_size=32, classes=3, pooling="mean", dropout=0.1, keys=keys, compute_dtype=torch.float32
    )
    as_trained(classifier, seed)
    return classifier.eval()


@pytest.fixture
def saved(run_of, llama_encoder, tmp_path):
    """The folder of a model trained with a quantization, and its classifier."""

    def made(quantization):
        run = run_of()
        classifier = classifier_on(llama_encoder, quantization)
        description = describe(run.config, run.data, run.built)
        facts = {"quantization": quantization, "probe": weight_probe(classifier.transformer)}
        description = description.model_copy(update={"encoder": description.encoder.model_copy(update=facts)})
        folder = tmp_path / quantization
        folder.mkdir()
        save_model(folder, classifier, run.data.tokenizer, description)
        return folder, classifier, run

    return made


def scores(classifier, run):
    reads = run.data.validation.store.tokens_of(run.data.validation.numbers())
    with torch.inference_mode():
        return score_reads(
            classifier, reads, run.data.framing, width=3, budget=TokenBudget(300), layout="buckets", device=CPU
        )


@pytest.mark.parametrize("quantization", QUANTIZED)
def test_a_reloaded_model_gives_the_same_scores_to_the_last_bit(saved, quantization):
    folder, classifier, run = saved(quantization)
    told = []
    loaded = load_model(folder, device="cpu", tell=told.append)
    assert quantization_of(loaded.classifier.encoder) == quantization
    assert scores(loaded.classifier, run).tobytes() == scores(classifier, run).tobytes()
    assert not [line for line in told if "shift" in line]


@pytest.mark.parametrize("quantization", QUANTIZED)
def test_only_the_adapter_and_the_head_are_saved(saved, quantization):
    folder, _, _ = saved(quantization)
    names = {path.name for path in folder.iterdir()}
    assert names == {
        DESCRIPTION_FILE,
        "head.safetensors",
        "adapter_config.json",
        "adapter_model.safetensors",
        "tokenizer",
    }
    assert (folder / "adapter_model.safetensors").stat().st_size < 20_000


@pytest.mark.parametrize("quantization", QUANTIZED)
def test_weights_put_back_into_another_classifier_are_those_saved(saved, llama_encoder, quantization):
    folder, classifier, run = saved(quantization)
    other = classifier_on(llama_encoder, quantization, seed=3)
    assert scores(other, run).tobytes() != scores(classifier, run).tobytes()
    restore_weights(other, folder)
    assert scores(other, run).tobytes() == scores(classifier, run).tobytes()


@pytest.mark.parametrize(
    ("trained", "used", "words"),
    [
        ("nf4", "none", "trained on nf4 weights and is used on full weights"),
        ("none", "nf4", "trained on full weights and is used on nf4 weights"),
        ("nf4", "int8", "trained on nf4 weights and is used on int8 weights"),
    ],
)
def test_another_quantization_is_used_where_it_is_asked_for_and_that_is_said(saved, trained, used, words):
    folder, classifier, run = saved(trained)
    told = []
    loaded = load_model(folder, device="cpu", tell=told.append, quantization=used)
    assert quantization_of(loaded.classifier.encoder) == used
    assert told[0] == f"{folder} was {words}: scores shift a little"
    found, exact = scores(loaded.classifier, run), scores(classifier, run)
    assert found.tobytes() != exact.tobytes()


@pytest.mark.parametrize(("trained", "used"), [("nf4", None), ("nf4", "none"), ("none", "nf4")])
def test_another_encoder_is_refused_however_it_is_held(saved, tmp_path, trained, used):
    folder, _, _ = saved(trained)
    from transformers import AutoConfig, AutoModel

    torch.manual_seed(9)
    named = read_description(folder).encoder.name
    other = tmp_path / "other"
    AutoModel.from_config(AutoConfig.from_pretrained(named)).save_pretrained(other)
    path = folder / DESCRIPTION_FILE
    path.write_text(path.read_text().replace(json.dumps(named), json.dumps(str(other))))
    with pytest.raises(ModelFolderError, match="was trained on another encoder"):
        load_model(folder, device="cpu", tell=lambda line: None, quantization=used)


def test_folders_of_the_first_schema_still_load(run_of, tmp_path):
    run = run_of()
    folder = run.save(tmp_path / "model")
    path = folder / DESCRIPTION_FILE
    values = json.loads(path.read_text())
    assert values["schema_version"] == SCHEMA_VERSION
    del values["encoder"]["quantization"], values["calling"], values["calibration"], values["taxonomy"]
    values["schema_version"] = 1
    values["encoder"]["probe"] = {
        name: run.built.classifier.transformer.get_parameter(name).flatten()[:8].tolist()
        for name in ("embed_tokens.weight", "layers.1.mlp.up_proj.weight")
    }
    path.write_text(json.dumps(values))
    told = []
    loaded = load_model(folder, device="cpu", tell=told.append)
    assert loaded.description.encoder.quantization == "none"
    assert scores(loaded.classifier, run).tobytes() == scores(run.built.classifier, run).tobytes()
    assert told == []


def test_a_quantization_that_does_not_exist_is_a_damaged_description(run_of, tmp_path):
    folder = run_of().save(tmp_path / "model")
    path = folder / DESCRIPTION_FILE
    path.write_text(re.sub(r'"quantization": "none"', '"quantization": "nf3"', path.read_text()))
    with pytest.raises(ModelFolderError, match=r"encoder\.quantization"):
        read_description(folder)
