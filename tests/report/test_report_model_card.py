import dataclasses
import re

import numpy as np
import pytest
from huggingface_hub import ModelCard

from metagene_classifier.metrics.classification import classification_metrics
from metagene_classifier.model.calibration import (
    CalibrationFacts,
    CutOff,
    RefusalFacts,
    ReliabilityFacts,
    ScoreFacts,
    TemperatureFacts,
)
from metagene_classifier.report.model_card import CardClass, ModelCardFacts, model_card, with_confidence

METRICS = classification_metrics(
    np.array([0, 0, 1]), np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8]], dtype=np.float32), ["E. coli", "S. aureus"]
)
FACTS = ModelCardFacts(
    name="demo-model",
    encoder="metagene-ai/METAGENE-1",
    revision="main",
    encoder_is_new=False,
    adapter="LoRA, r 8, alpha 16",
    encoder_is_tuned=False,
    tokenizer="metagene-ai/METAGENE-1",
    pooling="mean",
    max_length_tokens=512,
    classes=[CardClass("E. coli", 562, 8000, 1000), CardClass("S. aureus", None, 7500, 900)],
    training_files=["train_1.fa.gz", "train_2.fa.gz"],
    validation_files=["val.fa"],
    steps=1250,
    epochs=10,
    reads_per_step=128,
    learning_rate=2e-4,
    precision="bf16-mixed",
    hardware="1 x NVIDIA GeForce RTX 4090",
    plan="bf16 LoRA without checkpointing, 1,024 tokens at once: 20.9 of 23.6 GiB",
    training_seconds=5400,
    versions={"metagene-classifier": "0.1.0", "torch": "2.13.0"},
    command="mgc train --config configs/default.yaml --output-dir demo-model",
    metrics=METRICS,
)


def test_front_matter_is_what_the_hub_reads():
    card = ModelCard(model_card(FACTS), ignore_metadata_errors=False)
    assert card.data.base_model == "metagene-ai/METAGENE-1"
    assert card.data.library_name == "peft"
    assert card.data.pipeline_tag == "text-classification"
    assert "metagenomics" in card.data.tags
    assert card.data.license is None
    results = {result.metric_type: result.metric_value for result in card.data.eval_results}
    assert results["accuracy"] == pytest.approx(2 / 3, abs=1e-4)
    assert results["f1"] == pytest.approx(METRICS.macro_f1, abs=1e-4)
    assert card.data.model_name == "demo-model"


@pytest.mark.parametrize(
    "changes",
    [
        {"encoder": "builtin:llama-tiny", "encoder_is_new": True},
        {"encoder": "/data/models/encoder"},
        {"encoder": "../encoder"},
        {"encoder": "owner/name", "encoder_is_new": True},
    ],
)
def test_what_is_no_model_of_the_hub_is_no_base_model(changes):
    card = ModelCard(model_card(dataclasses.replace(FACTS, **changes)))
    assert card.data.base_model is None


def test_a_folder_that_looks_like_a_hub_name_is_no_base_model(tmp_path, monkeypatch):
    (tmp_path / "runs" / "encoder").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert ModelCard(model_card(dataclasses.replace(FACTS, encoder="runs/encoder"))).data.base_model is None


def test_without_an_adapter_peft_is_not_claimed():
    text = model_card(dataclasses.replace(FACTS, adapter=None, plan=""))
    assert ModelCard(text).data.library_name == "metagene-classifier"
    assert "LoRA" not in text


def test_card_tells_classes_data_training_results_and_use():
    text = model_card(FACTS)
    for line in (
        "| E. coli | 562 | 8,000 | 1,000 |",
        "| S. aureus |  | 7,500 | 900 |",
        "15,500 training reads.",
        "- training: train_2.fa.gz",
        "- validation: val.fa",
        "| Optimizer steps | 1,250 |",
        "| Reads a step | 128 |",
        "| Learning rate | 0.0002 |",
        "| Time | 1 h 30 min |",
        "| Versions | metagene-classifier 0.1.0, torch 2.13.0 |",
        f"| Macro F1 | {METRICS.macro_f1:.4f} |",
        "mgc predict --input reads.fq.gz --ckpt demo-model --output predictions.csv",
        "mgc train --config configs/default.yaml --output-dir demo-model",
    ):
        assert line in text.splitlines(), line


def test_a_model_without_validation_says_so():
    text = model_card(dataclasses.replace(FACTS, metrics=None, validation_files=[]))
    assert "training had no validation reads" in text
    assert not ModelCard(text).data.eval_results


def test_fifty_classes_are_shown_and_the_rest_counted():
    classes = [CardClass(f"species {number}", number + 1, 10) for number in range(3507)]
    text = model_card(dataclasses.replace(FACTS, classes=classes))
    assert "| species 49 | 50 | 10 |" in text
    assert "species 50" not in text
    assert "and 3,457 more" in text
    assert "Validation reads" not in text


def test_labels_and_commands_cannot_break_the_page():
    classes = [CardClass("a|b\n# heading <img src=x> `code` [link](http://x)", 1, 2), CardClass("plain_name", 2, 2)]
    command = "mgc train --output-dir 'a```b'\n--config x"
    text = model_card(dataclasses.replace(FACTS, classes=classes, command=command, name="x: [y]\n---"))
    row = next(line for line in text.splitlines() if line.startswith("| a"))
    assert row == r"| a\|b # heading &lt;img src=x&gt; \`code\` \[link\](http://x) | 1 | 2 |"
    assert "| plain_name | 2 | 2 |" in text
    assert f"````bash\n{command}\n````" in text
    card = ModelCard(text)
    assert card.data.pipeline_tag == "text-classification"
    assert len(re.findall(r"^---$", text, re.MULTILINE)) == 2


BINS = ReliabilityFacts(edges=(0.0, 1.0), reads=(1900,), confidence=(0.9,), accuracy=(0.8,), ece=0.1)
CALIBRATION = CalibrationFacts(
    temperature=TemperatureFacts(single=1.25, pairs=2.5, pairs_measured=False, reads=1900),
    before=BINS,
    after=BINS.model_copy(update={"ece": 0.0125}),
    threshold=0.75,
    table=(
        CutOff(threshold=0.5, precision=0.9, sensitivity=0.8, called=1800, f1=0.7),
        CutOff(threshold=0.75, precision=0.95, sensitivity=0.7, called=1500, f1=0.75),
    ),
    refusal=RefusalFacts(
        score="energy",
        cutoff=None,
        figures={"energy": ScoreFacts(auroc=0.875, false_calls_at_95=0.25)},
        known=400,
        unknown=200,
        folds=2,
    ),
)


def test_card_tells_calibration_threshold_strangers_and_taxonomy():
    text = model_card(dataclasses.replace(FACTS, calibration=CALIBRATION, ranked_classes=1))
    for line in (
        "| Temperature | 1.250 |",
        "| Expected calibration error before | 0.1000 |",
        "| Expected calibration error after | 0.0125 |",
        "| Default threshold | 0.75 |",
        "| Precision there, known reads | 0.9500 |",
        "| Its AUROC | 0.8750 |",
        "| Left-out reads called where 95% of known reads are | 25.00% |",
        "| Refusal by it, besides the threshold | none |",
    ):
        assert line in text.splitlines(), line
    assert "lineage of 1 of the classes" in text
    assert "Not calibrated" not in text


def test_a_card_that_was_written_before_calibration_is_told_of_it_and_changed_nowhere_else():
    before = model_card(FACTS)
    assert "Not calibrated" in before
    after = model_card(dataclasses.replace(FACTS, calibration=CALIBRATION))
    assert with_confidence(before, CALIBRATION) == after
    assert with_confidence(after, CALIBRATION) == after, "a resumed run's as well"
