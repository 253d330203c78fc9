"""The errors that a user can cause and fix; each message names the file or key and the fix."""

import errno
import re
from dataclasses import dataclass

_LONGEST, _REASON = 1000, 240
_BREAK = re.compile(r"[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")


def one_line(text: str) -> str:
    """Text on a single line, whatever line breaks names and libraries put into it."""
    joined = " ".join(line for part in _BREAK.split(text) if (line := part.strip()))
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in joined)
    return shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]} ..."


def reason(error: BaseException) -> str:
    """The message of a library's error on one line of at most 240 characters; the name of its type where the message is
    empty.
    """
    return one_line(" ".join(str(error).split())[:_REASON]) or type(error).__name__


class UserError(Exception):
    """Base class of all errors that the user can fix; the message is one line."""

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


_TRANSIENT = {
    errno.EAGAIN,
    errno.EIO,
    errno.ECONNABORTED,
    errno.ECONNREFUSED,
    errno.ECONNRESET,
    errno.EHOSTUNREACH,
    errno.ENETDOWN,
    errno.ENETRESET,
    errno.ENETUNREACH,
    errno.EPIPE,
    errno.ESTALE,
    errno.ETIMEDOUT,
}


_REFUSALS = {
    errno.ENOSPC: "no space left on the disk; free some",
    errno.EDQUOT: "the disk quota is used up; free some space",
    errno.EROFS: "the file system of the artifacts is read-only",
}


def is_transient(error: BaseException) -> bool:
    """Whether the same call may succeed later, because a network or a disk did not respond."""
    if isinstance(error, TimeoutError | ConnectionError):
        return True
    return isinstance(error, OSError) and error.errno in _TRANSIENT


class LockLost(TimeoutError):
    """Another process took a partition over while this one did not respond; the next attempt finds its result."""


class ArtifactReplaced(TimeoutError):
    """A partition was made again while it was read; the next attempt reads the new one."""


def what_happened(error: OSError) -> str:
    """The operating system's refusal as a line that a user can act on; "" for any other error."""
    if error.errno not in _REFUSALS:
        return ""
    return f"{_REFUSALS[error.errno]}; finished work is kept, and a refresh continues from there"


class DatasetError(UserError):
    """A data set that is not valid in its format."""


class SettingsError(UserError):
    """A params file with a wrong, missing or unknown key."""


class UnreadableError(UserError):
    """A file outside the store that is missing or may not be read."""


class ArtifactError(UserError):
    """An artifact partition that is missing, damaged or not finished."""


class DamagedArtifact(ArtifactError):
    """A file of the store that does not match its manifest; it is set aside, and a refresh makes it again."""


class BudgetReached(UserError):
    """The budget of device hours is too small for the next piece of work."""


class CheckpointError(UserError):
    """A model folder or id that cannot be loaded."""


@dataclass(frozen=True)
class Reader:
    """The reader of settings and partitions: a partition of an asset, and the file that declares what it may read."""

    asset: str
    partition: str
    file: str


class UndeclaredRead(RuntimeError):
    """A read that an asset did not declare, so that no fingerprint covers it: a mistake in the asset's own file."""

    def __init__(self, reader: Reader | None, read: str, remedy: str) -> None:
        """An error about `read`, what was read; `remedy` says what to add to the declaration."""
        who = f"{reader.asset}[{reader.partition}]" if reader else "this view of the settings"
        where = f" in {reader.file}" if reader else ""
        super().__init__(f"{who} reads {read}, which it does not declare; add {remedy}{where}")
