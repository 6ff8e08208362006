"""What is in doubt is said so: undecided calls, doubtful photographs, grades that are not the most probable."""

import csv
import dataclasses
import io
import json

import numpy as np
from conftest import ROOT, tiny_card, tiny_network

from qmmfl import conclusions, explain, labels, pipeline, prose, results, review, weights
from qmmfl.nets import GRADE, OEDEMA, OUTPUTS, THREAT, runtime
from qmmfl.prose import explanation, markup, sentences, wording


def test_the_grade_follows_the_threshold_and_says_where_another_is_more_probable():
    card = tiny_card(grade=weights.GradeCalibration(1.0, (0.0, 1.0), 1.0, (3.0, 4.0), 0.25))
    logits = np.zeros(len(OUTPUTS), np.float32)

    def graded(score, card=card):
        logits[[OUTPUTS.index(GRADE), OUTPUTS.index(THREAT)]] = score
        return conclusions.find_grade(card, runtime.Scores(logits, logits, None, None), None)

    moderate, severe = graded(2.0), graded(3.0)
    assert (moderate.grade, moderate.vision_threatening, moderate.reason) == (2, False, None)
    assert (severe.grade, severe.more_than_mild, severe.vision_threatening) == (3, True, True)
    assert np.argmax(severe.probabilities) == 2
    assert severe.reason.startswith("grade 2 is more probable alone; called is the highest")
    assert severe.reason.endswith("25 %")
    shy = dataclasses.replace(card, grade=dataclasses.replace(card.grade, threshold=0.9))
    mild = graded(2.0, shy)
    assert (mild.grade, mild.more_than_mild, mild.threshold) == (0, False, 0.9)
    assert sum(mild.probabilities[2:]) > 0.7


def test_an_eye_without_vessels_is_not_gradable_but_can_be_asked_for(eye):
    card = tiny_card(least_vessels=1.01)  # more than there can be
    reader = pipeline.Pipeline(tiny_network(), card, "test", "cpu")
    report = reader(eye.photograph)
    assert not report.quality.gradable
    assert "No retinal vessels" in report.quality.reasons[0]
    assert report.finding("DR").probability is None
    assert reader(eye.photograph, override=True).finding("DR").probability is not None


def test_a_doubtful_photograph_is_read_and_said_to_be_doubtful(eye):
    def read(**fields):
        return pipeline.Pipeline(tiny_network(), tiny_card(**fields), "test", "cpu")(eye.photograph)

    report = read(doubtful_below=1.0)
    assert report.quality.gradable
    assert report.quality.doubtful
    assert report.finding("DR").probability is not None
    assert prose.reservations(report)[0].startswith("Image quality is in doubt")
    assert prose.headline(report).startswith("Image quality in doubt: ")
    assert report.to_dict()["quality"]["doubtful"] is True
    for sure in (read(doubtful_below=0.0), read()):
        assert not sure.quality.doubtful
        assert not any("quality" in said for said in prose.reservations(sure))
    assert read(doubtful_below=1.0, least_vessels=1.01).quality.doubtful is None, (
        "what is not read is refused, not doubted"
    )


def test_an_undecided_finding_is_said_so(eye):
    unsure = weights.Calibration(1.1, 0.2, 0.4, "validation eyes", 0.0, 1.0)
    card = tiny_card()
    card = dataclasses.replace(card, calibrations={**card.calibrations, "DR": unsure})
    report = pipeline.Pipeline(tiny_network(), card, "test", "cpu")(eye.photograph, override=True)
    assert report.finding("DR").undecided is True
    assert report.finding("DN").undecided is None, "the card promises nothing"
    assert prose.call(report.finding("DR")).endswith(", undecided")
    assert "undecided" not in prose.call(report.finding("DN"))
    assert {f["code"]: f["undecided"] for f in report.to_dict()["findings"]}["DR"] is True
    assert report.dme.undecided is None


def test_an_undecided_risk_of_oedema_is_said_so(eye):
    card = tiny_card()
    unsure = weights.Calibration(1.1, 0.2, 0.4, weights.VALIDATION, 0.0, 1.0)
    card = dataclasses.replace(card, calibrations={**card.calibrations, OEDEMA: unsure})
    report = pipeline.Pipeline(tiny_network(), card, "test", "cpu")(eye.photograph, override=True)
    assert report.dme.undecided is True
    assert ", undecided, " in sentences.oedema(report)
    assert wording.UNDECIDED in sentences.footnotes(report)
    assert results.summarise(report)["undecided_DME"] == 1
    rows = csv.DictReader(io.StringIO(review.to_csv([(report, review.Review())])))
    assert {row["code"]: row["undecided"] for row in rows}[OEDEMA] == "True"


def test_an_undecided_call_of_the_grade_is_said_so(eye):
    card = tiny_card()
    sure = pipeline.Pipeline(tiny_network(), card, "test", "cpu")(eye.photograph, override=True)
    assert (sure.dr.more_than_mild_undecided, sure.dr.vision_threatening_undecided) == (None, None), "no promise"
    assert not any("undecided" in value for _, value in sentences.facts(sure))
    grade = dataclasses.replace(
        card.grade, cuts=(-9.0, 0.0), more_than_mild_undecided=(0.0, 0.0), vision_threatening_undecided=(0.0, 1.0)
    )
    card = dataclasses.replace(card, grade=grade)
    report = pipeline.Pipeline(tiny_network(), card, "test", "cpu")(eye.photograph, override=True)
    assert (report.dr.more_than_mild_undecided, report.dr.vision_threatening_undecided) == (False, True)
    assert report.to_dict()["dr"]["vision_threatening_undecided"] is True
    said = dict(sentences.facts(report))
    assert ", undecided, " in said[labels.SCORES[THREAT]]
    assert "undecided" not in said[wording.MORE_THAN_MILD]
    assert "undecided" in sentences.standing(report, THREAT)[0]
    assert prose.headline(report).endswith(" Whether the grade threatens vision is undecided.")
    assert wording.UNDECIDED in sentences.footnotes(report)
    row = results.summarise(report)
    assert (row["undecided_more_than_mild"], row["undecided_vision_threatening"]) == (0, 1)
    rows = csv.DictReader(io.StringIO(review.to_csv([(report, review.Review())])))
    assert {row["code"]: row["undecided"] for row in rows if row["code"] in labels.CALLS} == {
        "MTMDR": "False",
        THREAT: "True",
    }


def test_what_may_threaten_vision_may_be_more_than_mild_and_so_retinopathy():
    logits = np.full(len(OUTPUTS), -9.0, np.float32)
    promise = {"more_than_mild_undecided": (0.5, 0.6), "vision_threatening_undecided": (0.0, 1.0)}
    card = tiny_card(grade=weights.GradeCalibration(1.0, (0.0, 1.0), 1.0, (3.0, 4.0), 0.4, **promise))

    def said(card):
        scores = runtime.Scores(logits, logits, None, None)
        found = {each.code: each for each in conclusions.find_findings(card, scores, None)}
        return conclusions.find_grade(card, scores, None), found["DR"]

    grade, retinopathy = said(card)
    assert (grade.grade, grade.more_than_mild_undecided, grade.vision_threatening_undecided) == (0, True, True)
    assert (retinopathy.suspected, retinopathy.undecided) == (False, True)
    closed = dataclasses.replace(card.grade, vision_threatening_undecided=(0.5, 0.6))
    grade, retinopathy = said(dataclasses.replace(card, grade=closed))
    assert (grade.more_than_mild_undecided, grade.vision_threatening_undecided) == (False, False)
    assert not retinopathy.undecided


def test_an_explanation_says_that_its_score_is_undecided(eye):
    card = tiny_card()
    unsure = weights.Calibration(1.1, 0.2, 0.4, weights.VALIDATION, 0.0, 1.0)
    grade = dataclasses.replace(
        card.grade, more_than_mild_undecided=(0.0, 0.0), vision_threatening_undecided=(0.0, 1.0)
    )
    card = dataclasses.replace(card, grade=grade, calibrations={**card.calibrations, OEDEMA: unsure})
    unsure = pipeline.Pipeline(tiny_network(), card, "test", "cpu")
    report = unsure(eye.photograph)
    said = {code: explanation.standing_text(explain.explain(unsure, report, code)) for code in (GRADE, THREAT, OEDEMA)}
    assert {code: "undecided" in words for code, words in said.items()} == {GRADE: False, THREAT: True, OEDEMA: True}
    assert wording.UNDECIDED in said[THREAT]
    assert "It is not flagged" not in said[THREAT]
    assert explain.explain(unsure, report, THREAT).to_dict()["finding"]["undecided"] is True


def test_a_finding_calibrated_on_eyes_that_were_learnt_from_is_marked(eye):
    card = tiny_card()
    rare = weights.Calibration(1.1, 0.2, 0.4, "cross-fitted over 5 folds")
    card = dataclasses.replace(card, calibrations={**card.calibrations, "DR": rare})
    report = pipeline.Pipeline(tiny_network(), card, "test", "cpu")(eye.photograph, override=True)
    assert report.finding("DR").few_eyes
    assert not report.finding("DN").few_eyes
    assert ", few eyes" in prose.call(report.finding("DR"))
    assert wording.FEW_EYES in markup.findings_html(report)


def test_cards_of_before_still_load():
    values = json.loads(json.dumps(tiny_card().to_dict()))
    for each in values["calibrations"].values():
        del each["undecided_low"], each["undecided_high"]
    del values["grade"]["more_than_mild_undecided"], values["grade"]["vision_threatening_undecided"]
    assert weights.Card.from_dict(values).calibrations["DR"].undecided(0.4) is None
    weights.read_card(ROOT / "weights")
