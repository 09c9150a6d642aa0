"""Batches to class scores: the encoder, its adapter, pooling, the head, and the folder that a trained model is."""
