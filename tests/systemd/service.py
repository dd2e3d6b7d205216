"""One unit of the daemon: pypoold, or an instance of pypoold@."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Mapping
from pathlib import Path

from tests.support.client import Client
from tests.support.daemon import SLOW, Pool, Value, configuration, pool
from tests.support.waiting import eventually
from tests.systemd.machine import Done, Journal, member_pids, must, run

APPS = Path("/srv/apps")  # where every user finds them, whatever the unit hides


def installed_pool(app: str, workers: int = 1, **settings: Value) -> dict[str, Value]:
    """A pool of an application in APPS."""
    return pool(app, workers, path=[str(APPS)], **settings)


class Service:
    """Its files are made by configure() and drop_in(), and removed at the end with all that runs."""

    def __init__(self, instance: str = "") -> None:
        at, dash = (f"@{instance}", f"-{instance}") if instance else ("", "")
        self.unit = f"pypoold{at}.service"
        self.socket_unit = f"pypoold{at}.socket"
        self.admin_unit = f"pypoold-admin{at}.socket"
        self.config = Path("/etc/pypoold", instance, "pypoold.conf")
        self.runtime = Path(f"/run/pypoold{dash}")
        self.socket = self.runtime / "pypoold.sock"
        self.journal = Journal()
        self._drop_ins: list[Path] = []

    # ---- files

    def configure(self, pools: Mapping[str, Pool], **settings: Value) -> None:
        self.write(configuration(settings, pools))

    def write(self, text: str) -> None:
        self.config.parent.mkdir(parents=True, exist_ok=True)
        self.config.write_text(text)

    def drop_in(self, text: str, *, unit: str = "") -> None:
        """Lines that are added to a unit, the service by default."""
        directory = Path("/etc/systemd/system", f"{unit or self.unit}.d")
        directory.mkdir(exist_ok=True)
        self._drop_ins.append(directory)
        (directory / "test.conf").write_text(text)
        must("systemctl", "daemon-reload")

    # ---- life

    def start(self) -> None:
        must("systemctl", "start", self.unit)

    def stop(self) -> None:
        """The service; its socket goes on listening."""
        must("systemctl", "stop", self.unit)

    def reload(self) -> Done:
        return run("systemctl", "reload", self.unit)

    def kill(self, number: signal.Signals) -> None:
        """A signal for the daemon alone."""
        must("systemctl", "kill", "--kill-whom=main", f"--signal={number.name}", self.unit)

    def remove(self) -> None:
        """Stops all its units, and nothing of them is left."""
        units = (self.unit, self.socket_unit, self.admin_unit)
        must("systemctl", "stop", *units)
        run("systemctl", "reset-failed", *units)
        for directory in self._drop_ins:
            shutil.rmtree(directory, ignore_errors=True)
        if self._drop_ins:
            must("systemctl", "daemon-reload")
        self.config.unlink(missing_ok=True)
        eventually(lambda: not self.pids(), f"no process of {self.unit}", 10 * SLOW)

    # ---- what can be seen

    def property(self, name: str) -> str:
        return must("systemctl", "show", "--value", f"--property={name}", self.unit).strip()

    def main_pid(self) -> int:
        return int(self.property("MainPID"))

    def pids(self) -> list[int]:
        return member_pids(self.unit)

    def wait_property(self, name: str, value: str) -> None:
        eventually(lambda: self.property(name) == value, f"{name} of {self.unit} is {value}", 30 * SLOW)

    def client(self) -> Client:
        return Client(self.socket, timeout=30 * SLOW)

    def execute(self, target: str, *args: object, pool: str = "default") -> object:
        with self.client() as c:
            return c.execute(target, *args, pool=pool)
