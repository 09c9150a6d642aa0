"""``mgc merge`` as a user meets it."""

import pytest
from tests.prediction.shard_files import HEADER, write_shard, write_shards

from metagene_classifier.cli.main import main

ROWS = [f"r{number},a\n" for number in range(9)]
WHOLE = HEADER + "".join(ROWS)


@pytest.fixture
def mgc(capfd):
    def run(*words):
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([*map(str, words)])
        captured = capfd.readouterr()
        return ended.value.code, captured.out, captured.err

    return run


def test_shards_beside_the_output_become_it(mgc, tmp_path):
    write_shards(tmp_path, ROWS, 4)
    code, out, err = mgc("merge", "--output", tmp_path / "calls.csv")
    assert (code, out) == (0, "")
    assert err == f"4 reads without a base\n9 reads of 4 shards written to {tmp_path / 'calls.csv'}\n"
    assert (tmp_path / "calls.csv").read_text() == WHOLE


def test_named_shards_go_to_standard_output(mgc, tmp_path):
    code, out, err = mgc("merge", *write_shards(tmp_path, ROWS, 2), "--output", "-")
    assert (code, out) == (0, WHOLE)
    assert err.endswith("9 reads of 2 shards written to standard output\n")
    assert mgc("merge", "--output", "-")[0] == 2


def test_what_cannot_be_joined_is_one_line(mgc, tmp_path):
    output = tmp_path / "calls.csv"
    code, out, err = mgc("merge", "--output", output)
    assert (code, out, err.count("\n")) == (1, "", 1) and "no shards of" in err
    paths = write_shards(tmp_path, ROWS, 3)
    paths[1].with_name(f"{paths[1].name}.json").unlink()
    paths[1].unlink()
    code, _, err = mgc("merge", "--output", output)
    assert code == 1 and err == "mgc: error: 1 of 3 shards missing: 2: run them (again), as in --shard 2/3\n"
    assert not output.exists()


def test_shards_of_different_machines_are_joined_with_a_line(mgc, tmp_path):
    write_shard(tmp_path, ROWS, "1/2")
    write_shard(tmp_path, ROWS, "2/2", circumstances={"device": "NVIDIA H100", "tokens at once": 2048})
    code, _, err = mgc("merge", tmp_path, "--output", tmp_path / "calls.csv")
    assert code == 0
    assert "shards were computed differently (device: cpu, NVIDIA H100): scores may differ in their last digits" in err


def test_a_shard_is_not_written_over(mgc, tmp_path):
    paths = write_shards(tmp_path, ROWS, 2)
    before = paths[0].read_bytes()
    code, _, err = mgc("merge", *paths, "--output", paths[0])
    assert code == 1 and "would overwrite the input" in err
    assert paths[0].read_bytes() == before
