import csv
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from itertools import product

import cv2
import numpy as np
import pytest
from conftest import ROOT, tiny_card, tiny_network
from fakes import fake_report

from qmmfl import cli, labels, pipeline, prose, results, weights
from qmmfl.cli import serving
from qmmfl.records import DiscCup, Eye, Fundus, Grade, Lesion, Oedema, Quality


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


def test_a_run_goes_on_where_nobody_reads_what_it_says(folder, tmp_path, tiny_folder, monkeypatch, capsys):
    unread, output = os.pipe()
    os.close(unread)
    with open(output, "w") as stdout, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stdout)
        status, _, rows = read(tmp_path, tiny_folder, folder, "--no-pdf", "--no-planes")
    assert (status, len(rows)) == (cli.REFUSED, 4), "broken.jpg is refused, and nothing else"
    assert "cannot write" not in capsys.readouterr().err


@pytest.mark.parametrize("gone", ["both into one", "none at all"])
def test_a_run_goes_on_where_its_progress_is_not_read_either(folder, tmp_path, tiny_folder, monkeypatch, gone):
    unread, output = os.pipe()
    os.close(unread)
    with open(output, "w") as stream, monkeypatch.context() as patch:
        for name in ("stdout", "stderr"):
            patch.setattr(sys, name, stream if gone == "both into one" else None)
        status, out, rows = read(tmp_path, tiny_folder, folder, "--no-pdf", "--no-planes")
    assert (status, len(rows)) == (cli.REFUSED, 4)
    assert (out / "summary.parquet").exists() == (find_spec("pyarrow") is not None)


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
    [
        [],
        ["read"],
        ["read", "x.jpg"],
        ["fly"],
        ["read", "x.jpg", "--out", "o", "--weights", "nowhere at all"],
        ["read", "x.jpg", "--out", "o", "--weights", f"{'w' * 300}/b"],
        ["read", ".", "--out", "o" * 300],
        ["read", "", "--out", "o"],
        ["read", "x.jpg", "--out", ""],
        ["explain", "x.jpg", "--finding", "DR", "--out", "o", "--weights", f"{'w' * 300}/b"],
        ["whatif", "x.jpg", "--out", "o", "--hide", "1", "1", "-5", "20"],
        ["weights", "verify", "--weights", ""],
        ["serve", "--auth-file", "nowhere.txt"],
        ["serve", "--auth-file", "."],
    ],
    ids=[
        "nothing",
        "no path",
        "no out",
        "unknown verb",
        "no such weights",
        "long weights",
        "long out",
        "empty path",
        "empty out",
        "explain long weights",
        "box without width",
        "empty weights",
        "no such users",
        "a folder of users",
    ],
)
def test_wrong_usage_is_2(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.jpg").touch()
    try:
        status = cli.main(arguments)
    except SystemExit as stop:
        status = stop.code
    assert status == cli.USAGE
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert "[Errno" not in said
    assert {path.name for path in tmp_path.iterdir()} == {"x.jpg"}


@pytest.mark.parametrize("verb", ["read", "explain", "whatif", "serve"])
def test_an_interrupt_while_weights_are_loaded_ends_in_one_line(verb, eye_file, tmp_path, monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "load", interrupted)
    monkeypatch.setattr(serving, "_check_address", lambda *_: None)
    out = ["--out", str(tmp_path / "out")]
    more = {"read": out, "explain": [*out, "--finding", "DR"], "whatif": [*out, "--without", "msi"], "serve": []}
    path = [] if verb == "serve" else [str(eye_file)]
    assert cli.main([verb, *path, *more[verb]]) == cli.INTERRUPTED
    assert capsys.readouterr().err.strip() == "qmmfl: stopped"


PROGRAM = """
import signal, socket, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a test run in the background has it ignored
sys.path.insert(0, {tests!r})
import fakes
from qmmfl import cli, pipeline

def load(*_):
    print("loading", flush=True)
    time.sleep({seconds})
    return fakes.FakePipeline()

pipeline.load = load
with socket.create_server(("127.0.0.1", 0)) as probe:
    port = probe.getsockname()[1]
sys.exit(cli.main(["serve", "--port", str(port)]))
"""


@pytest.mark.parametrize("serves", [False, True], ids=["loading", "serving"])
def test_control_c_ends_the_page_without_a_trace(serves):
    program = PROGRAM.format(tests=str(ROOT / "tests"), seconds=0 if serves else 60)
    command = [sys.executable, "-c", program]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    for line in child.stdout:
        if ("open http" if serves else "loading") in line:
            break
    child.send_signal(signal.SIGINT)
    _, told = child.communicate(timeout=60)
    assert child.returncode == cli.INTERRUPTED or (serves and child.returncode == cli.OK)  # to stop it is no fault
    assert "Traceback" not in told
    assert serves or told.strip() == "qmmfl: stopped"


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


def test_what_an_earlier_call_was_refused_is_no_fault_of_this_one(eye_file, tmp_path, tiny_folder, capsys):
    (tmp_path / "in").mkdir()
    bad, good = tmp_path / "in" / "bad.jpg", tmp_path / "good.png"
    bad.write_bytes(b"no photograph")
    good.write_bytes(eye_file.read_bytes())
    bare = ("--no-pdf", "--no-planes")
    assert read(tmp_path, tiny_folder, tmp_path / "in", *bare)[0] == cli.REFUSED
    status, _, rows = read(tmp_path, tiny_folder, good, *bare)
    assert (status, [row["status"] for row in rows]) == (cli.OK, ["refused", "ok"])
    assert "1 ok, 1 refused" in capsys.readouterr().err, "the table still holds it, and that is said"
    assert read(tmp_path, tiny_folder, good, *bare)[0] == cli.OK, "nothing to read"
    assert read(tmp_path, tiny_folder, tmp_path / "in", good, *bare)[0] == cli.REFUSED, "it is named again"
    bad.unlink()
    (tmp_path / "in" / "other.png").write_bytes(eye_file.read_bytes())
    assert read(tmp_path, tiny_folder, tmp_path / "in", *bare)[0] == cli.OK, "it is gone"


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


def test_what_weights_learnt_from_is_shown(tmp_path, capsys):
    learnt = {"data": ({"name": "odir5k", "terms": "research"},), "counts": {"DR": {"train": 812}}}
    weights.save(tmp_path, tiny_network(), tiny_card(**learnt))
    assert cli.main(["weights", "show", "--weights", str(tmp_path)]) == cli.OK
    shown = json.loads(capsys.readouterr().out)
    assert (tuple(shown["data"]), shown["counts"]) == tuple(learnt.values())


def test_summary_has_a_column_for_every_cell(tiny_pipeline, eye):
    row = results.summarise(tiny_pipeline(eye.photograph))
    assert set(row) <= set(results.SUMMARY_COLUMNS)
    left = set(results.SUMMARY_COLUMNS) - set(row)
    assert left == {"input", "status", "folder", "stamp"}, "what the run knows"
    assert sum(row[f"p_grade_{grade}"] for grade in range(5)) == pytest.approx(1, abs=1e-4)


def test_every_cell_of_the_summary_is_its_own_value_and_0_is_no_empty_cell():
    """No eye is read like this: the values differ so that none can stand in another's place unseen."""
    calls = tuple(product((None, False, True), repeat=2))  # suspected, undecided
    report = fake_report(planes=False)
    findings = tuple(
        replace(each, probability=number / 90, suspected=calls[number % 9][0], undecided=calls[number % 9][1])
        for number, each in enumerate(report.findings)
    )
    report = replace(
        report,
        photograph=replace(report.photograph, sha256="a" * 64, notes=("It is small.", "It is grey.")),
        eye=Eye("left", "truth"),
        quality=Quality(False, 0.25, ("It is dark.", "It is blurred."), 0.9, True),
        fundus=Fundus(True, 0.75),
        findings=findings,
        dr=Grade((0.4, 0.3, 0.15, 0.1, 0.05), 0, True, False, None, 0.4, False, True),
        dme=Oedema(True, 0.123456789, 0.6, False),
        disc_cup=DiscCup(0.82, 0.06, 66.0, 54.0),
        lesions={"MA": Lesion(0, 0.0), "HE": Lesion(3, 0.1), "EX": Lesion(None, None), "SE": Lesion(7, 0.2)},
        provenance=replace(report.provenance, weights_sha256="b" * 64, package_version="1.2"),
    )
    conflicts = list(prose.conflicts(report).values())
    assert conflicts
    word = {False: "0", True: "1", None: ""}
    expected = {
        "reason": "It is dark. It is blurred.",
        "notes": "It is small. It is grey.",
        "conflicts": " ".join(conflicts),
        "sha256": "a" * 64,
        "side": "left",
        "gradable": "0",
        "quality": "0.25",
        "quality_doubtful": "1",
        "fundus": "1",
        "dr_grade": "0",
        "p_grade_0": "0.4",
        "p_grade_1": "0.3",
        "p_grade_2": "0.15",
        "p_grade_3": "0.1",
        "p_grade_4": "0.05",
        "more_than_mild_by_grade": "1",
        "vision_threatening_by_grade": "0",
        "undecided_more_than_mild": "0",
        "undecided_vision_threatening": "1",
        "dme_probability": "0.123457",
        "vcdr": "0.82",
        "lesions_MA": "0",
        "lesions_HE": "3",
        "lesions_EX": "",
        "lesions_SE": "7",
        **{f"p_{code}": f"{round(number / 90, 6)}" for number, code in enumerate(labels.FINDINGS)},
        **{f"suspected_{code}": word[calls[number % 9][0]] for number, code in enumerate(labels.FINDINGS)},
        **{f"undecided_{code}": word[calls[number % 9][1]] for number, code in enumerate(labels.FINDINGS)},
        "suspected_DME": "0",
        "undecided_DME": "",
        "weights_sha256": "b" * 64,
        "package_version": "1.2",
    }
    assert {name: str(cell) for name, cell in results.summarise(report).items()} == expected
    swollen = results.summarise(replace(report, dme=Oedema(True, 0.7, 0.6, True, undecided=False)))
    assert (str(swollen["suspected_DME"]), str(swollen["undecided_DME"])) == ("1", "0")


def test_what_is_withheld_is_an_empty_cell():
    row = results.summarise(fake_report(gradable=False, planes=False))
    given = {"reason", "sha256", "gradable", "quality", "fundus", "weights_sha256", "package_version"}
    assert {name for name, cell in row.items() if cell != ""} == given
    assert str(row["gradable"]) == "0"


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
