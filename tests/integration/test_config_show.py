"""config.show and `pypoolctl config`: what is in force and where it is given; what is printed is a file that says the same."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support import cgroups
from tests.support.client import Client
from tests.support.daemon import APPS, BUILD, Daemon, pool
from tests.support.users import BOB, DAVE, OPEN, client_of, needs_root

StartDaemon = Callable[..., Daemon]

# Every option that can be something else than its default on any machine.
TOP = {
    "socket_mode": "0600", "log_level": "debug", "log_format": "text", "max_frame": "3M", "max_clients": 77,
    "start_concurrency": 3, "require_all": True, "frame_timeout": "1500ms", "drain_timeout": "2h",
    "uid_max_connections": 12, "uid_max_calls": 13, "uid_max_bytes": "1025", "uid_max_sessions": 14, "uid_max_leases": 15,
}
POOL: dict[str, Any] = {
    "app": "shows", "python": "/usr/bin/python3", "path": [str(APPS)], "modules": ["works"],
    "environment": ['QUOTED=a "b" \\ ${HOME} #', "EMPTY="], "preload": ["json"], "warmup": "gc:collect",
    "min_workers": 1, "max_workers": 3, "spare_workers": 1, "start": "exec", "call_timeout": "90s",
    "queue_timeout": "11s", "init_timeout": "31s", "cancel_grace": "3s", "stop_timeout": "9s", "lease_ttl": "61s",
    "max_timeout": "5m", "slow_call": "250ms", "idle_timeout": "0", "max_requests": 1000, "max_age": "12h", "max_rss": "2G",
    "replace": "after", "ping_interval": "0", "breaker_failures": 7, "breaker_reset": "29s", "poison_kills": 3,
    "drain_timeout": "29s", "affinity": "prefer", "session_ttl": "2h",
    "max_sessions": 9, "session_reserve": 0, "session_max_bytes": "2M", "max_queue": 8, "max_reply": "1537K",
    "limit_nofile": 512, "limit_as": "8G",
}


def options_of(c: Client, name: str = "default") -> dict[str, Any]:
    (found,) = [p["options"] for p in c.call("config.show")["pools"] if p["name"] == name]
    assert isinstance(found, dict)
    return found


def values(section: dict[str, Any]) -> dict[str, Any]:
    return {name: (option["value"], option["text"]) for name, option in section.items()}


def line_of(file: Path, beginning: str) -> str:
    (number,) = [n for n, line in enumerate(file.read_text().splitlines(), 1) if line.strip().startswith(beginning)]
    return f"{file}:{number}"


def test_each_option_has_its_value_and_the_place_where_it_is_given(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("shows", 1, call_timeout="90s", max_rss="1G")}, max_clients=50)
    with daemon.client() as c:
        shown = c.call("config.show")
    assert shown["files"] == [str(daemon.config)]
    top, (only,) = shown["options"], shown["pools"]
    assert top["max_clients"] == {"value": 50, "text": "50", "source": line_of(daemon.config, "max_clients")}
    assert top["socket"]["value"] == str(daemon.socket)
    assert top["frame_timeout"] == {"value": 60000, "text": '"1m"', "source": "default"}
    assert top["socket_mode"] == {"value": "0660", "text": '"0660"', "source": "default"}
    assert top["require_all"] == {"value": False, "text": "no", "source": "default"}
    assert (only["name"], only["source"]) == ("default", line_of(daemon.config, "pool "))
    assert only["options"]["call_timeout"]["source"] == line_of(daemon.config, "call_timeout")
    assert only["options"]["max_rss"]["value"] == 1 << 30
    assert only["options"]["path"]["text"] == f'{{"{APPS}"}}'


def test_what_is_printed_is_a_file_that_says_the_same(start_daemon: StartDaemon, tmp_path: Path) -> None:
    access = {"one": {"uid": ["*"], "role": "observe", "pools": ["default"]}, "two": {"gid": ["0"], "role": "admin"}}
    limits: dict[str, Any] = {"limit_memory": "512M", "limit_pids": 100} if cgroups.can_be_made() else {}
    recorded: dict[str, Any] = {**POOL, **limits, "record_failures": str(tmp_path)}
    daemon = start_daemon({"default": recorded, "other": pool("shows", 1)}, access=access, **TOP)
    printed = daemon.ctl("config").stdout
    with daemon.client() as c:
        shown = c.call("config.show")
    defaults = [name for part in (shown["options"], options_of_first(shown)) for name, option in part.items()
                if option["source"] == "default"]
    missing = [] if limits else ["limit_memory", "limit_pids"]
    assert defaults == ["socket_group", *missing, "user"], "the test is not complete"
    daemon.stop()
    again = start_daemon(text=printed.replace(str(daemon.socket), "{socket}"))
    with again.client() as c:
        second = c.call("config.show")
    assert (second["options"].pop("socket")["value"], shown["options"].pop("socket")["value"]) == (str(again.socket), str(daemon.socket))
    assert values(second["options"]) == values(shown["options"])
    assert [values(p["options"]) for p in second["pools"]] == [values(p["options"]) for p in shown["pools"]]
    assert [{**rule, "source": ""} for rule in second["access"]] == [{**rule, "source": ""} for rule in shown["access"]]
    assert [rule["pools"] for rule in shown["access"]] == [["default"], []]


def options_of_first(shown: dict[str, Any]) -> dict[str, Any]:
    options = shown["pools"][0]["options"]
    assert isinstance(options, dict)
    return options


def test_a_file_of_conf_d_is_named_as_the_source(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("shows", 1)}, ready=False)
    daemon.wait_ready()
    extra = daemon.directory / "conf.d" / "10-more.conf"
    extra.parent.mkdir()
    extra.write_text("\nuid_max_calls = 5\n")
    with daemon.client() as c:
        c.call("pool.reload")
        shown = c.call("config.show")
        assert shown["files"] == [str(daemon.config), str(extra)]
        assert shown["options"]["uid_max_calls"] == {"value": 5, "text": "5", "source": f"{extra}:2"}


def test_what_needs_a_restart_and_what_a_reload_does(start_daemon: StartDaemon) -> None:
    settings = pool("shows", 1)
    daemon = start_daemon({"one": settings, "two": settings}, frame_timeout="61s")
    daemon.write_config({"one": {**settings, "max_queue": 3}, "two": {**settings, "max_queue": 4}},
                        frame_timeout="62s", max_clients=51)
    with daemon.client() as c:
        assert c.call("pool.reload", pool="one")["generation"] == 2
        shown = c.call("config.show")
        assert shown["options"]["max_clients"]["value"] == 51
        assert shown["options"]["frame_timeout"]["value"] == 61000, "as it was at the start"
        assert options_of(c, "one")["max_queue"]["value"] == 3
        assert options_of(c, "two")["max_queue"] == {"value": 1000, "text": "1000", "source": "default"}, "not reloaded yet"
        c.call("pool.reload", pool="two")
        assert options_of(c, "two")["max_queue"]["value"] == 4


def test_a_resized_pool_says_so_until_its_reload(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("shows", 1)})
    with daemon.client() as c:
        c.call("pool.resize", max_workers=2)
        assert options_of(c)["max_workers"] == {"value": 2, "text": "2", "source": "pool.resize"}
        assert options_of(c)["min_workers"]["source"] == line_of(daemon.config, "min_workers")
        c.call("pool.reload")
        assert options_of(c)["max_workers"]["source"] == line_of(daemon.config, "max_workers")


def test_the_command_line_is_a_source_too(tmp_path: Path, start_daemon: StartDaemon) -> None:
    daemon = start_daemon(arguments=["--app", "pypool_worker.demo", "--workers", "1", "--socket", str(tmp_path / "s")],
                          environment={"XDG_CONFIG_HOME": str(tmp_path)}, ready=False)
    daemon.socket = tmp_path / "s"
    daemon.wait_log(r"listener\.open")
    with daemon.client() as c:
        shown = c.call("config.show")
        assert shown["options"]["socket"]["source"] == "--socket" and shown["pools"][0]["source"] == "--app"
        sources = {name: option["source"] for name, option in options_of(c).items()}
        assert (sources.pop("app"), sources.pop("path")) == ("--app", "--app")
        assert (sources.pop("min_workers"), sources.pop("max_workers")) == ("--workers", "--workers")
        assert set(sources.values()) == {"default"}


@needs_root
def test_secrets_are_for_admins_of_their_pool_only(start_daemon: StartDaemon) -> None:
    secret = pool("shows", 1, environment=["TOKEN=hunter2"])
    daemon = start_daemon({"a": secret, "b": secret}, access={
        "one": {"uid": [str(DAVE)], "role": "admin", "pools": ["b"]}, "all": {"uid": ["*"], "role": "observe"}}, **OPEN)
    with client_of(daemon, BOB) as bob, client_of(daemon, DAVE) as dave, daemon.client() as root:
        assert bob.fail("config.show").code == bob.fail("config.show", pool="a").code == "denied"
        assert dave.fail("config.show", pool="a").code == "denied"
        shown = dave.call("config.show")
        assert [p["name"] for p in shown["pools"]] == ["b"]
        assert shown["files"] is None and shown["options"] is None and shown["access"] is None
        assert "TOKEN=hunter2" in options_of(dave, "b")["environment"]["value"]
        assert len(root.call("config.show")["pools"]) == 2


def test_pypoolctl_shows_one_pool_or_all(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"one": pool("shows", 1), "two": pool("shows", 1, environment=["CONTROL=\x1b[31m".replace("\x1b", "\\x1b")])})
    all_of_it, one = daemon.ctl("config").stdout, daemon.ctl("config", "two").stdout
    assert 'pool "one" {' in all_of_it and 'pool "two" {' in all_of_it and "max_clients = 10000 " in all_of_it
    assert one.strip().startswith('pool "two" {') and '"one"' not in one and "max_clients" not in one
    assert "# default" in one and f"# {line_of(daemon.config, 'environment')}" in one and "\x1b" not in one
    assert [p["name"] for p in json.loads(daemon.ctl("--json", "config", "two").stdout)["pools"]] == ["two"]
    assert daemon.ctl("config", "two", "three").returncode == 2
    wrong = daemon.ctl("config", "three")
    assert wrong.returncode == 1 and "unknown_pool" in wrong.stderr
    checked = subprocess.run([str(BUILD / "pypoold"), "--check", "--config", "/dev/stdin"], input=all_of_it, text=True, check=False)
    assert checked.returncode == 0
