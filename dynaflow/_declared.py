"""What an App says of itself, without running anything: its routes, and what they need and want."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from dynaflow._needs import ImageNeed, image_needs, least_view_type, leaves_out, refuse_unmet
from dynaflow._overriding import Overridable
from dynaflow._route import Route
from dynaflow._table import RouteTable
from dynaflow.codec import tables_of_event
from dynaflow.dead_letter import DeadLetter
from dynaflow.engine.order import Ordering
from dynaflow.engine.parking import Parking
from dynaflow.middleware import Middleware
from dynaflow.permissions import Permission, permissions_of
from dynaflow.record import Record, Undecodable

if TYPE_CHECKING:
    from dynaflow._explain import Explanation
    from dynaflow.pushdown import Pushdown

__all__ = ["Declared", "PushdownOptions"]


class PushdownOptions(TypedDict, total=False):
    """The options of ``App.pushdown``, which has the texts."""

    view_type: str | None
    max_patterns: int
    from_kinesis: bool


class Declared:
    """The half of an App that is for whoever wants to know of it; ``App`` has the one that runs."""

    _tables: Overridable
    _ordering: Ordering
    _parking: Parking | None
    _unmatched: str

    @property
    def routes(self) -> tuple[Route, ...]:
        """All routes in order of registration, with what their routers add to them."""
        return tuple(compiled.route for compiled in self._table.routes)

    @property
    def called(self) -> list[tuple[Callable[..., Any], str]]:
        """Every handler and dependency that a call calls, each with its route's name."""
        return [
            (function, compiled.name)
            for compiled in self._table.routes
            for function in (*(step.function for step in compiled.needs.steps), compiled.handler)
        ]

    def permissions(self) -> tuple[Permission, ...]:
        """Return what dead letters, middleware and dependencies need permission for in AWS.

        The stream, the logs and what handlers call by themselves are not among it. Nothing is
        opened or connected.

        Raises:
            DynaflowError: one of them says something else than permissions.
        """
        routes = self._table.routes
        return permissions_of(
            self.dead_letter,
            *self.layers,
            *(step.function for compiled in routes for step in compiled.needs.steps),
            *(shared.function for shared in self._table.shared),
        )

    @property
    def layers(self) -> tuple[Middleware, ...]:
        """All middleware: the App's, then what routers and routes add; each of them once."""
        of_routes = (layer for route in self.routes for layer in route.middleware)
        return tuple({id(layer): layer for layer in (*self._table.middleware, *of_routes)}.values())

    @property
    def dead_letter(self) -> DeadLetter | None:
        """Where records go that are given up; None for nowhere."""
        return None if self._parking is None else self._parking.sink

    @property
    def fails_unmatched(self) -> bool:
        """True if records that no route takes fail."""
        return self._unmatched == "fail"

    def accepts(self, event: Any) -> bool:
        """Return True if an event holds records of a table that one of the routes takes.

        From DynamoDB Streams, or from a Kinesis stream that DynamoDB writes to; what filters say is
        not asked. For a function with several event sources. It never raises, whatever it is given.

        Args:
            event: a Lambda event of any source, as a mapping, or the list that EventBridge Pipes
                sends.
        """
        tables = tables_of_event(event)
        wanted = {route.table for route in self.routes}
        # Records without an ARN are accepted: they fail with a clear error instead of being lost.
        return bool(tables and wanted) and (
            None in tables or None in wanted or not tables.isdisjoint(wanted)
        )

    def image_needs(self, table: str | None = None) -> tuple[ImageNeed, ...]:
        """Return which images the routes ask for, on which events, and what asks for them.

        That is what handlers and dependencies take, also ``old: Order | None``, and what filters
        read. Of what a Record or a Change is asked for, nothing is known.

        Args:
            table: leaves out routes that are for other tables; None leaves out none.
        """
        return image_needs(self._table, table)

    def least_view_type(self, table: str | None = None) -> str:
        """Return the smallest view type of a stream that has all of ``image_needs(table)``."""
        return least_view_type(self.image_needs(table))

    def refuse_view_type(self, view_type: str | None, table: str | None = None) -> None:
        """Raise if a stream of this view type leaves out an image that a route asks for.

        Lambda's handler does it with the first record of each stream, the poller before it starts.

        Args:
            view_type: KEYS_ONLY, NEW_IMAGE, OLD_IMAGE or NEW_AND_OLD_IMAGES; of None, or anything
                else, nothing is known, and it is not refused.
            table: the stream's table, as for ``image_needs``.

        Raises:
            ViewTypeMismatch: names everything that asks for such an image, and what to do.
        """
        if leaves_out(view_type):  # else it takes time in the first invocation for nothing
            refuse_unmet(self.image_needs(table), view_type, table)

    def explain(self, record: Record | Undecodable, *, show_data: bool = False) -> Explanation:
        """Return for each route whether it would run for a record, and why; nothing is run.

        Filters are asked as they are when the record is routed, functions among them.
        ``print(app.explain(record))`` is meant to be read.

        Args:
            record: as decoded from an event; of an ``Undecodable`` it is said why.
            show_data: whether the texts show the values that filters found, not only their types.
        """
        from dynaflow._explain import explain

        lane_of = self._ordering.lane_of
        return explain(self._table, record, lane_of=lane_of, show_data=show_data)

    def pushdown(
        self,
        table: str | None = None,
        *,
        view_type: str | None = None,
        max_patterns: int = 5,
        from_kinesis: bool = False,
    ) -> Pushdown:
        """Compile the filters for Lambda's event source mapping; nothing is opened or connected.

        Sound always: for every record that DynamoDB can write, if a route would run or fail, a
        pattern matches. What the patterns cannot say is reported, route by route.

        Args:
            table: whose stream the mapping reads; routes of other tables are left out. None for
                patterns that will do for the streams of all tables.
            view_type: the stream's view type. With None one pattern more keeps what would fail on a
                stream without the images that filters read.
            max_patterns: how many patterns the mapping takes: 5, or up to 10 by a higher quota.
            from_kinesis: whether the mapping reads a Kinesis stream that DynamoDB writes to. There
                is no filter then: these patterns would match none of its records.

        Raises:
            DynaflowError: no route takes records of the table, or an argument cannot be.
        """
        from dynaflow.pushdown import push_down

        return push_down(
            self.routes,
            table=table,
            view_type=view_type,
            max_patterns=max_patterns,
            wants_unmatched=self.fails_unmatched,
            from_kinesis=from_kinesis,
        )

    def filter_criteria(
        self, table: str | None = None, **options: Unpack[PushdownOptions]
    ) -> dict[str, Any]:
        """Return FilterCriteria for ``CreateEventSourceMapping``; ``{}`` is no filter.

        Arguments and errors are those of ``pushdown``.
        """
        return self.pushdown(table, **options).filter_criteria()

    def filter_patterns(
        self, table: str | None = None, **options: Unpack[PushdownOptions]
    ) -> list[dict[str, Any]]:
        """Return the patterns as objects, as AWS CDK's ``FilterCriteria.filter`` takes them.

        Arguments and errors are those of ``pushdown``.
        """
        return self.pushdown(table, **options).patterns

    @property
    def _table(self) -> RouteTable:
        return self._tables.current
