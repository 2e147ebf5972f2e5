"""Tests that run on asyncio's own event loop and on uvloop, which the proxy uses: they differ in small things.

@both_loops
async def test_something(run_proxy): ...
"""

import asyncio
import functools
import inspect
from collections.abc import Callable
from typing import Any

import pytest
import uvloop

SECONDS = 60.0
_RUNNERS: dict[str, Callable[..., Any]] = {"asyncio": asyncio.run, "uvloop": uvloop.run}


def both_loops(test: Callable[..., Any]) -> Callable[..., None]:
    """Make two tests of one coroutine function."""
    return _on(test, sorted(_RUNNERS))


def on_uvloop(test: Callable[..., Any]) -> Callable[..., None]:
    """Make a test that only uvloop passes.

    asyncio's own `writelines` says nothing of a full buffer in some versions from Python 3.12 on.
    """
    return _on(test, ["uvloop"])


def _on(test: Callable[..., Any], loops: list[str]) -> Callable[..., None]:

    @functools.wraps(test)
    def run(*args: Any, loop: str, **kwargs: Any) -> None:
        async def within_time() -> None:
            async with asyncio.timeout(SECONDS):
                await test(*args, **kwargs)

        _RUNNERS[loop](within_time())

    del run.__dict__["__wrapped__"]
    signature = inspect.signature(test)
    loop = inspect.Parameter("loop", inspect.Parameter.KEYWORD_ONLY)
    run.__dict__["__signature__"] = signature.replace(parameters=[*signature.parameters.values(), loop])
    return pytest.mark.parametrize("loop", loops)(run)
