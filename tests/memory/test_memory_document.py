"""docs/memory.md says of cards what ``mgc plan`` says."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

spec = importlib.util.spec_from_file_location("hardware_table", Path(__file__).with_name("hardware_table.py"))
table = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = table
spec.loader.exec_module(table)


def test_the_table_of_cards_is_what_the_plan_says_now():
    text = table.DOCUMENT.read_text(encoding="utf-8")
    assert text.count(table.BEGIN) == text.count(table.END) == 1
    assert text == table.with_table(text), "run: python tests/memory/hardware_table.py --write"
