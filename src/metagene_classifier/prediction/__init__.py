"""Scores to calls: per read, per sample, embeddings; one file per output format."""
