"""Stand-ins for torch's variable-length kernel, in both forms that it has had; the kernel needs a CUDA card."""

import torch
from torch.nn import functional


def segment_by_segment(query, key, value, boundaries, causal, scale):
    """(tokens, heads, width) like the kernel's."""
    out = torch.empty_like(query)
    for first, last in zip(boundaries[:-1].tolist(), boundaries[1:].tolist(), strict=True):
        q, k, v = (part[first:last].transpose(0, 1)[None] for part in (query, key, value))
        part = functional.scaled_dot_product_attention(q, k, v, is_causal=causal, scale=scale)
        out[first:last] = part[0].transpose(0, 1)
    return out


def with_window(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, scale=None, window_size=(-1, -1)):
    assert max_q == max_k == int(cu_seq_q.diff().max())
    assert cu_seq_q.dtype == torch.int32 and torch.equal(cu_seq_q, cu_seq_k)
    return segment_by_segment(query, key, value, cu_seq_q, window_size == (-1, 0), scale)


def with_flag(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, is_causal=False, *, scale=None):
    return segment_by_segment(query, key, value, cu_seq_q, is_causal, scale)
