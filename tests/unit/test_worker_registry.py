"""Registry and targets: what can be called, and what a wrong name is told."""
from __future__ import annotations

import functools
from typing import Any, AsyncIterator, Callable, Iterator, List

import pytest

from pypool_worker import registry as registry_module
from pypool_worker.registry import Handler, Registry, expose, on_start
from pypool_worker.targets import Targets


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Registry:
    fresh = Registry()
    monkeypatch.setattr(registry_module, "registry", fresh)
    return fresh


def handler(name: str, module: str = "app") -> Handler:
    def function() -> None: ...
    function.__module__ = module
    return Handler(name, function, False)


def test_expose_works_bare_and_with_options_and_returns_the_function(registry: Registry) -> None:
    def one() -> int:
        return 1

    assert expose(one) is one
    assert expose(name="other.name", idempotent=True)(one) is one
    assert [(h.name, h.idempotent, h.function) for h in registry.handlers] == [
        ("one", False, one), ("other.name", True, one)]


async def coroutine() -> None: ...


async def async_generator() -> AsyncIterator[int]:
    yield 1


def generator() -> Iterator[int]:
    yield 1


class CallsAsync:
    async def __call__(self) -> None: ...


@pytest.mark.parametrize("function,word", [
    (coroutine, "async"), (async_generator, "async"), (generator, "generator"), (CallsAsync(), "async"),
    (functools.partial(coroutine), "async")])
def test_async_and_generators_are_refused_where_they_are_exposed(registry: Registry, function: Callable[..., Any],
                                                                 word: str) -> None:
    with pytest.raises(TypeError, match=word):
        expose(name="x")(function)
    assert registry.handlers == []


def test_stream_is_refused_clearly(registry: Registry) -> None:
    with pytest.raises(TypeError, match="stream=True.*not available"):
        expose(stream=True)


@pytest.mark.parametrize("thing", ["add", 3])
def test_expose_on_a_name_instead_of_a_function_says_what_is_meant(registry: Registry, thing: Any) -> None:
    with pytest.raises(TypeError, match="name=..."):
        expose(thing)


@pytest.mark.parametrize("name", ["", "a:b", "a\nb", "x" * 201])
def test_names_that_cannot_be_are_refused(registry: Registry, name: str) -> None:
    with pytest.raises(ValueError, match="cannot be the name"):
        expose(name=name)(lambda: None)


def test_functions_without_a_name_need_one(registry: Registry) -> None:
    unnamed: List[Any] = [lambda: None, functools.partial(int, "1")]
    for function in unnamed:
        with pytest.raises(ValueError, match="needs a name"):
            expose(function)


def test_hooks_must_be_callable(registry: Registry) -> None:
    with pytest.raises(TypeError, match="@on_start"):
        on_start(3)  # type: ignore[type-var]


def test_what_is_exposed_after_the_seal_is_not_added_and_complains(registry: Registry,
                                                                   capsys: pytest.CaptureFixture[str]) -> None:
    registry.seal()
    expose(name="late")(lambda: None)
    assert registry.handlers == []
    assert "'late'" in capsys.readouterr().err


def test_names_from_modules_that_the_app_imports_belong_to_the_app() -> None:
    targets = Targets("app", [])
    targets.add([handler("own"), handler("from_helper", "helper")], "app")
    assert targets.names() == ["from_helper", "own"]


def test_a_listed_module_keeps_its_names_to_itself_whoever_imports_it_first() -> None:
    targets = Targets("app", ["billing"])
    targets.add([handler("status"), handler("status", "billing")], "app")
    targets.add([handler("helper", "billing_helper")], "billing")
    assert targets.names() == ["billing:helper", "billing:status", "status"]


def test_one_name_for_two_functions_is_an_error_that_names_both_places() -> None:
    targets = Targets("app", [])
    with pytest.raises(ValueError, match=r"'x' is exposed twice: .*test_worker_registry.py line \d+ and .* line \d+"):
        targets.add([handler("x"), handler("x", "helper")], "app")


def test_one_function_exposed_twice_under_one_name_is_fine() -> None:
    one = handler("x")
    targets = Targets("app", [])
    targets.add([one, one], "app")
    assert targets.names() == ["x"]


@pytest.mark.parametrize("target", ["os.system", "__import__", "add.__globals__", "os:system", "", ":", "app:add",
                                    "add.__class__.__base__", "x" * 100_000, "\ud800"])
def test_fault_116_only_exposed_names_are_found(target: str) -> None:
    targets = Targets("app", [])
    targets.add([handler("add"), handler("subtract")], "app")
    assert targets.find(target) is None
    told = targets.explain_unknown(target)
    assert "exposed: add, subtract" in told and len(told) < 400


def test_an_unknown_target_names_near_ones_and_not_hundreds() -> None:
    targets = Targets("app", [])
    names: List[str] = [f"handler_{number:03}" for number in range(200)] + ["word_count"]
    targets.add(map(handler, names), "app")
    told = targets.explain_unknown("wordcount")
    assert "did you mean word_count" in told
    assert "and 181 more" in told
