"""Files of arrays: safetensors with a JSON header, written atomically (`save_arrays`) and read lazily (`StoredArrays`)."""

import json
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, final

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

HEADER = "interp"


def write_atomically(path: str | Path, write: Any) -> Path:
    """Call `write` with a temporary path beside `path`, then rename the file to `path`; after a failure, no file is left behind.

    Raises:
        OSError: the folder is not writable or the disk is full; an existing file is unchanged.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    name = str(path.with_name(f".{path.name}.{secrets.token_hex(4)}"))
    try:
        Path(name).touch(exist_ok=False)
        # safetensors creates files that only their owner can read; this file gets the permissions of any other new file.
        permissions = Path(name).stat().st_mode
        write(name)
        Path(name).chmod(permissions)
        Path(name).replace(path)
    except OSError as error:
        raise OSError(
            f"could not write {path}: {error}; nothing was changed there. Free some space or choose another folder."
        ) from error
    except SafetensorError as error:
        raise OSError(
            f"could not write {path}: {error}; nothing was changed there. Free some space or choose another folder."
        ) from error
    finally:
        Path(name).unlink(missing_ok=True)
    return path


def write_text(path: str | Path, text: str) -> Path:
    """Write a text file atomically."""
    return write_atomically(path, lambda name: Path(name).write_text(text, encoding="utf-8"))


def save_arrays(path: str | Path, arrays: Mapping[str, Tensor], header: Mapping[str, Any]) -> Path:
    """Write arrays and a JSON header to one safetensors file, atomically."""
    plain = {n: a.detach().cpu().contiguous() for n, a in arrays.items()}
    return write_atomically(path, lambda name: save_file(plain, name, metadata={HEADER: json.dumps(dict(header))}))


@final
class StoredArrays(Mapping[str, Tensor]):
    """The arrays of a file by name; each is read on access."""

    def __init__(self, path: str | Path) -> None:
        """Read the header and the names.

        Raises:
            FileNotFoundError: the file does not exist.
            ValueError: the file was not written by `save_arrays`.
        """
        self.path = Path(path)
        if not self.path.is_file():
            raise FileNotFoundError(f"no file {self.path}")
        try:
            with safe_open(str(self.path), framework="pt") as file:
                metadata, self._names = file.metadata() or {}, tuple(file.keys())
        except SafetensorError as error:
            raise ValueError(f"{self.path} is not a safetensors file, or is truncated: {error}") from error
        if HEADER not in metadata:
            raise ValueError(f"{self.path} has no {HEADER!r} header: it was not saved by this package")
        self.header: dict[str, Any] = json.loads(metadata[HEADER])

    def __getitem__(self, name: str) -> Tensor:
        """Read one array."""
        if name not in self._names:
            raise KeyError(name)
        with safe_open(str(self.path), framework="pt") as file:
            return file.get_tensor(name)

    def __contains__(self, name: object) -> bool:
        """Return whether the file has an array of this name, without reading it."""
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names."""
        return iter(self._names)

    def __len__(self) -> int:
        """Return the number of arrays."""
        return len(self._names)
