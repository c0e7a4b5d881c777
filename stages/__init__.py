"""Afterframe's library: edits, jobs and deliveries, without the runner.

from stages import open_clip, trim, upscale, deliver

clip = upscale(trim(open_clip("shot.mp4"), length="6s"), size="1080p")
print(deliver(clip, "web", "out/web.mp4").verdict.sentence)
"""

from stages.captions import caption
from stages.clip import Clip, Cue, Picture, Size, Sound, Word
from stages.composing import foley, score
from stages.conformance import conform
from stages.cutting import concat, end_card, loop, trim
from stages.delivery import Delivered, deliver, render
from stages.drawing import draw
from stages.encoding import Encoding
from stages.errors import (
    AfterframeError,
    BudgetExceeded,
    FfmpegError,
    InputError,
    Later,
    ProvenanceError,
    ProviderRefused,
    ProviderUnavailable,
    RecipeError,
    SubmissionUnknown,
    WriteError,
)
from stages.filming import generate
from stages.framing import fit, tonemap, upscale
from stages.media import open_clip
from stages.mixing import measure
from stages.narration import speak
from stages.overlays import label, overlay
from stages.provenance import read_credentials, sign, verify
from stages.references import prepare
from stages.refilming import enlarge, extend, remix
from stages.retiming import interpolate, reverse, speed
from stages.shots import Shot
from stages.sound import level, mix_audio, music, replace_audio, strip_audio
from stages.stage import edit, job
from stages.stills import still

__all__ = [
    "AfterframeError",
    "BudgetExceeded",
    "Clip",
    "Cue",
    "Delivered",
    "Encoding",
    "FfmpegError",
    "InputError",
    "Later",
    "Picture",
    "ProvenanceError",
    "ProviderRefused",
    "ProviderUnavailable",
    "RecipeError",
    "Shot",
    "Size",
    "Sound",
    "SubmissionUnknown",
    "Word",
    "WriteError",
    "caption",
    "concat",
    "conform",
    "deliver",
    "draw",
    "edit",
    "end_card",
    "enlarge",
    "extend",
    "fit",
    "foley",
    "generate",
    "interpolate",
    "job",
    "label",
    "level",
    "loop",
    "measure",
    "mix_audio",
    "music",
    "open_clip",
    "overlay",
    "prepare",
    "read_credentials",
    "remix",
    "render",
    "replace_audio",
    "reverse",
    "score",
    "sign",
    "speak",
    "speed",
    "still",
    "strip_audio",
    "tonemap",
    "trim",
    "upscale",
    "verify",
]
