"""What a shop calls: stand-ins for a mail server, a carrier and an archive.

Each notes the effect that it had, so that whoever runs the shop can look at it afterwards.
"""

from __future__ import annotations

import time

import anyio

from dynaflow.demo.ledger import Effect

__all__ = ["Services"]

_ANSWER_TIME = 0.01  # seconds
_CARRIER_IS_DOWN_FOR = "A-104"


class Services:
    """A mail server, an archive, and a carrier that is down at the first call for one order."""

    def __init__(self) -> None:
        self.effects: list[Effect] = []
        self._carrier_is_down = True

    def restart(self) -> None:
        """Forget everything, as at the beginning of a day."""
        self.effects.clear()
        self._carrier_is_down = True

    async def send_mail(self, subject: str, order: str, version: int) -> None:
        """Tell the customer something about an order."""
        await anyio.sleep(_ANSWER_TIME)
        self.effects.append(Effect(order, version, subject))

    async def book_parcel(self, order: str, version: int) -> None:
        """Let the carrier fetch a parcel.

        Raises:
            ConnectionError: the carrier does not answer.
        """
        await anyio.sleep(_ANSWER_TIME)
        if order == _CARRIER_IS_DOWN_FOR and self._carrier_is_down:
            self._carrier_is_down = False
            raise ConnectionError("the carrier does not answer")
        self.effects.append(Effect(order, version, "parcel"))

    def archive(self, document: str, order: str, version: int) -> None:
        """File a document; the archive's client is not async."""
        time.sleep(_ANSWER_TIME)
        self.effects.append(Effect(order, version, document))
