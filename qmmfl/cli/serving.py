"""qmmfl serve: the page."""

import argparse
from pathlib import Path

from .status import OK, complain, offer_weights


def declare(verbs) -> None:
    """Add the verb to the parser."""
    serve = verbs.add_parser("serve", help="serve the page")
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    serve.add_argument("--port", type=int, default=7860, help="port to listen on (default: %(default)s)")
    serve.add_argument("--auth-file", type=Path, metavar="FILE", help="lines of user:password that may log in")
    serve.set_defaults(run=_serve)
    offer_weights(serve)


def _serve(options: argparse.Namespace) -> int:
    from .. import pipeline, ui
    from ..weights import WeightsError

    try:
        auth = _users(options.auth_file) if options.auth_file else None
        ui.serve(pipeline.load(options.weights, options.device, options.runtime), options.host, options.port, auth)
    except (WeightsError, ValueError, OSError) as error:
        return complain(str(error))
    return OK


def _users(path: Path) -> list[tuple[str, str]]:
    pairs = [line.split(":", 1) for line in path.read_text().splitlines() if line.strip()]
    if not pairs or any(len(pair) != 2 or not all(pair) for pair in pairs):
        raise ValueError(f"{path.name} must hold lines of user:password")
    return [(user.strip(), password.strip()) for user, password in pairs]
