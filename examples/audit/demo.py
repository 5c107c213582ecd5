"""Every change of an account goes into an audit table; the trail, replayed, is the table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from random import Random
from typing import Any

from dynaflow.demo.stage import Stage
from dynaflow.demo.storm import Item

from .app import TRAIL, app

_PEOPLE = ("ada", "grace", "alan")


async def play(stage: Stage) -> bool:
    """Change an account by hand, then let a storm of writes go over six, and replay the trail."""
    await stage.create_table("accounts")
    await stage.create_table(TRAIL, keys=("account", "change"))
    async with stage.running(app, "accounts"):
        await stage.put("accounts", {"id": "A-1", "plan": "free", "updated_by": "ada"})
        await stage.update("accounts", {"id": "A-1"}, {"plan": "team", "updated_by": "grace"})
        await stage.update("accounts", {"id": "A-1"}, {"seats": 5})
        await stage.delete("accounts", {"id": "A-1"})
        written = 4 + len(await stage.storm("accounts", writes=80, items=6, seed=7, make=change))
        await stage.until(lambda: has_entries(stage, written))
    trail = await stage.scan(TRAIL)
    for entry in trail:
        if entry["account"] == "A-1":
            what = f"{told(entry['old'])} -> {told(entry['new'])}"
            stage.say(f"{entry['event']:<6}  {what:<40}  by {entry['by']}")
    accounts = await stage.scan("accounts")
    return stage.judge(
        replay(trail) == accounts and len(trail) == written,
        f"{written} changes, {len(trail)} entries; replayed they give the table's "
        f"{len(accounts)} accounts: {'yes' if replay(trail) == accounts else 'no'}",
    )


def replay(trail: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the accounts that are there after these entries, in order of their ids."""
    accounts: dict[str, dict[str, Any]] = {}
    for entry in sorted(trail, key=lambda entry: str(entry["change"])):
        account = accounts.setdefault(entry["account"], {})
        for name in entry["old"]:
            del account[name]
        account.update(entry["new"])
    return [accounts[id_] for id_ in sorted(accounts) if accounts[id_]]


def change(chance: Random, key: Item, old: Item | None) -> Item | None:
    """Make up an account's next state; now and then it is closed, and opened again later on."""
    if old is not None and chance.random() < 0.15:
        return None
    account: dict[str, Any] = {
        "plan": chance.choice(("free", "team", "firm")),
        "address": {"city": chance.choice(("Oslo", "Bergen")), "lines": [chance.randrange(9)]},
        "updated_by": chance.choice(_PEOPLE),
    }
    if chance.random() < 0.5:
        account["seats"] = chance.randrange(1, 50)
    return account


async def has_entries(stage: Stage, count: int) -> bool:
    """Tell whether the trail has so many entries."""
    return len(await stage.scan(TRAIL)) >= count


def told(attributes: Mapping[str, Any]) -> str:
    """Return attributes in a few words."""
    named = (f"{name} {value}" for name, value in sorted(attributes.items()) if name != "id")
    return ", ".join(item for item in named if not item.startswith("updated_by")) or "-"
