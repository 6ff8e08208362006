"""The place of an eye among reference eyes, on an invented atlas whose neighbours are known."""

import json
import shutil
import time
from dataclasses import replace

import numpy as np
import pytest
from fakes import fake_report
from matplotlib.figure import Figure

from qmmfl import atlas, charts, cli, evidence, hub, labels, laterality, leaflet, outputs, prose, results, weights
from qmmfl.atlas.places import flat, located, remoteness
from qmmfl.prose import similar

M, D, N, KEPT = len(labels.MODALITIES), 16, 400, 6
WEIGHTS = "f" * 64


def invented(seed: int = 0, weights: str = WEIGHTS, *, n: int = N, d: int = D) -> tuple[atlas.Atlas, np.ndarray]:
    """An atlas of two heaps of eyes, and the features (n, M, d) it was made of."""
    rng = np.random.default_rng(seed)
    heap = np.arange(n) % 2
    features = rng.normal(0, 1, (n, M, d)).astype(np.float32) + 3 * heap[:, None, None].astype(np.float32)
    spaces = {}
    for name in atlas.SPACES:
        seen = flat(features, name)
        mean, scale = seen.mean(0), seen.std(0)
        _, _, rows = np.linalg.svd((seen - mean) / scale, full_matrices=False)
        points = (seen - mean) / scale @ rows[:KEPT].T
        coordinates = np.stack([4.0 * heap, points[:, 1]], -1)
        spaces[name] = atlas.Space(mean, scale, rows[:KEPT], points, coordinates.astype(np.float32), 2.0, 3.0)
    findings = np.full((n, len(labels.FINDINGS)), -1, np.int8)
    findings[: n // 2] = 0
    findings[: n // 2 : 2, 0] = 1
    made = atlas.Atlas(
        weights,
        tuple(f"odir5k/{row}_left" for row in range(n)),
        (np.arange(n) % 6 - 1).astype(np.int8),
        findings,
        spaces,
        {"note": 0.5},
    )
    return made, features


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("atlas")
    made, features = invented()
    atlas.save(folder / atlas.FILE, made)
    return folder, features


@pytest.fixture
def found(saved):
    return atlas.load(saved[0], WEIGHTS)


def report_of(features):
    return replace(fake_report(), features=features)


@pytest.mark.parametrize("space", atlas.SPACES)
@pytest.mark.parametrize("row", [0, 7, 399])
def test_a_reference_is_its_own_nearest_and_lies_on_its_place(found, saved, space, row):
    placement = found.place(report_of(saved[1][row]), space)
    first = placement.neighbours[0]
    assert first.reference == f"odir5k/{row}_left"
    assert first.distance < 0.01
    place = found.spaces[space].coordinates[row]
    np.testing.assert_allclose((placement.x, placement.y), place, atol=0.05)
    distances = [each.distance for each in placement.neighbours]
    assert distances == sorted(distances)
    assert not placement.far


def test_neighbours_are_the_true_nearest_with_their_labels(found, saved):
    features = saved[1][10] + np.float32(0.05)
    placement = found.place(report_of(features))
    space = found.spaces[labels.FUSED]
    point = ((features.ravel() - space.mean) / space.scale) @ space.components.T
    order = np.argsort(np.hypot.reduce(space.references - point, axis=1))[: len(placement.neighbours)]
    assert [each.reference for each in placement.neighbours] == [f"odir5k/{row}_left" for row in order]
    for row, each in zip(order, placement.neighbours, strict=True):
        assert each.grade == (row % 6 - 1 if row % 6 else None)
        assert each.findings == (None if row >= N // 2 else ("DR",) if row % 2 == 0 else ())
    assert abs(placement.x) < 0.5  # eye 10 is of the heap at 0


def test_far_is_said_also_outside_the_projection(found, saved):
    assert found.place(report_of(saved[1][0] + np.float32(40))).far
    space = found.spaces["msi"]
    beyond = np.linalg.svd(space.components)[2][-1] * 30 * space.scale  # no component sees it
    features = saved[1][0].copy()
    features[atlas.SPACES.index("msi") - 1] += beyond.astype(np.float32)
    placement = found.place(report_of(features), "msi")
    assert placement.neighbours[0].distance < 0.1
    assert placement.far
    assert "further from all reference eyes" in prose.placement_text(placement)


def test_typical_of_its_own_kind_is_not_far(found):
    rng = np.random.default_rng(5)
    fresh = rng.normal(0, 1, (M, D)).astype(np.float32)
    placement = found.place(report_of(fresh))
    space = found.spaces[labels.FUSED]
    point, beyond = space.project(flat(fresh[None], labels.FUSED))
    assert placement.distance == pytest.approx(float(remoteness(space.distances(point), beyond)[0]) / 2.0, rel=1e-4)


def test_placing_is_quick_and_the_same_every_time(saved, tmp_path):
    made, features = invented(n=4000, d=64)
    report = report_of(features[3])
    assert made.place(report) == made.place(report)
    began = time.process_time()  # not wall time: the tests may share their core
    for _ in range(20):
        made.place(report)
    assert (time.process_time() - began) / 20 < 0.005
    first = atlas.save(tmp_path / "a.safetensors", made)
    assert atlas.save(tmp_path / "b.safetensors", made).sha256 == first.sha256
    assert (tmp_path / "a.safetensors").stat().st_size < 2**21


def test_located_lies_among_the_nearest(found):
    space = found.spaces[labels.FUSED]
    away = np.full((1, N), 100.0)
    away[0, [2, 4]] = 1.0
    middle = located(space, away)[0]
    np.testing.assert_allclose(middle, space.coordinates[[2, 4]].mean(0), atol=0.02)


def test_no_atlas_wrong_atlas_damaged_atlas(saved, tmp_path):
    with pytest.raises(atlas.AtlasMissing, match="come without reference eyes"):
        atlas.load(tmp_path, WEIGHTS)
    with pytest.raises(atlas.AtlasError, match=r"belong to weights f+, not to these \(0+\)"):
        atlas.load(saved[0], "0" * 64)
    data = (saved[0] / atlas.FILE).read_bytes()
    for broken in (data[: len(data) // 2], data[:-9] + b"\x01" * 9, b"", b"no tensors"):
        (tmp_path / atlas.FILE).write_bytes(broken)
        with pytest.raises(atlas.AtlasError, match=r"damaged|not what was written"):
            atlas.load(tmp_path, WEIGHTS)


def test_what_has_no_place_says_why(found, saved):
    with pytest.raises(atlas.AtlasError, match="not gradable"):
        found.place(fake_report(gradable=False))
    with pytest.raises(atlas.AtlasError, match="holds no features"):
        found.place(fake_report())
    with pytest.raises(atlas.AtlasError, match="no map of the reference eyes called"):
        found.place(report_of(saved[1][0]), "tarot")
    other = replace(report_of(saved[1][0]), provenance=replace(fake_report().provenance, weights_sha256="0" * 64))
    with pytest.raises(atlas.AtlasError, match="other weights"):
        found.place(other)


def test_pictures_come_only_from_the_folder_named(tmp_path):
    images = tmp_path / "data" / "cls" / "odir5k" / "images"
    images.mkdir(parents=True)
    (images / "7_left.webp").write_bytes(b"x")
    (tmp_path / "secret.png").write_bytes(b"x")
    assert atlas.picture_of("odir5k/7_left", tmp_path / "data") == images / "7_left.webp"
    assert atlas.picture_of("odir5k/8_left", tmp_path / "data") is None
    assert atlas.picture_of("../secret", tmp_path / "data") is None
    assert atlas.picture_of("odir5k/../../../../secret", tmp_path / "data") is None


@pytest.mark.parametrize("subject", ["GRADE", "DR", "ERM"])
def test_map_is_a_figure_with_shapes_and_this_eye(found, saved, subject):
    figure = charts.atlas_figure(found, found.place(report_of(saved[1][0])), subject)
    assert isinstance(figure, Figure)
    said = [text.get_text() for text in figure.legends[0].get_texts()]
    assert said[-2:] == ["Nearest", "This eye"]
    if subject == "GRADE":
        shapes = {str(each.get_paths()[0].vertices.tolist()) for each in figure.axes[0].collections}
        assert len(shapes) >= 6


@pytest.mark.parametrize(("space", "said"), [(labels.FUSED, "All modalities, fused"), ("msi", "Multispectral bands")])
def test_the_page_names_the_space_and_the_marks(found, saved, space, said):
    html = similar.similar_html(found, found.place(report_of(saved[1][0]), space), "DN")
    assert f"Alike in: <b>{said}</b>. Marks show: <b>Drusen</b>." in html


def test_marks_differ_in_colour_and_shape():
    colours, shapes = zip(*charts.MARKS, charts.UNKNOWN, strict=True)
    assert len(set(colours)) == len(set(shapes)) == len(labels.GRADES) + 1


def test_figures_refuse_what_they_cannot_draw(found, saved, tmp_path):
    placement = found.place(report_of(saved[1][0]))
    with pytest.raises(ValueError, match="unknown finding"):
        charts.atlas_figure(found, placement, "XYZ")
    with pytest.raises(atlas.AtlasError, match="another atlas"):
        charts.atlas_figure(found, replace(placement, atlas_sha256="0"))
    with pytest.raises(atlas.AtlasError, match="no picture of the nearest"):
        charts.neighbours_figure(fake_report(), placement, tmp_path)
    dark = fake_report(gradable=False)
    with pytest.raises(ValueError, match="not gradable"):
        charts.evidence_figure(dark, evidence.measure(dark, {}))


def test_a_reference_says_what_it_was_annotated_for():
    def said(findings, looked_for):
        return prose.atlas.neighbour(atlas.Neighbour("a/b", 0.5, 0, findings, looked_for))

    assert said(None, ()).endswith("findings not annotated.")
    assert said((), ("DR",)).endswith("annotated for diabetic retinopathy alone: absent.")
    assert said(("DR",), ("DR",)).endswith("annotated for diabetic retinopathy alone: present.")
    assert said((), ("DR", "MYA", "ODC")).endswith("none of the 3 findings that were annotated.")
    assert said(("MYA",), ("DR", "MYA", "ODC")).endswith("; pathological myopia.")


def test_figure_of_the_evidence():
    report = fake_report()
    found = evidence.measure(report, {"EX": 0.6})
    assert isinstance(charts.evidence_figure(report, found), Figure)


def test_neighbours_are_shown_where_they_are(found, saved, tmp_path, eye_file):
    images = tmp_path / "odir5k"
    images.mkdir()
    (images / "0_left.png").write_bytes(eye_file.read_bytes())
    (images / "2_left.png").write_bytes(b"broken")
    figure = charts.neighbours_figure(fake_report(), found.place(report_of(saved[1][0])), tmp_path)
    assert [axes.get_title().split("\n")[0] for axes in figure.axes] == ["This eye", "odir5k/0_left"]


def test_words(found, saved):
    text = prose.placement_text(found.place(report_of(saved[1][0])))
    assert "grade not annotated" in text
    assert "odir5k/0_left" in text
    assert "no second opinion" in text
    assert not {"normal", "healthy", "diagnosis"} & set(text.lower().replace(".", " ").split())


def test_leaflets_are_the_same_every_time(found, saved, tmp_path):
    report = report_of(saved[1][0])
    for name in ("one", "two"):
        leaflet.write_placement(tmp_path / name, report, found, found.place(report), "GRADE")
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()
    assert json.loads((tmp_path / "one" / "atlas.json").read_text())["neighbours"][0]["reference"] == "odir5k/0_left"


def test_doubt_about_the_photograph_goes_along_with_its_place(found, saved, tmp_path):
    report = report_of(saved[1][0])
    report = replace(report, quality=replace(report.quality, doubtful=True))
    leaflet.write_placement(tmp_path, report, found, found.place(report), "GRADE")
    assert "Image quality is in doubt" in (tmp_path / "atlas.txt").read_text(encoding="utf-8")
    told = json.loads((tmp_path / "atlas.json").read_text())
    assert told["quality"]["doubtful"] is True
    assert told["eye"] == report.to_dict()["eye"]


def test_training_projects_and_judges(numbers):
    from training import atlas as command
    from training.targets import Targets

    seen = numbers.normal(0, 1, (120, 24)).astype(np.float32)
    grade = np.arange(120) % 2
    seen[:, :4] += 4 * grade[:, None]  # two heaps, told apart by their grade; the data set is chance
    every = Targets([invented_case(int(each), row % 3) for row, each in enumerate(grade)])
    used, parts = np.arange(120), np.split(np.arange(120), [80, 120])
    space = command.projection(seen[:80], 5)
    np.testing.assert_allclose(space.components @ space.components.T, np.eye(5), atol=1e-5)
    points, beyond = space.project(seen[:80])
    np.testing.assert_allclose(points, space.references, atol=0.01)
    assert beyond.min() > 0
    pytest.importorskip("sklearn", reason="scikit-learn belongs to the train extra")
    figures = command.clusters(seen, every, used, parts, 5)
    assert figures["knn_grade"] == 1.0
    assert figures["silhouette_grade"] > 0.2 > abs(figures["silhouette_data_set"])
    assert figures["knn_findings_auc"] == pytest.approx(1.0)
    chosen, held, strange = command.choose(every, command.AtlasRecipe(limit=30))
    assert (len(chosen), len(held), len(strange)) == (30, 30, 0)
    assert (every.split[chosen] == "train").all()


def invented_case(grade: int, data_set: int):
    """A case of grade 0 or 1, in turn of the training and the validation split."""
    from training.data import Case

    findings = (grade, *(-1,) * (len(labels.FINDINGS) - 1))
    return Case(f"set{data_set}", "x.png", "train" if data_set else "val", "g", findings, grade)


@pytest.fixture
def tiny_atlas(tiny_folder, tiny_pipeline, tmp_path):
    """The tiny weights with an atlas of their own beside them."""
    for path in tiny_folder.iterdir():
        (tmp_path / "weights").mkdir(exist_ok=True)
        (tmp_path / "weights" / path.name).symlink_to(path)
    atlas.save(tmp_path / "weights" / atlas.FILE, invented(weights=tiny_pipeline.card.sha256, n=30)[0])
    return tmp_path / "weights"


def run(verb, path, out, weights, *more):
    return cli.main([verb, str(path), "--out", str(out), "--weights", str(weights), "--device", "cpu", *more])


def test_command_places_a_photograph(tiny_atlas, tiny_pipeline, eye_file, tmp_path, capsys):
    assert tiny_pipeline(eye_file).features.shape == (M, 16)
    assert run("atlas", eye_file, tmp_path / "o", tiny_atlas) == cli.OK
    assert {path.name for path in (tmp_path / "o").iterdir()} == {"atlas.json", "atlas.txt", "atlas.png"}


def test_the_side_beside_a_place_is_the_one_that_a_report_would_say(tiny_atlas, tiny_pipeline, eye_file, tmp_path):
    told = []
    for name in ("eye_OD.png", "eye_OS.png"):
        shutil.copy(eye_file, tmp_path / name)
        assert run("atlas", tmp_path / name, tmp_path / "o", tiny_atlas, "--runtime", "torch") == cli.OK
        told.append(json.loads((tmp_path / "o" / "atlas.json").read_text())["eye"])
        report = laterality.settled(evidence.sided(tiny_pipeline(tmp_path / name)))
        assert told[-1] == report.to_dict()["eye"]
    assert told[0] != told[1]


@pytest.mark.parametrize(
    ("option", "said"), [(("--by", "XYZ"), "unknown finding"), (("--references", "gone"), "there is no folder gone")]
)
def test_command_refuses_wrong_options_before_it_reads(
    tiny_atlas, eye_file, tmp_path, capsys, monkeypatch, option, said
):
    monkeypatch.setattr("qmmfl.pipeline.load", lambda *_: pytest.fail("loaded"))
    assert run("atlas", eye_file, tmp_path / "p", tiny_atlas, *option) == cli.USAGE
    assert said in capsys.readouterr().err


def test_command_says_what_is_missing(tiny_folder, tiny_atlas, eye_file, tmp_path, capsys):
    import cv2

    assert run("atlas", eye_file, tmp_path / "o", tiny_folder) == cli.USAGE
    said = capsys.readouterr().err
    assert "without reference eyes, so similar eyes cannot be shown; " in said
    assert "training.atlas" in said, "who has the command line may make them"
    black = tmp_path / "black.png"
    cv2.imwrite(str(black), np.zeros((300, 300, 3), np.uint8))
    assert run("atlas", black, tmp_path / "o", tiny_atlas) == cli.REFUSED
    assert "black.png has no place among the reference eyes, because it is not gradable" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()
    assert run("atlas", tmp_path / "gone.jpg", tmp_path / "o", tiny_atlas) == cli.REFUSED


def test_evidence_command(tiny_folder, eye_file, tmp_path):
    assert run("evidence", eye_file, tmp_path / "e", tiny_folder, "--repeat") == cli.OK
    written = json.loads((tmp_path / "e" / "evidence.json").read_text())
    assert set(written["lesions"]) == set(labels.LESIONS)
    assert labels.NOTICE in (tmp_path / "e" / "evidence.txt").read_text()


@pytest.mark.parametrize(
    ("verb", "more", "file"),
    [
        ("explain", ["--finding", "DR"], "explanation"),
        ("whatif", ["--without", "lesions"], "whatif"),
        ("evidence", [], "evidence"),
        ("atlas", [], "atlas"),
    ],
)
def test_every_command_says_which_weights_stood_in(
    verb, more, file, tiny_atlas, tiny_pipeline, eye_file, tmp_path, monkeypatch, capsys
):
    def find(*_):
        raise hub.Unreachable("someone/eyes@main could not be fetched")

    monkeypatch.setattr(hub, "find", find)
    monkeypatch.setattr(weights, "embedded", lambda: tiny_atlas)
    assert run(verb, eye_file, tmp_path / "o", "someone/eyes", *more) == cli.OK
    assert "qmmfl: The embedded weights are in use, not the ones asked for" in capsys.readouterr().err
    origin = json.loads((tmp_path / "o" / f"{file}.json").read_text())["provenance"]
    assert origin["weights_source"] == "embedded, because someone/eyes could not be fetched"
    assert origin["weights_sha256"] == tiny_pipeline.card.sha256


def test_no_picture_that_a_command_wrote_is_taken_for_a_photograph(tiny_atlas, eye_file, tmp_path):
    """Not even where results were written among photographs, which are still found there."""
    study = tmp_path / "study"
    study.mkdir()
    mine = [study / name for name in ("eye.png", "map_mine.png", "planes.png")]
    for path in mine:
        path.write_bytes(eye_file.read_bytes())
    more = {"explain": ["--finding", "DR"], "whatif": ["--without", "lesions"], "evidence": [], "atlas": []}
    for verb, options in more.items():
        assert run(verb, mine[0], study, tiny_atlas, *options) == cli.OK
    assert run("read", mine[0], study / "reports", tiny_atlas, "--no-pdf") == cli.OK
    begun = study / "reports" / "eye" / outputs.REPORT
    plane = study / "reports" / "eye" / "planes" / "disc.png"
    assert plane.is_file()
    assert {"map.png", "shares.png", "whatif.png", "atlas.png"} < {path.name for path in study.iterdir()}
    assert list(results.find_photographs([study])) == mine
    assert list(results.find_photographs([plane])) == [plane], "it is named itself"
    begun.rename(outputs.partial(begun))  # as a run that was killed leaves it
    assert list(results.find_photographs([study])) == mine
    outputs.partial(begun).unlink()
    begun.write_text('{"of": "another program"}')
    assert len(list(results.find_photographs([study]))) == 3 + len(labels.PLANES)


def test_a_picture_of_another_eye_does_not_stay_beside_the_new_numbers(found, saved, tmp_path):
    report = report_of(saved[1][0])
    mine = tmp_path / "mine.png"
    for path in (mine, tmp_path / "evidence.png", tmp_path / "neighbours.png"):
        path.write_bytes(b"of an eye before")
    for name in (outputs.EVIDENCE, outputs.ATLAS):
        (tmp_path / name).write_text('{"provenance": {"weights_sha256": "of an eye before"}}')
    measured = replace(evidence.measure(report, {}), disc=None)
    leaflet.write_evidence(tmp_path, report, measured)
    leaflet.write_placement(tmp_path, report, found, found.place(report), "GRADE")
    assert {path.name for path in tmp_path.glob("*.png")} == {"atlas.png", "mine.png"}


def test_where_a_place_cannot_be_written_nothing_of_two_eyes_stays(found, saved, tmp_path, monkeypatch):
    report = report_of(saved[1][0])
    leaflet.write_placement(tmp_path, report, found, found.place(report), "GRADE")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(leaflet, "_write_picture", full)
    with pytest.raises(OSError, match="No space"):
        leaflet.write_placement(tmp_path, report, found, found.place(report), "GRADE")
    assert list(tmp_path.iterdir()) == []
