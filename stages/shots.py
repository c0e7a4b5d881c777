"""A shot in the words of optics and motion, which models of video heed as they would instructions.

Camera models are told what stands before which lens, how the camera moves and
what the light does, rather than what a viewer should feel (the shared guide,
"prompt engineering for physics").
"""

from __future__ import annotations

from dataclasses import dataclass

from stages.errors import InputError


@dataclass(frozen=True, slots=True)
class Shot:
    """What is before the camera, and what the camera does: `{subject: a dandelion, camera: slow dolly in,
    lens: 85 mm macro, motion: seeds drift off to the right, light: low sun behind}`."""

    subject: str
    camera: str = ""
    lens: str = ""
    motion: str = ""
    light: str = ""

    def __str__(self) -> str:
        return self.prompt()

    def prompt(self, more: str = "") -> str:
        """The shot as a prompt, `more` last. Raises InputError if it has no subject."""
        if not self.subject.strip():
            raise InputError("needs a subject: what is before the camera", "shot")
        said = [
            self.subject,
            self.motion and f"Motion: {self.motion}",
            self.camera and f"Camera: {self.camera}",
            self.lens and f"Lens: {self.lens}",
            self.light and f"Light: {self.light}",
            more,
        ]
        return " ".join(_sentence(each) for each in said if each.strip())


def _sentence(text: str) -> str:
    text = text.strip()
    return text if text[-1] in ".!?…" else f"{text}."
