"""``python predict.py …`` is ``mgc predict …``, from a checkout, installed or not."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "src"))

from metagene_classifier.cli.main import main

if __name__ == "__main__":
    main(["predict", *sys.argv[1:]])
