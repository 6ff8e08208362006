"""Whether a photograph can be read at all, by what can be seen without a network.

The limits are deliberately loose: they stop what no network should be asked about. The trained gates for quality and
for pictures that are no fundus photographs come after them, in the pipeline.
"""

import cv2
import numpy as np

DARK = "It is too dark to read: check flash and alignment and take it again."
BRIGHT = "It is overexposed: lower the flash and take it again."
BLANK = "No field of view is visible: it is black or of one colour. Take it again with the eye aligned."
FLAT = "It shows no structure: check the focus and that the shutter was open, and take it again."
GREY = "It is not a colour photograph; the networks were trained on colour. Upload the colour original."
TWO = "It shows two fields of view, and one alone can be read: save each eye as a picture of its own."
BLUE = (
    "Its blue is stronger than its red, as in no fundus: a program may have swapped the two. "
    "Upload it in its own colours."
)
PLAIN = "Much of it is of exactly one colour, like a drawing or a screen: upload the photograph itself."

_DARK, _BRIGHT = 12.0, 245.0  # [0..255] median brightness inside the field
_FLAT = 1.2  # [0..255] standard deviation after removing slow shading
_PLAIN = 0.35  # share of the field of one and the same colour; no photograph fit to be read came above 0.16
_BLUE = 0.9  # mean red over mean blue inside the field; of 8,300 photographs none came below 1.0
_GREY = 2.0  # [0..255] 95th percentile of the difference between the channels


def find_faults(square: np.ndarray) -> tuple[str, ...]:
    """Reasons why a canonical square, uint8 (S, S, 3) RGB, black outside the field, cannot be read; empty if it can."""
    small = cv2.resize(square, (256, 256), interpolation=cv2.INTER_AREA)
    red, green, blue = cv2.split(small)  # whole planes: numpy is slow along an axis of three
    most, least = (pick(pick(red, green), blue) for pick in (cv2.max, cv2.min))
    field = most > 0
    if field.mean() < 0.1:
        return (BLANK,)
    level = float(np.median(most[field]))
    faults = [DARK] if level < _DARK else [BRIGHT] if float(np.median(least[field])) > _BRIGHT else []
    if float(np.percentile((most - least)[field], 95)) < _GREY and level >= _DARK:
        faults.append(GREY)
    if level >= _DARK and float(red[field].mean()) < _BLUE * float(blue[field].mean()):
        faults.append(BLUE)
    codes = small[field].astype(np.int64) @ (65536, 256, 1)
    if not faults and int(np.unique(codes, return_counts=True)[1].max()) > _PLAIN * codes.size:
        faults.append(PLAIN)
    green = green.astype(np.float32)
    weight = cv2.GaussianBlur(field.astype(np.float32), (0, 0), 8) + 1e-3
    fine = green - cv2.GaussianBlur(green * field, (0, 0), 8) / weight
    core = cv2.erode(field.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    if core.any() and float(fine[core].std()) < _FLAT:
        faults.append(FLAT)
    return tuple(faults)
