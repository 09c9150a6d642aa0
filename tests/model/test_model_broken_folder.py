"""A saved model that is damaged, too new, or stands on another encoder is refused in one line that names what."""

import json
import shutil

import pytest
import torch

from metagene_classifier.errors import MgcError
from metagene_classifier.model.description import DESCRIPTION_FILE, SCHEMA_VERSION
from metagene_classifier.model.encoder import EncoderSource, load_encoder
from metagene_classifier.model.quiet import quiet_transformers
from metagene_classifier.model.saved import load_model


@pytest.fixture(scope="module")
def saved(run_of, llama_encoder, tmp_path_factory):
    """A LoRA model and the encoder that it stands on."""
    root = tmp_path_factory.mktemp("saved")
    encoder = shutil.copytree(llama_encoder, root / "encoder")
    run_of(model__encoder_path=str(encoder)).save(root / "model")
    return root


@pytest.fixture
def model(saved, tmp_path):
    """A copy to break."""
    return shutil.copytree(saved / "model", tmp_path / "model")


def refusal(folder):
    with pytest.raises(MgcError) as caught:
        load_model(folder, device="cpu", tell=print)
    message = str(caught.value)
    assert "\n" not in message
    assert str(folder) in message
    return message


def edit_description(folder, **changes):
    path = folder / DESCRIPTION_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


FILES = [
    "head.safetensors",
    "adapter_model.safetensors",
    "adapter_config.json",
    "tokenizer/tokenizer.json",
    "tokenizer/read_tokenizer.json",
]


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(model, name):
    (model / name).unlink()
    assert f"lacks {name}" in refusal(model)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("how", ["a byte changed", "cut short", "emptied"])
def test_a_damaged_file_is_named(model, name, how):
    path = model / name
    content = bytearray(path.read_bytes())
    if how == "a byte changed":
        content[len(content) // 2] ^= 1
    path.write_bytes({"a byte changed": content, "cut short": content[:-7], "emptied": b""}[how])
    assert str(path) in refusal(model)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"schema_version": 1}', "\x00\x01"])
def test_a_damaged_description_is_named(model, content):
    (model / DESCRIPTION_FILE).write_text(content)
    assert f"{model / DESCRIPTION_FILE} is damaged" in refusal(model)


def test_a_description_with_a_value_that_cannot_be_is_refused_by_key(model):
    edit_description(model, pooling="median")
    assert "(pooling: " in refusal(model)


def test_a_model_of_a_later_version_asks_for_an_upgrade(model):
    edit_description(model, schema_version=SCHEMA_VERSION + 1, something_new={"that": "this version does not know"})
    message = refusal(model)
    assert f"later version (schema {SCHEMA_VERSION + 1}, this one reads up to {SCHEMA_VERSION})" in message
    assert "upgrade" in message


def test_a_folder_without_a_description_is_no_model(model):
    (model / DESCRIPTION_FILE).unlink()
    assert f"holds no {DESCRIPTION_FILE}" in refusal(model)


def test_the_head_of_another_model_is_refused(model, run_of, tmp_path):
    other = run_of(model__freeze="encoder").save(tmp_path / "other")
    shutil.copy(other / "head.safetensors", model)
    assert "head.safetensors is not the file that was saved" in refusal(model)


def test_another_tokenizer_than_that_of_the_training_is_refused(model):
    facts = json.loads((model / DESCRIPTION_FILE).read_text())["tokenizer"]
    edit_description(model, tokenizer=facts | {"fingerprint": "0" * 64})
    assert "tokenizer is another tokenizer than the model was trained with" in refusal(model)


def test_another_encoder_of_the_same_shape_is_refused(saved, llama_encoder, model, tmp_path):
    """Its scores would look like scores."""
    other = load_encoder(
        EncoderSource(str(llama_encoder), new=True), dtype=torch.float32, device=torch.device("cpu"), seed=99
    )
    with quiet_transformers():
        other.save_pretrained(tmp_path / "other")
    facts = json.loads((model / DESCRIPTION_FILE).read_text())["encoder"]
    edit_description(model, encoder=facts | {"name": str(tmp_path / "other")})
    message = refusal(model)
    assert "was trained on another encoder than the" in message
    assert str(tmp_path / "other") in message


def test_an_encoder_that_is_gone_is_named(saved, model, tmp_path):
    facts = json.loads((model / DESCRIPTION_FILE).read_text())["encoder"]
    gone = str(tmp_path / "gone")
    edit_description(model, encoder=facts | {"name": gone})
    message = refusal(model)
    assert f"stands on an encoder that cannot be loaded: {gone}" in message


def test_a_stored_encoder_that_is_damaged_is_named(run_of, tmp_path):
    folder = run_of(model__lora__enabled=False).save(tmp_path / "full")
    path = folder / "encoder" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    assert str(path) in refusal(folder)
