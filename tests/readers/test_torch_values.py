from __future__ import annotations

import pytest

from bncheck.errors import UnreadableModel
from bncheck.facts import Unknown, UnknownFact
from bncheck.readers.torch.pickle_machine import load
from bncheck.readers.torch.pickle_values import MAX_NAME, attributes, mapping
from bncheck.readers.torch.storage import Budget
from bncheck.readers.torch.values import is_optimizer, parameter
from bncheck.tensor import Tensor

UTILS = "torch._utils._rebuild"
ORDERED = "collections.OrderedDict"


class Storages:
    """One storage of the four bytes 0 to 3, under any key."""

    byteorder = "little"

    def __init__(self) -> None:
        self.budget = Budget()

    def read(self, key: str, offset: int, length: int) -> bytes:
        return bytes([0, 1, 2, 3])[offset : offset + length]


@pytest.fixture
def value(make):
    return lambda described: load(make.pickle(described)).value


@pytest.fixture
def found(value):
    return lambda described: parameter(value(described), Storages())


@pytest.fixture
def four(make):
    """A tensor of four bytes."""
    return make.tensor("0", (4,), kind="ByteStorage")


def values(made) -> list[float]:
    assert isinstance(made.tensor, Tensor)
    return list(made.tensor.values)


class TestWrappers:
    def test_a_bare_tensor_wants_no_gradient(self, found, four):
        made = found(four)
        assert (values(made), made.requires_grad) == ([0, 1, 2, 3], False)

    @pytest.mark.parametrize("requires_grad", [True, False])
    def test_parameter(self, found, make, four, requires_grad):
        made = found(make.Call(f"{UTILS}_parameter", (four, requires_grad, make.Call(ORDERED))))
        assert (values(made), made.requires_grad) == ([0, 1, 2, 3], requires_grad)

    def test_parameter_with_attributes(self, found, make, four):
        arguments = (four, True, make.Call(ORDERED), {"tag": 1})
        made = found(make.Call(f"{UTILS}_parameter_with_state", arguments))
        assert (values(made), made.requires_grad) == ([0, 1, 2, 3], True)

    @pytest.mark.parametrize("module", ["torch._tensor", "torch.tensor"])
    @pytest.mark.parametrize("function", ["_rebuild_from_type", "_rebuild_from_type_v2"])
    def test_subclass(self, found, make, four, module, function):
        arguments = (make.Name(four.path), make.Name("my.Tensor"), four.args, {"tag": 1})
        assert values(found(make.Call(f"{module}.{function}", arguments))) == [0, 1, 2, 3]

    def test_parameter_of_a_subclass(self, found, make, four):
        own = make.Call(
            "torch._tensor._rebuild_from_type_v2",
            (make.Name(four.path), make.Name("my.Tensor"), four.args, {}),
        )
        made = found(make.Call(f"{UTILS}_parameter", (own, True, make.Call(ORDERED))))
        assert (values(made), made.requires_grad) == ([0, 1, 2, 3], True)

    def test_called_class(self, found, make, four):
        assert found(make.Call("torch.nn.parameter.Parameter", (four,))).requires_grad

    def test_from_another_device(self, found, make, four):
        arguments = (four, make.Name("torch.float32"), "xla:0", True)
        made = found(make.Call(f"{UTILS}_device_tensor_from_cpu_tensor", arguments))
        assert (values(made), made.requires_grad) == ([0, 1, 2, 3], True)

    def test_the_outermost_flag_decides(self, found, make, four):
        inner = make.Call(f"{UTILS}_parameter", (four, True, make.Call(ORDERED)))
        outer = make.Call(f"{UTILS}_parameter", (inner, False, make.Call(ORDERED)))
        assert not found(outer).requires_grad

    def test_a_tensor_may_itself_want_a_gradient(self, found, make, four):
        made = found(make.Call(four.path, (*four.args[:4], True, make.Call(ORDERED))))
        assert made.requires_grad

    def test_a_tensor_in_twenty_wrappers(self, found, make):
        described = make.tensor("0", (1,))
        for _ in range(20):
            described = make.Call("torch.nn.parameter.Parameter", (described,))
        with pytest.raises(UnreadableModel, match="wraps a tensor"):
            found(described)


NO_TENSORS = [None, 1, "a", b"a", [], (), {}, (1, 2), 1.5]


@pytest.mark.parametrize("described", NO_TENSORS)
def test_data_is_no_tensor(found, described):
    assert found(described) is None


@pytest.mark.parametrize(
    ("path", "arguments"),
    [
        ("os.system", ("echo",)),
        ("torch.device", ("cpu",)),
        ("torch.Size", ((1, 2),)),
        ("my._rebuild_tensor_v2", (1, 2, 3)),
        ("numpy.core.multiarray.scalar", (1, b"x")),
        ("torch._utils._rebuild_tensor_v2", tuple(range(17))),
    ],
)
def test_other_calls_are_no_tensor(found, make, path, arguments):
    assert found(make.Call(path, arguments)) is None


class TestChangedTensors:
    """What PyTorch would carry out on a tensor after making it: refused, never overlooked."""

    def test_a_state(self, found, make):
        state = (make.storage("1", 4, "ByteStorage"), 0, (4,), (1,))
        with pytest.raises(UnreadableModel, match="changes a tensor"):
            found(make.tensor("0", (4,), kind="ByteStorage", state=state))

    def test_elements_that_are_set(self, found, make):
        with pytest.raises(UnreadableModel, match="changes a tensor"):
            found(make.tensor("0", (4,), kind="ByteStorage", items=((0, 7),)))

    @pytest.mark.parametrize("name", ["data", "real", "imag", "requires_grad"])
    @pytest.mark.parametrize("slots", [False, True])
    def test_an_attribute_that_sets_the_data(self, found, make, four, name, slots):
        state = (None, {name: four}) if slots else {name: four}
        arguments = (make.Name(four.path), make.Name("torch.Tensor"), four.args, state)
        with pytest.raises(UnreadableModel, match="changes a tensor"):
            found(make.Call("torch._tensor._rebuild_from_type_v2", arguments))

    def test_a_changed_parameter(self, found, make, four):
        arguments = (four, True, make.Call(ORDERED))
        with pytest.raises(UnreadableModel, match="changes a tensor"):
            found(make.Call(f"{UTILS}_parameter", arguments, state={"x": 1}))


class TestTensorsWithoutValues:
    @pytest.mark.parametrize(
        ("function", "arguments", "shape", "dtype"),
        [
            (
                "_meta_tensor_no_storage",
                ("torch.float32", (2, 3), (3, 1), False),
                (2, 3),
                "float32",
            ),
            ("_wrapper_subclass", ("my.T", "torch.int8", (2,), (1,), 0), (2,), "int8"),
        ],
    )
    def test_shape_and_dtype_are_known(self, found, make, function, arguments, shape, dtype):
        named = [make.Name(a) if isinstance(a, str) else a for a in arguments]
        made = found(make.Call(UTILS + function, tuple(named)))
        assert (made.tensor.shape, made.tensor.dtype) == (shape, dtype)
        with pytest.raises(UnknownFact, match="plain dense checkpoint"):
            _ = made.tensor.values

    @pytest.mark.parametrize("layout", ["torch.sparse_coo", "torch.sparse_csr"])
    def test_sparse(self, found, make, four, layout):
        indices = (four,) if layout == "torch.sparse_coo" else (four, four)
        data = (*indices, four, make.Call("torch.Size", ((5, 6),)))
        kind = make.Call("torch.serialization._get_layout", (layout,))
        made = found(make.Call(f"{UTILS}_sparse_tensor", (kind, data)))
        assert (made.tensor.shape, made.tensor.dtype) == ((5, 6), "sparse")

    def test_half_of_a_sparse_tensor(self, found, make, four):
        kind = make.Call("torch.serialization._get_layout", ("torch.sparse_coo",))
        with pytest.raises(UnreadableModel, match="sparse"):
            found(make.Call(f"{UTILS}_sparse_tensor", (kind, (four,))))

    def test_quantized(self, found, make):
        storage = make.storage("0", 4, "QInt8Storage")
        made = found(make.Call(f"{UTILS}_qtensor", (storage, 0, (4,), (1,), (), False, None)))
        assert (made.tensor.shape, made.tensor.dtype) == ((4,), "qint8")

    def test_negated_on_use(self, found, make, four):
        assert values(found(make.Call(four.path, (*four.args, {"neg": True})))) == [0, -1, -2, -3]

    @pytest.mark.parametrize("marks", [{"conj": True}, {"conj": True, "neg": True}, {"new": 1}, 3])
    def test_conjugated_on_use(self, found, make, four, marks):
        made = found(make.Call(four.path, (*four.args, marks)))
        with pytest.raises(UnknownFact, match="conjugated"):
            _ = made.tensor.values

    @pytest.mark.parametrize("nothing", [None, {}])
    def test_not_negated(self, found, make, four, nothing):
        assert values(found(make.Call(four.path, (*four.args, nothing)))) == [0, 1, 2, 3]

    def test_not_initialized(self, found, make):
        made = found(make.Call("torch.nn.parameter.UninitializedParameter", (True,)))
        assert isinstance(made.tensor, Unknown)
        assert "not seen an input" in made.tensor.why

    def test_from_a_function_to_come(self, found, make):
        made = found(make.Call(f"{UTILS}_tensor_v9", (1,)))
        assert "_rebuild_tensor_v9" in made.tensor.why


def test_a_dtype_that_the_storage_does_not_have(found, make, four):
    arguments = (make.storage("0", 4, "UntypedStorage"), 0, (2,), (1,), False, None)
    made = found(make.Call(f"{UTILS}_tensor_v3", (*arguments, make.Name("torch.uint16"))))
    assert (made.tensor.dtype, values(made)) == ("uint16", [256, 770])


def test_the_old_function(found, make):
    made = found(make.Call(f"{UTILS}_tensor", (make.storage("0", 4, "ByteStorage"), 1, (2,), (1,))))
    assert values(made) == [1, 2]


def test_one_value_is_one_tensor(value, make, four):
    first, second = value([four, four])
    storages = Storages()
    assert parameter(first, storages) is parameter(second, storages)


class TestMappings:
    @pytest.mark.parametrize(
        ("described", "expected"),
        [
            ({"a": 1}, {"a": 1}),
            ({}, {}),
            ({1: 2}, None),
            ({"a": 1, 2: 3}, None),
            ([1], None),
            ("text", None),
        ],
    )
    def test_plain(self, value, described, expected):
        assert mapping(value(described)) == expected

    def test_a_later_pair_replaces_an_earlier_one_in_its_place(self, value, make):
        items = (("a", 1), ("b", 2), ("a", 3))
        assert list(mapping(value(make.Call(ORDERED, (), None, items))).items()) == [
            ("a", 3),
            ("b", 2),
        ]

    def test_ordered_dictionary_of_python_2(self, value, make):
        assert mapping(value(make.Call(ORDERED, ([["a", 1], ("b", 2)],)))) == {"a": 1, "b": 2}

    def test_dictionary_made_of_a_dictionary(self, value, make):
        made = value(make.Call(ORDERED, ({"a": 1},), None, (("b", 2),)))
        assert mapping(made) == {"a": 1, "b": 2}

    def test_what_no_dictionary_is_made_of_leaves_it_empty(self, value, make):
        assert mapping(value(make.Call(ORDERED, ([1, 2],)))) == {}

    def test_a_name_beyond_all_sense(self, value):
        with pytest.raises(UnreadableModel, match="name of over"):
            mapping(value({"x" * (MAX_NAME + 1): 1}))


class TestAttributes:
    @pytest.mark.parametrize(
        ("state", "expected"),
        [
            ({"a": 1}, {"a": 1}),
            (({"a": 1}, {"b": 2}), {"a": 1, "b": 2}),
            ((None, {"b": 2}), {"b": 2}),
            (({"a": 1}, {"a": 2}), {"a": 2}),  # a slot hides what __dict__ holds
            ((), {}),
            ([1], {}),
            ("state", {}),
        ],
    )
    def test_state(self, value, make, state, expected):
        assert dict(attributes(value(make.Call("my.Class", (), state)))) == expected

    def test_data_has_none(self, value):
        assert attributes(value({"a": 1})) == {}

    def test_a_graph_module_is_called_with_them(self, value, make):
        path = "torch.fx.graph_module.reduce_graph_module"
        made = value(make.Call(path, ({"training": False}, "import torch")))
        assert (made.class_path, dict(attributes(made))) == (
            "torch.fx.graph_module.GraphModule",
            {"training": False},
        )


def test_optimizers(value):
    assert is_optimizer(value({"state": {}, "param_groups": []}))
    assert not is_optimizer(value({"state": {}}))
