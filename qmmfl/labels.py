"""The vocabulary of the project: modalities, planes, findings, grades and lesions.

Every name that a network, a report, the page or a training command uses is spelled here and nowhere else.
Standard library only.
"""

from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Modality:
    """One way of seeing the fundus: the acquired photograph or one synthesized stack of planes.

    `planes` are the channel names in the order of the network's output; `source` says what the planes are.
    """

    name: str
    title: str
    planes: tuple[str, ...]
    synthesized: bool
    source: str


SYNTHESIZED = "SYNTHESIZED"  # the mark that every synthesized picture carries

COLOUR = Modality("colour", "Colour photograph", ("red", "green", "blue"), False, "acquired photograph")
FFA_ARTERIAL = Modality(
    "ffa_arterial",
    "Fluorescein angiogram, arterial phase",
    ("ffa_arterial",),
    True,
    "computer-generated from the photograph; leakage, non-perfusion and timing are not measured",
)
FFA_ARTERIOVENOUS = Modality(
    "ffa_arteriovenous",
    "Fluorescein angiogram, arteriovenous phase",
    ("ffa_arteriovenous",),
    True,
    "computer-generated from the photograph; leakage, non-perfusion and timing are not measured",
)
BANDS = (507, 525, 550, 586, 617, 650, 685)  # centre wavelengths [nm]
MSI = Modality(
    "msi",
    "Multispectral bands",
    tuple(f"msi_{nm}" for nm in BANDS),
    True,
    "model-based estimate from three colour channels; no multispectral camera, no oxygen information",
)
LESIONS = ("MA", "HE", "EX", "SE")
LESION_MAPS = Modality(
    "lesions",
    "Lesion maps",
    tuple(f"lesion_{code}" for code in LESIONS),
    True,
    "probability per pixel, computed from the photograph",
)
DISC_CUP = Modality(
    "disc_cup", "Optic disc and cup", ("disc", "cup"), True, "probability per pixel, computed from the photograph"
)
VESSELS = Modality(
    "vessels", "Arteries and veins", ("artery", "vein"), True, "probability per pixel, computed from the photograph"
)

SYNTHESES = (FFA_ARTERIAL, FFA_ARTERIOVENOUS, MSI, LESION_MAPS, DISC_CUP, VESSELS)
MODALITIES = (COLOUR, *SYNTHESES)
BY_NAME = MappingProxyType({modality.name: modality for modality in MODALITIES})

LESION_NAMES = MappingProxyType(
    {"MA": "Microaneurysms", "HE": "Haemorrhages", "EX": "Hard exudates", "SE": "Soft exudates"}
)

PLANE_TITLES = MappingProxyType(
    {
        "ffa_arterial": "FFA, arterial phase",
        "ffa_arteriovenous": "FFA, arteriovenous phase",
        **{f"msi_{nm}": f"{nm} nm" for nm in BANDS},
        **{f"lesion_{code}": name for code, name in LESION_NAMES.items()},
        "disc": "Optic disc",
        "cup": "Optic cup",
        "artery": "Arteries",
        "vein": "Veins",
    }
)
PLANES = tuple(PLANE_TITLES)

# MuReD's twenty codes (Rodriguez et al. 2022, arXiv 2207.02335) in its order, then epiretinal membrane.
FINDINGS = MappingProxyType(
    {
        "DR": "Diabetic retinopathy",
        "NORMAL": "No listed abnormality flagged",
        "MH": "Media haze",
        "ODC": "Optic disc cupping",
        "TSLN": "Tessellation",
        "ARMD": "Age-related macular degeneration",
        "DN": "Drusen",
        "MYA": "Pathological myopia",
        "BRVO": "Branch retinal vein occlusion",
        "ODP": "Optic disc pallor",
        "CRVO": "Central retinal vein occlusion",
        "CNV": "Choroidal neovascularisation",
        "RS": "Retinitis",
        "ODE": "Optic disc oedema",
        "LS": "Laser scars",
        "CSR": "Central serous retinopathy",
        "HTR": "Hypertensive retinopathy",
        "ASR": "Arteriosclerotic retinopathy",
        "CRS": "Chorioretinitis",
        "OTHER": "Other abnormality",
        "ERM": "Epiretinal membrane",
    }
)

GRADE, THREAT, OEDEMA = "GRADE", "VTDR", "DME"  # the scores beside the findings
SCORES = MappingProxyType(
    {
        **FINDINGS,
        GRADE: "Diabetic retinopathy grade",
        THREAT: "Vision-threatening retinopathy",
        OEDEMA: "Macular oedema risk",
    }
)

# International Clinical Diabetic Retinopathy scale (Wilkinson et al. 2003).
GRADES = (
    "No apparent retinopathy",
    "Mild non-proliferative retinopathy",
    "Moderate non-proliferative retinopathy",
    "Severe non-proliferative retinopathy",
    "Proliferative retinopathy",
)
MORE_THAN_MILD = 2  # lowest grade that is more than mild
VISION_THREATENING = 3  # lowest grade that threatens vision
# The scores that the grade is called from: the lowest grade that their probabilities are of.
GRADED = MappingProxyType({GRADE: MORE_THAN_MILD, THREAT: VISION_THREATENING})
# What the grade calls: code, what it is called, and the lowest grade that it is.
CALLS = MappingProxyType(
    {
        "MTMDR": ("More than mild, by grade", MORE_THAN_MILD),
        THREAT: ("Vision-threatening, by grade", VISION_THREATENING),
    }
)
LARGE_CUP = 0.7  # vertical cup-to-disc ratio; nearly all healthy eyes have less (Foster et al. 2002)

# Ways to explain a score. They look at one modality's encoder, or at all modalities where they are fused.
METHODS = MappingProxyType(
    {
        "exact": "Exact map, additive heads",
        "gradcam": "Grad-CAM",
        "hirescam": "HiResCAM",
        "eigencam": "Eigen-CAM",
        "scorecam": "Score-CAM",
        "gradients": "Integrated gradients",
        "occlusion": "Occlusion",
    }
)
FUSED = "fused"

NOTICE = (
    "Research demonstration. Not a medical device, not cleared by FDA/CE, not for diagnosis, triage or treatment. "
    "A clinician must read the original photograph."
)
NOT_ASSESSED = "not assessed: these weights were not trained to recognise it"
