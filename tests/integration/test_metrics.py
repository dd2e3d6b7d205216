"""The metrics of a real daemon: well formed, the same numbers as its answers, and as docs/metrics.md describes them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import CallError
from tests.support.daemon import BUILD, DEMO, ROOT, SLOW, Daemon, pool
from tests.support.direct import Direct
from tests.support.exposition import Family, Malformed, read
from tests.support.waiting import eventually

SOLID = """# HELP a_total A.
# TYPE a_total counter
a_total{b="c"} 1
# HELP wait_seconds H.
# TYPE wait_seconds histogram
wait_seconds_bucket{le="0.5"} 1
wait_seconds_bucket{le="1.0"} 2
wait_seconds_bucket{le="+Inf"} 2
wait_seconds_sum 0.75
wait_seconds_count 2
"""


def test_the_reader_takes_what_is_well_formed() -> None:
    assert read(SOLID)["a_total"].value(b="c") == 1
    assert read(SOLID.replace("a_total ", "a ") + "# EOF\n", openmetrics=True)["a"].value(b="c") == 1


@pytest.mark.parametrize(
    "good,bad",
    [
        ('{b="c"} 1', '{b="c"} 1 '),
        ('{b="c"} 1', '{b="c"} x'),
        ('{b="c"} 1', '{b="c"}  1'),
        ('{b="c"} 1', '{b="c",} 1'),
        ('{b="c"} 1', '{b="c",b="d"} 1'),
        ('{b="c"} 1', '{b="\\x"} 1'),
        ('{b="c"} 1', '{b="c"} 1\na_total{b="c"} 2'),
        ('{b="c"} 1', '{b="c"} 1\n'),
        ('{b="c"} 1', '{le="1.0"} 1'),
        ("a_total counter", "a_total gauge"),
        ("a_total", "a_ms_total"),
        ("a_total", "a"),
        ("# HELP a_total A.\n", ""),
        ("# TYPE a_total counter\n", ""),
        ('le="1.0"', 'le="1"'),
        ('le="1.0"', 'le="0.25"'),
        ('"+Inf"} 2', '"+Inf"} 1'),
        ("count 2", "count 3"),
        ("wait_seconds_sum 0.75\n", ""),
        ("count 2\n", "count 2"),
        ("wait_seconds", "a_total"),
    ],
)
def test_the_reader_refuses_what_is_not(good: str, bad: str) -> None:
    assert good in SOLID
    with pytest.raises(Malformed):
        read(SOLID.replace(good, bad))


def metrics_of(daemon: Daemon, *options: str) -> dict[str, Family]:
    shown = daemon.ctl("metrics", *options)
    assert (shown.returncode, shown.stderr) == (0, "")
    return read(shown.stdout, openmetrics="--openmetrics" in options)


def pools_of(daemon: Daemon) -> list[dict[str, Any]]:
    shown = daemon.ctl("pools", "--json")
    assert shown.returncode == 0, shown.stderr
    pools: list[dict[str, Any]] = json.loads(shown.stdout)
    return pools


def start_busy(start_daemon: Callable[..., Daemon]) -> Daemon:
    """Two pools that have something to count, at rest now."""
    forked = {**DEMO, "start": "fork", "breaker_failures": 1, "breaker_reset": "1h"}
    daemon = start_daemon({"default": DEMO, "forked": forked})
    with daemon.client() as c:
        for _ in range(3):
            c.execute("echo", 1)
        c.execute("sleep", 0.02)
        c.execute("collect", "book", session="cart")
        for target in ("no_such", "crash"):
            with pytest.raises(CallError):
                c.call("execute", target=target, pool="default")
        with Direct(c) as direct:
            direct.worker.execute("echo", 1)
        c.call("checkin", lease=c.call("checkout", type="anonymous")["lease"])
        c.call("pool.reload", pool="default", wait=True)
        with pytest.raises(CallError):
            c.call("execute", target="crash", pool="forked")
    eventually(lambda: bool(pools_of(daemon)[0]["direct_calls"]), "the end of the lease is known", 10 * SLOW)
    eventually(lambda: all(told["idle"] == told["max_workers"] for told in pools_of(daemon)), "all idle", 10 * SLOW)
    eventually(lambda: all(told["stopping"] == 0 for told in pools_of(daemon)), "old ones gone", 10 * SLOW)
    return daemon


# metric → key of `pools`, with a dot between two
SAME = {
    "pool_generation": "generation",
    "workers_minimum": "min_workers",
    "workers_maximum": "max_workers",
    "workers_due": "due",
    "worker_spawns_total": "spawned",
    "worker_adoptions_total": "adopted",
    "calls_queued": "queued",
    "calls_queued_maximum": "max_queue",
    "calls_running": "running",
    "calls_accepted_total": "accepted",
    "call_wait_seconds": "wait",
    "call_run_seconds": "run",
    "sessions": "sessions",
    "sessions_opened_total": "sessions_opened",
    "sessions_lost_total": "sessions_lost",
    "sessions_expired_total": "sessions_expired",
    "leases": "leased",
    "leases_granted_total": "leases",
    "direct_calls_total": "direct_calls",
    "direct_errors_total": "direct_errors",
    "breaker_failures": "breaker.failures",
    "breaker_opened_total": "breaker.opened",
    "template_forks_total": "template.forks",
    "template_lost_total": "template.lost",
    "reloads_total": "reloads",
    "reloads_failed_total": "reloads_failed",
}


def deep(told: Any, path: str) -> Any:
    for key in path.split("."):
        told = told and told[key]
    return told


def check_histogram(family: Family, name: str, told: dict[str, Any]) -> None:
    for bound, count in told["buckets"]:
        assert family.value(pool=name, le=str(bound / 1e6)) == count
    assert family.value(pool=name, le="+Inf") == told["count"]
    assert family.samples[f"{family.name}_sum", (("pool", name),)] == told["sum_us"] / 1e6


def check_states(families: dict[str, Family], told: dict[str, Any]) -> None:
    states = {"pool_state": told["state"], "breaker_state": told["breaker"]["state"]}
    if told["template"]:
        states["template_state"] = told["template"]["state"]
    for name, state in states.items():
        own = [(dict(labels)["state"], v) for (_, labels), v in families[f"pypool_{name}"].samples.items()
               if dict(labels)["pool"] == told["name"]]
        assert [s for s, v in own if v == 1] == [state] and sum(v for _, v in own) == 1, name


def check_pool(families: dict[str, Family], told: dict[str, Any]) -> None:
    name = told["name"]
    for metric, path in SAME.items():
        value, family = deep(told, path), families[f"pypool_{metric}"]
        if family.kind == "histogram":
            check_histogram(family, name, value)
        elif value is None:
            assert not any(dict(labels)["pool"] == name for _, labels in family.samples)
        else:
            assert family.value(pool=name) == value, metric
    for state in ("starting", "initializing", "idle", "busy", "draining", "stopping"):
        assert families["pypool_workers"].value(pool=name, state=state) == told[state]
    for outcome in ("completed", "failed", "cancelled", "abandoned"):
        assert families["pypool_calls_ended_total"].value(pool=name, outcome=outcome) == told[outcome]
    for reason, n in told["deaths"].items():
        assert families["pypool_worker_deaths_total"].value(pool=name, reason=reason) == n
    check_states(families, told)


def test_every_number_is_that_of_the_answers(start_daemon: Callable[..., Daemon]) -> None:
    daemon = start_busy(start_daemon)
    first, second = pools = pools_of(daemon)
    families = metrics_of(daemon)
    for told in pools:
        check_pool(families, told)
    assert first["wait"]["count"] >= 7 and first["sessions"] == 1 and first["leases"] == 2
    assert (first["deaths"]["crashed"], first["deaths"]["reload"], first["reloads"]) == (1, 2, 1)
    assert (second["breaker"]["state"], second["breaker"]["opened"]) == ("open", 1)
    assert all(told["died"] == sum(told["deaths"].values()) for told in pools)
    daemon_told = daemon.status()
    assert families["pypool_build_info"].value(version=daemon_told["version"]) == 1
    assert families["pypool_start_time_seconds"].value() == daemon_told["started_ms"] / 1000
    assert 0 <= time.time() - daemon_told["started_ms"] / 1000 - daemon_told["uptime_ms"] / 1000 < 5
    assert families["pypool_daemon_state"].value(state="running") == 1
    assert families["pypool_clients"].value() == 1
    assert families["pypool_log_lines_dropped_total"].value() == daemon_told["log_dropped"]
    assert 0 < families["pypool_worst_loop_stall_seconds"].value() <= daemon_told["worst_stall_us"] / 1e6


@pytest.mark.parametrize(
    "metric,file,function",
    [
        ("pool_state", "pool/pool.c", "pool_state_name"),
        ("breaker_state", "pool/breaker.c", "breaker_state_name"),
        ("template_state", "pool/template.c", "template_state_name"),
        ("daemon_state", "daemon.c", "daemon_state"),
    ],
)
def test_no_state_is_left_out(metric: str, file: str, function: str) -> None:
    source = (ROOT / "daemon" / file).read_text()
    body = re.search(rf"^[^\n;]*\b{function}\([^;]*?\)\n\{{\n(.*?)^\}}", source, re.MULTILINE | re.DOTALL)
    assert body is not None
    table = (ROOT / "client" / "ctl" / "metrics.c").read_text()
    row = re.search(rf'STATES\("pypool_{metric}", "[\w.]+", "([^"]*)"', table)
    assert row is not None and set(row[1].split()) == set(re.findall(r'"([\w-]+)"', body[1]))


def test_bytes_of_connections_that_have_ended_count(start_daemon: Callable[..., Daemon]) -> None:
    daemon = start_daemon({"default": DEMO})

    def bytes_of() -> list[int]:
        families = metrics_of(daemon)
        return [int(families[f"pypool_{way}_bytes_total"].value()) for way in ("received", "sent")]

    with daemon.client() as c:
        c.execute("echo", "x" * 100_000)
        assert all(100_000 < n < 110_000 for n in bytes_of())
    eventually(lambda: bool(daemon.status()["clients"] == 1), "it has gone")
    assert all(100_000 < n < 120_000 for n in bytes_of())


def test_the_phases_of_a_start_add_up(start_daemon: Callable[..., Daemon]) -> None:
    daemon = start_daemon({"default": DEMO, "forked": {**DEMO, "start": "fork"}})
    families = metrics_of(daemon)
    for told in pools_of(daemon):
        inits = {"worker": told["init"], "template": told["template"] and told["template"]["init"]}
        for process, phases in inits.items():
            own = {dict(labels)["phase"]: v
                   for (_, labels), v in families[f"pypool_{process}_init_seconds"].samples.items()
                   if dict(labels)["pool"] == told["name"]}
            assert sum(own.values()) == pytest.approx(sum(p["ms"] for p in phases or []) / 1000, abs=1e-5)
            assert set(own) == {p["phase"] for p in phases or []}
    workers: list[dict[str, Any]] = json.loads(daemon.ctl("workers", "--json", "--pool", "default").stdout)
    newest = max(workers, key=lambda w: int(w["worker"]))
    assert pools_of(daemon)[0]["init"] == newest["init"]


def test_openmetrics_has_the_same_samples(start_daemon: Callable[..., Daemon]) -> None:
    daemon = start_daemon({"default": DEMO})
    changing = {"pypool_worst_loop_stall_seconds", "pypool_received_bytes_total", "pypool_sent_bytes_total"}

    def samples(families: dict[str, Family]) -> dict[Any, float]:
        return {key: v for f in families.values() for key, v in f.samples.items() if key[0] not in changing}

    assert samples(metrics_of(daemon)) == samples(metrics_of(daemon, "--openmetrics"))


def test_a_dead_worker_is_counted_at_once(start_daemon: Callable[..., Daemon]) -> None:
    daemon = start_daemon({"default": pool("pypool_worker.demo", 1)})
    (worker,) = json.loads(daemon.ctl("workers", "--json").stdout)
    os.kill(worker["pid"], signal.SIGKILL)

    def crashed() -> bool:
        deaths = metrics_of(daemon)["pypool_worker_deaths_total"]
        return deaths.value(pool="default", reason="crashed") == 1

    eventually(crashed, "the death is counted", 10 * SLOW)


def documented() -> list[tuple[str, ...]]:
    text = (ROOT / "docs" / "metrics.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \|([^|]*)\|([^|]*)\| (.*) \|$", text, re.MULTILINE)
    return [(name, kind, unit.strip(), " ".join(sorted(re.findall(r"`(\w+)`", labels))), what)
            for name, kind, unit, labels, what in rows]


def unit_of(name: str) -> str:
    found = re.search(r"_(seconds|bytes)(_total)?$", name)
    return {"seconds": "s", "bytes": "B"}[found[1]] if found else ""


def test_the_document_has_every_metric_as_it_is(start_daemon: Callable[..., Daemon]) -> None:
    daemon = start_daemon({"forked": {**DEMO, "start": "fork"}})
    families = metrics_of(daemon).values()
    assert documented() == [(f.name, f.kind, unit_of(f.name), " ".join(f.labels()), f.help) for f in families]


@pytest.mark.parametrize("options", [["--json"], ["extra"], ["--openmetrics", "--http"], ["--pool", "x"]])
def test_wrong_usage_is_told_without_a_daemon(options: list[str], tmp_path: Path) -> None:
    command = [str(BUILD / "pypoolctl"), "--socket", str(tmp_path / "none"), "metrics", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stdout) == (2, "") and done.stderr


def test_without_a_daemon_there_is_no_output(tmp_path: Path) -> None:
    command = [str(BUILD / "pypoolctl"), "--socket", str(tmp_path / "none"), "metrics"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stdout) == (3, "")
