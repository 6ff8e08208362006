"""Centre lines of vessel masks: thinning, and the chains of pixels between ends and branchings."""

import cv2
import numpy as np

_NEAR = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1))
_BITS = np.array([[128, 1, 2], [64, 0, 4], [32, 16, 8]], np.float32)  # one per neighbour, clockwise from above


def thinned(mask: np.ndarray) -> np.ndarray:
    """bool (h, w) -> bool (h, w): lines one pixel wide (Guo and Hall 1989, Commun ACM 32:359)."""
    line = np.ascontiguousarray(mask, dtype=np.uint8)
    left = -1
    while left != (left := int(line.sum())):
        for removable in _REMOVABLE:
            around = np.asarray(cv2.filter2D(line, -1, _BITS, borderType=cv2.BORDER_CONSTANT), np.uint8)
            line[removable[around]] = 0
    return line.astype(bool)


def segments(mask: np.ndarray, spur: float = 0.0) -> list[np.ndarray]:
    """Centre lines of bool (h, w) between ends and branchings, each float64 (n, 2) x, y [px] in order.

    Chains with a free end and fewer than `spur` pixels are dropped first, so that they split no vessel.
    """
    line = thinned(mask)
    degree = _degree(line)
    for path in _chains(line):
        if len(path) < spur and min(degree[y, x] for x, y in (path[0], path[-1])) < 2:
            line[path[:, 1], path[:, 0]] = False
    return [path.astype(np.float64) for path in _chains(thinned(line))]


def _chains(line: np.ndarray) -> list[np.ndarray]:
    """Chains of pixels, int64 (n, 2) x, y, without the pixels where three or more meet; rings are left out."""
    free = {(int(x), int(y)) for y, x in np.argwhere(line & (_degree(line) < 3))}

    def around(pixel: tuple[int, int]) -> list[tuple[int, int]]:
        return [near for dx, dy in _NEAR if (near := (pixel[0] + dx, pixel[1] + dy)) in free]

    chains = []
    for end in sorted(pixel for pixel in free if len(around(pixel)) < 2):
        chain, following = [], [end] if end in free else []
        while following:
            chain.append(following[0])
            free.remove(following[0])
            following = around(following[0])
        if chain:
            chains.append(np.array(chain, np.int64))
    return chains


def _degree(line: np.ndarray) -> np.ndarray:
    """uint8 (h, w): how many of the eight neighbours belong to the line."""
    return cv2.filter2D(line.astype(np.uint8), -1, (_BITS > 0).astype(np.float32), borderType=cv2.BORDER_CONSTANT)


def _removable(odd: bool) -> np.ndarray:
    """bool (256,): whether a pixel may go in the even or odd step, by its neighbours."""
    table = np.zeros(256, bool)
    for code in range(256):
        n, ne, e, se, s, sw, w, nw = (bool(code >> bit & 1) for bit in range(8))
        pairs = ((n, ne, e), (e, se, s), (s, sw, w), (w, nw, n))
        crossings = sum(not a and (b or c) for a, b, c in pairs)
        around = min((nw or n) + (ne or e) + (se or s) + (sw or w), (n or ne) + (e or se) + (s or sw) + (w or nw))
        kept = (n or ne or not se) and e if odd else (s or sw or not nw) and w
        table[code] = crossings == 1 and 2 <= around <= 3 and not kept
    return table


_REMOVABLE = (_removable(False), _removable(True))
