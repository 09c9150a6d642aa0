import pytest

from metagene_classifier.errors import DataError
from metagene_classifier.reads.blocks import in_blocks


def test_blocks_are_full_but_for_the_last():
    assert list(in_blocks(range(7), 3)) == [[0, 1, 2], [3, 4, 5], [6]]
    assert list(in_blocks(range(6), 3)) == [[0, 1, 2], [3, 4, 5]]
    assert list(in_blocks([], 3)) == []


@pytest.mark.parametrize(("whole", "blocks"), [(5, [[0, 1, 2], [3, 4]]), (3, [[0, 1, 2]]), (0, [])])
def test_what_came_before_a_broken_record_is_handed_out_first(whole, blocks):
    def reads():
        yield from range(whole)
        raise DataError("reads.fq.gz breaks off")

    seen = []
    with pytest.raises(DataError, match="breaks off"):
        for block in in_blocks(reads(), 3):
            seen.append(block)
    assert seen == blocks


def test_no_more_is_taken_than_a_block():
    """A stream from a pipe must not be read ahead of what is asked for."""
    taken = []
    blocks = in_blocks((taken.append(item) or item for item in range(100)), 3)
    next(blocks)
    assert len(taken) == 3
