"""Machines for tests: network namespaces, each with a name, processes and addresses of its own. Linux, as root.

    with Site() as site:
        one = site.machine("one")
        process = one.start(["pipeline", "worker"], folder, env)
        one.cut(DATA)                  # as if the cable to the database were pulled
        one.mend(DATA)

Each has two cables: one to the net of the database, one to that of the world.
The host has the first address in either. A process is number 1 of its machine,
as in a container: killed, all that it started dies with it.
"""

from __future__ import annotations

import os
import selectors
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

DATA, WORLD = "data", "world"
"""The nets."""


def lacking() -> str:
    """What is missing here to have machines; empty if nothing is."""
    if os.geteuid() != 0:
        return "machines need root, to make network namespaces"
    if not shutil.which("ip") or not shutil.which("unshare"):
        return "machines need ip and unshare: apt-get install iproute2 util-linux"
    tried = subprocess.run(["unshare", "--net", "--uts", "--pid", "--fork", "ip", "link"], capture_output=True)
    return "" if tried.returncode == 0 else "the kernel gives no network namespaces here"


def _ip(*words: object) -> None:
    done = subprocess.run(["ip", *map(str, words)], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(map(str, words))}: {done.stderr.strip()}")


@dataclass(frozen=True, slots=True)
class Machine:
    """One of them. `space` is its network namespace."""

    name: str
    space: str

    def start(self, command: Sequence[str], folder: Path, env: Mapping[str, str], says: Path) -> Process:
        """Start `command` in it; what it says goes into the file `says`."""
        inner = ["sh", "-c", 'hostname "$0"; exec "$@"', self.name, *command]
        unshare = ["unshare", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc", "--", *inner]
        with says.open("ab") as out:
            outer = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "ip", "netns", "exec", self.space, *unshare],
                cwd=folder, env=dict(env), stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
            )  # fmt: skip
        return Process(outer)

    def cut(self, net: str) -> None:
        """Pull the cable: what is sent is lost, and nothing says so."""
        _ip("link", "set", f"{self.space}{net[0]}", "down")

    def mend(self, net: str) -> None:
        """Plug it in again."""
        _ip("link", "set", f"{self.space}{net[0]}", "up")


@dataclass(frozen=True, slots=True)
class Process:
    """A process in a machine; `outer` is the one here that it hangs on."""

    outer: subprocess.Popen[bytes]

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self.outer.poll() is None

    @property
    def pid(self) -> int:
        """Its number here; 0 if it has ended."""
        children = Path(f"/proc/{self.outer.pid}/task/{self.outer.pid}/children")
        return int((children.read_text().split() or ["0"])[0]) if children.exists() else 0

    def kill(self) -> None:
        """End it and all that it started, as a power cut does."""
        self.signal(signal.SIGKILL)
        self.outer.wait(300)

    def end(self) -> int:
        """Ask it to end; its exit code."""
        self.signal(signal.SIGTERM)
        try:
            return self.outer.wait(300)
        except subprocess.TimeoutExpired:
            self.kill()
            return -signal.SIGKILL

    def signal(self, number: int) -> None:
        """Send it a signal, if it is there."""
        if pid := self.pid:
            os.kill(pid, number)


@dataclass(slots=True)
class Site:
    """A host with two nets, and machines in them."""

    tag: str = field(default_factory=lambda: f"af{os.getpid() % 100000}")
    machines: list[Machine] = field(default_factory=list)

    def host(self, net: str) -> str:
        """The host's address in a net."""
        return self._address(net, 1)

    def _address(self, net: str, number: int) -> str:
        return f"10.{91 if net == DATA else 92}.{os.getpid() % 250}.{number}"

    def __enter__(self) -> Site:
        for net in (DATA, WORLD):
            _ip("link", "add", f"{self.tag}{net[0]}", "type", "bridge")
            _ip("addr", "add", f"{self.host(net)}/24", "dev", f"{self.tag}{net[0]}")
            _ip("link", "set", f"{self.tag}{net[0]}", "up")
        return self

    def __exit__(self, *_: object) -> None:
        for machine in self.machines:
            _ip("netns", "del", machine.space)
        for net in (DATA, WORLD):
            _ip("link", "del", f"{self.tag}{net[0]}")

    def machine(self, name: str) -> Machine:
        """One more."""
        number = len(self.machines) + 2
        machine = Machine(name, f"{self.tag}n{number}")
        _ip("netns", "add", machine.space)
        self.machines.append(machine)
        inside = ("-n", machine.space)
        _ip(*inside, "link", "set", "lo", "up")
        for net in (DATA, WORLD):
            cable = f"{machine.space}{net[0]}"
            _ip("link", "add", cable, "type", "veth", "peer", "name", net, "netns", machine.space)
            _ip("link", "set", cable, "master", f"{self.tag}{net[0]}", "up")
            _ip(*inside, "addr", "add", f"{self._address(net, number)}/24", "dev", net)
            _ip(*inside, "link", "set", net, "up")
        return machine


def forward(address: str, port: int) -> int:
    """Let what listens at 127.0.0.1:`port` be reached at `address`, too; the port there. Until this process ends."""
    listener = socket.create_server((address, 0), backlog=128)

    def serve() -> None:
        while True:
            far, _ = listener.accept()
            threading.Thread(target=_pump, args=[far, port], daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    return int(listener.getsockname()[1])


def _pump(far: socket.socket, port: int) -> None:
    with far, socket.create_connection(("127.0.0.1", port)) as near, selectors.DefaultSelector() as ready:
        ready.register(far, selectors.EVENT_READ, near)
        ready.register(near, selectors.EVENT_READ, far)
        try:
            while True:
                for key, _ in ready.select():
                    assert isinstance(key.fileobj, socket.socket)
                    data = key.fileobj.recv(1 << 16)
                    if not data:
                        return
                    key.data.sendall(data)
        except OSError:  # either has hung up
            return
