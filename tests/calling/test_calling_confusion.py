"""How often reads of each class are called each class."""

from __future__ import annotations

import numpy as np
import pytest

from metagene_classifier.calling.confusion import Confusion
from metagene_classifier.errors import ModelFolderError
from metagene_classifier.model.calibration import CONFUSION_FILE

TRUTH = np.array([0, 0, 0, 1, 2, 2])
CALLED = np.array([0, 0, 1, 3, 2, 0])  # 3: unclassified


def test_counts_by_hand():
    found = Confusion.of(TRUTH, CALLED, 3)
    assert found.counts.toarray().tolist() == [[2, 1, 0, 0], [0, 0, 0, 1], [1, 0, 1, 0]]
    assert (found.classes, found.has_unknown) == (3, False)


def test_strangers_are_the_last_row():
    found = Confusion.of(TRUTH, CALLED, 3, np.array([3, 3, 1]))
    assert found.counts.toarray()[3].tolist() == [0, 1, 0, 2]
    assert (found.classes, found.has_unknown) == (3, True)


@pytest.mark.parametrize("strangers", [None, np.array([3, 0]), np.zeros(0, np.int64)])
def test_it_comes_back_as_it_was_saved(tmp_path, strangers):
    found = Confusion.of(TRUTH, CALLED, 3, strangers)
    found.save(tmp_path)
    loaded = Confusion.load(tmp_path)
    assert loaded is not None
    assert loaded.counts.toarray().tolist() == found.counts.toarray().tolist()
    assert (loaded.classes, loaded.has_unknown) == (3, strangers is not None)


def test_thousands_of_classes_take_the_space_of_what_was_counted(tmp_path):
    classes = 3507
    Confusion.of(np.arange(classes), np.arange(classes), classes).save(tmp_path)
    assert (tmp_path / CONFUSION_FILE).stat().st_size < 100_000


def test_a_folder_without_one_has_none(tmp_path):
    assert Confusion.load(tmp_path) is None


def test_a_damaged_file_is_one_line(tmp_path):
    Confusion.of(TRUTH, CALLED, 3).save(tmp_path)
    path = tmp_path / CONFUSION_FILE
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ModelFolderError, match="damaged"):
        Confusion.load(tmp_path)
