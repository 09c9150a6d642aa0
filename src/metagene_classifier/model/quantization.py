"""Encoders whose linear layers are held in 8 or 4 bits, by bitsandbytes; everything else keeps its number format.

``nf4`` is the 4-bit NormalFloat with double quantization of QLoRA (arXiv 2305.14314), ``int8`` is LLM.int8 (arXiv
2208.07339). LLM.int8 finds the columns that it computes in half precision in each micro-batch anew, and on a CPU it
computes in full while training, so its scores change in their last digits with the batching.

transformers leaves some modules as they are by rules of its own: which ones are left is said here, and checked.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import sys
import warnings
from typing import Any, Literal

import torch
from torch import nn

from metagene_classifier.errors import EncoderError
from metagene_classifier.model.int8_inputs import forget_inputs
from metagene_classifier.model.nf4_on_cpu import mend_nf4_on_cpu
from metagene_classifier.model.out_of_memory import is_out_of_memory

__all__ = [
    "NEVER_QUANTIZED",
    "Quantization",
    "finish_quantized",
    "is_quantized",
    "quantization_in_files",
    "quantization_of",
    "quantization_settings",
    "quiet_bitsandbytes",
    "require_bitsandbytes",
    "settings_in_files",
    "try_quantized",
]

Quantization = Literal["none", "int8", "nf4"]

EXTRA = "pip install 'metagene-classifier[quantization]'"
INT8_THRESHOLD = 6.0
# What hidden states do not need. Encoders are saved without it, and a weight that is not there cannot be quantized.
NEVER_QUANTIZED = ("pooler", "contact_head")

_OF_CLASS: dict[str, Quantization] = {"Params4bit": "nf4", "Int8Params": "int8"}


def is_quantized(weight: torch.Tensor) -> bool:
    """Whether a parameter is one of bitsandbytes', whatever its dtype says."""
    return type(weight).__name__ in _OF_CLASS


def quantization_of(encoder: nn.Module) -> Quantization:
    """What an encoder's weights are; ``none`` when no one of them is quantized."""
    found = (_OF_CLASS[type(weight).__name__] for weight in encoder.parameters() if is_quantized(weight))
    return next(found, "none")


def quiet_bitsandbytes() -> None:
    """Only its errors from here on: its warnings are of kernels that are not needed and of casts that are known."""
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message="MatMul8bitLt: inputs will be cast")


def require_bitsandbytes(quantization: Quantization) -> None:
    """Import the library.

    Raises:
        EncoderError: it is not installed, or cannot be imported.
    """
    quiet_bitsandbytes()
    if importlib.util.find_spec("bitsandbytes") is None:
        raise EncoderError(f"quantization {quantization} needs bitsandbytes, which is not installed: {EXTRA}")
    # On some CPUs it fetches compiled code from the hub as it is imported, if a package called kernels is there. That
    # code would never be used here (see nf4_on_cpu), and nothing is fetched that was not asked for.
    there = sys.modules.get("kernels")
    sys.modules["kernels"] = None  # type: ignore[assignment]
    try:
        importlib.import_module("bitsandbytes")
    except (ImportError, OSError, RuntimeError) as error:
        first = " ".join(str(error).split())[:200]
        raise EncoderError(
            f"quantization {quantization} needs bitsandbytes, which cannot be imported ({first}): {EXTRA}"
        ) from error
    finally:
        del sys.modules["kernels"]
        if there is not None:
            sys.modules["kernels"] = there


def quantization_settings(quantization: Quantization, compute_dtype: torch.dtype) -> Any:
    """What transformers loads an encoder with.

    Args:
        quantization: ``int8`` or ``nf4``.
        compute_dtype: of products with 4-bit weights. int8 computes in int8, and its outliers in float16.

    Returns:
        A ``BitsAndBytesConfig``. It names the modules to leave, which turns off transformers' own choice of them: tied
        weights, output embeddings, and the module whose parameter happens to be registered last.
    """
    from transformers import BitsAndBytesConfig

    left = list(NEVER_QUANTIZED)
    if quantization == "int8":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_threshold=INT8_THRESHOLD, llm_int8_skip_modules=left)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute_dtype,
        bnb_4bit_quant_storage=torch.uint8,
        llm_int8_skip_modules=left,
    )


def quantization_in_files(config: Any, name: str) -> Quantization:
    """How an encoder's own files are quantized, as its ``config.json`` says; ``none`` for nearly all.

    Raises:
        EncoderError: in a way that cannot be used here.
    """
    settings = getattr(config, "quantization_config", None)
    if settings is None:
        return "none"
    facts: dict[str, Any] = settings if isinstance(settings, dict) else settings.to_dict()
    if facts.get("load_in_8bit"):
        return "int8"
    if facts.get("load_in_4bit") and facts.get("bnb_4bit_quant_type") == "nf4":
        return "nf4"
    how = facts.get("bnb_4bit_quant_type") if facts.get("load_in_4bit") else facts.get("quant_method")
    raise EncoderError(
        f"{name}: its weights are quantized already ({how or 'in an unknown way'}), and only int8 and nf4 of "
        "bitsandbytes can be used: name the encoder that it was made from"
    )


def settings_in_files(config: Any, compute_dtype: torch.dtype) -> dict[str, Any]:
    """The settings that an encoder was quantized with by somebody else, to load it with.

    Args:
        config: its configuration, which :func:`quantization_in_files` has accepted.
        compute_dtype: in the place of theirs.
    """
    settings = config.quantization_config
    facts: dict[str, Any] = dict(settings) if isinstance(settings, dict) else settings.to_dict()
    left = facts.get("llm_int8_skip_modules") or list(NEVER_QUANTIZED)
    return facts | {
        "bnb_4bit_compute_dtype": str(compute_dtype).removeprefix("torch."),
        "llm_int8_skip_modules": left,
    }


def finish_quantized(
    name: str, encoder: nn.Module, quantization: Quantization, dtype: torch.dtype, *, some_left: bool = False
) -> None:
    """Check that all linear layers are quantized and nothing else is, and set right what bitsandbytes leaves to chance.

    Args:
        name: of the encoder, for messages.
        encoder: just loaded.
        quantization: what was asked for.
        dtype: of everything that is not a linear layer's weight.
        some_left: whether linear layers may be left as they are: whoever quantized the files may have wanted that.

    Raises:
        EncoderError: it has no linear layers, or some of them were left as they were.
    """
    from transformers.pytorch_utils import Conv1D

    kind = type(encoder).__name__
    done, left = [], []
    for path, module in encoder.named_modules():
        weight = getattr(module, "weight", None)
        if isinstance(weight, torch.Tensor) and is_quantized(weight):
            done.append(path)
            if quantization == "nf4":
                mend_nf4_on_cpu(module)
            else:
                forget_inputs(module)
        elif isinstance(module, (nn.Linear, Conv1D)) and set(NEVER_QUANTIZED).isdisjoint(path.split(".")):
            left.append(path)
    if not done:
        raise EncoderError(
            f"{name}: a {kind} has no linear layers that could be held in {quantization}: set model.quantization: none"
        )
    if left and not some_left:
        raise EncoderError(
            f"{name}: {len(left)} linear layers of a {kind} cannot be held in {quantization}, {left[0]} first: set "
            "model.quantization: none"
        )
    # transformers makes the new linear layers in torch's default format, biases included.
    for weight in encoder.parameters():
        if weight.is_floating_point() and not is_quantized(weight) and weight.dtype is not dtype:
            weight.data = weight.data.to(dtype)


def try_quantized(name: str, encoder: Any, quantization: Quantization) -> None:
    """Run a few tokens: an encoder that reads its weights past its layers fails only when it runs.

    Raises:
        EncoderError: it does not run, or gives no numbers.
    """
    ids = torch.arange(8).remainder(int(getattr(encoder.config, "vocab_size", 8)))[None].to(encoder.device)
    training = encoder.training
    encoder.eval()
    try:
        with torch.no_grad():
            hidden = encoder(input_ids=ids).last_hidden_state
        reason = "" if bool(torch.isfinite(hidden).all()) else "its hidden states are no numbers"
    except Exception as error:  # each encoder fails in a way of its own
        if is_out_of_memory(error):
            raise
        reason = " ".join(str(error).split())[:200] or type(error).__name__
    finally:
        encoder.train(training)
    if reason:
        raise EncoderError(
            f"{name}: a {type(encoder).__name__} does not run with {quantization} weights ({reason}): set "
            "model.quantization: none"
        )
