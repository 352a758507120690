"""What is around the faces: backgrounds, things that look a little like faces, things in front
of faces, clothes, and what a camera does to a picture.

Pictures are (H, W, 3) uint8 BGR and are drawn on in place; rng is a numpy Generator.
"""

import cv2
import numpy as np

from prepare_data.drawn.paint import SKIN, thrice

AA = cv2.LINE_AA


def colour_near(rng, colour=None, spread=25):
    """A BGR tuple, by chance or near another one."""
    if colour is None:  # more often pale than gaudy
        grey = rng.uniform(10, 245)
        colour = [grey + (c - grey) * rng.random() ** 1.5 for c in rng.uniform(0, 255, 3)]
    return tuple(
        min(max(float(c + n), 0.0), 255.0) for c, n in zip(colour, rng.normal(0, spread, 3))
    )


def colours_near(rng, colour, spread, count=24):
    """A list of colours near one, to choose from: quicker than colour_near() for each stroke."""
    return [colour_near(rng, colour, spread) for _ in range(count)]


def cloud(rng, height, width, coarsest=3):
    """(H, W) float32 noise of several sizes, about 0 to 1."""
    half = (width + 1) // 2, (height + 1) // 2
    out = np.full(half[::-1], -0.33, np.float32)
    for level in range(5):
        noise = rng.random((coarsest << level,) * 2, dtype=np.float32)
        noise *= np.float32(0.83 / 2**level)
        out += cv2.resize(noise, half, interpolation=cv2.INTER_CUBIC)
    return cv2.resize(out, (width, height), interpolation=cv2.INTER_LINEAR)


def polygon(image, points, colour):
    """Fill a polygon (n, 2) of picture coordinates."""
    points = np.round(np.asarray(points, float) * 16 - 8).astype(np.int32)
    cv2.fillPoly(image, [points], colour, AA, 4)


def disc(image, x, y, wide, high, colour, angle=0.0, line=-1):
    """An ellipse with radii wide, high in pixels; `line` is a width, -1 fills."""
    cv2.ellipse(
        image,
        (int(x), int(y)),
        (max(1, int(wide)), max(1, int(high))),
        angle,
        0,
        360,
        colour,
        line,
        AA,
    )


def stroke(image, start, end, colour, width):
    (x1, y1), (x2, y2) = start, end
    cv2.line(image, (int(x1), int(y1)), (int(x2), int(y2)), colour, max(1, int(width)), AA)


# Backgrounds


def _plain(rng, image):
    height, width = image.shape[:2]
    corners = np.float32([[colour_near(rng), colour_near(rng)], [colour_near(rng)] * 2])
    if rng.random() < 0.5:  # a calm one
        corners = 0.25 * corners + 0.75 * corners[0, 0]
    image[:] = cv2.resize(corners, (width, height), interpolation=cv2.INTER_LINEAR)


def _clouds(rng, image):
    share = np.clip(cloud(rng, *image.shape[:2], int(rng.integers(2, 12))), 0, 1)
    image[:] = cv2.merge([a + (b - a) * share for a, b in zip(colour_near(rng), colour_near(rng))])


def _stripes(rng, image):
    _plain(rng, image)
    height, width = image.shape[:2]
    angle, period, colour = rng.uniform(0, np.pi), rng.uniform(6, 60), colour_near(rng)
    across = np.arange(width) * np.cos(angle) + np.arange(height)[:, None] * np.sin(angle)
    image[(across % period) < period * rng.uniform(0.2, 0.6)] = colour
    if rng.random() < 0.4:
        across = np.arange(width) * -np.sin(angle) + np.arange(height)[:, None] * np.cos(angle)
        image[(across % period) < period * 0.3] = colour_near(rng)


def _bricks(rng, image):
    height, width = image.shape[:2]
    brick, image[:] = colour_near(rng, (60, 80, 150), 40), colour_near(rng, (150, 155, 160))
    tall = int(rng.integers(8, 36))
    long = int(tall * rng.uniform(1, 3))
    colours = colours_near(rng, brick, 10)
    for row, y in enumerate(range(0, height, tall)):
        for x in range(-long * (row % 2) // 2, width, long):
            cv2.rectangle(
                image,
                (x + 1, y + 1),
                (x + long - 2, y + tall - 2),
                colours[int(x * 7919 + y * 104729) % len(colours)],
                -1,
            )


def _leaves(rng, image):
    _clouds(rng, image)
    height, width = image.shape[:2]
    green = np.array(colour_near(rng, (40, 110, 70), 35))
    colours = sum((colours_near(rng, green * bright, 14, 8) for bright in (0.4, 0.7, 1, 1.4)), [])
    for x, y, size, thin, angle, tone in rng.random((int(rng.integers(150, 600)), 6)):
        size = 4 + 22 * size
        disc(
            image,
            x * width,
            y * height,
            size,
            size * (0.25 + 0.35 * thin) + 1,
            colours[int(tone * len(colours))],
            360 * angle,
        )


def _town(rng, image):
    _plain(rng, image)
    height, width = image.shape[:2]
    x = -20
    while x < width:
        wide, top = int(rng.integers(60, 220)), int(rng.uniform(0, 0.6) * height)
        wall, pane = colour_near(rng, (130, 135, 140), 45), colour_near(rng, (90, 80, 70), 40)
        cv2.rectangle(image, (x, top), (x + wide, height), wall, -1)
        panes = colours_near(rng, pane, 15)
        step_x, step_y = int(rng.integers(14, 44)), int(rng.integers(16, 50))
        for y in range(top + 8, height, step_y):
            for column in range(x + 6, x + wide - step_x // 2, step_x):
                cv2.rectangle(
                    image,
                    (column, y),
                    (column + step_x // 2, y + step_y * 3 // 5),
                    panes[(column * 31 + y * 17) % len(panes)],
                    -1,
                )
        x += wide


def _room(rng, image):
    height, width = image.shape[:2]
    wall = colour_near(rng, (180, 185, 190), 40)
    image[:] = wall
    floor = int(height * rng.uniform(0.6, 0.9))
    image[floor:] = colour_near(rng, (70, 100, 130), 40)
    for _ in range(int(rng.integers(4, 14))):  # cupboards, pictures, tables, shelves, lamps
        x, y = int(rng.integers(-30, width)), int(rng.integers(0, height))
        wide, high = int(rng.integers(20, 200)), int(rng.integers(16, 160))
        colour = np.array(colour_near(rng))
        edge = colour_near(rng, colour * 0.5, 8)
        cv2.rectangle(image, (x, y), (x + wide, y + high), tuple(colour), -1)
        cv2.rectangle(image, (x, y), (x + wide, y + high), edge, int(rng.integers(1, 6)))
        for part in range(1, int(rng.integers(1, 6))):
            line = y + high * part // 6
            cv2.line(image, (x, line), (x + wide, line), edge, 2)


def _clutter(rng, image):
    _clouds(rng, image)
    height, width = image.shape[:2]
    for _ in range(int(rng.integers(20, 120))):
        middle = rng.uniform(0, 1, 2) * (width, height)
        points = middle + rng.normal(0, rng.uniform(5, 60), (int(rng.integers(3, 8)), 2))
        polygon(image, points, colour_near(rng))
        if rng.random() < 0.2:
            word = "".join(chr(int(c)) for c in rng.integers(65, 91, int(rng.integers(2, 9))))
            cv2.putText(
                image,
                word,
                (int(middle[0]), int(middle[1])),
                int(rng.integers(0, 8)),
                rng.uniform(0.4, 2),
                colour_near(rng),
                int(rng.integers(1, 4)),
                AA,
            )


BACKGROUNDS = (_plain, _clouds, _stripes, _bricks, _leaves, _town, _room, _clutter)


def background(rng, height, width):
    """A picture (H, W, 3) without anybody in it; sometimes of two parts."""
    image = np.empty((height, width, 3), np.uint8)
    BACKGROUNDS[rng.integers(len(BACKGROUNDS))](rng, image)
    if rng.random() < 0.25:
        cut = int(height * rng.uniform(0.2, 0.8))
        BACKGROUNDS[rng.integers(len(BACKGROUNDS))](rng, image[cut:])
    if rng.random() < 0.7:  # unevenly lit
        light = 0.75 + 0.5 * cloud(rng, height, width, 2)
        image[:] = np.clip(image * thrice(light), 0, 255)
    return image


# Things. Each is drawn around (x, y) with a radius of about r pixels.


def _shaded(rng, image, x, y, wide, high, colour, angle=0.0):
    """A solid ellipse with light from one side, as a ball or a cheek has."""
    disc(image, x, y, wide, high, tuple(0.6 * c for c in colour), angle)
    dx, dy = rng.uniform(-0.25, 0.25, 2)
    for share in (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2):
        bright = tuple(min(255.0, c * (1.25 - 0.6 * share)) for c in colour)
        disc(
            image,
            x + dx * wide * (1 - share),
            y + dy * high * (1 - share),
            wide * share,
            high * share,
            bright,
            angle,
        )


def _skin(rng):
    return colour_near(rng, SKIN[rng.integers(len(SKIN))], 8)


def _ball(rng, image, x, y, r):
    _shaded(rng, image, x, y, r, r, colour_near(rng))
    for _ in range(int(rng.integers(0, 4))):
        disc(
            image,
            x,
            y,
            r,
            r * rng.uniform(0.1, 0.9),
            colour_near(rng),
            rng.uniform(0, 180),
            max(1, r // 12),
        )


def _egg(rng, image, x, y, r):
    """A head's shape and colour, but no face: an egg, a knee, a bun."""
    _shaded(rng, image, x, y, 0.75 * r, r, _skin(rng), rng.uniform(-30, 30))


SPOTS = (
    ((0.0, -0.45),),
    ((0.0, -0.45), (0.0, 0.1)),
    ((0.0, -0.45), (0.0, 0.1), (0.0, 0.55)),
    ((-0.4, 0.5), (0.4, 0.5), (0.0, -0.45)),
)


def _dotted(rng, image, x, y, r):
    """A disc with one to three dark spots where no face has its eyes and mouth."""
    _shaded(rng, image, x, y, r, r, _skin(rng) if rng.random() < 0.6 else colour_near(rng))
    for across, down in SPOTS[rng.integers(len(SPOTS))]:
        disc(image, x + across * r, y + down * r, r / 8, r / 8, (20, 20, 25))


def _flower(rng, image, x, y, r):
    colour, petals = colour_near(rng), int(rng.integers(5, 12))
    for angle in np.arange(petals) * 2 * np.pi / petals:
        disc(
            image,
            x + 0.6 * r * np.cos(angle),
            y + 0.6 * r * np.sin(angle),
            0.4 * r,
            0.22 * r,
            colour_near(rng, colour, 8),
            np.degrees(angle),
        )
    disc(image, x, y, 0.3 * r, 0.3 * r, colour_near(rng, (40, 180, 220)))


def _clock(rng, image, x, y, r):
    disc(image, x, y, r, r, colour_near(rng))
    disc(image, x, y, 0.88 * r, 0.88 * r, colour_near(rng, (225, 225, 225)))
    hands = rng.uniform(0, 2 * np.pi, 2)
    for angle, start, end in (
        *((a, 0.70, 0.82) for a in np.arange(12) * np.pi / 6),
        (hands[0], 0, 0.45),
        (hands[1], 0, 0.65),
    ):
        way = np.array((np.cos(angle), np.sin(angle))) * r
        stroke(image, start * way + (x, y), end * way + (x, y), (20, 20, 20), r // 14)


def _car(rng, image, x, y, r):
    colour, half = colour_near(rng), int(1.3 * r)
    cv2.rectangle(image, (x - half, y - r // 3), (x + half, y + int(0.7 * r)), colour, -1)
    polygon(
        image,
        [
            (x - half, y - r / 3),
            (x - 0.8 * half, y - r),
            (x + 0.8 * half, y - r),
            (x + half, y - r / 3),
        ],
        tuple(0.8 * c for c in colour),
    )
    polygon(
        image,
        [
            (x - 0.8 * half, y - r / 3),
            (x - 0.66 * half, y - 0.88 * r),
            (x + 0.66 * half, y - 0.88 * r),
            (x + 0.8 * half, y - r / 3),
        ],
        (95, 80, 70),
    )
    for side in (-1, 1):
        cv2.circle(image, (int(x + side * 0.75 * half), y), max(1, r // 6), (220, 235, 240), -1, AA)
        cv2.rectangle(
            image,
            (int(x + side * 0.7 * half) - r // 6, y + int(0.7 * r)),
            (int(x + side * 0.7 * half) + r // 6, y + r),
            (20, 20, 20),
            -1,
        )
    for line in range(4):
        cv2.line(
            image,
            (x - half // 2, y + line * r // 8),
            (x + half // 2, y + line * r // 8),
            (30, 30, 30),
            max(1, r // 16),
        )


def _hand(rng, image, x, y, r, colour=None):
    colour, angle = colour or _skin(rng), rng.uniform(-0.7, 0.7) + np.pi * (rng.random() < 0.2)
    cos, sin = np.cos(angle), np.sin(angle)

    def place(across, along):
        return x + r * (across * cos + along * sin), y + r * (across * sin - along * cos)

    stroke(image, place(0, -1.6), place(0, -0.2), tuple(0.92 * c for c in colour), 0.6 * r)
    disc(image, x, y, 0.5 * r, 0.52 * r, colour, np.degrees(angle))
    for finger, length in ((-0.39, 0.85), (-0.13, 1.0), (0.13, 0.97), (0.38, 0.78)):
        ends = place(finger * 0.85, 0.2), place(finger * 1.3, length)
        stroke(image, *ends, tuple(0.7 * c for c in colour), 0.27 * r)
        stroke(image, *ends, colour, 0.21 * r)
    stroke(image, place(-0.35, -0.1), place(-0.8, 0.35), colour, 0.25 * r)


def _box(rng, image, x, y, r):
    """A sign, a telephone, a book."""
    polygon(
        image,
        np.array([(-0.6, -0.9), (0.6, -0.9), (0.6, 0.9), (-0.6, 0.9)])
        * r
        @ cv2.getRotationMatrix2D((0, 0), rng.uniform(-40, 40), 1)[:, :2]
        + (x, y),
        colour_near(rng),
    )


THINGS = (_ball, _egg, _dotted, _flower, _clock, _car, _hand, _box)
COVERS = (_hand, _hand, _box, _ball, _flower)  # what people hold before their faces


def thing(rng, image, x, y, radius):
    """Draw something that is no face."""
    THINGS[rng.integers(len(THINGS))](rng, image, int(x), int(y), max(3, int(radius)))


def cover(rng, image, x, y, radius, skin):
    """Draw something held before a face of this skin (B, G, R)."""
    draw = COVERS[rng.integers(len(COVERS))]
    options = {"colour": tuple(float(c) for c in skin)} if draw is _hand else {}
    draw(rng, image, int(x), int(y), max(2, int(radius)), **options)


def clothes(rng, image, neck, unit):
    """Draw shoulders below the neck's end (2,) of a head of this unit; their outline (n, 2)."""
    colour = np.array(colour_near(rng))
    dark = tuple(float(c) for c in colour * 0.6)
    wide, drop = rng.uniform(2.0, 2.7), rng.uniform(0.5, 0.8)

    def patch(colour, *points):
        outline = np.array(points) * unit + neck
        polygon(image, outline, colour)
        return outline

    outline = patch(
        tuple(colour),
        (-0.55, -0.25),
        (0.55, -0.25),
        (0.7, 0.1),
        (0.8 * wide, drop),
        (wide, drop + 0.7),
        (wide + 0.2, 7),
        (-wide - 0.2, 7),
        (-wide, drop + 0.7),
        (-0.8 * wide, drop),
        (-0.7, 0.1),
    )
    style = rng.random()
    if style < 0.3:  # a pattern of lines
        for y in np.arange(0.3, 6, rng.uniform(0.2, 0.6)):
            half = wide * min(1, 0.4 + y / 2)
            patch(dark, (-half, y), (half, y), (half, y + 0.12), (-half, y + 0.12))
    elif style < 0.6:  # shirt and tie
        patch((230, 230, 230), (-0.5, -0.1), (0.5, -0.1), (0, 1.8))
        patch(colour_near(rng), (-0.12, 0.4), (0.12, 0.4), (0.2, 1.5), (0, 1.7), (-0.2, 1.5))
    for arm in (-wide, wide):
        patch(dark, (0.78 * arm, 1.5), (0.82 * arm, 1.5), (0.85 * arm, 7), (0.78 * arm, 7))
    return outline


def camera(rng, image, smallest):
    """What light, lens and sensor do: the changed picture and WIDER's blur (0-2) and
    illumination (0-1). `smallest` is the size of the smallest face that has to remain one."""
    image = image.astype(np.float32)
    blur = extreme = 0
    gain = 1.0
    if rng.random() < 0.35:
        sigma = rng.uniform(0.4, min(3.0, 0.5 + smallest / 50))
        image = cv2.GaussianBlur(image, (0, 0), sigma)
        blur = 2 if sigma > 0.06 * smallest else int(sigma > 0.02 * smallest)
    elif rng.random() < 0.12:
        length = int(max(3, min(15, smallest * 0.15))) | 1
        kernel = np.zeros((length, length), np.float32)
        way = rng.uniform(0, np.pi)
        step = np.array((np.cos(way), np.sin(way))) * (length // 2)
        middle = np.array((length // 2, length // 2))
        cv2.line(
            kernel,
            tuple((middle - step).round().astype(int)),
            tuple((middle + step).round().astype(int)),
            1.0,
        )
        image, blur = cv2.filter2D(image, -1, kernel / kernel.sum()), 1
    if rng.random() < 0.5:  # colour cast
        image *= rng.uniform(0.82, 1.15, 3).astype(np.float32)
    if rng.random() < 0.12:  # little light or too much
        gain = rng.uniform(0.28, 0.55) if rng.random() < 0.7 else rng.uniform(1.3, 1.7)
        image, extreme = image * np.float32(gain), 1
    elif rng.random() < 0.5:
        contrast, middle = rng.uniform(0.6, 1.2), rng.uniform(105, 150)
        image = (image - 128) * np.float32(contrast) + np.float32(middle)
    if rng.random() < 0.12:
        image[:] = image.mean(axis=2, keepdims=True)
    noise = rng.choice([0.0, 2.0, 5.0, 10.0], p=[0.2, 0.4, 0.28, 0.12])
    if noise:
        grain = rng.standard_normal(image.shape[:2], dtype=np.float32)
        image += thrice(grain * np.float32(noise * min(1, gain)))
    return np.clip(image, 0, 255, out=image).astype(np.uint8), blur, extreme
