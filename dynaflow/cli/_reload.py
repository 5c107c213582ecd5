"""``dynaflow run --reload``: a child process reads the stream, and is replaced when a file changes.

The child has a process group of its own, so that Ctrl-C reaches only this process, which passes it
on: else the child would take one Ctrl-C for two, and end without saving. From there it could not
read the terminal, so it has no stdin. It holds the reading end of a pipe whose other end only this
process has: at its end of file this process is gone, however that came, and the child ends, too.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from dynaflow.cli._exit import ExitCode
from dynaflow.cli._output import talk
from dynaflow.errors import ExtraMissing

__all__ = ["end_with_parent", "run_again_and_again"]

_LOOK = 200  # milliseconds between two looks at the child
_SETTLE = 100  # milliseconds without a change, after which those before are taken as one
_BEYOND_GRACE = 5.0  # seconds beyond its grace that a child has to end
_PIPE = "DYNAFLOW_PARENT_PIPE"  # names the child's end of the pipe, for the child alone
_SIGNALS: tuple[signal.Signals, ...] = (signal.SIGINT, signal.SIGTERM)
if os.name == "posix":  # a terminal that is closed tells only this process
    _SIGNALS = (*_SIGNALS, signal.SIGHUP)


def run_again_and_again(arguments: Sequence[str], directory: Path, *, grace: float) -> int:
    """Run ``dynaflow`` with these arguments, and anew whenever a Python file changes.

    A run that cannot be imported, or crashes, is followed by the next one when a file changes; one
    that ended well, or that AWS refused, by none.

    Args:
        arguments: of the command line, without ``--reload``.
        directory: its files, and those below it, are watched.
        grace: seconds that calls in flight have to end.

    Returns:
        The exit code.

    Raises:
        ExtraMissing: watchfiles is not installed.
    """
    try:
        from watchfiles import PythonFilter, watch
    except ImportError:
        raise ExtraMissing("watchfiles", "cli") from None
    stop, is_source = threading.Event(), PythonFilter()
    child = _Child(arguments, grace)
    with _signals_to(child, stop):
        # Unfiltered, so that it comes back here however busy the directory is. The watcher is at
        # work before the first child is, so that no change falls in between.
        for changes in watch(
            directory,
            watch_filter=None,
            debounce=10 * _SETTLE,
            step=_SETTLE,
            rust_timeout=_LOOK,
            yield_on_timeout=True,
            stop_event=stop,
            raise_interrupt=False,
        ):
            changed = {_shown(path, directory) for kind, path in changes if is_source(kind, path)}
            if changed:
                talk(f"{', '.join(sorted(changed))} changed: starting again")
                child.end()
            if changed or not child.was_started:
                child.start()
            elif (code := child.final_code()) is not None:
                return code
        return child.end()


def end_with_parent(grace: float) -> None:
    """In a child: when its parent is gone, end in order, as at a SIGTERM. Elsewhere nothing.

    Args:
        grace: seconds that calls in flight have to end.
    """
    pipe = os.environ.pop(_PIPE, None)
    if pipe is None:
        return
    descriptor = int(pipe)
    os.set_inheritable(descriptor, False)
    main = threading.main_thread().ident

    def watch() -> None:
        os.read(descriptor, 1)  # nothing is ever written
        # To the main thread: a signal that another one takes does not wake the event loop.
        signal.pthread_kill(main or 0, signal.SIGTERM)
        time.sleep(grace + _BEYOND_GRACE)
        os._exit(128 + signal.SIGTERM)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


class _Child:
    """The process that reads the stream: at most one at a time."""

    def __init__(self, arguments: Sequence[str], grace: float) -> None:
        self._command = (sys.executable, "-m", "dynaflow", *arguments)
        self._grace = grace
        # A pipe that is passed on to a child is POSIX's.
        self._pipe = os.pipe() if os.name == "posix" else None
        self._process: subprocess.Popen[bytes] | None = None
        self._is_asked = False
        self._is_mourned = False
        self._is_over = False

    @property
    def was_started(self) -> bool:
        """True once there was a process."""
        return self._process is not None

    def start(self) -> None:
        """Start a process, unless the end was requested."""
        if self._is_over:
            return
        self._is_asked = self._is_mourned = False
        # A file that is written twice in a second is taken for its compiled form of before.
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
        if self._pipe is not None:
            environment[_PIPE] = str(self._pipe[0])
        self._process = subprocess.Popen(  # noqa: S603 - it starts what runs here, with its options
            self._command,
            stdin=subprocess.DEVNULL,
            env=environment,
            pass_fds=() if self._pipe is None else self._pipe[:1],
            process_group=0 if os.name == "posix" else None,
        )
        if self._is_over:  # a signal came in between
            self.ask()

    def ask(self, number: int = signal.SIGTERM) -> None:
        """Ask the process to end in order; further requests change nothing."""
        if self._process is not None and not self._is_asked:
            self._is_asked = True
            self._process.send_signal(number)

    def ask_for_good(self, number: int) -> None:
        """Ask it, and start no other one; asked for the second time it ends at once."""
        if self._is_over and self._process is not None:
            self._process.send_signal(number)
        self._is_over = True
        self.ask(number)

    def end(self) -> int:
        """Wait for the end of the process, which is asked for; return the exit code."""
        if self._process is None:
            return ExitCode.OK
        self.ask()
        for make_sure in (self._process.terminate, self._process.kill):
            try:
                return _code(self._process.wait(self._grace + _BEYOND_GRACE))
            except subprocess.TimeoutExpired:
                make_sure()
        return _code(self._process.wait())

    def final_code(self) -> int | None:
        """Return the exit code of a process after which none is to follow; None while there is."""
        code = None if self._process is None else self._process.poll()
        if code in (ExitCode.OK, ExitCode.AWS_REFUSED):
            return code
        if code is not None and not self._is_mourned:
            self._is_mourned = True
            talk("waiting for a file to change")
        return None


@contextmanager
def _signals_to(child: _Child, stop: threading.Event) -> Iterator[None]:
    """Pass signals on to the child; when the child is left in any other way, it is gone."""

    def receive(number: int, _: FrameType | None) -> None:
        stop.set()
        # Of a closed terminal the child would know nothing, and be gone without saving.
        child.ask_for_good(signal.SIGINT if number == signal.SIGINT else signal.SIGTERM)

    before = {number: signal.signal(number, receive) for number in _SIGNALS}
    try:
        yield
    finally:
        child.end()
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _code(code: int) -> int:
    """Return an exit code as a shell reports it."""
    return 128 - code if code < 0 else code


def _shown(path: str, directory: Path) -> str:
    try:
        return str(Path(path).relative_to(directory.resolve()))
    except ValueError:
        return path
