"""``mgc`` with small pieces and shards, as a program to interrupt: ``small_prepare.py prepare --input …``."""

from metagene_classifier.cli.main import main
from metagene_classifier.store.preparing import filling, pieces, prepare

if __name__ == "__main__":
    pieces.PIECE_BYTES = 20_000
    filling.SHARD_BYTES = 100_000
    prepare.SMALL_BYTES = 0
    main()
