"""The few errors a user can cause; each message names the file or key and the fix."""


class UserError(Exception):
    """Base of everything the user can mend; entry points print it as one line."""


class DatasetError(UserError):
    """A data set that does not keep the Cityscapes layout."""


class SettingsError(UserError):
    """A params file with a wrong, missing or unknown key."""


class ArtifactError(UserError):
    """An artifact partition that is missing, damaged or not finished."""


class CheckpointError(UserError):
    """A model folder or id that cannot be loaded."""
