"""qmmfl serve: the page."""

import argparse
import contextlib
import socket
import ssl
from pathlib import Path

from .status import OK, complain, named, offer_weights


def declare(verbs) -> None:
    """Add the verb to the parser."""
    serve = verbs.add_parser("serve", help="serve the page")
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    serve.add_argument("--port", type=int, default=7860, help="port to listen on (default: %(default)s)")
    serve.add_argument("--auth-file", type=named, metavar="FILE", help="lines of user:password that may log in")
    serve.add_argument(
        "--tls", type=named, nargs=2, metavar=("CERTIFICATE", "KEY"), help="serve https with these two PEM files"
    )
    serve.set_defaults(run=_serve)
    offer_weights(serve)


def _serve(options: argparse.Namespace) -> int:
    from .. import guard, pipeline, ui
    from ..weights import WeightsError

    try:
        auth = _users(options.auth_file) if options.auth_file else None
        guard.allow(options.host, bool(auth))  # before the seconds that loading takes
        _check_address(options.host, options.port)
        if options.tls:
            _check_tls(*options.tls)
        elif auth and options.host not in guard.LOOPBACK:
            complain("passwords and photographs travel unencrypted; serve with --tls, or behind a proxy that encrypts")
        model = pipeline.load(options.weights, options.device, options.runtime)
        ui.serve(model, options.host, options.port, auth, options.tls)
    except (WeightsError, ValueError, OSError) as error:
        return complain(str(error))
    return OK


def _check_address(host: str, port: int) -> None:
    """Raise ValueError where nothing can listen there: Gradio takes each reason for a port that is taken."""
    if not 1 <= port <= 65535:
        raise ValueError(f"there is no port {port}; choose one from 1 to 65535 with --port")
    if not _can_listen(host, 0):
        raise ValueError(f"{host} is no address of this machine; choose another with --host, such as 127.0.0.1")
    if not _can_listen(host, port):
        raise ValueError(f"port {port} is taken, or not open to you; choose another with --port")


def _can_listen(host: str, port: int) -> bool:
    with contextlib.suppress(OSError, UnicodeError):  # no such host, or no name that one could have
        for family, *_, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            with contextlib.suppress(OSError), socket.create_server(address, family=family):
                return True
    return False


def _check_tls(certificate: Path, key: Path) -> None:
    """Raise ValueError where the two files cannot be served with."""
    for path in (certificate, key):
        if not path.is_file():
            raise ValueError(f"there is no {path}; name a certificate and its key after --tls")
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(certificate, key, lambda: "")
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise ValueError(
            f"{certificate.name} and {key.name} are no certificate in PEM and its own key without a passphrase; "
            "name such a pair after --tls"
        ) from error


def _users(path: Path) -> list[tuple[str, str]]:
    try:
        lines = path.read_text("utf-8-sig").splitlines()  # a byte order mark is no part of the first name
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}); name a file of user:password lines") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path.name} must hold lines of user:password, as text in UTF-8") from None
    parts = [line.partition(":") for line in lines if line.strip()]
    users = [(user.strip(), password.strip()) for user, _, password in parts]
    if not users or not all(map(all, users)):
        raise ValueError(f"{path.name} must hold lines of user:password, neither of them empty")
    return users
