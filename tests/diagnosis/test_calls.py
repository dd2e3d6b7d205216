"""A handler that fails and a worker that goes on: the caller is told what and where, and the next call is served."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.diagnosis.telling import check, pool
from tests.support.client import Client
from tests.support.daemon import Daemon

StartDaemon = Callable[..., Daemon]
RAISED = "type module message file line traceback"


@pytest.fixture(scope="module")
def shared() -> Iterator[Daemon]:
    daemon = Daemon({"default": pool("shop", max_reply="64K")})
    yield daemon
    daemon.stop()


@pytest.fixture
def shop(shared: Daemon) -> Iterator[Client]:
    """A connection to a pool of one worker, which must be the same one after the test."""
    with shared.client() as c:
        before = c.call("workers")
        yield c
        assert c.execute("price", 1) == 100
        after = c.call("workers")
        assert [(w["worker"], w["pid"]) for w in after] == [(w["worker"], w["pid"]) for w in before]


def test_plain_exception(shop: Client) -> None:
    error = shop.fail_execute("plain")
    check(error, "app_error", "yes", r"ValueError: no such order: 17, shop\.py line \d+", RAISED)
    assert (error.cause["type"], error.cause["module"]) == ("ValueError", "builtins")
    assert 'raise ValueError("no such order: 17")' in error.cause["traceback"]


def test_exception_without_words_of_its_own(shop: Client) -> None:
    check(shop.fail_execute("price", 17), "app_error", "yes", r"KeyError: 17, shop\.py line \d+", RAISED)


def test_chained_exception(shop: Client) -> None:
    error = shop.fail_execute("chained")
    check(
        error, "app_error", "yes",
        r"LookupError: no such order, shop\.py line \d+, "
        r"caused by ValueError: invalid literal for int\(\) with base 10: 'twelve', shop\.py line \d+",
        RAISED,
    )
    assert "The above exception was the direct cause" in error.cause["traceback"]


def test_unpicklable_exception(shop: Client) -> None:
    error = shop.fail_execute("unpicklable")
    check(error, "app_error", "yes", r"Unpicklable: order 17 is locked, shop\.py line \d+", RAISED)
    assert (error.cause["type"], error.cause["module"]) == ("Unpicklable", "shop")


@pytest.mark.parametrize("status", [0, 3, "bye"])
def test_sys_exit(shop: Client, status: Any) -> None:
    check(shop.fail_execute("leave", status), "app_error", "yes", rf"SystemExit: {status}, shop\.py line \d+", RAISED)


def test_wrong_number_of_arguments(shop: Client) -> None:
    check(
        shop.fail_execute("price"), "app_error", "yes",
        r"TypeError: price\(\) missing 1 required positional argument: 'order', shop\.py line \d+",
        RAISED,
    )


def test_result_that_cannot_be_encoded(shop: Client) -> None:
    check(
        shop.fail_execute("basket"), "unserializable", "yes",
        r'result\["items"\]\[0\]\["tags"\]\[1\] is a set, which MessagePack cannot carry; return sorted\(\.\.\.\) or '
        r"list\(\.\.\.\); basket in shop\.py line \d+",
        "file line",
    )


def test_result_that_is_too_big(shop: Client) -> None:
    check(
        shop.fail_execute("catalogue", 100_000), "too_large", "yes",
        r"the result takes 1000\d\d bytes, and max_reply of the pool allows 65536; catalogue in shop\.py line \d+",
        "file line",
    )


def test_argument_that_is_text_but_not_utf_8(shop: Client) -> None:
    body = b"\x94\x00\x14\xa7execute\x91\x82\xa6target\xa5price\xa4args\x91\xa2\xff\xfe"
    shop.send_bytes(shop.frame(body))
    check(
        shop.wait_error(20), "bad_request", "never",
        "the arguments cannot be read: text that is not UTF-8; send it as bin",
    )


@pytest.mark.parametrize("args, words", [
    (5, r"args must be an array \(positional\) or a map \(keywords\), got int"),
    ({1: 2}, "args: a keyword must be text, not int"),
])
def test_arguments_of_the_wrong_shape(shop: Client, args: Any, words: str) -> None:
    check(shop.wait_error(shop.start("execute", target="price", args=args)), "bad_request", "never", words)


def test_argument_that_is_not_msgpack(start_daemon: StartDaemon) -> None:
    with start_daemon({"default": pool("shop")}).client() as c:
        c.send_bytes(c.frame(b"\x94\x00\x14\xa7execute\x91\x82\xa6target\xa5price\xa4args\x91\xc1"))
        check(
            c.wait_error(None), "bad_msgpack", "never",
            r"not MessagePack: the byte 0xc1 in it, or bytes after its end \(byte 32 of the message\)",
        )
        c.wait_closed()


def test_unknown_function_names_the_near_ones(shop: Client) -> None:
    check(
        shop.fail_execute("prise", 1), "unknown_target", "never",
        r"no handler 'prise' in shop, did you mean price; exposed: abort, add, [\w, ]+, stop and 2 more",
    )


def test_function_that_is_not_exposed(shop: Client) -> None:
    check(
        shop.fail_execute("forgotten"), "unknown_target", "never",
        "no handler 'forgotten' in shop: the function exists but is not exposed; put @expose on it in shop",
    )


def test_print_on_stdout_at_import_and_in_a_handler_harms_nobody(start_daemon: StartDaemon) -> None:
    daemon = start_daemon({"default": pool("hello_app")})
    with daemon.client() as c:
        assert c.execute("greet", "world") == "hello world"
        printed = [(line["source"], line["text"]) for line in c.call("logs")]
    assert printed == [("stdout", "importing"), ("stdout", "greeting world")]
    daemon.wait_log(r'worker\.output .*source=stdout text="greeting world"')


def test_memory_error(start_daemon: StartDaemon) -> None:
    with start_daemon({"default": pool("shop", limit_as="1G")}).client() as c:
        error = c.fail_execute("grab", 2048)
        check(
            error, "app_error", "yes",
            r"MemoryError, shop\.py line \d+; limit_as of the pool allows 1024 MiB of address space, and the worker had "
            r"\d+ MiB before",
            RAISED,
        )
        assert c.execute("price", 1) == 100, "it is not the end of the worker"
