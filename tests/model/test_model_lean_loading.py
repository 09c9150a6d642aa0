"""Weights go from their files to where they are held: beside the model there is never more than one shard in memory."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from Linux's /proc")

# Anonymous memory: file pages that are mapped come and go as the system likes.
MEASURE = """
import gc, json, pathlib, sys, threading, time
import torch
from transformers import LlamaConfig, LlamaModel
from metagene_classifier.model.encoder import EncoderSource, load_encoder
from metagene_classifier.model.host_memory import freed_at_once
from metagene_classifier.model.quiet import quiet_transformers

folder = sys.argv[1]


def anonymous():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("RssAnon:"))


def save(name, **size):
    with torch.device("meta"):  # random weights would take longer than all that is measured
        encoder = LlamaModel(LlamaConfig(vocab_size=64, num_attention_heads=8, pad_token_id=0, **size))
    encoder.to_empty(device="cpu")
    for weight in encoder.parameters():
        weight.data.fill_(0.01)
    with quiet_transformers():
        encoder.save_pretrained(f"{folder}/{name}", max_shard_size="60MB")


def load(name, dtype, quantization):
    return load_encoder(
        EncoderSource(f"{folder}/{name}"), dtype=dtype, device=torch.device("cpu"), seed=0, quantization=quantization,
        tell=lambda line: None,
    )


def watch(top, stop):
    while not stop:
        top.append(anonymous())
        time.sleep(0.0005)


save("tiny", hidden_size=32, intermediate_size=64, num_hidden_layers=1)
with freed_at_once():
    save("large", hidden_size=1024, intermediate_size=2816, num_hidden_layers=6)
found = {}
for dtype, quantization in (
    (torch.bfloat16, "none"), (torch.float32, "none"), (torch.float32, "nf4"), (torch.float32, "int8")
):
    load("tiny", dtype, quantization)  # the libraries' own first imports are none of the model's
    for cached in ("first", "again") if quantization != "none" else ("first",):
        gc.collect()
        top, stop = [anonymous()], []
        watching = threading.Thread(target=watch, args=(top, stop))
        watching.start()
        encoder = load("large", dtype, quantization)
        stop.append(True)
        watching.join()
        own = sum(weight.numel() * weight.element_size() for weight in encoder.parameters())
        found[f"{dtype} {quantization} {cached}"] = {"peak": max(top) - top[0], "own": own, "samples": len(top)}
        del encoder
shards = [path.stat().st_size for path in pathlib.Path(folder, "large").glob("*.safetensors")]
print(json.dumps({"shards": shards, "found": found}))
"""


def test_loading_takes_at_most_a_shard_beside_the_model(tmp_path):
    done = subprocess.run([sys.executable, "-c", MEASURE, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert len(result["shards"]) >= 6
    assert sum(result["shards"]) > 300e6
    found = result["found"]
    assert set(found) == {
        "torch.bfloat16 none first",
        "torch.float32 none first",
        "torch.float32 nf4 first",
        "torch.float32 nf4 again",
        "torch.float32 int8 first",
        "torch.float32 int8 again",
    }
    assert found["torch.bfloat16 none first"]["own"] == pytest.approx(154.3e6, rel=0.01)
    assert found["torch.float32 nf4 first"]["own"] == pytest.approx(38.9e6, rel=0.02)
    for how, measured in found.items():
        assert measured["samples"] > 5, how
        assert measured["peak"] - measured["own"] <= max(result["shards"]), (how, measured)
    # What was measured is memory that the weights take, and not something that stays zero.
    assert found["torch.bfloat16 none first"]["peak"] > 0.95 * found["torch.bfloat16 none first"]["own"]
