"""What shapes the networks, and the names of what they say. Nothing heavy is imported here."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from .. import labels

GRADE, THREAT, OEDEMA, GRADABLE, FUNDUS = labels.GRADE, labels.THREAT, labels.OEDEMA, "GRADABLE", "FUNDUS"
OUTPUTS = (*labels.FINDINGS, GRADE, THREAT, OEDEMA, GRADABLE, FUNDUS)

PEAKS = {labels.LESION_MAPS.name}  # planes whose small spots must survive pooling
# EfficientNet-Lite: kernel, stride and expansion of each stage; channels and blocks of each of its smallest kind.
STAGES = ((3, 1, 1), (3, 2, 6), (5, 2, 6), (3, 2, 6), (5, 1, 6), (5, 2, 6), (3, 1, 6))
LITE0 = {"widths": (16, 24, 40, 80, 112, 192, 320), "depths": (1, 2, 2, 3, 3, 4, 1)}
DARKEST = 0.02  # added to colour in 0..1 before its logarithm is taken


@dataclass(frozen=True)
class SynthesisConfig:
    """One synthesis net.

    size: side of the square it works on [px]. inputs: "colour" (RGB), "contrast" (see `local_contrast`) or "both".
    unshuffle: pixels per side folded into channels before the first convolution, so that no wide layer runs at full
    resolution. widths: channels per level, each level half the resolution of the one before. planes: outputs.
    depths: empty for residual blocks; else the net goes down through an EfficientNet-Lite (see `mobile`) and widths and
    depths are those of its stages; unshuffle is 2 then, the stride of its stem.
    head: "pixels" gives each pixel its own logit; "affine" gives each place an affine map from the logarithm of a
    pixel's colour to its logits (after Gharbi et al. 2017), so that a band is as sharp as the photograph.
    """

    size: int
    inputs: str
    unshuffle: int
    widths: tuple[int, ...]
    planes: int
    head: str = "pixels"
    depths: tuple[int, ...] = ()

    @property
    def channels(self) -> int:
        """Channels of the net's input."""
        return 6 if self.inputs == "both" else 3


@dataclass(frozen=True)
class EncoderConfig:
    """One encoder. inputs: channels; widths: channels at strides 2, 4, 8 and 16; features: channels handed on.

    unshuffle: pixels per side folded into channels before the first convolution, so that fine detail is seen at little
    cost. depths: empty, or the encoder is an EfficientNet-Lite (see `mobile`) and widths and depths are those of its
    stages; unshuffle is 2 then, since it strides over 32 pixels where the others do over 16.
    """

    inputs: int
    widths: tuple[int, ...]
    features: int
    unshuffle: int = 1
    depths: tuple[int, ...] = ()


def _default_synthesis() -> dict[str, SynthesisConfig]:
    planes = {modality.name: len(modality.planes) for modality in labels.SYNTHESES}
    slim = (16, 32, 48, 64, 96)
    return {
        "ffa_arterial": SynthesisConfig(512, "both", 2, slim, planes["ffa_arterial"]),
        "ffa_arteriovenous": SynthesisConfig(512, "both", 2, slim, planes["ffa_arteriovenous"]),
        "msi": SynthesisConfig(512, "colour", 4, (24, 32, 48, 64), planes["msi"], "affine"),
        "lesions": SynthesisConfig(1024, "both", 2, slim, planes["lesions"]),
        "disc_cup": SynthesisConfig(256, "both", 2, slim, planes["disc_cup"]),
        "vessels": SynthesisConfig(512, "contrast", 2, slim, planes["vessels"]),
    }


def _default_encoders() -> dict[str, EncoderConfig]:
    encoders = {labels.COLOUR.name: EncoderConfig(6, LITE0["widths"], 64, unshuffle=2, depths=LITE0["depths"])}
    for modality in labels.SYNTHESES:
        encoders[modality.name] = EncoderConfig(len(modality.planes), (12, 24, 48, 64), 64)
    return encoders


@dataclass(frozen=True)
class Config:
    """The whole network. square: side of the canonical square [px]; view: side the encoders' convolutions see [px]."""

    square: int = 1024
    view: int = 256
    features: int = 64
    heads: int = 4
    synthesis: Mapping[str, SynthesisConfig] = field(default_factory=_default_synthesis)
    encoders: Mapping[str, EncoderConfig] = field(default_factory=_default_encoders)

    def seen(self, modality: str) -> int:
        """Side of what a modality's encoder is given [px], before it folds pixels into channels."""
        return self.view * self.encoders[modality].unshuffle

    def to_dict(self) -> dict[str, Any]:
        """JSON types only; `from_dict` is the inverse."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Config":
        """Raises TypeError on a missing or an unknown field."""
        values = dict(values)
        kinds = {"synthesis": SynthesisConfig, "encoders": EncoderConfig}
        made = {part: {name: kind(**_tuples(v)) for name, v in values[part].items()} for part, kind in kinds.items()}
        return cls(**{**values, **made})


def _tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    """The same values, lists as tuples."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
