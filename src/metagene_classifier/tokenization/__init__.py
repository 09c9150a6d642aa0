"""Reads to token ids: Hugging Face and minbpe tokenizers behind one small interface."""
