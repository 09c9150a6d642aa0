"""Cards by name, amounts of memory, and what of a machine a run may take."""

from __future__ import annotations

import itertools

import pytest
import torch

from metagene_classifier.errors import ConfigError
from metagene_classifier.memory import device as devices
from metagene_classifier.memory.cards import CARDS, _keys, find_card, known_card
from metagene_classifier.memory.device import device_memory, memory_here, memory_of_card
from metagene_classifier.memory.units import GIB, parse_memory


@pytest.mark.parametrize(
    ("name", "card"),
    [
        ("4090", "RTX 4090 24GB"),
        ("rtx4090", "RTX 4090 24GB"),
        ("RTX 4090", "RTX 4090 24GB"),
        ("NVIDIA GeForce RTX 4090", "RTX 4090 24GB"),
        ("geforce_rtx_4090", "RTX 4090 24GB"),
        ("RTX 4090 24 GB", "RTX 4090 24GB"),
        ("A100 80GB", "A100 80GB"),
        ("a100-80gb", "A100 80GB"),
        ("a100 40", "A100 40GB"),
        ("NVIDIA A100-SXM4-40GB", "A100 40GB"),
        ("NVIDIA A100 80GB PCIe", "A100 80GB"),
        ("NVIDIA H100 80GB HBM3", "H100 SXM 80GB"),
        ("NVIDIA H100 PCIe", "H100 PCIe 80GB"),
        ("H100", "H100 SXM 80GB"),
        ("Tesla T4", "T4 16GB"),
        ("Tesla V100-SXM2-16GB", "V100 16GB"),
        ("NVIDIA RTX A6000", "RTX A6000 48GB"),
        ("a6000", "RTX A6000 48GB"),
        ("NVIDIA RTX 6000 Ada Generation", "RTX 6000 Ada 48GB"),
        ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", "RTX PRO 6000 Blackwell 96GB"),
        ("A10", "A10 24GB"),
        ("NVIDIA A10G", "A10G 24GB"),
        ("AMD Instinct MI300X", "MI300X 192GB"),
    ],
)
def test_a_card_is_known_by_any_of_its_names(name, card):
    assert find_card(name).name == card


def test_every_card_is_found_by_its_own_name_and_no_name_means_two():
    for card in CARDS:
        assert find_card(card.name) is card
        assert find_card(card.name.upper().replace(" ", "")) is card
    for one, other in itertools.combinations(CARDS, 2):
        if one.model.split()[0] != "H100" and one.model != other.model:
            assert not _keys(one) & _keys(other), (one.name, other.name)


def test_a_card_of_two_sizes_must_be_said_whole():
    with pytest.raises(ConfigError) as error:
        find_card("A100")
    assert str(error.value) == "--gpu A100: there are A100 40GB and A100 80GB: say which"


@pytest.mark.parametrize(("name", "near"), [("RTX 4091", "RTX 4090"), ("A6001", "RTX A6000"), ("H1000", "H100")])
def test_an_unknown_card_names_the_nearest_and_what_to_do(name, near):
    with pytest.raises(ConfigError) as error:
        find_card(name)
    line = str(error.value)
    assert "\n" not in line
    assert near in line and "--list-cards" in line and "--memory" in line


@pytest.mark.parametrize("name", ["NVIDIA GeForce RTX 4090 Laptop GPU", "RTX 3060 8GB", "Quadro RTX 6000", "H100 NVL"])
def test_a_smaller_or_larger_sister_is_not_taken_for_the_card(name):
    assert known_card(name) is None


def test_no_card_is_said_to_have_more_than_is_sold():
    for card in CARDS:
        assert 0.85 * card.gb < card.memory_gib < card.gb, card.name
    assert [card.model for card in CARDS if not card.bfloat16] == ["RTX 2080 Ti", "T4", "V100", "V100"]
    assert min(card.gb for card in CARDS) == 8 and max(card.gb for card in CARDS) == 192


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("24GiB", 24 * 2**30),
        ("24 GiB", 24 * 2**30),
        ("24gib", 24 * 2**30),
        ("24GB", 24 * 10**9),
        ("7.5 GiB", 7.5 * 2**30),
        ("12000MiB", 12000 * 2**20),
    ],
)
def test_memory_as_people_write_it(text, amount):
    assert parse_memory(text) == amount


@pytest.mark.parametrize("text", ["24", "GiB", "24 gigs", "-3GiB", "0GiB", "", "24GiB and more"])
def test_what_is_no_amount_of_memory_is_refused_in_one_line(text):
    with pytest.raises(ConfigError, match=r"^--memory: .* is no amount of memory: write it as in 24GiB[^\n]*$"):
        parse_memory(text, "--memory")


def test_a_card_that_is_not_here_is_planned_whole_or_up_to_the_limit():
    card = find_card("4090")
    assert memory_of_card(card).bytes == card.memory_bytes
    assert memory_of_card(card, limit="12GiB").bytes == 12 * GIB
    assert memory_of_card(card, limit="80GiB").bytes == card.memory_bytes
    assert memory_of_card(card).with_context


@pytest.fixture
def card_here(monkeypatch):
    """A card of 16 GiB with 15 free, seen as torch shows it."""
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda device: (15 * GIB, 16 * GIB))
    monkeypatch.setattr("torch.cuda.memory_reserved", lambda device: 0)
    monkeypatch.setattr("torch.cuda.memory_allocated", lambda device: 0)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda device: "Tesla T4")
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation=True: False)
    return torch.device("cuda", 0)


def test_of_the_card_that_is_here_what_is_free_counts(card_here):
    memory = device_memory(card_here, None)
    assert (memory.bytes, memory.kind, memory.with_context) == (15 * GIB, "cuda", False)
    assert memory.bfloat16 is False
    assert memory.card is not None and memory.card.name == "T4 16GB"
    assert memory.host_bytes is not None and memory.host_bytes > 0


def test_a_limit_below_what_is_free_counts_with_the_context_in_it(card_here):
    memory = device_memory(card_here, "12GiB")
    assert (memory.bytes, memory.with_context) == (12 * GIB, True)
    assert device_memory(card_here, "20GiB").bytes == 15 * GIB


def test_ranks_on_one_machine_share_its_memory(card_here, monkeypatch):
    monkeypatch.setattr(devices, "available_host_bytes", lambda: 64 * GIB)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert device_memory(card_here, None).host_bytes == 16 * GIB
    assert device_memory(torch.device("cpu"), None).bytes == 16 * GIB


def test_without_a_card_this_machines_memory_counts(monkeypatch):
    monkeypatch.setattr(devices, "available_host_bytes", lambda: 64 * GIB)
    monkeypatch.setattr(devices, "_DRIVERS", ())
    told = []
    memory = memory_here("cuda", None, told.append)
    assert (memory.bytes, memory.kind) == (64 * GIB, "cpu")
    assert len(told) == 1 and "--gpu" in told[0]
    assert memory_here("cpu", "2GiB", told.append).bytes == 2 * GIB
    assert len(told) == 1


@pytest.mark.parametrize(
    ("own", "group", "names"),
    [
        ("0::/", ".", ("memory.max", "memory.current", "inactive_file")),
        ("0::/slurm/job_7/step_0", "slurm/job_7", ("memory.max", "memory.current", "inactive_file")),
        (
            "9:memory:/docker/x\n3:cpu,cpuacct:/docker/x",
            "memory/docker/x",
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ),
    ],
    ids=["container", "batch system", "the older kind"],
)
def test_the_limit_of_a_container_or_of_a_job_is_not_exceeded(tmp_path, monkeypatch, own, group, names):
    folder = tmp_path / "groups" / group
    folder.mkdir(parents=True)
    limit, used = folder / names[0], folder / names[1]
    limit.write_text(f"{3 * GIB}\n")
    used.write_text(f"{2 * GIB}\n")
    (folder / "memory.stat").write_text(f"anon 5\n{names[2]} {GIB // 2}\n")
    (tmp_path / "own").write_text(f"{own}\n")
    monkeypatch.setattr(devices, "_CGROUPS", tmp_path / "groups")
    monkeypatch.setattr(devices, "_OWN_CGROUPS", tmp_path / "own")

    class Plenty:
        available = 64 * GIB

    monkeypatch.setattr("psutil.virtual_memory", lambda: Plenty)
    assert devices.available_host_bytes() == 1.5 * GIB
    limit.write_text("max\n")
    assert devices.available_host_bytes() == 64 * GIB
