"""qmmfl weights: show, verify, fetch or carry weights."""

import argparse
import contextlib
import json

from .status import OK, complain, named, source


def declare(verbs) -> None:
    """Add the verb to the parser."""
    stored = verbs.add_parser("weights", help="show, verify, fetch or carry weights").add_subparsers(
        dest="action", required=True, metavar="show | verify | fetch | export | import"
    )
    for action, help_ in (
        ("show", "what the weights are, learnt from and reach"),
        ("verify", "check their hash"),
        ("export", "write them to one file, for a machine without a network"),
    ):
        verb = stored.add_parser(action, help=help_)
        verb.add_argument(
            "--weights", type=source, metavar="W", help="folder, or owner/repo@revision (default: embedded)"
        )
    stored.choices["export"].add_argument(
        "target", type=named, metavar="FILE|DIR", help="the file to write, or a folder for it"
    )
    verb = stored.add_parser("fetch", help="fetch them from the Hub, also where they are cached, and check their hash")
    verb.add_argument("source", metavar="owner/repo@revision")
    verb = stored.add_parser("import", help="check an exported file and unpack it")
    verb.add_argument("file", type=named, metavar="FILE")
    verb.add_argument("--out", required=True, type=named, metavar="DIR", help="a new folder, for --weights DIR")
    for verb in stored.choices.values():
        verb.set_defaults(run=_weights)


def _weights(options: argparse.Namespace) -> int:
    from .. import archive, atlas, weights

    try:
        if options.action == "import":
            card = archive.read(options.file, options.out)
            folder, name = options.out, str(options.out)
        else:
            folder, name = weights.fetch(options.source) if options.action == "fetch" else weights.find(options.weights)
            card = weights.read_card(folder) if options.action == "show" else weights.verify(folder)
            if options.action != "show":
                with contextlib.suppress(atlas.AtlasMissing):
                    atlas.load(folder, card.sha256)
        if options.action == "export":
            name = str(archive.write(folder, options.target))
    except (weights.WeightsError, atlas.AtlasError) as error:
        return complain(str(error))
    except OSError as error:
        return complain(f"cannot write the file or folder: {error.strerror}; name another place")
    if options.action == "show":
        learnt = {"data": list(card.data), "counts": dict(card.counts)}
        print(json.dumps({"source": name, **card.summary(), **learnt, "metrics": dict(card.metrics)}, indent=1))
    else:
        print(f"{name}: {weights.MODEL} matches its card, sha256 {card.sha256}")
    return OK
