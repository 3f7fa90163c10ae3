"""What is asked of the disk: room, a confirmation, and a lock that ends with its holder."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import resource
import shutil
from pathlib import Path
from typing import IO

from understudy.errors import DatasetError

RESERVE_BYTES = 2 << 20
"""Left free on the disk beside what is asked for: HDF5 crashes the process when a full disk keeps it from closing a
file (measured with h5py 3.16), so it must never meet one."""
_SLACK_BYTES = 1 << 16
"""What HDF5 writes of its own beside the numbers."""


def require_space(folder: Path, needed: int, written: int = 0) -> None:
    """Refuse to begin what the disk, or the process's limit on the size of a file, has no room for.

    Args:
        folder: where it is to be written.
        needed: bytes.
        written: bytes that the same file has already.

    Raises:
        OSError: (ENOSPC) fewer than `needed` bytes, and some to spare, are free; (EFBIG) the file would be too large.
    """
    if shutil.disk_usage(folder).free < needed + RESERVE_BYTES:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
    if written + needed + _SLACK_BYTES > largest_file():
        raise OSError(errno.EFBIG, "the process may not write files this large (ulimit -f)", str(folder))


def largest_file() -> float:
    """Bytes that a file of this process may have."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    return float("inf") if limit == resource.RLIM_INFINITY else limit


def files_in(folder: Path) -> list[Path]:
    """The HDF5 files in a folder, by name: no hidden ones (which file managers leave), no pipes, no folders."""
    return sorted(file for file in folder.glob("*.hdf5") if not file.name.startswith(".") and file.is_file())


def sync(path: Path) -> None:
    """Have the disk confirm a file's content or a folder's entries."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def open_lock(path: Path) -> IO[bytes]:
    """Open a lock's file, making it if need be; what is in it does not matter.

    Raises:
        DatasetError: something else is in its place; a link is never followed.
        OSError: the folder cannot be written.
    """
    try:
        return os.fdopen(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666), "rb")
    except OSError as error:
        if error.errno not in (errno.EISDIR, errno.ELOOP):
            raise
        what = "a folder" if error.errno == errno.EISDIR else "a link"
        raise DatasetError(f"{path} is {what}; expected a plain file. Remove it: nothing is kept there.") from error


class LiveLock:
    """A lock file beside an episode in progress: held while its recorder lives, free once that is gone."""

    def __init__(self, recording: Path) -> None:
        self.path = recording.with_suffix(".lock")
        self._file: IO[bytes] | None = None

    def acquire(self) -> bool:
        """Take the lock; False when another recorder holds it."""
        while True:
            file = open_lock(self.path)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
                return False
            if _is_at(file, self.path):
                self._file = file
                return True
            file.close()  # its last holder removed the name between our opening and our locking it

    def release(self) -> None:
        """Let go of the lock and remove its file; safe to call twice."""
        if self._file is not None:
            with contextlib.suppress(OSError):  # a file that lies about locks nothing once it is closed
                self.path.unlink(missing_ok=True)
            self._file.close()
            self._file = None


def _is_at(file: IO[bytes], path: Path) -> bool:
    """Whether the open file is the one that has this name."""
    try:
        there = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return False
    here = os.fstat(file.fileno())
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)
