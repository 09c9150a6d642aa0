"""An 8-bit layer with a frozen weight keeps nothing of its input, and gives the same gradients."""

import pytest
import torch

from metagene_classifier.model.encoder import EncoderSource, load_encoder
from metagene_classifier.model.int8_inputs import forget_inputs
from metagene_classifier.model.quantization import quiet_bitsandbytes


@pytest.fixture
def layer():
    quiet_bitsandbytes()
    from bitsandbytes.nn import Linear8bitLt

    torch.manual_seed(0)
    made = Linear8bitLt(32, 16, bias=False, has_fp16_weights=False, threshold=6.0)
    return made.to("cpu")


def as_on_cuda(monkeypatch):
    from bitsandbytes.autograd import _functions

    monkeypatch.setattr(_functions, "MatMul8bitFp", _functions.MatMul8bitLt)


@pytest.mark.parametrize("kernel", ["cpu", "cuda"])
def test_gradients_are_the_same_and_the_input_is_gone(layer, kernel, monkeypatch):
    if kernel == "cuda":
        as_on_cuda(monkeypatch)
    values = torch.randn(3, 5, 32)
    values[:, :, 4] = 20.0  # an outlier, which is multiplied in full
    gradients, held = [], []
    for _ in range(2):
        given = values.clone().requires_grad_()
        out = layer.train()(given * 1)
        node = out.grad_fn
        kept = (getattr(node, "A", None), *getattr(node, "tensors", ()))
        held.append([tensor for tensor in kept if tensor is not None and tensor.numel()])
        out.square().sum().backward()
        gradients.append(given.grad)
        forget_inputs(layer)
    assert torch.equal(*gradients)
    assert held[0] and not held[1]


def test_outside_training_nothing_changes(layer):
    values = torch.randn(2, 32)
    with torch.inference_mode():
        before = layer.eval()(values)
        forget_inputs(layer)
        assert torch.equal(layer(values), before)


def test_every_8_bit_layer_of_a_loaded_encoder_forgets_its_input(llama_encoder, monkeypatch):
    monkeypatch.setenv("MGC_NO_CACHE", "1")
    device = torch.device("cpu")
    encoder = load_encoder(
        EncoderSource(str(llama_encoder)), dtype=torch.float32, device=device, seed=0, quantization="int8"
    )
    from bitsandbytes.nn import Linear8bitLt

    seen = []
    for layer in encoder.modules():
        if isinstance(layer, Linear8bitLt):
            layer.register_forward_hook(lambda _, __, out: seen.append(out.grad_fn.A))
    embedded = torch.randn(1, 6, 32, requires_grad=True)
    encoder.train()(inputs_embeds=embedded).last_hidden_state.sum().backward()
    assert seen == [None] * 14
