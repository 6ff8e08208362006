"""The command line. Nothing heavy is imported before a verb needs it."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from . import __version__

OK, REFUSED, USAGE = 0, 1, 2


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
    read.set_defaults(run=_read)

    serve = verbs.add_parser("serve", help="serve the page")
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    serve.add_argument("--port", type=int, default=7860, help="port to listen on (default: %(default)s)")
    serve.add_argument("--auth-file", type=Path, metavar="FILE", help="lines of user:password that may log in")
    serve.set_defaults(run=_serve)

    for verb in (read, serve):
        verb.add_argument(
            "--weights", metavar="W", help="folder, or owner/repo@revision on the Hub (default: embedded)"
        )
        verb.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")

    stored = verbs.add_parser("weights", help="show or verify weights")
    stored.add_argument("action", choices=("show", "verify"))
    stored.add_argument("--weights", metavar="W", help="folder, or owner/repo@revision on the Hub (default: embedded)")
    stored.set_defaults(run=_weights)
    return parser


def _read(options: argparse.Namespace) -> int:
    from . import photograph, pipeline, results
    from .records import PhotographError
    from .weights import WeightsError

    try:
        folder = results.Folder(options.out)
    except OSError as error:
        return _complain(f"cannot write to {options.out}: {error.strerror}; name another folder with --out")
    paths = list(results.find_photographs(options.paths))
    if not paths:
        return _complain("there is no photograph in the folders named; photographs end in " + " ".join(results.ENDINGS))
    try:
        reader = pipeline.load(options.weights, options.device)
    except (WeightsError, ValueError) as error:
        return _complain(str(error))
    status = OK
    for path in paths:
        try:
            report = reader(photograph.read(path))
        except PhotographError as error:
            folder.refuse(path, error)
            print(f"refused     {error}", file=sys.stderr)
            status = REFUSED
            continue
        print(f"{folder.add(path, report, planes=not options.no_planes):<11} {path}")
    return status


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
    from . import weights

    try:
        folder, name = weights.find(options.weights)
        card = weights.verify(folder) if options.action == "verify" else weights.read_card(folder)
    except weights.WeightsError as error:
        return _complain(str(error))
    if options.action == "verify":
        print(f"{name}: {weights.MODEL} matches its card, sha256 {card.sha256}")
    else:
        print(json.dumps({"source": name, **card.summary(), "metrics": dict(card.metrics)}, indent=1))
    return OK


def _complain(sentence: str) -> int:
    print(f"qmmfl: {sentence}", file=sys.stderr)
    return USAGE


if __name__ == "__main__":
    sys.exit(main())
