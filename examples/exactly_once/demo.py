"""Balances stay right though processes are killed, answers are lost, and all comes twice.

Beside it a naive handler adds the same amounts without a transaction, and is off in the end.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from decimal import Decimal
from random import Random
from subprocess import DEVNULL
from threading import Lock
from typing import Annotated, Any

import anyio
from botocore.exceptions import ReadTimeoutError

from dynaflow import App, Depends, Image, Router
from dynaflow.demo.history import history, shuffled
from dynaflow.demo.stage import Stage
from dynaflow.demo.storm import Item
from dynaflow.testing import TestClient

from .app import BALANCES, MARKS, Payment, open_dynamodb, router

__all__ = ["ACCOUNTS", "KEYS", "TABLE", "LosesAnswers", "both", "change", "play", "recount"]

TABLE = "payments"
KEYS = ("account", "id")
NAIVE = "balances-naive"
WRITES = 40
ACCOUNTS: tuple[str, ...] = ("ada", "bob", "cleo", "dan", "eve")
PAYMENTS = [{"account": name, "id": f"p-{n}"} for n in range(6) for name in ACCOUNTS]
LINE = "  {:<8} {:>12} {:>12} {:>24}"
MORE = [payment | {"id": f"q{payment['id']}"} for payment in PAYMENTS]

naive = Router(table=TABLE)


@naive.on_any(name="naive")
def add(
    old: Payment | None,
    new: Payment | None,
    keys: Image,
    dynamodb: Annotated[Any, Depends(open_dynamodb, scope="app")],
) -> None:
    """Add to a balance of its own, at once. The next delivery of the record adds it again."""
    amount = (new.amount if new else 0) - (old.amount if old else 0)
    dynamodb.update_item(
        TableName=NAIVE,
        Key={"account": {"S": keys["account"]}},
        UpdateExpression="ADD balance :amount",
        ExpressionAttributeValues={":amount": {"N": str(amount)}},
    )


both = App(router, naive, order_by="partition_key")


class LosesAnswers:
    """A client of DynamoDB on a bad line: what it is asked for is done, and one answer in eight
    does not come back.
    """

    def __init__(self, client: Any) -> None:
        self.lost = 0
        self._client = client
        self._answers = 0
        self._lock = Lock()  # it is called in worker threads

    def transact_write_items(self, **request: Any) -> Any:
        """Commit a transaction."""
        return self._answer(self._client.transact_write_items(**request))

    def update_item(self, **request: Any) -> Any:
        """Change an item."""
        return self._answer(self._client.update_item(**request))

    def _answer(self, answer: Any) -> Any:
        with self._lock:
            self._answers += 1
            if self._answers % 8 == 0:
                self.lost += 1
                raise ReadTimeoutError(endpoint_url="dynamodb")
        return answer


async def play(stage: Stage) -> bool:
    """Book payments in a process that is killed, go on in a second one, and deliver all again."""
    await stage.create_table(TABLE, keys=KEYS)
    for table, key in ((BALANCES, "account"), (NAIVE, "account"), (MARKS, "id")):
        await stage.create_table(table, keys=(key,), stream=False)
    await stage.storm(TABLE, writes=WRITES, items=PAYMENTS, seed=5, make=change)
    stage.say(f"{WRITES} changes of {len(PAYMENTS)} payments wait in the stream")
    killed_at = await run_and_kill(stage)
    stage.say(f"a process that books them is killed (-9): {killed_at} of them are booked")
    await stage.storm(TABLE, writes=WRITES, items=MORE, seed=6, make=change)
    lost = await run_on_a_bad_line(stage)
    stage.say(f"the next one begins anew, with {WRITES} more, and {lost} answers are lost")
    records = await history(stage, TABLE)
    known = await deliver_again(shuffled(records, seed=7))
    stage.say(f"all {len(records)} again, in random order: {known} are known")
    due = recount(await stage.scan(TABLE))
    booked, added = await balances(stage, BALANCES), await balances(stage, NAIVE)
    stage.say(LINE.format("account", "payments", "balance", "without a transaction"))
    for account, sum_ in due.items():
        stage.say(LINE.format(account, sum_, booked[account], added[account]))
    return stage.judge(
        booked == due and known == len(records) and killed_at > 0,
        f"each balance is the sum of its payments: {'yes' if booked == due else 'no'}; without a "
        f"transaction {sum(added[account] != due[account] for account in due)} of them are wrong",
    )


async def run_and_kill(stage: Stage) -> int:
    """Run both handlers with the command line, and kill that process in the middle of its work.

    Returns:
        How many changes are booked. It kept no checkpoint: what comes next begins anew.
    """
    target = "dynaflow.demo.examples.exactly_once.demo:both"
    words = ("-m", "dynaflow", "run", target, "--table", TABLE, "--store", "memory")
    process = await anyio.open_process(
        [sys.executable, *words], stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL
    )
    try:
        await stage.until(lambda: has_booked(stage, WRITES // 6))
    finally:
        with suppress(ProcessLookupError):  # it has ended by itself, which is not what it should
            process.kill()
        with anyio.CancelScope(shield=True):
            await process.wait()
    return len(await stage.scan(MARKS))


async def run_on_a_bad_line(stage: Stage) -> int:
    """Run both handlers from the stream's beginning; return how many answers were lost."""
    lines: list[LosesAnswers] = []

    def on_a_bad_line() -> Iterator[LosesAnswers]:
        for dynamodb in open_dynamodb():
            lines.append(LosesAnswers(dynamodb))
            yield lines[-1]

    with both.overrides({open_dynamodb: on_a_bad_line}):
        async with stage.running(both, TABLE):
            await stage.until(lambda: has_booked(stage, 2 * WRITES))
    return sum(line.lost for line in lines)


async def deliver_again(records: Sequence[Mapping[str, Any]]) -> int:
    """Deliver raw records once more; return how many of them were known."""
    async with TestClient(both, keys=KEYS) as stream:
        return len((await stream.send(records)).repeated_by)


async def has_booked(stage: Stage, changes: int) -> bool:
    """Tell whether so many changes have their mark."""
    return len(await stage.scan(MARKS)) >= changes


async def balances(stage: Stage, table: str) -> dict[str, Decimal]:
    """Return what each account has, by a table of balances."""
    rows = await stage.scan(table)
    return dict.fromkeys(ACCOUNTS, Decimal(0)) | {row["account"]: row["balance"] for row in rows}


def recount(payments: Iterable[Item]) -> dict[str, Decimal]:
    """Return what each account has: the sum of its payments."""
    due = dict.fromkeys(ACCOUNTS, Decimal(0))
    for payment in payments:
        due[payment["account"]] += payment["amount"]
    return due


def change(chance: Random, key: Item, old: Item | None) -> Item | None:
    """Make up a payment's next state: it is corrected, or cancelled, and perhaps made again."""
    if old is not None and chance.random() < 0.2:
        return None
    return {"amount": Decimal(chance.randrange(1, 50_000)) / 100}
