"""Pictures with a subject off the middle, drawn here and photographed, and where the subject is."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from pathlib import Path

from PIL import Image, ImageDraw, ImageFilter

FIXTURES = Path(__file__).parents[2] / "fixtures"
PORTRAIT = FIXTURES / "portrait.jpg"
FACE = (175, 76, 266, 167)
"""Of the portrait's face, from brows to chin: left, top, right, bottom."""

Scene = tuple[Image.Image, tuple[int, int, int, int]]
"""A picture, and the box that a crop should keep."""


def noise(size: tuple[int, int], colour: tuple[int, int, int], grain: int = 40) -> Image.Image:
    """A lawn, a wall: one colour, grained all over by up to `grain`, the same each time."""
    flat = Image.frombytes("L", size, random.Random(7).randbytes(size[0] * size[1]))
    bands = [flat.point([min(255, max(0, add + grain * (n - 128) // 128)) for n in range(256)]) for add in colour]
    return Image.merge("RGB", bands)


def ball_on_a_lawn() -> Scene:
    """Red on grained green, far right."""
    image = noise((960, 540), (60, 140, 50))
    ImageDraw.Draw(image).ellipse((760, 220, 900, 360), fill=(220, 40, 30))
    return image, (760, 220, 900, 360)


def bird_before_the_sky() -> Scene:
    """Small and dark on a gradient from blue to white, left."""
    image = Image.merge(
        "RGB",
        [
            Image.linear_gradient("L").resize((960, 540)).point(lambda v, b=b: b + v * (255 - b) // 255)
            for b in (80, 140, 230)
        ],
    )
    ImageDraw.Draw(image).polygon([(110, 200), (200, 170), (290, 200), (200, 240)], fill=(40, 30, 30))
    return image, (110, 170, 290, 240)


def detail_on_a_wall() -> Scene:
    """Grey on grey: only its detail tells the subject, right of the middle."""
    image = Image.new("RGB", (960, 540), (128, 128, 128))
    pen = ImageDraw.Draw(image)
    for x in range(600, 780, 20):
        for y in range(180, 360, 20):
            pen.rectangle((x, y, x + 9, y + 9), fill=(90, 90, 90) if (x + y) % 40 else (166, 166, 166))
    return image, (600, 180, 780, 360)


def odd_one_out() -> Scene:
    """One yellow pillar among grey ones, second from the left."""
    image = Image.new("RGB", (960, 540), (40, 40, 50))
    pen = ImageDraw.Draw(image)
    for number in range(6):
        x = 40 + number * 160
        pen.rectangle((x, 60, x + 70, 500), fill=(240, 200, 40) if number == 1 else (120, 120, 130))
    return image, (200, 60, 270, 500)


def sharp_before_blurred() -> Scene:
    """A flat pattern of many colours, out of focus, and one of them sharp, left."""
    image = Image.new("RGB", (960, 540), (90, 100, 110))
    pen = ImageDraw.Draw(image)
    for number, colour in enumerate(((140, 90, 90), (90, 140, 90), (90, 90, 140), (130, 130, 80), (80, 130, 130))):
        pen.ellipse((number * 190, 120, number * 190 + 240, 420), fill=colour)
    image = image.filter(ImageFilter.GaussianBlur(30))
    pen = ImageDraw.Draw(image)
    for step in range(0, 120, 12):
        pen.ellipse(
            (120 + step // 2, 220 + step // 2, 240 - step // 2, 340 - step // 2), outline=(250, 240, 230), width=4
        )
    return image, (120, 220, 240, 340)


def moon_over_a_tower() -> Scene:
    """Upright, for a wide crop: bright, at the top."""
    image = noise((540, 960), (20, 24, 50), 10)
    ImageDraw.Draw(image).ellipse((210, 90, 330, 210), fill=(250, 245, 220))
    return image, (210, 90, 330, 210)


def dandelion() -> Scene:
    """A photograph: the near blossom, its heart and stem, stands left of the middle."""
    with Image.open(FIXTURES / "photo.jpg") as photo:
        return photo.convert("RGB"), (450, 120, 860, 560)


def astronaut_in_the_grass() -> Scene:
    """A photograph laid into another, right."""
    image, _ = dandelion()
    with Image.open(PORTRAIT) as portrait:
        image.paste(portrait.convert("RGB"), (1330, 300))
    return image, (1400, 340, 1700, 780)


def two_people(apart: int) -> Image.Image:
    """Two astronauts' heads on a wall of 1920x1080, left edges `apart`, the right one larger."""
    image = noise((1920, 1080), (120, 110, 100), 6)
    with Image.open(PORTRAIT) as portrait:
        head = portrait.convert("RGB").crop((120, 20, 330, 260))
    image.paste(head.resize((300, 343)), (60, 380))
    image.paste(head.resize((360, 411)), (60 + apart, 300))
    return image


SCENES: Mapping[str, Callable[[], Scene]] = {
    made.__name__: made
    for made in (
        ball_on_a_lawn, bird_before_the_sky, detail_on_a_wall, odd_one_out, sharp_before_blurred,
        moon_over_a_tower, dandelion, astronaut_in_the_grass,
    )
}  # fmt: skip
