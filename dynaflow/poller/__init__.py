"""Reads a stream without Lambda: shards, checkpoints, retries, an orderly end."""

from __future__ import annotations

from dynaflow.poller.poller import Poller, PollerResult
from dynaflow.poller.shutdown import Shutdown, stop_on_signals

__all__ = ["Poller", "PollerResult", "Shutdown", "stop_on_signals"]
