"""The few errors a user can cause; each message names the file or key and the fix."""

import errno


class UserError(Exception):
    """Base of everything the user can mend; entry points print it as one line."""


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


def is_transient(error: BaseException) -> bool:
    """Whether the same call may well succeed in a while: a network or a disk that did not answer."""
    if isinstance(error, TimeoutError | ConnectionError):
        return True
    return isinstance(error, OSError) and error.errno in _TRANSIENT


class DatasetError(UserError):
    """A data set that does not keep the Cityscapes layout."""


class SettingsError(UserError):
    """A params file with a wrong, missing or unknown key."""


class ArtifactError(UserError):
    """An artifact partition that is missing, damaged or not finished."""


class CheckpointError(UserError):
    """A model folder or id that cannot be loaded."""
