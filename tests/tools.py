"""The programs that read our files, in an environment of their own, for tests that run them::

    def test_opal(tmp_path):
        run_tool("opal.py", "-g", truth, profile, "-o", tmp_path / "opal")

``make tools`` sets them up in ``.venv-tools``; ``MGC_TOOLS_VENV`` names another folder. Where one is missing its tests
are skipped, unless ``MGC_TOOLS=required`` says that all must be there. ``ktImportText`` (Krona) is Perl and comes from
the system (Debian: ``apt-get install radiant``); ``MGC_KRONA_TESTS=1`` says that it must be there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

__all__ = ["ROOT", "run_tool", "tool"]

ROOT = Path(__file__).parents[1]
KRONA = "ktImportText"


def tool(name: str) -> Path:
    """Where ``multiqc``, ``taxpasta``, ``amber.py``, ``opal.py`` or ``ktImportText`` is; skips without it."""
    if name == KRONA:
        found = shutil.which(name)
        needed, where = os.environ.get("MGC_KRONA_TESTS") == "1", "apt-get install radiant"
    else:
        environment = Path(os.environ.get("MGC_TOOLS_VENV") or ROOT / ".venv-tools")
        found = shutil.which(name, path=str(environment / "bin"))
        needed, where = os.environ.get("MGC_TOOLS") == "required", "make tools"
    if found is None:
        why = f"no {name}: {where}"
        if needed:
            pytest.fail(why)
        pytest.skip(why)
    return Path(found)


def run_tool(name: str, *arguments: str | Path, cwd: Path | None = None) -> str:
    """Run a program with no network, one thread and no window; what it said on both its outputs.

    Fails the test when the program does.
    """
    command = [str(tool(name)), *map(str, arguments)]
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("PYTHON")},
        "MPLBACKEND": "Agg",
        "NO_COLOR": "1",
        "OMP_NUM_THREADS": "1",
        "POLARS_MAX_THREADS": "1",
    }
    done = subprocess.run(
        command, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}"
    return done.stdout
