"""The few exceptions of edge-claid. Each class has its exit code; each message names the thing and the fix."""


class EdgeClaidError(Exception):
    """Base of every error a user can cause or mend; shown as one line, a traceback only with ``--debug``."""

    exit_code = 1


class UsageError(EdgeClaidError):
    """Wrong use: an argument, a file or a value that cannot work."""

    exit_code = 2


class BadImageError(UsageError):
    """A picture that cannot be used; a batch rejects it with this message and goes on."""


class MachineError(EdgeClaidError):
    """A library, driver, network file or version of this machine is missing or unfit."""

    exit_code = 3


class EngineError(EdgeClaidError):
    """An engine is missing or stale."""

    exit_code = 4


class BuildError(EdgeClaidError):
    """Building an engine or a network file failed."""

    exit_code = 5


class AccuracyError(EdgeClaidError):
    """An accuracy gate failed."""

    exit_code = 6


class SourceError(EdgeClaidError):
    """A source of pictures was lost."""

    exit_code = 7


class SourceLostError(SourceError):
    """A live source that cannot be opened, or was given up after too many attempts to open it anew."""


class GalleryError(EdgeClaidError):
    """A gallery is corrupt, is no gallery, or belongs to another pipeline."""

    exit_code = 8


class StorageError(EdgeClaidError):
    """No space is left, or a place is not writable."""

    exit_code = 9
