from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from bncheck.errors import NotAModel, UnreadableModel
from bncheck.readers import read
from bncheck.readers.source import BytesSource, FileSource

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="POSIX files")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a model, a file beside it, and a file in the folder above."""
    (tmp_path / "secret.bin").write_bytes(b"secret")
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(b"0123456789")
    (folder / "weights.bin").write_bytes(b"weights")
    return folder


@pytest.mark.parametrize("make_source", [FileSource, lambda path: BytesSource(path.read_bytes())])
class TestRanges:
    def test_read(self, folder, make_source):
        source = make_source(folder / "model.onnx")
        assert (source.size, source.read(3, 4), source.read(10, 0)) == (10, b"3456", b"")

    @pytest.mark.parametrize(
        ("offset", "length"), [(0, 11), (10, 1), (11, 0), (-1, 1), (1, -1), (2**64, 1)]
    )
    def test_beyond_the_end(self, folder, make_source, offset, length):
        with pytest.raises(UnreadableModel, match="truncated download"):
            make_source(folder / "model.onnx").read(offset, length)


def test_a_file_that_shrinks(folder):
    source = FileSource(folder / "model.onnx")
    (folder / "model.onnx").write_bytes(b"01")
    with pytest.raises(UnreadableModel, match="shrank"):
        source.read(0, 10)


def test_without_pread(folder, monkeypatch):
    monkeypatch.delattr(os, "pread", raising=False)
    source = FileSource(folder / "model.onnx")
    assert (source.read(3, 4), source.read(0, 2)) == (b"3456", b"01")


def test_the_file_is_closed_with_the_last_reference(folder):
    source = FileSource(folder / "model.onnx")
    descriptor = source._descriptor
    del source
    with pytest.raises(OSError, match="descriptor"):
        os.fstat(descriptor)


class TestWhatIsNoFile:
    def test_missing(self, tmp_path):
        with pytest.raises(UnreadableModel, match="does not exist"):
            read(tmp_path / "no.pt")

    @posix_only
    def test_folder(self, tmp_path):
        with pytest.raises(UnreadableModel, match="folder"):
            read(tmp_path)
        with pytest.raises(UnreadableModel, match="not a regular file"):
            FileSource(tmp_path)

    @posix_only
    def test_a_pipe_is_not_waited_for(self, tmp_path):
        os.mkfifo(tmp_path / "model.pt")
        with pytest.raises(UnreadableModel, match="not a regular file"):
            read(tmp_path / "model.pt")

    @posix_only
    def test_device(self):
        with pytest.raises(UnreadableModel, match="not a regular file"):
            read("/dev/zero")

    @posix_only
    def test_a_link_to_nothing(self, tmp_path):
        (tmp_path / "model.pt").symlink_to(tmp_path / "gone")
        with pytest.raises(UnreadableModel, match="does not exist"):
            read(tmp_path / "model.pt")

    @posix_only
    def test_a_circle_of_links(self, tmp_path):
        (tmp_path / "model.pt").symlink_to(tmp_path / "model.pt")
        with pytest.raises(UnreadableModel):
            read(tmp_path / "model.pt")

    @pytest.mark.parametrize("name", ["a\0b", "x" * 5000, ""])
    def test_names_that_no_file_has(self, name):
        with pytest.raises(UnreadableModel):
            read(name)

    @posix_only
    @pytest.mark.skipif(os.geteuid() == 0 if sys.platform != "win32" else True, reason="root")
    def test_closed_to_us(self, tmp_path):
        (tmp_path / "model.pt").write_bytes(b"x")
        (tmp_path / "model.pt").chmod(0)
        with pytest.raises(UnreadableModel, match="permission denied"):
            read(tmp_path / "model.pt")


class TestSiblings:
    @pytest.mark.parametrize("name", ["weights.bin", "./weights.bin", "sub/weights.bin"])
    def test_beside_the_model(self, folder, name):
        (folder / "sub").mkdir()
        (folder / "sub" / "weights.bin").write_bytes(b"weights")
        sibling = FileSource(folder / "model.onnx").sibling(name)
        assert sibling is not None
        assert sibling.read(0, 7) == b"weights"

    def test_missing(self, folder):
        assert FileSource(folder / "model.onnx").sibling("gone.bin") is None

    def test_memory_has_none(self):
        assert BytesSource(b"").sibling("weights.bin") is None

    @pytest.mark.parametrize("name", ["../secret.bin", "a/../../secret.bin", "..", "/etc/passwd"])
    def test_a_name_that_leads_out_is_refused(self, folder, name):
        with pytest.raises(UnreadableModel, match="outside its own folder"):
            FileSource(folder / "model.onnx").sibling(name)

    @pytest.mark.parametrize("name", ["a\0b", "x" * 5000, "x/" * 3000])
    def test_a_name_that_no_file_has(self, folder, name):
        with pytest.raises(UnreadableModel):
            FileSource(folder / "model.onnx").sibling(name)

    @pytest.mark.parametrize("name", ["", "."])
    def test_the_folder_itself(self, folder, name):
        with pytest.raises(UnreadableModel):
            FileSource(folder / "model.onnx").sibling(name)

    @posix_only
    @pytest.mark.parametrize("as_folder", [False, True])
    def test_a_link_out_of_the_folder_is_refused(self, folder, as_folder):
        (folder / "link").symlink_to(folder.parent if as_folder else folder.parent / "secret.bin")
        with pytest.raises(UnreadableModel, match="links out of its own folder"):
            FileSource(folder / "model.onnx").sibling("link/secret.bin" if as_folder else "link")

    @posix_only
    def test_a_link_within_the_folder(self, folder):
        (folder / "link").symlink_to(folder / "weights.bin")
        assert FileSource(folder / "model.onnx").sibling("link").read(0, 7) == b"weights"

    @posix_only
    def test_a_folder_that_is_reached_through_a_link(self, folder):
        (folder.parent / "current").symlink_to(folder)
        source = FileSource(folder.parent / "current" / "model.onnx")
        assert source.sibling("weights.bin").read(0, 7) == b"weights"


@posix_only
class TestHubCache:
    """Every file of a snapshot links into one folder of blobs."""

    @pytest.fixture
    def snapshot(self, tmp_path: Path) -> Path:
        blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "abc"
        blobs.mkdir()
        snapshot.mkdir(parents=True)
        for name, blob in (("model.onnx", "1f"), ("weights.bin", "2e")):
            (blobs / blob).write_bytes(name.encode())
            (snapshot / name).symlink_to(f"../../blobs/{blob}")
        return snapshot

    def test_a_sibling_among_the_blobs(self, snapshot):
        assert FileSource(snapshot / "model.onnx").sibling("weights.bin").read(0, 7) == b"weights"

    def test_a_sibling_elsewhere_is_refused(self, snapshot):
        (snapshot / "other").symlink_to("../../../secret.bin")
        (snapshot.parents[2] / "secret.bin").write_bytes(b"secret")
        with pytest.raises(UnreadableModel, match="links out"):
            FileSource(snapshot / "model.onnx").sibling("other")

    def test_a_model_that_is_no_link_has_no_blobs(self, snapshot):
        (snapshot / "plain.onnx").write_bytes(b"x")
        with pytest.raises(UnreadableModel, match="links out"):
            FileSource(snapshot / "plain.onnx").sibling("weights.bin")

    def test_hyper_parameters_are_found_there(self, make, snapshot):
        data = make.torch(make.batch_norm(), make.batch_norm_data())
        arguments = make.Call("t.TrainingArguments", (), {"per_device_train_batch_size": 2})
        blobs = snapshot.parents[1] / "blobs"
        (blobs / "1f").write_bytes(data)
        (blobs / "2e").write_bytes(make.torch(arguments))
        (snapshot / "training_args.bin").symlink_to("../../blobs/2e")
        assert read(snapshot / "model.onnx")[0].batch_size.samples == 2


def test_a_text_path_and_a_path_are_the_same(folder):
    for path in (folder / "model.onnx", str(folder / "model.onnx")):
        with pytest.raises(NotAModel, match="is text"):
            read(path)
