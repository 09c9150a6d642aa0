import numpy as np
import pytest
import torch

from metagene_classifier.batching.batch import collate
from metagene_classifier.model.dropout import KeyedDropout, TokenKeys


def batch_of(lengths, keys, layout="buckets"):
    segments = [np.full(length, 7) for length in lengths]
    return collate(segments, np.asarray(keys), layout=layout, padded_length=64, pad_id=0)


def dropped(batch, *, rate=0.1, module=2, features=16, pooled=False):
    """Ones after dropout in training: per token ``(rows, tokens, features)``, or per segment when pooled."""
    keys = TokenKeys()
    keys.set(batch)
    layer = KeyedDropout(rate, keys, module).train()
    shape = (batch.segments, features) if pooled else (*batch.ids.shape, features)
    return layer(torch.ones(shape))


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_rate_is_kept_on_average_and_the_rest_is_scaled_up(rate):
    values = dropped(batch_of([400] * 20, range(20)), rate=rate, features=64)
    assert float((values == 0).float().mean()) == pytest.approx(rate, abs=0.01)
    assert float(values.max()) == pytest.approx(1 / (1 - rate))
    assert float(values.mean()) == pytest.approx(1.0, abs=0.02)


def test_every_feature_is_dropped_at_about_the_rate():
    values = dropped(batch_of([400] * 20, range(20)), rate=0.3, features=64)
    shares = (values == 0).float().mean((0, 1))
    assert float(shares.min()) > 0.24
    assert float(shares.max()) < 0.36


def test_pooled_values_are_dropped_at_the_rate_too():
    values = dropped(batch_of([1] * 3000, range(3000)), rate=0.2, features=32, pooled=True)
    assert float((values == 0).float().mean()) == pytest.approx(0.2, abs=0.01)


def test_masks_differ_between_reads_positions_and_modules():
    batch = batch_of([50, 50], [11, 12])
    kept = dropped(batch, rate=0.5)[..., :16] > 0
    assert not torch.equal(kept[0], kept[1])
    assert len({tuple(token.tolist()) for token in kept[0]}) > 45
    assert not torch.equal(kept, dropped(batch, rate=0.5, module=3) > 0)


def test_masks_differ_between_epochs():
    """A read's key is another in each epoch."""
    first, second = batch_of([50], [11]), batch_of([50], [911])
    assert not torch.equal(dropped(first, rate=0.5), dropped(second, rate=0.5))


def test_mask_follows_the_token_through_every_layout():
    lengths, keys = [5, 9, 3], [70, 80, 90]
    packed = dropped(batch_of(lengths, keys, "packed"))[0]
    rows = dropped(batch_of(lengths, keys, "buckets"))
    padded = dropped(batch_of(lengths, keys, "padded"))
    other_order = dropped(batch_of([3, 9, 5], [90, 80, 70], "packed"))[0]
    for read, (start, length) in enumerate(zip((0, 5, 14), lengths, strict=True)):
        mine = packed[start : start + length]
        assert torch.equal(rows[read, :length], mine)
        assert torch.equal(padded[read, :length], mine)
    assert torch.equal(other_order[:3], packed[14:])
    assert torch.equal(other_order[12:], packed[:5])


def test_outside_training_values_pass_unchanged():
    keys = TokenKeys()
    keys.set(batch_of([5], [1]))
    values = torch.randn(1, 5, 8)
    assert KeyedDropout(0.5, keys, 2).eval()(values) is values


def test_rate_zero_passes_values_unchanged():
    values = torch.randn(1, 5, 8)
    assert KeyedDropout(0.0, TokenKeys(), 2).train()(values) is values


def test_half_precision_stays_half_precision():
    keys = TokenKeys()
    keys.set(batch_of([5], [1]))
    assert KeyedDropout(0.5, keys, 2).train()(torch.ones(1, 5, 8, dtype=torch.bfloat16)).dtype is torch.bfloat16


def test_torchs_own_random_numbers_are_left_alone():
    """So a run that is resumed needs no state of theirs for it."""
    before = torch.random.get_rng_state()
    dropped(batch_of([5], [1]), features=23)
    assert torch.equal(before, torch.random.get_rng_state())
