"""`qmmfl explain`: a folder of maps and one page of text, or one sentence."""

import io
import json
import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest
from conftest import tiny_card, tiny_network
from fakes import fake_report

from qmmfl import cli, dossier, evidence, explain, labels, laterality, leaflet, outputs, pipeline, weights
from qmmfl.explain.agreement import KEY
from qmmfl.prose import doubts
from qmmfl.prose import explanation as words
from qmmfl.records import Eye


def run(eye_file, tiny_folder, out, *more):
    given = ["explain", str(eye_file), "--out", str(out), "--weights", str(tiny_folder), "--device", "cpu", *more]
    try:
        return cli.main(given)
    except SystemExit as stop:
        return stop.code


def test_a_finding_is_explained_into_a_folder(eye_file, eye, tmp_path, tiny_folder):
    assert run(eye_file, tiny_folder, tmp_path / "out", "--finding", "dr") == cli.OK
    maps = {f"map_{name}.png" for name in labels.BY_NAME} | {"map.png", "map_values.png"}
    texts = {"map_values.npy", "explanation.json", "explanation.md", "explanation.pdf", "shares.png"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == maps | texts
    for name in maps:
        picture = cv2.imread(str(tmp_path / "out" / name), cv2.IMREAD_UNCHANGED)
        assert picture.shape[:2] == eye.photograph.shape[:2]
        assert picture.dtype == np.uint8
    values = json.loads((tmp_path / "out" / "explanation.json").read_text())
    assert sum(values["shares"].values()) == pytest.approx(values["logit"], abs=1e-4)
    assert np.mean(values["map"]["values"]) + values["shares"]["bias"] == pytest.approx(values["logit"], abs=1e-3)
    assert values["notice"] == labels.NOTICE
    np.testing.assert_allclose(np.load(tmp_path / "out" / "map_values.npy"), values["map"]["values"], atol=1e-5)
    x, y, width, height = values["input"]["grid_px"]
    assert width == height <= max(eye.photograph.shape)
    assert x <= values["map"]["peak_px"][0] < x + width
    assert y <= values["map"]["peak_px"][1] < y + height
    assert values["map"]["scale"] >= values["map"]["highest"]
    assert (tmp_path / "out" / "explanation.pdf").read_bytes().startswith(b"%PDF")
    text = (tmp_path / "out" / "explanation.md").read_text()
    assert "at most 128 x 128 px of the field; one cell of this map is 32 px of that" in text
    assert words.UNMEASURED in text
    assert "| Lesion maps |" in text


def test_two_commands_at_once_do_not_mix_their_files(tmp_path):
    text = '{"weights_sha256": 1}'
    with outputs.replacing(tmp_path / outputs.EXPLANATION, text):
        (tmp_path / "map.png").write_text("mine")
        with (
            pytest.raises(ValueError, match="another command is writing to .*; wait for it, or name another folder"),
            outputs.replacing(tmp_path / outputs.EXPLANATION, text),
        ):
            pass
        with outputs.replacing(tmp_path / outputs.ATLAS, text):
            pass
    assert {each.name for each in tmp_path.iterdir()} == {"map.png", outputs.EXPLANATION, outputs.ATLAS}


def test_the_side_is_the_one_that_a_report_would_say(eye_file, tmp_path, tiny_folder, monkeypatch):
    made = []
    monkeypatch.setattr(dossier, "write", lambda _, explanation: made.append(explanation.report))
    reader = pipeline.load(tiny_folder, "cpu")
    for name in ("eye_OD.png", "eye_OS.png"):
        shutil.copy(eye_file, tmp_path / name)
        assert run(tmp_path / name, tiny_folder, tmp_path / "out", "--finding", "DR") == cli.OK
        assert made[-1].eye == laterality.settled(reader(tmp_path / name)).eye
    assert made[0].eye != made[1].eye


def test_what_is_passed_on_alone_says_which_eye_it_is_of(eye, tmp_path, tiny_pipeline):
    for side, said in (("left", "left eye"), (None, "side not known")):
        report = replace(tiny_pipeline(eye.photograph), eye=Eye(side, "file name" if side else None))
        dossier.write(tmp_path, explain.explain(tiny_pipeline, report, "DR"))
        dossier.write_whatif(tmp_path, report, explain.drop_modality(tiny_pipeline, report, "lesions"))
        leaflet.write_evidence(tmp_path, report, evidence.measure(report, {}))
        for name in ("explanation", "whatif", "evidence"):
            assert json.loads((tmp_path / f"{name}.json").read_text())["eye"] == report.to_dict()["eye"]
        head = (tmp_path / "explanation.md").read_text().splitlines()[0]
        assert head.endswith(f": {said}, photograph {report.photograph.sha256[:8]}")
        assert ("left eye" in (tmp_path / "whatif.md").read_text()) == (side is not None)


@pytest.mark.parametrize("first", [True, False])
def test_a_folder_never_holds_files_of_two_eyes(eye, tmp_path, tiny_pipeline, monkeypatch, first):
    report = tiny_pipeline(eye.photograph)
    (tmp_path / "mine.txt").write_text("kept")
    writers = {
        "whatif": lambda: dossier.write_whatif(
            tmp_path, report, explain.drop_modality(tiny_pipeline, report, "lesions")
        ),
        "explanation": lambda: dossier.write(tmp_path, explain.explain(tiny_pipeline, report, "DR")),
    }
    for name, write in writers.items():
        if first:
            write()
            assert (tmp_path / f"{name}.json").exists()

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(dossier, "_write_chart", full)
    for write in writers.values():
        with pytest.raises(OSError, match="No space"):
            write()
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_second_opinion_on_one_modality(eye_file, tmp_path, tiny_folder):
    chosen = ("--finding", "GRADE", "--method", "occlusion", "--modality", "vessels")
    assert run(eye_file, tiny_folder, tmp_path, *chosen) == cli.OK
    values = json.loads((tmp_path / "explanation.json").read_text())
    assert (values["map"]["method"], values["map"]["modality"]) == ("occlusion", "vessels")
    assert not list(tmp_path.glob("map_colour.png"))


def test_maps_of_another_method_do_not_stay_beside_the_new_one(eye_file, tmp_path, tiny_folder):
    kept = ("map_mine.png", "notes.txt")
    for name in (*kept, "map_colour.png", "map_msi.png"):
        (tmp_path / name).write_bytes(b"of an eye before")
    (tmp_path / "explanation.json").write_text('{"provenance": {"weights_sha256": "of an eye before"}}')
    assert run(eye_file, tiny_folder, tmp_path, "--finding", "DR", "--modality", "vessels") == cli.OK
    texts = {"map_values.npy", "explanation.json", "explanation.md", "explanation.pdf", "shares.png"}
    assert {path.name for path in tmp_path.iterdir()} == texts | {"map.png", "map_values.png", *kept}


def test_pictures_of_another_program_are_left_alone(eye_file, tmp_path, tiny_folder, capsys):
    mine = tmp_path / "map.png"
    mine.write_bytes(eye_file.read_bytes())
    (tmp_path / "evidence.json").write_text("{}")
    assert run(mine, tiny_folder, tmp_path, "--finding", "DR") == cli.USAGE
    assert f"{tmp_path} holds map.png of another program; name another folder" in capsys.readouterr().err
    options = ["--weights", str(tiny_folder), "--runtime", "torch", "--out", str(tmp_path)]
    assert cli.main(["evidence", str(mine), *options]) == cli.USAGE
    assert {path.name for path in tmp_path.iterdir()} == {"map.png", "evidence.json"}
    assert mine.read_bytes() == eye_file.read_bytes()


@pytest.mark.parametrize(
    ("more", "status", "said"),
    [
        (("--finding", "NOPE"), cli.USAGE, "unknown finding 'NOPE'; choose one of DR"),
        (("--finding", "CSR"), cli.REFUSED, "not assessed"),
        (("--finding", "DR", "--method", "magic"), cli.USAGE, "invalid choice: 'magic'"),
        (("--finding", "DR", "--modality", "xray"), cli.USAGE, "invalid choice: 'xray'"),
        ((), cli.USAGE, "--finding"),
        (("--finding", "DR", "--weights", "no where"), cli.USAGE, "no where"),
    ],
)
def test_wrong_usage_and_refusals(eye_file, tmp_path, tiny_folder, capsys, more, status, said):
    assert run(eye_file, tiny_folder, tmp_path / "out", *more) == status
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error
    assert not (tmp_path / "out").exists(), "never an empty folder"


def test_what_cannot_be_explained_leaves_no_picture(tmp_path, tiny_folder, capsys):
    cv2.imwrite(str(tmp_path / "black.png"), np.zeros((300, 300, 3), np.uint8))
    (tmp_path / "notes.txt").write_text("no photograph")
    for name in ("black.png", "notes.txt", "gone.jpg"):
        assert run(tmp_path / name, tiny_folder, tmp_path / "out", "--finding", "DR") == cli.REFUSED
        assert name in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("error", "words"),
    [(RuntimeError("secret"), "the network failed (RuntimeError)"), (MemoryError(), "memory ran out")],
    ids=repr,
)
def test_an_explanation_that_breaks_down_is_one_sentence(
    eye_file, tmp_path, tiny_folder, capsys, monkeypatch, error, words
):
    def fail(*_):
        raise error

    monkeypatch.setattr(explain, "explain", fail)
    assert run(eye_file, tiny_folder, tmp_path / "out", "--finding", "DR") == cli.REFUSED
    told = capsys.readouterr().err
    assert f"qmmfl explain: {words}" in told
    assert len(told.splitlines()) == 1
    assert "secret" not in told


def test_a_folder_that_cannot_be_written(eye_file, tmp_path, tiny_folder, capsys):
    (tmp_path / "file").write_text("in the way")
    assert run(eye_file, tiny_folder, tmp_path / "file", "--finding", "DR") == cli.USAGE
    assert "cannot write to" in capsys.readouterr().err


def test_the_text_says_what_is_not_flagged_and_what_was_measured(eye):
    bounds = {"precision": [0.41, 0.3, 0.5], "pointing": [0.6, 0.5, 0.7]}
    measured = {"eyes": 27, **bounds, "chance": [0.22, 0.1, 0.3]}
    test = {"dataset": "IDRiD test eyes", "code": "DR", "marks": "marked lesions", "maps": {"exact:fused": measured}}
    card = tiny_card(metrics={KEY: {"agreement": [test]}})
    card.calibrations["DR"] = type(card.calibrations["DR"])(1.0, -9.0, 0.4, weights.VALIDATION)  # never suspected
    made = explain.explain(pipeline.Pipeline(tiny_network(), card, "tiny", "cpu"), eye.photograph, "DR")
    text = words.explanation_text(made)
    assert "It is not flagged: the map shows what little raised its score." in text
    assert (
        "27 IDRiD test eyes (DR): 0.41 of what raises the score within the field of view lies in cells with a mark, the"
        in text
    )
    assert "0.60 of the eyes (by chance 0.22 both)" in text
    assert words.UNMEASURED not in text
    assert words.explanation_pdf(made) == words.explanation_pdf(made)


def test_doubt_about_the_photograph_goes_along_with_its_explanation(eye, tmp_path, monkeypatch):
    """These files are passed on alone."""
    reader = pipeline.Pipeline(tiny_network(), tiny_card(doubtful_below=1.0), "tiny", "cpu")
    report = reader(eye.photograph)
    cup = replace(report.finding("ODC"), suspected=False)
    others = tuple(cup if each.code == "ODC" else each for each in report.findings)
    report = replace(report, findings=others, disc_cup=replace(report.disc_cup, vcdr=0.9), lesions={})
    unclear, large = doubts.reservations(report)
    assert large == doubts.conflicts(report)["ODC"]
    pages = []
    monkeypatch.setattr(words, "bind", lambda *given: pages.extend(given[-1]) or b"%PDF")
    for code in ("DR", "ODC"):
        pages.clear()
        dossier.write(tmp_path, explain.explain(reader, report, code))
        text = (tmp_path / "explanation.md").read_text(encoding="utf-8")
        assert (text.count(unclear), text.count(large)) == (1, 1), "each is said once"
        paper = " ".join(part.get_text() for page in pages for part in page.texts)
        assert "Image quality is in doubt" in paper
        assert paper.count("The cup-to-disc ratio (0.90) is large") == 1
    dossier.write_whatif(tmp_path, report, explain.drop_modality(reader, report, "lesions"))
    text = (tmp_path / "whatif.md").read_text(encoding="utf-8")
    assert (text.count(unclear), text.count(large)) == (1, 1)
    for name in ("explanation", "whatif"):
        told = json.loads((tmp_path / f"{name}.json").read_text())
        assert told["quality"] == report.to_dict()["quality"]
        assert told["quality"]["doubtful"] is True


def test_a_score_that_is_not_called_is_not_said_to_be_below_its_threshold(eye):
    card = tiny_card()
    certain = type(card.calibrations["DR"])(0.0, 9.0, 0.4, weights.VALIDATION)
    card.calibrations.update(DR=certain, NORMAL=certain)
    made = explain.explain(pipeline.Pipeline(tiny_network(), card, "tiny", "cpu"), eye.photograph, "NORMAL")
    assert words.standing_text(made) == (
        "Probability 100.0 % (threshold 40.0 %): not called (another finding is flagged)."
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [(("--without", "lesions"), "lesion maps left out"), (("--hide", "100", "120", "90", "80"), "of the field hidden")],
)
def test_a_what_if_is_told_in_a_folder(eye_file, tmp_path, tiny_folder, capsys, change, words):
    out = tmp_path / "what"
    arguments = ["whatif", str(eye_file), "--weights", str(tiny_folder), "--runtime", "torch", "--out", str(out)]
    assert cli.main([*arguments, *change]) == cli.OK
    told = json.loads((out / "whatif.json").read_text())
    assert words in told["change"]
    moved = [move for move in told["moves"].values() if abs(move["after"] - move["before"]) > 1e-6]
    assert moved
    text = (out / "whatif.md").read_text()
    assert all(f"| {move['name']} | {100 * move['before']:.1f} % |" in text for move in told["moves"].values())
    assert told["provenance"]["weights_sha256"] in text
    assert labels.NOTICE in text
    assert told["notice"] == labels.NOTICE
    assert (out / "whatif.png").read_bytes().startswith(b"\x89PNG")
    changed = any(move["crosses"] for move in told["moves"].values())
    assert capsys.readouterr().out.startswith("changed" if changed else "unchanged")


def test_a_what_if_of_an_average_eye_wants_weights_that_know_one(eye_file, tmp_path, tiny_folder, capsys):
    arguments = ["whatif", str(eye_file), "--weights", str(tiny_folder), "--out", str(tmp_path / "out")]
    assert cli.main([*arguments, "--average", "colour"]) == cli.USAGE
    assert "carry no mean features" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_texts_are_the_same_where_a_machine_writes_another_alphabet(eye_file, tmp_path, tiny_folder, monkeypatch):
    """As on Windows, where a text is written in cp1252 unless told otherwise."""
    folder = tmp_path / "váhy č"  # the texts name the weights
    shutil.copytree(tiny_folder, folder)
    whole = io.open

    def narrow(file, mode="r", buffering=-1, encoding=None, *more, **how):
        text = "b" not in mode and encoding in (None, "locale")
        return whole(file, mode, buffering, "cp1252" if text else encoding, *more, **how)

    monkeypatch.setattr(io, "open", narrow)
    out = tmp_path / "out"
    given = [str(eye_file), "--out", str(out), "--weights", str(folder), "--runtime", "torch"]
    assert cli.main(["explain", *given, "--finding", "DR"]) == cli.OK
    assert cli.main(["whatif", *given, "--without", "lesions"]) == cli.OK
    leaflet.write_evidence(out, fake_report(), evidence.measure(fake_report(), {}))
    for name in ("explanation.md", "whatif.md"):
        assert "Weights váhy č, sha256" in (out / name).read_bytes().decode()
    assert "(± 0.06 " in (out / "evidence.txt").read_bytes().decode()
