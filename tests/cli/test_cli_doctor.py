"""``mgc doctor`` and ``scripts/setup_env.sh``."""

from __future__ import annotations

import json
import os
import subprocess
from importlib import metadata
from pathlib import Path

import pytest

from metagene_classifier.cli.main import main

SCRIPT = Path(__file__).parents[2] / "scripts" / "setup_env.sh"


def doctor(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main(["doctor", *words])
    assert ended.value.code == 0
    return capsys.readouterr().out


def test_it_says_what_a_bug_report_needs(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
    facts = json.loads(doctor(capsys, "--json"))
    assert facts["versions"]["torch"] == metadata.version("torch")
    assert facts["versions"]["flash-attn"] is None or isinstance(facts["versions"]["flash-attn"], str)
    assert facts["devices"]["cpu"]["bf16"] in (True, False, None)
    assert "cuda" in facts["devices"]
    assert facts["machine"]["cores"] >= 1
    assert all(free > 0 for free in facts["disk"].values())
    assert facts["environment"]["PYTORCH_CUDA_ALLOC_CONF"] == "expandable_segments:True"
    assert isinstance(facts["hub"]["offline"], bool)


def test_the_same_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    lines = doctor(capsys).splitlines()
    assert [line for line in lines if not line.startswith(" ")] == [
        *("versions", "machine", "devices", "hub", "disk", "environment"),
    ]
    assert any(line.split() == ["torch", metadata.version("torch")] for line in lines)


def test_a_card_is_described(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    class Card:
        name, total_memory, major, minor = "A card", 24 * 2**30, 7, 5

    monkeypatch.setattr("torch.version.cuda", "13.0")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda index: Card)
    card = json.loads(doctor(capsys, "--json"))["devices"]["cuda:0"]
    assert card == {"name": "A card", "memory (GiB)": 24.0, "compute capability": "7.5", "bf16": False}


def shell(command: str, home: Path, **more: str) -> subprocess.CompletedProcess[str]:
    names = ("HF_HOME", "XDG_CACHE_HOME", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF", "TOKENIZERS_PARALLELISM")
    kept = {key: value for key, value in os.environ.items() if key not in names}
    environment = {**kept, "HOME": str(home), **more}
    return subprocess.run(["bash", "-c", command], env=environment, capture_output=True, text=True, timeout=30)


SHOW = f'set -eu; source "{SCRIPT}" >/dev/null; echo "$HF_HOME|${{PYTORCH_CUDA_ALLOC_CONF:-}}|$TOKENIZERS_PARALLELISM"'


def test_sourcing_sets_what_is_not_set(tmp_path: Path) -> None:
    ran = shell(SHOW, tmp_path)
    assert ran.stdout == f"{tmp_path}/.cache/huggingface|expandable_segments:True|true\n", ran.stderr


def test_sourcing_keeps_what_the_user_has_set(tmp_path: Path) -> None:
    own = {"HF_HOME": "/big disk/hf", "PYTORCH_CUDA_ALLOC_CONF": "backend:native", "TOKENIZERS_PARALLELISM": "false"}
    assert shell(SHOW, tmp_path, **own).stdout == "/big disk/hf|backend:native|false\n"
    assert shell(SHOW, tmp_path, PYTORCH_ALLOC_CONF="backend:native").stdout.split("|")[1] == ""


def test_sourcing_activates_the_checkouts_environment(tmp_path: Path) -> None:
    checkout = tmp_path / "a checkout"
    (checkout / "scripts").mkdir(parents=True)
    (checkout / "scripts" / "setup_env.sh").write_text(SCRIPT.read_text())
    (checkout / ".venv" / "bin").mkdir(parents=True)
    (checkout / ".venv" / "bin" / "activate").write_text("ACTIVE=yes\n")
    ran = shell(f'cd / && . "{checkout}/scripts/setup_env.sh" && echo "active: $ACTIVE"', tmp_path)
    assert "active: yes" in ran.stdout, ran.stderr
    assert f"virtual environment: {checkout}/.venv" in ran.stdout


def test_executing_it_explains_itself(tmp_path: Path) -> None:
    ran = shell(f"bash '{SCRIPT}'", tmp_path)
    assert ran.returncode == 1
    assert f"source {SCRIPT}" in ran.stderr
