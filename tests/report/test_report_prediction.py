import numpy as np
import pytest
from tests.browser import opened
from tests.report.pages import Page

from metagene_classifier.calling.tree import ClassTree
from metagene_classifier.prediction.call import Call
from metagene_classifier.prediction.profile.estimate import estimate_profile
from metagene_classifier.prediction.profile.result import SampleResult
from metagene_classifier.prediction.profile.tally import SampleTally
from metagene_classifier.reads.labels import ClassLabel, Labels
from metagene_classifier.reads.taxonomy import Taxonomy
from metagene_classifier.report.prediction import write_prediction_report

HOSTILE = "</script><img src=x onerror=alert(1)>"
LABELS = Labels((ClassLabel("0", "Escherichia coli", 562), ClassLabel("1", "Salmonella enterica", 28901)))
TAXONOMY = (
    "taxid\tparent\trank\tname\n1\t1\tno rank\troot\n543\t1\tfamily\tEnterobacteriaceae\n"
    "561\t543\tgenus\tEscherichia\n562\t561\tspecies\tEscherichia coli\n"
    "590\t543\tgenus\tSalmonella\n28901\t590\tspecies\tSalmonella enterica\n"
)


@pytest.fixture
def tree(tmp_path):
    (tmp_path / "taxonomy.tsv").write_text(TAXONOMY)
    return ClassTree.of(LABELS, Taxonomy.load(tmp_path / "taxonomy.tsv"))


def sample(name, tree, *, bootstraps=20, **counts):
    """A sample with so many reads called at each taxon, all of 150 bases; those that are unclassified fell short."""
    places = {tree.label_of(taxon): taxon for taxon in range(1, len(tree))}
    calls = []
    for taxon, reads in counts.items():
        at = places.get(taxon.replace("_", " "), 0)
        best = int(np.flatnonzero(tree.taxon_of_class == at)[0]) if at in tree.taxon_of_class else 0
        reason = "" if at else "not sure enough"
        confidence = 0.95 if at else 0.3
        calls += [
            Call("r", "", None, "", confidence, 150, reason, np.ones(2, np.float32), at, best, (), ())
        ] * reads  # fmt: skip
    tally = SampleTally(tree)
    tally.add(calls)
    profile = estimate_profile(name, tally, tree, None, bootstraps=bootstraps, seed=0)
    return SampleResult(name, tally, tree, profile, f"{name}.fastq.gz")


def written(path, results, **given):
    write_prediction_report(path, results, facts={"Model": "runs/demo"}, **given)
    return Page.of(path)


def test_figures_of_one_sample_are_shown(tmp_path, tree):
    one = sample("influent", tree, Escherichia_coli=70, Salmonella_enterica=20, Enterobacteriaceae=5, none=5)
    page = written(tmp_path / "report.html", [one])
    texts = " ".join(page.texts)
    assert "Called 95.00% 95 reads" in texts
    assert "Unclassified 5.00% 5 reads" in texts
    assert "Bases 15,000" in texts
    assert "Classes found 2 of 2" in texts
    assert "not sure enough 5 5.00%" in texts
    assert "called above species" in page.texts, "as the five of the family are"
    assert "root" not in page.texts
    row = texts[texts.index("Enterobacteriaceae family 543") :].split()
    assert row[3:5] == ["95", "5"], "reads of the clade, and of the family itself"


def test_samples_stand_side_by_side(tmp_path, tree):
    results = [
        sample("monday", tree, Escherichia_coli=1500, none=500),
        sample("tuesday", tree, Salmonella_enterica=400, none=1600),
        sample("empty", tree),
    ]
    page = written(tmp_path / "report.html", results, calibrated=False)
    texts = " ".join(page.texts)
    assert "monday 2,000 75.00% 300,000" in texts
    assert "tuesday 2,000 20.00%" in texts
    assert "Sample tuesday: 80% of the reads are unclassified" in texts
    assert "Sample monday: " not in texts, "a quarter is no cause for a warning"
    assert "Sample empty has no reads." in page.texts
    assert "Sample tuesday has 400 called reads" in texts
    assert any("is not calibrated" in text for text in page.texts)


def test_a_sample_without_reads_has_a_report_too(tmp_path, tree):
    page = written(tmp_path / "report.html", [sample("empty", tree)])
    assert "This sample has no reads." in page.texts
    assert "Composition" not in page.texts


def test_more_samples_than_colours_are_told(tmp_path, tree):
    results = [sample(f"sample {number}", tree, Escherichia_coli=2000 + number) for number in range(70)]
    page = written(tmp_path / "report.html", results)
    texts = " ".join(page.texts)
    assert "The first 60 of 70 samples." in texts
    assert "The first 12 of 70 samples." in texts
    assert "sample 69 2,069 100.00%" in texts, "the table has all"


def test_without_a_taxonomy_classes_are_shown(tmp_path):
    flat = ClassTree.of(LABELS, None)
    page = written(tmp_path / "report.html", [sample("influent", flat, Escherichia_coli=3, none=1)])
    assert "Reads by class" in page.texts
    assert "Rank" not in page.texts
    assert "Lineage" not in page.texts


def test_names_are_shown_as_they_are_and_never_as_markup(tmp_path):
    labels = Labels((ClassLabel("0", HOSTILE, 562), ClassLabel("1", "b", None)))
    flat = ClassTree.of(labels, None)
    one = sample("influent", flat, **{HOSTILE: 3, "b": 1, "none": 1})
    other = SampleResult(
        HOSTILE, one.tally, flat, estimate_profile(HOSTILE, one.tally, flat, None, bootstraps=0), HOSTILE
    )
    page = written(tmp_path / "report.html", [one, other], title=HOSTILE, warnings=[HOSTILE])
    assert page.count("img") == 0
    assert page.texts.count(HOSTILE) > 5
    executed = [one for one in page.attributes("script") if one.get("type") != "application/json"]
    assert len(executed) == 2, "the page's and the sunburst's"


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_report_opens_in_a_browser_and_its_tables_are_picked_from(browser, tmp_path, tree, dark):
    results = [
        sample("monday", tree, Escherichia_coli=1500, Salmonella_enterica=100, none=500),
        sample("tuesday", tree, Salmonella_enterica=400, none=100),
    ]
    path = tmp_path / "report.html"
    written(path, results)
    with opened(browser, path.as_uri(), dark=dark) as seen:
        page = seen.page
        part = page.locator(".table-part", has=page.get_by_role("heading", name="All taxa"))

        def rows():
            return [row.split("\t")[:4] for row in part.locator("tbody tr").all_inner_texts()]

        species = [
            ["Escherichia coli", "monday", "species", "562"],
            ["Salmonella enterica", "tuesday", "species", "28901"],
            ["Salmonella enterica", "monday", "species", "28901"],
        ]
        assert rows() == species, "species at first, the commonest first"
        part.get_by_role("combobox", name="Sample").focus()
        page.keyboard.type("tuesday")
        assert rows() == species[1:2]
        part.get_by_role("combobox", name="Rank").select_option("family")
        assert rows() == [["Enterobacteriaceae", "tuesday", "family", "543"]]
        assert part.get_by_role("status").inner_text() == "1 of 8 rows"
        assert page.locator(".sunburst").count() == 2
        assert page.locator(".sunburst svg").first.is_visible()
    assert seen.faults == []
    assert seen.requests == [path.as_uri()]
