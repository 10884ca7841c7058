"""The error tree and the exit codes. The long texts behind the codes are in `diagnostics`."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes. For commands that only read, 1 is a finding, and 2 is any error."""

    OK = 0
    """Done, also with nothing to do."""
    ERROR = 1
    """An error; nothing was written."""
    USAGE = 2
    """The command line is wrong."""
    REFUSED = 3
    """A call site was refused; nothing was written unless `--keep-going` was given."""


class ScpatchError(Exception):
    """Whatever ends a command with one message, and with exit code 1 if its class does not say
    otherwise.

    `code` is a key of `diagnostics.DIAGNOSTICS`; `file` is the name that the user gave, for an
    archive member `ARCHIVE(MEMBER)`; `where` is a place inside it, such as `.text+0x1a0 in f`.
    """

    status: Exit = Exit.ERROR
    """The exit code of a command that it ends."""

    def __init__(
        self, code: str, message: str, *, file: str = "", where: str = "", hint: str = ""
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.file = file
        self.where = where
        self.hint = hint

    def __reduce__(self) -> tuple[object, ...]:
        """For another process: its class, and all that it holds."""
        return _again, (type(self), self.args, self.__dict__)

    def __str__(self) -> str:
        message = f"{self.message} [{self.code}]" if self.code else self.message
        return ": ".join(filter(None, (self.file, self.where, message)))


def _again(
    kind: type[ScpatchError], arguments: tuple[object, ...], fields: dict[str, object]
) -> ScpatchError:
    error = kind.__new__(kind, *arguments)
    error.__dict__.update(fields)
    return error


class RefusedError(ScpatchError):
    """Call sites were refused, and nothing allows to write the rest: SCP135."""

    status = Exit.REFUSED


def damaged(file: str, message: str, where: str = "") -> ScpatchError:
    """The error for a file whose tables contradict each other or reach past its end."""
    return ScpatchError("SCP107", message, file=file, where=where)
