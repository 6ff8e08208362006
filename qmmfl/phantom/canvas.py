"""Drawing outlines and vessels onto float32 planes in 0..1, and the textures of a fundus. numpy and cv2."""

from collections.abc import Iterable

import cv2
import numpy as np

from .anatomy import Blob, Vessel

SHIFT = 6  # binary digits of cv2's fixed-point coordinates


class Canvas:
    """Maps the units of `anatomy` to the pixels of a square and draws there, independent of its size.

    size: side [px]. centre (x, y), radius [px] of the field of view. mirrored: draw as a left eye.
    """

    def __init__(self, size: int, centre: tuple[float, float], radius: float, mirrored: bool):
        self.size, self.centre, self.radius, self.mirrored = size, np.array(centre), radius, mirrored
        self.sampling = 2 if size <= 700 else 1  # fine vessels need more than one sample per pixel
        y, x = np.mgrid[0:size, 0:size].astype(np.float32)
        self.x = (x - np.float32(centre[0])) / np.float32(radius) * (-1 if mirrored else 1)
        self.y = (y - np.float32(centre[1])) / np.float32(radius)

    def to_px(self, points) -> np.ndarray:
        """Points (..., 2) [field radii] -> [px], pixel centres at whole numbers."""
        points = np.asarray(points, np.float64) * [-1 if self.mirrored else 1, 1]
        return self.centre + points * self.radius

    def distance(self, point) -> np.ndarray:
        """Distance of every pixel from a point [field radii], float32 (size, size)."""
        return np.hypot(self.x - np.float32(point[0]), self.y - np.float32(point[1]))

    def ellipse(self, ellipse, softness: float | None = None) -> np.ndarray:
        """Filled ellipse (x, y, width, height) its edge `softness` [field radii] wide, default one pixel."""
        x, y, width, height = ellipse
        scaled = np.hypot((self.x - x) / (width / 2), (self.y - y) / (height / 2))
        edge = softness or 1 / self.radius
        return np.clip((1 - scaled) * (np.sqrt(width * height) / 2) / edge + 0.5, 0, 1)

    def blobs(self, blobs: Iterable[Blob], *, soft: bool) -> np.ndarray:
        """Outlines filled; soft: feathered, weighted by strength (appearance), else masks (truth)."""
        plane = np.zeros((self.size, self.size), np.float32)
        for blob in blobs:
            outline = self.to_px(blob.outline)
            margin = 3 + 3 * blob.feather * self.radius
            low = np.maximum(np.floor(outline.min(0) - margin), 0).astype(int)
            high = np.minimum(np.ceil(outline.max(0) + margin) + 1, self.size).astype(int)
            if (high - low < 2).any():
                continue
            scale = 4
            patch = np.zeros(tuple((high - low)[::-1] * scale), np.uint8)
            corners = ((outline - low + 0.5) * scale - 0.5) * 2**SHIFT
            cv2.fillPoly(patch, [np.round(corners).astype(np.int32)], 255, cv2.LINE_8, SHIFT)
            patch = (
                cv2.resize(patch, tuple(map(int, high - low)), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
            )
            if soft:
                if blob.feather * self.radius > 0.3:
                    patch = cv2.GaussianBlur(patch, (0, 0), blob.feather * self.radius)
                patch *= blob.strength
            window = plane[low[1] : high[1], low[0] : high[0]]
            np.maximum(window, patch, out=window)
        return plane

    def vessels(self, vessels: Iterable[Vessel], share: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
        """(coverage, width [field radii]) of vessels drawn with `share` of their width, widest on top."""
        s, side = self.sampling, self.size * self.sampling
        cover, width = np.zeros((side, side), np.uint8), np.zeros((side, side), np.uint8)
        quads, wides, calibres = [], [], []
        for vessel in vessels:
            points = (self.to_px(vessel.points) + 0.5) * s - 0.5
            calibre = vessel.widths * share * self.radius * s
            half = np.maximum(calibre, 1.0)[:, None] / 2
            along = np.diff(points, axis=0)
            along /= np.maximum(np.hypot(*along.T), 1e-6)[:, None]
            normal = along[:, ::-1] * [-1, 1]
            start, end = points[:-1] - 0.35 * half[:-1] * along, points[1:] + 0.35 * half[1:] * along
            for target, extra in ((quads, 0), (wides, s)):
                a, b = (half[:-1] + extra) * normal, (half[1:] + extra) * normal
                target.append(np.stack([start + a, end + b, end - b, start - a], 1))
            calibres.append(calibre[:-1])
        if quads:
            calibre = np.concatenate(calibres)
            order = np.argsort(calibre, kind="stable")
            quads, wides = (np.round(np.concatenate(q)[order] * 2**SHIFT).astype(np.int32) for q in (quads, wides))
            shades = (255 * np.minimum(calibre[order], 1)).astype(int).tolist()
            values = np.minimum(255, calibre[order] / share / (self.radius * s) * 6000).astype(int).tolist()
            for quad, wide, shade, value in zip(quads, wides, shades, values, strict=True):
                cv2.fillConvexPoly(cover, quad, shade, cv2.LINE_AA, SHIFT)
                cv2.fillConvexPoly(width, wide, value, cv2.LINE_8, SHIFT)
        if s > 1:
            size = (self.size, self.size)
            cover, width = (cv2.resize(p, size, interpolation=cv2.INTER_AREA) for p in (cover, width))
        return cover.astype(np.float32) / 255, width.astype(np.float32) / 6000

    def noise(self, rng: np.random.Generator, cells: int) -> np.ndarray:
        """Smooth Gaussian noise, sd about 1, `cells` grains across the square whatever its size."""
        grains = rng.standard_normal((2 * cells, 2 * cells), np.float32)
        grains = cv2.GaussianBlur(grains, (0, 0), 1.0) * 3.5  # blurred first, or the grid would show
        return cv2.resize(
            grains, (self.size, self.size), interpolation=cv2.INTER_LINEAR if cells > 60 else cv2.INTER_CUBIC
        )

    def choroid(self, rng: np.random.Generator) -> np.ndarray:
        """Choroidal vessels 0..1: warped ridges that fan out from the pole."""
        ridges = np.zeros_like(self.x)
        for turns, pole in ((46, (0.1, 0.0)), (64, (0.25, 0.1))):
            x = self.x - np.float32(pole[0]) + 0.07 * self.noise(rng, 7) + 0.015 * self.noise(rng, 26)
            y = self.y - np.float32(pole[1]) + 0.07 * self.noise(rng, 7) + 0.015 * self.noise(rng, 26)
            grains = cv2.resize(
                rng.standard_normal((7, turns)).astype(np.float32),
                (turns * 8, 56),
                interpolation=cv2.INTER_CUBIC,
            )
            u = (np.arctan2(y, x) / np.float32(2 * np.pi) + np.float32(0.5)) * (turns * 8)
            v = np.sqrt(np.hypot(x, y)) * 40
            noise = cv2.remap(grains, u, v, cv2.INTER_LINEAR, None, cv2.BORDER_WRAP)
            near = np.exp(-(x * x + y * y) / 0.12)  # no starburst where the fan begins
            ridges = np.maximum(ridges, np.exp(-((noise / 0.5) ** 2)) * (1 - near))
        return ridges

    def fibres(self, rng: np.random.Generator, disc) -> np.ndarray:
        """Striation of the nerve-fibre layer 0..1: streaks out of the disc, strongest above and below."""
        dx, dy = self.x - disc[0], self.y - disc[1]
        radius, angle = np.hypot(dx, dy), np.arctan2(dy, dx)
        streaks = rng.standard_normal((12, 360)).astype(np.float32)
        u = (angle + np.float32(np.pi)) / np.float32(2 * np.pi) * 359
        streak = cv2.remap(streaks, u.astype(np.float32), np.minimum(radius * 9, 11), cv2.INTER_LINEAR)
        strength = np.exp(-(((radius - 0.28) / 0.22) ** 2)) * (0.35 + 0.65 * np.abs(np.sin(angle)))
        return np.clip(0.5 + 0.35 * streak, 0, 1) * strength
