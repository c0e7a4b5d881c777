"""Afterframe's library: edits, jobs and deliveries, without the runner.

from stages import open_clip, trim, upscale, deliver

clip = upscale(trim(open_clip("shot.mp4"), length="6s"), size="1080p")
print(deliver(clip, "web", "out/web.mp4").verdict.sentence)
"""

from stages.captions import caption
from stages.clip import Clip, Cue, Picture, Size, Sound, Word
from stages.cutting import trim
from stages.delivery import Delivered, conform, deliver, render
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
from stages.framing import fit, upscale
from stages.media import open_clip
from stages.mixing import measure
from stages.provenance import read_credentials, sign, verify
from stages.references import prepare
from stages.sound import level, mix_audio, replace_audio, strip_audio
from stages.speech import speak
from stages.stage import edit, job

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
    "Size",
    "Sound",
    "SubmissionUnknown",
    "Word",
    "WriteError",
    "caption",
    "conform",
    "deliver",
    "edit",
    "fit",
    "generate",
    "job",
    "level",
    "measure",
    "mix_audio",
    "open_clip",
    "prepare",
    "read_credentials",
    "render",
    "replace_audio",
    "sign",
    "speak",
    "strip_audio",
    "trim",
    "upscale",
    "verify",
]
