"""An app under Powertools' decorators; ORDER says which of them is the innermost."""

from __future__ import annotations

import os
from typing import Any

from aws_lambda_powertools import Logger, Metrics, Tracer
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.data_classes import DynamoDBStreamEvent, event_source

from dynaflow import App, Router

__all__ = ["app", "handler"]

logger = Logger(service="orders")
tracer = Tracer(service="orders")
metrics = Metrics(namespace="shop", service="orders")

router = Router(table="orders")


@router.on_insert()
async def reserve(new: dict[str, Any]) -> None:
    _observe("reserved")
    if new["do"] == "raise":
        raise ValueError


@router.on_modify()
def ship(new: dict[str, Any]) -> None:
    _observe("shipped")
    if new["do"] == "raise":
        raise ValueError


app = App(router)


def _observe(what: str) -> None:
    logger.info(what)
    metrics.add_metric(name=what, unit=MetricUnit.Count, value=1)
    tracer.put_annotation(key=what, value=True)


def _stacked() -> Any:
    handler: Any = app.lambda_handler(
        report_batch_item_failures=True if os.environ.get("REPORT") == "yes" else None
    )
    decorators: list[Any] = [
        event_source(data_class=DynamoDBStreamEvent),
        logger.inject_lambda_context,
        tracer.capture_lambda_handler,
        metrics.log_metrics,
    ]
    if os.environ.get("ORDER") == "reversed":
        decorators.reverse()
    for decorate in decorators:
        handler = decorate(handler)
    return handler


handler = _stacked()
