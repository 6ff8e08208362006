"""The command line. Nothing heavy is imported before a verb needs it."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from . import __version__, labels

if TYPE_CHECKING:
    from .pipeline import Pipeline

OK, REFUSED, USAGE, INTERRUPTED = 0, 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb. Returns 0 if every input was read, 1 if some were refused, 2 for wrong usage."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.verb is None:
        parser.print_help()
        return USAGE
    return options.run(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "qmmfl",
        description="Reads colour fundus photographs: synthesized modalities, findings, grade, and where they come "
        "from. Research demonstration, not a medical device.",
    )
    parser.add_argument("--version", action="version", version=f"qmmfl {__version__}")
    verbs = parser.add_subparsers(dest="verb", title="verbs")

    read = verbs.add_parser("read", help="read photographs into a folder of reports")
    read.add_argument("paths", nargs="+", metavar="PATH", help="photographs or folders of them")
    read.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder for the reports")
    read.add_argument("--no-planes", action="store_true", help="leave out the synthesized planes")
    read.add_argument("--no-pdf", action="store_true", help="leave out report.pdf, which takes longest to write")
    read.add_argument("--restart", action="store_true", help="begin anew; by default a stopped run goes on")
    read.add_argument("--cluster", metavar="ADDRESS", help="read on a Ray cluster (auto, local or ray://host:port)")
    read.set_defaults(run=_read)

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

    serve = verbs.add_parser("serve", help="serve the page")
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    serve.add_argument("--port", type=int, default=7860, help="port to listen on (default: %(default)s)")
    serve.add_argument("--auth-file", type=Path, metavar="FILE", help="lines of user:password that may log in")
    serve.set_defaults(run=_serve)

    for verb in (read, explain, evidence, place, serve):
        verb.add_argument(
            "--weights", metavar="W", help="folder, or owner/repo@revision on the Hub (default: embedded)"
        )
        verb.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")

    stored = verbs.add_parser("weights", help="show, verify, fetch or carry weights").add_subparsers(
        dest="action", required=True, metavar="show | verify | fetch | export | import"
    )
    for action, help_ in (
        ("show", "what the weights are, learnt from and reach"),
        ("verify", "check their hash"),
        ("export", "write them to one file, for a machine without a network"),
    ):
        verb = stored.add_parser(action, help=help_)
        verb.add_argument("--weights", metavar="W", help="folder, or owner/repo@revision (default: embedded)")
    stored.choices["export"].add_argument(
        "target", type=Path, metavar="FILE|DIR", help="the file to write, or a folder for it"
    )
    verb = stored.add_parser("fetch", help="fetch them from the Hub, also where they are cached, and check their hash")
    verb.add_argument("source", metavar="owner/repo@revision")
    verb = stored.add_parser("import", help="check an exported file and unpack it")
    verb.add_argument("file", type=Path, metavar="FILE")
    verb.add_argument("--out", required=True, type=Path, metavar="DIR", help="a new folder, for --weights DIR")
    for verb in stored.choices.values():
        verb.set_defaults(run=_weights)
    return parser


def _read(options: argparse.Namespace) -> int:
    from . import results, runs

    if next(results.find_photographs(options.paths, options.out), None) is None:
        return _complain("there is no photograph in the folders named; photographs end in " + " ".join(results.ENDINGS))
    try:
        sha256, reader = _prepare(options)
    except ValueError as error:  # weights that cannot be used, or no such device
        return _complain(str(error))
    try:
        return _screen(options, sha256, reader)
    except runs.RunError as error:
        return _complain(str(error))
    except OSError as error:
        fault = error.strerror or type(error).__name__
        return _complain(f"cannot write to {options.out}: {fault}; make room, or name another folder")
    except KeyboardInterrupt:
        print("\nqmmfl: stopped; the same command goes on from here", file=sys.stderr)
        return INTERRUPTED


def _prepare(options: argparse.Namespace) -> tuple[str, "Pipeline | None"]:
    """Hash of the weights, and the pipeline, which on a cluster each worker makes for itself."""
    from . import pipeline, weights

    if options.cluster:
        return weights.verify(weights.find(options.weights)[0]).sha256, None
    reader = pipeline.load(options.weights, options.device)
    if reader.banner:
        print(f"qmmfl: {reader.banner}", file=sys.stderr)
    return reader.card.sha256, reader


def _screen(options: argparse.Namespace, sha256: str, reader: "Pipeline | None") -> int:
    """Read what has no row yet, with progress and the time left on standard error."""
    from functools import partial

    from tqdm import tqdm

    from . import cluster, pipeline, results, runs, screening

    parts = results.Parts(pdf=not options.no_pdf, planes=not options.no_planes)
    with runs.Run(options.out, sha256, parts, restart=options.restart) as run:
        if run.counts:
            print(f"qmmfl: {run.counts.total()} are read already; going on", file=sys.stderr)
        total = sum(1 for _ in run.pending(options.paths))
        sources = run.pending(options.paths)
        if reader is None:
            folder = options.weights and Path(options.weights).is_dir()  # a worker has another working directory
            source = Path(options.weights).absolute() if folder else options.weights
            load = partial(pipeline.load, source, options.device)
            rows = cluster.screen(sources, run, load, address=options.cluster)
        else:
            rows = screening.screen(sources, run, reader)
        pause = 0.5 if sys.stderr.isatty() else 30  # [s] between two lines in a log
        bar = tqdm(rows, total=total, unit="eye", file=sys.stderr, mininterval=pause, dynamic_ncols=True)
        for row in bar:
            refused = row["status"] == screening.REFUSED
            line = f"{row['status']:<11} {row['reason' if refused else 'input']}"
            bar.write(line, file=sys.stderr if refused else sys.stdout)
        results.write_parquet(options.out / runs.SUMMARY)
        counted = ", ".join(f"{count} {status}" for status, count in sorted(run.counts.items()))
        print(f"qmmfl: {counted}; {options.out / runs.SUMMARY}", file=sys.stderr)
        return REFUSED if run.counts[screening.REFUSED] else OK


def _explain(options: argparse.Namespace) -> int:
    from . import dossier, explain, pipeline
    from .records import PhotographError

    try:
        explain.check(options.finding, options.method, options.modality)
        reader = pipeline.load(options.weights, options.device)
        made = explain.explain(reader, options.path, options.finding, options.method, options.modality)
        dossier.write(options.out, made)
    except (PhotographError, explain.ExplanationError) as error:
        print(f"refused     {error}", file=sys.stderr)
        return REFUSED
    except ValueError as error:  # an unknown finding, or weights that cannot be used
        return _complain(str(error))
    except OSError as error:
        return _complain(f"cannot write to {options.out}: {error.strerror}; name another folder with --out")
    print(f"{made.code:<11} {options.out}")
    return OK


def _evidence(options: argparse.Namespace) -> int:
    from . import evidence, leaflet, pipeline
    from .records import PhotographError

    try:
        reader = pipeline.load(options.weights, options.device)
        report = reader(options.path)
        again = reader(evidence.second_copy(report.photograph)) if options.repeat and report.quality.gradable else None
        leaflet.write_evidence(options.out, report, evidence.measure(report, reader.card.lesion_thresholds, again))
    except PhotographError as error:
        print(f"refused     {error}", file=sys.stderr)
        return REFUSED
    except ValueError as error:  # weights that cannot be used, or no such device
        return _complain(str(error))
    except OSError as error:
        return _complain(f"cannot write to {options.out}: {error.strerror}; name another folder with --out")
    print(f"{'ok' if report.quality.gradable else 'ungradable':<11} {options.out}")
    return OK


def _atlas(options: argparse.Namespace) -> int:
    from . import atlas, leaflet, pipeline, weights
    from .records import PhotographError

    try:
        reader = pipeline.load(options.weights, options.device)
        found = atlas.load(weights.find(options.weights)[0], reader.card.sha256)
    except ValueError as error:  # weights or an atlas that cannot be used, or no such device
        return _complain(str(error))
    try:
        report = reader(options.path)
        placement = found.place(report, options.modality)
        leaflet.write_placement(options.out, report, found, placement, options.by, options.references)
    except (PhotographError, atlas.AtlasError) as error:
        print(f"refused     {error}", file=sys.stderr)
        return REFUSED
    except ValueError as error:  # an unknown finding
        return _complain(str(error))
    except OSError as error:
        return _complain(f"cannot write to {options.out}: {error.strerror}; name another folder with --out")
    print(f"{'far' if placement.far else 'placed':<11} {options.out}")
    return OK


def _serve(options: argparse.Namespace) -> int:
    from . import pipeline, ui
    from .weights import WeightsError

    try:
        auth = _users(options.auth_file) if options.auth_file else None
        ui.serve(pipeline.load(options.weights, options.device), options.host, options.port, auth)
    except (WeightsError, ValueError, OSError) as error:
        return _complain(str(error))
    return OK


def _users(path: Path) -> list[tuple[str, str]]:
    pairs = [line.split(":", 1) for line in path.read_text().splitlines() if line.strip()]
    if not pairs or any(len(pair) != 2 or not all(pair) for pair in pairs):
        raise ValueError(f"{path.name} must hold lines of user:password")
    return [(user.strip(), password.strip()) for user, password in pairs]


def _weights(options: argparse.Namespace) -> int:
    from . import archive, weights

    try:
        if options.action == "import":
            card = archive.read(options.file, options.out)
            folder, name = options.out, str(options.out)
        else:
            folder, name = weights.fetch(options.source) if options.action == "fetch" else weights.find(options.weights)
            card = weights.read_card(folder) if options.action == "show" else weights.verify(folder)
        if options.action == "export":
            name = str(archive.write(folder, options.target))
    except weights.WeightsError as error:
        return _complain(str(error))
    except OSError as error:
        return _complain(f"cannot write the file or folder: {error.strerror}; name another place")
    if options.action == "show":
        print(json.dumps({"source": name, **card.summary(), "metrics": dict(card.metrics)}, indent=1))
    else:
        print(f"{name}: {weights.MODEL} matches its card, sha256 {card.sha256}")
    return OK


def _complain(sentence: str) -> int:
    print(f"qmmfl: {sentence}", file=sys.stderr)
    return USAGE


if __name__ == "__main__":
    sys.exit(main())
