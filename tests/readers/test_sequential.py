from __future__ import annotations

import pytest

from bncheck.graph import Graph, NodeKind
from bncheck.tensor import Tensor

TORCH = "torch.nn.modules."
KINDS = {"Conv2d": "conv", "BatchNorm2d": "batchnorm", "ReLU": "activation", "Linear": "linear"}


@pytest.fixture
def build(make):
    """``build("Conv2d")`` or ``build(name=child, ...)``: a leaf, or a Sequential."""

    def module(class_name="Sequential", path=None, **children):
        home = KINDS.get(class_name, "container")
        weight = {"weight": make.tensor("weight", (4,))} if class_name in KINDS else {}
        return make.module(path or f"{TORCH}{home}.{class_name}", children, weight)

    return module


@pytest.fixture
def order(make, read_bytes):
    def find(root) -> Graph:
        (model,) = read_bytes(make.torch(root, make.batch_norm_data()))
        return model.order

    return find


def chains(graph: Graph) -> list[list[str]]:
    """The names along each chain, from its input."""
    found = []
    for value in graph.inputs:
        chain = []
        while nodes := graph.consumers(value):
            chain.append(nodes[0].name)
            (value,) = nodes[0].outputs
        found.append(chain)
    return found


def test_children_come_one_after_the_other(build, order):
    graph = order(build(conv=build("Conv2d"), bn=build("BatchNorm2d"), act=build("ReLU")))
    assert chains(graph) == [["conv", "bn", "act"]]
    assert [node.kind.value for node in graph.nodes] == ["conv", "batch-norm", "relu"]
    assert not graph.complete


def test_a_sequential_in_a_sequential_is_unrolled(build, order):
    inner = build(a=build("Conv2d"), b=build(c=build("BatchNorm2d")))
    assert chains(order(build(x=build("ReLU"), y=inner, z=build("ReLU")))) == [
        ["x", "y.a", "y.b.c", "z"]
    ]


def test_other_containers_say_nothing_of_their_children(build, order):
    block = build(path="my.Block", conv=build("Conv2d"), bn=build("BatchNorm2d"))
    assert chains(order(block)) == []
    assert chains(order(build(stem=build("Conv2d"), block=block, head=build("Linear")))) == [
        ["stem", "block", "head"]
    ]


@pytest.mark.parametrize("path", ["my.Sequential", "torchvision.ops.misc.ConvNormActivation"])
def test_a_subclass_of_sequential_may_have_a_forward_of_its_own(build, order, path):
    assert chains(order(build(path=path, a=build("Conv2d"), b=build("BatchNorm2d")))) == []


def test_what_is_no_class_of_pytorch_is_opaque(build, order):
    graph = order(build(a=build("Conv2d"), b=build(path="conv.Conv2d")))
    assert [node.kind for node in graph.nodes] == [NodeKind.CONV, NodeKind.OPAQUE]


def test_a_child_that_cannot_be_read_stays_in_its_place(build, order, make):
    """Were it left out, its neighbours would seem to touch."""
    strange = make.Call("my.rebuild", (1,))
    graph = order(build(a=build("Conv2d"), b=strange, c=build("BatchNorm2d")))
    assert chains(graph) == [["a", "b", "c"]]
    assert graph.nodes[1].kind is NodeKind.OPAQUE


class TestShared:
    def test_a_shared_module_has_no_one_call(self, build, order, make, read_bytes):
        shared = build("BatchNorm2d")
        root = build(a=build("Conv2d"), b=shared, c=build("Conv2d"), d=shared)
        (model,) = read_bytes(make.torch(root, make.batch_norm_data()))
        assert chains(model.order) == [["a", "b", "c", "d"]]
        assert not model.layers[0].knows(type(model.layers[0]).calls)

    def test_a_shared_sequential_is_opaque(self, build, order):
        shared = build(x=build("Conv2d"))
        graph = order(build(a=shared, b=shared))
        assert [node.kind for node in graph.nodes] == [NodeKind.OPAQUE] * 2

    def test_a_sequential_inside_itself_ends(self, make, read_bytes):
        pickled = (
            b"\x80\x02ctorch.nn.modules.container\nSequential\n)\x81q\0}(X\x0b\0\0\0_parameters}"
            b"X\x08\0\0\0_modules}X\1\0\0\0ah\0sub."
        )
        (model,) = read_bytes(make.zip(make.Entry("r/data.pkl", pickled)))
        assert model.order.nodes == ()


class TestRewired:
    """Hooks, and a forward of its own, may do anything with what flows through."""

    HOOKED = ({"_forward_hooks": {0: None}}, {"_forward_pre_hooks": {0: None}}, {"forward": "f"})

    @pytest.mark.parametrize("attributes", HOOKED)
    def test_leaf(self, build, order, make, attributes):
        conv = make.module(f"{TORCH}conv.Conv2d", **attributes)
        graph = order(build(a=conv, b=build("BatchNorm2d")))
        assert [node.kind for node in graph.nodes] == [NodeKind.OPAQUE, NodeKind.BATCH_NORM]

    @pytest.mark.parametrize("attributes", HOOKED)
    def test_sequential(self, build, order, make, attributes):
        children = {"a": build("Conv2d"), "b": build("BatchNorm2d")}
        hooked = make.module(f"{TORCH}container.Sequential", children, **attributes)
        assert chains(order(hooked)) == []
        assert chains(order(build(x=hooked))) == [["x"]]

    def test_no_hooks(self, build, order, make):
        plain = make.module(
            f"{TORCH}conv.Conv2d", _forward_hooks=make.Call("collections.OrderedDict")
        )
        assert [node.kind for node in order(build(a=plain)).nodes] == [NodeKind.CONV]


class TestNodes:
    def test_parameters_and_attributes(self, build, order, make):
        conv = make.module(
            f"{TORCH}conv.Conv2d",
            parameters={"weight": make.tensor("weight", (4,)), "bias": None},
            groups=2,
            output_size=(1, 1),
        )
        (node,) = order(build(a=conv)).nodes
        assert node.parameters.keys() == {"weight"}
        assert isinstance(node.parameters["weight"], Tensor)
        assert node.attributes == {"training": False, "groups": 2}
        assert node.op == "Conv2d"

    @pytest.mark.parametrize(
        ("attributes", "padding"),
        [
            ({"padding": (1, 2)}, (1, 2)),
            ({"padding": (1, 2), "padding_mode": "zeros"}, (1, 2)),
            ({"padding": (1, 2), "padding_mode": "reflect"}, None),
            ({"padding": "same"}, "same"),
            ({"padding": "same", "padding_mode": "circular"}, None),
            ({"padding": "valid", "padding_mode": "reflect"}, (0, 0)),
            ({"padding": 1}, None),
            ({"padding": (1, 2.5)}, None),
        ],
    )
    def test_window_of_a_convolution(self, build, order, make, attributes, padding):
        """What pads by other values than zeros is no padding of zeros."""
        window = {"kernel_size": (4, 4), "stride": (2, 2), "dilation": (1, 1)}
        conv = make.module(f"{TORCH}conv.ConvTranspose2d", **window, **attributes)
        (node,) = order(build(a=conv)).nodes
        assert {name: node.attributes[name] for name in window} == window
        assert node.attributes.get("padding") == padding

    def test_an_attribute_that_is_no_number_is_left_out(self, build, order, make):
        dropout = make.module(f"{TORCH}dropout.Dropout", p=make.Call("numpy.scalar", (1,)))
        (node,) = order(build(a=dropout)).nodes
        assert node.attributes == {"training": False}

    def test_the_end_of_a_chain_is_read_by_what_is_not_known(self, build, order):
        graph = order(build(a=build("Conv2d")))
        assert graph.uses(graph.nodes[0].outputs[0]) == 1
