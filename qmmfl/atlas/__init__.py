"""Where an eye lies among reference eyes: their fused features as numbers, no picture; see `training.atlas`.

One file beside the weights holds, per space (all modalities together, and each alone), a linear projection, the
references in it and their places on a two-dimensional map that was fitted offline with UMAP (McInnes et al. 2018). A
new eye is placed between its nearest references: an approximation of UMAP's own transform that takes no UMAP.

atlas = load(weights.find(source)[0], pipeline.card.sha256)
placement = atlas.place(report)
"""

from .file import FILE, load, save
from .places import (
    SPACES,
    SUBJECTS,
    TITLES,
    Atlas,
    AtlasError,
    AtlasMissing,
    Neighbour,
    Placement,
    Space,
    picture_of,
)

__all__ = [
    "FILE",
    "SPACES",
    "SUBJECTS",
    "TITLES",
    "Atlas",
    "AtlasError",
    "AtlasMissing",
    "Neighbour",
    "Placement",
    "Space",
    "load",
    "picture_of",
    "save",
]
