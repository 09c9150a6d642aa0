"""The page in a browser: reads in, calls out, by mouse, by keyboard, in light and in dark."""

import csv
import gzip
import threading
import time

import pytest
from tests.browser import opened
from tests.serving.conftest import fasta

from metagene_classifier.serving.running import address_of, bound_socket, listen

HOSTILE = ">bad<img/src=x/onerror=alert(1)>\n" + "ACGT" * 12 + "\n>=1+1 x\nNNN\n"


@pytest.fixture
def page_of(served, browser):
    """The address of a server that runs in a thread."""
    started = []

    def made(**how):
        context = served(**how)
        here = context.__enter__()
        bound = bound_socket("127.0.0.1", 0)
        server = listen(here.app)
        thread = threading.Thread(target=lambda: server.run(sockets=[bound]), daemon=True)
        thread.start()
        started.append((context, server, thread))
        return address_of(bound)

    yield made
    for context, server, thread in started:
        server.stop()
        thread.join(10)
        context.__exit__(None, None, None)


def rows(page):
    return page.locator("#table tbody tr")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_pasted_reads_are_called(page_of, browser, dark):
    with opened(browser, page_of(), dark=dark) as seen:
        page = seen.page
        page.get_by_label("Paste FASTA or FASTQ").fill(fasta(5) + HOSTILE)
        page.get_by_role("button", name="Call reads").click()
        page.get_by_role("heading", name="Calls", exact=True).wait_for()
        assert rows(page).count() == 7
        assert [cell.inner_text() for cell in page.locator("#table tbody th").all()][:2] == ["read0", "read1"]
        assert page.locator("#table tbody th").nth(5).inner_text() == "bad<img/src=x/onerror=alert(1)>"
        assert "no bases" in rows(page).nth(6).inner_text()
        tiles = page.locator("#tiles").inner_text()
        assert "Reads\n7" in tiles and "Unclassified: no bases\n1" in tiles
        assert page.locator("#picture svg path").count() >= 2
        assert "phiX174" in page.locator("#picture .sunburst-list").inner_text()
        assert "tiny" in page.locator("#about").inner_text()
        assert page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches") is dark
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert colour == ("rgb(18, 22, 27)" if dark else "rgb(255, 255, 255)")
        assert seen.faults == []
        assert seen.foreign_requests() == []


def drop(page, *files):
    """Drop files on the page, as a hand with a mouse would."""
    held = page.evaluate_handle(
        """files => {
            const held = new DataTransfer();
            for (const [name, text] of files) held.items.add(new File([Uint8Array.from(text)], name));
            return held;
        }""",
        [[name, list(content)] for name, content in files],
    )
    page.dispatch_event("body", "dragover", {"dataTransfer": held})
    assert "over" in page.locator("#drop").get_attribute("class")
    page.dispatch_event("body", "drop", {"dataTransfer": held})
    assert "over" not in page.locator("#drop").get_attribute("class")


def test_a_dropped_file_is_called_and_downloaded(page_of, browser, tmp_path):
    with opened(browser, page_of()) as seen:
        page = seen.page
        drop(page, ("sample.fa.gz", gzip.compress(fasta(12).encode())))
        page.get_by_role("button", name="Call reads").click()
        page.get_by_role("heading", name="Calls", exact=True).wait_for()
        assert rows(page).count() == 12
        with page.expect_download() as downloading:
            page.get_by_role("link", name="csv").click()
        downloading.value.save_as(tmp_path / "calls.csv")
        assert downloading.value.suggested_filename == "sample.csv"
        with open(tmp_path / "calls.csv") as written:
            assert [row["read_id"] for row in csv.DictReader(written)] == [f"read{number}" for number in range(12)]
        page.get_by_role("button", name="Forget these reads now").click()
        page.locator("#result").wait_for(state="hidden")
        assert seen.faults == []


def test_two_dropped_files_are_pairs_in_the_order_of_their_names(page_of, browser):
    with opened(browser, page_of()) as seen:
        page = seen.page
        one, two = (fasta(3, seed=mate).replace(" of", f"/{mate} of").encode() for mate in (1, 2))
        drop(page, ("x_R2.fa", two), ("x_R1.fa", one))
        assert page.evaluate("[reads.files[0].name, mates.files[0].name]") == ["x_R1.fa", "x_R2.fa"]
        page.get_by_role("button", name="Call reads").click()
        page.get_by_role("heading", name="Calls", exact=True).wait_for()
        assert "Pairs\n3" in page.locator("#tiles").inner_text()
        assert rows(page).first.locator("th").inner_text() == "read0"
        drop(page, ("a", one), ("b", one), ("c", one))
        assert page.get_by_role("alert").inner_text() == "3 files were dropped: drop one, or the two of a pair."
        assert seen.faults == []


def test_all_of_it_by_keyboard(page_of, browser):
    """Tab, type, space and enter; no mouse."""
    with opened(browser, page_of()) as seen:
        page, keys = seen.page, seen.page.keyboard

        def tab_to(selector):
            for _ in range(60):
                keys.press("Tab")
                if page.evaluate("selector => document.activeElement.matches(selector)", selector):
                    return
            raise AssertionError(f"Tab does not come to {selector}")

        page.locator("#about", has_text="classes").wait_for()
        keys.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        tab_to("#text")
        keys.insert_text(fasta(130))
        tab_to("input[name=sure]")
        keys.press("ArrowDown")
        tab_to("#confidence")
        keys.press("Control+A")
        keys.type("0.55")
        tab_to("#send")
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid"
        keys.press("Enter")
        page.get_by_role("heading", name="Calls", exact=True).wait_for()
        assert page.evaluate("document.activeElement.id") == "result-title"
        assert "≥ 0.55" in page.locator("#tiles").inner_text()
        assert page.locator("#shown").inner_text() == "1–100 of 130 rows"
        tab_to("#filter")
        keys.type("read12")
        page.locator("#shown", has_text="11 rows (of 130)").wait_for()
        assert page.locator("#table tbody th").all_inner_texts()[:2] == ["read12", "read120"]
        keys.press("Control+A")
        keys.press("Delete")
        page.locator("#shown", has_text="1–100 of 130 rows").wait_for()
        tab_to("#on")
        keys.press("Enter")
        assert page.locator("#shown").inner_text() == "101–130 of 130 rows"
        while page.evaluate("document.activeElement.textContent") != "Confidence":
            keys.press("Tab")
        keys.press("Enter")
        assert page.locator("th[aria-sort]").inner_text() == "Confidence"
        assert page.locator("th[aria-sort]").get_attribute("aria-sort") == "descending"
        shown = [float(text) for text in page.locator("#table td.confidence").all_inner_texts()]
        assert len(shown) == 100 and shown == sorted(shown, reverse=True)
        keys.press("Space")
        shown = [float(text) for text in page.locator("#table td.confidence").all_inner_texts()]
        assert shown == sorted(shown)
        tab_to("#downloads a")
        with page.expect_download():
            keys.press("Enter")
        assert seen.faults == []


def test_faults_are_said_and_the_page_goes_on(page_of, browser):
    with opened(browser, page_of(max_bytes=5000)) as seen:
        page = seen.page
        page.locator("#about", has_text="classes").wait_for()
        send = page.get_by_role("button", name="Call reads")

        def told(text):
            page.get_by_label("Paste FASTA or FASTQ").fill(text)
            send.click()
            page.get_by_role("alert").wait_for()
            return page.get_by_role("alert").inner_text()

        assert told("") == "Paste reads, or choose a file."
        assert "5,000 bytes are taken at once" in told(fasta(200))
        assert seen.faults == []
        assert told("ACGT").startswith("reads: neither FASTA nor FASTQ")
        # The console's own line about a status of 422 is no fault of the page.
        assert [line for line in seen.faults if "422" not in line] == []
        page.get_by_label("Paste FASTA or FASTQ").fill(fasta(2))
        send.click()
        page.get_by_role("heading", name="Calls", exact=True).wait_for()
        assert page.get_by_role("alert").count() == 0


def test_a_request_can_be_stopped(page_of, browser, opened_model):
    let_go = threading.Event()

    def run(batch):
        let_go.wait(20)
        return opened_model.scorer.run(batch)

    with opened(browser, page_of(run=run)) as seen:
        page = seen.page
        page.get_by_label("Paste FASTA or FASTQ").fill(fasta(2))
        page.get_by_role("button", name="Call reads").click()
        page.get_by_role("button", name="Stop").click()
        page.get_by_text("Stopped.").wait_for()
        let_go.set()
        page.get_by_role("button", name="Call reads").click()
        page.get_by_role("heading", name="Calls", exact=True).wait_for()


def test_a_long_paste_is_quick(page_of, browser):
    with opened(browser, page_of()) as seen:
        page = seen.page
        page.evaluate(
            """text => {
                const held = new DataTransfer();
                held.setData("text/plain", text);
                const pasted = new ClipboardEvent("paste", {clipboardData: held, cancelable: true});
                document.getElementById("text").dispatchEvent(pasted);
            }""",
            fasta(1500, 200),
        )
        assert page.evaluate("document.getElementById('text').value.length") > 300_000
        started = time.monotonic()
        page.get_by_role("button", name="Call reads").click()
        page.get_by_role("heading", name="Calls", exact=True).wait_for()
        assert time.monotonic() - started < 15
        assert page.locator("#shown").inner_text() == "1–100 of 1,500 rows"
        assert seen.faults == []


def test_nothing_is_wider_than_a_narrow_window(page_of, browser):
    with opened(browser, page_of(), width=360) as seen:
        page = seen.page
        page.get_by_label("Paste FASTA or FASTQ").fill(fasta(5) + HOSTILE)
        page.get_by_role("button", name="Call reads").click()
        page.get_by_role("heading", name="Calls", exact=True).wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
