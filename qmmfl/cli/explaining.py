"""qmmfl explain, evidence and atlas: one photograph looked at more closely."""

import argparse
from pathlib import Path

from .. import labels
from .status import OK, complain, offer_weights, refuse


def declare(verbs) -> None:
    """Add the verbs to the parser."""
    explain = verbs.add_parser("explain", help="show where one score of a photograph comes from")
    explain.add_argument("path", metavar="PATH", help="a photograph")
    explain.add_argument("--finding", required=True, type=str.upper, metavar="CODE", help="a finding, GRADE or DME")
    explain.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder for the maps and the text")
    explain.add_argument("--method", choices=tuple(labels.METHODS), default="exact", help="default: %(default)s")
    explain.add_argument(
        "--modality",
        choices=(labels.FUSED, *labels.BY_NAME),
        default=labels.FUSED,
        help="the encoder that is looked at (default: all, fused)",
    )
    explain.set_defaults(run=_explain)

    evidence = verbs.add_parser("evidence", help="measure what can be checked: lesions by place, cup, vessels")
    evidence.add_argument("path", metavar="PATH", help="a photograph")
    evidence.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder for numbers, text and picture")
    evidence.add_argument("--repeat", action="store_true", help="read a second copy: shows vessel numbers that repeat")
    evidence.set_defaults(run=_evidence)

    place = verbs.add_parser("atlas", help="place a photograph among the reference eyes")
    place.add_argument("path", metavar="PATH", help="a photograph")
    place.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder for numbers, text and map")
    place.add_argument("--references", type=Path, metavar="FOLDER", help="your copy of the data: shows the neighbours")
    place.add_argument("--by", default="GRADE", type=str.upper, metavar="CODE", help="marks: GRADE or a finding")
    place.add_argument(
        "--modality", choices=(labels.FUSED, *labels.BY_NAME), default=labels.FUSED, help="default: all, fused"
    )
    place.set_defaults(run=_atlas)
    offer_weights(explain)
    offer_weights(evidence)
    offer_weights(place)


def _explain(options: argparse.Namespace) -> int:
    from .. import dossier, explain, pipeline, stages
    from ..records import PhotographError

    try:
        explain.check(options.finding, options.method, options.modality)
        reader = pipeline.load(options.weights, options.device, options.runtime)
        made = explain.explain(reader, options.path, options.finding, options.method, options.modality)
        dossier.write(options.out, made)
    except (PhotographError, explain.ExplanationError) as error:
        return refuse(error)
    except ValueError as error:  # an unknown finding, or weights that cannot be used
        return complain(str(error))
    except OSError as error:
        return complain(f"cannot write to {options.out}: {error.strerror}; name another folder with --out")
    except stages.FAILURES as error:
        return refuse(stages.describe(f"Explanation of {options.finding}", error))
    print(f"{made.code:<11} {options.out}")
    return OK


def _evidence(options: argparse.Namespace) -> int:
    from .. import evidence, leaflet, pipeline
    from ..records import PhotographError

    try:
        reader = pipeline.load(options.weights, options.device, options.runtime)
        report = reader(options.path)
        again = reader(evidence.second_copy(report.photograph)) if options.repeat and report.quality.gradable else None
        leaflet.write_evidence(options.out, report, evidence.measure(report, reader.card.lesion_thresholds, again))
    except PhotographError as error:
        return refuse(error)
    except ValueError as error:  # weights that cannot be used, or no such device
        return complain(str(error))
    except OSError as error:
        return complain(f"cannot write to {options.out}: {error.strerror}; name another folder with --out")
    print(f"{'ok' if report.quality.gradable else 'ungradable':<11} {options.out}")
    return OK


def _atlas(options: argparse.Namespace) -> int:
    from .. import atlas, leaflet, pipeline, weights
    from ..records import PhotographError

    try:
        reader = pipeline.load(options.weights, options.device, options.runtime)
        found = atlas.load(weights.find(options.weights)[0], reader.card.sha256)
    except ValueError as error:  # weights or an atlas that cannot be used, or no such device
        return complain(str(error))
    try:
        report = reader(options.path)
        placement = found.place(report, options.modality)
        leaflet.write_placement(options.out, report, found, placement, options.by, options.references)
    except (PhotographError, atlas.AtlasError) as error:
        return refuse(error)
    except ValueError as error:  # an unknown finding
        return complain(str(error))
    except OSError as error:
        return complain(f"cannot write to {options.out}: {error.strerror}; name another folder with --out")
    print(f"{'far' if placement.far else 'placed':<11} {options.out}")
    return OK
