"""Sample sheets as people write them, and everything that is wrong in one told at once."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metagene_classifier.errors import DataError
from metagene_classifier.reads.sample_sheet import Sample, read_sample_sheet, samples_of_inputs


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a_R1.fq", "a_R2.fq", "b_R1.fq", "b_R2.fq", "c.fq"):
        (tmp_path / name).write_text("@r\nACGT\n+\nIIII\n")
    (tmp_path / "reads").mkdir()
    return tmp_path


def sheet(folder: Path, text: str | bytes) -> Path:
    path = folder / "samples.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def problems(folder: Path, text: str) -> list[str]:
    with pytest.raises(DataError) as error:
        read_sample_sheet(sheet(folder, text))
    return str(error.value).replace(str(folder), "DIR").split("\n  ")


def test_pairs_and_single_reads_with_paths_beside_the_sheet(folder: Path) -> None:
    found = read_sample_sheet(sheet(folder, "sample,R1,R2\nlake,a_R1.fq,a_R2.fq\nsea,c.fq,\n"))
    assert found == [
        Sample("lake", ((folder / "a_R1.fq", folder / "a_R2.fq"),)),
        Sample("sea", ((folder / "c.fq", None),)),
    ]
    assert [one.paired for one in found] == [True, False]


def test_a_path_may_be_absolute_and_r2_left_out(folder: Path) -> None:
    found = read_sample_sheet(sheet(folder, f"sample,R1\nsea,{folder / 'c.fq'}\n"))
    assert found == [Sample("sea", ((folder / "c.fq", None),))]


def test_lines_of_one_sample_are_lanes_in_their_order(folder: Path) -> None:
    text = "sample,R1,R2\nlake,b_R1.fq,b_R2.fq\nsea,c.fq,\nlake,a_R1.fq,a_R2.fq\n"
    lake, sea = read_sample_sheet(sheet(folder, text))
    assert lake.name == "lake" and sea.name == "sea"
    assert [first.name for first, _ in lake.sources] == ["b_R1.fq", "a_R1.fq"]


@pytest.mark.parametrize(
    "text",
    [
        b"sample,fastq_1,fastq_2,strandedness\nlake,a_R1.fq,a_R2.fq,auto\n",  # nf-core
        b"\xef\xbb\xbfSample,r1,r2\r\nlake,a_R1.fq,a_R2.fq\r\n",  # Excel
        b"Sample;R1;R2\nlake;a_R1.fq;a_R2.fq\n",  # Excel where the comma is in numbers
        b"SAMPLE\tR1\tR2\nlake\ta_R1.fq\ta_R2.fq\n",
        b"\n  \n sample , R1 , R2 \n\n lake , a_R1.fq , a_R2.fq \n,,\n\n",
        b'"R2","sample","R1"\n"a_R2.fq","lake","a_R1.fq"',
    ],
    ids=["nf-core", "bom-crlf", "semicolons", "tabs", "spaces", "quotes"],
)
def test_other_spellings_of_the_same_sheet(folder: Path, text: bytes) -> None:
    assert read_sample_sheet(sheet(folder, text)) == [Sample("lake", ((folder / "a_R1.fq", folder / "a_R2.fq"),))]


def test_all_problems_are_told_at_once_with_their_lines(folder: Path) -> None:
    text = (
        "sample,R1,R2\n"
        "lake,a_R1.fq,a_R2.fq\n"
        "\n"
        "sea,nope.fq,reads\n"
        "pond,,b_R2.fq\n"
        "../moor,b_R1.fq,\n"
        "lake,c.fq,\n"
        "Lake,reads/../a_R1.fq,\n"
        ",,b_R2.fq\n"
        "fen,-,\n"
    )
    assert problems(folder, text) == [
        "DIR/samples.csv: 11 problems; no sample was begun:",
        "line 4: R1 nope.fq: no such file (looked for in DIR)",
        "line 4: R2 reads is a folder: give the file",
        "line 5: R2 without R1",
        "line 6: sample '../moor' begins with '.'",
        "line 7: sample 'lake' has single reads here and pairs in line 2: give them as two samples",
        "line 8: R1 reads/../a_R1.fq stands in line 2 already, as a_R1.fq",
        "line 8: sample 'Lake' differs from 'lake' in line 2 by its spelling alone: their files could have one name",
        "line 9: sample is empty",
        "line 9: R2 without R1",
        "line 9: R2 b_R2.fq stands in line 5 already",
        "line 10: R1 is standard input, which a sheet cannot name: give a file",
    ]


def test_a_single_problem_is_one_line(folder: Path) -> None:
    assert problems(folder, "sample,R1,R2\nlake,a_R1.fq,a_R1.fq\n") == [
        "DIR/samples.csv, line 2: R2 a_R1.fq stands in the same line already"
    ]


def test_paths_that_are_none(folder: Path) -> None:
    (folder / "loop").symlink_to(folder / "loop")
    text = f"sample,R1\na,loop\nb,nul\x00\nc,{'x' * 5000}\nd,c.fq/\ne,c.fq/more\n"
    told = problems(folder, text)
    assert [re.match(r"line \d", line)[0] for line in told[1:]] == ["line 2", "line 3", "line 4", "line 6"]


def test_a_cell_over_two_lines_does_not_shift_the_numbers(folder: Path) -> None:
    text = 'sample,R1,note\nlake,c.fq,"two\nlines"\nsea,nope.fq,\n'
    assert problems(folder, text) == ["DIR/samples.csv, line 4: R1 nope.fq: no such file (looked for in DIR)"]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("a/b", r"holds '/'"),
        ("a\\b", r"holds '\\\\'"),
        (".hidden", r"begins with '\.'"),
        ("-o", r"begins with '-'"),
        ("a\x00b", r"holds '\\x00'"),
        ("a:b*", r"holds '\*' ':'"),
        ("x" * 151, "more than 150 bytes"),
        ("ä" * 76, "more than 150 bytes"),
    ],
    ids=["slash", "backslash", "dot", "dash", "null", "several", "long", "long-utf8"],
)
def test_names_that_cannot_be_those_of_files(folder: Path, name: str, why: str) -> None:
    (line,) = problems(folder, f"sample,R1\n{name},c.fq\n")
    assert re.search(rf"line 2: sample .*{why}", line)


@settings(deadline=None)
@given(st.text(max_size=200))
def test_no_name_leads_out_of_the_output_folder(name: str) -> None:
    try:
        (sample,) = samples_of_inputs([f"dir/{name}.fq"])
    except DataError:
        return
    inside = Path("/out") / f"{sample.name}.csv"
    assert inside.parent == Path("/out") and ".." not in inside.parts and sample.name


def test_names_that_some_disks_do_not_tell_apart(folder: Path) -> None:
    (line,) = problems(folder, "sample,R1\nCafé,c.fq\nCAFE\u0301,a_R1.fq\n")
    assert "line 3: sample 'CAFE\u0301' differs from 'Café' in line 2 by its spelling alone" in line


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty: expected a header row: sample,R1,R2"),
        ("\n \n", "empty: expected a header row"),
        ("sample,R1\n", "no samples: only the header row stands in it"),
        ("lake,a_R1.fq\n", "line 1: no column 'sample' among lake, a_R1.fq"),
        ("samples,R1\n", "no column 'sample' among samples, R1: expected sample,R1,R2"),
        ("sample,R2\nlake,a\n", "line 1: no column 'R1' among sample, R2"),
        ("sample,R1,fastq_1\n", "line 1: two columns for R1"),
    ],
)
def test_sheets_that_are_none(folder: Path, text: str, message: str) -> None:
    assert message in problems(folder, text)[0]


def test_a_sheet_that_is_missing_a_folder_or_no_text(folder: Path) -> None:
    for path, message in (
        (folder / "none.csv", "no such file"),
        (folder / "reads", "is a folder: give the CSV file"),
        (sheet(folder, "sample,R1\n".encode("utf-16")), "not a CSV file in UTF-8"),
    ):
        with pytest.raises(DataError, match=message):
            read_sample_sheet(path)


def test_several_inputs_are_samples_by_their_names() -> None:
    found = samples_of_inputs(["x/lake.fastq.gz", "sea.v2.fa", "-"])
    assert [one.name for one in found] == ["lake", "sea.v2", "stdin"]
    assert found[0].sources == ((Path("x/lake.fastq.gz"), None),)
    assert samples_of_inputs(["-"]) == [Sample("stdin", ((Path("-"), None),))]


def test_inputs_that_would_share_a_name_are_all_told() -> None:
    with pytest.raises(DataError) as error:
        samples_of_inputs(["x/lake.fq", "y/Lake.fq.gz", "x/../x/lake.fq", "-", "-", ".fq"])
    message = str(error.value)
    assert "x/lake.fq and y/Lake.fq.gz would both be the sample 'Lake'" in message
    assert "x/lake.fq and x/../x/lake.fq are one file" in message
    assert "- is named twice" in message
    assert ".fq: sample is empty" in message
    assert message.endswith("rename files, or name the samples in a --sample-sheet")
