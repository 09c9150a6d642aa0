"""A saved model is the model that was saved."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from transformers import AutoModel, AutoTokenizer

from metagene_classifier.model.description import DESCRIPTION_FILE, read_description
from metagene_classifier.model.out_of_memory import TokenBudget
from metagene_classifier.model.quiet import quiet_transformers
from metagene_classifier.model.saved import find_model_folder, load_model, replace_folder, restore_weights
from metagene_classifier.model.scoring import score_reads
from metagene_classifier.training.builder import build_classifier

KINDS = {
    "lora": {},
    "all-linear with biases": {"model__lora__target_modules": "all-linear", "model__lora__bias": "all"},
    "head alone": {"model__freeze": "encoder"},
    "full": {"model__lora__enabled": False},
    "random": {"model__init": "random"},
    "max pooling, no EOS": {"model__pooling": "max", "tokenizer__add_eos": False},
}


def scores(classifier, run):
    reads = run.data.validation.store.tokens_of(run.data.validation.numbers())
    with torch.inference_mode():
        return score_reads(
            classifier,
            reads,
            run.data.framing,
            width=3,
            budget=TokenBudget(300),
            layout="buckets",
            device=torch.device("cpu"),
        )


@pytest.mark.parametrize("kind", KINDS)
def test_a_reloaded_model_gives_the_same_scores_to_the_last_bit(run_of, tmp_path, kind):
    run = run_of(**KINDS[kind])
    folder = run.save(tmp_path / "model")
    loaded = load_model(folder, device="cpu", tell=print)
    assert loaded.layout == run.built.layout
    assert not loaded.classifier.training
    assert scores(loaded.classifier, run).tobytes() == scores(run.built.classifier, run).tobytes()


@pytest.mark.parametrize("kind", ["lora", "full"])
def test_a_bert_is_saved_and_reloaded_too(run_of, bert_encoder, tmp_path, kind):
    """Its pooler has other random weights at every load, which must not matter."""
    how = {"lora": {"model__lora__target_modules": ["query", "dense"]}, "full": {"model__lora__enabled": False}}
    run = run_of(model__encoder_path=str(bert_encoder), tokenizer__name_or_path=str(bert_encoder), **how[kind])
    loaded = load_model(run.save(tmp_path / "model"), device="cpu", tell=print)
    assert scores(loaded.classifier, run).tobytes() == scores(run.built.classifier, run).tobytes()


@pytest.mark.parametrize("kind", KINDS)
def test_weights_put_back_into_a_new_classifier_are_those_saved(run_of, tmp_path, kind):
    run = run_of(**KINDS[kind])
    folder = run.save(tmp_path / "model")
    fresh = build_classifier(run.config, classes=3, device=torch.device("cpu"), tell=lambda line: None).classifier
    restore_weights(fresh, folder)
    for (name, weight), (_, expected) in zip(
        fresh.named_parameters(), run.built.classifier.named_parameters(), strict=True
    ):
        assert torch.equal(weight, expected), name


def test_the_folder_holds_what_its_kind_needs_and_no_pickle(run_of, tmp_path):
    def files(kind):
        folder = run_of(**KINDS[kind]).save(tmp_path / kind)
        return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}

    always = {
        DESCRIPTION_FILE,
        "head.safetensors",
        "tokenizer/tokenizer.json",
        "tokenizer/tokenizer_config.json",
        "tokenizer/read_tokenizer.json",
    }
    assert files("head alone") == always
    assert files("lora") == always | {"adapter_config.json", "adapter_model.safetensors"}
    assert files("full") == always | {"encoder/config.json", "encoder/model.safetensors"}


def test_an_adapter_and_head_are_small_beside_the_encoder(run_of, llama_encoder, tmp_path):
    """The whole frozen encoder in every checkpoint was 13 GB of METAGENE-1, one an epoch."""
    folder = run_of().save(tmp_path / "model")
    weights = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    assert weights < 0.25 * (llama_encoder / "model.safetensors").stat().st_size


def test_the_adapter_of_a_saved_model_loads_with_peft_alone(run_of, llama_encoder, tmp_path):
    run = run_of()
    folder = run.save(tmp_path / "model")
    named = json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"]
    assert named == str(llama_encoder)
    with quiet_transformers():
        encoder = PeftModel.from_pretrained(AutoModel.from_pretrained(named), folder).eval()
    ids = torch.tensor([[3, 7, 200, 300, 9, 4]])
    with torch.no_grad():
        expected = run.built.classifier.encoder(ids).last_hidden_state
        torch.testing.assert_close(encoder(ids).last_hidden_state, expected)


def test_transformers_reads_the_saved_tokenizer(run_of, tmp_path):
    run = run_of()
    theirs = AutoTokenizer.from_pretrained(run.save(tmp_path / "model") / "tokenizer")
    assert theirs("ACGTACGGT")["input_ids"][1:-1] == run.data.tokenizer.encode_batch(["ACGTACGGT"])[0].tolist()


def test_the_description_says_all_that_prediction_needs(run_of, llama_encoder, tmp_path):
    run = run_of(tokenizer__add_eos=False, tokenizer__long_reads="truncate", model__pooling="last")
    description = read_description(run.save(tmp_path / "model"))
    assert description.encoder.name == str(llama_encoder)
    assert description.encoder.architecture == "LlamaModel"
    assert description.adapter
    assert not description.encoder.stored
    assert [(c.class_id, c.label, c.taxid) for c in description.labels] == [
        ("0", "Escherichia coli", 562),
        ("1", "Bacillus subtilis", 1423),
        ("2", "phiX174", 10847),
    ]
    assert description.label_table() == run.data.labels
    assert description.tokenizer.fingerprint == run.data.tokenizer.fingerprint
    assert (description.tokenizer.add_bos, description.tokenizer.add_eos) == (True, False)
    assert (description.pooling, description.max_length, description.long_reads) == ("last", 32, "truncate")


def test_special_tokens_are_left_out_after_loading_as_in_training(run_of, tmp_path):
    folder = run_of(tokenizer__add_eos=False).save(tmp_path / "model")
    tokenizer = load_model(folder, device="cpu", tell=print).tokenizer
    assert (tokenizer.prefix_ids, tokenizer.suffix_ids) == ((3,), ())


def test_a_model_trained_on_a_card_falls_to_this_machines_device_and_says_so(run_of, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    told = []
    loaded = load_model(run_of().save(tmp_path / "model"), device="cuda", tell=told.append)
    assert loaded.device.type == "cpu"
    assert told == ["device cuda is not here: using cpu"]


def write_number(number):
    return lambda folder: (folder / "number").write_text(str(number))


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    folder = tmp_path / "run" / "best"
    replace_folder(folder, write_number(1))
    (folder / "left over").touch()
    replace_folder(folder, write_number(2))
    assert [path.name for path in folder.iterdir()] == ["number"]
    assert (folder / "number").read_text() == "2"
    assert [path.name for path in folder.parent.iterdir()] == ["best"]


def test_the_old_folder_stays_whole_when_writing_the_new_one_fails(tmp_path):
    folder = tmp_path / "best"
    replace_folder(folder, write_number(1))

    def fails(new):
        (new / "number").write_text("2")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replace_folder(folder, fails)
    assert (folder / "number").read_text() == "1"
    assert [path.name for path in tmp_path.iterdir()] == ["best"]


def test_an_interrupted_writing_is_cleared_away_by_the_next(tmp_path):
    (tmp_path / "best.partial").mkdir()
    (tmp_path / "best.partial" / "half").touch()
    replace_folder(tmp_path / "best", write_number(1))
    assert [path.name for path in (tmp_path / "best").iterdir()] == ["number"]


def test_the_only_whole_folder_is_never_removed_before_the_new_one_stands(tmp_path, monkeypatch):
    """A run that died between two renames left best.old alone."""
    (tmp_path / "best.old").mkdir()
    write_number(1)(tmp_path / "best.old")

    def dies(source, destination):
        raise KeyboardInterrupt

    monkeypatch.setattr("metagene_classifier.model.saved.os.replace", dies)
    with pytest.raises(KeyboardInterrupt):
        replace_folder(tmp_path / "best", write_number(2))
    assert (tmp_path / "best.old" / "number").read_text() == "1"


@pytest.mark.parametrize(
    ("there", "asked", "expected"),
    [
        (["best", "last"], "", "best"),
        (["last"], "", "last"),
        (["best", "last"], "last", "last"),
        (["best.old", "last"], "", "best.old"),
        (["last.old"], "", "last.old"),
        (["best.old"], "best", "best.old"),
        ([], "", None),
        (["other"], "", None),
    ],
)
def test_ckpt_takes_a_models_folder_or_its_runs(tmp_path, there, asked, expected):
    for name in there:
        (tmp_path / name).mkdir()
        (tmp_path / name / DESCRIPTION_FILE).touch()
    assert find_model_folder(tmp_path / asked) == (tmp_path / expected if expected else None)


def test_ckpt_may_be_the_folder_that_one_stands_in(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_model_folder(Path()) is None
    (tmp_path / DESCRIPTION_FILE).touch()
    assert find_model_folder(Path()) == Path()


def test_scores_of_different_reads_differ(run_of):
    """Without this, equal scores above would mean nothing."""
    run = run_of()
    assert np.ptp(scores(run.built.classifier, run), axis=0).min() > 0.05
