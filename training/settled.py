"""A trunk whose early stages have learnt enough: half the cost of a step, for what is still to be learnt above them.

Norms keep the statistics they have, and are folded into the convolution before them while it runs; the stem and the
first stages learn no more. Neither changes the tensors' names, so checkpoints fit both ways.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from qmmfl.nets.mobile import MobileTrunk


class Folded(nn.Sequential):
    """A sequence in which every norm that follows a convolution scales its weights instead of its results."""

    def forward(self, input: Tensor) -> Tensor:
        """What the sequence gives in use, of running statistics, whatever mode it is in."""
        parts = list(self)
        for part, after in zip(parts, [*parts[1:], None], strict=True):
            if isinstance(part, nn.Conv2d) and isinstance(after, nn.BatchNorm2d):
                scale = after.weight / (after.running_var + after.eps).sqrt()
                shift = after.bias - after.running_mean * scale
                weight = part.weight * scale[:, None, None, None]
                input = F.conv2d(input, weight, shift, part.stride, part.padding, part.dilation, part.groups)
            elif not isinstance(part, nn.BatchNorm2d):
                input = part(input)
        return input


def settle(module: nn.Module, stages: int) -> None:
    """Keep the norms' statistics in every trunk of a module, and its stem and so many first stages as they are.

    Raises ValueError where the module has no trunk.
    """
    trunks = [part for part in module.modules() if isinstance(part, MobileTrunk)]
    if not trunks:
        raise ValueError("nothing to settle: this net has no EfficientNet-Lite trunk; leave out --settled")
    for trunk in trunks:
        for part in (trunk.stem, *trunk.stages[:stages]):
            part.requires_grad_(False)
        for part in trunk.modules():
            if type(part) is nn.Sequential and any(isinstance(child, nn.BatchNorm2d) for child in part):
                part.__class__ = Folded  # the same parts under the same names; only how they run differs
