"""A change of status becomes a mail; the mail service fails once, and no mail is lost."""

from __future__ import annotations

from dynaflow.demo.stage import Stage

from .app import app, archive, mail

ORDER = {"id": "A-100", "email": "ada@example.org", "status": "open", "total": 900}


async def play(stage: Stage) -> bool:
    """Let an order live, with a mail service that is down once."""
    mail.sent.clear()
    archive.clear()
    await stage.create_table("orders")
    async with stage.running(app, "orders"):
        stage.say("an order is placed, raised to 1200, paid, shipped and deleted")
        await stage.put("orders", ORDER)
        for change in ({"total": 1200}, {"status": "paid"}, {"status": "shipped"}):
            await stage.update("orders", {"id": "A-100"}, change)
        await stage.delete("orders", {"id": "A-100"})
        await stage.until(lambda: bool(archive))
    for to, subject in mail.sent:
        stage.say(f"mail to {to}: {subject}")
    return stage.judge(len(mail.sent) == 3, f"{len(mail.sent)} mails, 3 were due")
