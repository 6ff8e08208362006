"""The evaluation against known answers: figures of a data set, gates, scores that are cached and add up."""

import json

import numpy as np
import pytest
from conftest import tiny_card

pytest.importorskip("tqdm", reason="training needs the train extra")

from cases import CODES, case

from qmmfl import photograph
from training import (
    card_tables,
    conformal,
    data,
    export,
    metrics,
    model_card,
    reading_figures,
    scores,
    strangers,
    stress,
)


def scored(probability: np.ndarray, **changes) -> scores.Scores:
    """Scores in which every finding has the same probability (N,), called above one half."""
    every = np.repeat(probability[:, None], len(CODES), axis=1)
    steps = np.stack([1 - probability, *[probability / 4] * 4], axis=1)
    values = dict(
        raw=np.sqrt(every),
        probability=every,
        called=every > 0.5,
        undecided=np.zeros(every.shape),
        oedema=probability,
        oedema_undecided=np.zeros(len(every)),
        steps=steps,
        grade=(probability > 0.5) * 2,
        graded_undecided=np.stack([probability > 0.5, np.zeros(len(every))], axis=1),  # .675 more than mild
        lesions=np.stack([probability > 0.5, *[np.full(len(every), np.nan)] * 3], axis=1),
        gradable=np.ones(len(every), bool),
        doubtful=np.zeros(len(every), bool),
        fundus=np.ones(len(every), bool),
    )
    return scores.Scores(**{**values, **changes})


def test_figures_of_a_data_set():
    """40 patients, two eyes each; the score of DR is right but for one patient."""
    cases, probability = [], []
    for i in range(80):
        ill = i % 4 < 2
        answers = (0, 1, 0, 0, 0, 0, 0, 0) if ill else (1, 0, 0, 0, 0, 0, 0, 0)
        found = ("DR",) if ill else ("NORMAL",)
        person = {"age": 45 + 20 * (i // 40), "female": i // 2 % 2}
        person["oedema"] = int(ill)
        cases.append(case(i, findings=found, group=f"p{i // 2}", grade=2 * ill, odir=answers, **person))
        probability.append(0.9 if ill and i >= 2 else 0.1)
    promises = {
        "alphas": list(conformal.ALPHAS),
        "bands": dict.fromkeys(("DR", "DME", "GRADE"), [[0.2, 0.8]] * len(conformal.ALPHAS)),
    }
    made = reading_figures.of_folder(cases, scored(np.array(probability)), promises, 50)
    assert (made["eyes"], made["patients"], made["coverage"]) == (80, 40, 1.0)
    dr = made["findings"]["DR"]
    assert dr["positives"] == 40
    assert dr["sensitivity"][0] == pytest.approx(38 / 40)
    assert dr["specificity"] == metrics.proportion(40, 40), "that none of few was wrong does not say that none would be"
    assert dr["f1"][0] == pytest.approx(2 * 38 / 78)
    few = [i for i, each in enumerate(cases) if each.grade == 0 or i < 8]
    rare = reading_figures.of_folder([cases[i] for i in few], scored(np.array(probability)[few]), promises, 50)
    rare = rare["findings"]["DR"]
    assert (rare["positives"], rare["sensitivity"]) == (4, metrics.proportion(2, 4))
    assert np.isnan(rare["auc"][1:]).all(), "four eyes do not say how sure their ranks are"
    assert dr["auc"][0] == pytest.approx(38 / 40 + 2 / 40 * 0.5)
    assert dr["auc"][1] < dr["auc"][0] <= dr["auc"][2]
    assert dr["ece"] == pytest.approx(0.09, abs=0.06)
    assert 0.05 < dr["ece_least"] < 0.15
    assert made["macro_findings"] == ["DR", "NORMAL"]
    assert made["grade"]["accuracy"][0] == pytest.approx(78 / 80)
    assert made["grade"]["referable_auc"][0] == pytest.approx(dr["auc"][0])
    graded = made["grade"]
    assert (graded["mild_sensitivity"][0], graded["mild_specificity"][0]) == (pytest.approx(38 / 40), 1)
    assert (graded["lesions_ill"][0], graded["lesions_healthy"][0]) == (pytest.approx(38 / 40), 0)
    assert graded["threat_specificity"][0] == 1
    assert "threat_sensitivity" not in graded, "no eye of this set is severe"
    healthy = [i for i, each in enumerate(cases) if each.grade == 0]
    alone = reading_figures.of_folder([cases[i] for i in healthy], scored(np.array(probability)[healthy]), promises, 50)
    assert alone["grade"]["mild_specificity"][0] == 1
    assert not {"accuracy", "kappa"} & set(alone["grade"]), "of one grade alone that is a specificity"
    assert set(made["by"]) == {"age up to 49", "age 60 to 69", "women", "men"}
    kept = made["abstention"]["findings"]["DR"]
    assert (kept["kept_present"], kept["kept_absent"]) == (38 / 40, 1.0)
    assert made["abstention"]["findings"]["DME"] == kept, "the risk of oedema has the same scores here"
    more = made["abstention"]["findings"]["GRADE"]
    assert (more["kept_present"], more["kept_absent"]) == (38 / 40, 1.0)
    assert more["undecided"] == 38 / 80, "what the pipeline said"
    assert made["abstention"]["curve"][0]["decided"] == pytest.approx(1 - 38 / 240), "by the band 38 eyes are open"
    card = tiny_card(metrics={"classification": {"odir5k": made}, "intervals": "patients"})
    page = model_card.page(card)
    assert "| DR | 40 | 0.975" in page
    assert "## ODIR by age and sex" in page
    assert "over patients" in page
    assert "| odir5k | 80 | 0.475 | 0.950 | 1.000 |  |  |  |" in page
    assert card_tables.sections({}) == []
    assert "## Abstention" not in model_card.page(tiny_card())


def test_figures_of_other_weights_are_named_so():
    found = {"models": {"paper": {"fusion_minus": {"macro_auc": [0.037, 0.022, 0.052]}}}}
    for made_of, said in ((tiny_card().sha256, ""), ("01234567ff", " (by weights 01234567, not these)")):
        card = tiny_card(metrics={"ablations": {**found, "weights": made_of}})
        titles = [title for title, *_ in model_card.rows(card)]
        assert titles == [f"Fusion above the paper's fusion block{said}"]


def test_gates_count_strangers_and_good_photographs():
    cases = [case(0, "drimdb", gradable=1), case(1, "drimdb", fundus=0), case(2, "ffa_phase", fundus=0), case(3)]
    cases.append(case(4, odir=tuple(int(letter == "C") for letter in data.ODIR_CLASSES)))
    gradable = np.array([False, False, True, True, False])
    doubtful = np.array([False, False, False, True, False])
    made = scored(np.full(5, 0.5), gradable=gradable, fundus=np.array([True] * 5), doubtful=doubtful)
    noise = scored(np.full(2, 0.5), gradable=np.zeros(2, bool), fundus=np.zeros(2, bool))
    found = reading_figures.gates(cases, made, {"noise": noise})
    assert found["strangers"]["noise"] == {"pictures": 2, "refused": 2, "not_a_fundus": 2, "doubtful": 0}
    assert found["strangers"]["angiogram"]["refused"] == 0
    assert found["strangers_refused"] == pytest.approx(3 / 4)
    one = {"photographs": 1, "refused": 1, "not_a_fundus": 0, "doubtful": 0}
    assert found["good"]["drimdb"] == {**one, "labelled_good": True}
    assert found["good"]["odir5k"]["doubtful"] == 1
    assert found["good"]["odir5k"]["labelled_good"] is False
    assert found["good_refused"][0] == 0.5, "an eye with a cataract may hide its fundus"
    assert found["good_refused"] == pytest.approx([0.5, 0.0945, 0.9055], abs=1e-4)
    assert found["cataract"] == one
    assert "| noise | 2 | 2 | 2 | 0 |" in card_tables.gates({"gates": found})


class Row:
    """Stands in for a process pool."""

    @staticmethod
    def map(make, pictures, chunksize):
        return map(make, pictures)


def test_scores_are_cached_per_weights_and_go_on_where_they_stopped(tiny_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(scores, "RUNS", tmp_path)
    asked = []

    def make(picture):
        asked.append(picture)
        return {"score": picture * 2}

    assert [r["score"] for r in scores.cached(Row, tiny_folder, ["a", "b"], [1, 2], make)] == [2, 4]
    (path,) = (tmp_path / "evaluation").iterdir()
    path.write_text(path.read_text() + '{"key": "c", "sco')  # stopped while writing
    assert [r["score"] for r in scores.cached(Row, tiny_folder, ["c", "a"], [3, 1], make)] == [6, 2]
    assert asked == [1, 2, 3]
    assert len(path.read_text().splitlines()) == 3


def test_scores_of_a_report_add_up(tiny_folder, eye):
    scores.start(tiny_folder)
    made = scores.Scores.of([json.loads(json.dumps(scores.read(eye.photograph)))])
    report = scores.reader()(eye.photograph, override=True)
    index = CODES.index("DR")
    logit = np.log(made.raw[0, index] / (1 - made.raw[0, index]))
    assert logit == pytest.approx(sum(report.contributions["DR"].values()), abs=1e-5)
    assert made.probability[0, index] == pytest.approx(report.finding("DR").probability)
    assert np.isnan(made.probability[0, CODES.index("CSR")])
    assert made.steps.sum() == pytest.approx(1)
    told = [None if np.isnan(value) else value == 1 for value in made.lesions[0]]
    assert told == [report.lesions[code].beyond for code in report.lesions]


def test_altered_photographs_show_the_same_eye_otherwise(eye):
    made = {name: change(eye.photograph) for name, change in stress.VARIANTS.items()}
    made |= {name: photograph.read(file).pixels for name, file in made.items() if isinstance(file, bytes)}
    assert (made["as it is"] == eye.photograph).all()
    assert all(picture.dtype == np.uint8 and picture.shape[2] == 3 for picture in made.values())
    assert 0 < np.abs(made["JPEG of quality 50"] - eye.photograph.astype(int)).mean() < 8
    means = {name: picture.mean(axis=(0, 1)) for name, picture in made.items()}
    assert max(made["400 px wide"].shape) == 400
    assert means["underexposed"].sum() < 0.7 * means["as it is"].sum()
    assert means["cool colours"][2] / means["cool colours"][0] > means["as it is"][2] / means["as it is"][0]
    assert means["warm colours"][2] / means["warm colours"][0] < means["as it is"][2] / means["as it is"][0]
    assert min(made["the middle alone"].shape[:2]) == round(0.7 * min(eye.photograph.shape[:2]))
    assert (made["white surround"][0, 0] == 255).all()
    small, large = (np.abs(made[f"JPEG of quality {q}"].astype(int) - eye.photograph).mean() for q in (50, 20))
    assert 0 < small < large < 6, "colours are not exchanged"
    figures = {"coverage": 1.0, "eyes": 4, "kappa": [0.5, 0.4, 0.6]}
    assert "| out of focus | 4 | 1.000 | 0.500 (0.400 to 0.600) |" in card_tables.stress(
        {"stress": {"out of focus": figures}}
    )


def test_strangers_are_pictures_and_repeat(eye_file):
    kinds = list(strangers.plan([str(eye_file)], 1))
    assert len(kinds) == len(strangers.MADE) + len(strangers.ALTERED)
    for what in kinds:
        made = strangers.picture(what)
        assert made.dtype == np.uint8
        assert made.ndim == 3
        assert made.shape[2] == 3
    assert (strangers.picture(kinds[0]) == strangers.picture(kinds[0])).all()


@pytest.mark.parametrize(
    ("of_before", "called_from", "kept"),
    [
        ("a" * 64, {}, {"ablations", "explanations", "stress"}),
        ("a" * 64, {"doubtful_below": 0.9}, {"ablations", "explanations"}),
        ("b" * 64, {}, {"ablations"}),
    ],
)
def test_an_export_keeps_the_figures_that_still_hold(of_before, called_from, kept):
    figures = {"ablations": 1, "explanations": 2, "classification": 3, "stress": 4, "conformal": 5}
    before = tiny_card(sha256=of_before, metrics=figures, **called_from)
    made = tiny_card(sha256="a" * 64, metrics={"conformal": 6})
    carried = export.carry(before, made)
    assert set(carried.metrics) == {*kept, "conformal"}
    assert carried.metrics["conformal"] == 6
