"""The atlas of reference eyes: fused features of the training eyes, projected, and a map of them.

`python -m training.atlas --run first --weights weights --out weights` writes atlas.safetensors into `out` and prints
how good it is. It wants umap-learn and scikit-learn (the `train` extra) and the features of `training.feature_cache`.
Everything that is judged is judged on validation eyes; the test split is not read.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from qmmfl import atlas, labels, weights
from qmmfl.atlas.places import NEAREST, SPACES, Space, flat, located, remoteness
from qmmfl.nets import GRADABLE, Network

from . import data, feature_cache, metrics, planes
from .recipe import Recipe, parse
from .targets import Targets

LIMIT_SHARE = 0.99  # of held-back eyes that are not called far from all references
VOTERS = 15  # nearest references that vote when clusters are judged


@dataclasses.dataclass(frozen=True)
class AtlasRecipe(Recipe):
    """weights: folder they belong to; out: folder to write into; limit: of references and of held-back eyes each;
    components: numbers kept per eye for all modalities together, half as many for each alone.
    """

    weights: Path = Path("weights")
    out: Path = Path("weights")
    limit: int = 6000
    components: int = 32
    neighbours: int = 15  # of UMAP: fewer show finer clusters
    distance: float = 0.1  # of UMAP: how closely points may lie on the map


def build(recipe: AtlasRecipe) -> atlas.Atlas:
    """Make, judge and write the atlas."""
    network, card = weights.load(recipe.weights)
    torch.set_num_threads(recipe.threads)
    rows, features = feature_cache.load(recipe, network)
    check(recipe, network, rows, features)
    cases, _ = data.load()
    every = Targets([cases[row] for row in rows])
    chosen, held, strange = choose(every, recipe)
    used = np.concatenate([chosen, held, strange])
    parts = np.split(np.arange(len(used)), np.cumsum([len(chosen), len(held)]))
    colour, fused = pooled(network, features, used)
    spaces, figures = {}, {"references": len(chosen), "held_back": len(held), "not_photographs": len(strange)}
    figures["clusters"] = {"colour_encoder": clusters(colour, every, used, parts, recipe.components)}
    for name in SPACES:
        size = recipe.components if name == labels.FUSED else recipe.components // 2
        seen = flat(fused, name)
        spaces[name], figures[name] = fit(seen, parts, size, recipe)
        figures["clusters"][name] = clusters(seen, every, used, parts, size)
    made = atlas.Atlas(
        card.sha256,
        tuple(f"{cases[rows[i]].folder}/{Path(cases[rows[i]].path).stem}" for i in chosen),
        every.grade[chosen],
        every.binary[chosen, : len(data.CODES)],
        spaces,
        json.loads(json.dumps(figures), parse_float=lambda text: round(float(text), 4), parse_constant=lambda _: None),
    )
    recipe.out.mkdir(parents=True, exist_ok=True)
    return atlas.save(recipe.out / atlas.FILE, made)


def check(recipe: Recipe, network: Network, rows: np.ndarray, features: np.ndarray) -> None:
    """Raise RuntimeError where the cached features were made by other encoders than these weights hold."""
    _, views = data.load()
    network.encoders.to("cpu")
    probe = np.linspace(0, len(rows) - 1, 3).astype(int)
    for number, modality in enumerate(labels.MODALITIES):
        source = views if modality is labels.COLOUR else planes.load(modality.name, recipe.run)
        wanted = feature_cache.encoded(network, modality, feature_cache.tensor(source[rows[probe]])).numpy()
        cached = features[probe, number].astype(np.float32)
        if np.abs(wanted - cached).mean() > 0.02 * np.abs(wanted).mean() + 1e-3:
            raise RuntimeError(
                f"the cached features of run {recipe.run} are not those of these weights ({modality.name}); "
                "remove features.npy of the run and start again"
            )


def choose(every: Targets, recipe: AtlasRecipe) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Indices of the references (train), the held-back eyes (val), and of pictures that are no fundus photographs."""
    sound = (every.column("FUNDUS") != 0) & (every.column(GRADABLE) != 0)
    labelled = (every.binary[:, : len(data.CODES)] >= 0).any(1) | (every.grade >= 0)
    numbers = np.random.default_rng(recipe.seed)
    found = [
        numbers.permutation(np.flatnonzero(mask))[: recipe.limit]
        for mask in (
            sound & labelled & (every.split == "train"),
            sound & labelled & (every.split == "val"),
            (every.column("FUNDUS") == 0) & (every.split == "val"),
        )
    ]
    return np.sort(found[0]), np.sort(found[1]), np.sort(found[2])


@torch.no_grad()
def pooled(network: Network, features: np.ndarray, used: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means over positions: of the colour encoder's features (n, D), and of the fused ones (n, M, D)."""
    colour, fused = [], []
    for part in tqdm(np.array_split(used, len(used) // 32 + 1), desc="fusion", mininterval=10):
        seen = torch.from_numpy(features[part].astype(np.float32))
        colour.append(seen[:, 0].mean(dim=(-2, -1)))
        fused.append(network.fusion(seen).mean(dim=(-2, -1)))
    return torch.cat(colour).numpy(), torch.cat(fused).numpy()


def projection(references: np.ndarray, components: int) -> Space:
    """Principal components of standardised features (n, d); the largest entry of each is positive."""
    mean, scale = references.mean(0), np.maximum(references.std(0), 1e-6)
    _, _, rows = np.linalg.svd((references - mean) / scale, full_matrices=False)
    rows = rows[:components]
    rows = rows * np.sign(rows[np.arange(len(rows)), np.abs(rows).argmax(1)])[:, None]
    points = ((references - mean) / scale @ rows.T).astype(np.float16).astype(np.float32)  # as they are shipped
    return Space(mean, scale, rows.astype(np.float32), points, np.zeros((len(points), 2), np.float32))


def fit(seen: np.ndarray, parts: list[np.ndarray], size: int, recipe: AtlasRecipe) -> tuple[Space, dict[str, Any]]:
    """The space of features (n, d) whose rows are references, held-back eyes and strange pictures, and its figures."""
    from umap import UMAP  # seconds to import, and only wanted here

    chosen, held, strange = (seen[part] for part in parts)
    space = projection(chosen, size)
    mapper = UMAP(
        n_neighbors=min(recipe.neighbours, len(chosen) - 1),
        min_dist=recipe.distance,
        random_state=recipe.seed,
        n_jobs=1,
    )
    places = np.asarray(mapper.fit_transform(space.references), np.float32)
    middle, reach = np.median(places, 0), np.percentile(np.abs(places - np.median(places, 0)), 99)
    places = (places - middle) / reach
    points, beyond = space.project(held)
    away = space.distances(points)
    distance = remoteness(away, beyond)
    typical = float(np.median(distance))
    space = dataclasses.replace(space, coordinates=places.astype(np.float16).astype(np.float32), typical=typical)
    space = dataclasses.replace(space, limit=float(np.quantile(distance, LIMIT_SHARE)) / typical)
    transformed = (np.asarray(mapper.transform(points), np.float32) - middle) / reach
    error = np.hypot(*(located(space, away) - transformed).T)
    numbers = np.random.default_rng(recipe.seed)
    chance = np.hypot(*(places[numbers.integers(0, len(places), len(held))] - transformed).T)
    far = {}
    if len(strange):
        others = space.project(strange)
        far["not_photographs_called_far"] = float(
            (remoteness(space.distances(others[0]), others[1]) / typical > space.limit).mean()
        )
    return space, {
        "variance_kept": float((space.references**2).sum() / (((chosen - space.mean) / space.scale) ** 2).sum()),
        "placement_error": {"median": float(np.median(error)), "p90": float(np.percentile(error, 90))},
        "placement_error_by_chance": float(np.median(chance)),
        "limit": space.limit,
        **far,
    }


def clusters(
    seen: np.ndarray, every: Targets, used: np.ndarray, parts: list[np.ndarray], size: int
) -> dict[str, float | None]:
    """How well equal labels lie together in the projection of features (n, d): votes of the nearest references for
    held-back eyes, and silhouettes of the held-back eyes. Chance: `*_most_common` for accuracies, 0.5 for AUC, 0 for
    silhouettes. `*_data_set` tells how much the map sorts cameras instead of disease.
    """
    from sklearn.metrics import silhouette_score

    space = projection(seen[parts[0]], size)
    points = space.project(seen[parts[1]])[0]
    chosen, held = used[parts[0]], used[parts[1]]
    away = space.distances(points)
    sets = np.unique(every.folder, return_inverse=True)[1]
    result: dict[str, float | None] = {}
    for name, label in (("grade", every.grade.astype(int)), ("data_set", sets)):
        known, asked = label[chosen] >= 0, label[held] >= 0
        truth, pool = label[held][asked], label[chosen][known]
        if len(truth) < 2 or len(pool) < VOTERS or len(np.unique(truth)) < 2:
            continue
        nearest = np.argsort(away[np.ix_(asked, known)], axis=1, kind="stable")[:, :VOTERS]
        vote = np.array([np.bincount(pool[row]).argmax() for row in nearest])
        each = [float((vote[truth == value] == value).mean()) for value in np.unique(truth)]
        result |= {
            f"knn_{name}": float((vote == truth).mean()),
            f"knn_{name}_balanced": float(np.mean(each)),
            f"knn_{name}_most_common": float((truth == np.bincount(pool).argmax()).mean()),
            f"silhouette_{name}": float(silhouette_score(points[asked], truth)),
        }
    aucs = []
    for index, code in enumerate(data.CODES):
        known, asked = every.binary[chosen, index] >= 0, every.binary[held, index] >= 0
        truth = every.binary[held, index][asked] == 1
        if truth.sum() < 10 or truth.all() or known.sum() < VOTERS:
            continue
        nearest = np.argsort(away[np.ix_(asked, known)], axis=1, kind="stable")[:, :VOTERS]
        share = (every.binary[chosen, index][known] == 1)[nearest].mean(1)
        aucs.append(metrics.auc(truth, share))
        if code == "DR":
            result["silhouette_DR"] = float(silhouette_score(points[asked], truth))
    result["knn_findings_auc"] = float(np.mean(aucs)) if aucs else None
    return result


def table(figures: dict[str, Any]) -> str:
    """The figures as Markdown."""
    names = sorted({key for each in figures["clusters"].values() for key in each})
    columns = list(figures["clusters"])
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name in names:
        values = [figures["clusters"][column].get(name) for column in columns]
        lines.append(f"| {name} | " + " | ".join("" if v is None else f"{v:.3f}" for v in values) + " |")
    placed = {name: figures[name] for name in SPACES}
    return "\n".join([*lines, "", json.dumps(placed, indent=1)])


if __name__ == "__main__":
    written = build(parse(AtlasRecipe)[0])
    print(table(dict(written.figures)))
    print(f"{len(written.references)} references, {NEAREST} nearest, sha256 {written.sha256}")
