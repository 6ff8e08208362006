"""A network that fails costs what is built on it and nothing else: the report is partial and says why."""

import csv
import json
import logging
import re
from contextlib import contextmanager
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from conftest import tiny_card, tiny_network

from qmmfl import atlas, cli, evidence, explain, labels, pipeline, prose, results, runs, screening, stages
from qmmfl.prose import markup, sentences, wording

BAND = labels.MSI.title


def fail(error):
    def hook(*_):
        raise error

    return hook


def spoil(value):
    def hook(module, seen, made):
        made = made.clone()
        made[..., 3, 3] = value
        return made

    return hook


FAULTS = {
    "fault": (fail(RuntimeError("secret of Doe_John")), "the network failed (RuntimeError)"),
    "memory of a GPU": (fail(torch.OutOfMemoryError("x")), "memory ran out"),
    "memory": (fail(MemoryError()), "memory ran out"),
    "memory of a processor": (lambda *_: torch.empty(1 << 60), "memory ran out"),
    "nan": (spoil(float("nan")), "no numbers"),
    "infinity": (spoil(float("inf")), "no numbers"),
    "minus infinity": (spoil(-float("inf")), "no numbers"),
}
PLACES = {
    BAND: lambda network: network.synthesis[labels.MSI.name],
    labels.DISC_CUP.title: lambda network: network.synthesis[labels.DISC_CUP.name],
    stages.FUSION_STAGE: lambda network: network.fusion,
    f"{stages.FUSION_STAGE}: an encoder": lambda network: network.encoders[labels.COLOUR.name],
}


@pytest.fixture(scope="module")
def reader():
    return pipeline.Pipeline(tiny_network(), tiny_card(sha256="a" * 64), "test", "cpu")


@contextmanager
def broken(reader, place=BAND, fault="fault"):
    handle = PLACES[place](reader.runtime.network).register_forward_hook(FAULTS[fault][0])
    try:
        yield
    finally:
        handle.remove()


@pytest.fixture(scope="module")
def whole(reader, eye):
    return reader(eye.photograph)


@pytest.fixture(scope="module")
def partial(reader, eye):
    with broken(reader):
        return reader(eye.photograph)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("place", PLACES)
def test_a_stage_that_fails_gives_a_partial_report_and_the_next_is_whole(reader, eye, whole, place, fault, caplog):
    told = []
    with caplog.at_level(logging.ERROR), broken(reader, place, fault):
        report = reader(eye.photograph, lambda done, total, stage: told.append(stage))
    stage = place.partition(": ")[0]
    assert list(report.failures) == [stage]
    assert FAULTS[fault][1] in report.failures[stage]
    assert report.failures[stage].startswith(f"{stage}: ")
    assert "read the photograph again" in report.failures[stage], "the cure"
    assert report.quality.reasons == (report.failures[stage],)
    assert "Doe_John" not in caplog.text + json.dumps(report.to_dict())
    assert f"{stage}: " in caplog.text
    mark = re.search(r"reference (\w{6})", report.failures[stage])
    assert mark is None or f"reference {mark[1]}, {stage}: " in caplog.text, "the log has the place in the code"
    assert (mark is None) == ("memory" in FAULTS[fault][1])

    lost = next((m.planes for m in labels.SYNTHESES if m.title == stage), ())
    values = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert {name for name, plane in values["planes"].items() if plane is None} == set(lost)
    assert set(report.planes) == set(labels.PLANES) - set(lost)
    for name, plane in report.planes.items():
        assert np.array_equal(plane.square, whole.planes[name].square), "the other planes are as ever"
    assert all(finding.probability is None and finding.suspected is None for finding in report.findings)
    assert all("incomplete" in finding.reason for finding in report.findings if finding.assessed)
    assert (report.dr.grade, report.dme.probability, report.disc_cup.vcdr, report.quality.score) == (None,) * 4
    assert report.fundus.is_fundus is None
    assert all(lesion.count is None for lesion in report.lesions.values())
    assert (report.maps, report.contributions, report.features) == ({}, {}, None)
    assert told[-1] == stages.MEASURE_STAGE
    assert (stages.FUSION_STAGE in told) == (stage == stages.FUSION_STAGE), "the fusion wants every modality"
    assert reader(eye.photograph).to_dict()["findings"] == whole.to_dict()["findings"]


def test_an_input_that_cannot_be_made_leaves_no_plane(reader, eye, monkeypatch):
    monkeypatch.setattr(reader.runtime.network, "prepare", fail(MemoryError()))
    report = reader(eye.photograph)
    assert list(report.failures) == [stages.INPUT_STAGE]
    assert set(report.to_dict()["planes"].values()) == {None}
    assert not report.planes


def test_several_failures_are_all_said(reader, eye):
    with broken(reader, fault="nan"), broken(reader, labels.DISC_CUP.title, "memory"):
        report = reader(eye.photograph, override=True)
    assert set(report.failures) == {BAND, labels.DISC_CUP.title}
    assert report.finding("DR").probability is None, "nothing can be overridden"
    assert report.eye.side is None


def test_a_head_that_is_no_number_withholds(eye):
    network = tiny_network()
    network.heads.bias[0] = float("nan")
    report = pipeline.Pipeline(network, tiny_card(), "test", "cpu")(eye.photograph)
    assert "no numbers" in report.failures[stages.FUSION_STAGE]


@pytest.mark.parametrize("error", [KeyError("x"), TypeError("x"), KeyboardInterrupt()], ids=repr)
def test_a_fault_of_ours_is_not_mistaken_for_a_network_s(reader, eye, error):
    handle = PLACES[BAND](reader.runtime.network).register_forward_hook(fail(error))
    with pytest.raises(type(error)):
        reader(eye.photograph)
    handle.remove()
    assert not reader(eye.photograph).failures, "and the lock is free"


def test_whoever_stops_the_reading_is_heard(reader, eye):
    def stop(done, total, stage):
        if done == 2:
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        reader(eye.photograph, stop)


def test_sentences_say_incomplete_and_not_ungradable(partial, whole):
    assert prose.headline(partial) == f"The analysis is incomplete ({BAND}); every prediction is withheld."
    assert dict(sentences.facts(partial))["Photograph"] == "Not judged, because the analysis is incomplete"
    assert "incomplete" in sentences.call(partial.finding("DR"))
    assert sentences.advice(partial) == wording.INCOMPLETE
    assert sentences.absence(partial, labels.MSI) == partial.failures[BAND]
    assert "None was computed" in sentences.absence(partial, labels.VESSELS)
    assert sentences.advice(whole) is None


def test_the_page_says_why_and_what_to_do(partial):
    assert wording.INCOMPLETE in markup.summary_html(partial)
    assert partial.failures[BAND] in markup.summary_html(partial)
    pictures = markup.planes_html(partial, labels.MSI, lambda name, picture, kind: name, 64)
    assert partial.failures[BAND] in pictures
    assert "<img" not in pictures


def test_paper_carries_the_reason(partial, monkeypatch):
    from qmmfl import draw
    from qmmfl.prose import paper

    written = []
    sheet = draw.sheet
    monkeypatch.setattr(draw, "sheet", lambda *given: written.append(given) or sheet(*given))
    monkeypatch.setattr(paper, "bind", lambda *given: b"%PDF")  # writing the file takes seconds
    assert prose.report_pdf(partial).startswith(b"%PDF")
    first = repr(written[0][3])
    for words in (partial.failures[BAND], wording.INCOMPLETE, prose.headline(partial)):
        assert words in first
    assert len(written[1][2]) == len(labels.PLANES) - len(labels.MSI.planes), "the appendix shows what there is"


def test_nothing_is_built_on_a_partial_report(reader, partial):
    with pytest.raises(explain.ExplanationError, match="was not analysed completely.*the network failed"):
        explain.explain(reader, partial, "DR")
    measured = evidence.measure(partial, {})
    assert measured.cup_to_disc.reason == "withheld: the analysis is incomplete"
    space = atlas.Space(*(np.zeros((2, 2), np.float32) for _ in range(5)))
    empty = atlas.Atlas("a" * 64, (), np.zeros(0, np.int8), np.zeros((0, 21), np.int8), {labels.FUSED: space})
    with pytest.raises(atlas.AtlasError, match="its analysis is incomplete"):
        empty.place(partial, labels.FUSED)


def test_a_folder_is_read_on_and_the_eye_has_its_row(reader, eye, tmp_path):
    """It is refused for now, with a partial report; the next time it is tried again, where it is asked for."""
    (tmp_path / "in").mkdir()
    for name in "abc":
        cv2.imwrite(str(tmp_path / "in" / f"{name}.png"), eye.photograph[..., ::-1])

    def read(photograph):
        if photograph.name != "b.png":
            return reader(photograph)
        with broken(reader):
            return reader(photograph)

    out, parts = tmp_path / "out", results.Parts(pdf=False)
    with runs.Run(out, "a" * 64, parts) as run:
        list(screening.screen(run.pending([tmp_path / "in"]), run, read))
    rows = table(out)
    assert [row["status"] for row in rows] == ["ok", "refused", "ok"]
    assert rows[1]["reason"].startswith(f"b.png: {BAND}: the network failed")
    assert rows[1]["p_DR"] == rows[1]["vcdr"] == ""
    values = json.loads((out / "b" / "report.json").read_text())
    assert list(values["failures"]) == [BAND]
    assert values["planes"]["msi_550"] is None
    kept = {path.stem for path in (out / "b" / "planes").iterdir()}
    assert kept == set(labels.PLANES) - set(labels.MSI.planes)

    with runs.Run(out, "a" * 64, parts, again=[tmp_path / "elsewhere"]) as run:
        assert run.counts == {"ok": 2, "refused": 1}
        assert list(run.pending([tmp_path / "in"])) == []
    assert table(out) == rows
    with runs.Run(out, "a" * 64, parts, again=[tmp_path / "in"]) as run:
        assert not (out / "b").exists()
        assert [row["status"] for row in screening.screen(run.pending([tmp_path / "in"]), run, reader)] == ["ok"]
        assert run.counts == {"ok": 3}
    assert table(out)[:2] == [rows[0], rows[2]]
    assert (table(out)[2]["input"], table(out)[2]["folder"]) == (rows[1]["input"], "b")


def test_measuring_fails_where_a_network_failed(reader, eye_file, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(pipeline, "load", lambda *_: reader)
    arguments = ["evidence", str(eye_file), "--out", str(tmp_path / "out")]
    with broken(reader):
        assert cli.main(arguments) == cli.REFUSED
    told = capsys.readouterr()
    assert f"{eye_file.name}: {BAND}: the network failed" in told.err
    assert told.out == ""
    assert cli.main(arguments) == cli.OK


def table(out):
    with (out / "summary.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_command_fails_where_a_network_failed_and_tries_the_eye_again(
    reader, eye_file, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(pipeline, "load", lambda *_: reader)
    command = ["read", str(eye_file), "--out", str(tmp_path / "out"), "--no-pdf", "--no-planes"]
    with broken(reader, fault="memory"):
        assert cli.main(command) == cli.REFUSED
    assert f"refused     {eye_file.name}: {BAND}: memory ran out" in capsys.readouterr().err
    assert cli.main(command) == cli.OK
    assert [row["status"] for row in table(tmp_path / "out")] == ["ok"]


def test_a_whole_report_has_no_failures(whole):
    assert whole.to_dict()["failures"] == {}
    assert replace(whole, planes={}).to_dict()["planes"] == {}
