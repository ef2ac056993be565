"""docker-compose.yml without Docker: its very commands, as processes of this machine.

What a container would make different is replaced: host names by loopback addresses, ports by free ones, `/data` and
`/tmp` by folders, the programs of the images by those that are here. Nothing else.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

ROOT = Path(__file__).parents[2]
CLIENT = f"""#!/bin/sh
exec {sys.executable} {Path(__file__).with_name("cli.py")} "$HOST" "$@"
"""


def document() -> dict[str, Any]:
    """The file as Compose reads it."""
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
    return loaded


class Composed:
    """The services of the file, started by name, killed and started again as `docker compose` would.

    Args:
        folder: for their volumes and logs.
        server: the program that stands for `valkey-server`.
    """

    def __init__(self, folder: Path, server: Path) -> None:
        self.services: dict[str, Any] = document()["services"]
        self._folder = folder
        self._programs = folder / "bin"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        block = f"127.{secrets.randbelow(200) + 20}.{secrets.randbelow(250)}"
        named = [name for name in self.services if name.startswith(("redis", "sentinel"))]
        self.hosts = {name: f"{block}.{number + 1}" for number, name in enumerate(named)}
        self.ports = {"26379": _free_port(), "6379": _free_port()}
        self._install(server)

    @property
    def url(self) -> str:
        """RELIQ_URL of the producer, for this machine."""
        return self._replaced(self.services["producer"]["environment"]["RELIQ_URL"])

    def start(self, *names: str) -> None:
        """Starts services."""
        for name in names:
            service = self.services[name]
            (self._folder / name / "data").mkdir(parents=True, exist_ok=True)
            words = [*service.get("entrypoint", []), *service["command"]]
            with (self._folder / name / "log").open("ab") as log:
                self._processes[name] = subprocess.Popen(
                    [self._in(name, word) for word in words],
                    stdout=log,
                    stderr=log,
                    stdin=subprocess.DEVNULL,
                    cwd=ROOT / "deploy",
                    env=self._environment(name),
                    start_new_session=True,
                )

    def healthy(self, name: str) -> bool:
        """What the health check of a service says."""
        kind, *words = self.services[name]["healthcheck"]["test"]
        command = ["/bin/sh", "-c", *words] if kind == "CMD-SHELL" else words
        ran = subprocess.run(
            [self._in(name, word) for word in command], check=False, capture_output=True, env=self._environment(name)
        )
        return ran.returncode == 0

    def kill(self, name: str) -> None:
        """SIGKILL, as `docker compose kill`."""
        process = self._processes.pop(name)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def stop(self, name: str) -> int:
        """SIGTERM and its exit code, as `docker compose stop`."""
        process = self._processes.pop(name)
        process.terminate()
        return process.wait(timeout=40)

    def log(self, name: str) -> str:
        """What a service has printed."""
        return (self._folder / name / "log").read_text("utf-8", "replace")

    def address(self, name: str) -> tuple[str, int]:
        """Of a server or Sentinel."""
        return self.hosts[name], int(self.ports["26379" if name.startswith("sentinel") else "6379"])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        for name in list(self._processes):
            self.kill(name)

    def _install(self, server: Path) -> None:
        """The programs by the names that they have in the images."""
        self._programs.mkdir(parents=True)
        (self._programs / "valkey-server").symlink_to(server)
        (self._programs / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        (self._programs / "reliq").write_text(f'#!/bin/sh\nexec {sys.executable} -m reliq "$@"\n')
        (self._programs / "valkey-cli").write_text(CLIENT)
        for name in ("python", "reliq", "valkey-cli"):
            (self._programs / name).chmod(0o755)

    def _environment(self, name: str) -> dict[str, str]:
        own = {key: self._replaced(value) for key, value in self.services[name].get("environment", {}).items()}
        kept = {key: value for key, value in os.environ.items() if key != "RELIQ_URL"}
        path = f"{self._programs}{os.pathsep}{os.environ['PATH']}"
        return {**kept, **own, "PATH": path, "PYTHONPATH": str(ROOT), "HOST": self.hosts.get(name, "")}

    def _in(self, name: str, word: str) -> str:
        """A word of a service's command, for this machine."""
        text = self._replaced(word.replace("$$", "$"))
        if name in self.hosts:  # a container has its address to itself; here it says which one it listens on
            text = re.sub(r"^(port \d+)$", rf"\1\nbind {self.hosts[name]}", text, flags=re.MULTILINE)
        return re.sub(r"/(data|tmp)\b", lambda _: str(self._folder / name / "data"), text)

    def _replaced(self, text: str) -> str:
        for name, host in self.hosts.items():
            text = re.sub(rf"\b{name}\b", host, text)
        for port, free in self.ports.items():
            text = re.sub(rf"\b{port}\b", str(free), text)
        return text


def docker_compose() -> list[str] | None:
    """The command, where this machine has it."""
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]):
            tried = subprocess.run([*command, "version"], check=False, capture_output=True)
            if tried.returncode == 0:
                return command
    return None


def _free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return str(probe.getsockname()[1])
