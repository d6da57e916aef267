import errno
import os
import subprocess
import sys

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from interp.data import storage
from interp.data.storage import StoredArrays, save_arrays, write_atomically, write_text


def test_arrays_and_header_survive_a_round_trip(tmp_path):
    arrays = {"a": torch.rand(3, 4), "b": torch.arange(5), "c": torch.tensor([True, False])}
    path = save_arrays(tmp_path / "deep" / "down" / "x.safetensors", arrays, {"name": "Zoë", "n": [1, 2]})
    stored = StoredArrays(path)
    assert stored.header == {"name": "Zoë", "n": [1, 2]}
    assert sorted(stored) == ["a", "b", "c"]
    assert len(stored) == 3
    for name, array in arrays.items():
        torch.testing.assert_close(stored[name], array, rtol=0, atol=0)


def test_views_are_saved_as_what_they_show(tmp_path):
    base = torch.arange(12.0).reshape(3, 4)
    stored = StoredArrays(save_arrays(tmp_path / "x", {"t": base.T, "part": base[:, 1]}, {}))
    torch.testing.assert_close(stored["t"], base.T)
    torch.testing.assert_close(stored["part"], base[:, 1])


def test_only_the_array_that_is_asked_for_is_read(tmp_path, monkeypatch):
    stored = StoredArrays(save_arrays(tmp_path / "x", {"a": torch.ones(2), "b": torch.zeros(2)}, {}))
    read = []
    real = storage.safe_open

    class Recorder:
        def __init__(self, *args, **kwargs):
            self.file = real(*args, **kwargs)

        def __enter__(self):
            self.file.__enter__()
            return self

        def __exit__(self, *args):
            return self.file.__exit__(*args)

        def get_tensor(self, name):
            read.append(name)
            return self.file.get_tensor(name)

    monkeypatch.setattr(storage, "safe_open", Recorder)
    assert "b" in stored
    stored["a"]
    assert read == ["a"]
    with pytest.raises(KeyError, match="c"):
        stored["c"]


def test_files_that_are_not_ours_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file .*missing\.safetensors"):
        StoredArrays(tmp_path / "missing.safetensors")
    (tmp_path / "text").write_text("hello")
    with pytest.raises(ValueError, match=r"text is not a safetensors file, or is truncated"):
        StoredArrays(tmp_path / "text")
    save_file({"a": torch.ones(2)}, tmp_path / "other")
    with pytest.raises(ValueError, match=r"other has no 'interp' header: it was not saved by this package"):
        StoredArrays(tmp_path / "other")


def test_a_truncated_file_is_refused(tmp_path):
    path = save_arrays(tmp_path / "x", {"a": torch.rand(100)}, {})
    whole = path.read_bytes()
    for length in (0, 4, 60, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="is not a safetensors file, or is truncated"):
            StoredArrays(path)


def full(name):
    """Write half a file, then find the disk full."""
    with open(name, "wb") as file:  # noqa: PTH123
        file.write(b"half")
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path):
    path = write_text(tmp_path / "x.txt", "old")
    with pytest.raises(
        OSError,
        match=r"could not write .*x\.txt: .*No space left on device; nothing was changed there. Free some space",
    ):
        write_atomically(path, full)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["x.txt"]


def test_what_goes_wrong_inside_safetensors_is_a_disk_error_too(tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(storage, "save_file", fail)
    with pytest.raises(OSError, match=r"could not write .*No space left on device .*nothing was changed there"):
        save_arrays(tmp_path / "x", {"a": torch.ones(1)}, {})
    assert not list(tmp_path.iterdir())


def test_any_other_failure_leaves_nothing_behind_and_is_not_renamed(tmp_path):
    def fail(name):
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        write_atomically(tmp_path / "x", fail)
    assert not list(tmp_path.iterdir())


LIMITED = """
import resource, signal, sys, torch
from interp.data.storage import StoredArrays, save_arrays
path = sys.argv[1]
save_arrays(path, {"a": torch.ones(10)}, {"which": "old"})
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    save_arrays(path, {"a": torch.ones(100_000)}, {"which": "new"})
except OSError as error:
    assert "could not write" in str(error), error
    assert StoredArrays(path).header == {"which": "old"}
    print("refused")
"""


def test_a_file_that_really_cannot_grow_is_refused_and_the_old_one_is_unharmed(tmp_path):
    path = tmp_path / "x.safetensors"
    done = subprocess.run([sys.executable, "-c", LIMITED, str(path)], capture_output=True, text=True, check=False)
    assert done.stdout == "refused\n", done.stderr
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_an_error(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OSError, match="could not write"):
        write_text(tmp_path / "x", "new")


def test_a_path_that_is_a_folder_is_refused(tmp_path):
    (tmp_path / "x").mkdir()
    with pytest.raises(OSError, match=r"could not write .*nothing was changed there"):
        write_text(tmp_path / "x", "text")
    assert [p.name for p in tmp_path.iterdir()] == ["x"]
