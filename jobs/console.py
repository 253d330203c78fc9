"""The console of a job: expected failures are shown without a stack trace."""

from __future__ import annotations

import copy
import logging

import dagster as dg

from instsynth_dagster.errors import one_line

_FAILURE = f"{dg.Failure.__module__}.{dg.Failure.__qualname__}: "
_STACK = "\n\nStack Trace:"
_INTERRUPTED = ("DagsterExecutionInterruptedError", "KeyboardInterrupt")


def cause(event: dg.DagsterEvent) -> str:
    """The reason of the failure that an event of a step or run reports, in a line: the message of an expected failure,
    otherwise class and message of the innermost exception; "" where it reports none. The run's own log keeps the stack
    trace.
    """
    failure = event.step_failure_data if event.is_step_failure else None
    if failure and failure.user_failure_data and failure.user_failure_data.description:
        return failure.user_failure_data.description
    error = failure.error if failure else event.engine_event_data.error if event.is_engine_event else None
    while error and error.cause:
        error = error.cause
    return one_line(error.message) if error else ""


def _is_interruption(record: logging.LogRecord) -> bool:
    message = record.getMessage()
    return any(name in message for name in _INTERRUPTED)


class _OneInterruption(logging.Filter):
    """Passes the first record of an interrupt, and no other."""

    _reported = False

    def filter(self, record: logging.LogRecord) -> bool:
        if not _is_interruption(record):
            return True
        first, _OneInterruption._reported = not self._reported, True  # a job has several handlers
        return first


class _Short(logging.Formatter):
    """Formatter that shortens expected failures; the stored event and every other error keep their stack trace."""

    def __init__(self, full: logging.Formatter | None) -> None:
        super().__init__()
        self._full = full or logging.Formatter()

    def format(self, record: logging.LogRecord) -> str:
        if _is_interruption(record):
            return "interrupted; finished work is kept, and the next run continues from there"
        before, failed, after = record.getMessage().partition(_FAILURE)
        if failed:
            record = copy.copy(record)
            record.msg, record.args = f"{before.rstrip()} {after.split(_STACK)[0]}", ()
        return self._full.format(record)


@dg.logger(dg.colored_console_logger.config_schema, description="Foreseen failures in one line.")
def console(init_context: dg.InitLoggerContext) -> logging.Logger:
    """Dagster's coloured console logger, without stack traces of expected failures."""
    logger: logging.Logger = dg.colored_console_logger.logger_fn(init_context)
    for handler in logger.handlers:
        handler.setFormatter(_Short(handler.formatter))
        handler.addFilter(_OneInterruption())
    return logger
