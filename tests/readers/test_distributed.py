"""Checkpoints of torch.distributed, made by hand."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bncheck.errors import NotAModel, UnreadableModel
from bncheck.facts import UnknownFact
from bncheck.readers import read
from bncheck.readers.torch import chunks

META = "torch.distributed.checkpoint.metadata"
OPTIMIZER = {"optimizer.state.0.step": ("optimizer", "state", "0", "step")}
GROUPS = {"optimizer.param_groups.0.lr": ("optimizer", "param_groups", 0, "lr")}


class Pairs(dict):
    """A dictionary whose keys no dictionary of Python could hold."""

    def __init__(self, pairs: list[tuple[object, object]]) -> None:
        self._pairs = pairs

    def items(self) -> list[tuple[object, object]]:
        return self._pairs


@dataclass
class Checkpoint:
    """What save() writes; tensors are added in chunks, then described as asked."""

    make: type
    folder: Path
    files: dict[str, bytes] = field(default_factory=dict)
    described: dict[str, object] = field(default_factory=dict)
    places: list[tuple[object, object]] = field(default_factory=list)
    paths: dict[str, tuple[str | int, ...]] = field(default_factory=dict)

    def size(self, shape: Iterable[int]) -> object:
        return self.make.Call("torch.Size", (tuple(shape),))

    def instance(self, name: str, state: object) -> object:
        return self.make.Call(f"{META}.{name}", (), state, new=True)

    def store(self, name: str, offsets: tuple[int, ...], data: bytes, file: str, **more) -> None:
        begin = len(self.files.get(file, b""))
        self.files[file] = self.files.get(file, b"") + data
        index = {"fqn": name, "offset": self.size(offsets), "index": 0}
        info = {"relative_path": file, "offset": begin, "length": len(data), **more}
        stored = self.make.Call("torch.distributed.checkpoint.filesystem._StorageInfo", (), info)
        self.places.append((self.instance("MetadataIndex", index), stored))

    def chunk(self, offsets: tuple[int, ...], sizes: tuple[int, ...]) -> object:
        state = {"offsets": self.size(offsets), "sizes": self.size(sizes)}
        return self.instance("ChunkStorageMetadata", state)

    def tensor(self, name: str, shape, parts, path=(), **more) -> None:
        """``parts``: (offsets, sizes, values, file) of each chunk."""
        for offsets, sizes, values, file in parts:
            held = self.make.tensor("0", sizes)
            data = {"0": struct.pack(f"<{len(values)}f", *values)}
            self.store(name, offsets, self.make.torch(held, data), file, **more)
        dtype = (self.make.Name("torch.float32"), None, False, None, False)
        state = {
            "properties": self.instance("TensorProperties", dtype),
            "size": self.size(shape),
            "chunks": [self.chunk(offsets, sizes) for offsets, sizes, *_ in parts],
        }
        self.described[name] = self.instance("TensorStorageMetadata", state)
        self.paths[name] = path or (name,)

    def write(self, **changes: object) -> Path:
        state = {
            "state_dict_metadata": self.described,
            "planner_data": self.paths,
            "storage_data": Pairs(self.places),
            **changes,
        }
        held = self.instance("Metadata", state)
        (self.folder / ".metadata").write_bytes(self.make.pickle(held))
        for name, data in self.files.items():
            (self.folder / name).write_bytes(data)
        return self.folder


@pytest.fixture
def checkpoint(make, tmp_path) -> Checkpoint:
    return Checkpoint(make, tmp_path)


@pytest.fixture
def written(checkpoint) -> Callable[..., Path]:
    """A checkpoint of one BatchNorm, with an optimizer where asked."""

    def write(keys: tuple[str, ...] = (), optimizer: bool = False, **changes: object) -> Path:
        for i, role in enumerate(("weight", "bias", "running_mean", "running_var")):
            parts = [((0,), (4,), [float(i + 1)] * 4, f"__{i % 2}_0.distcp")]
            checkpoint.tensor(".".join((*keys, f"bn.{role}")), (4,), parts, (*keys, f"bn.{role}"))
        if optimizer:
            checkpoint.paths |= OPTIMIZER | GROUPS
            empty = checkpoint.instance("BytesStorageMetadata", None)
            checkpoint.described |= dict.fromkeys(OPTIMIZER | GROUPS, empty)
        return checkpoint.write(**changes)

    return write


def reason(path: Path) -> str:
    with pytest.raises(UnreadableModel) as caught:
        read(path)
    return caught.value.reason


@pytest.mark.parametrize("named", ["", ".metadata"])
def test_reads_a_state_dict(written, named):
    (model,) = read(written() / named)
    (layer,) = model.layers
    assert (model.format, model.content, model.member) == ("torch-distributed", "state_dict", None)
    assert (layer.name, layer.kind, layer.num_features) == ("bn", "batch", 4)
    assert [layer.weight.values[0], layer.running_var.values[3]] == [1.0, 4.0]


def test_nested_dictionaries_are_restored(written):
    (model,) = read(written(("app", "model"), optimizer=True))
    assert (model.member, model.content) == ("app.model", "checkpoint")
    assert model.layers[0].name == "bn"


def test_an_optimizer_beside_makes_a_training_checkpoint(written):
    (model,) = read(written(("model",), optimizer=True))
    assert model.training_state == "it holds the state of an optimizer"


def test_without_paths_the_names_are_kept(written):
    (model,) = read(written(("model",), planner_data=None))
    assert [layer.name for layer in model.layers] == ["model.bn"]


def values(checkpoint: Checkpoint, shape, parts) -> list[float]:
    """A running_mean in chunks, which numbers fill in their order."""
    count = 0
    filled = []
    for i, (offsets, sizes) in enumerate(parts):
        numel = chunks.prod(sizes)
        held = [float(count + n) for n in range(numel)]
        filled.append((offsets, sizes, held, f"__{i}_0.distcp"))
        count += numel
    checkpoint.tensor("bn.running_mean", shape, filled)
    checkpoint.tensor("bn.running_var", shape, [((0,) * len(shape), shape, [1.0] * count, "v")])
    (model,) = read(checkpoint.write())
    return list(model.layers[0].running_mean.values)


@pytest.mark.parametrize(
    ("shape", "parts", "expected"),
    [
        ((), [((), ())], [0]),
        ((4,), [((0,), (4,))], [0, 1, 2, 3]),
        ((4,), [((0,), (3,)), ((3,), (1,))], [0, 1, 2, 3]),
        ((4,), [((2,), (2,)), ((0,), (2,))], [2, 3, 0, 1]),
        ((4,), [((0,), (4,)), ((4,), (0,))], [0, 1, 2, 3]),
        ((3, 2), [((0, 0), (1, 2)), ((1, 0), (2, 2))], [0, 1, 2, 3, 4, 5]),
        ((2, 3), [((0, 0), (2, 1)), ((0, 1), (2, 2))], [0, 2, 3, 1, 4, 5]),
        ((2, 2, 2), [((0, 0, 0), (2, 1, 2)), ((0, 1, 0), (2, 1, 2))], [0, 1, 4, 5, 2, 3, 6, 7]),
        ((2, 1, 2), [((0, 0, 0), (2, 1, 1)), ((0, 0, 1), (2, 1, 1))], [0, 2, 1, 3]),
    ],
)
def test_chunks_are_put_together(checkpoint, shape, parts, expected):
    assert values(checkpoint, shape, parts) == expected


class TestRefused:
    @pytest.mark.parametrize(
        ("shape", "parts"),
        [
            ((4,), [((0,), (3,))]),
            ((4,), [((0,), (3,)), ((2,), (2,))]),
            ((4,), [((1,), (4,))]),
            ((4,), [((0,), (2,)), ((0, 2), (1, 2))]),
            ((2, 2), [((0, 0), (1, 2))]),
        ],
    )
    def test_chunks_that_do_not_fit(self, checkpoint, shape, parts):
        with pytest.raises(UnreadableModel, match="do not make up"):
            values(checkpoint, shape, parts)

    def test_chunks_that_overlap(self, checkpoint):
        parts = [((0,), (2,)), ((1,), (2,)), ((3,), (0,))]
        with pytest.raises(UnreadableModel, match="that overlap"):
            values(checkpoint, (4,), parts)

    def test_a_shape_that_no_tensor_has(self, checkpoint):
        checkpoint.tensor("bn.running_var", (2**63,), [((0,), (2**63,), [], "a.distcp")])
        assert "shape that no tensor can have" in reason(checkpoint.write())

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"state_dict_metadata": {}}, "names no tensor"),
            ({"state_dict_metadata": None}, "names no tensor"),
            ({"storage_data": None}, "without the places"),
            ({"storage_data": {}}, "does not say where 'bn.weight' is stored"),
            ({"storage_data": Pairs([(1, 2)])}, "without a name"),
            ({"planner_data": {"bn.weight": ("x",), "bn.bias": ("x",)}}, "names 'x' twice"),
            ({"planner_data": {"bn.weight": ("x",), "bn.bias": ("x", "y")}}, "into 'x'"),
            ({"planner_data": {"bn.weight": ("x", "y"), "bn.bias": ("x",)}}, "names 'x' twice"),
            ({"planner_data": {"bn.weight": (None,)}}, "unknown path"),
            ({"planner_data": {"bn.weight": ("x",) * 100}}, "unknown path"),
        ],
    )
    def test_metadata(self, written, changes, said):
        assert said in reason(written(**changes))

    @pytest.mark.parametrize("name", ["../out.distcp", "/etc/passwd", "a/../../b"])
    def test_a_file_outside_the_folder(self, checkpoint, name):
        part = (((0,), (4,), [1.0] * 4, "__0_0.distcp"),)
        checkpoint.tensor("bn.running_mean", (4,), part, relative_path=name)
        assert "outside its own folder" in reason(checkpoint.write())

    @pytest.mark.parametrize(
        ("place", "said"),
        [
            ({"relative_path": "__9_0.distcp"}, "lacks its part '__9_0.distcp'"),
            ({"offset": 1}, "shorter"),
            ({"offset": -1}, "shorter"),
            ({"length": 10**6}, "shorter"),
            ({"length": -1}, "shorter"),
            ({"offset": None}, "no place in a file"),
            ({"relative_path": 3}, "no place in a file"),
        ],
    )
    def test_a_place_that_is_none(self, checkpoint, place, said):
        part = (((0,), (4,), [1.0] * 4, "__0_0.distcp"),)
        checkpoint.tensor("bn.running_mean", (4,), part, **place)
        assert said in reason(checkpoint.write())

    def test_two_tensors_in_one_place(self, checkpoint):
        part = (((0,), (4,), [1.0] * 4, "__0_0.distcp"),)
        checkpoint.tensor("bn.running_mean", (4,), part)
        checkpoint.tensor("bn.running_var", (4,), part, offset=0)
        assert "overlap in '__0_0.distcp'" in reason(checkpoint.write())

    def test_a_chunk_stored_twice(self, checkpoint):
        part = (((0,), (4,), [1.0] * 4, "__0_0.distcp"),)
        checkpoint.tensor("bn.running_mean", (4,), part)
        checkpoint.tensor("bn.running_mean", (4,), part)
        assert "stores 'bn.running_mean' twice" in reason(checkpoint.write())

    def test_other_tensors_than_described(self, checkpoint):
        checkpoint.tensor("bn.running_mean", (4,), [((0,), (4,), [1.0] * 4, "a.distcp")])
        checkpoint.tensor("bn.running_var", (4,), [((0,), (4,), [1.0] * 4, "a.distcp")])
        held = checkpoint.make.tensor("0", (2, 2))
        checkpoint.files["a.distcp"] = checkpoint.make.torch(held, {"0": bytes(16)})
        checkpoint.places = []
        for name in checkpoint.described:
            checkpoint.store(name, (0,), checkpoint.make.torch(held, {"0": bytes(16)}), "a.distcp")
        (model,) = read(checkpoint.write())
        with pytest.raises(UnreadableModel, match="something else than its metadata says"):
            model.layers[0].running_mean.values  # noqa: B018


def huge(checkpoint: Checkpoint, shape: tuple[int, ...]) -> list[float]:
    """The values of a running_var of this shape, of which nothing is stored."""
    checkpoint.tensor("bn.running_var", shape, [((0,) * len(shape), shape, [], "a.distcp")])
    return list(read(checkpoint.write())[0].layers[0].running_var.values)


def test_a_tensor_of_over_the_budget_is_not_read(checkpoint):
    with pytest.raises(UnknownFact, match="elements are not read"):
        huge(checkpoint, (2**62,))


def test_a_tensor_of_no_elements_takes_no_time(checkpoint):
    assert huge(checkpoint, (2**40, 2**40, 0)) == []


def test_a_file_that_was_cut_names_itself(written):
    path = written()
    part = path / "__0_0.distcp"
    part.write_bytes(part.read_bytes()[:-1])
    assert "'__0_0.distcp'" in reason(path)


def test_compressed_tensors_are_not_read(checkpoint):
    part = (((0,), (4,), [1.0] * 4, "__0_0.distcp"),)
    for role in ("running_mean", "running_var"):
        checkpoint.tensor(f"bn.{role}", (4,), part, transform_descriptors=["zstd"])
    (model,) = read(checkpoint.write())
    with pytest.raises(UnknownFact, match="compressed"):
        model.layers[0].running_mean.values  # noqa: B018


def test_one_that_holds_an_optimizer_alone(checkpoint):
    empty = checkpoint.instance("BytesStorageMetadata", None)
    checkpoint.described = dict.fromkeys(OPTIMIZER | GROUPS, empty)
    checkpoint.paths = OPTIMIZER | GROUPS
    with pytest.raises(NotAModel):
        read(checkpoint.write() / ".metadata")


def test_budget_of_chunks(checkpoint, monkeypatch):
    monkeypatch.setattr(chunks, "MAX_OPENED", 1)
    parts = [((i,), (1,)) for i in range(4)]
    with pytest.raises(UnknownFact, match="1 chunks"):
        values(checkpoint, (4,), parts)
