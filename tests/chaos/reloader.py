"""Reloads the pools again and again while everything else goes on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

from tests.chaos.history import History
from tests.chaos.link import connect

POOLS = ("stub", "flaky", "python")  # storm has outages, whose starts are counted
PATIENCE = 30.0  # seconds: the longest call, a start and the graces of workers that do not leave, several times over


@dataclass(frozen=True)
class Reload:
    pool: str
    error: Any
    result: Any
    seconds: float


class Reloader:
    """An admin who cannot wait: one reload after the other, two of a pool at once now and then."""

    def __init__(self, path: str, seed: int) -> None:
        self.path = path
        self.rng = Random(f"{seed} reloader")
        self.reloads: list[Reload] = []

    async def run(self, is_over: Callable[[], bool]) -> None:
        link = await connect(self.path, History(), "reloader", "prefixed")
        while not is_over():
            await asyncio.sleep(self.rng.uniform(0.1, 0.6))
            pool = self.rng.choice(POOLS)
            asked = [link.ask("pool.reload", pool=pool) for _ in range(self.rng.choice((1, 1, 2)))]
            begun = time.monotonic()
            for future in asked:
                try:
                    error, result = await asyncio.wait_for(future, 2 * PATIENCE)
                except asyncio.TimeoutError:
                    error, result = {"code": "none", "message": "never answered"}, None
                self.reloads.append(Reload(pool, error, result, time.monotonic() - begun))
        link.close()
        await link.ended

    def judge(self, slow: float) -> Iterator[str]:
        """Each ends: with all workers new, or with the cause of a canary that was killed."""
        generations = dict.fromkeys(POOLS, 1)
        for r in self.reloads:
            if r.error is None and r.result["generation"] > generations[r.pool]:
                generations[r.pool] = r.result["generation"]
            elif r.error is None and r.result["generation"] < generations[r.pool]:
                yield f"a reload of {r.pool} went back to generation {r.result['generation']}"
            elif r.error is not None and (r.error["code"] != "init_failed" or not r.error.get("cause")):
                yield f"a reload of {r.pool} ended with {r.error}"
            if r.seconds > PATIENCE * slow:
                yield f"a reload of {r.pool} took {r.seconds:.1f} s"
        if not any(r.error is None for r in self.reloads):
            yield f"of {len(self.reloads)} reloads none came to its end"

    def told(self) -> str:
        good = sum(r.error is None for r in self.reloads)
        return f"{len(self.reloads)} reloads, {good} of them to their end"
