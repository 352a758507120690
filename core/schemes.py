"""Orders of landmark points: which point stands for what, and how a net's numbers hold them."""
import numpy as np

# 106 points come in two orders, known by the data sets they are used in. migu[i] is
# jingdong[MIGU_FROM_JINGDONG[i]].
MIGU_FROM_JINGDONG = (
    *range(38), 42, 43, 44, 45, 46, 51, 52, 53, 54, 58, 59, 60, 61, 62, 66, 67, 69, 70, 71, 73,
    75, 76, 78, 79, 80, 82, 41, 40, 39, 38, 50, 49, 48, 47, 68, 72, 74, 77, 81, 83, 55, 65, 56,
    64, 57, 63, *range(84, 106))


def _partners_migu():
    """The point that each becomes in a mirrored picture, in the order "migu"."""
    partners = list(range(106))
    for first, last in ((0, 32), (33, 42), (47, 51), (64, 71), (84, 90), (91, 95), (96, 100),
                        (101, 103), (104, 105)):
        for i in range(first, last + 1):
            partners[i] = first + last - i
    for left, right in zip((52, 53, 54, 55, 56, 57, 72, 73, 74, 78, 80, 82),
                           (61, 60, 59, 58, 63, 62, 75, 76, 77, 79, 81, 83)):
        partners[left], partners[right] = right, left
    return partners


def _partners_jingdong():
    migu, partners = _partners_migu(), [0] * 106
    for i, old in enumerate(MIGU_FROM_JINGDONG):
        partners[old] = MIGU_FROM_JINGDONG[migu[i]]
    return partners


# The point that each becomes in a mirrored picture, by scheme. "5": left eye, right eye, nose, left
# and right corner of the mouth, left and right in the picture.
PARTNERS = {"5": [1, 0, 2, 4, 3], "migu": _partners_migu(), "jingdong": _partners_jingdong()}


def usual(points):
    """Name of the scheme that a number of points has if nothing is said; None where there are
    several or none is known."""
    fitting = [name for name, partners in PARTNERS.items() if len(partners) == points]
    return fitting[0] if len(fitting) == 1 else None


def unpack(values):
    """Landmark outputs (N, 2 P) as points (N, P, 2), x and y in units of the crop's side. Five
    points are held as x1..x5 y1..y5, other numbers of them as x1 y1 x2 y2 ..."""
    if values.shape[1] == 10:
        return np.stack([values[:, :5], values[:, 5:]], axis=2)
    return values.reshape(len(values), values.shape[1] // 2, 2)


def pack(points):
    """The inverse of unpack(): points (N, P, 2) as a net's numbers (N, 2 P), in a new array."""
    if points.shape[1] == 5:
        return np.concatenate([points[:, :, 0], points[:, :, 1]], axis=1)
    return points.reshape(len(points), 2 * points.shape[1]).copy()


def flip(points, scheme):
    """Points (N, P, 2) in units of the crop's side as they are in the mirrored crop, in a new
    array."""
    flipped = points[:, PARTNERS[scheme]]
    flipped[:, :, 0] = 1 - flipped[:, :, 0]
    return flipped


def asymmetry(points, scheme):
    """How far points (P, 2) are from being their own mirror image under a scheme, as a part of
    their spread: near 0 for a face seen from the front in the right order."""
    partners = PARTNERS[scheme]
    centred = points - points.mean(axis=0)
    mirrored = centred[partners] * [-1, 1]
    return float(np.linalg.norm(centred - mirrored) / max(np.linalg.norm(centred), 1e-12))


def guess(points):
    """Name of the scheme that the points (P, 2) of a mean face must be in, going by its mirror
    symmetry; None where that does not tell.

    A net's mean face is the shift (beta) of its landmark head's batch norm, unpacked: training
    makes that the mean of what the net gives. Of published nets with 106 points it has an asymmetry
    of 0.006 to 0.045 under the right scheme and of 0.60 to 0.71 under the other one.
    """
    found = sorted((asymmetry(points, name), name) for name, partners in PARTNERS.items()
                   if len(partners) == len(points))
    clear = found and found[0][0] < 0.2 and all(found[0][0] < other / 3 for other, _ in found[1:])
    return found[0][1] if clear else None
