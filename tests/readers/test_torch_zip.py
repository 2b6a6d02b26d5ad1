from __future__ import annotations

import pytest

from bncheck.errors import NotAModel, UnreadableModel


def batch_norm(make, **notes: bytes) -> bytes:
    return make.torch(make.batch_norm(), make.batch_norm_data(), **notes)


def test_reads_a_state_dict(make, read_bytes):
    (model,) = read_bytes(batch_norm(make))
    assert (model.format, model.content, model.member) == ("torch-zip", "state_dict", None)
    assert list(model.layers[0].running_var.values) == [2.0] * 4


@pytest.mark.parametrize("root", ["archive", "model", "Ein Modell", "a.b-c", "x/y"])
def test_the_top_folder_may_have_any_name(root, make, read_bytes):
    data = make.torch(make.batch_norm(), make.batch_norm_data(), root)
    if "/" in root:
        with pytest.raises(NotAModel):
            read_bytes(data)
    else:
        assert read_bytes(data)[0].layers


@pytest.mark.parametrize("name", ["model.pt", "model.onnx", "model.txt", "model"])
def test_the_name_of_the_file_says_nothing(name, make, read_bytes):
    assert read_bytes(batch_norm(make), name)[0].format == "torch-zip"


@pytest.mark.parametrize("notes", [{}, {"byteorder": b"little"}, {"version": b"3\n"}])
def test_small_entries_may_be_there_or_not(notes, make, read_bytes):
    assert list(read_bytes(batch_norm(make, **notes))[0].layers[0].bias.values) == [0.5] * 4


def test_big_endian(make, read_bytes):
    data = {key: value[3::-1] * 4 for key, value in make.batch_norm_data().items()}
    (model,) = read_bytes(make.torch(make.batch_norm(), data, byteorder=b"big"))
    assert list(model.layers[0].running_var.values) == [2.0] * 4


REFUSED = {
    "an unknown order of bytes": (lambda make: batch_norm(make, byteorder=b"middle"), "byte order"),
    "an order of bytes that is a book": (
        lambda make: batch_norm(make, byteorder=b"little" * 100),
        "600 bytes, over 64",
    ),
    "two top folders": (
        lambda make: make.zip(
            make.Entry("a/data.pkl", make.pickle({})), make.Entry("b/data.pkl", make.pickle({}))
        ),
        "more than one top folder",
    ),
    "TorchScript": (lambda make: batch_norm(make, **{"constants.pkl": b""}), "TorchScript"),
    "a storage of two types, one of them never used": (
        lambda make: make.torch(
            {"a": make.storage("weight", 4, "IntStorage"), "b": make.batch_norm()},
            make.batch_norm_data(),
        ),
        "two types",
    ),
    "a damaged pickle": (
        lambda make: make.zip(make.Entry("a/data.pkl", b"\x80\x02\xff.")),
        "no opcode",
    ),
    "an empty pickle": (lambda make: make.zip(make.Entry("a/data.pkl", b"")), "ends too early"),
    "a pickle in capitals too": (
        lambda make: make.zip(
            make.Entry("a/data.pkl", make.pickle({})), make.Entry("a/DATA.PKL", make.pickle({}))
        ),
        "another spelling",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name, make, read_bytes):
    build, reason = REFUSED[name]
    with pytest.raises(UnreadableModel, match=reason) as caught:
        read_bytes(build(make))
    assert not isinstance(caught.value, NotAModel)


@pytest.mark.parametrize("names", [["a.txt"], ["word/document.xml", "data.pkl"], ["arr_0.npy"]])
def test_other_archives_are_no_model(names, make, read_bytes):
    with pytest.raises(NotAModel, match="without a PyTorch model"):
        read_bytes(make.zip(*(make.Entry(name, b"x") for name in names)))


class TestStorages:
    """They are looked at only when a value is touched, and a fault is said then."""

    def test_missing(self, make, read_bytes):
        (model,) = read_bytes(make.torch(make.batch_norm(), {}))
        with pytest.raises(UnreadableModel, match=r"lacks the tensor data .*running_var"):
            _ = model.layers[0].running_var.values

    def test_too_short(self, make, read_bytes):
        (model,) = read_bytes(make.torch(make.batch_norm(), {"running_var": bytes(15)}))
        with pytest.raises(UnreadableModel, match="shorter than the tensor"):
            _ = model.layers[0].running_var.values

    def test_in_another_spelling_too(self, make, read_bytes):
        data = {**make.batch_norm_data(), "RUNNING_VAR": bytes(16)}
        (model,) = read_bytes(make.torch(make.batch_norm(), data))
        with pytest.raises(UnreadableModel, match="another spelling"):
            _ = model.layers[0].running_var.values

    def test_a_key_that_is_a_path_finds_nothing(self, make, read_bytes):
        described = {"bn.running_mean": make.tensor("../../data.pkl", (4,))}
        (model,) = read_bytes(make.torch(described))
        with pytest.raises(UnreadableModel, match="lacks"):
            _ = model.layers[0].running_mean.values


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.9, 0.999])
def test_a_truncated_download(keep, make, read_bytes):
    data = batch_norm(make)
    with pytest.raises(UnreadableModel, match="truncated download"):
        read_bytes(data[: int(len(data) * keep)])
