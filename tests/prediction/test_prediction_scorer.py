"""Every read has its own values, whatever stands beside it."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metagene_classifier.batching.framing import framing_for
from metagene_classifier.model.out_of_memory import TokenBudget
from metagene_classifier.prediction.scorer import Scorer
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
