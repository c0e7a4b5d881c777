"""What a picture is about, by eye-catching colour and detail: where a crop should be. Pure, on a small copy.

A colour counts the more, the further it is from the other colours of the
picture (global contrast, Cheng et al., CVPR 2011), a place the more, the more
it differs from what surrounds it, and detail the more, the rarer it is. Faces,
where they were looked for, outweigh all of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from itertools import accumulate
from math import sqrt
from operator import sub

from stages.clip import Box
from stages.geometry import CENTER, Point, window
from stages.pictures import Thumbnail

SIDE = 64
"""The longer side of the copy that is weighed: a subject is seen in it, and a blade of grass is not."""

Map = list[list[float]]
"""A value from 0 to 1 for each pixel, row by row."""


def salient_point(colours: Thumbnail, grey: Thumbnail, aspect: Fraction, faces: Sequence[Box] = ()) -> Point:
    """Where a crop of shape `aspect` has its middle, so that it holds most of what stands out; the centre where
    nothing does.

    `colours` and `grey` are copies of one picture, the first of SIDE pixels, the
    other ten times as large; `faces` are boxes on that picture.
    """
    weights = salience(colours, grey, faces)
    shown = window(colours.size, aspect)
    columns = [sum(column) for column in zip(*weights, strict=True)]
    rows = [sum(row) for row in weights]
    return _best(columns, float(shown.width)), _best(rows, float(shown.height))


def salience(colours: Thumbnail, grey: Thumbnail, faces: Sequence[Box] = ()) -> Map:
    """How much each pixel of `colours` stands out, from 0 to 1, or FACE_WEIGHT on a face."""
    pixels = _opponents(colours)
    rare, odd, sharp = _rarity(pixels), _surround(pixels), _detail(grey, colours.size.width, colours.size.height)
    summed = [
        [a + b + SHARPNESS * c for a, b, c in zip(*rows, strict=True)] for rows in zip(rare, odd, sharp, strict=True)
    ]
    weights = _above_mean(_blurred(summed, 1))
    for face in faces:
        _add_face(weights, colours, face)
    return weights


# ---------------------------------------------------------------- what stands out

SHARPNESS = 2.0
"""What detail weighs, where colour and surroundings weigh 1 each: without it a bright sky beats the dandelion before
it. This and the other weights were set by eye on some thirty photographs; one kind still fails, a dark subject
before a light and detailed background."""

Pixel = tuple[float, float, float]


def _opponents(copy: Thumbnail) -> list[list[Pixel]]:
    """Each pixel as lightness, red against green, and yellow against blue, about from -1 to 1: as eyes tell
    colours apart (Hering), and near enough to Lab to weigh differences."""
    values = copy.pixels
    width = copy.size.width
    flat = [
        ((0.299 * red + 0.587 * green + 0.114 * blue) / 255, (red - green) / 255, ((red + green) / 2 - blue) / 255)
        for red, green, blue in zip(values[::3], values[1::3], values[2::3], strict=True)
    ]
    return [flat[start : start + width] for start in range(0, len(flat), width)]


LEVELS, COLOURS = (10, 6, 4, 2), 400
"""Into how many steps each of a colour's three values is rounded, before colours are counted: the most that leave
no more than so many, since each is compared with all. A photo has about a hundred, noise has thousands."""


def _rarity(pixels: list[list[Pixel]]) -> Map:
    """How far each pixel's colour is from the others', by how many have them."""
    for levels in LEVELS:
        rounded = [[(round(a * levels), round(b * levels), round(c * levels)) for a, b, c in row] for row in pixels]
        counted = Counter(colour for row in rounded for colour in row)
        if len(counted) <= COLOURS:
            break
    far = {one: sum(count * _distance(one, other) for other, count in counted.items()) for one in counted}
    return _scaled([[far[colour] for colour in row] for row in rounded])


def _surround(pixels: list[list[Pixel]]) -> Map:
    """How much each pixel differs from the mean of what is around it, near and far."""
    height, width = len(pixels), len(pixels[0])
    planes = [[[pixel[k] for pixel in row] for row in pixels] for k in range(3)]
    found = [[0.0] * width for _ in range(height)]
    for radius in (max(width, height) // 8, max(width, height) // 4):
        means = [_blurred(plane, max(1, radius)) for plane in planes]
        for y in range(height):
            for x in range(width):
                mean = (means[0][y][x], means[1][y][x], means[2][y][x])
                found[y][x] += _distance(pixels[y][x], mean)
    return _scaled(found)


def _detail(grey: Thumbnail, columns: int, rows: int) -> Map:
    """How steep lightness is within each of so many fields: what is in focus has edges, and what is not has none."""
    width, height = grey.size.width, grey.size.height
    lines = [grey.pixels[start : start + width] for start in range(0, width * height, width)]
    found = [[0.0] * columns for _ in range(rows)]
    for y, line in enumerate(lines):
        below = lines[min(y + 1, height - 1)]
        across, down = list(map(abs, map(sub, line, line[1:]))), list(map(abs, map(sub, line, below)))
        row = found[y * rows // height]
        for column in range(columns):
            start, stop = column * width // columns, (column + 1) * width // columns
            row[column] += sum(across[start:stop]) + sum(down[start:stop])
    return _scaled(_blurred(found, 1))


def _distance(one: Sequence[float], other: Sequence[float]) -> float:
    return sqrt((one[0] - other[0]) ** 2 + (one[1] - other[1]) ** 2 + (one[2] - other[2]) ** 2)


def _scaled(values: Map) -> Map:
    """What is above the mean, and the whole map the weaker, the more of it is (after Itti et al., 1998): a lawn
    has detail everywhere, and that says nothing."""
    above = _above_mean(values)
    weight = (1 - _mean(above)) ** 2
    return [[value * weight for value in row] for row in above]


def _above_mean(values: Map) -> Map:
    """What is above the mean, from 0 to 1; all 0 where nothing is."""
    mean, top = _mean(values), max(map(max, values))
    if top - mean < 1e-6:
        return [[0.0] * len(row) for row in values]
    return [[max(0.0, value - mean) / (top - mean) for value in row] for row in values]


def _mean(values: Map) -> float:
    return sum(map(sum, values)) / (len(values) * len(values[0]))


def _blurred(values: Map, radius: int) -> Map:
    """The mean of the square of 2 `radius` + 1 pixels around each, as far as it is on the picture."""
    return _transposed([_means(row, radius) for row in _transposed([_means(row, radius) for row in values])])


def _means(row: Sequence[float], radius: int) -> list[float]:
    sums = [0.0, *accumulate(row)]
    last = len(row)
    found = []
    for x in range(last):
        start, stop = max(0, x - radius), min(last, x + radius + 1)
        found.append((sums[stop] - sums[start]) / (stop - start))
    return found


def _transposed(values: Map) -> Map:
    return [list(column) for column in zip(*values, strict=True)]


FACE_WEIGHT = 3.0
"""What a pixel of a face weighs, where 1 is the most that another may: the eye goes to faces first."""


def _add_face(weights: Map, copy: Thumbnail, face: Box) -> None:
    """Weigh the pixels of `copy` on which `face` lies, a box on its picture."""
    across, down = copy.size.width / copy.window.width, copy.size.height / copy.window.height
    left, top = (face.x - copy.window.x) * across, (face.y - copy.window.y) * down
    for y in range(max(0, int(top)), min(len(weights), int(top + face.height * down) + 1)):
        for x in range(max(0, int(left)), min(len(weights[0]), int(left + face.width * across) + 1)):
            weights[y][x] = FACE_WEIGHT


# ---------------------------------------------------------------- where to cut

EDGE = 0.5
"""What salience counts at the edge of a crop, where it counts 1 in the middle: a subject is not only in it."""

PULL = 0.2
"""How much less a crop counts at the picture's own edge: photographers put most subjects near the middle."""


def _best(profile: Sequence[float], length: float) -> Fraction:
    """The middle, as a share of the whole, of the stretch of `length` that holds most of `profile`."""
    room = len(profile) - length
    if room < 1e-9 or max(profile) <= 0:
        return CENTER[0]
    steps = max(1, round(room))
    starts = [room * step / steps for step in range(steps + 1)]

    def held(start: float) -> float:
        middle = start + length / 2
        inside = sum(
            value * (1 - (1 - EDGE) * (abs(x + 0.5 - middle) / (length / 2)) ** 2)
            for x, value in enumerate(profile)
            if abs(x + 0.5 - middle) <= length / 2
        )
        return inside * (1 - PULL * abs(2 * start / room - 1))

    best = max(starts, key=lambda start: (round(held(start), 9), -abs(start - room / 2)))
    return Fraction(best + length / 2).limit_denominator(10_000) / len(profile)
