"""What a user gets: configurations, commands, files of the package, and papers that agree with one another."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import metagene_classifier
from metagene_classifier.cli.main import COMMANDS, main
from metagene_classifier.config import Config
from metagene_classifier.config_file import config_yaml, load_config

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "metagene_classifier"

# In the order of the data; a stage imports only those before it.
GROUND_FLOOR = ["errors", "console", "whole_files", "config_errors", "config", "config_file", "hub", "cache"]
STAGES = [
    *("reads", "tokenization", "store", "batching", "model", "memory"),
    *("metrics", "calling", "training", "prediction", "report", "serving", "cli"),
]

KEYS_OF_EARLIER_FILES = """
seed device
tokenizer.name_or_path tokenizer.use_hf_tokenizer tokenizer.max_length
model.encoder_path model.pooling model.num_classes model.dropout model.gradient_checkpointing
model.lora.enabled model.lora.r model.lora.alpha model.lora.dropout model.lora.target_modules model.lora.bias
dataset.train_fasta dataset.val_fasta dataset.test_fasta dataset.mapping_tsv dataset.header_regex
dataset.strict_classes dataset.label_column dataset.class_column dataset.tax_column
training.output_dir training.batch_size training.grad_accum_steps training.max_epochs training.precision
training.early_stopping.patience training.early_stopping.metric training.early_stopping.mode
training.checkpoint.save_best training.checkpoint.save_last training.torch_compile
optimizer.name optimizer.lr optimizer.weight_decay optimizer.betas
scheduler.name scheduler.warmup_steps scheduler.num_training_steps
loss.name loss.label_smoothing
metrics.primary metrics.compute_auroc metrics.confusion_matrix metrics.per_class_report
logging.log_interval logging.use_wandb logging.wandb_project logging.wandb_entity
"""


def flat(values, prefix=""):
    keys = {}
    for key, value in values.items():
        keys |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return keys


def tracked_files():
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    paths = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    return [path for path in paths if path.is_file()]


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.name)
def test_shipped_configurations_are_valid_and_name_no_key_without_a_meaning(path):
    told = []
    load_config(path, tell=told.append)
    assert told == []


def test_shipped_configurations_show_the_defaults_as_they_are():
    assert load_config(ROOT / "configs" / "default_hf_tokenizer.yaml") == Config()


def test_the_minbpe_configuration_differs_in_the_tokenizer_alone():
    minbpe = flat(load_config(ROOT / "configs" / "default.yaml").model_dump())
    defaults = flat(Config().model_dump())
    assert {key: minbpe[key] for key in minbpe if minbpe[key] != defaults[key]} == {
        "tokenizer.name_or_path": "builtin:minbpe",
        "tokenizer.use_hf_tokenizer": False,
    }


@pytest.mark.parametrize("name", ["default.yaml", "default_hf_tokenizer.yaml"])
def test_every_key_of_earlier_files_stands_in_the_shipped_ones(name):
    shown = flat(yaml.safe_load((ROOT / "configs" / name).read_text(encoding="utf-8")))
    assert sorted(set(KEYS_OF_EARLIER_FILES.split()) - set(shown)) == []


def test_the_saved_configuration_reads_back_as_it_was(tmp_path):
    config = load_config(ROOT / "configs" / "default.yaml", {"optimizer.lr": "3e-5", "loss.class_weights": {"a": 2}})
    (tmp_path / "config.yaml").write_text(config_yaml(config), encoding="utf-8")
    assert load_config(tmp_path / "config.yaml") == config


def test_every_file_that_is_not_python_is_in_the_package():
    data = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = data["tool"]["setuptools"]["package-data"]["metagene_classifier"]
    packaged = {path for pattern in patterns for path in PACKAGE.glob(pattern)}
    needed = {path for path in tracked_files() if path.is_relative_to(PACKAGE) and path.suffix != ".py"}
    assert needed and needed <= packaged


def test_help_answers_without_importing_heavy_libraries():
    code = """
import sys
from metagene_classifier.cli.main import COMMANDS, main
for words in [["--help"], *([name, "--help"] for name in COMMANDS)]:
    try:
        main(words)
    except SystemExit as end:
        assert end.code == 0, (words, end.code)
    heavy = {"torch", "transformers", "sklearn", "matplotlib", "pyarrow", "pydantic"} & set(sys.modules)
    assert not heavy, (words, heavy)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name, (_, line) in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(line[:30])}", done.stdout, re.MULTILINE)
        assert f"Usage: mgc {name}" in done.stdout


@pytest.mark.parametrize("script", ["train.py", "evaluate.py", "predict.py", "test_dataloader_only.py"])
def test_the_earlier_scripts_are_the_commands(script):
    done = subprocess.run([sys.executable, ROOT / script, "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("Usage: mgc ")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["predcit"], "mgc: error: No such command 'predcit' (see mgc --help)\n"),
        (["predict"], "mgc predict: error: Missing option '--ckpt' (see mgc predict --help)\n"),
        (
            ["doctor", "--jsn"],
            "mgc doctor: error: No such option '--jsn'. Did you mean '--json'? (see mgc doctor --help)\n",
        ),
    ],
)
def test_a_wrong_command_or_option_is_one_line(words, line, capsys):
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert capsys.readouterr().err == line


def test_a_stage_imports_only_the_stages_before_it():
    order = [*GROUND_FLOOR, *STAGES]
    wrong = []
    for path in PACKAGE.rglob("*.py"):
        here = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if here not in order:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("metagene_classifier."):
                there = node.module.split(".")[1]
                if order.index(there) > order.index(here):
                    wrong.append(f"{path.relative_to(PACKAGE)}, line {node.lineno}: {node.module}")
    assert wrong == []


def test_the_readme_begins_with_demo_and_test():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = [line.split("#")[0].split() for line in readme.splitlines() if line.startswith("    ")]
    assert commands[:2] == [["make", "demo"], ["make", "test"]]


def test_links_between_the_papers_lead_somewhere():
    broken = []
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "benchmarks" / "README.md"]:
        for target in re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8")):
            if not target.startswith("https://") and not (path.parent / target).exists():
                broken.append(f"{path.relative_to(ROOT)}: {target}")
    assert broken == []


def test_all_papers_say_the_same_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    changes = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert citation["version"] == changes[0] == metagene_classifier.__version__


def test_every_dependency_is_pinned_and_explained():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    named = [re.match(r"[\w.-]+", line)[0] for group in (project["dependencies"], *extras.values()) for line in group]
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    pinned = {match.lower().replace("_", "-") for match in re.findall(r"^([\w.-]+)==", pins, re.MULTILINE)}
    # W&B is the one extra that "make install" leaves out.
    assert {name.lower().replace("_", "-") for name in named} - pinned == {"wandb"}
    explained = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    assert [name for name in named if name not in explained] == []


def test_no_path_of_a_machine_is_written_down():
    home = re.compile(rb"(?<![\w.:/])/(?:home|Users|root|work|mnt)/\w")
    found = []
    for path in tracked_files():
        content = path.read_bytes()
        if b"\0" not in content and (match := home.search(content)):
            found.append(f"{path.relative_to(ROOT)}: {match[0].decode()}…")
    assert found == []
