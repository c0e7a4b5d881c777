"""Train a small luma network to enlarge twice, and judge it against Lanczos on what it never saw.

    pip install jax scikit-image scikit-learn matplotlib      # in a venv of its own: none is of the product
    nice -n 15 python tests/benchmarks/train_sharp.py --minutes 20 --motion bigbuckbunny.mp4

Four layers of 3 x 3 (16 channels) at the small size, then pixel-shuffle, added to what Lanczos makes. It is trained on
photos that ship in wheels: of scikit-image those whose docstring says public domain, CC0 or that no copyright is known
(CLEARED), of scikit-learn the two that are CC-BY 2.0; and on short films panned and zoomed over them: sharp or soft,
made small by one of three kernels, clean or damaged by x264 with its P and B frames. What a net gains is counted over
ffmpeg's own Lanczos. The judges are photos, kernels and a film that were in no training. It ships as an engine if it
gains 0.3 dB on the held-out kernels and loses nowhere; the figures are in the closing note of the issue.
"""

from __future__ import annotations

import argparse
import subprocess
import time
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image, ImageFilter

SEED, LAYERS, CHANNELS, PATCH, BATCH = 5, 4, 16, 32, 16
CLEARED = (
    *("astronaut", "brick", "camera", "cell", "clock", "clock_motion", "grass", "gravel", "hubble_deep_field"),
    *("retina", "rocket", "coins", "ihc", "china", "flower"),
)
"""Photos that may be trained on, by what skimage.data's docstrings and scikit-learn's README say of each."""

HELD_OUT = ("coffee", "chelsea", "grace_hopper")
"""Photos for the judges alone."""

KERNELS = {"bicubic": Image.Resampling.BICUBIC, "area": Image.Resampling.BOX, "lanczos": Image.Resampling.LANCZOS}
UNSEEN = {"hamming": Image.Resampling.HAMMING, "bilinear": Image.Resampling.BILINEAR}
"""Kernels for the judges alone."""

Plane = np.ndarray[Any, np.dtype[np.float32]]


def photos() -> dict[str, Image.Image]:
    """The luma of each photo in the wheels, cropped to multiples of 32."""
    import matplotlib  # noqa: PLC0415 -- only where its photos lie is asked
    import skimage  # noqa: PLC0415 -- likewise
    import sklearn  # noqa: PLC0415 -- likewise

    folders = [Path(module.__file__).parent for module in (skimage, sklearn, matplotlib)]
    files = [f for folder in folders for f in folder.rglob("*.*") if f.suffix in (".png", ".jpg", ".jpeg")]
    found = {}
    for file in files:
        if file.stem not in (*CLEARED, *HELD_OUT):
            continue
        image = Image.open(file).convert("L")
        wide, high = image.width // 32 * 32, image.height // 32 * 32
        if min(wide, high) >= 256:
            found[file.stem] = image.crop((0, 0, wide, high))
    return found


def small(image: Image.Image, kernel: Image.Resampling, blur: float = 0.0) -> Image.Image:
    """Half the size, by one kernel."""
    blurred = image.filter(ImageFilter.GaussianBlur(blur)) if blur else image
    return blurred.resize((image.width // 2, image.height // 2), kernel)


def coded(film: list[Image.Image], quality: int) -> list[Image.Image]:
    """As x264 hands it back; a quality of nought is clean."""
    if not quality:
        return film
    read = ["-f", "rawvideo", "-pix_fmt", "gray", "-s", sized(film[0])]
    whole = b"".join(image.tobytes() for image in film)
    stream = ffmpeg(*read, "-i", "-", "-c:v", "libx264", "-crf", str(quality), "-pix_fmt", "yuv420p", "-f", "h264", "-",
                    read=whole)  # fmt: skip
    return cut(ffmpeg("-f", "h264", "-i", "-", *GREY, read=stream), film[0].size)


def lanczos(film: list[Image.Image]) -> list[Image.Image]:
    """Twice as large, as ffmpeg does it."""
    wide, high = film[0].width * 2, film[0].height * 2
    whole = b"".join(image.tobytes() for image in film)
    scale = f"scale={wide}:{high}:flags=lanczos+accurate_rnd"
    read = ["-f", "rawvideo", "-pix_fmt", "gray", "-s", sized(film[0])]
    return cut(ffmpeg(*read, "-i", "-", "-vf", scale, *GREY, read=whole), (wide, high))


GREY = ("-fps_mode", "passthrough", "-pix_fmt", "gray", "-f", "rawvideo", "-")


def ffmpeg(*arguments: str, read: bytes = b"") -> bytes:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-threads", "1", *arguments]
    return subprocess.run(command, input=read, capture_output=True, check=True).stdout


def sized(image: Image.Image) -> str:
    return f"{image.width}x{image.height}"


def cut(whole: bytes, size: tuple[int, int]) -> list[Image.Image]:
    """The frames in raw bytes."""
    length = size[0] * size[1]
    return [Image.frombytes("L", size, whole[at : at + length]) for at in range(0, len(whole), length)]


def plane(image: Image.Image) -> Plane:
    return np.asarray(image, np.float32) / np.float32(255)


# ---------------------------------------------------------------- the network

Weights = list[tuple[Any, Any]]


def fresh() -> Weights:
    """Weights that make it Lanczos: the last layer is nought."""
    random, weights = np.random.default_rng(SEED), []
    widths = [1, *[CHANNELS] * (LAYERS - 1), 4]
    for number, (before, after) in enumerate(pairwise(widths), 1):
        spread = 0.0 if number == LAYERS else np.sqrt(2 / (9 * before))
        kernel = random.normal(0, 1, (3, 3, before, after)) * spread
        weights.append((jnp.asarray(kernel, jnp.float32), jnp.zeros(after, jnp.float32)))
    return weights


def drawn(weights: Weights, low: Any, base: Any) -> Any:
    """Planes `low` (n, h, w) enlarged, added to `base` (n, 2h, 2w); borders go on as they are."""
    x = low[..., None] - 0.5
    for number, (kernel, bias) in enumerate(weights, 1):
        x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
        x = jax.lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")) + bias
        x = x if number == LAYERS else jnp.maximum(x, 0.1 * x)
    n, high, wide, _ = x.shape
    shuffled = x.reshape(n, high, wide, 2, 2).transpose(0, 1, 3, 2, 4).reshape(n, high * 2, wide * 2)
    return base + shuffled


@jax.jit  # type: ignore[untyped-decorator]  # jax is not installed where types are checked
def step(weights: Weights, moments: Any, low: Any, base: Any, truth: Any, rate: Any, count: Any) -> Any:
    """One step of Adam on the squared error."""
    loss, slopes = jax.value_and_grad(lambda w: jnp.mean((drawn(w, low, base) - truth) ** 2))(weights)
    first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, moments[0], slopes)
    second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, moments[1], slopes)
    scale = rate * jnp.sqrt(1 - 0.999**count) / (1 - 0.9**count)
    moved = jax.tree.map(lambda w, m, v: w - scale * m / (jnp.sqrt(v) + 1e-8), weights, first, second)
    return moved, (first, second), loss


FRAMES, FILMS = 8, 10
"""Of a film over a photo, and over each photo."""


def panned(image: Image.Image, random: np.random.Generator) -> list[Image.Image]:
    """A film over a photo: a window that moves by whole pixels, or grows by a few percent a frame; sharp or soft."""
    soft = float(random.choice([0, 0, 0.8, 1.3]))
    image = image.filter(ImageFilter.GaussianBlur(soft)) if soft else image
    side = min(352, (min(image.size) - 48) // 32 * 32)
    room = [image.width - side, image.height - side]
    x, y = (float(random.integers(0, most + 1)) for most in room)
    if random.integers(4) == 0:
        centre = image.width / 2, image.height / 2
        growth = 1 + random.uniform(0.005, min(image.size) / side * 0.99 - 1) / FRAMES * np.arange(FRAMES)
        half = [side * grown / 2 for grown in growth]
        boxes = [(centre[0] - h, centre[1] - h, centre[0] + h, centre[1] + h) for h in half]
        return [image.resize((side, side), Image.Resampling.LANCZOS, box) for box in boxes]
    move = [int(random.integers(-6, 7)) for _ in range(2)]
    film = []
    for _ in range(FRAMES):
        film.append(image.crop((int(x), int(y), int(x) + side, int(y) + side)))
        x, y = (min(max(at + by, 0), most) for at, by, most in zip((x, y), move, room, strict=True))
    return film


Three = tuple[Image.Image, Image.Image, Image.Image]


def pairs(images: dict[str, Image.Image]) -> list[list[Three]]:
    """Small, by Lanczos, true: each photo by each kernel, and films over each."""
    random, found = np.random.default_rng(SEED), list[list[Three]]()
    for image in images.values():
        films = [([image], kernel, quality) for kernel in KERNELS.values() for quality in (0, 19)]
        kernels = [*KERNELS.values(), KERNELS["lanczos"], KERNELS["lanczos"]]
        for number in range(FILMS):
            kernel = kernels[int(random.integers(len(kernels)))]
            films.append((panned(image, random), kernel, 0 if number % 5 == 0 else int(random.integers(17, 29))))
        for film, kernel, quality in films:
            low = coded([small(one, kernel, float(random.choice([0, 0, 0, 0.5]))) for one in film], quality)
            found.append(list(zip(low, lanczos(low), film, strict=True)))
    return found


def trained(data: list[list[Three]], seconds: float) -> Weights:
    """As far as the time goes; the rate falls to nought with it."""
    random, weights = np.random.default_rng(SEED), fresh()
    nought = jax.tree.map(jnp.zeros_like, weights)
    moments, begun, count = (nought, nought), time.monotonic(), 0
    while (spent := time.monotonic() - begun) < seconds:
        chosen = []
        for _ in range(BATCH):
            film = data[random.integers(len(data))]
            low, base, truth = film[random.integers(len(film))]
            x, y = (int(random.integers(side - PATCH + 1)) for side in low.size)
            large = (2 * x, 2 * y, 2 * (x + PATCH), 2 * (y + PATCH))
            cuts = (low.crop((x, y, x + PATCH, y + PATCH)), base.crop(large), truth.crop(large))
            planes_ = [plane(one) for one in cuts]
            turn, flip = int(random.integers(4)), random.integers(2)
            chosen.append([np.rot90(p, turn)[:, :: -1 if flip else 1] for p in planes_])
        count += 1
        rate = 2e-3 * 0.5 * (1 + np.cos(np.pi * spent / seconds))
        batch = [np.ascontiguousarray(np.stack(planes_)) for planes_ in zip(*chosen, strict=True)]
        weights, moments, loss = step(weights, moments, *batch, rate, count)
        if count % 200 == 0:
            print(f"{count} steps, {spent:.0f} s, {time.process_time():.0f} CPU s, loss {float(loss):.6f}", flush=True)
    print(f"{count} steps in {time.process_time():.0f} CPU s")
    return weights


def decibels(made: Plane, truth: Plane) -> float:
    return float(-10 * np.log10(np.mean((np.clip(made, 0, 1) - truth) ** 2)))


def judge(
    weights: Weights, films: dict[str, list[Image.Image]], kernels: Mapping[str, Image.Resampling], what: str
) -> None:
    """Print the mean gain over Lanczos for each kernel, clean and damaged."""
    for name, kernel in kernels.items():
        for quality in (0, 19, 24):
            rows = []
            for film in films.values():
                low = coded([small(image, kernel) for image in film], quality)
                for one, by_lanczos, image in zip(low, lanczos(low), film, strict=True):
                    base, truth = plane(by_lanczos), plane(image)
                    made = np.asarray(drawn(weights, plane(one)[None], base[None])[0])
                    rows.append((decibels(base, truth), decibels(made, truth)))
            before, after = np.mean(rows, axis=0)
            worst = min(made - base for base, made in rows)
            said = f"{name:9} {f'crf {quality}' if quality else 'clean':7}"
            gain = f"gain {after - before:+.2f} worst {worst:+.2f}"
            print(f"{what:8} {said} lanczos {before:.2f} net {after:.2f} {gain}", flush=True)


SHOTS = (8, 48, 96)
"""The frames that the judged parts of a film begin at."""


def shots(film: Path) -> dict[str, list[Image.Image]]:
    """The luma of three parts of a film, six frames each."""
    found = {}
    for start in SHOTS:
        chosen = f"trim=start_frame={start}:end_frame={start + 6},scale=1280:704"
        found[f"from frame {start}"] = cut(ffmpeg("-i", str(film), "-vf", chosen, *GREY), (1280, 704))
    return found


def main() -> None:
    """Train, print what the judges say, and keep the weights if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--motion", type=Path, help="a film that was in no training")
    parser.add_argument("--out", type=Path, help="where to keep the weights, as .npz")
    given = parser.parse_args()
    every = photos()
    held = {name: image for name, image in every.items() if name in HELD_OUT}
    print(f"{len(every) - len(held)} photos to train on: {', '.join(sorted(set(every) - set(held)))}", flush=True)
    data = pairs({name: image for name, image in every.items() if name not in held})
    weights = trained(data, given.minutes * 60)
    judge(weights, {name: [image] for name, image in held.items()}, KERNELS | UNSEEN, "photos")
    if given.out:
        np.savez(given.out, *[part for layer in weights for part in layer])
    if given.motion:
        judge(weights, shots(given.motion), KERNELS | UNSEEN, "motion")


if __name__ == "__main__":
    main()
