"""Cards by name: the memory that CUDA (or ROCm) counts on each, whether it has bfloat16, and its speed on paper."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

from metagene_classifier.errors import ConfigError

__all__ = ["CARDS", "Card", "find_card", "known_card"]


@dataclass(frozen=True)
class Card:
    """A card as its maker sells it.

    Attributes:
        model: its name without maker and memory.
        gb: memory as sold.
        memory_gib: what a program is told that the card has in all (``torch.cuda.get_device_properties``), the lower
            where drivers differ. It is less than what is sold: the driver and error correction keep a part.
        bfloat16: whether it computes in bfloat16; otherwise training takes float16 with loss scaling.
        tflops: the most that it multiplies in half precision, dense and summed in float32, in 10^12 operations a
            second, by the maker's data sheet; ``None`` where that is not known for sure.
        bandwidth_gb_s: of its memory, by the data sheet, in 10^9 bytes a second.
    """

    model: str
    gb: int
    memory_gib: float
    bfloat16: bool = True
    tflops: float | None = None
    bandwidth_gb_s: float | None = None

    @property
    def name(self) -> str:
        """Model and memory."""
        return f"{self.model} {self.gb}GB"

    @property
    def memory_bytes(self) -> int:
        return int(self.memory_gib * 2**30)


CARDS = (
    Card("RTX 2080 Ti", 11, 10.5, bfloat16=False, tflops=53.8, bandwidth_gb_s=616),
    Card("RTX 3060", 12, 11.7, bandwidth_gb_s=360),
    Card("RTX 3070", 8, 7.6, tflops=40.6, bandwidth_gb_s=448),
    Card("RTX 3080", 10, 9.7, tflops=59.5, bandwidth_gb_s=760),
    Card("RTX 3090", 24, 23.5, tflops=71.0, bandwidth_gb_s=936),
    Card("RTX 4060", 8, 7.6, bandwidth_gb_s=272),
    Card("RTX 4060 Ti", 16, 15.6, bandwidth_gb_s=288),
    Card("RTX 4070", 12, 11.6, bandwidth_gb_s=504),
    Card("RTX 4080", 16, 15.6, tflops=97.5, bandwidth_gb_s=717),
    Card("RTX 4090", 24, 23.6, tflops=165.2, bandwidth_gb_s=1008),
    Card("RTX 5060 Ti", 16, 15.4, bandwidth_gb_s=448),
    Card("RTX 5070", 12, 11.5, bandwidth_gb_s=672),
    Card("RTX 5080", 16, 15.4, tflops=112.6, bandwidth_gb_s=960),
    Card("RTX 5090", 32, 31.3, tflops=209.5, bandwidth_gb_s=1792),
    Card("RTX A4000", 16, 15.7, tflops=76.7, bandwidth_gb_s=448),
    Card("RTX A5000", 24, 23.5, tflops=111.1, bandwidth_gb_s=768),
    Card("RTX A6000", 48, 47.4, tflops=154.8, bandwidth_gb_s=768),
    Card("RTX 6000 Ada", 48, 47.3, tflops=364.2, bandwidth_gb_s=960),
    Card("RTX PRO 6000 Blackwell", 96, 94.9, bandwidth_gb_s=1792),
    Card("T4", 16, 14.5, bfloat16=False, tflops=65.0, bandwidth_gb_s=320),
    Card("V100", 16, 15.7, bfloat16=False, tflops=112.0, bandwidth_gb_s=900),
    Card("V100", 32, 31.7, bfloat16=False, tflops=112.0, bandwidth_gb_s=900),
    Card("A10", 24, 21.9, tflops=125.0, bandwidth_gb_s=600),
    Card("A10G", 24, 21.9, bandwidth_gb_s=600),
    Card("A30", 24, 23.4, tflops=165.0, bandwidth_gb_s=933),
    Card("A40", 48, 44.3, tflops=149.7, bandwidth_gb_s=696),
    Card("L4", 24, 21.9, tflops=121.0, bandwidth_gb_s=300),
    Card("L40S", 48, 44.3, tflops=362.0, bandwidth_gb_s=864),
    Card("A100", 40, 39.3, tflops=312.0, bandwidth_gb_s=1555),
    Card("A100", 80, 79.1, tflops=312.0, bandwidth_gb_s=1935),
    Card("H100 PCIe", 80, 79.1, tflops=756.0, bandwidth_gb_s=2000),
    Card("H100 SXM", 80, 79.1, tflops=989.4, bandwidth_gb_s=3350),
    Card("H200", 141, 139.7, tflops=989.4, bandwidth_gb_s=4800),
    Card("B200", 180, 178.3, tflops=2250.0, bandwidth_gb_s=8000),
    Card("MI210", 64, 63.9, tflops=181.0, bandwidth_gb_s=1638),
    Card("MI300X", 192, 191.5, tflops=1307.4, bandwidth_gb_s=5300),
)

# Words of makers and drivers that tell no card from another: "NVIDIA A100-SXM4-80GB", "Tesla T4", "AMD Instinct MI210".
_SAYS_NOTHING = {
    *("nvidia", "geforce", "tesla", "amd", "instinct", "radeon", "rtx", "generation", "gen"),
    *("sxm2", "sxm3", "sxm4", "sxm5", "workstation", "server", "edition", "hbm2", "hbm2e", "hbm3e", "oam", "tensor"),
    *("core", "gpu"),
}
# An H100 of the SXM form tells its memory and not its form.
_MEANS = {"hbm3": "sxm"}
_PCIE_ALONE = ("a100", "v100")


def find_card(name: str) -> Card:
    """The card of a name, whatever its case, spaces, maker and series: ``4090``, ``rtx4090``, ``a100-80gb``.

    Raises:
        ConfigError: no card, or more than one, is called so.
    """
    found = _called(name)
    if len(found) == 1:
        return found[0]
    if found and len({(card.memory_gib, card.bfloat16) for card in found}) == 1:
        return found[-1]  # forms of one card with the same memory, the faster one last
    if found:
        raise ConfigError(f"--gpu {name}: there are {' and '.join(card.name for card in found)}: say which")
    keys = {_key(card.model): card.model for card in CARDS} | {_key(card.name): card.name for card in CARDS}
    close = [keys[key] for key in difflib.get_close_matches(_key(name), keys, n=3, cutoff=0.0)]
    raise ConfigError(
        f"--gpu {name}: no such card is known, the nearest names are {', '.join(dict.fromkeys(close))}: --list-cards "
        "has all, and --memory 24GiB says what a card has"
    )


def known_card(name: str) -> Card | None:
    """The card that a driver calls so; ``None`` when it is not known for sure."""
    found = _called(name)
    return found[0] if len(found) == 1 else None


def _called(name: str) -> list[Card]:
    key = _key(name)
    return [card for card in CARDS if key in _keys(card)]


def _keys(card: Card) -> set[str]:
    model = _key(card.model)
    models = {model, model.removesuffix("sxm").removesuffix("pcie")}
    return {f"{base}{memory}" for base in models for memory in ("", f"{card.gb}", f"{card.gb}gb")}


def _key(name: str) -> str:
    words = re.sub(r"(\d+)\s*gi?b\b", r"\1gb", name.lower())
    words = re.sub(r"\b(rtx|geforce|nvidia)(?=\S)", r"\1 ", words)
    known = [_MEANS.get(word, word) for word in re.split(r"[^a-z0-9]+", words) if word and word not in _SAYS_NOTHING]
    # The memory comes last, wherever it was named; what plugs where tells no A100 or V100 from another.
    memory = [word for word in known if re.fullmatch(r"\d+gb", word)]
    rest = [word for word in known if word not in memory]
    if rest and rest[0] in _PCIE_ALONE:
        rest = [word for word in rest if word not in ("pcie", "sxm")]
    return "".join(rest + memory).replace("blackwell", "")
