"""App: routers plus how their handlers run, compiled once and then unchangeable."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
)
from typing import TYPE_CHECKING, Any, TypeAlias

from dynaflow._app_options import FailurePolicy, OnUnmatched, check_options, checked_dead_letter
from dynaflow._checks import checked_middleware, checked_observers, checked_unmatched
from dynaflow._compile import compile_routes
from dynaflow._declared import Declared
from dynaflow._dependencies import AppValues
from dynaflow._evaluation import open_here, open_on_loop
from dynaflow._flatten import flatten
from dynaflow._overriding import Overridable
from dynaflow._pump import MOMENT, Pump, wait_until_seen
from dynaflow._route import checked_defaults
from dynaflow.batch import Batch, BatchResult
from dynaflow.dead_letter import DeadLetter
from dynaflow.engine.lost import LostCalls
from dynaflow.engine.memory import Memory
from dynaflow.engine.order import OrderBy, checked_ordering
from dynaflow.engine.plan import Plan, make_plan, plan_one
from dynaflow.engine.threads import Threads, run_in_threads
from dynaflow.engine.work import OnProgress, Work
from dynaflow.errors import DynaflowError, ThreadsExhausted
from dynaflow.middleware import Call, Middleware
from dynaflow.observe import Observer, warn_of_unmatched
from dynaflow.record import Record, Undecodable
from dynaflow.retry import Retry
from dynaflow.routing import Router

if TYPE_CHECKING:
    from dynaflow._host import Host
    from dynaflow.engine.run import Runner

__all__ = [
    "REPORT_VARIABLE",
    "App",
    "FailurePolicy",
    "Lifespan",
    "OnUnmatched",
    "as_app",
    "is_told_to_report",
]

Lifespan: TypeAlias = Callable[["App"], AbstractAsyncContextManager[None]]

REPORT_VARIABLE = "DYNAFLOW_REPORT_BATCH_ITEM_FAILURES"
"""The environment variable that says whether the event source mapping takes partial failures."""


def is_told_to_report(text: str) -> bool | None:
    """Return what a text of that variable says; None for what is neither true nor false."""
    word = text.strip().lower()
    if word in ("1", "true", "yes", "on"):
        return True
    return False if word in ("", "0", "false", "no", "off") else None


class App(Declared):
    """Routers, and how their handlers run.

    Args:
        routers: their routes, in this order, are all that the App has. They take no more of them
            from now on.
        concurrency: how many calls may run at a time, over all batches.
        threads: how many worker threads run sync handlers; with 0 they run on the calling thread,
            where one that hangs cannot be cut off at the deadline.
        failure_policy: "stop_item" holds back later records of an item that failed and runs
            everything else; "stop" starts nothing above the lowest failure.
        order_by: which records run one after the other: those of an "item" (side by side with other
            items), of a "partition_key", or all of a "shard"; or a function of the record that
            returns the same hashable value for all records of an item.
        partition_key: that attribute's name, or names by table, for ``order_by="partition_key"``:
            records do not say which of two key attributes it is. Without it, records of tables
            with two run one after the other.
        middleware: around every call, outermost first, outside of the routers'.
        lifespan: an async context manager function that takes the App. It is open while batches
            are processed: where clients are made and closed.
        observers: see every call and batch end, beside the one that logs failures; each in a
            thread of its own. They cannot hurt a record, nor delay an answer by more than 0.3 s.
        unmatched: what becomes of records that no route takes: "ignore" counts them as done; "warn"
            does, too, and logs how many there were in a batch; "fail" fails them, so that their
            items' later records are held back.
        retry: how often a call is tried within one delivery, for routes whose routers do not say
            it; None for once.
        timeout: seconds of an attempt of an async handler, likewise.
        dead_letter: takes records that are given up, whole: see ``DeadLetter``. What cannot succeed
            later is parked at once: an undecodable record, a ``NonRetryable`` failure. Without it a
            failed record comes again until the platform gives it up.
        after_deliveries: after how many deliveries in which it failed any other record is parked,
            for routes whose routers do not say it; None for never. In Lambda each process counts
            for itself, so that it may take more.

    Raises:
        RegistrationError: anything about the routes that cannot work.
    """

    def __init__(
        self,
        *routers: Router,
        concurrency: int = 64,
        threads: int = 16,
        failure_policy: FailurePolicy = "stop_item",
        order_by: OrderBy = "item",
        partition_key: str | Mapping[str, str] | None = None,
        middleware: Sequence[Middleware] = (),
        lifespan: Lifespan | None = None,
        observers: Sequence[Observer] = (),
        unmatched: OnUnmatched = "ignore",
        retry: Retry | None = None,
        timeout: float | None = None,
        dead_letter: DeadLetter | None = None,
        after_deliveries: int | None = None,
    ) -> None:
        check_options(routers, concurrency, threads, failure_policy, lifespan)
        self._unmatched = checked_unmatched(unmatched)
        layers = checked_middleware(middleware, "App(middleware=...)")
        self.concurrency = concurrency
        self.threads = threads
        self.order_by = order_by
        self._stop_on_failure = failure_policy == "stop"
        self._lifespan = lifespan
        self._ordering = checked_ordering(order_by, partition_key)
        self._app_values = AppValues()
        checked = checked_observers(observers, "App(observers=...)")
        self._observers = tuple(Pump(observer) for observer in checked)
        self._threads = Threads(threads)
        self._lost = LostCalls()
        self._runner: Runner | None = None
        self._host: Host | None = None
        self._told_to_report: list[bool | None] = []
        self._memory = Memory()
        self._parking = checked_dead_letter(dead_letter)
        table = compile_routes(
            flatten(routers, checked_defaults("App(...)", None, retry, timeout, after_deliveries)),
            middleware=layers,
            in_thread=self._call_in_thread,
            app_values=self._app_values,
            has_dead_letters=dead_letter is not None,
        )
        self._tables = Overridable(table, self._app_values)

    @property
    def told_to_report(self) -> tuple[bool | None, ...]:
        """What each ``lambda_handler(report_batch_item_failures=...)`` was told so far."""
        return tuple(self._told_to_report)

    @property
    def has_lifespan(self) -> bool:
        """True if there is something to open before the first batch."""
        return self._lifespan is not None or bool(self._table.shared)

    @property
    def opens_without_loop(self) -> bool:
        """True if neither what is to be opened nor a route needs an event loop."""
        return (
            self._lifespan is None
            and not any(dependency.kind.is_async for dependency in self._table.shared)
            and all(route.is_sync for route in self._table.routes)
        )

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Open the App's lifespan for as long as the context lasts.

        First the App's own, then the dependencies of scope "app"; they close in reverse order. The
        doors do this themselves; whoever calls ``process`` does it around all of his calls.
        """
        if not self.has_lifespan:
            yield
            await self._flush_on_loop()
            return
        async with AsyncExitStack() as stack:
            if self._lifespan is not None:
                await stack.enter_async_context(self._lifespan(self))
            values = await stack.enter_async_context(open_on_loop(self._table.shared))
            stack.enter_context(self._app_values.holding(values))
            yield
            await self._flush_on_loop()

    @contextmanager
    def lifespan_without_loop(self) -> Iterator[None]:
        """Do the same as ``lifespan`` where ``opens_without_loop`` says that this will do."""
        with open_here(self._table.shared) as values, self._app_values.holding(values):
            yield

    def overrides(
        self, replacements: Mapping[Callable[..., Any], Callable[..., Any]]
    ) -> AbstractContextManager[None]:
        """Call other functions in place of dependencies while the context lasts; for tests.

        Args:
            replacements: by the function that ``Depends`` names, what is called instead. It may be
                of another kind and take parameters of its own. Those of scope "app" are replaced
                before the lifespan opens.

        Raises:
            RegistrationError: a key that no ``Depends`` of this App names, or a replacement that
                cannot work.
            DynaflowError: (on entry) the lifespan is open, and a replacement of scope "app" is not.
        """
        return self._tables.overriding(replacements)

    def plan(self, batch: Batch, *, memory: Memory | None = None) -> Plan:
        """Route every record of a batch, without running anything.

        Args:
            batch: the batch.
            memory: what is known of earlier deliveries; None for what this App remembers.
        """
        return make_plan(
            self._table,
            batch,
            self._ordering,
            memory=self._memory if memory is None else memory,
            parking=self._parking,
            fail_unmatched=self.fails_unmatched,
        )

    async def process(
        self,
        batch: Batch,
        *,
        may_start: Callable[[], bool] | None = None,
        on_progress: OnProgress | None = None,
        shared: bool = False,
        memory: Memory | None = None,
    ) -> BatchResult:
        """Run a batch on the current event loop, asyncio's or trio's.

        Args:
            batch: the records, and by when an answer is wanted.
            may_start: asked before each record starts; those that may not are not done.
            on_progress: told the last record below the low-water mark whenever that moved.
            shared: whether other batches may be processed at the same time; one slot and one
                thread then stay free for them, and observers are not waited for.
            memory: what is known of earlier deliveries of these records, and takes what becomes of
                this one; None for the App's own.

        Returns:
            What became of every record.

        Raises:
            DynaflowError: the lifespan is not open.
            ThreadsExhausted: too many calls outlived their deadline and still run.
            KeyboardInterrupt, MemoryError: a handler's.
        """
        self._refuse_if_not_open()
        plan = self.plan(batch, memory=memory)
        work = self.begin(plan, may_start=may_start, on_progress=on_progress)
        return await self._process(work, shared=shared)

    async def redrive(self, record: Record | Undecodable, route: str | None) -> BatchResult:
        """Run a record that was given up once more, on the route that its dead letter names.

        The route's filters are not asked, what earlier deliveries did is not minded, and nothing is
        parked: what fails stays in its dead letter.

        Args:
            record: as ``DeadLetterRecord.record`` returns it.
            route: the route's name; None, for a record that had reached no route, for all routes
                that match it.

        Raises:
            DynaflowError: the lifespan is not open, or no such route takes such a record.
        """
        self._refuse_if_not_open()
        batch = Batch((record,), record.source_arn)
        if route is None:
            plan = make_plan(
                self._table,
                batch,
                self._ordering,
                memory=Memory(),
                fail_unmatched=self.fails_unmatched,
            )
        else:
            plan = plan_one(self._table, batch, route)
        return await self._process(self.begin(plan))

    async def _process(self, work: Work, *, shared: bool = False) -> BatchResult:
        try:
            await self.run_on_loop(work, shared=shared)
        except BaseException:
            work.close()
            work.progress()
            raise
        result = work.finish()
        if not shared:
            await self._flush_on_loop(_moment_of(work))
        return result

    def begin(
        self,
        plan: Plan,
        *,
        may_start: Callable[[], bool] | None = None,
        on_progress: OnProgress | None = None,
        contain: bool = False,
    ) -> Work:
        """Return a planned batch as work for ``run_without_loop`` and ``run_on_loop``.

        Args:
            plan: from ``plan``.
            may_start: as for ``process``.
            on_progress: as for ``process``.
            contain: whether a handler's KeyboardInterrupt or MemoryError is its record's failure
                instead of being raised at the end.

        Raises:
            ThreadsExhausted: too many calls outlived their deadline and still run.
        """
        self._refuse_if_exhausted()
        if self._unmatched == "warn":
            warn_of_unmatched(plan.unmatched)
        return Work(
            plan,
            lost=self._lost,
            observers=self._observers,
            stop_on_failure=self._stop_on_failure,
            may_start=may_start,
            on_progress=on_progress,
            contain=contain,
        )

    def run_without_loop(self, work: Work) -> None:
        """Run what needs no event loop; ``work.needs_loop`` then says whether anything is left."""
        run_in_threads(work, self._threads, workers=self.concurrency)

    async def run_on_loop(self, work: Work, *, shared: bool = False) -> None:
        """Run everything that is left of a batch on the current event loop."""
        await self._get_runner().run(work, shared=shared)

    def flush(self, work: Work) -> None:
        """Give observers a moment to see the end of a finished batch, but no time past its own."""
        if self._observers:
            wait_until_seen(self._observers, _moment_of(work))

    async def _flush_on_loop(self, seconds: float = MOMENT) -> None:
        if self._observers:
            from dynaflow.engine.bridge import until_seen

            await until_seen(self._observers, seconds)

    def lambda_handler(
        self, *, report_batch_item_failures: bool | None = None
    ) -> Callable[..., Mapping[str, Any]]:
        """Return the plain function ``(event, context)`` that AWS Lambda calls.

        Args:
            report_batch_item_failures: True if the event source mapping has
                ``ReportBatchItemFailures`` in its FunctionResponseTypes. Otherwise Lambda ignores
                the list of failures, so the function raises, and the whole batch comes again.
                None asks the environment variable ``DYNAFLOW_REPORT_BATCH_ITEM_FAILURES``.
        """
        from dynaflow.aws_lambda import make_handler, make_host

        if self._host is None:
            self._host = make_host(self)
        self._told_to_report.append(report_batch_item_failures)
        return make_handler(self._host, report_batch_item_failures=report_batch_item_failures)

    def _get_runner(self) -> Runner:
        if self._runner is None:
            from dynaflow.engine.run import Runner

            self._runner = Runner(
                concurrency=self.concurrency, threads=self._threads, lost=self._lost
            )
        return self._runner

    async def _call_in_thread(
        self, call: Call, function: Callable[[], Any], *, shield: bool = False
    ) -> Any:
        return await self._get_runner().call_in_thread(call, function, shield=shield)

    def _refuse_if_exhausted(self) -> None:
        if len(self._lost) >= (self._threads.size or self.concurrency):
            raise ThreadsExhausted(
                f"{len(self._lost)} calls outlived their deadline and still run; this process has "
                "to be restarted. Give what these handlers wait for a time-out."
            )

    def _refuse_if_not_open(self) -> None:
        if self.has_lifespan and not self._app_values.is_open:
            raise DynaflowError(
                "the App has a lifespan that is not open: call process() within "
                "'async with app.lifespan():'"
            )


def _moment_of(work: Work) -> float:
    """Return the seconds that observers get at the end of a batch."""
    left = work.gate.seconds_until_silent()
    return MOMENT if left is None else max(0.0, min(MOMENT, left))


def as_app(target: App | Router) -> App:
    """Return the App, or an App of nothing but this Router."""
    return App(target) if isinstance(target, Router) else target
