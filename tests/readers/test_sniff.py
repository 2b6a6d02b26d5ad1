from __future__ import annotations

import pickle

import pytest

from bncheck.errors import NotAModel, UnreadableModel

NOT_MODELS = {
    "PNG": (b"\x89PNG\r\n\x1a\n" + bytes(100), "an image"),
    "JPEG": (b"\xff\xd8\xff\xe0" + bytes(100), "an image"),
    "GIF": (b"GIF89a" + bytes(100), "an image"),
    "WebP": (b"RIFF\x10\0\0\0WEBPVP8 " + bytes(100), "an image"),
    "PDF": (b"%PDF-1.7\n\x80\x81" + bytes(100), "a PDF"),
    "gzip": (b"\x1f\x8b\x08" + bytes(100), "gzip-compressed: unpack it first"),
    "xz": (b"\xfd7zXZ\0" + bytes(100), "xz-compressed"),
    "zstd": (b"\x28\xb5\x2f\xfd" + bytes(100), "zstd-compressed"),
    "tar": (b"a.txt".ljust(257, b"\0") + b"ustar\x0000" + bytes(300), "a tar archive"),
    "torch 0.1": (b"sys_info".ljust(257, b"\0") + b"ustar\x0000" + bytes(300), "before 0.2"),
    "empty zip": (b"PK\5\6" + bytes(18), "an empty zip archive"),
    "numpy": (b"\x93NUMPY\1\0" + bytes(100), "a numpy array"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(100), "an HDF5 file"),
    "GGUF": (b"GGUF\3\0\0\0" + bytes(100), "check the .onnx"),
    "TensorFlow Lite": (b"\x1c\0\0\0TFL3" + bytes(100), "TensorFlow Lite"),
    "ExecuTorch": (b"\x1c\0\0\0ET12" + bytes(100), "ExecuTorch"),
    "ELF": (b"\x7fELF\2\1\1" + bytes(100), "a compiled program"),
    "pickle": (pickle.dumps({"a": 1}, 4), "a Python pickle that torch.save did not write"),
    "text": (b"epoch,loss\n1,0.5\n", "is text"),
    "text with a BOM": ("\ufeffübung\n".encode(), "is text"),
    "text that is cut in a letter": (b"x" * 511 + "ü".encode(), "is text"),
    "JSON": (b'{"hidden_size": 16}', "is text"),
    "HTML": (b"<!DOCTYPE html>\n<html>", "a download that went wrong"),
    "HTML after a line": (b"\n\n<html>", "a download that went wrong"),
    "pickle of protocol 0": (pickle.dumps([1, "a"], 0), "is text"),
    "noise": (bytes(range(128, 256)) * 3, "no model that bncheck knows"),
    "zeros": (bytes(1000), "no model that bncheck knows"),
}


@pytest.mark.parametrize("name", NOT_MODELS)
def test_what_is_no_model_is_named(name, read_bytes):
    data, said = NOT_MODELS[name]
    with pytest.raises(NotAModel, match=said):
        read_bytes(data, "file.bin")


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n"
ABSENT = {"empty": (b"", "is empty"), "pointer": (LFS, "run git lfs pull")}


@pytest.mark.parametrize("kind", ABSENT)
@pytest.mark.parametrize("suffix", [".pt", ".PTH", ".ckpt", ".bin", ".onnx", ".safetensors"])
def test_a_model_that_is_not_there_is_unreadable(kind, suffix, read_bytes):
    data, said = ABSENT[kind]
    with pytest.raises(UnreadableModel, match=said) as caught:
        read_bytes(data, f"model{suffix}")
    assert not isinstance(caught.value, NotAModel)


@pytest.mark.parametrize("kind", ABSENT)
@pytest.mark.parametrize("name", ["__init__.py", "image.png", "model"])
def test_any_other_file_that_is_not_there_is_no_model(kind, name, read_bytes):
    data, said = ABSENT[kind]
    with pytest.raises(NotAModel, match=said):
        read_bytes(data, name)
