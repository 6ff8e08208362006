"""Many eyes: one stream that can be stopped anywhere, goes on, and loses or repeats nothing."""

import csv
import errno
import json
import os
import pickle
import signal
import subprocess
import sys
import time
import unicodedata
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import ROOT
from fakes import FakePipeline, fake_photograph, fake_report

from qmmfl import cli, cluster, hub, outputs, photograph, prose, results, runs, screening, weights

BARE = results.Parts(pdf=False, planes=False)
HASH = "f" * 64


class Stub(FakePipeline):
    """A network that takes no time; `broken` names the photographs that it fails on."""

    def __init__(self, broken=(), error=None):
        super().__init__()
        self.broken, self.failure, self.names = broken, error, []
        self._report = fake_report(planes=False)

    def __call__(self, photograph, progress=None):
        from dataclasses import replace

        self.names.append(photograph.name)
        if photograph.name in self.broken:
            raise self.failure
        return replace(self._report, photograph=photograph)


@pytest.fixture
def eyes(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for seed in range(6):
        cv2.imwrite(str(folder / f"eye{seed}.png"), fake_photograph(seed, 240, 230).pixels[..., ::-1])
    return folder


def screen(eyes, out, reader=None, parts=BARE, **settings):
    with runs.Run(out, settings.pop("sha256", HASH), parts, **settings) as run:
        return list(screening.screen(run.pending([eyes]), run, reader or Stub()))


def rows(out):
    with (out / "summary.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_eye_has_one_row_in_order(eyes, tmp_path):
    given = screen(eyes, tmp_path / "out")
    assert rows(tmp_path / "out") == given
    assert [Path(row["input"]).stem for row in given] == [f"eye{n}" for n in range(6)]
    assert all((tmp_path / "out" / row["folder"] / "report.json").is_file() for row in given)


def test_a_second_run_reads_nothing_again_and_takes_what_is_new(eyes, tmp_path):
    screen(eyes, tmp_path / "out")
    before = (tmp_path / "out" / "summary.csv").read_bytes()
    (eyes / "eye9.png").write_bytes((eyes / "eye0.png").read_bytes())
    again = Stub()
    screen(eyes, tmp_path / "out", again)
    assert again.names == ["eye9.png"]
    assert (tmp_path / "out" / "summary.csv").read_bytes().startswith(before)


@pytest.mark.parametrize("cut", [1, 2, 40, 700], ids=lambda n: f"{n} bytes short")
def test_a_torn_last_row_is_cut_off_and_its_eye_read_again(eyes, tmp_path, cut):
    whole = screen(eyes, tmp_path / "out")
    summary = tmp_path / "out" / "summary.csv"
    summary.write_bytes(summary.read_bytes()[:-cut])
    again = Stub()
    screen(eyes, tmp_path / "out", again)
    assert again.names == [f"eye{n}.png" for n in range(6)][-len(again.names) :]
    assert 1 <= len(again.names) <= 4
    assert rows(tmp_path / "out") == whole


@pytest.mark.slow
def test_any_torn_tail_is_repaired(eyes, tmp_path):
    (eyes / 'a "quoted",\nname.png').write_bytes((eyes / "eye0.png").read_bytes())
    whole = screen(eyes, tmp_path / "out")
    summary = tmp_path / "out" / "summary.csv"
    data = summary.read_bytes()
    for length in [*range(0, len(data), 97), len(data) - 1]:
        summary.write_bytes(data[:length])
        screen(eyes, tmp_path / "out")
        assert rows(tmp_path / "out") == whole, length
    for garbage in (b"\0" * 200_000, b"\xff\xfe\x80", b'"open quote\r\n'):
        summary.write_bytes(data + garbage)
        screen(eyes, tmp_path / "out")
        assert rows(tmp_path / "out") == whole


def test_a_table_that_a_spreadsheet_saved_is_not_read_anew(eyes, tmp_path):
    whole = screen(eyes, tmp_path / "out")
    summary = tmp_path / "out" / "summary.csv"
    summary.write_bytes(summary.read_bytes().replace(b"\r\n", b"\n"))  # as LibreOffice ends its lines
    again = Stub()
    assert screen(eyes, tmp_path / "out", again) == again.names == []
    assert rows(tmp_path / "out") == whole
    summary.write_bytes(summary.read_bytes()[:-1])
    assert len(screen(eyes, tmp_path / "out")) == 1, "the last row was torn after that"
    assert rows(tmp_path / "out") == whole


def test_a_row_that_was_spoiled_by_hand_costs_no_other(eyes, tmp_path):
    whole = screen(eyes, tmp_path / "out")
    summary = tmp_path / "out" / "summary.csv"
    lines = summary.read_bytes().splitlines(keepends=True)
    spoiled = b"".join([*lines[:3], b"a note of mine\r\n", *lines[3:]])
    summary.write_bytes(spoiled)
    with pytest.raises(runs.RunError, match="row 4 of summary.csv .* is of 1 instead of"):
        screen(eyes, tmp_path / "out")
    assert summary.read_bytes() == spoiled
    summary.write_bytes(b"".join([*lines[:3], b"\r\n", *lines[3:]]))
    again = Stub()
    assert screen(eyes, tmp_path / "out", again) == again.names == [], "an empty line is no row"
    assert rows(tmp_path / "out") == whole


def test_a_table_that_cannot_be_read_further_is_left_as_it_is(eyes, tmp_path):
    whole = screen(eyes, tmp_path / "out")
    summary = tmp_path / "out" / "summary.csv"
    given = summary.read_bytes()
    lines = given.splitlines(keepends=True)
    quoted = b"".join([*lines[:2], b'"' + lines[2], *lines[3:]])
    for spoiled in (given.replace(b"\r\n", b"\r"), quoted):  # as some programs end lines; a quote that stands open
        summary.write_bytes(spoiled)
        with pytest.raises(runs.RunError, match=r"(cannot be read from its byte \d+ on|is of \d+ instead of)"):
            screen(eyes, tmp_path / "out")
        assert summary.read_bytes() == spoiled
    summary.write_bytes(given)
    assert screen(eyes, tmp_path / "out") == []
    assert rows(tmp_path / "out") == whole


def test_a_folder_that_a_spreadsheet_made_a_number_of_loses_no_report(tmp_path):
    out, sources = tmp_path / "out", [tmp_path / name for name in ("a", "b")]
    for number, source in enumerate(sources):
        source.mkdir()
        cv2.imwrite(str(source / "001.png"), fake_photograph(number, 240, 230).pixels)
    screen(sources[0], out)
    summary = out / "summary.csv"
    summary.write_bytes(summary.read_bytes().replace(b",001,", b",1,"))
    before = (out / "001" / "report.json").read_bytes()
    with pytest.raises(runs.RunError, match="row 2 of summary.csv .* names the folder 1, which is not that of its"):
        screen(sources[1], out)
    assert (out / "001" / "report.json").read_bytes() == before


def test_a_table_that_is_replaced_while_it_is_written_ends_the_run(eyes, tmp_path):
    class Replacing(Stub):
        def __call__(self, photograph, progress=None):
            if photograph.name == "eye4.png":
                copy = tmp_path / "copy"
                copy.write_bytes(summary.read_bytes())
                copy.replace(summary)  # as LibreOffice saves
            return super().__call__(photograph, progress)

    summary = tmp_path / "out" / "summary.csv"
    with pytest.raises(runs.RunError, match="another program replaced .*; close it there"):
        screen(eyes, tmp_path / "out", Replacing())
    screen(eyes, tmp_path / "out")
    assert [Path(row["input"]).stem for row in rows(tmp_path / "out")] == [f"eye{n}" for n in range(6)]


def test_a_name_that_no_folder_can_have_is_refused_and_stops_nothing(eyes, tmp_path, monkeypatch):
    def write(folder, *rest):
        if folder.name == "eye2":
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return written(folder, *rest)

    written = results.write_report
    monkeypatch.setattr(results, "write_report", write)
    given = {Path(row["input"]).stem: row for row in screen(eyes, tmp_path / "out")}
    assert [stem for stem, row in given.items() if row["status"] == "refused"] == ["eye2"]
    assert given["eye2"]["reason"].endswith("rename the photograph and read it again.")


def test_a_kill_while_an_earlier_report_is_cleared_leaves_it_ours(eyes, tmp_path, monkeypatch):
    screen(eyes, tmp_path / "out", parts=results.Parts(pdf=True, planes=False))
    folder = tmp_path / "out" / "eye0"

    def killed(path, missing_ok=False):
        if path.name == results.PDF:
            raise KeyboardInterrupt
        return unlink(path, missing_ok)

    unlink = Path.unlink
    monkeypatch.setattr(Path, "unlink", killed)
    with pytest.raises(KeyboardInterrupt):
        results.remove_report(folder)
    assert outputs.is_ours(folder / results.REPORT)


def test_a_table_saved_with_a_mark_before_its_first_byte_is_gone_on_with(eyes, tmp_path):
    whole = screen(eyes, tmp_path / "out")
    summary = tmp_path / "out" / "summary.csv"
    summary.write_bytes(b"\xef\xbb\xbf" + summary.read_bytes())
    (eyes / "eye9.png").write_bytes((eyes / "eye0.png").read_bytes())
    again = Stub()
    screen(eyes, tmp_path / "out", again)
    assert again.names == ["eye9.png"]
    with summary.open(newline="", encoding="utf-8-sig") as file:
        assert list(csv.DictReader(file))[:-1] == whole
    assert len(screen(eyes, tmp_path / "out", restart=True)) == 7


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize(
    ("name", "text"),
    [("run.json", '{"mine": 1}'), ("summary.csv", "patient,hba1c\n1,7.2\n"), ("summary.parquet", "PAR1")],
)
def test_files_of_another_program_are_left_alone(eyes, tmp_path, name, text, restart):
    out = tmp_path / "out"
    out.mkdir()
    (out / name).write_text(text)
    if name == "summary.csv":
        (out / "run.json").write_text("# settings of mine")
    with pytest.raises(runs.RunError, match=f"holds a {name} of another program; name another folder with --out"):
        screen(eyes, out, restart=restart)
    assert (out / name).read_text() == text


def test_a_run_is_begun_anew_over_what_a_power_failure_left(eyes, tmp_path):
    out = tmp_path / "out"
    screen(eyes, out)
    with (out / "summary.csv").open("ab") as file:
        file.write(bytes(200_000))  # a file that had grown, and whose end was not written
    assert len(screen(eyes, out, restart=True)) == len(rows(out)) == 6


def test_a_report_that_was_not_finished_is_written_again(eyes, tmp_path):
    whole = screen(eyes, tmp_path / "out")
    (tmp_path / "out" / "eye5" / "report.json").unlink()
    summary = tmp_path / "out" / "summary.csv"
    summary.write_bytes(b"".join(summary.read_bytes().splitlines(keepends=True)[:-1]))
    screen(eyes, tmp_path / "out")
    assert rows(tmp_path / "out") == whole
    assert json.loads((tmp_path / "out" / "eye5" / "report.json").read_text())["input"]["name"] == "eye5.png"


@pytest.mark.parametrize(
    "error",
    [RuntimeError("x"), MemoryError(), ValueError("x"), ZeroDivisionError(), cv2.error("x"), AttributeError("x")],
    ids=repr,
)
def test_one_eye_that_fails_stops_nothing(eyes, tmp_path, error):
    given = screen(eyes, tmp_path / "out", Stub(broken=("eye2.png",), error=error))
    assert [row["status"] for row in given] == ["ok", "ok", "refused", "ok", "ok", "ok"]
    assert given[2]["reason"].startswith("Cannot read eye2.png: its analysis failed")
    assert not (tmp_path / "out" / "eye2").exists()


def test_a_number_that_is_none_is_refused_and_leaves_no_report(eyes, tmp_path):
    from dataclasses import replace

    class Odd(Stub):
        def __call__(self, photograph, progress=None):
            report = super().__call__(photograph)
            odd = replace(report.disc_cup, vcdr=float("nan"))
            return replace(report, disc_cup=odd) if photograph.name == "eye1.png" else report

    given = screen(eyes, tmp_path / "out", Odd())
    assert [row["status"] for row in given] == ["ok", "refused", "ok", "ok", "ok", "ok"]
    assert not (tmp_path / "out" / "eye1").exists()


def test_other_weights_or_options_are_refused_unless_begun_anew(eyes, tmp_path):
    out = tmp_path / "out"
    screen(eyes, out)
    (out / "eye1" / "mine.txt").write_text("kept")
    with pytest.raises(runs.RunError, match="other weights.*--restart"):
        screen(eyes, out, sha256="0" * 64)
    with pytest.raises(runs.RunError, match="other weights.*--restart"):
        screen(eyes, out, card="other thresholds")
    with pytest.raises(runs.RunError, match="other options.*--restart"):
        screen(eyes, out, parts=results.Parts(pdf=False))
    (eyes / "eye0.png").unlink()
    assert len(screen(eyes, out, sha256="0" * 64, restart=True)) == 5
    assert not (out / "eye0").exists(), "reports of the other weights are gone"
    assert (out / "eye1" / "mine.txt").exists(), "and nothing else is"


def test_another_runtime_or_version_is_refused_but_not_another_build_of_the_same(eyes, tmp_path, monkeypatch):
    out = tmp_path / "out"
    screen(eyes, out, runtime="openvino 2025.1.0 on cpu")
    assert screen(eyes, out, runtime="openvino 2026.2.1 on cpu") == []
    before = (out / "summary.csv").read_bytes()
    for runtime in ("torch 2.8.0+cpu on cpu", "openvino 2025.1.0 on npu"):
        with pytest.raises(runs.RunError, match=r"another runtime \(openvino on cpu\); .*--runtime.*--out.*--restart"):
            screen(eyes, out, runtime=runtime)
    with monkeypatch.context() as patch:
        patch.setattr(runs, "__version__", "0.0.9")
        with pytest.raises(runs.RunError, match="another version.*--restart"):
            screen(eyes, out, runtime="openvino 2025.1.0 on cpu")
    assert (out / "summary.csv").read_bytes() == before
    settings = json.loads((out / "run.json").read_text())
    older = {key: value for key, value in settings.items() if key not in ("runtime", "package_version")}
    (out / "run.json").write_text(json.dumps(older))
    with pytest.raises(runs.RunError, match="another version.*--restart"):  # it did not write down which
        screen(eyes, out, runtime="openvino 2025.1.0 on cpu")
    assert len(screen(eyes, out, runtime="torch 2.8.0+cpu on cpu", restart=True)) == 6


def test_the_command_line_goes_on_only_with_the_runtime_it_began_with(eyes, tmp_path, tiny_folder, monkeypatch, capsys):
    from qmmfl import pipeline

    class Named(Stub):
        def __init__(self, name):
            super().__init__()
            self.runtime.name = name

    made = []
    monkeypatch.setattr(pipeline, "load", lambda source, device, runtime: Named(f"{runtime} 1.0 on {device}"))
    monkeypatch.setattr(cluster, "screen", lambda _, run, make, address: made.append(make.args) or [])
    read = ["read", str(eyes), "--no-pdf", "--no-planes", "--weights", str(tiny_folder), "--out"]
    alone = ["--runtime", "torch", "--device", "cpu"]
    assert cli.main([*read, str(tmp_path / "o"), *alone]) == cli.OK
    for other in (["--runtime", "openvino", "--device", "cpu"], ["--runtime", "torch", "--device", "cuda"]):
        assert cli.main([*read, str(tmp_path / "o"), *other]) == cli.USAGE
        assert "another runtime (torch on cpu)" in capsys.readouterr().err
    assert cli.main([*read, str(tmp_path / "o"), *alone]) == cli.OK
    assert cli.main([*read, str(tmp_path / "c"), *alone, "--cluster", "local"]) == cli.OK
    assert cli.main([*read, str(tmp_path / "d"), "--cluster", "local"]) == cli.OK
    assert made[0][1:] == ("cpu", "torch")
    assert "auto" not in made[1], "all workers are told the same"
    for folder, (_, device, runtime) in zip("cd", made, strict=True):
        assert json.loads((tmp_path / folder / "run.json").read_text())["runtime"] == f"{runtime} on {device}"


def test_the_reports_of_a_cluster_say_which_weights_stand_in(eyes, tmp_path, tiny_folder, monkeypatch):
    def gone(*_):
        raise hub.Unreachable("the Hub does not answer")

    made = []
    monkeypatch.setattr(hub, "find", gone)
    monkeypatch.setattr(weights, "embedded", lambda: tiny_folder)
    monkeypatch.setattr(cluster, "screen", lambda _, run, make, address: made.append(make) or [])
    command = ["read", str(eyes), "--out", str(tmp_path / "o"), "--runtime", "torch", "--cluster", "local"]
    assert cli.main([*command, "--weights", "someone/eyes@main"]) == cli.OK
    worker = pickle.loads(pickle.dumps(made[0]))()
    said = worker(photograph.read(eyes / "eye0.png")).provenance.weights_source
    assert said == "embedded, because someone/eyes@main could not be fetched"


def test_parts_that_are_not_wanted_any_more_go(eyes, tmp_path):
    out = tmp_path / "out"
    screen(eyes, out, FakePipeline(), results.Parts(pdf=False))
    for name in ("report.pdf", "report.dcm", "mine.txt"):
        (out / "eye0" / name).write_text("of a run before")
    (out / "summary.csv").unlink()  # so that --restart does not know of the reports
    screen(eyes, out, restart=True)
    assert {path.name for path in (out / "eye0").iterdir()} == {"report.json", "mine.txt"}


def test_a_full_disk_leaves_no_half_file(tmp_path, monkeypatch):
    whole = Path.write_bytes

    def fill(path, data):
        whole(path, data[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fill)
    with pytest.raises(OSError, match="No space left"):
        results.place_text(tmp_path / "report.json", "a long text")
    assert not list(tmp_path.iterdir())


def test_results_of_another_version_are_refused(tmp_path):
    (tmp_path / "summary.csv").write_text("input,status\r\nx,ok\r\n")
    with pytest.raises(runs.RunError, match="another version"):
        runs.Run(tmp_path, HASH, BARE)


@pytest.mark.parametrize(
    ("text", "said"),
    [("[1]", "another program; .*--out"), ("{", "cannot be read; .*--restart"), ("null", "another program; .*--out")],
)
def test_settings_that_are_none_are_refused_with_the_cure(tmp_path, text, said):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(runs.RunError, match=said):
        runs.Run(tmp_path, HASH, BARE)


def other(path):
    """Another picture under the same path, older than the one before as a camera's card or a copy may have it."""
    path.write_bytes(cv2.imencode(".png", fake_photograph(99, 240, 230).pixels)[1].tobytes())
    os.utime(path, (10**9, 10**9))


def test_a_photograph_that_was_replaced_is_read_again_and_only_that_one(eyes, tmp_path, monkeypatch):
    out, opened, whole = tmp_path / "out", [], Path.open
    before = screen(eyes, out)
    other(eyes / "eye2.png")
    os.utime(eyes / "eye3.png")  # the same picture
    (eyes / "eye4.png").unlink()
    assert screen(eyes, out, again=[eyes / "eye1.png"]) == [], "it is not asked for"
    monkeypatch.setattr(Path, "open", lambda path, *more, **how: opened.append(path) or whole(path, *more, **how))
    with runs.Run(out, HASH, BARE, again=[eyes]):
        assert {path.name for path in opened if path.parent == eyes} == {"eye2.png", "eye3.png"}, "no other is hashed"
        assert not (out / "eye2").exists()
    again = Stub()
    (row,) = screen(eyes, out, again, again=[eyes])
    assert again.names == ["eye2.png"]
    assert row["folder"] == "eye2"
    assert row["sha256"] != before[2]["sha256"]
    assert json.loads((out / "eye2" / "report.json").read_text())["input"]["sha256"] == row["sha256"]
    assert rows(out) == [*before[:2], *before[3:], row]
    assert screen(eyes, out, again=[eyes]) == []


def test_a_photograph_whose_folder_was_closed_since_does_not_end_the_run(eyes, tmp_path, monkeypatch):
    out, closed, is_file = tmp_path / "out", eyes / "eye1.png", os.path.isfile
    assert len(screen(eyes, out)) == 6
    (eyes / "eye9.png").write_bytes((eyes / "eye0.png").read_bytes())
    stat = Path.stat

    def shut(path, *given, **options):
        if path == closed:
            raise PermissionError(errno.EACCES, "Permission denied")
        return stat(path, *given, **options)

    monkeypatch.setattr(Path, "stat", shut)
    monkeypatch.setattr(os.path, "isfile", lambda path: os.fspath(path) != os.fspath(closed) and is_file(path))
    with runs.Run(out, HASH, BARE, again=[closed]) as run:
        assert run.counts["ok"] == 6


def test_a_stop_while_an_old_report_is_forgotten_loses_nothing(eyes, tmp_path, monkeypatch):
    screen(eyes, tmp_path / "out")
    other(eyes / "eye2.png")
    with monkeypatch.context() as patch:
        patch.setattr(results, "placing", lambda _: (_ for _ in ()).throw(OSError(5, "power failed")))
        with pytest.raises(OSError, match="power failed"):
            screen(eyes, tmp_path / "out", again=[eyes])
    again = Stub()
    screen(eyes, tmp_path / "out", again, again=[eyes])
    assert again.names == ["eye2.png"]
    assert len(rows(tmp_path / "out")) == 6


def test_a_photograph_that_is_replaced_while_it_is_read_is_read_again(eyes, tmp_path):
    class Slow(Stub):
        def __call__(self, photograph, progress=None):
            if photograph.name == "eye1.png":
                other(eyes / "eye1.png")
            return super().__call__(photograph)

    screen(eyes, tmp_path / "out", Slow())
    again = Stub()
    screen(eyes, tmp_path / "out", again, again=[eyes])
    assert again.names == ["eye1.png"]


def test_a_photograph_is_the_same_by_its_whole_path_wherever_it_is_named(eyes, tmp_path, monkeypatch):
    """Two clinics have an eye of the same name, and each is read from within its own folder."""
    for seed, clinic in enumerate("ab"):
        (tmp_path / clinic).mkdir()
        (tmp_path / clinic / "001.png").write_bytes((eyes / f"eye{seed}.png").read_bytes())
        monkeypatch.chdir(tmp_path / clinic)
        screen(".", Path("../out"), again=["."])
    whole = rows(tmp_path / "out")
    assert [row["input"] for row in whole] == [str(tmp_path / clinic / "001.png") for clinic in "ab"]
    for row in whole:
        report = json.loads((tmp_path / "out" / row["folder"] / "report.json").read_text())
        assert report["input"]["sha256"] == row["sha256"], "the first clinic's report is not lost to the second"
    monkeypatch.chdir(tmp_path)
    for named in (Path("a"), Path("in/../b"), Path("b/001.png"), tmp_path / "a", tmp_path / "in" / ".." / "b"):
        assert screen(named, tmp_path / "out", again=[named]) == [], "no eye is counted twice"


@pytest.mark.parametrize("known", ["eye0.png", "in/../in/eye0.png"])
def test_rows_that_do_not_say_which_file_was_read_are_refused_with_the_cure(eyes, tmp_path, known):
    """As the version before wrote them, of a path that was typed without its folders."""
    out = tmp_path / "out"
    screen(eyes, out)
    before = (out / "summary.csv").read_bytes().replace(os.fsencode(eyes / "eye0.png"), known.encode())
    (out / "summary.csv").write_bytes(before)
    with pytest.raises(runs.RunError, match=r"another version, .* in which folders .*--out.*--restart"):
        screen(eyes, out, again=[eyes])
    assert (out / "summary.csv").read_bytes() == before
    assert len(list(out.glob("*/report.json"))) == 6, "nothing is lost"
    assert len(screen(eyes, out, restart=True)) == 6


def test_equal_photographs_of_equal_names_have_a_report_each(eyes, tmp_path):
    for name in "abc":
        (eyes / name).mkdir()
        (eyes / name / "eye0.png").write_bytes((eyes / "eye0.png").read_bytes())
    given = screen(eyes, tmp_path / "out")
    assert len({row["folder"] for row in given}) == len(given) == 9
    other(eyes / "b" / "eye0.png")
    screen(eyes, tmp_path / "out", again=[eyes])
    for row in rows(tmp_path / "out"):
        report = json.loads((tmp_path / "out" / row["folder"] / "report.json").read_text())
        assert report["input"]["sha256"] == row["sha256"]


def test_what_somebody_else_left_in_the_folder_of_results_stays(eyes, tmp_path, monkeypatch):
    out = tmp_path / "out"
    theirs = {
        out / "eye0" / "report.pdf": b"a letter",
        out / "eye1" / "report.json": b'{"of": "another program"}',
        out / "eye2": b"a file",
        out / "eye3" / "planes" / "disc.png": b"a picture",
    }
    for path, content in theirs.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (out / "eye4").symlink_to("nowhere")
    monkeypatch.setattr(prose, "report_pdf", lambda *_: b"%PDF-1.4")  # drawing takes seconds
    given = screen(eyes, out, FakePipeline(), results.Parts())
    assert [row["status"] for row in given] == ["ok"] * 6
    assert [len(row["folder"]) for row in given] == [len("eye0-12345678")] * 5 + [len("eye5")]
    assert {path: path.read_bytes() for path in theirs} == theirs
    (out / given[0]["folder"] / "mine.txt").write_text("kept")
    assert screen(eyes, out, parts=results.Parts(), again=[eyes]) == []
    assert [row["folder"] for row in screen(eyes, out, restart=True)][1:] == [row["folder"] for row in given][1:]
    assert {path: path.read_bytes() for path in theirs} == theirs


def test_half_a_report_is_written_again_in_its_own_folder(eyes, tmp_path, monkeypatch):
    """Whatever stops it: a killed run cannot clean up, which is why no part is written before the mark."""
    out, parts = tmp_path / "out", results.Parts(pdf=False)
    whole = results.write_planes

    def stop(folder, report):
        whole(folder, report)
        if folder.parent.name == "eye3":
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(results, "write_planes", stop)
        with pytest.raises(KeyboardInterrupt):
            screen(eyes, out, FakePipeline(), parts)
        assert not (out / "eye3").exists(), "nothing is left of a report that could not be finished"
        patch.setattr(results, "remove_report", lambda _: None)
        patch.setattr(Path, "unlink", lambda *_, **__: None)
        with pytest.raises(KeyboardInterrupt):
            screen(eyes, out, FakePipeline(), parts)
    assert {path.name for path in (out / "eye3").iterdir()} == {"planes", ".report.json.partial"}
    assert [row["folder"] for row in screen(eyes, out, FakePipeline(), parts)] == ["eye3", "eye4", "eye5"]
    assert {path.name for path in (out / "eye3").iterdir()} == {"planes", "report.json"}


FORMULAS = ("=HYPERLINK(x,y)", "+1", "-1", "@a", "'=b", "''+c", "'d")


def test_no_name_of_a_photograph_is_run_by_a_spreadsheet(eyes, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = [Path(f"{name}.png") for name in FORMULAS]
    for name in names:
        name.write_bytes((eyes / "eye0.png").read_bytes())
    with runs.Run(Path("out"), HASH, BARE) as run:
        given = list(screening.screen(run.pending(names), run, Stub()))
    assert [row["folder"] for row in given] == list(FORMULAS)
    held = rows(tmp_path / "out")
    assert not [cell for row in held for cell in row.values() if cell[:1] in ("=", "+", "-", "@")]
    assert [row["folder"] for row in held][:5] == [f"'{name}" for name in FORMULAS[:5]]
    assert held[-1]["folder"] == "'d", "nobody would run it"
    with runs.Run(Path("out"), HASH, BARE, again=names) as run:
        assert list(run.pending(names)) == [], "they are known again"
    other(names[0])
    with runs.Run(Path("out"), HASH, BARE, again=names) as run:
        assert list(run.pending(names)) == [tmp_path / names[0]]
        assert not (tmp_path / "out" / FORMULAS[0]).exists()
    runs.Run(Path("out"), HASH, BARE, restart=True).__exit__()
    assert {path.name for path in (tmp_path / "out").iterdir()} <= {"run.json", "summary.csv", ".lock"}


def test_a_table_of_types_needs_no_apostrophes(eyes, tmp_path, monkeypatch):
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.chdir(tmp_path)
    names = [Path(f"{name}.png") for name in FORMULAS]
    with runs.Run(Path("out"), HASH, BARE) as run:
        for name in names:
            name.write_bytes((eyes / "eye0.png").read_bytes())
        list(screening.screen(run.pending(names), run, Stub()))
    table = parquet.read_table(results.write_parquet(tmp_path / "out" / "summary.csv")).to_pylist()
    assert [row["folder"] for row in table] == list(FORMULAS)


def test_no_table_of_types_outlives_what_it_says(eyes, tmp_path):
    """A run that is stopped writes none: the one of before would still hold the eye that was replaced."""
    pytest.importorskip("pyarrow.parquet")
    out = tmp_path / "out"
    screen(eyes, out)
    table = results.write_parquet(out / "summary.csv")
    with pytest.raises(runs.RunError):
        screen(eyes, out, sha256="0" * 64)
    assert table.exists(), "of a folder that is refused nothing is lost"
    other(eyes / "eye2.png")
    with runs.Run(out, HASH, BARE, again=[eyes]):
        assert not table.exists()
    results.write_parquet(out / "summary.csv")
    (out / "summary.csv").unlink()
    with runs.Run(out, HASH, BARE):
        assert not table.exists()


def test_two_runs_in_one_folder_are_refused(eyes, tmp_path):
    with runs.Run(tmp_path / "out", HASH, BARE), pytest.raises(runs.RunError, match="another run"):
        runs.Run(tmp_path / "out", HASH, BARE)
    screen(eyes, tmp_path / "out")


def test_results_inside_the_folder_read_are_not_read(eyes):
    out = eyes / "results"
    for _ in range(2):
        screen(eyes, out, FakePipeline(), results.Parts(pdf=False))
    assert (out / "eye0" / "planes" / "cup.png").is_file()
    assert len(rows(out)) == 6


def test_equal_stems_names_that_collide_and_long_ones_stay_apart(tmp_path):
    folder = tmp_path / "in"
    names = ["a/eye.png", "b/eye.png", "b/EYE.png", "b/summary.csv.png", "b/eye..png", f"{'é' * 120}.png"]
    for seed, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        data = cv2.imencode(".png", fake_photograph(seed, 240, 230).pixels)[1].tobytes()
        (folder / name).write_bytes(data)
    given = screen(folder, tmp_path / "out")
    assert [row["status"] for row in given] == ["ok"] * 6
    assert len({row["folder"].casefold() for row in given}) == 6
    assert all((tmp_path / "out" / row["folder"] / "report.json").is_file() for row in given)
    assert rows(tmp_path / "out") == given


def test_names_that_some_systems_take_for_one_have_folders_of_their_own(tmp_path):
    """macOS does not tell how an accent is written, Windows drops dots and spaces from the end."""
    accents = [unicodedata.normalize(form, "André") for form in ("NFC", "NFD")]
    with runs.Run(tmp_path / "out", HASH, BARE) as run:
        given = [run.claim(tmp_path / f"{name}.jpg") for name in (*accents, "eye 1", "eye 1 ", "eye 1.", "...")]
    assert len({unicodedata.normalize("NFC", name).rstrip(" .") for name in given}) == 6
    assert all(name == name.rstrip(" .") for name in given), "Windows could not open what lies in such a folder"


def test_every_ending_of_a_jpeg_is_looked_for(tmp_path):
    names = ["a.jfif", "b.jpe", "c.JIF", "d.jpeg", "e.jpg"]
    for name in [*names, "f.txt"]:
        (tmp_path / name).touch()
    assert [path.name for path in results.find_photographs([tmp_path])] == names


def test_a_link_that_cannot_be_followed_is_refused_and_stops_nothing(eyes, tmp_path):
    (eyes / "loop.png").symlink_to("loop.png")
    given = screen(eyes, tmp_path / "out")
    assert [row["status"] for row in given] == ["ok"] * 6 + ["refused"]
    assert given[-1]["reason"].startswith("Cannot read loop.png: ")


def test_a_folder_that_can_only_be_listed_stops_nothing(eyes, tmp_path, monkeypatch):
    """It may not be entered; faked, since root, who may run this test, enters every folder."""

    def closed(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_dir", closed)
    monkeypatch.setattr(Path, "samefile", closed)
    assert list(results.find_photographs([eyes], eyes)) == [eyes], "for the reader to refuse"


def test_twins_of_macos_are_no_photographs_and_dicom_needs_no_ending(eyes, tmp_path, monkeypatch):
    (eyes / "._eye0.png").write_bytes(b"\0\5\x16\7 attributes of eye0.png")
    head = bytes(128) + b"DICM"
    for name in ("1.2.840.7", "DICOMDIR", "IM000001"):
        (eyes / name).write_bytes(head)
    for name in ("README", "notes.txt"):
        (eyes / name).write_text("no photograph")
    (eyes / "study").mkdir()
    (eyes / "study" / "IM000002").write_bytes(head + b"more")
    if hasattr(os, "mkfifo"):
        os.mkfifo(eyes / "PIPE")  # to open it would wait for ever
    pictures = [eyes / f"eye{n}.png" for n in range(6)]
    found = [eyes / "1.2.840.7", eyes / "IM000001", *pictures, eyes / "study" / "IM000002"]
    assert list(results.find_photographs([eyes])) == found
    twin = eyes / "._eye0.png"
    assert list(results.find_photographs([twin])) == [twin], "it is named itself, for the reader to refuse"


def test_what_was_thrown_away_or_is_hidden_is_read_only_where_it_is_named(eyes):
    places = (".Trash-1000/files", "$RECYCLE.BIN/S-1-5-21", "#recycle", "@eaDir/eye0.png", ".thumbnails")
    for place in places:
        (eyes / place).mkdir(parents=True)
        (eyes / place / "old.png").write_bytes((eyes / "eye0.png").read_bytes())
    (eyes / ".IM000001.x8Rq2W").write_bytes(bytes(128) + b"DICM")  # rsync has not copied all of it yet
    assert list(results.find_photographs([eyes])) == [eyes / f"eye{n}.png" for n in range(6)]
    named = eyes / ".thumbnails"
    assert list(results.find_photographs([named])) == [named / "old.png"]


@pytest.mark.skipif(sys.platform != "linux", reason="only here may a file have a name of any bytes")
def test_a_name_that_is_no_text_is_read(tmp_path, eyes):
    name = os.fsencode(eyes) + b"/caf\xe9.png"
    Path(os.fsdecode(name)).write_bytes((eyes / "eye0.png").read_bytes())
    for _ in range(2):
        screen(eyes, tmp_path / "out")
    assert [row["status"] for row in rows(tmp_path / "out")] == ["ok"] * 7


def test_a_path_named_twice_is_read_once(eyes, tmp_path):
    reader = Stub()
    with runs.Run(tmp_path / "out", HASH, BARE) as run:
        list(screening.screen(run.pending([eyes, eyes / "eye0.png", eyes]), run, reader))
    assert len(reader.names) == 6


def test_decoding_reading_and_writing_overlap(eyes, tmp_path, monkeypatch):
    """Each of the stages takes 80 ms for 6 eyes; one after the other would be 1.44 s."""
    stages = {}

    def slow(name, function):
        def call(*arguments):
            began = time.monotonic()
            result = function(*arguments)
            time.sleep(0.08)
            stages.setdefault(name, []).append((began, time.monotonic()))
            return result

        return call

    from qmmfl import photograph

    monkeypatch.setattr(photograph, "read", slow("decode", photograph.read))
    monkeypatch.setattr(results, "write_report", slow("write", results.write_report))
    screen(eyes, tmp_path / "out", slow("read", Stub()))
    for one, other in (("decode", "read"), ("read", "write")):
        together = sum(a < d and c < b for a, b in stages[one] for c, d in stages[other])
        assert together >= 4, (one, other)


def test_a_full_disk_is_said_and_the_run_goes_on_later(eyes, tmp_path, tiny_folder, monkeypatch, capsys):
    command = [
        "read",
        str(eyes),
        "--out",
        str(tmp_path / "o"),
        "--weights",
        str(tiny_folder),
        "--no-pdf",
        "--no-planes",
    ]
    whole, calls = results.write_report, []

    def fill(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        whole(*arguments)

    monkeypatch.setattr(results, "write_report", fill)
    assert cli.main(command) == cli.USAGE
    assert "No space left on device; make room" in capsys.readouterr().err
    assert len(rows(tmp_path / "o")) == 2
    assert cli.main(command) == cli.OK
    told = capsys.readouterr()
    assert "2 are read already" in told.err
    assert "6/6" not in told.err
    assert "4/4" in told.err, "progress is on standard error"
    assert len(told.out.splitlines()) == 4
    assert len(rows(tmp_path / "o")) == 6


def test_parquet_says_what_the_table_says(eyes, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    (eyes / "bad.png").write_bytes(b"no")
    screen(eyes, tmp_path / "out")
    table = parquet.read_table(results.write_parquet(tmp_path / "out" / "summary.csv")).to_pylist()
    for read, written in zip(table, rows(tmp_path / "out"), strict=True):
        for key, text in written.items():
            assert (
                read[key] is None
                if text == ""
                else float(text) == pytest.approx(read[key])
                if not isinstance(read[key], str)
                else text == read[key]
            )
    assert table[0]["p_DR"] is None
    assert isinstance(table[1]["p_DR"], float)


def test_numbers_that_a_spreadsheet_rewrote_end_no_run(eyes, tmp_path, tiny_folder, monkeypatch, capsys):
    pytest.importorskip("pyarrow")
    monkeypatch.setattr("qmmfl.pipeline.load", lambda *_: Stub())
    out = tmp_path / "o"
    command = ["read", str(eyes), "--out", str(out), "--no-pdf", "--no-planes", "--weights", str(tiny_folder)]
    assert cli.main(command) == cli.OK
    table = rows(out)
    for row in table:
        row["quality"] = row["quality"].replace(".", ",")
    with (out / "summary.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, results.SUMMARY_COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)
    assert cli.main(command) == cli.OK
    assert "no summary.parquet" in capsys.readouterr().err
    assert not (out / "summary.parquet").exists()
    assert rows(out) == table


PROGRAM = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a test run in the background has it ignored
sys.path.insert(0, {tests!r})
import fakes
from qmmfl import cli, pipeline

class Slow(fakes.FakePipeline):
    def __call__(self, photograph, progress=None):
        time.sleep(0.05)
        print("READ", photograph.name, flush=True)
        return fakes.fake_report(photograph, planes=False)

pipeline.load = lambda *_: Slow()
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=["killed", "interrupted"])
def test_a_run_that_is_stopped_goes_on_and_nothing_is_lost_or_repeated(tmp_path, eyes, number):
    for seed in range(6, 20):
        (eyes / f"eye{seed:02}.png").write_bytes((eyes / f"eye{seed % 6}.png").read_bytes())
    out = tmp_path / "out"
    program = [sys.executable, "-c", PROGRAM.format(tests=str(ROOT / "tests"))]
    command = [*program, "read", str(eyes), "--out", str(out), "--no-pdf", "--no-planes"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    for _ in child.stdout:
        if (out / "summary.csv").exists() and len(rows(out)) >= 7:
            break
    child.send_signal(number)
    _, told = child.communicate(timeout=30)
    if number == signal.SIGINT:
        assert child.returncode == cli.INTERRUPTED
        assert "the same command goes on" in told
        assert "Traceback" not in told
    done = {row["input"] for row in rows(out)}
    assert 6 <= len(done) < 20
    second = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert second.returncode == 0, second.stderr
    given = rows(out)
    assert len(given) == len({row["input"] for row in given}) == 20
    assert not [n for n in done if f"READ {Path(n).name}\n" in second.stdout], "an eye with a row is not read again"
    for row in given:
        assert json.loads((out / row["folder"] / "report.json").read_text())["input"]["sha256"] == row["sha256"]


def test_a_name_that_a_log_cannot_show_stops_nothing(tmp_path, eyes):
    (eyes / "eye0.png").rename(eyes / "眼底.png")
    (eyes / "eye1.png").rename(eyes / "坏.png")
    (eyes / "坏.png").write_bytes(b"no photograph")
    out = tmp_path / "out"
    program = [sys.executable, "-c", PROGRAM.format(tests=str(ROOT / "tests"))]
    command = [*program, "read", str(eyes), "--out", str(out), "--no-pdf", "--no-planes"]
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252"}
    done = subprocess.run(command, capture_output=True, cwd=ROOT, env=environment)
    assert done.returncode == cli.REFUSED, done.stderr
    assert b"Traceback" not in done.stderr
    assert b"\\u773c\\u5e95.png" in done.stdout
    assert b"Cannot read \\u574f.png" in done.stderr
    assert [Path(row["input"]).name for row in rows(out)][-2:] == ["坏.png", "眼底.png"]
    assert len(rows(out)) == 6


def resident() -> int:
    """Resident memory of this process [bytes]."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def slope(folder, out, count, parts, monkeypatch):
    """Growth of resident memory per eye [bytes], fitted over the second half of `count` eyes (links to a few)."""
    sources = sorted(folder.iterdir())
    many = out.parent / "many"
    many.mkdir()
    for number in range(count):
        os.link(sources[number % len(sources)], many / f"eye{number:05}.png")
    points = []
    reader = FakePipeline() if parts.planes or parts.pdf else Stub()
    reader.seen = reader.names = _Nothing()
    with runs.Run(out, HASH, parts) as run:
        for number, _ in enumerate(screening.screen(run.pending([many]), run, reader)):
            if number >= count // 2 and number % max(1, count // 100) == 0:
                points.append((number, resident()))
    assert run.counts == {"ok": count}
    return np.polyfit(*np.array(points, float).T, 1)[0]


class _Nothing(list):
    def append(self, value) -> None:
        pass


needs_proc = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="resident memory is read from /proc")


@pytest.mark.slow
@needs_proc
def test_memory_stays_flat(eyes, tmp_path, monkeypatch):
    assert slope(eyes, tmp_path / "out", 400, BARE, monkeypatch) < 20_000, "bytes for each eye"


@pytest.mark.soak
@needs_proc
def test_memory_stays_flat_over_ten_thousand_eyes(eyes, tmp_path, monkeypatch):
    """A row's name is kept (some hundred bytes); nothing else may be."""
    grown = slope(eyes, tmp_path / "out", 10_000, BARE, monkeypatch)
    print(f"resident memory grows by {grown:.0f} bytes for each eye")
    assert grown < 2_000


@pytest.mark.soak
@needs_proc
def test_memory_stays_flat_with_reports_and_planes(eyes, tmp_path, monkeypatch):
    grown = slope(eyes, tmp_path / "out", 200, results.Parts(), monkeypatch)
    print(f"resident memory grows by {grown:.0f} bytes for each eye")
    assert grown < 50_000
