"""Every read has its own values, whatever stands beside it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metagene_classifier.batching.framing import Framing, framing_for
from metagene_classifier.errors import TokenizerError
from metagene_classifier.model.out_of_memory import TokenBudget
from metagene_classifier.prediction.preparing import Preparer
from metagene_classifier.prediction.scorer import Beyond, Scorer
from metagene_classifier.prediction.stream_report import StreamReport
from metagene_classifier.reads.read import Read

READS = st.lists(st.text("ACGTNacgu-", max_size=30), max_size=12)


def lengths_of(batch):
    """A model whose value of a segment is its length."""
    return batch.lengths.float()[:, None]


def test_reads_without_a_base_keep_their_place(tokenizer):
    scorer = Scorer(
        lengths_of,
        1,
        tokenizer,
        framing_for(tokenizer, 64, 0.1),
        "buckets",
        TokenBudget(50),
        torch.device("cpu"),
        "window",
    )

    @settings(max_examples=50, deadline=None)
    @given(READS)
    def property_of(sequences):
        report = StreamReport()
        found = [block.values for block in scorer.stream((Read("r", text) for text in sequences), report)]
        expected = []
        for text in sequences:
            clean = text.upper().replace("U", "T").replace("-", "")
            expected.append(2 + len(tokenizer.encode_batch([clean])[0]) if clean.strip("N") else 0)
        assert np.concatenate([np.zeros((0, 1)), *found])[:, 0].tolist() == expected
        assert (report.reads, report.empty) == (len(sequences), expected.count(0))

    property_of()


# --- both strands, and where windows lie


def weights_of(batch):
    """A model whose value of a segment tells its tokens and their order."""
    first = batch.ids if batch.packed else batch.ids[:, :1]
    assert not batch.packed and first.shape[0] == batch.segments
    places = torch.arange(batch.ids.shape[1])[None, :]
    real = places < batch.lengths[:, None]
    return ((batch.ids * (places + 1) * real).sum(dim=1).double() % 9973).float()[:, None]


def scorer_of(tokenizer, strand="single", max_length=64, long_reads="window", run=weights_of):
    frame = framing_for(tokenizer, max_length, 0.1)
    return Scorer(run, 1, tokenizer, frame, "buckets", TokenBudget(50), torch.device("cpu"), long_reads, strand)


def block_of(scorer, sequences):
    (block,) = scorer.stream([Read(str(n), one) for n, one in enumerate(sequences)], StreamReport())
    return block


def other_strand(sequence):
    return "".join({"A": "T", "C": "G", "G": "C", "T": "A", "N": "N"}[base] for base in reversed(sequence))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.text("ACGTN", min_size=1, max_size=300), min_size=1, max_size=6))
def test_the_average_of_strands_is_that_of_a_read_and_its_reverse_complement(tokenizer, sequences):
    single, average = (scorer_of(tokenizer, strand, 32) for strand in ("single", "average"))
    ahead = block_of(single, sequences)
    back = block_of(single, [other_strand(one) for one in sequences])
    both = block_of(average, sequences)
    np.testing.assert_allclose(both.values, (ahead.values + back.values) / 2, rtol=1e-6)
    # Turned round, a read is itself.
    np.testing.assert_array_equal(both.values, block_of(average, [other_strand(one) for one in sequences]).values)
    assert both.tokens.tolist() == ahead.tokens.tolist()
    assert both.window_counts.tolist() == ahead.window_counts.tolist()
    ends = np.cumsum(both.window_counts)
    for number, count in enumerate(both.window_counts.tolist()):
        expected = both.values[[number]] if count == 1 else ahead.window_values[ends[number] - count : ends[number]]
        np.testing.assert_array_equal(both.window_values[ends[number] - count : ends[number]], expected)


def test_truncated_reads_have_both_strands_of_the_same_bases(tokenizer):
    sequence = "ACGGT" * 100
    cut = scorer_of(tokenizer, "average", 32, "truncate")
    begin, end = block_of(cut, [sequence]).window_spans[0].tolist()
    assert begin == 0 and 60 < end < 300
    kept = block_of(scorer_of(tokenizer, "average", 64), [sequence[:end]])
    np.testing.assert_array_equal(block_of(cut, [sequence]).values, kept.values)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.text("ACGTN", max_size=400), min_size=1, max_size=4), st.sampled_from(["window", "truncate"]))
def test_windows_lie_where_their_tokens_are(tokenizer, sequences, long_reads):
    """The tokens of the bases between a window's ends are the window's own."""
    seen = []

    def keeping(batch):
        for row, length in zip(batch.ids.tolist(), batch.lengths.tolist(), strict=True):
            seen.append(row[1 : length - 1])
        return batch.lengths.float()[:, None]

    block = block_of(scorer_of(tokenizer, "single", 32, long_reads, keeping), sequences)
    owners = np.repeat(np.arange(len(sequences)), block.window_counts)
    assert len(owners) == len(block.window_spans) == len(block.window_tokens) == len(block.window_values)
    texts = [
        sequences[owner][begin:end] for owner, (begin, end) in zip(owners, block.window_spans.tolist(), strict=True)
    ]
    assert sorted(texts) == sorted(tokenizer.text(ids) for ids in seen)
    for number, sequence in enumerate(sequences):
        own = block.window_spans[owners == number]
        assert (len(own) == 0) == (not sequence.strip("N"))
        if len(own):
            assert own[0, 0] == 0 and (own[1:, 0] <= own[:-1, 1]).all()
            assert own[-1, 1] == len(sequence) or long_reads == "truncate"


@pytest.mark.parametrize("strand", ["single", "average"])
def test_what_lies_beside_the_classes_is_averaged_before_it_becomes_a_number(tokenizer, strand):
    def with_more(batch):
        return torch.cat([lengths_of(batch), batch.ids[:, :2].float() / batch.lengths[:, None]], dim=1)

    def more_of(batch):
        return with_more(batch)[:, 1:]

    sequences = ["ACGT" * 200, "", "ACG", "GATTACA" * 3]
    plain = block_of(scorer_of(tokenizer, strand, run=lengths_of), sequences)
    beside = block_of(replace(scorer_of(tokenizer, strand, run=more_of), width=2), sequences)
    beyond = Beyond(2, lambda values: (values.astype(np.float64) ** 2).sum(axis=1))
    both = block_of(replace(scorer_of(tokenizer, strand, run=with_more), beyond=beyond), sequences)
    assert plain.extra is None and plain.window_extra is None
    np.testing.assert_array_equal(both.values, plain.values)
    np.testing.assert_array_equal(both.extra, (beside.values.astype(np.float64) ** 2).sum(axis=1))
    np.testing.assert_array_equal(both.window_extra, (beside.window_values.astype(np.float64) ** 2).sum(axis=1))


def test_windows_of_tokens_that_are_no_bases_lie_in_proportion():
    """A token for every two bases, with no text: four windows of ten tokens, three tokens of which overlap."""

    class Wordless:
        def encode_batch(self, sequences):
            return [np.arange(len(one) // 2) for one in sequences]

        def decode_codes(self, ids, lengths):
            raise TokenizerError("no bases")

    frame = Framing((), (), 0, 10, 0.3)
    block = Preparer(Wordless(), frame, "window").prepare([Read("r", "ACGT" * 15), Read("s", "ACGTAC")])
    assert block.spans.tolist() == [[0, 20], [14, 34], [26, 46], [40, 60], [0, 6]]
