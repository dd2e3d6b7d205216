"""What is there and what runs after an installation."""

from __future__ import annotations

import re

import pytest

from tests.packages import debs
from tests.support.daemon import PYTHON, ROOT
from tests.support.users import ALICE
from tests.systemd.machine import must, run
from tests.systemd.service import Service, installed_pool

TESTS = ROOT / "systemd" / "debian" / "tests"
PAGES = ("pypoold.8", "pypoolctl.1", "pypoold.conf.5", "libpypool.3", "pypool-protocol.7", "pypool_worker.7")


def state_of(command: str, unit: str) -> str:
    return run("systemctl", command, unit).text.strip()


def call_as(*options: str) -> list[str]:
    """The command that calls the demo as ALICE."""
    user = ["setpriv", f"--reuid={ALICE}", f"--regid={ALICE}", *options, "--"]
    return [*user, "pypoolctl", "call", "word_count", '"a b c"']


def test_the_service_runs_at_once_and_after_each_boot(service: Service) -> None:
    for unit in (service.unit, service.socket_unit):
        assert (state_of("is-active", unit), state_of("is-enabled", unit)) == ("active", "enabled")
    assert state_of("is-active", service.admin_unit) == "active"
    assert state_of("is-active", "pypoold-metrics.socket") == "inactive"
    assert state_of("is-enabled", "pypoold-metrics.socket") == "disabled"
    assert (service.socket.owner(), service.socket.group()) == ("pypool", "pypool")


def test_members_of_the_group_can_call(service: Service) -> None:
    assert re.search(r'"words": *3', must(*call_as("--groups=pypool")))
    done = run(*call_as("--clear-groups"))
    assert done.status == 3 and "Permission denied" in done.text


def test_everything_is_where_it_is_looked_for(service: Service) -> None:
    for page in PAGES:
        name, _, section = page.rpartition(".")
        assert must("man", "--where", section, name).endswith(f"/{page}.gz\n")
    must("bash", "-c", ". /usr/share/bash-completion/completions/pypoolctl && complete -p pypoolctl")
    must("env", "--chdir=/", PYTHON, "-c", "import pypool_client, pypool_worker.replay")
    assert must("dpkg", "--verify", *debs.NAMES) == ""


@pytest.mark.parametrize("name", re.findall(r"^Tests: (\S+)$", (TESTS / "control").read_text(), re.MULTILINE))
def test_the_tests_of_the_source_package_pass(service: Service, name: str) -> None:
    must(str(TESTS / name))


@pytest.mark.parametrize("start", ["exec", "fork"])
def test_a_python_without_msgpack_uses_the_systems(service: Service, start: str) -> None:
    must(PYTHON, "-m", "venv", "--without-pip", "/opt/venv")
    try:
        assert run("/opt/venv/bin/python3", "-c", "import msgpack").status == 1
        service.configure({"default": installed_pool("works", start=start, python="/opt/venv/bin/python3")})
        assert service.reload().status == 0
        assert service.execute("program") == "fine"
    finally:
        must("rm", "-r", "/opt/venv")
