"""What can go wrong, sorted by who must act.

    AfterframeError
    ├── InputError              the caller: a value, a file or a combination that cannot work
    │   └── RecipeError         the recipe's author: file and line, all mistakes at once
    ├── WriteError              the machine: a full disk, a folder that may not be written
    ├── FfmpegError             the operator: ffmpeg failed; holds the command and its last words
    ├── ProviderError           a generator or a voice over the network
    │   ├── ProviderRefused     policy or a bad request: the same request will be refused again
    │   └── ProviderUnavailable an outage, a limit, a broken line: the same request may succeed later
    ├── SubmissionUnknown       a human: it cannot be known whether the job was paid; look first
    ├── BudgetExceeded          whoever holds the purse
    └── ProvenanceError         do not publish: the file's history is not proved

`Later` and `Struck` are no errors: a job raises them to say when to look again,
and that another model must be asked.
Every class survives pickle, since errors cross processes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any


class AfterframeError(Exception):
    """The root of what Afterframe raises on purpose; `str()` is one sentence for people."""


class InputError(AfterframeError):
    """A value, a file or a combination of them that cannot work; `parameter` names which, where one does."""

    def __init__(self, message: str, parameter: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.parameter = parameter

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.message, self.parameter)


class RecipeError(InputError):
    """Mistakes in a recipe, each as `file:line: where: what`."""

    def __init__(self, mistakes: Sequence[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = tuple(mistakes)

    def __reduce__(self) -> tuple[Any, ...]:
        return RecipeError, (self.mistakes,)


class WriteError(AfterframeError):
    """The machine is at fault: a full disk, a folder that may not be written."""


class FfmpegError(AfterframeError):
    """ffmpeg failed, or made something other than what was described."""

    def __init__(self, message: str, command: Sequence[str] = (), stderr: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.command = tuple(command)
        self.stderr = stderr

    def __reduce__(self) -> tuple[type[FfmpegError], tuple[str, tuple[str, ...], str]]:
        return FfmpegError, (self.message, self.command, self.stderr)


class ProviderError(AfterframeError):
    """A generator or a voice over the network did not do what was asked.

    `code` and `text` are the provider's own; `failure` is one of
    `moderation_input`, `moderation_output`, `invalid_request`, `quota`,
    `transient`, `lost`, `expired`, `unauthorized`.
    """

    def __init__(self, message: str, failure: str = "transient", code: str = "", text: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.failure = failure
        self.code = code
        self.text = text

    def __reduce__(self) -> tuple[type[ProviderError], tuple[str, str, str, str]]:
        return type(self), (self.message, self.failure, self.code, self.text)


class ProviderRefused(ProviderError):
    """Policy or a bad request: never sent again to the same model."""


class ProviderUnavailable(ProviderError):
    """An outage, a limit or a broken line: worth another try."""


class SubmissionUnknown(AfterframeError):
    """It cannot be known whether an earlier attempt was paid; a human must look."""


class BudgetExceeded(AfterframeError):
    """The next purchase would pass a limit that the recipe or the account sets."""


class ProvenanceError(AfterframeError):
    """The file's history is not proved; `verdict` and `codes` say how."""

    def __init__(self, message: str, verdict: str = "", codes: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.verdict = verdict
        self.codes = tuple(codes)

    def __reduce__(self) -> tuple[type[ProvenanceError], tuple[str, str, tuple[str, ...]]]:
        return ProvenanceError, (self.message, self.verdict, self.codes)


class Later(Exception):
    """A job's answer «not yet»: call it again after `seconds`; `progress` is 0 to 1 where known.

    `why` is what a person should be told who waits for it; nothing where there is only work being done. `line` names
    the queue of those whom the same limit of an account keeps waiting: while one of them is turned away, all are.
    """

    def __init__(self, seconds: float, progress: float | None = None, why: str = "", line: str = "") -> None:
        super().__init__(f"look again in {seconds:g} s")
        self.seconds = seconds
        self.progress = progress
        self.why = why
        self.line = line

    def __reduce__(self) -> tuple[type[Later], tuple[float, float | None, str, str]]:
        return Later, (self.seconds, self.progress, self.why, self.line)


def line_of(lines: Iterable[str]) -> str:
    """The line that all of several stand in; none, if one of them waits for anything else."""
    different = set(lines)
    return different.pop() if len(different) == 1 else ""


class Struck(Exception):
    """A job's answer «not by this model»: call it again with `shop`, in which that model is struck.

    `error` is what went wrong; nothing of it is bought or may still be.
    """

    def __init__(self, shop: Any, error: ProviderError) -> None:
        super().__init__(str(error))
        self.shop = shop
        self.error = error

    def __reduce__(self) -> tuple[type[Struck], tuple[Any, ProviderError]]:
        return Struck, (self.shop, self.error)
