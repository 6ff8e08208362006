"""qmmfl explain, whatif, evidence and atlas: one photograph looked at more closely."""

import argparse
from collections.abc import Callable
from functools import partial

from .. import labels
from ..records import PhotographError, Report
from .status import OK, complain, load, named, offer_weights, refuse


def declare(verbs) -> None:
    """Add the verbs to the parser."""
    explain = verbs.add_parser("explain", help="show where one score of a photograph comes from")
    explain.add_argument("path", type=named, metavar="PATH", help="a photograph")
    explain.add_argument("--finding", required=True, type=str.upper, metavar="CODE", help="a finding, GRADE, VTDR, DME")
    explain.add_argument("--out", required=True, type=named, metavar="DIR", help="folder for the maps and the text")
    explain.add_argument("--method", choices=tuple(labels.METHODS), help="default: see --modality")
    explain.add_argument(
        "--modality",
        choices=(labels.FUSED, *labels.BY_NAME),
        help="the encoder that is looked at; with neither this nor --method the kind of map that was measured to lie "
        "best in what people marked, else the exact map of all modalities, fused",
    )
    explain.set_defaults(run=partial(_guarded, _explain))

    whatif = verbs.add_parser("whatif", help="change one thing and see how every probability moves")
    whatif.add_argument("path", type=named, metavar="PATH", help="a photograph")
    whatif.add_argument("--out", required=True, type=named, metavar="DIR", help="folder for numbers, text and chart")
    change = whatif.add_mutually_exclusive_group(required=True)
    change.add_argument("--without", choices=tuple(labels.BY_NAME), metavar="MODALITY", help="drop a modality")
    change.add_argument("--no-lesions", action="store_true", help="with empty lesion maps")
    change.add_argument("--average", choices=tuple(labels.BY_NAME), metavar="MODALITY", help="that of an average eye")
    change.add_argument(
        "--hide",
        nargs=4,
        type=int,
        metavar=("X", "Y", "WIDTH", "HEIGHT"),
        help="paint over a box of the photograph [px]",
    )
    whatif.set_defaults(run=partial(_guarded, _whatif))

    evidence = verbs.add_parser("evidence", help="measure what can be checked: lesions by place, cup, vessels")
    evidence.add_argument("path", type=named, metavar="PATH", help="a photograph")
    evidence.add_argument("--out", required=True, type=named, metavar="DIR", help="folder for numbers, text, picture")
    evidence.add_argument("--repeat", action="store_true", help="read a second copy: shows vessel numbers that repeat")
    evidence.set_defaults(run=partial(_guarded, _evidence))

    place = verbs.add_parser("atlas", help="place a photograph among the reference eyes")
    place.add_argument("path", type=named, metavar="PATH", help="a photograph")
    place.add_argument("--out", required=True, type=named, metavar="DIR", help="folder for numbers, text and map")
    place.add_argument("--references", type=named, metavar="FOLDER", help="your copy of the data: shows the neighbours")
    place.add_argument("--by", default=labels.GRADE, type=str.upper, metavar="CODE", help="marks: GRADE or a finding")
    place.add_argument(
        "--modality", choices=(labels.FUSED, *labels.BY_NAME), default=labels.FUSED, help="default: all, fused"
    )
    place.set_defaults(run=partial(_guarded, _atlas))
    for verb in (explain, whatif, evidence, place):
        offer_weights(verb)


def _guarded(work: Callable[[argparse.Namespace], str], options: argparse.Namespace) -> int:
    """Do the work and print what it says; every way in which it can fail becomes one sentence and a status."""
    from .. import atlas, explain, stages

    try:
        said = work(options)
    except (PhotographError, explain.ExplanationError, atlas.AtlasError) as error:
        return refuse(error)
    except ValueError as error:  # an unknown finding, weights or an atlas that cannot be used, no such device
        return complain(str(error))
    except OSError as error:
        return complain(f"cannot write to {options.out}: {error.strerror}; name another folder with --out")
    except stages.FAILURES as error:
        return refuse(stages.describe(f"qmmfl {options.verb}", error))
    print(f"{said:<11} {options.out}")
    return OK


def _read(reader: Callable[[str], Report], path: str) -> Report:
    """The report, with the side that nobody needs to be asked about."""
    from .. import evidence, laterality

    return laterality.settled(evidence.sided(reader(path)))


def _explain(options: argparse.Namespace) -> str:
    from .. import dossier, explain

    explain.check(options.finding)
    reader = load(options)
    kind = (options.method or "exact", options.modality or labels.FUSED)
    if not (options.method or options.modality):
        kind = explain.first_kind(reader.card.metrics, options.finding)
    made = explain.explain(reader, _read(reader, options.path), options.finding, *kind)
    dossier.write(options.out, made)
    return made.code


def _whatif(options: argparse.Namespace) -> str:
    from .. import dossier, explain

    if options.hide and min(options.hide[2:]) < 1:
        raise ValueError("a box of --hide needs a width and a height of at least 1 px")
    reader = load(options)
    report = _read(reader, options.path)
    if options.hide:
        found = explain.hide_region(reader, report, tuple(options.hide))
    elif options.no_lesions:
        found = explain.clear_lesions(reader, report)
    elif options.without:
        found = explain.drop_modality(reader, report, options.without)
    else:
        found = explain.swap_modality(reader, report, options.average)
    dossier.write_whatif(options.out, report, found)
    return "changed" if any(move.crosses for move in found.moves.values()) else "unchanged"


def _evidence(options: argparse.Namespace) -> str:
    from .. import evidence, leaflet

    reader = load(options)
    report = _read(reader, options.path)
    again = reader(evidence.second_copy(report.photograph)) if options.repeat and report.quality.gradable else None
    found = evidence.measure(report, reader.card.lesion_thresholds, again, reader.card.vessel_errors)
    leaflet.write_evidence(options.out, report, found)
    if report.failures:
        raise PhotographError(f"{report.photograph.name}: {' '.join(report.failures.values())}")
    return "ok" if report.quality.gradable else "ungradable"


def _atlas(options: argparse.Namespace) -> str:
    from .. import atlas, charts, leaflet

    charts.check_subject(options.by)
    if options.references is not None and not options.references.is_dir():
        raise ValueError(f"there is no folder {options.references}; name your copy of the data after --references")
    reader = load(options)
    assert reader.folder is not None  # what was loaded lies somewhere
    try:
        found = atlas.load(reader.folder, reader.card.sha256)
    except atlas.AtlasMissing as error:
        raise ValueError(f"{error}; the repository's `python -m training.atlas` makes them") from None
    except atlas.AtlasError as error:
        raise ValueError(str(error)) from None  # the weights are to blame, not the photograph
    report = _read(reader, options.path)
    placement = found.place(report, options.modality)
    leaflet.write_placement(options.out, report, found, placement, options.by, options.references)
    return "far" if placement.far else "placed"
