"""What the fusion is worth: the same frozen features, the same budget, everything that could embarrass it.

    python -m training.ablate fusions | photographs | figures    with the options in `training.everything`

"fusions" trains the fusion, the fusion without each modality, each modality alone, additive heads on the colour
encoder, and the paper's fusion block, one after the other. "photographs" trains ResNet-18 and our colour encoder on the
photograph alone, from scratch, at the same size and in as many image passes, the encoder once more from what
`training.pretrain colour` of the run learnt without labels, and from ImageNet (the encoders below the fusions may have
had more passes: compare these with each other). "figures" scores all that is trained, the fusion with each modality
shuffled between eyes, and the one that is exported, which alone has what encoders say on their own (`late_fusion`),
with and without it, on the validation split; with --final on the locked test split, whose planes and features are
computed then, once. Figures go to runs/<run>/ablation/<split>.json; --into puts the final ones into a card. Every stage
resumes.
"""

import copy
import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from qmmfl import labels, weights
from qmmfl.nets import Config, Network

from . import (
    card_tables,
    comparison,
    data,
    encoders,
    feature_cache,
    fusion,
    imagenet,
    late_fusion,
    loop,
    model_card,
    planes,
    rivals,
    unimodal,
)
from .assemble import assemble
from .recipe import RUNS, parse
from .targets import Targets

EXPORTED = "longer"  # the fusion of the run, as it is exported
JOINT = "longer_joint"  # the same without what encoders say on their own, see `late_fusion`
ALONE = "exported_colour"  # both, gone on with on the photograph alone: "fusion_colour" of the run, "unimodal_colour"
_OWN_COLOUR = f"unimodal_{labels.COLOUR.name}"
LEAST = {"val": 5, "test": 10}  # positive eyes of a finding that counts in the macro AUC


def _colour_heads(config: Config) -> nn.Module:
    return unimodal.UnimodalHeads(config, labels.COLOUR.name)


def _colour_net(_: str) -> nn.Module:
    return encoders.Classifier(Config(), labels.COLOUR.name)


PHOTOGRAPHS = {  # name -> title and net, all seeing the photograph alone
    "resnet18": ("ResNet-18 on the photograph, from scratch", lambda init: rivals.ResNet18(init)),
    "colour_net": ("Our colour encoder on the photograph, likewise", _colour_net),
    "colour_net_pretrained": ("The same, started without labels by training.pretrain", _colour_net),
    "colour_net_imagenet": ("The same, started from ImageNet, as the encoder that ships", _colour_net),
}
_STARTS = {  # of those that do not start from scratch, below runs/<run> but for the last
    "colour_net_pretrained": "pretrain_colour/best.pt",
    "colour_net_imagenet": imagenet.NAME,
}
_NAMES = tuple(labels.BY_NAME)


@dataclasses.dataclass(frozen=True)
class AblationRecipe(planes.PlanesRecipe, encoders.EncoderRecipe):
    """only: comma-separated models to train, "all" for all; pool: cells of the features along a side that are averaged
    first, for all fusions alike (2 takes a fifth of the time); init: of ResNet-18, none or imagenet; final: figures on
    the locked test split; into: folder of weights whose card takes the final figures; limit: test eyes at most; guided:
    as in `training.fusion`, of our own fusions.
    """

    only: str = "all"
    pool: int = 1
    guided: float = 0.0
    init: str = "none"
    repeats: int = 500  # bootstrap draws
    final: bool = False
    into: Path | None = None


@dataclasses.dataclass(frozen=True)
class Model:
    """One model on the frozen features; modalities that are not named are zero. own: what differs in its recipe."""

    title: str
    make: Callable[[Config], nn.Module]
    modalities: tuple[str, ...] = _NAMES
    own: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def models() -> dict[str, Model]:
    """Name -> model that "fusions" trains."""
    titles = {name: labels.BY_NAME[name].title for name in _NAMES}
    result = {"fusion": Model("Fusion of all modalities", fusion.FusionHeads)}
    # Linear heads cost next to nothing: at the rate and in the steps of a fusion they would be a straw man.
    flat = {"steps": 2500, "batch": 256, "rate": 0.01, "decay": 0.01, "validate": 500}
    result["colour_heads"] = Model("Colour encoder alone, additive heads learnt until flat", _colour_heads, own=flat)
    result["paper"] = Model("The paper's fusion block on the same features", rivals.PaperFusion)
    for name, title in titles.items():
        result[f"only_{name}"] = Model(f"Only: {title}", fusion.FusionHeads, (name,))
    for name, title in titles.items():
        rest = tuple(other for other in _NAMES if other != name)
        result[f"without_{name}"] = Model(f"Without: {title}", fusion.FusionHeads, rest)
    return result


def train_fusions(recipe: AblationRecipe) -> None:
    """Train every model on the cached features of the run, each from the same seed."""
    every, rows, features = fusion.known(recipe, recipe.pool)
    guide = fusion.open_guide(recipe.guided, recipe.run, rows, features.shape[-1], every)
    for name, model in models().items():
        if recipe.only == "all" or name in recipe.only.split(","):
            torch.manual_seed(recipe.seed)
            module = model.make(Config())
            own = guide if isinstance(module, fusion.FusionHeads) else None
            budget = dataclasses.replace(recipe, **model.own)
            fusion.fit(f"{feature_cache.ABLATION}/{name}", module, budget, every, features, model.modalities, guide=own)


def train_photographs(recipe: AblationRecipe) -> None:
    """Train the nets that see the photograph alone exactly as `training.encoders` trains the colour encoder."""
    for name, (_, make) in PHOTOGRAPHS.items():
        if recipe.only == "all" or name in recipe.only.split(","):
            torch.manual_seed(recipe.seed)
            module = make(recipe.init)
            if name in _STARTS:
                loop.load_start(module, RUNS / recipe.run / _STARTS[name], "")
            encoders.fit(f"{feature_cache.ABLATION}/{name}", module, labels.COLOUR.name, recipe, judged=recipe.side)


def figures(recipe: AblationRecipe) -> dict[str, Any]:
    """Figures of all that is trained, written to runs/<run>/ablation/<split>.json."""
    split = "test" if recipe.final else "val"
    cases, views = data.load()
    network = assemble(recipe)[0]
    if recipe.final:
        rows, features = locked_features(recipe, network)
        features = feature_cache.pooled(features, recipe.pool)
    else:
        rows, features = fusion.known(recipe, recipe.pool)[1:]
    chosen = np.flatnonzero([cases[row].split == split for row in rows])
    every = Targets([cases[row] for row in rows[chosen]])
    logits, titles = {}, {}
    for name, title, made in _scored(recipe, every, features, chosen, views, rows[chosen]):
        logits[name], titles[name] = made, title
    titles[EXPORTED] = (
        "Fusion of all modalities as it is exported: learnt for longer, the mean of several, with what encoders say on "
        "their own (late fusion); on means of cells"
    )
    logits[EXPORTED] = logits_of(_late(network), features, chosen)
    titles[JOINT] = "The same without late fusion"
    logits[JOINT] = logits_of(_joint(network), features, chosen)
    if all((RUNS / recipe.run / name / "best.pt").exists() for name in ("fusion_colour", _OWN_COLOUR)):
        titles[ALONE] = (
            "Only: Colour photograph, that fusion gone on with for as long again, the mean of as many, with what the "
            "encoder says on its own"
        )
        logits[ALONE] = logits_of(_alone(recipe, network), features, chosen, (labels.COLOUR.name,))
    if comparison.BASE not in logits:
        raise RuntimeError(f"train it first: python -m training.ablate fusions --run {recipe.run}")
    steps = {name: _steps(recipe, name) for name in (*models(), *PHOTOGRAPHS) if name in logits}
    alike = [name for name, model in models().items() if not model.own]
    for names in (alike, PHOTOGRAPHS):
        if len({number for name, number in steps.items() if name in names}) > 1:
            raise RuntimeError(f"they were not trained equally long, train them to the same --steps: {steps}")
    size = recipe.side or data.COLOUR_VIEW
    titles |= {name: f"{titles[name]}, {steps[name]} steps at {size} px" for name in PHOTOGRAPHS if name in steps}
    codes = comparison.counted(every, LEAST[split])
    result = {
        "run": recipe.run,
        "split": split,
        "eyes": len(chosen),
        "learnt": _learnt(recipe, cases),
        "findings": codes,
        "seed": recipe.seed,
        "steps": steps,
        "nets": list(PHOTOGRAPHS),
        "titles": titles,
        "models": comparison.compare(every, logits, codes, recipe.repeats),
        "exported_minus": _exported_minus(every, logits, codes, recipe.repeats),
    }
    result = json.loads(json.dumps(result), parse_float=lambda t: round(float(t), 4), parse_constant=lambda _: None)
    (RUNS / recipe.run / feature_cache.ABLATION / f"{split}.json").write_text(json.dumps(result, indent=1) + "\n")
    return result


Score = Callable[[Tensor], Tensor]  # features (B, M, D, h, w) -> logits (B, outputs)


def _late(network: Network) -> Score:
    return lambda features: network.heads(network.fuse(features))


def _joint(network: Network) -> Score:
    """The fusion of a network without what its heads read of the encoders themselves."""
    joint = copy.deepcopy(network)
    with torch.no_grad():
        joint.heads.weight[:, :, network.config.features :] = 0
    return _late(joint)


def _alone(recipe: AblationRecipe, network: Network) -> Score:
    """The run's fusion that went on with the photograph alone, and what its encoder says on its own, half and half."""
    colour = labels.COLOUR.name
    own = {colour: loop.best_state(recipe, _OWN_COLOUR)}
    state = late_fusion.unite(loop.best_state(recipe, "fusion_colour"), own, (1, 1))
    alone = copy.deepcopy(network)
    alone.load_state_dict(state, strict=False)
    return _late(alone)


def _exported_minus(
    every: Targets, logits: Mapping[str, np.ndarray], codes: list[str], repeats: int
) -> dict[str, list[float]]:
    """By how much the macro AUC of the exported fusion exceeds each that sees the photograph alone, in pairs."""
    rivals = {name: logits[name] for name in (EXPORTED, ALONE, "colour_heads") if name in logits}
    found = comparison.compare(every, rivals, codes, repeats, EXPORTED)
    return {name: each["fusion_minus"]["macro_auc"] for name, each in found.items() if name != EXPORTED}


def _scored(
    recipe: AblationRecipe,
    every: Targets,
    features: np.ndarray,
    chosen: np.ndarray,
    views: np.ndarray,
    rows: np.ndarray,
) -> Iterator[tuple[str, str, np.ndarray]]:
    """(name, title, logits) of every trained model, then of the fusion with each modality shuffled."""
    config = Config()
    for name, model in models().items():
        module = _trained(recipe, name, model.make, config)
        if module is not None:
            yield name, model.title, logits_of(module, features, chosen, model.modalities)
    module = _trained(recipe, "fusion", fusion.FusionHeads, config)
    if module is not None:
        order = chosen[comparison.shuffled(every, recipe.seed)]
        for name in _NAMES:
            title = f"Shuffled between eyes: {labels.BY_NAME[name].title}"
            yield f"shuffled_{name}", title, logits_of(module, features, chosen, _NAMES, {name: order})
    for name, (title, make) in PHOTOGRAPHS.items():
        module = _trained(recipe, name, lambda _, make=make: make("none"), config)
        if module is not None:
            yield name, title, encoders.logits_of(module, views, rows, recipe.side or data.COLOUR_VIEW)


def _trained(recipe: AblationRecipe, name: str, make: Callable[[Config], nn.Module], config: Config):
    if not (RUNS / recipe.run / feature_cache.ABLATION / name / "best.pt").exists():
        return None
    module = make(config)
    module.load_state_dict(loop.best_state(recipe, f"{feature_cache.ABLATION}/{name}"), strict=True)
    return module.eval()


def _learnt(recipe: AblationRecipe, cases: list[data.Case]) -> dict[str, int]:
    """Photographs of fundi, retakes too, that the fusions learn from (those with planes), and nets on them alone."""
    learnt = np.array([case.split in data.LEARNT and case.fundus == 1 and case.folder != "negatives" for case in cases])
    return {"fusions": int(learnt[np.load(RUNS / recipe.run / "rows.npy")].sum()), "photographs": int(learnt.sum())}


def _steps(recipe: AblationRecipe, name: str) -> int:
    state = torch.load(
        RUNS / recipe.run / feature_cache.ABLATION / name / "last.pt", map_location="cpu", weights_only=True
    )
    return int(state["step"])


@torch.no_grad()
def logits_of(
    module: Score,
    features: np.ndarray,
    chosen: np.ndarray,
    modalities: tuple[str, ...] = _NAMES,
    swapped: Mapping[str, np.ndarray] | None = None,
) -> np.ndarray:
    """Logits float32 (n, outputs) of features[chosen] (n, M, D, h, w), modalities that are not named at zero.

    swapped: modality -> row numbers (n,) from which that modality is taken instead.
    """
    keep, parts = fusion.silence(modalities), []
    for part in np.array_split(np.arange(len(chosen)), len(chosen) // 32 + 1):
        seen = np.asarray(features[chosen[part]], np.float32)
        for name, order in (swapped or {}).items():
            index = _NAMES.index(name)
            seen[:, index] = features[order[part], index]
        parts.append(module(torch.from_numpy(seen) * keep))
    return torch.cat(parts).numpy()


def locked_features(recipe: AblationRecipe, network: Network) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the labelled test eyes (n,) and their features float16 (n, M, D, h, w), computed once per run."""
    cases, views = data.load()
    wanted = [case.split == "test" and case.fundus == 1 and case.folder != "drimdb" for case in cases]
    rows = np.flatnonzero(wanted)[: recipe.limit]
    folder, config, grid = RUNS / recipe.run / feature_cache.ABLATION, network.config, data.VIEW // 16
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"test_{len(rows)}.npy"
    shape = (len(rows), len(_NAMES), config.features, grid, grid)
    new = None if path.exists() else shape
    features = np.lib.format.open_memmap(path, "w+" if new else "r+", np.float16, new)
    todo = [i for i in range(len(rows)) if not features[i].any()]  # an eye whose features are all zero is not done
    for i, made in zip(todo, planes.compute([cases[rows[i]].path for i in todo], recipe), strict=True):
        for number, modality in enumerate(labels.MODALITIES):
            source = views[rows[i]] if modality is labels.COLOUR else made[modality.name]
            features[i, number] = feature_cache.encoded(network, modality, feature_cache.tensor(source[None]))[0]
    features.flush()
    return rows, features


def check_into(recipe: AblationRecipe) -> None:
    """Raise SystemExit where the figures would not be of the weights into whose card they are asked to go."""
    assert recipe.into is not None
    if not recipe.final or recipe.limit < planes.PlanesRecipe.limit:
        raise SystemExit("only the figures of all test eyes go into a card: add --final")
    own, theirs = assemble(recipe)[0].state_dict(), weights.load(recipe.into)[0].state_dict()
    if not all(torch.equal(value, own[name]) for name, value in theirs.items()):
        raise SystemExit(f"the nets of run {recipe.run} are not those in {recipe.into}: name another --run, or export")


if __name__ == "__main__":
    settings, stage = parse(AblationRecipe, stage=("fusions", "photographs", "figures"))
    if stage == "fusions":
        train_fusions(settings)
    elif stage == "photographs":
        train_photographs(settings)
    else:
        if settings.into is not None:
            check_into(settings)
        found = figures(settings)
        print(card_tables.ablations(found))
        if settings.into is not None:
            card = weights.read_card(settings.into)
            found["weights"] = card.sha256  # whose features they are: the figures may outlive these weights in a card
            card = dataclasses.replace(card, metrics={**card.metrics, "ablations": found})
            card = weights.save_card(settings.into, card)
            (settings.into / model_card.PAGE).write_text(model_card.page(card), encoding="utf-8")
