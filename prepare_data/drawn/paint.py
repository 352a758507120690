"""Painting a drawn head: skin, eyes, brows, lips, hair, hat, glasses, mask and light.

A head is painted as a sprite: a patch of the picture with opacity, at a multiple of the
picture's resolution and reduced by area, so that small faces are as right as large ones.
Colours are BGR, 0 to 255, float32.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from prepare_data.drawn.face import BROWS, EAR_ANGLE, EYES, smooth

SKIN = np.float32(
    [
        (20, 28, 46),
        (32, 48, 78),
        (48, 74, 118),
        (70, 104, 158),
        (104, 146, 196),
        (136, 172, 222),
        (162, 190, 234),
        (190, 212, 245),
    ]
)
HAIR_COLOURS = np.float32(
    [
        (18, 16, 16),
        (26, 32, 44),
        (30, 50, 84),
        (44, 82, 130),
        (96, 160, 206),
        (30, 60, 140),
        (150, 150, 152),
        (222, 222, 222),
    ]
)
IRIS = np.float32([(20, 34, 60), (30, 56, 96), (40, 80, 90), (120, 100, 60), (90, 110, 80)])
MASKS = (225, 215, 190), (235, 235, 235), (50, 50, 50), (180, 140, 90)
FINE = 40  # pixels per head unit from which fine lines are drawn
CIRCLE = np.stack([np.cos(np.arange(24) * np.pi / 12), np.sin(np.arange(24) * np.pi / 12)], axis=1)
LEFT, TOP, RIGHT, BOTTOM = -1.15, -0.8, 1.15, 2.0  # the part of the head that carries the face


class Canvas:
    """A transparent layer to paint on, in head coordinates: colour (h, w, 3) times opacity,
    opacity (h, w)."""

    def __init__(self, scale):
        self.scale = scale  # pixels per unit
        size = int((BOTTOM - TOP) * scale) + 1, int((RIGHT - LEFT) * scale) + 1
        self.colour, self.opacity = np.zeros((*size, 3), np.float32), np.zeros(size, np.float32)

    def pixels(self, points):
        return (np.asarray(points, float) - (LEFT, TOP)) * self.scale - 0.5

    def fill(self, points, colour, opacity=1.0, soft=0.0, within=None, line=None):
        """Fill a polygon (n, 2), or draw it as an open line of width `line`. `soft` blurs the
        edge (units), `within` is a polygon to stay in."""
        points = self.pixels(points)
        room = 3 * soft * self.scale + (line or 0) * self.scale + 2
        height, width = self.opacity.shape
        (left, upper), (right, lower) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
        if opacity * (line * self.scale * 2.5 if line else right - left) < 0.8:
            return  # too fine to be seen
        x0, y0 = max(0, int(left - room)), max(0, int(upper - room))
        x1, y1 = min(width, int(right + room) + 1), min(height, int(lower + room) + 1)
        if x1 <= x0 or y1 <= y0:
            return

        def fixed(points):
            return np.round((points - (x0, y0)) * 16).astype(np.int32)

        mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
        if line:
            thick = max(line * self.scale, 1.0)
            opacity *= min(line * self.scale, 1.0)
            cv2.polylines(mask, [fixed(points)], False, 255, int(round(thick)), cv2.LINE_AA, 4)
        else:
            cv2.fillPoly(mask, [fixed(points)], 255, cv2.LINE_AA, 4)
        if soft * self.scale > 0.3:
            mask = cv2.GaussianBlur(mask, (0, 0), soft * self.scale)
        mask = mask * np.float32(opacity / 255)
        if within is not None:
            limit = np.zeros((y1 - y0, x1 - x0), np.uint8)
            cv2.fillPoly(limit, [fixed(self.pixels(within))], 255, cv2.LINE_AA, 4)
            mask *= limit * np.float32(1 / 255)
        part = np.s_[y0:y1, x0:x1]
        self.opacity[part] += (1 - self.opacity[part]) * mask
        self.colour[part] += (np.float32(colour) - self.colour[part]) * mask[..., None]

    def ellipse(self, centre, radii, colour, **options):
        self.fill(CIRCLE * radii + centre, colour, **options)


@dataclass
class Appearance:
    """What a person looks like and wears, and the light on it; colours are BGR (3,)."""

    skin: np.ndarray
    hair: np.ndarray
    iris: np.ndarray
    lips: np.ndarray
    hat: np.ndarray
    light: np.ndarray  # direction to the light in camera coordinates, length 1
    ambient: float  # share of the light that comes from everywhere
    beard: float = 0.0  # opacity
    moustache: float = 0.0
    lines: float = 0.3  # how deep the wrinkles are
    glasses: str = ""
    mask: np.ndarray = None  # colour of a medical mask


def random_appearance(rng):
    tone = rng.uniform(0, len(SKIN) - 1)
    skin = SKIN[int(tone)] + (SKIN[int(tone) + 1] - SKIN[int(tone)]) * (tone % 1)
    skin = np.clip(skin * rng.uniform(0.96, 1.04, 3), 8, 250).astype(np.float32)
    dark = tone < 3.5
    hair = HAIR_COLOURS[
        rng.integers(0, 3) if dark and rng.random() < 0.85 else rng.integers(len(HAIR_COLOURS))
    ]
    if rng.random() < 0.03:
        hair = rng.uniform(30, 220, 3)
    lips = skin * (0.80, 0.72, 0.92) + (4, 0, 14)
    if rng.random() < 0.2:  # lipstick
        lips = 0.4 * lips + 0.6 * np.array(
            (rng.uniform(20, 90), rng.uniform(15, 60), rng.uniform(120, 210))
        )
    light = np.array([rng.uniform(-0.9, 0.9), rng.uniform(-0.9, 0.1), rng.uniform(0.5, 1.2)])
    whiskers = rng.random() < 0.25
    return Appearance(
        skin,
        hair=np.float32(hair * rng.uniform(0.8, 1.2)),
        iris=IRIS[0 if dark else rng.integers(len(IRIS))],
        lips=np.float32(lips),
        hat=np.float32(rng.uniform(15, 240, 3)),
        light=light / np.linalg.norm(light),
        ambient=rng.uniform(0.35, 0.75),
        beard=whiskers * rng.choice([0.0, 0.3, 0.85]),
        moustache=whiskers * rng.choice([0.0, 0.4, 0.85]),
        lines=rng.uniform(0, 0.7),
        glasses=rng.choice(("round", "square", "dark"), p=(0.4, 0.4, 0.2))
        if rng.random() < 0.2
        else "",
        mask=np.float32(MASKS[rng.integers(len(MASKS))]) if rng.random() < 0.06 else None,
    )


def _paint_face(head, style, scale):
    """A Canvas with everything of a face that lies on its skin."""
    canvas, s = Canvas(scale), head.shape
    p = head.points[:, :2]
    skin = style.skin
    dark, deep = skin * (0.55, 0.58, 0.66), skin * (0.28, 0.30, 0.38)
    red = skin * (0.85, 0.85, 1.0) + (0, 0, 8)
    for side in (-1, 1):
        canvas.ellipse((side * 0.58, 0.46), (0.22, 0.18), red, opacity=0.5, soft=0.09)
        canvas.ellipse(
            (side * s.eye_x, -0.04), (s.eye_width + 0.06, 0.16), dark, opacity=0.40, soft=0.05
        )
    # the nose: its sides, base and nostrils
    for side in ([78, 80, 82], [79, 81, 83]):
        canvas.fill(smooth(p[side], False), dark, opacity=0.45, soft=0.03, line=0.06)
    canvas.fill(smooth(p[47:52], False), deep, opacity=0.65, soft=0.01, line=0.03)
    for a, b in ((47, 48), (51, 50)):
        canvas.ellipse(
            0.45 * p[a] + 0.55 * p[b] - (0, 0.025),
            (0.055, 0.026),
            deep * 0.6,
            opacity=0.85,
            soft=0.008,
        )
    if scale > FINE:
        _paint_lines(canvas, p, s, style, deep, dark)
    if style.moustache:
        upper = [
            p[84] + (0, -0.02),
            p[85] - (0, 0.09),
            p[49] + (-0.06, 0.04),
            p[49] + (0.06, 0.04),
            p[89] - (0, 0.09),
            p[90] + (0, -0.02),
            p[88],
            p[87],
            p[86],
        ]
        canvas.fill(smooth(upper, True), style.hair * 0.9, opacity=style.moustache, soft=0.02)
    _paint_mouth(canvas, p, s, style, deep)
    for names, eye in zip(EYES, (0, 1)):
        _paint_eye(canvas, p, names, 104 + eye, (s.lid_left, s.lid_right)[eye], style, deep, dark)
    for names in BROWS:
        canvas.fill(
            smooth(p[list(names)], True), style.hair * 0.55 + skin * 0.12, opacity=0.88, soft=0.010
        )
    if style.mask is not None:
        x = 0.86 * s.width
        edge = smooth(
            [
                (-x, 0.52),
                (-0.45, 0.40),
                (0, 0.30),
                (0.45, 0.40),
                (x, 0.52),
                (0.80 * x, 1.25),
                (0.35, head.chin + 0.05),
                (-0.35, head.chin + 0.05),
                (-0.80 * x, 1.25),
            ],
            True,
        )
        canvas.fill(edge, style.mask, soft=0.008)
        for y in (0.72, 0.92, 1.12):
            canvas.fill(
                [(-0.8 * x, y), (0, y + 0.04), (0.8 * x, y)],
                style.mask * 0.75,
                line=0.02,
                soft=0.01,
                opacity=0.7,
            )
    return canvas


def _paint_lines(canvas, p, s, style, deep, dark):
    """What only shows when a face is large: wings of the nose, folds, wrinkles."""
    for wing, foot, corner in ((82, 47, 84), (83, 51, 90)):
        wing, foot, corner = p[wing], p[foot], p[corner]
        out = np.array((np.sign(wing[0]), 0))
        curve = smooth([wing - (0, 0.09), wing, 0.5 * (wing + foot) + (0, 0.03), foot], False)
        canvas.fill(curve, deep, opacity=0.6, soft=0.008, line=0.025)
        fold = smooth([wing, 0.5 * (wing + corner) + 0.06 * out, corner + 0.08 * out], False)
        canvas.fill(
            fold, dark, line=0.03, soft=0.012, opacity=0.35 + 0.5 * style.lines * max(s.smile, 0.3)
        )
        canvas.ellipse(corner, (0.025, 0.02), deep, opacity=0.6, soft=0.01)
    canvas.ellipse(
        p[46] - (0, 0.02),
        (0.05, 0.05),
        np.minimum(style.skin * 1.25 + 12, 255),
        opacity=0.35,
        soft=0.025,
    )
    canvas.fill(
        [p[49] + (-0.03, 0.03), p[49] + (0.03, 0.03), p[87] + (0.05, 0), p[87] - (0.05, 0)],
        dark,
        opacity=0.3,
        soft=0.02,
    )
    if style.lines > 0.35:
        for y in (-0.62, -0.5):
            canvas.fill(
                [(x, y - 0.03 * np.cos(2 * x)) for x in np.linspace(-0.5, 0.5, 9)],
                dark,
                opacity=0.5 * style.lines,
                soft=0.01,
                line=0.02,
            )


def _paint_mouth(canvas, p, s, style, deep):
    inner = np.concatenate([p[96:101], p[101:104]])
    canvas.fill(
        smooth(p[[84, *range(85, 91), 100, 99, 98, 97, 96]], True), style.lips * 0.88, soft=0.006
    )
    canvas.fill(
        smooth(p[[90, *range(91, 96), 84, 96, 103, 102, 101, 100]], True),
        np.minimum(style.lips * 1.08, 255),
        soft=0.006,
    )
    if s.mouth_open > 0.06:
        canvas.fill(smooth(inner, True), (26, 20, 44))
        canvas.ellipse(
            p[102] + (0, -0.02), (0.16, 0.06), (70, 66, 140), within=smooth(inner, True), soft=0.01
        )
        teeth = 0.03 + 0.05 * min(1, s.mouth_open * 3)
        canvas.fill(
            [
                p[97] - (0.08, 0.02),
                p[98] - (0, 0.02),
                p[99] + (0.08, -0.02),
                p[99] + (0.05, teeth),
                p[98] + (0, teeth + 0.02),
                p[97] + (-0.05, teeth),
            ],
            (205, 218, 224),
            within=smooth(inner, True),
            soft=0.006,
        )
    else:
        canvas.fill(
            smooth(0.5 * (p[96:101] + p[[96, 103, 102, 101, 100]]), False),
            deep,
            line=0.028,
            soft=0.006,
            opacity=0.9,
        )


def _paint_eye(canvas, p, names, pupil, lid, style, deep, dark):
    outline = smooth(p[list(names)], True, 6)
    upper, lower = p[list(names[:5])], p[[names[4], *names[5:], names[0]]]
    white = np.minimum(style.skin * 0.15 + (190, 194, 196), 255)
    size = 0.092
    canvas.fill(outline, white, soft=0.004)
    canvas.ellipse(p[pupil], (size, size), style.iris * 0.5, within=outline)
    if canvas.scale > FINE:
        canvas.ellipse(p[pupil], (size * 0.82, size * 0.82), style.iris, within=outline, soft=0.008)
    canvas.ellipse(p[pupil], (0.045, 0.045), (10, 9, 9), within=outline)
    canvas.ellipse(
        p[pupil] + (0.025, -0.03),
        (0.014, 0.014),
        (245, 245, 245),
        opacity=0.9 * lid,
        within=outline,
    )
    lash = deep * 0.45
    canvas.fill(smooth(upper - (0, 0.006), False), lash, line=0.03, soft=0.004, opacity=0.9)
    if canvas.scale > FINE:
        canvas.fill(smooth(lower, False), deep, line=0.018, soft=0.006, opacity=0.6)
    if canvas.scale > FINE and lid > 0.4:
        canvas.fill(smooth(upper - (0, 0.055), False), dark, line=0.02, soft=0.01, opacity=0.7)


def _clothe(head, style):
    """Colours (rows, columns, 3) of the head's surface by turn and height, and the share of it
    that hair or hat cover."""
    below = np.clip((head.y - head.jaw_y) / 0.10, 0, 1)
    light = (1 + 0.10 * (head.blotches - 0.5)) * (
        1 - 0.5 * below * np.clip(1.3 - 0.7 * (head.y - head.jaw_y), 0.4, 1)
    )
    if style.beard:
        size = np.abs(head.turn)
        mouth = np.hypot(head.turn / 0.33, (head.y - head.points[93, 1] + 0.08) / 0.30)
        line = 1.05 - 0.75 * np.clip((size - 0.35) / 0.5, 0, 1)
        beard = np.clip((head.y - line) / 0.25, 0, 1) * np.clip((0.98 - size) / 0.1, 0, 1)
        beard *= np.clip((head.jaw_y + 0.15 - head.y) / 0.1, 0, 1)
        beard *= np.clip((mouth - 0.8) * 3, 0, 1)
        beard = np.float32(style.beard * beard * (0.75 + 0.25 * head.streaks))
    planes = []  # channel by channel: numpy is slow along an axis of three
    for skin, hair, hat, ear in zip(style.skin, style.hair, style.hat, (0.25, 0.22, 0.12)):
        plane = skin * light * (1 - ear * head.ear)
        if style.beard:
            plane += (hair - plane) * beard
        plane += (hair * (0.55 + 0.8 * head.streaks) - plane) * head.hair_cover
        if head.hat:
            plane += (hat * (0.95 + 0.1 * head.streaks) - plane) * head.hat_cover
        planes.append(plane.astype(np.float32))
    return cv2.merge(planes), np.maximum(head.hair_cover, head.hat_cover)


def thrice(plane):
    """(h, w) -> (h, w, 3): multiplying with that is quicker than broadcasting."""
    return cv2.merge((plane, plane, plane))


def _paint_glasses(colour, head, style, turned, place):
    """Draw glasses onto the rendered head (h, w, 3); `place` maps camera units to its pixels."""
    s = head.shape
    front = head.points[43, 2] + 0.12
    angle = np.linspace(0, 2 * np.pi, 33)
    power = 1.0 if style.glasses == "round" else 0.5
    round_x, round_y = (np.sign(f) * np.abs(f) ** power for f in (np.cos(angle), np.sin(angle)))
    scale = np.linalg.norm(place(np.array([[1.0, 0]])) - place(np.array([[0.0, 0]])))
    thick = max(1, int(round(0.035 * scale)))
    frame = style.hat * 0.35 if style.glasses != "dark" else np.float32((15, 15, 15))
    frame = tuple(float(c) for c in frame)

    def drawn(x, y, z):
        return np.round(place(np.stack([x, y, z], axis=1) @ turned[:2].T) * 16).astype(np.int32)

    for side in (-1, 1):
        x, y = side * s.eye_x + 0.31 * round_x, 0.02 + 0.23 * round_y
        lens = drawn(x, y, front - 0.28 * np.abs(x) ** 2)
        layer = colour.copy()
        cv2.fillPoly(
            layer,
            [lens],
            (22, 20, 20) if style.glasses == "dark" else (235, 225, 215),
            cv2.LINE_8,
            4,
        )
        share = 0.9 if style.glasses == "dark" else 0.10
        cv2.addWeighted(layer, share, colour, 1 - share, 0, colour)
        cv2.polylines(colour, [lens], False, frame, thick, cv2.LINE_8, 4)
        if side * turned[0, 2] < 0.15:  # the arm on the other side is behind the face
            arm = drawn(
                side * np.array([s.eye_x + 0.31, 1.03 * s.width]),
                np.array([-0.05, -0.02]),
                np.array([front - 0.2, 0.0]),
            )
            cv2.polylines(colour, [arm], False, frame, thick, cv2.LINE_8, 4)
    x = np.linspace(-1, 1, 7) * (s.eye_x - 0.30)
    bridge = drawn(x, -0.03 - 0.05 * np.cos(x * 8), np.full(7, front))
    cv2.polylines(colour, [bridge], False, frame, thick, cv2.LINE_8, 4)


@dataclass
class Sprite:
    """A painted head in its place: rows y0.., columns x0.. of the picture."""

    x0: int
    y0: int
    colour: np.ndarray  # (h, w, 3) float32, times opacity
    opacity: np.ndarray  # (h, w) float32, 0 to 1
    face: np.ndarray  # (h, w) float32, 0 to 1: the part of it that is the face itself


def render(head, style, turned, centre, unit, shape):
    """Paint a head into its Sprite, or None when nothing of it is in the picture.

    turned -- (3, 3) rotation; centre -- (2,) picture coordinates of the head's origin;
    unit -- pixels per head unit; shape -- (height, width) of the picture
    """
    bounds = np.r_[centre, centre] + unit * head.outline(turned)
    x0, y0 = np.maximum(np.floor(bounds[:2]), 0).astype(int)
    x1, y1 = np.minimum(np.ceil(bounds[2:]), shape[::-1]).astype(int)
    if x1 - x0 < 2 or y1 - y0 < 2:
        return None
    fold = 4 if unit < 6 else 3 if unit < 9 else 2 if unit < 32 else 1
    scale = unit * fold
    u = (x0 + (np.arange((x1 - x0) * fold) + 0.5) / fold - centre[0]) / unit
    v = (y0 + (np.arange((y1 - y0) * fold) + 0.5) / fold - centre[1]) / unit
    depth, turn, x, y, z = head.hit(turned, u, v)
    met = depth > -8
    if not met.any():
        return None

    surface, cover = _clothe(head, style)
    colour = head.look_up(surface, turn, y)
    canvas = _paint_face(head, style, float(np.clip(scale, 20, 170)))
    at = (np.float32((x - LEFT) * canvas.scale - 0.5), np.float32((y - TOP) * canvas.scale - 0.5))
    on = (z > 0) * (1 - head.look_up(cover, turn, y))
    on = on.astype(np.float32)
    share = cv2.remap(canvas.opacity, *at, cv2.INTER_LINEAR, borderValue=0) * on
    layer = cv2.remap(canvas.colour, *at, cv2.INTER_LINEAR, borderValue=0) * thrice(on)
    colour = colour * thrice(1 - share) + layer

    # light: normals from the depth; smoothed, as the table's cells would show
    solid = np.where(met, depth, depth[met].min()).astype(np.float32)
    if scale > 40:
        solid = cv2.GaussianBlur(solid, (0, 0), 0.022 * scale)
    slope_x = np.clip(cv2.Sobel(solid, cv2.CV_32F, 1, 0, scale=scale / 8), -3, 3)
    slope_y = np.clip(cv2.Sobel(solid, cv2.CV_32F, 0, 1, scale=scale / 8), -3, 3)
    length = 1 / np.sqrt(1 + slope_x**2 + slope_y**2)

    def facing(way):
        """Cosine between the surface's normals and a direction."""
        x, y, z = (float(c) for c in way / np.linalg.norm(way))
        return (z - x * slope_x - y * slope_y) * length

    direct = np.maximum(0.3 + facing(style.light), 0)
    bright = style.ambient + (1 - style.ambient) * direct
    gloss = np.maximum(facing(style.light + (0, 0, 1)), 0) ** 24 * 22
    colour = colour * thrice(np.float32(bright)) + thrice(np.float32(gloss))

    if style.glasses:
        colour = np.ascontiguousarray(colour, np.float32)
        _paint_glasses(
            colour,
            head,
            style,
            turned,
            lambda points: np.stack(
                [(points[:, 0] - u[0]) * scale, (points[:, 1] - v[0]) * scale], axis=1
            ),
        )
    opacity = met.astype(np.float32)
    if fold == 1:
        opacity = np.minimum(opacity, cv2.GaussianBlur(opacity, (3, 3), 0) * 1.3)
    ear = np.tan(EAR_ANGLE) / (1 + np.tan(EAR_ANGLE))
    face = met & (np.abs(turn) < ear) & (y > head.shape.forehead) & (y < head.chin)
    colour = np.clip(colour, 0, 255) * thrice(opacity)

    def reduced(image):
        return cv2.resize(image, (x1 - x0, y1 - y0), interpolation=cv2.INTER_AREA)

    return Sprite(x0, y0, reduced(colour), reduced(opacity), reduced(face.astype(np.float32)))
