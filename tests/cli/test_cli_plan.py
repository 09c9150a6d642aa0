"""``mgc plan``: a table for people, one object for machines, and no GPU, weights or network."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from metagene_classifier.cli.main import main
from metagene_classifier.memory import device as devices

GIB = 2**30
READS = Path(__file__).parents[2] / "data" / "reads" / "saureus_illumina_R1_first4k.fastq.gz"


class Plan:
    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, *words: str | Path) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(["plan", *map(str, words)])
        output, messages = self.capsys.readouterr()
        return int(ended.value.code or 0), output, messages

    def json(self, *words: str | Path) -> dict:
        code, output, messages = self(*words, "--json")
        assert code == 0, messages
        return json.loads(output)


@pytest.fixture
def plan(capsys: pytest.CaptureFixture[str]) -> Plan:
    return Plan(capsys)


def way(facts: dict, name: str) -> dict:
    return next(row for row in facts["ways"] if row["name"] == name)


def test_the_table_has_every_way_and_ends_with_the_choice(plan):
    code, output, messages = plan("--gpu", "RTX 4090")
    assert (code, messages) == (0, "")
    lines = output.splitlines()
    assert lines[0].startswith("encoder   metagene-ai/METAGENE-1 (6,480,465,920 parameters, 32 layers")
    assert lines[1] == "memory    23.6 GiB, RTX 4090 24GB"
    first_words = [line.split()[0] for line in lines if line]
    for name in ("full", "lora", "lora+checkpointing", "int8", "nf4+checkpointing+host", "head-only", "predict"):
        assert name in first_words
    assert lines[-1].startswith("plan: bf16 LoRA without checkpointing, ")
    assert max(map(len, lines)) <= 160


def test_json_is_one_object_whose_parts_sum_to_the_peak(plan):
    facts = plan.json("--gpu", "4090")
    assert facts["card"] == "RTX 4090 24GB" and facts["memory_gib"] == pytest.approx(23.6)
    assert facts["longest_segment"] == 512 and facts["tokens_per_read"] == 40
    for row in facts["ways"]:
        assert set(row) >= {"name", "peak_gib", "parts", "fits", "max_tokens", "max_reads"}
        assert sum(row["parts"].values()) == pytest.approx(row["peak_gib"], abs=1e-9)
        assert row["fits"] == (row["peak_gib"] <= facts["memory_gib"])
        assert (row["max_tokens"] is None) == (row["max_reads"] is None) == (not row["fits"])
    assert facts["chosen"]["name"] == "lora" and facts["problem"] is None
    assert way(facts, "lora")["parts"]["weights"] == pytest.approx(12.07, abs=0.05)


def test_the_same_amount_of_memory_is_the_same_plan(plan):
    by_name, by_size = plan.json("--gpu", "4090"), plan.json("--memory", "23.6GiB")
    assert by_name["ways"] == by_size["ways"]
    assert by_size["card"] is None


def test_when_nothing_fits_the_plan_says_so_and_is_still_a_plan(plan):
    facts = plan.json("--memory", "2GiB")
    assert facts["chosen"] is None and "no way fits" in facts["problem"]
    assert all(row["max_tokens"] is None and not row["fits"] for row in facts["ways"])
    code, output, _ = plan("--memory", "2GiB")
    assert code == 0 and "no way fits" in output.splitlines()[-1]


def test_a_card_without_bfloat16_says_what_it_computes_in(plan):
    _, output, _ = plan("--gpu", "T4")
    assert "computes  in float16 with loss scaling (this card has no bfloat16)" in output.splitlines()


def test_an_unknown_card_is_one_line_with_the_nearest_names(plan):
    code, output, messages = plan("--gpu", "RTX 4091")
    assert (code, output) == (2, "")
    assert messages.count("\n") == 1 and "RTX 4090" in messages and "--list-cards" in messages


def test_the_cards_that_are_known(plan):
    code, output, _ = plan("--list-cards")
    assert code == 0
    rows = [line.split() for line in output.splitlines()]
    assert ["T4", "16GB", "14.5", "no", "65", "320"] in rows
    assert ["RTX", "4090", "24GB", "23.6", "yes", "165", "1,008"] in rows
    assert ["RTX", "4070", "12GB", "11.6", "yes", "-", "504"] in rows


def test_reads_give_their_own_lengths_and_steps(plan):
    facts = plan.json("--gpu", "4090", "--reads", READS)
    assert 20 < facts["tokens_per_read"] < 40 and facts["longest_segment"] < 120
    train = round(facts["reads"] * 0.9)
    assert facts["optimizer_steps"] == 10 * -(-train // 128)
    doubled = plan.json("--gpu", "4090", "--reads", READS, "--set", "training.grad_accum_steps=2")
    assert doubled["optimizer_steps"] == 10 * -(-train // 256)
    row = way(facts, "lora")
    assert row["max_reads"] == int(row["max_tokens"] // facts["tokens_per_read"])


def test_of_a_large_file_only_the_first_reads_are_looked_at(plan, tmp_path, monkeypatch):
    monkeypatch.setattr("metagene_classifier.cli.plan.READS_SAMPLED", 50)
    facts = plan.json("--gpu", "4090", "--reads", READS)
    assert facts["reads"] is None and facts["optimizer_steps"] is None
    _, output, _ = plan("--gpu", "4090", "--reads", READS)
    assert f"reads     the first 50 reads of {READS}: " in output


def test_a_long_read_counts_as_a_window_of_it(plan, tmp_path):
    path = tmp_path / "long.fa"
    path.write_text(f">one\n{'ACGT' * 1000}\n>two\n{'ACGTTG' * 1000}\n")
    facts = plan.json("--gpu", "4090", "--reads", path)
    assert (facts["longest_segment"], facts["tokens_per_read"]) == (512, 512)


def test_reads_that_cannot_be_read_are_one_line(plan, tmp_path):
    empty = tmp_path / "empty.fa"
    empty.write_text("")
    code, output, messages = plan("--gpu", "4090", "--reads", empty)
    assert code == 1 and output == "" and messages.count("\n") == 1 and "no read in it" in messages
    code, _, messages = plan("--gpu", "4090", "--reads", tmp_path / "none.fa")
    assert code == 1 and messages.count("\n") == 1


def test_what_the_configuration_sets_counts(plan, tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text("model: {quantization: nf4}\ntraining: {max_tokens: 4096, memory_limit: 10GiB}\n")
    facts = plan.json("--config", config, "--gpu", "4090")
    assert facts["memory_gib"] == 10 and facts["tokens_of_peak"] == 4096
    assert facts["chosen"]["quantization"] == "nf4" and facts["chosen"]["max_tokens"] == 4096
    larger = plan.json("--config", config, "--gpu", "4090", "--set", "model.lora.r=64")
    assert way(larger, "nf4")["parts"]["adapters_and_head"] > 4 * way(facts, "nf4")["parts"]["adapters_and_head"]


def test_a_run_that_leaves_the_plan_aside_is_told_what_it_leaves(plan):
    _, output, _ = plan("--gpu", "4090", "--set", "training.fit=off")
    assert output.splitlines()[-2].startswith("training.fit is off, so nothing is chosen for the run")


def test_another_encoder_from_its_configuration_alone(plan, bert_encoder, tmp_path):
    folder = tmp_path / "bare"
    folder.mkdir()
    (folder / "config.json").write_text((bert_encoder / "config.json").read_text())
    words = ("--memory", "2GiB", "--set", f"model.encoder_path={folder}", "--set", "tokenizer.max_length=100")
    facts = plan.json(*words, "--set", "model.lora.target_modules=[query, value]")
    assert facts["encoder"]["layers"] == 2 and facts["encoder"]["derived_for_this_architecture"] is False
    assert facts["longest_segment"] == 100 and facts["chosen"]["name"] == "lora"


def test_measured_throughput_becomes_time(plan, tmp_path):
    path = tmp_path / "figures.json"
    rows = [{"way": "lora", "tokens_per_read": 40, "tokens_per_s": 2000.0}]
    path.write_text(json.dumps({"device": "RTX 4090", "encoder": {"parameters": 6480465920}, "rows": rows}))
    facts = plan.json("--gpu", "4090", "--figures", path)
    assert way(facts, "lora")["seconds_per_million_reads"] == 20_000
    assert way(facts, "nf4")["seconds_per_million_reads"] is None


def test_memory_of_a_cpu(plan, monkeypatch):
    monkeypatch.setattr(devices, "_DRIVERS", ())
    monkeypatch.setattr(devices, "available_host_bytes", lambda: 40 * GIB)
    here = plan.json()
    assert (here["device"], here["memory_gib"], here["compute"]) == ("cpu", 40, "float32")
    other = plan.json("--device", "cpu", "--memory", "40GiB")
    assert other["ways"] == here["ways"]


def test_a_card_and_an_amount_are_not_given_together(plan):
    code, _, messages = plan("--gpu", "4090", "--memory", "8GiB")
    assert code == 2 and messages.count("\n") == 1


def test_it_answers_without_torch_and_transformers():
    code = """
import sys
from metagene_classifier.cli.main import main
try:
    main(["plan", "--gpu", "4090", "--json"])
except SystemExit as end:
    assert end.code == 0
heavy = {"torch", "transformers", "accelerate"} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    json.loads(done.stdout)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["model.freeze_layers=32"], "model.freeze_layers: 32: metagene-ai/METAGENE-1 has 32 layers: freeze fewer"),
        (["model.lora.target_modules=[foo]"], "has no linear layer called foo: it has down_proj, gate_proj, k_proj"),
    ],
)
def test_layers_that_the_encoder_does_not_have_are_one_line(plan, settings, message):
    code, _, messages = plan("--memory", "24GiB", *(word for one in settings for word in ("--set", one)))
    assert code == 2
    assert message in messages and messages.count("\n") == 1


def test_what_is_no_encoder_of_reads_is_one_line(plan, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "resnet"}')
    code, _, messages = plan("--memory", "24GiB", "--set", f"model.encoder_path={tmp_path}")
    assert code == 1
    assert "a resnet has no hidden states of one width" in messages and messages.count("\n") == 1
