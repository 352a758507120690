"""A drawn head: a surface of revolution with a face on it, its 106 points, and its rendering.

Head coordinates: x to the right as the viewer sees it, y down, z towards the viewer; the unit
is half the width of the face, the origin lies in the middle of the head at the height of the
eyes. The surface is a table of radii around the y axis, by `turn` (columns) and y (rows).
`turn` stands for the angle around the axis without trigonometry: 0 in front, -1 and 1 at the
ears, -2 and 2 at the back. Points and pixels are read from the same table, so a point lies
exactly on the feature that is drawn there, whatever the pose.
"""

from types import SimpleNamespace

import cv2
import numpy as np

TOP, BOTTOM = -2.6, 2.5  # rows of the table, in head coordinates
EAR_ANGLE = np.radians(84)  # where the contour ends, in front of the ear

# y, half width, depth in front of the axis, depth behind it
PROFILE = np.array(
    [
        (-1.64, 0.00, 0.00, 0.00),
        (-1.62, 0.24, 0.28, 0.28),
        (-1.54, 0.46, 0.55, 0.56),
        (-1.38, 0.69, 0.83, 0.86),
        (-1.15, 0.85, 1.04, 1.08),
        (-0.85, 0.95, 1.18, 1.20),
        (-0.50, 0.98, 1.26, 1.30),
        (-0.20, 1.00, 1.26, 1.32),
        (0.00, 1.00, 1.20, 1.30),
        (0.30, 0.985, 1.17, 1.22),
        (0.70, 0.94, 1.17, 1.02),
        (1.00, 0.88, 1.17, 0.85),
        (1.30, 0.78, 1.13, 0.75),
        (1.64, 0.61, 1.06, 0.70),
        (2.60, 0.60, 1.00, 0.70),
    ]
)

# What differs from face to face: neutral, lowest, highest
SHAPE = {
    "width": (1.0, 0.93, 1.07),
    "chin": (1.64, 1.54, 1.74),  # y of the chin
    "jaw": (2.8, 2.3, 3.4),  # 2 is pointed, 4 is square
    "forehead": (-1.0, -1.08, -0.92),  # y of the hairline, the upper end of the box
    "eye_x": (0.45, 0.41, 0.49),
    "eye_width": (0.21, 0.18, 0.24),
    "eye_height": (0.085, 0.06, 0.11),
    "eye_tilt": (0.0, -0.03, 0.05),  # outer corner above the inner one
    "brow_y": (-0.29, -0.34, -0.25),
    "brow_width": (0.045, 0.025, 0.065),
    "brow_arch": (0.06, 0.02, 0.10),
    "nose_y": (0.60, 0.54, 0.66),  # y of the tip
    "nose_width": (0.24, 0.20, 0.30),
    "nose_height": (0.34, 0.26, 0.42),
    "mouth_y": (1.02, 0.98, 1.07),
    "mouth_width": (0.36, 0.31, 0.42),
    "lip_width": (0.09, 0.06, 0.13),
    # expression
    "mouth_open": (0.0, 0.0, 1.0),
    "smile": (0.0, -0.5, 1.0),
    "brow_up": (0.0, -0.5, 1.0),
    "lid_left": (1.0, 0.0, 1.0),  # 1 open, 0 closed; left as the viewer sees it
    "lid_right": (1.0, 0.0, 1.0),
    "gaze_x": (0.0, -0.08, 0.08),
    "gaze_y": (0.0, -0.02, 0.02),
}
EXPRESSION = ("mouth_open", "smile", "brow_up", "lid_left", "lid_right", "gaze_x", "gaze_y")

# thickness of the hair, y of the hairline in front, turn where the sides begin, y of their end
HAIR = {
    "bald": (0.0, -9, 0.8, -9),
    "buzz": (0.03, -1.0, 0.84, -0.1),
    "short": (0.12, -0.98, 0.86, 0.0),
    "thick": (0.26, -0.92, 0.88, 0.2),
    "fringe": (0.14, -0.50, 0.90, 0.1),
    "bob": (0.20, -0.95, 0.93, 1.3),
    "long": (0.18, -1.0, 0.94, 2.3),
    "afro": (0.50, -1.0, 0.92, 0.3),
}
# thickness, y of the edge in front, turn where the sides begin, y of their end, brim, half angle
# of the brim in radians
HATS = {
    "beanie": (0.18, -0.66, 0.9, -0.25, 0.0, 0.0),
    "cap": (0.10, -0.76, 1.0, -0.65, 0.65, 1.0),
    "brimmed": (0.12, -0.80, 1.0, -0.75, 0.55, 4.0),
    "scarf": (0.12, -0.88, 0.82, 2.4, 0.0, 0.0),
}


def _partners():
    table = np.arange(106)
    for first, last in (
        (0, 32),
        (33, 42),
        (47, 51),
        (64, 71),
        (84, 90),
        (91, 95),
        (96, 100),
        (101, 103),
    ):
        table[first : last + 1] = np.arange(last, first - 1, -1)
    left = [52, 53, 54, 55, 56, 57, 72, 73, 74, 78, 80, 82, 104]
    right = [61, 60, 59, 58, 63, 62, 75, 76, 77, 79, 81, 83, 105]
    table[left], table[right] = right, left
    return table


PARTNER = _partners()  # (106,) index of the same point on the other side of the face
# The 68 points of iBUG and the five are among the 106: every second point of the contour, the
# upper edges of the brows, bridge and base of the nose, eyes, lips.
SUBSETS = {
    5: np.array([74, 77, 46, 84, 90]),
    68: np.r_[0:33:2, 33:43, 43:52, 52:64, 84:104],
    106: np.arange(106),
}
BROWS = (33, 34, 35, 36, 37, 67, 66, 65, 64), (42, 41, 40, 39, 38, 68, 69, 70, 71)
EYES = (52, 53, 72, 54, 55, 56, 73, 57), (61, 60, 75, 59, 58, 63, 76, 62)


def neutral_shape():
    """The middle face, without expression."""
    return SimpleNamespace(**{name: values[0] for name, values in SHAPE.items()})


def random_shape(rng, expression=1.0):
    """A face by chance; `expression` is the probability of each part of an expression."""
    shape = neutral_shape()
    for name, (_, low, high) in SHAPE.items():
        if name not in EXPRESSION or name.startswith("gaze") or rng.random() < 0.45 * expression:
            setattr(shape, name, rng.uniform(low, high))
    if rng.random() < 0.85:  # both lids together, and seldom closed
        shape.lid_left = shape.lid_right = 1.0 if rng.random() < 0.9 else rng.uniform(0, 0.7)
    return shape


def _half_face(s, lid):
    """Points of the image-left half but the contour: {index: (x, y)}."""
    points = {}
    # brow: from the outer tip to the inner end
    for names, edge, along in (
        (range(33, 38), -1, (0, 0.27, 0.52, 0.77, 1)),
        (range(64, 68), 1, (0.2, 0.45, 0.72, 1)),
    ):
        for index, u in zip(names, along):
            middle = s.brow_y - 0.09 * s.brow_up - s.brow_arch * (1 - ((u - 0.4) / 0.6) ** 2)
            half = s.brow_width * (0.35 + 0.65 * u**0.7)
            points[index] = -s.eye_x - 0.29 + 0.56 * u, middle + edge * half
    # eye: u runs from the outer corner to the inner one
    high, low = s.eye_height * 1.15, s.eye_height * 0.75
    for index, u, upper in (
        (52, 0, 0),
        (53, 0.28, 1),
        (72, 0.5, 1),
        (54, 0.72, 1),
        (55, 1, 0),
        (56, 0.72, -1),
        (73, 0.5, -1),
        (57, 0.28, -1),
    ):
        bulge = (1 - (2 * u - 1) ** 2) ** 0.8
        y = bulge * (low if upper < 0 else low * 0.85 - (high + low * 0.85) * lid)
        points[index] = (
            -s.eye_x + s.eye_width * (2 * u - 1),
            y * bool(upper) + s.eye_tilt * (u - 0.5),
        )
    points[74] = tuple(np.mean([points[72], points[73]], axis=0))
    # nose
    for index, y in zip(range(43, 47), np.linspace(0.04, s.nose_y, 4)):
        points[index] = 0.0, y
    base, wide = s.nose_y + 0.12, s.nose_width
    points.update(
        {
            47: (-0.66 * wide, base - 0.02),
            48: (-0.34 * wide, base + 0.01),
            49: (0.0, base + 0.04),
            78: (-0.13, 0.06),
            80: (-0.74 * wide, s.nose_y - 0.10),
            82: (-wide, s.nose_y + 0.03),
        }
    )
    # lips: the corner, the upper one's edges, the lower one's
    wide = s.mouth_width * (1 + 0.18 * s.smile - 0.15 * s.mouth_open)
    corner = s.mouth_y - 0.06 * s.smile + 0.08 * s.mouth_open
    upper = s.mouth_y - 0.04 * s.mouth_open - 0.008
    lower = s.mouth_y + 0.34 * s.mouth_open + 0.008
    thick = s.lip_width
    points.update(
        {
            84: (-wide, corner),
            85: (-0.58 * wide, upper - 0.66 * thick + 0.3 * (corner - upper)),
            86: (-0.2 * wide, upper - 1.05 * thick),
            87: (0.0, upper - 0.85 * thick),
            96: (-0.86 * wide, corner),
            97: (-0.42 * wide, upper + 0.25 * (corner - upper)),
            98: (0.0, upper),
            103: (-0.42 * wide, lower + 0.25 * (corner - lower)),
            102: (0.0, lower),
            95: (-0.66 * wide, lower + 0.62 * thick + 0.42 * (corner - lower)),
            94: (-0.34 * wide, lower + 1.15 * thick + 0.12 * (corner - lower)),
            93: (0.0, lower + 1.35 * thick),
        }
    )
    return points


def face_points(s):
    """(106, 2) float64 x, y of the points of a face seen from the front, without the contour
    (zeros); the pupils in the middle of the eyes unless the face looks aside."""
    out = np.zeros((106, 2))
    for index, point in _half_face(s, s.lid_right).items():
        out[PARTNER[index]] = -point[0], point[1]
    for index, point in _half_face(s, s.lid_left).items():
        out[index] = point
    for pupil, middle in ((104, 74), (105, 77)):
        out[pupil] = out[middle] + (s.gaze_x, s.gaze_y)
    return out


def _direction(turn):
    """Sine and cosine of the angle that `turn` (-2..2) stands for."""
    size = np.abs(turn)
    x, z = np.where(size <= 1, turn, np.sign(turn) * (2 - size)), 1 - size
    norm = np.hypot(x, z)
    return x / norm, z / norm


def _step(x):
    """0 below 0, 1 above 1, smooth between."""
    x = np.minimum(np.maximum(x, 0), 1)
    return x * x * (3 - 2 * x)


def smooth(points, closed, pieces=5):
    """A Catmull-Rom curve through points (n, 2)."""
    p = np.asarray(points, float)
    p = np.concatenate([p[-1:], p, p[:2]] if closed else [p[:1], p, p[-1:]])
    t = np.arange(pieces)[None, :, None] / pieces
    a, b, c, d = (p[i : len(p) - 3 + i, None] for i in range(4))
    curve = 0.5 * (
        2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3
    )
    curve = curve.reshape(-1, 2)
    return curve if closed else np.concatenate([curve, p[-1:]])


def rotation(yaw, pitch, roll):
    """(3, 3) matrix from head to camera coordinates; degrees. Positive yaw turns the face to
    the image's right, positive pitch down, positive roll clockwise."""
    angles = np.radians((yaw, pitch, roll))
    (a, b, c), (d, e, f) = np.cos(angles), np.sin(angles)
    turn = np.array([(a, 0, d), (0, 1, 0), (-d, 0, a)])
    nod = np.array([(1, 0, 0), (0, b, e), (0, -e, b)])
    tilt = np.array([(c, -f, 0), (f, c, 0), (0, 0, 1)])
    return tilt @ nod @ turn


class Head:
    """The surface of one head with hair and hat, and where its points lie on it.

    points -- (106, 3) in head coordinates, for a face seen from the front
    size   -- how many pixels high it will be: sets the detail of the tables
    """

    def __init__(self, shape, rng, hair="short", hat=None, size=300):
        self.shape, self.hair, self.hat = shape, hair, hat
        detail = 0.8 if size < 30 else 1.2 if size < 80 else 2 if size < 200 else 2.5
        self.rows, self.columns = int(104 * detail), int(128 * detail)
        self.y = np.linspace(TOP, BOTTOM, self.rows, dtype=np.float32)[:, None]
        self.turn = np.linspace(-2, 2, self.columns, dtype=np.float32)[None]
        self.sin, self.cos = _direction(self.turn)
        self.angle = np.arctan2(np.abs(self.sin), self.cos)
        # the jaw drops when the mouth opens; everything below the nose moves with it
        self.chin = shape.chin + 0.22 * shape.mouth_open
        flat = face_points(shape)
        self.skin = self._skin(flat).astype(np.float32)
        self.points = np.zeros((106, 3))
        self.points[33:] = self._lift(flat[33:])
        angle = np.linspace(-1, 1, 33) * EAR_ANGLE
        self.contour = np.stack(
            [np.tan(angle) / (1 + np.abs(np.tan(angle))), self._jaw_y(np.abs(angle))], axis=1
        )
        self.points[:33] = self.at(*self.contour.T)
        self._dress(rng)

    def _base(self, stretch=1.0, necked=True):
        """Radii of the bare skull, or of that `stretch` times as large."""
        y = self.y / stretch
        y = np.where(y > 0.7, 0.7 + (y - 0.7) * 0.94 / (self.chin - 0.7), y)
        side, front, back = (
            np.float32(np.interp(y, PROFILE[:, 0], PROFILE[:, i], left=0)) for i in (1, 2, 3)
        )
        if not necked:  # what hangs down at the sides and the back hangs straight
            side, back = np.where(y > 0, 1.0, side), np.where(y > 0, 1.2, back)
        side = np.maximum(side * self.shape.width, 1e-3)
        power = 2.3  # a little squarer than an ellipse
        front, back = (np.maximum(depth, 1e-3) ** -power for depth in (front, back))
        along = np.abs(self.cos) ** power * np.where(self.cos > 0, front, back)
        return stretch * (np.abs(self.sin) ** power * side**-power + along) ** (-1 / power)

    def _jaw_y(self, angle):
        """y of the contour at an angle of 0 (chin) to EAR_ANGLE."""
        return self.chin - (self.chin + 0.05) * (angle / EAR_ANGLE) ** self.shape.jaw

    def _skin(self, flat):
        s, y = self.shape, self.y
        base = self._base()
        neck = -0.3 * self.cos + np.sqrt(0.45 - 0.09 * self.sin**2)
        self.jaw_y = np.maximum(self._jaw_y(np.minimum(self.angle, EAR_ANGLE)), 0.6).astype(
            np.float32
        )
        soft = 0.15 + 0.5 * _step((self.angle - EAR_ANGLE) / 0.4)
        radius = neck + (np.maximum(base, neck) - neck) * _step((self.jaw_y + 0.15 - y) / soft)
        radius = np.where(y < 0, base, radius)
        ear = 1 - np.hypot((np.abs(self.turn) - 1.08) / 0.10, (y - 0.28) / 0.40)
        self.ear = _step(ear * 4).astype(np.float32)
        radius += 0.18 * self.ear * (1.15 - 0.5 * _step(ear * 1.6))
        # relief of the face, only where there is one
        columns = np.flatnonzero(np.abs(self.turn[0]) < 0.8)
        rows = np.flatnonzero((y[:, 0] > -0.7) & (y[:, 0] < 2.0))
        part = np.ix_(rows, columns)
        y = y[rows]
        x = (base * self.sin)[part]

        def bump(at_x, at_y, wide, high, height):
            return height * np.exp(-(((np.abs(x) - at_x) / wide) ** 2) - ((y - at_y) / high) ** 2)

        down = np.clip(y / s.nose_y, 0, 1)
        ridge = (
            (0.05 + s.nose_height * down**1.2)
            * _step((s.nose_y + 0.14 - y) / 0.13)
            * _step((y + 0.3) / 0.3)
        )
        relief = ridge * np.exp(-((np.abs(x) / (0.10 + 0.6 * (s.nose_width - 0.1) * down)) ** 2.2))
        wings = _step((s.nose_y + 0.14 - y) / 0.1)
        middle, lower = flat[98, 1], flat[102, 1]
        for at_x, at_y, wide, high, height in (
            (0.68 * s.nose_width, s.nose_y + 0.02, 0.09, 0.09, 0.10 * wings),
            (s.eye_x - 0.08, -0.03, 0.20, 0.15, -0.10),  # socket
            (s.eye_x, 0.0, 0.14, 0.09, 0.05),  # eyeball
            (s.eye_x, s.brow_y + 0.03, 0.30, 0.10, 0.04),  # brow
            (0.55, 0.42, 0.22, 0.2, 0.04 + 0.03 * max(s.smile, 0)),  # cheek
            (0.0, middle - 0.05, 0.26, 0.07, 0.06),  # lips
            (0.0, lower + 0.08, 0.24, 0.07, 0.06),
            (0.0, lower + 0.24, 0.2, 0.06, -0.04),  # below the lower lip
            (0.0, self.chin - 0.12, 0.24, 0.14, 0.06),
        ):
            relief = relief + bump(at_x, at_y, wide, high, height)
        radius[part] += relief * _step((self.jaw_y[:, columns] + 0.1 - y) / 0.2)
        return radius

    def look_up(self, table, turn, y):
        """Values of a table (rows, columns) at turns and heights, both (h, w) or (n,)."""
        column = (np.asarray(turn, np.float32) + 2) * ((self.columns - 1) / 4)
        row = (np.asarray(y, np.float32) - TOP) * ((self.rows - 1) / (BOTTOM - TOP))
        if column.ndim == 2:
            return cv2.remap(table, column, row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        length = len(column)  # OpenCV wants pictures, not long rows
        places = np.zeros((length // 256 + 1, 256, 2), np.float32)
        places.reshape(-1, 2)[:length, 0], places.reshape(-1, 2)[:length, 1] = column, row
        return cv2.remap(
            table, places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        ).ravel()[:length]

    def at(self, turn, y):
        """(n, 3) points of the skin at (n,) turns and heights."""
        turn, y = np.atleast_2d(turn, y)
        radius = self.look_up(self.skin, turn, y)
        sin, cos = _direction(turn)
        return np.stack([radius * sin, y, radius * cos], axis=-1)[0]

    def _lift(self, flat):
        """(n, 2) points seen from the front -> (n, 3) on the skin."""
        turns = np.linspace(-0.92, 0.92, 256)
        grid = self.look_up(self.skin, *np.broadcast_arrays(turns[None], flat[:, 1:]))
        across = np.maximum.accumulate(grid * _direction(turns)[0], axis=1)
        turn = np.array([np.interp(x, row, turns) for x, row in zip(flat[:, 0], across)])
        return self.at(turn, flat[:, 1])

    def _dress(self, rng):
        """Radii with hair and hat, and how much of the skin these cover."""
        size = np.abs(self.turn)

        def reach(front, side, end, back, soft, noise=0.0):
            """What lies above `front` or beside `side` and above `end` (`back` behind)."""
            end = end + (np.maximum(back, end) - end) * _step((size - 1.15) / 0.2)
            return np.maximum(
                _step((front - self.y) / soft + noise),
                _step((size - side + 0.08) / 0.08) * _step((end - self.y) / soft),
            )

        thick, front, side, end = HAIR[self.hair]
        self.streaks, self.blotches = (
            cv2.resize(rng.random(cells, dtype=np.float32), (self.columns, self.rows))
            for cells in ((self.rows // 16, self.columns), (self.rows // 8, self.columns // 6))
        )
        streaks = self.streaks - 0.5
        cover = reach(front, side, end, 0.9, 0.10, 0.8 * streaks)
        if end < 0.6:
            cover = cover * (1 - self.ear)
        if self.hair == "bald" and rng.random() < 0.5:  # a ring of hair is left
            thick = 0.03
            cover = (
                0.8
                * _step((size - 0.95) / 0.3)
                * _step((self.y + 0.8) / 0.6)
                * _step((0.9 - self.y) / 0.1)
                * (1 - self.ear)
            )
        shell = self._base(1 + thick, necked=False) * (1 + 0.05 * thick**0.5 * streaks)
        cover = cover * (thick > 0)
        # the steep edge has the colour of hair, or it would look like a smear
        self.hair_cover = np.clip(2.5 * cover, 0, 1).astype(np.float32)
        radius = self.skin + cover * np.maximum(shell - self.skin, 0)
        self.hat_cover = np.zeros_like(self.hair_cover)
        if self.hat:
            thick, front, side, end, brim, half = HATS[self.hat]
            cover = reach(front, side, end, end, 0.05)
            if self.hat == "scarf":
                cover = np.maximum(cover, _step((self.y - self.jaw_y - 0.05) / 0.1))
            ring = np.zeros_like(cover)
            if brim:
                ring = (np.abs(self.y - front) < 0.05) * _step((half - self.angle) / 0.3)
            shell = self._base(1 + thick, necked=False)
            if self.hat == "scarf":
                shell = np.where(
                    self.angle < EAR_ANGLE,
                    np.maximum(self.skin * 1.05, shell * _step((self.jaw_y + 0.1 - self.y) / 0.2)),
                    shell,
                )
            radius = np.where(cover > 0.5, np.maximum(shell, self.skin), radius)
            radius = np.maximum(radius, (shell + brim) * ring)
            self.hat_cover = np.maximum(cover, ring).astype(np.float32)
        self.surface = radius.astype(np.float32)

    def seen(self, turned):
        """The points and the box of the face under a rotation `turned` (3, 3): (106, 2) and
        (4,) x1 y1 x2 y2, in head units around the middle of the head.

        Contour points that the cheek hides move along their row to where the outline is seen,
        as annotators set them.
        """
        points = self.points @ turned[:2].T
        outward = np.array((turned[1, 1], -turned[0, 1]))  # across the head in the image
        share = np.linspace(1, 0.15, 18)
        turn, y = self.contour.T[..., None]
        rows = self.at((turn * share).ravel(), np.broadcast_to(y, (33, len(share))).ravel())
        rows = (rows @ turned[:2].T).reshape(33, len(share), 2)
        best = np.argmax(rows @ outward * np.sign(turn), axis=1)
        best[16] = 0  # the chin stays
        points[:33] = rows[np.arange(33), best]
        angle = np.linspace(-1, 1, 25) * EAR_ANGLE
        turn = np.tan(angle) / (1 + np.abs(np.tan(angle)))
        upper = self.shape.forehead * np.cos(0.55 * angle)
        down = np.linspace(0, 1, 25)[:, None]
        y = upper + (self._jaw_y(np.abs(angle)) - upper) * down
        skin = self.at(np.broadcast_to(turn, y.shape).ravel(), y.ravel()) @ turned[:2].T
        both = np.concatenate([skin, points])
        return points, np.concatenate([both.min(axis=0), both.max(axis=0)])

    def hit(self, turned, u, v):
        """Where the rays through camera coordinates u (w,), v (h,) meet the surface.

        Returns depth t (h, w; -9 where nothing is met), and turn, x, y, z (h, w) there.
        """
        u, v = np.float32(u)[None], np.float32(v)[:, None]
        turned = np.float32(turned)

        base = tuple(u * turned[0, i] + v * turned[1, i] for i in range(3))

        def locate(base, t):
            x, y, z = (start + t * turned[2, i] for i, start in enumerate(base))
            size = np.abs(x)
            part = size / (size + np.abs(z) + 1e-6)
            return np.copysign(np.where(z >= 0, part, 2 - part), x), x, y, z

        def gap(base, t):
            """How far outside the surface the rays are at depth t."""
            turn, x, y, z = locate(base, t)
            return np.sqrt(x * x + z * z) - self.look_up(self.surface, turn, y)

        # every fourth ray in small steps finds about where the surface is ...
        steps = np.arange(2.1, -1.7, -0.1, dtype=np.float32)
        few = tuple(start[::4, ::4] for start in base)
        shape = len(steps), *few[0].shape
        within = (
            gap(
                tuple(np.tile(start, (len(steps), 1)) for start in few),
                steps.repeat(shape[1])[:, None],
            ).reshape(shape)
            <= 0
        )
        first = np.where(within.any(axis=0), steps[within.argmax(axis=0)], np.float32(-9))
        near = cv2.dilate(first, np.ones((3, 3), np.uint8))
        # ... and those around it go on from in front of that place
        t = near.repeat(4, axis=0).repeat(4, axis=1)[: v.size, : u.size] + 0.1
        going = t > -8
        depth = np.full(t.shape, -9, np.float32)
        depth[going] = self._march(gap, tuple(start[going] for start in base), t[going])
        met = depth > -8
        turn, x, y, z = locate(base, depth)
        met &= y < 2.05 + 0.3 * z  # the neckline
        return np.where(met, depth, -9), turn, x, y, z

    @staticmethod
    def _march(gap, base, t):
        """Follow rays (three (n,) coordinates at depth 0) from in front of the surface, at t
        (n,), to it: t, or -9 where they miss."""
        low, high = np.full_like(t, -9), t.copy()
        going = np.arange(len(t))
        for least in (0.025, 0.04, 0.06, 0.06):  # fewer and fewer rays
            some, near, outside = tuple(start[going] for start in base), t[going], high[going]
            for _ in range(5):
                distance = gap(some, near)
                met = distance <= 0
                outside = np.where(met, outside, near)
                step = np.minimum(np.maximum(0.7 * distance, least), 0.25)
                near = np.where(met, near, near - step)
            low[going[met]], high[going], t[going] = near[met], outside, near
            going = going[~met & (near > -1.8)]
        met = np.flatnonzero(low > -8)
        some, lower, upper = tuple(start[met] for start in base), low[met], high[met]
        for _ in range(4):
            middle = 0.5 * (lower + upper)
            within = gap(some, middle) <= 0
            lower, upper = np.where(within, middle, lower), np.where(within, upper, middle)
        low[met] = 0.5 * (lower + upper)
        return low

    def outline(self, turned):
        """(4,) x1 y1 x2 y2 of everything that is drawn of the head, in camera coordinates."""
        part = np.s_[::4, ::4]
        radius = self.surface[part]
        points = (
            np.stack(
                [
                    radius * self.sin[:, ::4],
                    np.broadcast_to(self.y[::4], radius.shape),
                    radius * self.cos[:, ::4],
                ],
                axis=-1,
            )[radius > 0.05]
            @ turned[:2].T
        )
        return np.concatenate([points.min(axis=0) - 0.1, points.max(axis=0) + 0.1])
