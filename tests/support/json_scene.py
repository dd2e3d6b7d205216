"""One daemon in which there is something of everything, and what each command of pypoolctl says of it as JSON."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
from collections.abc import Callable
from typing import Any

from tests.support.client import Client
from tests.support.daemon import BUILD, SLOW, Daemon, pool
from tests.support.scenes import pool_of, wait_queued, wait_running, wait_workers, workers
from tests.support.waiting import eventually

Said = tuple[str, Any]  # the heading of docs/json.md, and one value
KINDS = ["lease", "session", "worker", "breaker", "pool", "config", "output"]
NOBODY = "/nonexistent/socket"


class Scene:
    def __init__(self, start_daemon: Callable[..., Daemon]) -> None:
        self.said: list[Said] = []
        nasty = pool("nasty", 1, cancel_grace="100ms", stop_timeout="100ms")
        self.daemon = start_daemon({
            "default": nasty, "other": pool("nasty", 2), "forked": pool("shows", 1, start="fork"),
            "broken": pool("import_error", 1, breaker_failures=1, breaker_reset="1h"), "starting": pool("hangs_in_import", 1),
            "sessions": pool("sessions", 1), "fragile": pool("nasty", 1, breaker_failures=1), "unfit": pool("threaded", 1, start="fork"),
        }, access={"all": {"uid": ["*"], "gid": ["0"], "role": "admin"}}, ready=False)
        self.daemon.wait_log(r"listener\.open")
        self.client = self.daemon.client()
        for name in ("default", "other", "forked", "sessions", "unfit", "fragile"):
            wait_workers(self.client, "idle", 2 if name == "other" else 1, pool=name)
        eventually(lambda: bool(pool_of(self.client, "broken")["breaker"]["state"] == "open"), "it is open")
        eventually(lambda: bool(pool_of(self.client, "forked")["template"]["state"] == "warm"), "it is warm")
        self.events = subprocess.Popen(
            [str(BUILD / "pypoolctl"), "--socket", str(self.daemon.socket), "--json", "events", *KINDS], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        eventually(lambda: bool([c for c in self.client.call("clients") if c["name"] == "pypoolctl"]), "it listens to events")

    def close(self) -> None:
        self.client.close()
        self.events.kill()
        self.events.communicate()

    def ctl(self, heading: str, *words: str, status: int = 0) -> Any:
        """Run it; what it says on stdout (stderr when it fails) is kept under that heading."""
        done = self.daemon.ctl("--json", *words)
        assert done.returncode == status, f"{words}: {done.returncode} {done.stderr}"
        text = done.stderr if status and not done.stdout else done.stdout
        values = [json.loads(line) for line in text.splitlines()]
        assert values, words
        self.said += [(heading, value) for value in values]
        return values[-1]

    def take_events(self) -> None:
        """What has been told up to now."""
        assert self.events.stdout is not None
        fd, data = self.events.stdout.fileno(), b""
        while select.select([fd], [], [], 1.0 * SLOW)[0]:
            data += os.read(fd, 1 << 16)
        self.said += [("events", json.loads(line)) for line in data.decode().splitlines()]

    # ---- what there is

    def look(self) -> None:
        """Everything that only looks, with something of each kind there."""
        c = self.client
        lease = c.call("checkout", type="anonymous", pool="other")["lease"]
        c.execute("write", "stderr", "hello\n", pool="other", lease=lease)
        c.call("session.put", session="one", pool="sessions", values={"a": 1})
        assert c.fail_execute("os_exit", 3, pool="default").code == "worker_died"
        eventually(lambda: bool(workers(c, "idle", pool="default")), "it is back")
        running = c.start_execute("sleep", 60, pool="default")
        wait_running(c, "sleep")
        waiting = [c.start_execute("echo", 1, pool="default", queue_timeout_ms=60_000) for _ in range(2)]
        wait_queued(c, 2)
        for name in ("status", "pools", "workers", "sessions", "leases", "clients", "queue", "logs", "config", "version", "help"):
            self.ctl(name, name)
        self.ctl("help", "help", "ping")
        self.ctl("ping", "ping")
        self.ctl("doctor", "doctor", status=1)
        self.ctl("top", "top", "-n", "2", "-d", "0.1")
        for call in c.call("queue"):
            self.ctl("why call", "why", "call", str(call["call"]))
        self.ctl("why call", "why", "call", "1", status=1)
        for worker in [*c.call("workers"), pool_of(c, "forked")["template"]]:
            self.ctl("why worker", "why", "worker", str(worker["worker"]))
            if worker["state"] != "dead":
                self.ctl("stack", "stack", str(worker["worker"]))
        self.ctl("why worker", "why", "worker", "999", status=1)
        for p in c.call("pools"):
            self.ctl("why pool", "why", "pool", p["name"])
        for number in [*waiting, running]:
            assert c.call("cancel", id=number) is True
        for number in [*waiting, running]:
            assert c.wait_error(number).code == "cancelled"
        c.call("checkin", lease=lease)
        c.call("session.close", session="one", pool="sessions")

    def operate(self) -> None:
        """Everything that changes something, but for the end."""
        c: Client = self.client
        eventually(lambda: bool(workers(c, "idle", pool="default")), "it is free")
        for command in ("pause", "resume", "drain", "resume"):
            self.ctl(command, command, "default", "other")
        self.ctl("resize", "resize", "other", "--max", "3")
        self.ctl("recycle", "recycle", "other", "--wait")
        self.ctl("kill", "kill", str(workers(c, "idle", pool="other")[0]["worker"]))
        self.ctl("reload", "reload", "sessions")
        self.ctl("reload --wait", "reload", "forked", "--wait")
        self.ctl("reload --dry-run", "reload", "forked", "default", "--dry-run")
        self.ctl("an error", "reload", "broken", "--wait", status=1)
        self.ctl("call", "call", "echo", "1")
        failing = [("raise_chained",), ("no_such_thing",), ("os_exit", "3"), ("sleep", "60", "--timeout", "200ms"),
                   ("add", "--pool", "broken"), ("echo", "--pool", "nowhere")]
        for words in failing:
            eventually(lambda: bool(workers(c, "idle", pool="default")), "it is back")
            self.ctl("an error", "call", *words, status=1)
        assert c.fail_execute("os_exit", 3, pool="fragile").code == "worker_died"
        eventually(lambda: bool(pool_of(c, "fragile")["breaker"]["opened"]), "it was open")

    def give_up_starting(self) -> None:
        """An upgrade waits until each pool has shown whether it serves: one that hangs shows it after its init_timeout."""
        c = self.client
        for worker in workers(c, "initializing", pool="starting"):
            os.kill(worker["pid"], signal.SIGKILL)
        eventually(lambda: bool(c.call("status")["state"] == "running"), "all have settled", 40 * SLOW)

    def end(self) -> None:
        self.give_up_starting()
        self.ctl("upgrade", "upgrade")
        self.ctl("shutdown", "shutdown", "--now")
        assert self.daemon.wait() == 0
        self.ctl("an error", "--socket", NOBODY, "status", status=3)
