import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metagene_classifier.errors import DataError
from metagene_classifier.reads.labelled import LabelledRead
from metagene_classifier.reads.read import Read
from metagene_classifier.store import tokens as tokens_module
from metagene_classifier.store.tokens import StoreReport, TokenStore, build_store, split_store


def labelled(sequence, class_index=0, header="r1"):
    return LabelledRead(Read(header, sequence), class_index)


def store_of(reads, tokenizer, long_reads="window", capacity=510):
    report = StoreReport()
    return build_store(reads, tokenizer, capacity=capacity, long_reads=long_reads, report=report), report


def by_hand(reads, classes=None, groups=None):
    """A store of given token ids."""
    lengths = [len(read) for read in reads]
    return TokenStore(
        np.array([token for read in reads for token in read], np.uint16),
        np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64),
        np.array(classes if classes is not None else [0] * len(reads), np.int32),
        np.array(groups if groups is not None else range(len(reads)), np.uint64),
    )


def test_reads_lie_in_the_store_as_the_tokenizer_cuts_them(tokenizer):
    sequences = ["ACGTACGTAC", "GGG", "TTTTTTTTTTTTTTTTTTTT"]
    store, report = store_of([labelled(s, place) for place, s in enumerate(sequences)], tokenizer)
    assert len(store) == 3
    assert store.classes.tolist() == [0, 1, 2]
    assert [tokenizer.text(store.tokens(read)) for read in range(3)] == sequences
    assert store.lengths.tolist() == [len(ids) for ids in tokenizer.encode_batch(sequences)]
    assert report == StoreReport(cleaning=report.cleaning)


def test_a_token_takes_two_bytes(tokenizer):
    store, _ = store_of([labelled("ACGT" * 30)], tokenizer)
    assert store.ids.dtype == np.uint16


def test_reads_are_cleaned_before_they_are_tokenized_and_it_is_counted(tokenizer):
    store, report = store_of([labelled("acgu-ACGR"), labelled("ACGTACGN")], tokenizer)
    assert store.tokens(0).tolist() == store.tokens(1).tolist()
    assert report.cleaning.lower_case.reads == 1
    assert report.cleaning.u_to_t.bases == 1
    assert report.cleaning.reads == 2


def test_reads_without_a_base_are_skipped_and_counted(tokenizer):
    store, report = store_of([labelled("--"), labelled("ACGT", 3), labelled("")], tokenizer)
    assert store.classes.tolist() == [3]
    assert report.empty_reads == 2


def test_no_reads_make_an_empty_store(tokenizer):
    store, _ = store_of([], tokenizer)
    assert len(store) == 0
    assert store.lengths.tolist() == []
    assert len(store.subset(np.zeros(0, np.int64))) == 0


def test_long_reads_keep_all_tokens_for_windows(tokenizer):
    store, report = store_of([labelled("ACGGT" * 20), labelled("ACG")], tokenizer, "window", capacity=10)
    assert tokenizer.text(store.tokens(0)) == "ACGGT" * 20
    assert report.long_reads == 1


def test_long_reads_are_truncated_to_what_fits(tokenizer):
    store, report = store_of([labelled("ACGGT" * 20), labelled("ACG", 1)], tokenizer, "truncate", capacity=10)
    assert store.lengths[0] == 10
    assert "".join(["ACGGT"] * 20).startswith(tokenizer.text(store.tokens(0)))
    assert tokenizer.text(store.tokens(1)) == "ACG"
    assert report.long_reads == 1


def test_long_reads_are_refused_by_name(tokenizer):
    reads = [labelled("ACG", header="short"), labelled("ACGGT" * 20, header="contig_9 of 12")]
    with pytest.raises(DataError, match=r"read contig_9 has \d+ tokens and 10 fit .*tokenizer\.long_reads"):
        store_of(reads, tokenizer, "error", capacity=10)


def test_blocks_do_not_show_in_the_store(tokenizer, monkeypatch):
    reads = [labelled("ACGT" * (number % 7 + 1), number, f"r{number}") for number in range(25)]
    whole, _ = store_of(reads, tokenizer)
    monkeypatch.setattr(tokens_module, "READS_PER_BLOCK", 4)
    in_parts, _ = store_of(reads, tokenizer)
    assert in_parts.fingerprint() == whole.fingerprint()
    assert np.array_equal(in_parts.groups, whole.groups)


def test_a_file_that_breaks_off_is_an_error_and_not_a_shorter_store(tokenizer):
    def broken():
        yield labelled("acgt")
        raise DataError("reads.fa.gz ends in the middle of record 2")

    report = StoreReport()
    with pytest.raises(DataError, match="middle of record 2"):
        build_store(broken(), tokenizer, capacity=510, long_reads="window", report=report)
    # what came before it was looked at, so that it can be told
    assert report.cleaning.lower_case.reads == 1


READS = st.lists(st.lists(st.integers(0, 1023), min_size=1, max_size=9), min_size=1, max_size=12)


@given(reads=READS, data=st.data())
def test_a_subset_holds_the_named_reads_in_the_order_given(reads, data):
    store = by_hand(reads, classes=range(len(reads)), groups=range(50, 50 + len(reads)))
    chosen = data.draw(st.lists(st.integers(0, len(reads) - 1), max_size=15))
    subset = store.subset(np.array(chosen, np.int64))
    assert [subset.tokens(place).tolist() for place in range(len(subset))] == [reads[read] for read in chosen]
    assert subset.classes.tolist() == chosen
    assert subset.groups.tolist() == [50 + read for read in chosen]


@given(reads=READS)
def test_fingerprint_is_that_of_the_same_reads(reads):
    assert by_hand(reads).fingerprint() == by_hand(reads).fingerprint()


@given(reads=READS, data=st.data())
def test_fingerprint_changes_with_any_token_and_any_class(reads, data):
    store = by_hand(reads)
    read = data.draw(st.integers(0, len(reads) - 1))
    place = data.draw(st.integers(0, len(reads[read]) - 1))
    other_token = [list(tokens) for tokens in reads]
    other_token[read][place] = (other_token[read][place] + data.draw(st.integers(1, 1023))) % 1024
    assert by_hand(other_token).fingerprint() != store.fingerprint()
    classes = [0] * len(reads)
    classes[read] = 1
    assert by_hand(reads, classes).fingerprint() != store.fingerprint()


def test_fingerprint_changes_with_the_order_and_with_where_a_read_ends():
    assert by_hand([[7, 8], [9]]).fingerprint() != by_hand([[9], [7, 8]]).fingerprint()
    assert by_hand([[7, 8], [9]]).fingerprint() != by_hand([[7], [8, 9]]).fingerprint()


HEADERS = ["lbl|3|562|150|E. coli read {}/{}", "SRR1.{}/{}", "SRR1.{} {}:N:0:ACGT"]


@pytest.mark.parametrize("header", HEADERS)
def test_mates_are_held_out_together(tokenizer, header):
    reads = [labelled("ACGT", mate, header.format(pair, mate)) for pair in range(300) for mate in (1, 2)]
    store, _ = store_of(reads, tokenizer)
    assert len(set(store.groups.tolist())) == 300
    kept, held_out = split_store(store, 0.3, seed=1)
    assert set(kept.groups.tolist()).isdisjoint(held_out.groups.tolist())
    assert (kept.classes == 1).sum() == (kept.classes == 2).sum()
    assert len(kept) + len(held_out) == 600


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.5])
def test_about_the_share_asked_for_is_held_out(fraction):
    store = by_hand([[7]] * 4000, groups=np.random.default_rng(0).integers(0, 2**63, 4000))
    _, held_out = split_store(store, fraction, seed=1)
    assert len(held_out) / 4000 == pytest.approx(fraction, abs=0.02)


def test_groups_that_follow_one_another_are_mixed_too():
    _, held_out = split_store(by_hand([[7]] * 4000), 0.1, seed=1)
    assert len(held_out) / 4000 == pytest.approx(0.1, abs=0.02)


@given(keep=st.sets(st.integers(0, 99), min_size=1))
def test_a_reads_side_does_not_depend_on_the_other_reads(keep):
    groups = np.arange(100)
    _, held_out = split_store(by_hand([[7]] * 100, groups=groups), 0.4, seed=5)
    fewer = np.array(sorted(keep))
    _, held_out_of_fewer = split_store(by_hand([[7]] * len(fewer), groups=fewer), 0.4, seed=5)
    assert set(held_out_of_fewer.groups.tolist()) == set(held_out.groups.tolist()) & keep


def test_another_seed_holds_out_others():
    store = by_hand([[7]] * 200)
    assert split_store(store, 0.3, 1)[1].groups.tolist() != split_store(store, 0.3, 2)[1].groups.tolist()
