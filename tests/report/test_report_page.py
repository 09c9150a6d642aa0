import base64
import hashlib

import numpy as np
import pytest
from tests.report.pages import Page

from metagene_classifier.errors import OutputError
from metagene_classifier.report.confusion_plot import confusion_matrix_figure
from metagene_classifier.report.drawing import svg_text
from metagene_classifier.report.heat_map import confusion_heat_map
from metagene_classifier.report.page import (
    Column,
    DataTable,
    Figure,
    Section,
    SunburstSection,
    Text,
    Tile,
    Tiles,
    write_page,
)

HOSTILE = """</script><script>alert('x')</script>"><img src=x onerror=alert(1)>' {{ 7*7 }}"""
TABLE = DataTable(
    "All classes",
    [
        Column("Class"),
        Column("Reads", "count"),
        Column("Share", "share"),
        Column("F1", "figure"),
        Column("Taxid", "id"),
    ],
    [["E. coli", 1975, 0.9875, 0.98765, 562], ["phiX174", 25, 0.0125, None, None]],
    filterable=True,
    unit="classes",
)


def written(tmp_path, *parts, **given):
    arguments = {"title": "Evaluation", "facts": {}, "sections": [Section("A section", parts)]} | given
    write_page(tmp_path / "report.html", **arguments)
    return (tmp_path / "report.html").read_text(encoding="utf-8")


def test_page_shows_title_warnings_tiles_facts_and_every_part(tmp_path):
    page = Page(
        written(
            tmp_path,
            Text(["A paragraph."]),
            Tiles([Tile("Wrong", "17")]),
            TABLE,
            Figure("A picture", svg_text(confusion_matrix_figure(np.eye(2, dtype=int), ["a", "b"])), "How to read it."),
            confusion_heat_map(np.array([[3, 1], [0, 2]]), ["virus", "host"], caption="Confusion"),
            SunburstSection("Sample 1", "<div>rings</div>", style=".rings { color: red }", script="let rings;"),
            title="Evaluation of demo",
            facts={"Model": "runs/demo"},
            warnings=["one class has no reads", "one class has no reads"],
            tiles=[Tile("Macro F1", "0.9123", "0.8 before")],
        )
    )
    shown = ["Evaluation of demo", "runs/demo", "Macro F1", "0.9123", "0.8 before", "A section", "A paragraph.", "17"]
    shown += [
        "A picture",
        "How to read it.",
        "Confusion",
        "virus",
        "75%",
        "Sample 1",
        "rings",
        "All classes",
        "1 warning",
    ]
    assert set(shown) <= set(page.texts)
    assert page.texts.count("one class has no reads") == 1, "a warning is given once"
    assert any("torch" in text for text in page.texts), "the versions"
    assert page.count("svg") == 1


def test_table_shows_numbers_as_people_write_them_and_a_dash_for_what_is_not_known(tmp_path):
    page = Page(written(tmp_path, TABLE))
    cells = page.texts[page.texts.index("Class") :]
    assert cells[:5] == ["Class", "Reads", "Share", "F1", "Taxid"]
    assert cells[5:10] == ["E. coli", "1,975", "98.75%", "0.9877", "562"]
    assert cells[10:15] == ["phiX174", "25", "1.25%", "–", "–"]


def test_whatever_a_name_is_no_markup_of_it_gets_in(tmp_path):
    confusion = np.array([[2, 1], [0, 3]])
    page = Page(
        written(
            tmp_path,
            Text([HOSTILE]),
            Tiles([Tile(HOSTILE, HOSTILE, HOSTILE)]),
            DataTable(HOSTILE, [Column(HOSTILE, hint=HOSTILE)], [[HOSTILE]], True, HOSTILE, HOSTILE),
            Figure(HOSTILE, svg_text(confusion_matrix_figure(confusion, [HOSTILE, "b"])), HOSTILE),
            confusion_heat_map(confusion, [HOSTILE, "b"], caption=HOSTILE, note=HOSTILE),
            SunburstSection(HOSTILE, "<div></div>", note=HOSTILE),
            title=HOSTILE,
            facts={HOSTILE: HOSTILE},
            warnings=[HOSTILE],
            tiles=[Tile(HOSTILE, HOSTILE)],
        )
    )
    assert page.count("script") == 1, "ours alone"
    assert page.count("img") == 0
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert page.texts.count(HOSTILE) > 10, "it is shown as it is written"


def test_page_needs_no_network_and_allows_none(tmp_path):
    svg = svg_text(confusion_matrix_figure(np.eye(2, dtype=int), ["a", "b"]))
    page = Page(written(tmp_path, TABLE, Figure("Confusion", svg)))
    for tag, attributes in page.tags:
        assert tag != "iframe"
        for name in ("src", "href", "xlink:href"):
            assert attributes.get(name, "#").startswith(("#", "data:"))
    policy = next(one["content"] for one in page.attributes("meta") if "Policy" in (one.get("http-equiv") or ""))
    assert "default-src 'none'" in policy
    assert "http" not in policy


def test_the_policy_knows_every_script_by_its_text_and_no_other(tmp_path):
    page = Page(written(tmp_path, TABLE, SunburstSection("a", "<i></i>", script="let a = 1 < 2;")))
    policy = next(one["content"] for one in page.attributes("meta") if "Policy" in (one.get("http-equiv") or ""))
    assert len(page.scripts) == 2
    for script in page.scripts:
        assert base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() in policy
    assert policy.split("script-src")[1].split(";")[0].count("'sha256-") == 2
    assert "unsafe-inline" not in policy.split("script-src")[1].split(";")[0]


def test_sections_without_parts_are_left_out(tmp_path):
    page = Page(written(tmp_path, sections=[Section("Nothing to see", []), Section("Something", [Text(["x"])])]))
    assert "Nothing to see" not in page.texts
    assert page.texts.count("Something") == 2, "in the contents and as a heading"


def test_no_two_elements_share_an_id_and_every_reference_has_its_element(tmp_path):
    figure = svg_text(confusion_matrix_figure(np.eye(2, dtype=int), ["a", "b"]))
    other = svg_text(confusion_matrix_figure(np.eye(3, dtype=int), ["a", "b", "c"]))
    page = Page(written(tmp_path, TABLE, TABLE, Figure("One", figure), Figure("Other", other), warnings=["w"]))
    ids = [one["id"] for _, one in page.tags if "id" in one]
    assert len(ids) == len(set(ids))
    pointed = [one["href"][1:] for one in page.attributes("a")]
    pointed += [one["xlink:href"][1:] for one in page.attributes("use")]
    pointed += [one[name] for _, one in page.tags for name in ("aria-labelledby", "aria-describedby") if name in one]
    assert set(pointed) <= set(ids)


def test_a_folder_in_the_way_is_told(tmp_path):
    (tmp_path / "report.html").mkdir()
    with pytest.raises(OutputError, match="is a folder"):
        written(tmp_path)
