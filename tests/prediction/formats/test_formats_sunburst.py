"""The sunburst: which clades it shows, and how it behaves in a browser."""

import json
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from tests.browser import opened
from tests.prediction.formats.little_tree import FLAT, TREE, call_at, calls_of, result_of

from metagene_classifier.calling.tree import ClassTree
from metagene_classifier.prediction.formats.registry import write_sample
from metagene_classifier.prediction.formats.sunburst import (
    PALETTE,
    sunburst_data,
    sunburst_markup,
    sunburst_nodes,
    sunburst_svg,
)
from metagene_classifier.reads.labels import ClassLabel, Labels


def direct_of(taxids, tree=TREE):
    direct = np.zeros(len(tree), np.int64)
    for call in calls_of(taxids, tree):
        direct[call.taxon] += 1
    return direct


def shown(taxids, tree=TREE):
    nodes = sunburst_nodes(tree, direct_of(taxids, tree))
    return [(node.name, nodes[node.parent].name, node.reads) for node in nodes]


def test_clades_hold_their_reads_and_the_larger_comes_first():
    assert shown([562, 562, 28901, 1280, 1280, 1280, 1280, 0]) == [
        ("all reads", "all reads", 8),
        ("Bacteria", "all reads", 7),
        ("S. aureus", "Bacteria", 4),
        ("Enterobacteriaceae", "Bacteria", 3),
        ("E. coli", "Enterobacteriaceae", 2),
        ("S. enterica", "Enterobacteriaceae", 1),
        ("unclassified", "all reads", 1),
    ]


def test_a_ring_that_would_repeat_another_is_left_out_but_none_with_reads_of_its_own():
    assert shown([511145, 511145]) == [("all reads", "all reads", 2), ("MG1655", "all reads", 2)]
    assert shown([511145, 562]) == [
        ("all reads", "all reads", 2),
        ("E. coli", "all reads", 2),
        ("MG1655", "E. coli", 1),
    ]
    assert shown([131567, 2]) == [
        ("all reads", "all reads", 2),
        ("cellular organisms", "all reads", 2),
        ("Bacteria", "cellular organisms", 1),
    ]


def test_without_a_taxonomy_classes_stand_side_by_side():
    assert shown([1280, 562, 562], FLAT) == [
        ("all reads", "all reads", 3),
        ("E. coli", "all reads", 2),
        ("S. aureus", "all reads", 1),
    ]
    assert shown([0, 0]) == [("all reads", "all reads", 2), ("unclassified", "all reads", 2)]


def test_the_picture_is_whole_xml_with_an_arc_for_each_clade_and_their_figures():
    nodes = sunburst_nodes(TREE, direct_of([562] * 30 + [1280] * 9 + [0]))
    root = ElementTree.fromstring(sunburst_svg(nodes, "gut & <soil>"))
    namespace = "{http://www.w3.org/2000/svg}"
    titles = [arc[0].text for arc in root.findall(f"{namespace}path")]
    assert titles == [
        "Bacteria (domain): 39 reads, 97.50 %",
        "E. coli (species): 30 reads, 75.00 %",
        "S. aureus (species): 9 reads, 22.50 %",
        "unclassified: 1 reads, 2.50 %",
    ]
    assert root.get("aria-label") == "gut & <soil>: 40 reads"


def test_one_class_alone_is_a_whole_ring():
    svg = sunburst_svg(sunburst_nodes(FLAT, direct_of([562], FLAT)), "x")
    begin, end = re.search(r'<path d="M(\S+ \S+)A\S+ \S+ 0 1 1 (\S+ \S+)L', svg).groups()
    assert begin == "320.00 4.00"
    assert end != begin


def test_clades_too_small_to_see_are_data_but_no_arcs():
    labels = Labels(tuple(ClassLabel(str(number), f"c{number}", number + 10) for number in range(3)))
    nodes = sunburst_nodes(ClassTree.of(labels), np.array([0, 100_000, 50_000, 3]))
    assert sunburst_svg(nodes, "x").count("<path") == 2
    assert sunburst_data(nodes, "x")["names"] == ["all reads", "c0", "c1", "c2"]


HOSTILE = "</script><script>window.hacked = 1</script><img src=x onerror=window.hacked=1>\u2028'\""


def test_no_name_leaves_its_place():
    labels = Labels((ClassLabel("0", HOSTILE, 5), ClassLabel("1", "b", 6)))
    markup = sunburst_markup(sunburst_nodes(ClassTree.of(labels), np.array([0, 2, 1])), HOSTILE)
    assert "<img" not in markup and markup.count("</script>") == 1
    data = json.loads(re.search(r'sunburst-data">(.*)</script>', markup)[1])
    assert data["caption"] == HOSTILE
    assert data["names"][1].startswith("</script><script>window.hacked")


def brightness(colour):
    """Relative luminance of WCAG 2.1."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("colour", PALETTE)
def test_names_are_legible_on_every_colour(colour):
    assert (brightness(colour) + 0.05) / (brightness("#111111") + 0.05) > 4.5


def test_taxa_of_one_clade_share_its_colour():
    nodes = sunburst_nodes(TREE, direct_of([562, 511145, 1280, 694009, 2697049]))
    by_name = {node.name: node.colour for node in nodes}
    assert by_name["E. coli"] == by_name["MG1655"]
    assert len({by_name[name] for name in ("MG1655", "S. aureus", "SARS-CoV-2")}) == 3


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "gut.krona.html"
    calls = calls_of([562] * 30 + [28901] * 12 + [561] * 3 + [511145] * 5 + [1280] * 9 + [2697049] * 4 + [0] * 7)
    write_sample("krona-html", path, result_of(calls, sample="gut <b>&</b>"))
    return path.as_uri()


@pytest.mark.parametrize("dark", [False, True])
def test_the_page_opens_without_a_fault_and_asks_for_nothing(browser, page, dark):
    with opened(browser, page, dark=dark) as seen:
        assert seen.page.locator("h1").inner_text() == "gut <b>&</b>"
        assert seen.page.locator(".sunburst-picture path").count() == 9
        assert "63 of 70 reads classified (90.00 %)" in seen.page.locator("main").inner_text()
        ink, paper = seen.page.evaluate(
            "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
        )
    light = "rgb(255, 255, 255)"
    assert (paper == light) is not dark and ink != paper
    assert seen.faults == []
    assert seen.foreign_requests() == []


def rows_of(seen):
    return [row.strip().split("\t") for row in seen.page.locator(".sunburst-list tbody").inner_text().splitlines()]


def test_the_figures_stand_beside_the_picture(browser, page):
    with opened(browser, page) as seen:
        assert rows_of(seen) == [
            ["Bacteria domain", "59", "84.29 %"],
            ["SARS-CoV-2", "4", "5.71 %"],
            ["unclassified", "7", "10.00 %"],
        ]
        titles = seen.page.locator(".sunburst-picture path title").all_text_contents()
        assert "E. coli (species): 35 reads, 50.00 %" in titles


def test_a_clade_is_zoomed_into_and_left_again_with_the_keyboard_alone(browser, page):
    with opened(browser, page) as seen:
        focus = "document.activeElement.textContent"
        seen.page.keyboard.press("Tab")
        seen.page.keyboard.press("Tab")
        assert seen.page.evaluate(focus) == "Bacteria"
        seen.page.keyboard.press("Enter")
        assert seen.page.locator(".sunburst-now").inner_text() == "Bacteria (domain): 59 reads, 84.29 %"
        assert [row[0] for row in rows_of(seen)] == ["Enterobacteriaceae family", "S. aureus species"]
        assert "unclassified" not in seen.page.locator(".sunburst-picture").inner_html()
        seen.page.keyboard.press("ArrowDown")
        assert seen.page.evaluate(focus) == "S. aureus"
        seen.page.keyboard.press("ArrowUp")
        seen.page.keyboard.press("ArrowRight")
        assert [row[0] for row in rows_of(seen)] == ["Escherichia genus", "S. enterica species"]
        seen.page.keyboard.press("Escape")
        assert seen.page.evaluate(focus) == "Enterobacteriaceae"
        seen.page.keyboard.press("Escape")
        assert seen.page.evaluate(focus) == "Bacteria"
        assert len(rows_of(seen)) == 3
    assert seen.faults == []


def test_a_click_zooms_and_the_middle_leads_back(browser, page):
    with opened(browser, page) as seen:
        arc = seen.page.locator(".sunburst-picture path").filter(has_text="Enterobacteriaceae (family)")
        arc.dispatch_event("click")  # what is in the middle of its box is no part of an arc
        way = seen.page.locator(".sunburst-path button").all_text_contents()
        assert way == ["all reads", "Bacteria", "Enterobacteriaceae"]
        seen.page.locator(".sunburst-picture circle").click()
        assert rows_of(seen)[0][0] == "Enterobacteriaceae family"
        seen.page.get_by_role("button", name="all reads").click()
        assert len(rows_of(seen)) == 3
    assert seen.faults == []


def test_hostile_names_do_nothing_in_a_browser(browser, tmp_path):
    tree = ClassTree.of(Labels((ClassLabel("0", HOSTILE, 5), ClassLabel("1", "b", 6))))
    calls = [call_at(1, tree=tree), call_at(2, tree=tree)]
    write_sample("krona-html", tmp_path / "x.html", result_of(calls, tree, sample=HOSTILE))
    with opened(browser, (tmp_path / "x.html").as_uri()) as seen:
        assert seen.page.evaluate("window.hacked") is None
        assert seen.page.locator("img").count() == 0
        assert seen.page.locator(".sunburst-list button").first.inner_text().startswith("</script><script>")
    assert seen.faults == []
