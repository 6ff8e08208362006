"""The atlas on disk: one file beside the weights, with its own hash and that of the weights it belongs to."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from .. import labels, weights
from .places import SPACES, Atlas, AtlasError, AtlasMissing, Space

FILE = weights.ATLAS
SCHEMA = "1"
_CODES = ",".join(labels.FINDINGS)
_KINDS = {
    "mean": np.float32,
    "scale": np.float32,
    "components": np.float32,
    "references": np.float16,
    "coordinates": np.float16,
}


def load(folder: Path, weights_sha256: str) -> Atlas:
    """The atlas beside the weights in `folder`. Raises AtlasError where it is damaged or of other weights, its kind
    AtlasMissing where there is none.
    """
    path = folder / FILE
    if not path.is_file():
        raise AtlasMissing
    try:
        with safe_open(path, framework="numpy") as file:
            about = dict(file.metadata() or {})
            arrays = {name: file.get_tensor(name) for name in sorted(file.keys())}
    except (SafetensorError, OSError) as error:
        raise AtlasError(f"the reference eyes ({FILE}) are damaged; fetch the weights again") from error
    sha256 = about.pop("sha256", "")
    if sha256 != _digest(about, arrays):
        raise AtlasError(f"the reference eyes ({FILE}) are not what was written; fetch the weights again")
    if about.get("schema") != SCHEMA or about.get("codes") != _CODES:
        raise AtlasError(f"the reference eyes ({FILE}) are of another version of qmmfl; fetch the weights again")
    if about["weights_sha256"] != weights_sha256:
        raise AtlasError(
            f"the reference eyes ({FILE}) belong to weights {about['weights_sha256'][:12]}, not to these "
            f"({weights_sha256[:12]}); fetch the weights again"
        )
    return Atlas(
        weights_sha256,
        tuple(json.loads(about["references"])),
        arrays["grades"],
        arrays["findings"],
        {name: _space(name, about, arrays) for name in SPACES if f"{name}.mean" in arrays},
        json.loads(about["figures"]),
        sha256,
    )


def save(path: Path, atlas: Atlas) -> Atlas:
    """Write an atlas, features in half precision; returns it with its hash filled in."""
    arrays = {"grades": atlas.grades.astype(np.int8), "findings": atlas.findings.astype(np.int8)}
    scales: dict[str, dict[str, float]] = {}
    for name, space in atlas.spaces.items():
        arrays |= {f"{name}.{part}": getattr(space, part).astype(kind) for part, kind in _KINDS.items()}
        scales[name] = {"typical": space.typical, "limit": space.limit}
    about = {
        "schema": SCHEMA,
        "codes": _CODES,
        "weights_sha256": atlas.weights_sha256,
        "references": json.dumps(atlas.references),
        "scales": json.dumps(scales),
        "figures": json.dumps(atlas.figures, sort_keys=True),
    }
    sha256 = _digest(about, arrays)
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path, about | {"sha256": sha256})
    return replace(atlas, sha256=sha256)


def _space(name: str, about: Mapping[str, str], arrays: Mapping[str, np.ndarray]) -> Space:
    parts = {part: arrays[f"{name}.{part}"].astype(np.float32) for part in _KINDS}
    return Space(**parts, **json.loads(about["scales"])[name])


def _digest(about: Mapping[str, str], arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 over everything in the file but itself."""
    state = hashlib.sha256(json.dumps(sorted(about.items())).encode())
    for name, array in sorted(arrays.items()):
        state.update(f"{name} {array.dtype} {array.shape}".encode() + np.ascontiguousarray(array).tobytes())
    return state.hexdigest()
