"""Token ids to batches with next to no padding: windows, micro-batches under a token budget, packing."""
