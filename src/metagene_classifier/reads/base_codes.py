"""The letters of cleaned reads as small numbers, which whole blocks of reads are worked on as."""

__all__ = ["CODES_OF_BYTES", "LETTERS"]

LETTERS = "ACGTN"

CODES_OF_BYTES = bytes(LETTERS.find(chr(byte)) % 256 for byte in range(256))
"""The place of each letter among :data:`LETTERS`, by its ASCII code; 255 for all other bytes."""
