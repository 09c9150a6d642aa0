"""Values that cannot work are refused before anything is loaded, one line for each, and "null" is a value."""

import pytest

from metagene_classifier.cli.options import config_from
from metagene_classifier.config_file import config_yaml, load_config
from metagene_classifier.errors import ConfigError


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("optimizer.betas", [1.5, 0.9], "optimizer.betas.0: Input should be less than 1, not 1.5"),
        ("optimizer.lr", float("inf"), "optimizer.lr: Input should be a finite number, not inf"),
        ("model.lora.target_modules", [], "at least 1 item"),
        ("loss.class_weights", {"E. coli": -1}, "loss.class_weights.E. coli: Input should be greater than 0, not -1"),
        ("loss.class_weights", "balance", "should be 'balanced' or a valid dictionary, not 'balance'"),
        ("training.max_tokens", -5, "should be greater than or equal to 1 or 'auto', not -5"),
        ("scheduler.num_training_steps", 0, "should be greater than or equal to 1 or 'auto', not 0"),
        ("dataset.train_fasta", 5, "dataset.train_fasta: Input should be a valid string or a valid list, not 5"),
        ("model.lora.target_modules", "q_proj", "should be a valid list or 'all-linear', not 'q_proj'"),
        ("training.memory_limit", "24", "training.memory_limit: use an amount such as 24GiB or 500MiB, not '24'"),
        ("model.quantization", "int4", "should be 'auto', 'none', 'int8' or 'nf4', not 'int4'"),
        ("model.freeze_layers", -1, "should be greater than or equal to 0, not -1"),
        ("device", "gpu", "device: use auto, cuda, cuda:N, mps or cpu, not 'gpu'"),
    ],
)
def test_a_value_that_cannot_work_is_one_line(key, value, message):
    with pytest.raises(ConfigError) as caught:
        load_config(None, {key: value})
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("metric", "mode", "needed"), [("loss", "max", "min"), ("macro_f1", "min", "max")])
def test_a_mode_that_would_keep_the_worst_model_is_refused(metric, mode, needed):
    with pytest.raises(ConfigError, match=f"keeps the worst model: set mode: {needed}"):
        load_config(None, {"training.early_stopping.metric": metric, "training.early_stopping.mode": mode})


def test_null_on_the_command_line_takes_a_value_away(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("dataset: {val_fasta: val.fa, mapping_tsv: mapping.tsv}\n")
    config = config_from(path, ("dataset.val_fasta=null",), {"mapping_tsv": None}, lambda line: None)
    assert config.dataset.val_fasta is None
    assert config.dataset.mapping_tsv == "mapping.tsv"


@pytest.mark.parametrize("how", [{"model.lora.enabled": False}, {"model.init": "random"}])
def test_weights_that_are_to_learn_are_not_quantized(how):
    with pytest.raises(ConfigError, match=r"model.quantization: nf4 holds weights that cannot learn: set it to none"):
        load_config(None, {"model.quantization": "nf4", **how})


def test_a_quantized_encoder_can_stand_below_adapters_or_a_head():
    for how in ({}, {"model.freeze": "encoder"}):
        assert load_config(None, {"model.quantization": "int8", **how}).model.quantization == "int8"


def test_layers_are_not_frozen_within_a_frozen_encoder():
    with pytest.raises(ConfigError, match=r"model\.freeze: encoder trains none"):
        load_config(None, {"model.freeze": "encoder", "model.freeze_layers": 2})


def test_off_is_a_word_although_yaml_reads_it_as_false(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("training: {fit: off}\n")
    config = load_config(path)
    assert config.training.fit == "off"
    path.write_text(config_yaml(config))
    assert load_config(path) == config
