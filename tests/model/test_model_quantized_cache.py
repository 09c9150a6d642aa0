"""Quantized weights are made once; after that they are read, and the scores are the same to the last bit."""

import json
import multiprocessing
import os
import shutil
from pathlib import Path

import pytest
import torch

from metagene_classifier import cache
from metagene_classifier.errors import EncoderError
from metagene_classifier.model import encoder as encoder_module
from metagene_classifier.model.encoder import EncoderSource, load_encoder
from metagene_classifier.model.quantized_cache import QuantizedWeights, files_identity

CPU = torch.device("cpu")
IDS = torch.tensor([[3, 7, 200, 300, 9, 4, 512, 1000]])
QUANTIZED = ["int8", "nf4"]


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("MGC_CACHE", str(tmp_path / "root"))
    monkeypatch.delenv("MGC_NO_CACHE", raising=False)
    return tmp_path / "root"


@pytest.fixture
def encoder_folder(llama_encoder, tmp_path) -> Path:
    return shutil.copytree(llama_encoder, tmp_path / "tiny-llama")


def loaded(folder, quantization="nf4", dtype=torch.float32, **options):
    """An encoder, and the lines that were told."""
    told = []
    encoder = load_encoder(
        EncoderSource(str(folder)),
        dtype=dtype,
        device=CPU,
        seed=0,
        quantization=quantization,
        tell=told.append,
        **options,
    )
    return encoder, told


def hidden(encoder):
    with torch.inference_mode():
        return encoder(IDS).last_hidden_state


@pytest.mark.parametrize("quantization", QUANTIZED)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["llama_encoder", "bert_encoder"])
def test_the_second_load_reads_and_gives_the_same_to_the_last_bit(request, root, kind, dtype, quantization):
    folder = request.getfixturevalue(kind)
    first, told = loaded(folder, quantization, dtype)
    (entry,) = cache.entries()
    size = f"{entry.bytes / 1e6:.2f} MB"
    assert told == [f"{quantization} weights cached, {entry.folder} ({size}): the next load reads them"]
    assert entry.kind == "quantized"
    assert entry.description == f"{folder} in {quantization}, the rest in {str(dtype).removeprefix('torch.')}"
    second, told = loaded(folder, quantization, dtype)
    assert told == [f"{quantization} weights read from the cache, {entry.folder}"]
    assert torch.equal(hidden(second), hidden(first))
    assert not second.training
    weights = [
        {name: (type(weight), weight.dtype, weight.requires_grad) for name, weight in encoder.named_parameters()}
        for encoder in (first, second)
    ]
    assert weights[0] == weights[1]
    assert second.config.name_or_path == first.config.name_or_path
    first_config, second_config = (encoder.config.to_dict() for encoder in (first, second))
    assert second_config.pop("quantization_config") == first_config.pop("quantization_config")
    assert second_config == first_config


@pytest.mark.parametrize("quantization", QUANTIZED)
def test_the_encoders_own_weights_are_not_read_again(encoder_folder, quantization, monkeypatch):
    from transformers import AutoModel

    read_from = []
    from_pretrained = AutoModel.from_pretrained

    def recorded(folder, **options):
        read_from.append(Path(folder))
        return from_pretrained(folder, **options)

    monkeypatch.setattr(AutoModel, "from_pretrained", recorded)
    for _ in range(3):
        loaded(encoder_folder, quantization)
    (entry,) = cache.entries()
    assert read_from == [encoder_folder, entry.folder, entry.folder]


def test_a_folder_that_moved_is_known_again(encoder_folder, tmp_path):
    loaded(encoder_folder)
    encoder_folder.rename(tmp_path / "moved")
    assert "read from the cache" in loaded(tmp_path / "moved")[1][0]
    assert len(cache.entries()) == 1


@pytest.mark.parametrize("what", ["weights", "weights, not their time", "config"])
def test_other_files_are_another_entry(encoder_folder, what):
    """Files unpacked from an image may all have one and the same time."""
    loaded(encoder_folder)
    if what == "config":
        path = encoder_folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"rms_norm_eps": 0.1}))
    else:
        path = encoder_folder / "model.safetensors"
        state, content = path.stat(), path.read_bytes()
        changed = bytearray(content)
        for place in range(len(content) - 4000, len(content), 4):  # the lowest bit of a thousand weights
            changed[place] ^= 1
        path.write_bytes(changed)
        if "not" in what:
            os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert "weights cached" in loaded(encoder_folder)[1][0]
    assert len(cache.entries()) == 2


def test_large_files_are_told_apart_by_samples(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    path = tmp_path / "model.safetensors"
    content = bytearray(3 * 2**20)
    path.write_bytes(content)
    os.utime(path, (0, 0))
    before = files_identity(tmp_path)
    for place in (0, len(content) - 1, len(content) // 63 * 7):
        changed = bytearray(content)
        changed[place] = 1
        path.write_bytes(changed)
        os.utime(path, (0, 0))
        assert files_identity(tmp_path) != before
    path.write_bytes(content)
    os.utime(path, (0, 0))
    assert files_identity(tmp_path) == before


def test_a_folder_of_the_hubs_cache_is_known_by_its_commit(tmp_path):
    folder = tmp_path / "models--a--b" / "snapshots" / ("0123456789" * 4)
    folder.mkdir(parents=True)
    assert files_identity(folder) == "0123456789" * 4


def test_everything_that_changes_the_bits_changes_the_key(monkeypatch):
    weights = QuantizedWeights("a", "f", "nf4", "float32", "cpu")
    others = [
        QuantizedWeights("a", "g", "nf4", "float32", "cpu"),
        QuantizedWeights("a", "f", "int8", "float32", "cpu"),
        QuantizedWeights("a", "f", "nf4", "bfloat16", "cpu"),
        QuantizedWeights("a", "f", "nf4", "float32", "cuda"),
    ]
    keys = {weights.key, *(other.key for other in others)}
    assert len(keys) == 5
    assert QuantizedWeights("another name", "f", "nf4", "float32", "cpu").key == weights.key
    for library, version in (("bitsandbytes", "0.99.1"), ("transformers", "6.0.0")):
        with monkeypatch.context() as patch:
            patch.setattr(
                "importlib.metadata.version", lambda name, lib=library, v=version: v if name == lib else "5.1.0"
            )
            keys.add(weights.key)
    assert len(keys) == 7


def test_formats_do_not_mix(encoder_folder):
    for quantization in QUANTIZED:
        for dtype in (torch.float32, torch.bfloat16):
            loaded(encoder_folder, quantization, dtype)
    assert len(cache.entries()) == 4
    encoder, told = loaded(encoder_folder, "int8", torch.bfloat16)
    assert "read" in told[0]
    assert encoder.embed_tokens.weight.dtype == torch.bfloat16
    assert encoder.layers[0].mlp.up_proj.weight.dtype == torch.int8


def test_the_compute_type_is_that_of_the_load_and_not_of_the_entry(encoder_folder):
    loaded(encoder_folder, compute_dtype=torch.bfloat16)
    encoder, told = loaded(encoder_folder, compute_dtype=torch.float32)
    assert "read from the cache" in told[0]
    assert encoder.layers[0].mlp.up_proj.compute_dtype == torch.float32


def weight_file(entry) -> Path:
    (found,) = entry.folder.glob("*.safetensors")
    return found


@pytest.mark.parametrize("damage", ["cut", "a bit", "empty", "gone", "entry.json", "config.json"])
def test_a_damaged_entry_is_thrown_away_and_made_again(encoder_folder, damage):
    first = hidden(loaded(encoder_folder)[0])
    (entry,) = cache.entries()
    path = weight_file(entry)
    content = bytearray(path.read_bytes())
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "a bit":
        content[-100] ^= 1
        path.write_bytes(content)
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "gone":
        path.unlink()
    else:
        (entry.folder / damage).write_text("{")
    encoder, told = loaded(encoder_folder)
    assert len(told) == 2
    assert told[0].startswith(f"the cached nf4 weights in {entry.folder} are damaged (")
    assert told[0].endswith("): made again")
    assert "weights cached" in told[1]
    assert torch.equal(hidden(encoder), first)
    assert "read from the cache" in loaded(encoder_folder)[1][0]


def test_an_entry_that_is_whole_and_cannot_be_loaded_is_made_again_too(encoder_folder):
    """As after a change of the libraries that nobody thought of."""
    first = hidden(loaded(encoder_folder)[0])
    (entry,) = cache.entries()
    cache.clear()
    cache.write_entry(entry.kind, entry.key, "", {}, lambda folder: (folder / "config.json").write_text("{}"))
    encoder, told = loaded(encoder_folder)
    assert ["are damaged" in told[0], "weights cached" in told[1]] == [True, True]
    assert torch.equal(hidden(encoder), first)


def test_a_cache_that_cannot_be_written_costs_one_line(encoder_folder, root):
    root.write_text("a file")
    encoder, told = loaded(encoder_folder)
    assert len(told) == 1
    assert told[0].startswith("the nf4 weights are not cached: cannot write to the cache")
    assert hidden(encoder).isfinite().all()


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), RuntimeError("SafetensorError: No space left on device")]
)
def test_a_full_disk_costs_one_line_and_leaves_nothing(encoder_folder, root, monkeypatch, error):
    from transformers import PreTrainedModel

    def full(self, folder, **options):
        (Path(folder) / "model.safetensors").write_bytes(b"half of it")
        raise error

    monkeypatch.setattr(PreTrainedModel, "save_pretrained", full)
    encoder, told = loaded(encoder_folder)
    assert len(told) == 1
    assert "are not cached" in told[0] and "No space left on device" in told[0]
    assert [path for path in root.rglob("*") if path.is_file()] == []
    assert hidden(encoder).isfinite().all()


@pytest.mark.parametrize("how", ["turned off", "device map", "not quantized"])
def test_what_is_not_cached(encoder_folder, root, monkeypatch, how):
    if how == "turned off":
        monkeypatch.setenv("MGC_NO_CACHE", "1")
    options = {"device_map": "cpu"} if how == "device map" else {}
    encoder, told = loaded(encoder_folder, "none" if how == "not quantized" else "nf4", **options)
    assert told == []
    assert not root.exists()
    assert hidden(encoder).isfinite().all()


def test_only_the_first_rank_of_a_machine_writes(encoder_folder, root, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert loaded(encoder_folder)[1] == []
    assert not root.exists()
    monkeypatch.setenv("LOCAL_RANK", "0")
    loaded(encoder_folder)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert "read from the cache" in loaded(encoder_folder)[1][0]


def test_an_encoder_that_cannot_run_quantized_leaves_no_entry(encoder_folder, root, monkeypatch):
    def refuse(name, encoder, quantization):
        raise EncoderError("does not run")

    monkeypatch.setattr(encoder_module, "try_quantized", refuse)
    with pytest.raises(EncoderError, match="does not run"):
        loaded(encoder_folder)
    assert cache.entries() == []


def _load_together(folder, barrier, results):
    barrier.wait()
    results.put(hidden(loaded(folder)[0]).numpy().tobytes())


def test_two_processes_at_once_both_get_the_encoder(encoder_folder, root):
    forked = multiprocessing.get_context("fork")
    barrier, results = forked.Barrier(2), forked.Queue()
    running = [forked.Process(target=_load_together, args=(encoder_folder, barrier, results)) for _ in range(2)]
    for process in running:
        process.start()
    first, second = results.get(timeout=120), results.get(timeout=120)
    for process in running:
        process.join()
    assert first == second == hidden(loaded(encoder_folder)[0]).numpy().tobytes()
    (entry,) = cache.entries()
    assert cache.what_is_damaged(entry) is None
    assert [path.name for path in (root / "quantized").iterdir()] == [entry.key]
