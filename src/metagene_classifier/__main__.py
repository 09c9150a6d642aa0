"""``python -m metagene_classifier`` is ``mgc``."""

from metagene_classifier.cli.main import main

main()
