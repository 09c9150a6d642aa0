import itertools
import re
import xml.etree.ElementTree as ElementTree

import matplotlib
import matplotlib.image
import numpy as np
import pytest

from metagene_classifier.metrics.classification import ClassFigures
from metagene_classifier.report.confusion_plot import Confusion, confusion_matrix_figure, worst_confusions
from metagene_classifier.report.drawing import save_png, shortened, svg_text
from metagene_classifier.report.plots import per_class_figure, reads_per_class_figure, training_curves_figure


def names(count):
    return [f"Organism number {index}" for index in range(count)]


def random_confusion(classes):
    return np.random.default_rng(1).integers(0, 9, (classes, classes)) + 40 * np.eye(classes, dtype=np.int64)


def figures_of(classes):
    return [ClassFigures(name, 0.5, 0.9, index / classes, 10, 0.7) for index, name in enumerate(names(classes))]


def words(figure):
    """All text in the picture."""
    return [text for text in ElementTree.fromstring(svg_text(figure)).itertext() if text.strip()]


def test_worst_confusions_are_the_largest_counts_off_the_diagonal():
    confusion = np.array([[50, 3, 0], [9, 1, 0], [0, 2, 8]])
    assert worst_confusions(confusion, ["a", "b", "c"], 2) == [
        Confusion("b", "a", 9, 0.9),
        Confusion("a", "b", 3, 3 / 53),
    ]


def test_worst_confusions_of_a_perfect_model_are_none():
    assert worst_confusions(np.diag([5, 5, 5]), ["a", "b", "c"], 20) == []


def test_small_matrix_shows_share_and_count_of_every_cell_with_reads():
    shown = words(confusion_matrix_figure(np.array([[30, 10], [0, 5]]), ["virus", "host"]))
    assert {"75%", "30", "25%", "10", "100%", "5"} <= set(shown)
    assert shown.count("virus") == shown.count("host") == 2


def test_matrix_with_a_class_without_reads_is_drawn():
    figure = confusion_matrix_figure(np.array([[3, 1, 0], [0, 0, 0], [0, 0, 4]]), ["a", "b", "c"])
    assert figure.axes[0].images[0].get_array().mask.tolist() == [[False] * 3, [True] * 3, [False] * 3]


def test_many_classes_list_the_worst_pairs_by_name():
    confusion = 20 * np.eye(500, dtype=np.int64)
    confusion[7, 411] = 13
    shown = words(confusion_matrix_figure(confusion, names(500)))
    assert "Organism number 7" in shown
    assert any("→ Organism number 411" in text for text in shown)
    assert any("13 reads (39%)" in text for text in shown)
    # Two axes with thinned names, the colours' scale and the list, not 500 names.
    assert len(shown) < 150


def test_thousands_of_classes_are_summed_to_what_a_picture_can_show():
    figure = confusion_matrix_figure(np.eye(1203, dtype=np.int64), names(1203))
    shares = figure.axes[0].images[0].get_array()
    assert max(shares.shape) <= 500
    assert np.allclose(np.diag(shares), 1)
    assert "each cell is 3 x 3 classes" in words(figure)


@pytest.mark.parametrize("classes", [1, 2, 10, 26, 45])
def test_no_text_lies_outside_the_picture_and_no_names_overlap(classes, tmp_path):
    for number, figure in enumerate(
        (
            confusion_matrix_figure(random_confusion(classes), [f"{name}, a long name" for name in names(classes)]),
            per_class_figure(figures_of(classes)),
            reads_per_class_figure({"true class": range(classes), "called": [5] * classes}, names(classes)),
        )
    ):
        save_png(figure, tmp_path / f"{number}.png")
        picture = matplotlib.image.imread(tmp_path / f"{number}.png")[..., :3]
        edges = picture[:5], picture[-5:], picture[:, :5], picture[:, -5:]
        assert min(edge.min() for edge in edges) == 1, "ink at the edge: something is cut off"
        for axes in figure.axes:
            for ticks, side in ((axes.get_yticklabels(), 1), (axes.get_xticklabels(), 0)):
                boxes = [tick.get_window_extent() for tick in ticks if tick.get_text() and tick.get_visible()]
                if ticks and ticks[0].get_rotation() in (0, 90):
                    spans = sorted((box.min[side], box.max[side]) for box in boxes)
                    assert all(before[1] <= after[0] + 1 for before, after in itertools.pairwise(spans))


def test_per_class_names_every_class_with_reads_and_the_worst_of_many():
    few = [*figures_of(3), ClassFigures("absent", 0, 0, 0, 0, None)]
    assert set(names(3)) < set(words(per_class_figure(few)))
    assert "absent" not in words(per_class_figure(few))
    many = words(per_class_figure(figures_of(300)))
    assert "Organism number 0" in many
    assert "Organism number 299" not in many


def test_reads_per_class_of_many_tells_range_and_empty_classes():
    counts = [1000, *[10] * 98, 0]
    assert "train: 1,000 to 0, median 10; 1 with none" in words(reads_per_class_figure({"train": counts}, names(100)))


def test_curves_of_a_trainers_log():
    history = [
        {"step": 10, "epoch": 0.5, "loss": 2.0, "learning_rate": 2e-4, "grad_norm": 1.0},
        {"step": 20, "epoch": 1.0, "loss": 1.0, "learning_rate": 1e-4},
        {"step": 20, "epoch": 1.0, "eval_loss": 1.2, "eval_macro_f1": 0.6, "eval_auroc": None},
        {"step": 20, "train_runtime": 5.0},
    ]
    loss, metric, rate = training_curves_figure(history).axes
    assert [line.get_xydata().tolist() for line in loss.lines] == [[[10, 2.0], [20, 1.0]], [[20, 1.2]]]
    assert metric.lines[0].get_xydata().tolist() == [[20, 0.6]]
    assert rate.lines[0].get_ydata().tolist() == [2e-4, 1e-4]
    assert "Macro F1" in words(loss.figure)


def test_curves_without_validation_say_so():
    assert words(training_curves_figure([{"step": 1, "loss": 2.0}])).count("not recorded") == 2
    assert words(training_curves_figure([])).count("not recorded") == 3


def test_labels_are_shown_as_they_are_and_never_as_markup_or_formulas():
    label = "<script>$x^2$</script> & _a"
    svg = svg_text(confusion_matrix_figure(np.eye(2, dtype=np.int64), [label, "b"]))
    assert "<script" not in svg
    assert shortened(label, 30) in [text.strip() for text in ElementTree.fromstring(svg).itertext()]


def test_a_name_in_a_script_that_the_font_lacks_is_drawn_without_a_word(tmp_path, recwarn):
    save_png(confusion_matrix_figure(np.eye(2, dtype=np.int64), ["大肠杆菌", "b"]), tmp_path / "a.png")
    assert not recwarn.list


def test_shortened_keeps_both_ends_on_one_line():
    assert shortened("E. coli") == "E. coli"
    assert shortened("two\nlines") == "two lines"
    assert shortened("Escherichia coli O157:H7 str. Sakai", 20) == "Escherichia c… Sakai"
    assert len(shortened("x" * 99, 20)) == 20


def test_svg_is_the_same_each_time_and_takes_the_pages_colours():
    def draw():
        return svg_text(reads_per_class_figure({"train": [3, 4]}, ["a", "b"]))

    assert draw() == draw()
    assert "var(--series-1, #0072b2)" in draw()
    assert "var(--ink, #1b1f24)" in draw()
    assert not re.findall(r'(?:href|src)="(?!#|data:)', draw())


def test_drawing_leaves_matplotlibs_settings_alone():
    before = dict(matplotlib.rcParams)
    svg_text(per_class_figure(figures_of(3)))
    assert dict(matplotlib.rcParams) == before
