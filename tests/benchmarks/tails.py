"""What players make of a film whose end was cut off without encoding it: how many frames they show, and how long it is.

python -m tests.benchmarks.tails                        # PyAV, each ffmpeg there is, and Chromium: about a minute

Each film counts its frames (frame n is a grey of luma 32 + 2n), so that one shown too many or too late is seen.
`edit list`: packets in the order of decoding through the last that is wanted, and an edit list that ends in time
(`stages/tails.py`). `no edit list`: the same packets, and nothing that could hide one. `-t`: ffmpeg's own way.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from lab import counted, film, numbers, shipped_ffmpeg, times

from stages.media import packets_through
from stages.tails import end_picture

ENCODERS = {
    "no B-frames": "bframes=0:keyint=24",
    "2 B-frames": "bframes=2:b-adapt=0:keyint=24",
    "3, pyramid": "bframes=3:b-adapt=0:b-pyramid=normal:keyint=48:scenecut=0",
    "open GOP": "bframes=3:b-adapt=0:open-gop=1:keyint=12:min-keyint=12:scenecut=0",
}
RATES = ("24", "30000/1001")
LENGTHS = range(19, 25)
WAYS = ("edit list", "no edit list", "-t")
PAGE = """<!doctype html><title>tails</title><script>
async function watch(name) {
  const video = document.createElement('video'), canvas = document.createElement('canvas')
  const pen = canvas.getContext('2d', {willReadFrequently: true})
  Object.assign(video, {muted: true, src: name, playbackRate: 0.5})
  document.body.append(video)
  const shown = []
  const look = (_, frame) => {
    pen.drawImage(video, 0, 0, 1, 1)
    shown.push(pen.getImageData(0, 0, 1, 1).data[1])
    video.requestVideoFrameCallback(look)
  }
  video.requestVideoFrameCallback(look)
  const over = new Promise(done => { video.onended = done; video.onerror = done; setTimeout(done, 20000) })
  await video.play()
  await over
  await new Promise(done => setTimeout(done, 60))
  const counted = video.getVideoPlaybackQuality()
  video.remove()
  return {name, duration: video.duration, frames: counted.totalVideoFrames, shown}
}
onload = async () => {
  const left = NAMES
  const one = async () => {
    while (left.length) await fetch('/', {method: 'POST', body: JSON.stringify(await watch(left.shift()))})
  }
  await Promise.all([one(), one(), one(), one()])
  await fetch('/done', {method: 'POST', body: '{}'})
}
</script><body>"""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a player made of a film: how many frames it showed, the numbers on the last ones, and the length in
    seconds that it told; none where it told none."""

    frames: int
    last: int
    length: float | None = None


@dataclass(frozen=True, slots=True)
class Tail:
    """A film cut to `frames`; `hidden` packets are in it that must not be shown."""

    encoder: str
    rate: Fraction
    frames: int
    way: str
    hidden: int
    file: Path

    def fault(self, seen: Seen) -> str:
        """What is wrong with it, in a word; nothing if it is exact."""
        if seen.frames != self.frames:
            return f"{seen.frames - self.frames:+d} frames"
        if seen.last != self.frames - 1:
            return f"ends with {seen.last}, not {self.frames - 1}"
        wanted = float(self.frames / self.rate)
        return f"{seen.length:.4f} s, not {wanted:.4f}" if seen.length and abs(seen.length - wanted) > 1e-3 else ""


def made(folder: Path) -> list[Tail]:
    """Every film that is tried."""
    found: list[Tail] = []
    for number, (encoder, options) in enumerate(ENCODERS.items()):
        for rate in RATES:
            source = counted(
                folder / f"s{number}-{rate.partition('/')[0]}.mp4",
                *("-c:v", "libx264", "-crf", "4", "-x264-params", options),
                rate=rate,
            )
            for frames in LENGTHS:
                packets = packets_through(source, frames)
                for way in WAYS:
                    target = folder / f"t{len(found)}.mp4"
                    _cut(source, target, way, packets, frames / Fraction(rate))
                    found.append(Tail(encoder, Fraction(rate), frames, way, packets - frames, target))
    return found


def _cut(source: Path, target: Path, way: str, packets: int, length: Fraction) -> None:
    flat = ("-use_editlist", "0", "-movflags", "+faststart+negative_cts_offsets")
    index = flat if way == "no edit list" else ("-movflags", "+faststart")
    limit = ("-t", f"{float(length):.6f}") if way == "-t" else ("-frames:v", str(packets))
    # Without an edit list, the first 1024 samples give way to the encoder's priming, as in stages/mixing.py.
    heard = float(length) - (1024 / 48_000 if way == "no edit list" else 0)
    tone = ("-f", "lavfi", "-i", f"sine=r=48000:d={heard:.6f}", "-map", "0:v", "-map", "1:a")
    film(target, "-i", str(source), *tone, *limit, "-c:v", "copy", "-c:a", "aac", "-movie_timescale", "48000", *index)
    if way == "edit list":
        end_picture(target, length)


# ---------------------------------------------------------------- players


def by_pyav(file: Path) -> Seen:
    """libav's libraries."""
    shown = numbers(file)
    return Seen(len(times(file)), shown[-1])


def by_ffmpeg(binary: str, file: Path) -> Seen:
    """An ffmpeg, which yields the greys of its frames."""
    grey = ["-vf", "scale=2:2:flags=area,format=yuv420p", "-fps_mode", "passthrough", "-f", "rawvideo", "-"]
    pixels = subprocess.run([binary, "-v", "error", "-i", str(file), *grey], capture_output=True, check=True).stdout
    return Seen(len(pixels) // 6, round((pixels[-6] - 32) / 2))  # 4 luma, 2 chroma


def by_chromium(browser: str, files: Sequence[Path]) -> dict[Path, Seen]:
    """A browser, which plays them at half their speed, four at a time."""
    folder, heard, done = files[0].parent, dict[Path, Seen](), threading.Event()
    (folder / "tails.html").write_text(PAGE.replace("NAMES", json.dumps([file.name for file in files])))

    class Desk(SimpleHTTPRequestHandler):
        def do_POST(self) -> None:
            told = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path == "/done":
                done.set()
            else:
                heard[folder / told["name"]] = _told(told)
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Desk, directory=str(folder))) as desk:
        threading.Thread(target=desk.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{desk.server_port}/tails.html"
        options = ["--no-sandbox", "--disable-gpu", "--autoplay-policy=no-user-gesture-required", "--mute-audio"]
        profile, port = f"--user-data-dir={folder / 'browser'}", "--remote-debugging-port=0"  # or it ends at once
        with subprocess.Popen([browser, *options, profile, port, address], stderr=subprocess.DEVNULL) as process:
            done.wait(15 * 60)
            process.terminate()
        desk.shutdown()
    return heard


def _told(told: Mapping[str, Any]) -> Seen:
    """A screen's values are of 0 to 255, and a film's of 16 to 235."""
    last = round((max(told["shown"], default=0) * 219 / 255 + 16 - 32) / 2)
    return Seen(told["frames"], last, told["duration"])


def main() -> None:
    """Make them, play them, and tell of each kind and player how many were exact, and what the others were."""
    with tempfile.TemporaryDirectory() as work:
        tails = made(Path(work))
        seen: dict[str, dict[Path, Seen]] = {"PyAV": {tail.file: by_pyav(tail.file) for tail in tails}}
        for binary in filter(Path.exists, (Path(shipped_ffmpeg()), Path("/usr/bin/ffmpeg"))):
            words = subprocess.run([binary, "-version"], capture_output=True, text=True, check=True).stdout.split()
            seen[f"ffmpeg {words[2]}"] = {tail.file: by_ffmpeg(str(binary), tail.file) for tail in tails}
        if browser := shutil.which("chromium-headless-shell") or shutil.which("chromium"):
            said = subprocess.run([browser, "--version"], capture_output=True, text=True, check=True).stdout
            seen[said.strip()] = by_chromium(browser, [tail.file for tail in tails])
        kinds = dict.fromkeys((tail.way, tail.encoder, tail.hidden > 0) for tail in tails)
        for player, films in seen.items():
            print(f"\n{player}")
            for kind in sorted(kinds, key=lambda kind: (WAYS.index(kind[0]), kind[2])):
                those = [tail for tail in tails if (tail.way, tail.encoder, tail.hidden > 0) == kind]
                faults = [fault for tail in those if (fault := tail.fault(films[tail.file]))]
                counts = ", ".join(f"{number} x {fault}" for fault, number in Counter(faults).most_common(3))
                way, encoder, hidden = kind
                print(f"  {way:12} {encoder:12} {'hides some' if hidden else 'hides none':11}"
                      f" exact {len(those) - len(faults):2} of {len(those):2}  {counts}")  # fmt: skip


if __name__ == "__main__":
    main()
