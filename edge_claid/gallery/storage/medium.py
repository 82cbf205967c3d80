"""Where a gallery file lies: its file system and that system's limits, and whether the file is still there."""

from __future__ import annotations

import os
from dataclasses import dataclass

from edge_claid.errors import GalleryError, StorageError

# The largest file of file systems that cannot hold any size: sizes there are 32 bits.
_LARGEST_FILE = {"vfat": 2**32 - 1, "msdos": 2**32 - 1}
_OF_SEVERAL_MACHINES = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "ceph", "glusterfs"}


def folder_of(path: str) -> str:
    return os.path.dirname(os.path.abspath(path))


def file_system(path: str, mounts_file: str = "/proc/self/mountinfo") -> str:
    """Type of the file system that holds ``path`` (a file, or one that is to be made there): "ext4", "vfat", …

    mounts_file: the kernel's list of mounts. "" where the system does not tell (only Linux does).
    """
    try:
        device = os.stat(folder_of(path)).st_dev
        wanted = f"{os.major(device)}:{os.minor(device)}"
        with open(mounts_file, encoding="utf-8", errors="surrogateescape") as mounts:
            for line in mounts:
                mount, _, source = line.partition(" - ")
                if mount.split(" ", 3)[2] == wanted:
                    return source.split(" ", 1)[0]
    except (OSError, IndexError, AttributeError):
        pass
    return ""


def largest_file(path: str) -> int | None:
    """Bytes the largest file may have where ``path`` lies; None without a limit that matters."""
    return _LARGEST_FILE.get(file_system(path))


def shared_by_machines(path: str) -> bool:
    """True on a network file system, where two machines do not see each other's locks and shared memory."""
    return file_system(path) in _OF_SEVERAL_MACHINES


def read_only(path: str) -> bool:
    """True where the whole medium is mounted read-only."""
    try:
        return bool(os.statvfs(folder_of(path)).f_flag & os.ST_RDONLY)
    except (OSError, AttributeError):
        return False


def free_bytes(path: str) -> int | None:
    """Bytes a user may still write where ``path`` lies, None where the system does not tell."""
    try:
        status = os.statvfs(folder_of(path))
    except (OSError, AttributeError):
        return None
    # Some file systems of FUSE tell nothing but zeros.
    return status.f_bavail * status.f_frsize if status.f_blocks else None


def read_trouble(path: str) -> str | None:
    """What the system says when the whole file is read, None where it can be."""
    try:
        with open(path, "rb", buffering=0) as file:
            while file.read(1 << 20):
                pass
    except OSError as error:
        return error.strerror
    return None


def nothing_at(path: str) -> bool:
    """True where no file is; raises OSError where that cannot be told, as in a folder that this user may not enter."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return True
    return False


def require_writable(path: str) -> None:
    """Raises StorageError with the fix where a gallery at ``path`` can be read at most."""
    if os.path.exists(path) and not os.access(path, os.W_OK) and not read_only(path):
        raise StorageError(f"gallery {path} may not be written by this user; change its permissions or copy it")
    # The write-ahead log lies beside the gallery.
    require_place(path)


def require_place(path: str) -> None:
    """Raises StorageError with the fix where no file can be made in the folder that is to hold ``path``."""
    folder = folder_of(path)
    if not os.path.isdir(folder):
        raise StorageError(f"gallery {path}: there is no folder {folder}; make it first")
    if read_only(path):
        raise StorageError(
            f"gallery {path} lies on a read-only medium; mount it writable, or copy the gallery to another place"
        )
    if not os.access(folder, os.W_OK):
        raise StorageError(f"gallery {path}: its folder {folder} may not be written by this user; choose another place")


@dataclass(frozen=True)
class Watch:
    """The file that was opened. frozen: nobody may change it either, since it is read without any lock."""

    path: str
    device: int
    inode: int
    size: int
    mtime_ns: int
    frozen: bool

    @classmethod
    def on(cls, path: str, frozen: bool = False) -> Watch:
        status = os.stat(path)
        return cls(path, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, frozen)

    def require_same(self) -> None:
        """Raises StorageError where the file is gone, GalleryError where another one has taken its place."""
        try:
            status = os.stat(self.path)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise StorageError(
                f"gallery {self.path} is gone: it was removed, or its medium was; bring it back and start again"
            ) from error
        except OSError as error:
            raise StorageError(f"gallery {self.path} cannot be reached any more ({error.strerror})") from error
        if (status.st_dev, status.st_ino) != (self.device, self.inode):
            raise GalleryError(f"gallery {self.path} was replaced by another file while it was open; open it anew")
        if self.frozen and (status.st_size, status.st_mtime_ns) != (self.size, self.mtime_ns):
            raise GalleryError(f"gallery {self.path} was changed while it was read without locks; open it anew")
