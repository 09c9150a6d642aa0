"""The optimizer's state where it belongs: in float32, in 8 bits, or in memory that card and host share."""

from types import SimpleNamespace

import pytest
import torch

from metagene_classifier.errors import ConfigError
from metagene_classifier.training.optimizer import check_optimizer, make_optimizer, page_state

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def test_adamw_is_torchs_own_to_the_digits_of_float32():
    torch.manual_seed(0)
    ours, theirs = (torch.nn.Parameter(torch.ones(50)) for _ in range(2))
    settings = {"lr": 1e-2, "betas": (0.9, 0.999), "weight_decay": 0.01}
    pair = [(ours, make_optimizer([ours], name="adamw", **settings)), (theirs, torch.optim.AdamW([theirs], **settings))]
    for _ in range(5):
        gradient = torch.randn(50)
        for weight, optimizer in pair:
            weight.grad = gradient.clone()
            optimizer.step()
    torch.testing.assert_close(ours, theirs)
    assert not torch.allclose(ours, torch.ones(50))


def test_what_cannot_work_is_refused_before_anything_is_loaded(monkeypatch):
    check_optimizer("adamw", CPU)
    check_optimizer("paged_adamw_8bit", CUDA)
    with pytest.raises(ConfigError, match="paged_adamw_8bit is for CUDA cards"):
        check_optimizer("paged_adamw_8bit", CPU)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    check_optimizer("adamw", CPU)
    with pytest.raises(ConfigError, match=r"pip install 'metagene-classifier\[quantization\]'"):
        check_optimizer("adamw_8bit", CPU)


def test_a_state_that_was_paged_is_paged_again_when_a_run_is_resumed():
    weight = torch.nn.Parameter(torch.zeros(4))
    pages = []

    def page(of, dtype):
        pages.append(torch.zeros(of.shape, dtype=dtype))
        return pages[-1]

    state = {weight: {"step": 7, "state1": torch.arange(4, dtype=torch.uint8), "state2": torch.ones(4)}}
    optimizer = SimpleNamespace(is_paged=True, state=state, get_state_buffer=page)
    page_state(SimpleNamespace(optimizer=optimizer))
    assert state[weight]["state1"] is pages[0] and pages[0].tolist() == [0, 1, 2, 3]
    assert state[weight]["state2"] is pages[1] and pages[1].dtype is torch.float32
    assert state[weight]["step"] == 7
    page_state(torch.optim.AdamW([weight]))  # nothing to page
