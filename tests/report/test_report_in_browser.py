"""The report as a reader meets it: in a browser, by keyboard, in light and dark, and on paper."""

import numpy as np
import pytest
from tests.browser import opened

from metagene_classifier.metrics.classification import metrics_of_calls
from metagene_classifier.report.evaluation import write_evaluation

HOSTILE = "</script><img src=http://127.0.0.1/x onerror=alert(1)>" + 150 * "A"
LABELS = ["Escherichia coli", "Salmonella enterica", HOSTILE]


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """Three classes: 8 of 10, 5 of 5 and 0 of 2 reads are called right."""
    truth = np.repeat([0, 1, 2], [10, 5, 2])
    called = np.repeat([0, 1, 1, 0], [8, 2, 5, 2])
    return report(tmp_path_factory.mktemp("few"), truth, called, LABELS)


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """3,500 classes, of which the one numbered n has n % 7 + 1 reads; class 3497 is called class 3498."""
    labels = [f"Genus{number // 8} species{number}" for number in range(3500)]
    truth = np.repeat(np.arange(3500), np.arange(3500) % 7 + 1)
    called = np.where(truth == 3497, 3498, truth)
    return report(tmp_path_factory.mktemp("many"), truth, called, labels)


def report(folder, truth, called, labels):
    metrics = metrics_of_calls(truth, called, np.full(len(truth), 0.5), labels, areas=None, areas_undefined="no scores")
    history = [{"step": 1, "loss": 2.0}, {"step": 9, "loss": 0.5, "eval_loss": 0.75, "eval_macro_f1": 0.625}]
    write_evaluation(folder, metrics=metrics, facts={"Model": "runs/demo"}, warnings=[HOSTILE], history=history)
    return folder / "report.html"


def rows(page, table="All classes"):
    """First cells of the rows that are seen."""
    return page.get_by_role("region", name=table).locator("tbody tr:visible > :first-child").all_inner_texts()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1200, 400])
def test_page_opens_without_an_error_or_a_request_and_fits_the_window(browser, few, dark, width):
    with opened(browser, few.as_uri(), dark=dark, width=width) as seen:
        page = seen.page
        assert page.get_by_role("heading", name="Evaluation", exact=True).is_visible()
        assert page.evaluate("document.documentElement.scrollWidth") == width, "the page itself never scrolls sideways"
        for heading in ("What ran", "Training", "What was called as what", "Classes"):
            assert page.get_by_role("heading", name=heading, exact=True).is_visible()
        assert page.locator("img").count() == 0
    assert seen.faults == []
    assert seen.requests == [few.as_uri()]


def test_the_figures_of_the_run_are_shown(browser, few):
    with opened(browser, few.as_uri()) as seen:
        page = seen.page
        tiles = page.locator("dl.tiles").first.inner_text()
        assert "Reads\n17" in tiles
        assert f"Accuracy\n{13 / 17:.4f}" in tiles
        assert page.locator("table.heat tbody tr").first.inner_text().split() == [
            "Escherichia", "coli", "80%", "8", "20%", "2", "10",
        ]  # fmt: skip
        assert HOSTILE in page.get_by_role("region", name="Warnings").or_(page.locator("#warnings")).first.inner_text()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_every_text_stands_out_from_what_is_behind_it(browser, few, dark):
    with opened(browser, few.as_uri(), dark=dark) as seen:
        poor = seen.page.evaluate(CONTRASTS)
    assert poor == []


def test_table_is_sorted_from_the_keyboard(browser, few):
    with opened(browser, few.as_uri()) as seen:
        page = seen.page
        region = page.get_by_role("region", name="All classes")
        head = region.get_by_role("columnheader", name="Reads")
        assert head.get_attribute("aria-sort") is None
        head.get_by_role("button").focus()
        page.keyboard.press("Enter")
        assert rows(page) == [LABELS[0], LABELS[1], HOSTILE]
        assert head.get_attribute("aria-sort") == "descending"
        page.keyboard.press("Space")
        assert rows(page) == [HOSTILE, LABELS[1], LABELS[0]]
        assert head.get_attribute("aria-sort") == "ascending"
        page.keyboard.press("Shift+Tab")
        page.keyboard.press("Enter")
        assert head.get_attribute("aria-sort") is None, "one column at a time"
        assert region.locator("th[aria-sort]").inner_text().startswith("AUROC")
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid", "one sees where one is"
    assert seen.faults == []


def test_first_stop_of_the_tab_key_leads_past_the_contents(browser, few):
    with opened(browser, few.as_uri()) as seen:
        page = seen.page
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        assert page.evaluate("document.getElementById('content').contains(document.activeElement)")


def test_thousands_of_classes_are_filtered_and_counted(browser, many):
    with opened(browser, many.as_uri()) as seen:
        page = seen.page
        part = page.locator(".table-part", has=page.get_by_role("heading", name="All classes"))
        assert len(rows(page)) == 100, "so many at first"
        field = part.get_by_role("searchbox")
        field.focus()
        page.keyboard.type("genus437 SPECIES349")
        assert rows(page) == [f"Genus437 species{number}" for number in (3496, 3497, 3498, 3499)]
        status = part.get_by_role("status")
        page.wait_for_function("element => element.textContent === '4 of 3,500 classes'", arg=status.element_handle())
        part.get_by_role("button", name="F1").click()
        assert rows(page)[-1] == "Genus437 species3497", "what is filtered out stays out"
        field.fill("no such class")
        assert rows(page) == []
        field.fill("")
        part.get_by_role("button", name="Show all 3,500").click()
        assert len(rows(page)) == 3500
    assert seen.faults == []


def test_thousands_of_classes_are_sorted_as_numbers_and_as_names(browser, many):
    with opened(browser, many.as_uri()) as seen:
        page = seen.page
        part = page.locator(".table-part", has=page.get_by_role("heading", name="All classes"))
        part.get_by_role("button", name="Recall").click()
        part.get_by_role("button", name="Recall").click()
        assert rows(page)[0] == "Genus437 species3497", "the lowest of all rows, not of those that were shown"
        part.get_by_role("button", name="Class").click()
        assert rows(page)[:2] == ["Genus0 species0", "Genus0 species1"]
        assert rows(page)[99] == "Genus12 species99"


def test_the_confused_pair_among_thousands_is_named(browser, many):
    with opened(browser, many.as_uri()) as seen:
        region = seen.page.get_by_role("region", name="Most confused pairs")
        assert region.locator("tbody tr").count() == 1
        assert region.locator("tbody tr").inner_text().split("\t") == [
            "Genus437 species3497", "Genus437 species3498", "5", "100.00%",
        ]  # fmt: skip


def test_thousands_of_classes_take_little_room(many):
    assert many.stat().st_size < 1_500_000


def test_page_is_printed_in_black_on_white_without_what_needs_a_screen(browser, few, many):
    with opened(browser, many.as_uri(), dark=True) as seen:
        page = seen.page
        page.emulate_media(media="print", color_scheme="dark")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert not page.get_by_role("navigation").is_visible()
        assert page.get_by_role("searchbox").count() == 0
        assert page.get_by_text("The first 100 of 3,500 classes.").is_visible(), "paper says what is left out"
        pdf = page.pdf(format="A4")
    assert pdf.startswith(b"%PDF")
    pages = pdf.count(b"/Type /Page\n") + pdf.count(b"/Type/Page\n") + pdf.count(b"/Type /Page ")
    assert 2 < pages < 20


def test_without_scripts_every_row_is_there(browser, few):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(few.as_uri())
    assert rows(page) == LABELS
    assert page.get_by_role("searchbox").count() == 0, "nothing that would do nothing"
    context.close()


# Elements with text of their own whose colour has less than 4.5:1 against the nearest background above them
# (https://www.w3.org/TR/WCAG22/#contrast-minimum). The text of pictures is checked against the page.
CONTRASTS = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = colour => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const luminance = colour => {
    const [r, g, b] = colour.map(v => v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = element => {
    for (let at = element; at; at = at.parentElement) {
      const colour = rgba(getComputedStyle(at).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return [255, 255, 255, 255];
  };
  const poor = [];
  for (const element of document.querySelectorAll("body *")) {
    if (["SCRIPT", "STYLE"].includes(element.tagName) || !element.getClientRects().length) continue;
    if (![...element.childNodes].some(node => node.nodeType === 3 && node.textContent.trim())) continue;
    const style = getComputedStyle(element);
    const colour = rgba(element instanceof SVGElement ? style.fill : style.color);
    const [light, dark] = [luminance(colour), luminance(behind(element))].sort((a, b) => b - a);
    const ratio = (light + 0.05) / (dark + 0.05);
    if (ratio < 4.5) poor.push(`${element.textContent.trim().slice(0, 40)}: ${ratio.toFixed(2)}`);
  }
  return poor;
}"""
