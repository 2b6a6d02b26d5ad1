"""Names what is no model, by its first bytes, so that the message can say what to do instead."""

from __future__ import annotations

from bncheck.errors import NotAModel, UnreadableModel

# Only a file without content of its own is judged by its name: is it a model that is missing?
MODEL_SUFFIXES = frozenset(
    {".pt", ".pth", ".ckpt", ".bin", ".onnx", ".ort", ".pt2", ".safetensors", ".th", ".tar"}
)
LFS_POINTER = b"version https://git-lfs.github.com/spec/"

BOM = b"\xef\xbb\xbf"

_ASK_SOURCE = "check the .onnx or the checkpoint that it was made from"
# offset, bytes, what it is
_MAGICS = (
    *(
        (0, name + b"\0", "is in PyTorch's tar format of before 0.2, which is not read")
        for name in (b"sys_info", b"pickle", b"storages", b"tensors")
    ),
    (0, b"\x89PNG\r\n", "is an image (PNG), no model"),
    (0, b"\xff\xd8\xff", "is an image (JPEG), no model"),
    (0, b"GIF8", "is an image (GIF), no model"),
    (8, b"WEBP", "is an image (WebP), no model"),
    (0, b"%PDF", "is a PDF, no model"),
    (0, b"\x1f\x8b", "is gzip-compressed: unpack it first"),
    (0, b"BZh", "is bzip2-compressed: unpack it first"),
    (0, b"\xfd7zXZ", "is xz-compressed: unpack it first"),
    (0, b"\x28\xb5\x2f\xfd", "is zstd-compressed: unpack it first"),
    (0, b"7z\xbc\xaf", "is a 7z archive: unpack it first"),
    (0, b"Rar!", "is a RAR archive: unpack it first"),
    (257, b"ustar", "is a tar archive: unpack it first"),
    (0, b"PK\x05\x06", "is an empty zip archive"),
    (0, b"\x93NUMPY", "is a numpy array, no model"),
    (0, b"\x89HDF\r\n", f"is an HDF5 file (Keras?), which holds no PyTorch model: {_ASK_SOURCE}"),
    (0, b"GGUF", f"is a GGUF file, which cannot be checked: {_ASK_SOURCE}"),
    (4, b"TFL3", f"is a TensorFlow Lite model, which cannot be checked: {_ASK_SOURCE}"),
    (4, b"ODTC", f"is an onnxruntime training checkpoint, which cannot be checked: {_ASK_SOURCE}"),
    (4, b"ET12", f"is an ExecuTorch program, which cannot be checked: {_ASK_SOURCE}"),
    (0, b"ftrt", f"is a TensorRT engine, which cannot be checked: {_ASK_SOURCE}"),
    (0, b"ptrt", f"is a TensorRT engine, which cannot be checked: {_ASK_SOURCE}"),
    (0, b"\x7fELF", "is a compiled program, which cannot be checked: " + _ASK_SOURCE),
)


def refuse_known_others(start: bytes, suffix: str) -> None:
    """Raise what fits a file that begins so and that no reader takes; return where nothing does."""
    absent = UnreadableModel if suffix.lower() in MODEL_SUFFIXES else NotAModel
    if not start:
        raise absent("is empty")
    if start.startswith(LFS_POINTER):
        raise absent("is a Git LFS pointer, not the model itself: run git lfs pull")
    for offset, magic, what in _MAGICS:
        if start[offset : offset + len(magic)] == magic:
            raise NotAModel(what)
    if start[:1] == b"\x80" and start[1:2] in (b"\2", b"\3", b"\4", b"\5"):
        raise NotAModel("is a Python pickle that torch.save did not write: save it with torch.save")
    if _is_text(start.removeprefix(BOM)):
        html = start.lstrip()[:1] == b"<"
        what = "is HTML or XML: a download that went wrong?" if html else "is text, no model"
        raise NotAModel(what)


def _is_text(start: bytes) -> bool:
    try:
        text = start.decode("utf-8", "strict")
    except UnicodeDecodeError as error:
        if error.start < len(start) - 3:  # only a character cut in two at the end is fine
            return False
        text = start[: error.start].decode()
    return all(character.isprintable() or character.isspace() for character in text)
