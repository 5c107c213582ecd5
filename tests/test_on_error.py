"""What a router makes of its handlers' exceptions: ``on_error``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dynaflow import App, HandlerContext, NonRetryable, Retry, RetryAfter, Router, Skip
from dynaflow.errors import RegistrationError
from dynaflow.testing import TestClient


class Declined(Exception): ...


class CardDeclined(Declined): ...


def raising(error: BaseException, router: Router, **options: Any) -> None:
    @router.on_insert(name="pay", **options)
    def pay() -> None:
        raise error


def sent(router: Router) -> Any:
    with TestClient(router) as stream:
        return stream.insert({"id": "a"})


@pytest.mark.parametrize("returns", [False, True])
def test_what_the_function_raises_or_returns_counts(returns: bool) -> None:
    router = Router()

    @router.on_error(Declined)
    def meaning(error: Declined) -> Exception:
        skip = Skip("declined")
        if returns:
            return skip
        raise skip

    raising(CardDeclined("1234"), router)
    assert sent(router).skipped_by == ["pay"]


def test_if_it_returns_nothing_the_exception_stays_what_it_is() -> None:
    router, error = Router(), Declined("x")
    router.on_error(Declined)(lambda error: None)
    raising(error, router)
    assert sent(router).errors == [error]


def test_the_cause_is_the_handlers_exception() -> None:
    router, error = Router(), Declined("x")
    router.on_error(Declined)(lambda error: NonRetryable("declined"))
    raising(error, router)
    (meant,) = sent(router).errors
    assert isinstance(meant, NonRetryable)
    assert meant.__cause__ is error


def test_the_nearest_type_and_the_nearest_router_are_asked() -> None:
    asked: list[str] = []
    outer, inner = Router(), Router()

    def note(name: str) -> Callable[[Exception], None]:
        return lambda error: asked.append(name)

    outer.on_error(CardDeclined)(note("outer, nearest type"))
    inner.on_error(Exception)(note("inner, any"))
    inner.on_error(Declined, KeyError)(note("inner, nearer type"))
    raising(CardDeclined(), inner)
    outer.include_router(inner)
    sent(outer)
    assert asked == ["inner, nearer type"]


def test_the_outer_router_is_asked_about_what_the_inner_one_does_not_know() -> None:
    outer, inner = Router(), Router()
    outer.on_error(Declined)(lambda error: Skip())
    inner.on_error(KeyError)(lambda error: None)
    raising(Declined(), inner)
    outer.include_router(inner)
    assert sent(outer).skipped_by == ["pay"]


def test_what_means_something_already_is_left_alone() -> None:
    router = Router()
    router.on_error(Exception)(lambda error: Skip())
    raising(NonRetryable("no"), router)
    assert isinstance(sent(router).errors[0], NonRetryable)


def test_a_type_of_dynaflows_own_can_be_named() -> None:
    router = Router()
    router.on_error(NonRetryable)(lambda error: Skip())
    raising(NonRetryable("no"), router)
    assert sent(router).skipped_by == ["pay"]


def test_it_is_asked_before_the_retry_policy_is() -> None:
    router, calls = Router(), list[int]()

    @router.on_error(Declined)
    def meaning(error: Declined, context: HandlerContext) -> None:
        calls.append(context.attempt)
        raise RetryAfter(3_600)

    raising(Declined(), router, retry=Retry(attempts=3, on=KeyError))
    assert sent(router).failed is not None
    assert calls == [1, 2, 3]


def test_what_breaks_in_it_is_the_records_failure() -> None:
    router = Router()
    router.on_error(Declined)(lambda error: 1 / 0)
    raising(Declined(), router)
    (error,) = sent(router).errors
    assert isinstance(error, ZeroDivisionError)


def test_an_answer_that_means_nothing_is_said_to() -> None:
    router = Router()
    router.on_error(Declined)(lambda error: "skip")
    raising(Declined(), router)
    (error,) = sent(router).errors
    assert "returned a str: raise or return NonRetryable, Skip or RetryAfter" in str(error)


async def asynchronous(error: Exception) -> None: ...


@pytest.mark.parametrize(
    ("declare", "message"),
    [
        (lambda r: r.on_error(), "names no exception"),
        (lambda r: r.on_error("KeyError"), "takes exception classes such as KeyError"),
        (lambda r: r.on_error(SystemExit), "takes exception classes such as KeyError"),
        (lambda r: r.on_error(KeyError)(lambda: None), "cannot be called with an exception"),
        (lambda r: r.on_error(KeyError)(asynchronous), "takes a plain function"),
        (
            lambda r: (r.on_error(KeyError)(str), r.on_error(OSError, KeyError)(repr)),
            r"on_error\(KeyError\) is there already",
        ),
        (lambda r: (App(r), r.on_error(KeyError)), "already part of an App"),
    ],
)
def test_what_cannot_work_is_refused(declare: Callable[[Any], object], message: str) -> None:
    with pytest.raises(RegistrationError, match=message):
        declare(Router())
