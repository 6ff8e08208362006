import csv
import json
from dataclasses import replace

import cv2
import numpy as np
import pytest

from qmmfl import cli, labels, results


@pytest.fixture
def folder(tmp_path, eye_file):
    """Two good eyes of the same stem, a black one, a broken one and a text file."""
    source = tmp_path / "in"
    (source / "a").mkdir(parents=True)
    good = eye_file.read_bytes()
    (source / "eye.png").write_bytes(good)
    cv2.imwrite(str(source / "a" / "eye.jpg"), cv2.imread(str(eye_file))[:, ::-1])
    cv2.imwrite(str(source / "black.png"), np.zeros((300, 300, 3), np.uint8))
    (source / "broken.jpg").write_bytes(good[: len(good) // 2])
    (source / "notes.txt").write_text("not looked at")
    return source


def read(tmp_path, tiny_folder, *arguments):
    out = tmp_path / "out"
    command = ["read", *map(str, arguments), "--out", str(out), "--weights", str(tiny_folder), "--device", "cpu"]
    status = cli.main(command)
    with (out / "summary.csv").open(newline="") as file:
        return status, out, list(csv.DictReader(file))


def test_a_folder_is_read_and_a_bad_file_stops_nothing(folder, tmp_path, tiny_folder, capsys):
    status, out, rows = read(tmp_path, tiny_folder, folder)
    assert status == cli.REFUSED
    by_name = {row["input"].removeprefix(str(folder) + "/"): row for row in rows}
    assert {name: row["status"] for name, row in by_name.items()} == {
        "a/eye.jpg": "ok",
        "black.png": "ungradable",
        "broken.jpg": "refused",
        "eye.png": "ok",
    }
    assert "broken.jpg" in by_name["broken.jpg"]["reason"]
    assert "Traceback" not in capsys.readouterr().err
    folders = {row["folder"] for row in rows if row["folder"]}
    assert len(folders) == 3, "equal stems must not overwrite each other"
    for name in folders:
        report = json.loads((out / name / "report.json").read_text())
        assert report["schema"] == 1
        assert (out / name / "report.pdf").read_bytes().startswith(b"%PDF")
    assert by_name["black.png"]["p_DR"] == ""
    assert 0 <= float(by_name["eye.png"]["p_DR"]) <= 1
    assert by_name["eye.png"]["p_CSR"] == "", "not assessed is empty, never 0"


def test_planes_are_grey_pictures_of_the_photograph_s_size(eye_file, eye, tmp_path, tiny_folder):
    status, out, rows = read(tmp_path, tiny_folder, eye_file, "--no-pdf")
    assert status == cli.OK
    planes = sorted((out / rows[0]["folder"] / "planes").glob("*.png"))
    assert {path.stem for path in planes} == set(labels.PLANES)
    for path in planes:
        plane = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert plane.dtype == np.uint8
        assert plane.shape == eye.photograph.shape[:2]


def test_parts_can_be_left_out(eye_file, tmp_path, tiny_folder):
    status, out, rows = read(tmp_path, tiny_folder, eye_file, "--no-planes", "--no-pdf")
    assert status == cli.OK
    assert [path.name for path in (out / rows[0]["folder"]).iterdir()] == ["report.json"]


def test_missing_path_is_refused_not_fatal(eye_file, tmp_path, tiny_folder):
    status, _, rows = read(tmp_path, tiny_folder, tmp_path / "gone.jpg", eye_file, "--no-pdf", "--no-planes")
    assert status == cli.REFUSED
    assert [row["status"] for row in rows] == ["refused", "ok"]


@pytest.mark.parametrize(
    "arguments",
    [[], ["read"], ["read", "x.jpg"], ["fly"], ["read", "x.jpg", "--out", "o", "--weights", "nowhere at all"]],
    ids=["nothing", "no path", "no out", "unknown verb", "no such weights"],
)
def test_wrong_usage_is_2(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    try:
        status = cli.main(arguments)
    except SystemExit as stop:
        status = stop.code
    assert status == cli.USAGE
    assert "Traceback" not in capsys.readouterr().err


def test_empty_folder_is_said(tmp_path, tiny_folder, capsys):
    (tmp_path / "empty").mkdir()
    arguments = ["read", str(tmp_path / "empty"), "--out", str(tmp_path / "o"), "--weights", str(tiny_folder)]
    assert cli.main(arguments) == cli.USAGE
    assert "no photograph" in capsys.readouterr().err


def test_what_was_refused_is_tried_again(eye_file, tmp_path, tiny_folder):
    arguments = [str(tmp_path / "late.jpg"), "--no-pdf", "--no-planes"]
    assert read(tmp_path, tiny_folder, *arguments)[0] == cli.REFUSED
    (tmp_path / "late.jpg").write_bytes(eye_file.read_bytes())
    status, _, rows = read(tmp_path, tiny_folder, *arguments)
    assert (status, [row["status"] for row in rows]) == (cli.OK, ["ok"])


def test_results_are_not_written_among_the_photographs(folder, tiny_folder, capsys):
    before = sorted(folder.rglob("*"))
    arguments = ["read", str(folder), "--out", str(folder / "."), "--weights", str(tiny_folder)]
    assert cli.main(arguments) == cli.USAGE
    assert "results cannot lie in a folder that is read" in capsys.readouterr().err
    assert sorted(folder.rglob("*")) == before


def test_weights_show_and_verify(tiny_folder, capsys):
    assert cli.main(["weights", "verify", "--weights", str(tiny_folder)]) == cli.OK
    assert "matches its card" in capsys.readouterr().out
    assert cli.main(["weights", "show", "--weights", str(tiny_folder)]) == cli.OK
    shown = json.loads(capsys.readouterr().out)
    assert "CSR" in shown["Not assessed"]
    assert shown["SHA-256"]


def test_summary_has_a_column_for_every_cell(tiny_pipeline, eye):
    row = results.summarise(tiny_pipeline(eye.photograph))
    assert set(row) <= set(results.SUMMARY_COLUMNS)
    left = set(results.SUMMARY_COLUMNS) - set(row)
    assert left == {"input", "status", "folder"}, "what the run knows"
    assert sum(row[f"p_grade_{grade}"] for grade in range(5)) == pytest.approx(1, abs=1e-4)


def test_a_row_carries_what_a_reader_would_be_told(tiny_pipeline, eye):
    report = tiny_pipeline(eye.photograph)
    first = replace(report.findings[0], undecided=True)
    noted = replace(report.photograph, notes=("Strongly compressed.", "Which eye is it?"))
    row = results.summarise(replace(report, photograph=noted, findings=(first, *report.findings[1:])))
    assert row["notes"] == "Strongly compressed. Which eye is it?"
    large = replace(report.disc_cup, vcdr=0.9)
    cup = replace(report.finding("ODC"), suspected=False, probability=0.1)
    others = tuple(cup if each.code == "ODC" else each for each in report.findings)
    odd = replace(report, disc_cup=large, findings=others)
    assert "The cup-to-disc ratio (0.90) is large" in results.summarise(odd)["conflicts"]
    assert "large" in results.to_json(odd)["conflicts"]["ODC"]
    assert row[f"undecided_{first.code}"] == 1
