import pytest
import torch

from metagene_classifier.errors import ConfigError
from metagene_classifier.model.devices import choose_device, choose_dtypes, dtype_name

BF16, FP16, FP32 = torch.bfloat16, torch.float16, torch.float32


@pytest.fixture
def cards(monkeypatch):
    """Sets how many CUDA cards there are, and whether they know bfloat16."""

    def there_are(count, bf16=True):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: bf16)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)

    return there_are


@pytest.mark.parametrize("asked", ["cuda", "cuda:1", "mps"])
def test_a_device_that_is_not_here_falls_to_the_cpu_and_a_line_says_so(cards, asked):
    cards(0)
    told = []
    assert choose_device(asked, told.append) == torch.device("cpu")
    assert told == [f"device {asked} is not here: using cpu"]


def test_mps_falls_to_cuda_where_there_is_one(cards):
    cards(1)
    told = []
    assert choose_device("mps", told.append).type == "cuda"
    assert told == ["device mps is not here: using cuda"]


@pytest.mark.parametrize(
    ("asked", "count", "expected"),
    [("cpu", 2, "cpu"), ("cuda", 2, "cuda"), ("cuda:1", 2, "cuda:1"), ("auto", 1, "cuda"), ("auto", 0, "cpu")],
)
def test_a_device_that_is_here_is_taken_without_a_word(cards, asked, count, expected):
    cards(count)
    told = []
    assert choose_device(asked, told.append) == torch.device(expected)
    assert told == []


@pytest.mark.parametrize(
    ("asked", "said"),
    [("cuda:2", "cuda:2 does not exist, this machine has 2"), ("gpu", "'gpu' is no device"), ("meta", "not supported")],
)
def test_a_device_that_cannot_be_is_refused(cards, asked, said):
    cards(2)
    with pytest.raises(ConfigError, match=said):
        choose_device(asked, print)


@pytest.mark.parametrize("learns", [True, False])
@pytest.mark.parametrize("precision", ["bf16-mixed", "fp16-mixed", "32"])
def test_a_cpu_computes_in_float32_and_says_so_when_asked_for_less(precision, learns):
    told = []
    chosen = choose_dtypes(
        asked="auto", precision=precision, device=torch.device("cpu"), encoder_learns=learns, tell=told.append
    )
    assert chosen == (FP32, FP32)
    assert len(told) == (0 if precision == "32" else 1)
    assert all(f"precision {precision} is for accelerators" in line for line in told)


@pytest.mark.parametrize(
    ("precision", "learns", "expected"),
    [
        # frozen weights lie in the format that they are computed in: no cast copy of them is ever made
        ("bf16-mixed", False, (BF16, BF16)),
        ("fp16-mixed", False, (FP16, FP16)),
        ("32", False, (FP32, FP32)),
        # weights that learn are held in float32
        ("bf16-mixed", True, (FP32, BF16)),
        ("fp16-mixed", True, (FP32, FP16)),
        ("32", True, (FP32, FP32)),
    ],
)
def test_number_formats_on_a_card(cards, precision, learns, expected):
    cards(1)
    told = []
    chosen = choose_dtypes(
        asked="auto", precision=precision, device=torch.device("cuda"), encoder_learns=learns, tell=told.append
    )
    assert chosen == expected
    assert told == []


@pytest.mark.parametrize(("learns", "expected"), [(False, (FP16, FP16)), (True, (FP32, FP16))])
def test_a_card_without_bfloat16_takes_float16_and_says_so(cards, learns, expected):
    cards(1, bf16=False)
    told = []
    chosen = choose_dtypes(
        asked="auto", precision="bf16-mixed", device=torch.device("cuda"), encoder_learns=learns, tell=told.append
    )
    assert chosen == expected
    assert told == ["this card has no bfloat16: using float16 with loss scaling"]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [("bfloat16", (BF16, BF16)), ("float16", (FP16, FP16)), ("float32", (FP32, BF16))],
)
def test_dtype_of_the_configuration_decides_the_weights(cards, asked, expected):
    cards(1)
    chosen = choose_dtypes(
        asked=asked, precision="bf16-mixed", device=torch.device("cuda"), encoder_learns=False, tell=print
    )
    assert chosen == expected


@pytest.mark.parametrize("name", ["bfloat16", "float16", "float32"])
def test_number_formats_are_called_as_torch_calls_them(name):
    assert dtype_name(getattr(torch, name)) == name
