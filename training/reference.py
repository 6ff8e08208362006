"""The compute shape of the paper's architecture, with random weights: something to be measured against, nothing more.

QMP-RETNet (arXiv 2602.03622) as its release builds it and so that every map comes out: two generators (arterial and
arteriovenous phase), a spectral net at full resolution, two U-Nets (lesions; disc and cup), a ResNet-18, and a fusion
of their six features 16 x 16 x 512. Layer counts and widths are the release's; the spectral net's many small parts are
stood for by a stack of its 21-channel convolutions with as many operations. About 1000 GFLOP at 512 px.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_FEATURES = 512
_TOKENS_AT = 16  # side of the features [px]


def _double(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        *(
            layer
            for a in (inputs, outputs)
            for layer in (nn.Conv2d(a, outputs, 3, 1, 1), nn.BatchNorm2d(outputs), nn.ReLU())
        )
    )


class Generator(nn.Module):
    """A U-Net of seven strided convolutions and as many transposed ones (pix2pix): 3 -> 1 channel."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 64, 128, 256, 512, 512, 512, 512)
        self.down = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 4, 2, 1), nn.BatchNorm2d(b), nn.LeakyReLU(0.2))
            for a, b in zip(widths, widths[1:], strict=False)
        )
        outs = (1, 64, 128, 256, 512, 512, 512)
        self.up = nn.ModuleList(
            nn.Sequential(nn.ConvTranspose2d(b if n == 6 else 2 * b, a, 4, 2, 1), nn.ReLU())
            for n, (a, b) in enumerate(zip(outs, widths[1:], strict=True))
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, S, S) -> map (B, 1, S, S), features (B, 512, S / 32, S / 32)."""
        seen = []
        for down in self.down:
            x = down(x)
            seen.append(x)
        for level in reversed(range(7)):
            x = self.up[level](x if level == 6 else torch.cat([x, seen[level]], 1))
        return x.tanh(), seen[4]


class UNet(nn.Module):
    """The plain U-Net (Ronneberger et al. 2015), 64 to 1024 channels."""

    def __init__(self, planes: int) -> None:
        super().__init__()
        widths = (64, 128, 256, 512, 1024)
        self.down = nn.ModuleList(_double(a, b) for a, b in zip((3, *widths), widths, strict=False))
        self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, 2) for a, b in zip(widths, widths[1:], strict=False))
        self.merge = nn.ModuleList(_double(2 * a, a) for a in widths[:-1])
        self.head = nn.Conv2d(64, planes, 1)
        self.features = nn.Conv2d(1024, _FEATURES, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, S, S) -> maps (B, planes, S, S), features (B, 512, S / 16, S / 16)."""
        seen = []
        for number, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2) if number else x)
            seen.append(x)
        for level in reversed(range(4)):
            x = self.merge[level](torch.cat([seen[level], self.up[level](x)], 1))
        return self.head(x), self.features(seen[-1])


class Spectral(nn.Module):
    """Red and green to seven bands by 21-channel convolutions at full resolution."""

    def __init__(self, convolutions: int = 64) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 21, 3, 1, 1)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(21, 21, 3, 1, 1), nn.ReLU(), nn.Conv2d(21, 21, 3, 1, 1))
            for _ in range(convolutions // 2)
        )
        self.head = nn.Conv2d(21, 7, 3, 1, 1)
        self.features = nn.Conv2d(7, _FEATURES, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, S, S) -> bands (B, 7, S, S), features (B, 512, S / 32, S / 32)."""
        x = self.stem(x[:, :2])
        for block in self.blocks:
            x = x + block(x)
        bands = self.head(x)
        return bands, self.features(F.avg_pool2d(bands, 32))


class Fusion(nn.Module):
    """Selectors, then for each modality three attentions over contexts of 6, 2 and 1 times 512 channels."""

    def __init__(self, modalities: int) -> None:
        super().__init__()
        self.select = nn.ModuleList(nn.Conv2d(_FEATURES, _FEATURES, 3, 1, 1) for _ in range(modalities))
        contexts = (modalities * _FEATURES, 2 * _FEATURES, _FEATURES)
        self.narrow = nn.ModuleList(nn.Linear(a, b) for a, b in zip(contexts, contexts[1:], strict=False))
        self.query = nn.ModuleList(nn.Linear(_FEATURES, _FEATURES) for _ in range(3 * modalities))
        self.both = nn.ModuleList(nn.Linear(width, 2 * _FEATURES) for _ in range(modalities) for width in contexts)
        self.out = nn.ModuleList(nn.Linear(_FEATURES, _FEATURES) for _ in range(3 * modalities))
        self.mlp = nn.Sequential(
            nn.Linear(modalities * _FEATURES, _FEATURES), nn.GELU(), nn.Linear(_FEATURES, _FEATURES), nn.GELU()
        )

    def forward(self, features: list[Tensor]) -> Tensor:
        """Six (B, 512, 16, 16) -> (B, 512)."""
        chosen = [x + select(x) for x, select in zip(features, self.select, strict=True)]
        contexts = [torch.cat([x.flatten(2).transpose(1, 2) for x in chosen], 2)]
        for narrow in self.narrow:
            contexts.append(narrow(contexts[-1]))
        seen = []
        for m, x in enumerate(chosen):
            tokens = x.flatten(2).transpose(1, 2)
            for level, context in enumerate(contexts):
                n = 3 * m + level
                key, value = self.both[n](context).chunk(2, -1)
                halves = [each.unflatten(2, (2, -1)).transpose(1, 2) for each in (self.query[n](tokens), key, value)]
                attended = F.scaled_dot_product_attention(*halves).transpose(1, 2).flatten(2)
                tokens = tokens + self.out[n](attended)
            seen.append(tokens)
        return self.mlp(torch.cat(seen, 2)).mean(1)


class Reference(nn.Module):
    """(B, 3, 512, 512) -> angiograms, bands, lesions, disc and cup at 512 px, and 20 logits."""

    def __init__(self) -> None:
        super().__init__()
        from torchvision.models import resnet18

        self.picture = nn.Sequential(*list(resnet18().children())[:-2])
        self.parts = nn.ModuleList([Generator(), Generator(), Spectral(), UNet(4), UNet(3)])
        self.fusion, self.head = Fusion(6), nn.Linear(_FEATURES, 20)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """See the class."""
        maps, features = zip(*(part(x) for part in self.parts), strict=True)
        every = [F.adaptive_avg_pool2d(each, _TOKENS_AT) for each in (self.picture(x), *features)]
        return (*maps, self.head(self.fusion(every)))
