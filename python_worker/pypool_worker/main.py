"""main(): a worker, or a template and each worker that it forks, in the order of docs/worker-protocol.md."""
from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, List, Optional

from pypool_worker.bootstrap import Bootstrap, InitFailed
from pypool_worker.codec import load_codec
from pypool_worker.control import Init
from pypool_worker.output import complain, configure_output, flush_output
from pypool_worker.parts import Parts
from pypool_worker.registry import registry
from pypool_worker.service import Service

if TYPE_CHECKING:
    from pypool_worker.template import Birth, Template

EXIT_USAGE = 2
TEMPLATE = "template"


def _run(parts: Parts, started_ns: int) -> None:
    """The life of a worker, from hello to its exit."""
    init = _greet(parts, started_ns)
    if init is None:
        return
    bootstrap = Bootstrap(init, parts.control, registry)
    targets = bootstrap.load()
    if targets is not None:
        bootstrap.start(forked=False)
        Service(parts, init, targets).run(init.worker)


def _run_forked(parts: Parts, birth: Birth, template: Template) -> None:
    """The same of one that was forked: the template has all that this one needs not do for itself."""
    worker, born_ns, goes = birth
    if goes:
        parts.control.introduce(born_ns)
    elif _greet(parts, born_ns) is None:
        return
    template.bootstrap.start(forked=True)
    template.service.run(worker)


def _run_template(parts: Parts, started_ns: int) -> None:
    from pypool_worker.template import Template  # here: only a template needs it

    template = Template(parts)
    birth = template.run(started_ns)  # comes back in each worker that was forked, and nowhere else
    _run_forked(parts, birth, template)  # `template` stays: to take it apart would copy what it shares with the others


def _greet(parts: Parts, started_ns: int) -> Optional[Init]:
    """None: it is to leave."""
    parts.control.hello(started_ns)
    init = parts.control.wait_init()
    if init is not None:
        parts.control.start()
    return init


def main(started_ns: int, fallback: str, arguments: List[str]) -> int:
    """Runs a worker, or a template, on descriptors 3 to 6. Returns the exit code."""
    configure_output()
    parts = _make_parts(fallback)
    if parts is None:
        return EXIT_USAGE
    parts.install()
    try:
        if arguments == [TEMPLATE]:
            _run_template(parts, started_ns)
        else:
            _run(parts, started_ns)
    except InitFailed:
        flush_output()
        os._exit(1)  # not sys.exit: threads that the half-imported application started would be waited for
    return 0


def _make_parts(fallback: str) -> Optional[Parts]:
    try:
        return Parts(load_codec(fallback))
    except ImportError as exc:
        complain(f"msgpack cannot be imported by {sys.executable}, nor from {fallback}: {exc}")
    except (OSError, ValueError) as exc:
        complain(f"this is started by pypoold, which provides descriptors 3 to 6: {exc}")
    return None
