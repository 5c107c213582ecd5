"""Each change of an order's status becomes a mail, though the mail service fails now and then."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from random import Random

from dynaflow.demo.stage import Stage
from dynaflow.demo.storm import Item, Written

from .app import app, open_mail

_TOLD = ("paid", "shipped")
_STATUSES = ("open", "cancelled", *_TOLD)


class ShakyMail:
    """A mail service that refuses every fourth mail, and accepts it when it is sent again.

    Whatever it accepts it keeps once: a reference that it knows is a repeat.
    """

    def __init__(self) -> None:
        self.sent: dict[str, tuple[str, str]] = {}
        self.refused: list[str] = []
        self._tries = 0

    async def send(self, to: str, subject: str, *, reference: str) -> None:
        """Send a mail.

        Raises:
            ConnectionError: the mail is not accepted.
        """
        self._tries += 1
        if self._tries % 4 == 0:
            self.refused.append(reference)
            raise ConnectionError("the mail was not accepted")
        self.sent.setdefault(reference, (to, subject))


async def play(stage: Stage) -> bool:
    """Tell the life of one order, then let a storm of writes go over six others."""
    mail = ShakyMail()
    await stage.create_table("orders")
    with app.overrides({open_mail: lambda: mail}):
        async with stage.running(app, "orders"):
            stage.say("an order is placed, becomes a big one, is paid and is shipped")
            order = {"id": "A-100", "email": "A-100@example.org", "status": "open", "total": 900}
            await stage.put("orders", order)
            for changes in ({"total": 1200}, {"status": "paid"}, {"status": "shipped"}):
                await stage.update("orders", {"id": "A-100"}, changes)
            await stage.until(lambda: len(mail.sent) == 3)
            for to, subject in mail.sent.values():
                stage.say(f"  mail to {to}: {subject}")
            written = await stage.storm("orders", writes=80, items=6, seed=6, make=change)
            due = mails(written)
            mail_count = 3 + sum(map(len, due.values()))
            await stage.until(lambda: len(mail.sent) == mail_count)
    stage.say(f"{len(written)} writes to 6 more orders, {mail_count - 3} of them are told")
    stage.say(f"{len(mail.refused)} times a mail was not accepted, and its record came again")
    sent = defaultdict(list)
    for to, subject in list(mail.sent.values())[3:]:
        sent[to].append(subject)
    lost = sum(len(due[to]) - len(sent[to]) for to in due)
    return stage.judge(
        sent == due,
        f"{len(mail.sent)} mails sent, lost {lost}, in order for each order: "
        f"{'yes' if sent == due else 'no'}",
    )


def change(chance: Random, key: Item, old: Item | None) -> Item | None:
    """Make up an order's next state; the address tells the orders apart."""
    if old is not None and chance.random() < 0.1:
        return None
    status = chance.choice(_STATUSES)
    return {"email": f"{key['id']}@example.org", "status": status, "total": chance.randrange(99)}


def mails(written: Iterable[Written]) -> dict[str, list[str]]:
    """Return the subjects that each address must get, in order, from what was written."""
    due: dict[str, list[str]] = defaultdict(list)
    for write in written:
        old, new = write.old, write.new
        if old and new and new["status"] in _TOLD and new["status"] != old["status"]:
            subject = f"Order {new['id']} was {old['status']} and is {new['status']} now"
            due[new["email"]].append(subject)
    return due
