from __future__ import annotations

import pytest

from bncheck.errors import NotAModel, UnreadableModel
from bncheck.readers import limits
from bncheck.readers.torch import checkpoint

ORDERED = "collections.OrderedDict"
OPTIMIZER = {"state": {0: {"step": 3}}, "param_groups": [{"lr": 0.1, "params": [0]}]}


@pytest.fixture
def members(make, read_bytes):
    """Member, content and layer names of the models in what a pickle holds."""

    def find(value):
        models = read_bytes(make.torch(value, make.batch_norm_data()))
        return [(m.member, m.content, [layer.name for layer in m.layers]) for m in models]

    return find


def net(make, **options):
    """A module with one BatchNorm."""
    batch_norm = make.module(
        "torch.nn.modules.batchnorm.BatchNorm2d", buffers={"running_mean": None}
    )
    return make.module("my.Net", {"bn": batch_norm}, **options)


class TestStateDicts:
    def test_bare(self, members, make):
        assert members(make.batch_norm()) == [(None, "state_dict", ["bn"])]

    def test_ordered(self, members, make):
        items = tuple(make.batch_norm().items())
        assert members(make.Call(ORDERED, (), None, items)) == [(None, "state_dict", ["bn"])]

    def test_subclass_of_a_dictionary(self, members, make):
        items = tuple(make.batch_norm().items())
        assert members(make.Call("my.Dict", (), {"x": 1}, items)) == [(None, "state_dict", ["bn"])]

    def test_python_2(self, members, make):
        items = [[name, held] for name, held in make.batch_norm().items()]
        assert members(make.Call(ORDERED, (items,))) == [(None, "state_dict", ["bn"])]

    def test_of_a_single_layer(self, members, make):
        described = {name.removeprefix("bn."): t for name, t in make.batch_norm().items()}
        assert members(described) == [(None, "state_dict", [""])]

    def test_with_entries_that_are_no_tensors(self, members, make):
        described = {
            **make.batch_norm(),
            "_extra_state": {"a": 1},
            "x.scale": 0.5,
            "x.packed": None,
        }
        assert members(described) == [(None, "state_dict", ["bn"])]

    def test_with_metadata_hardly_any_tensor_is_needed(self, members, make):
        items = (("bn.running_mean", make.tensor("bias", (4,))), *((f"x.{i}", i) for i in range(9)))
        metadata = {"_metadata": {"": {"version": 1}}}
        assert members(make.Call(ORDERED, (), metadata, items)) == [(None, "state_dict", ["bn"])]

    @pytest.mark.parametrize(
        "prefix", ["module.", "_orig_mod.", "module._orig_mod.", "module." * 3]
    )
    def test_prefixes_of_wrappers_are_taken_off(self, members, make, prefix):
        assert members(make.batch_norm(prefix=f"{prefix}a.bn")) == [(None, "state_dict", ["a.bn"])]

    def test_a_prefix_that_not_all_have_is_kept(self, members, make):
        described = {**make.batch_norm(prefix="module.bn"), "n_averaged": make.tensor("bias", ())}
        assert members(described) == [(None, "state_dict", ["module.bn"])]

    def test_what_compile_inserts_is_taken_out(self, members, make):
        described = {**make.batch_norm(prefix="a._orig_mod.bn"), **make.batch_norm(prefix="bn")}
        assert members(described) == [(None, "state_dict", ["a.bn", "bn"])]

    def test_names_stay_apart(self, members, make):
        described = {**make.batch_norm(prefix="a._orig_mod.bn"), **make.batch_norm(prefix="a.bn")}
        assert members(described) == [(None, "state_dict", ["a._orig_mod.bn", "a.bn"])]


class TestMembers:
    def test_each_is_told_apart_by_its_key(self, members, make):
        described = {
            "epoch": 3,
            "state_dict": make.batch_norm(),
            "ema": make.batch_norm(prefix="x"),
        }
        assert members(described) == [
            ("state_dict", "checkpoint", ["bn"]),
            ("ema", "checkpoint", ["x"]),
        ]

    def test_modules_and_state_dicts_side_by_side(self, members, make):
        described = {"model": net(make), "ema": None, "weights": make.batch_norm()}
        assert members(described) == [
            ("model", "module", ["bn"]),
            ("weights", "checkpoint", ["bn"]),
        ]

    def test_nested(self, members, make):
        described = {"a": {"b": [0, {"c": make.batch_norm()}]}}
        assert members(described) == [("a.b.1.c", "checkpoint", ["bn"])]

    def test_numbered(self, members, make):
        folds = {0: make.batch_norm(), 1: make.batch_norm()}
        assert [member for member, _, _ in members(folds)] == ["0", "1"]

    @pytest.mark.parametrize("key", [7, (1, 2), None, 1.5])
    def test_beside_a_key_of_another_type(self, members, make, key):
        described = {key: "x", "model": make.batch_norm()}
        assert members(described) == [("model", "checkpoint", ["bn"])]

    @pytest.mark.parametrize(
        ("wrap", "member"),
        [
            (lambda make, held: [held], "0"),
            (lambda make, held: (held, 3), "0"),
            (lambda make, held: make.Call("argparse.Namespace", (), {"net": held}), "net"),
            (lambda make, held: make.Call("my.Slots", (), (None, {"net": held})), "net"),
            (lambda make, held: make.Call("my.NamedTuple", (3, held)), "1"),
            (lambda make, held: make.Call("my.Trainer", (), {"a": {"net": held}}), "a.net"),
        ],
    )
    @pytest.mark.parametrize("kind", ["module", "state_dict"])
    def test_inside_other_things(self, members, make, wrap, member, kind):
        held = net(make) if kind == "module" else make.batch_norm()
        assert [found[0] for found in members(wrap(make, held))] == [member]

    def test_one_value_in_two_places_is_one_member(self, members, make):
        shared = make.batch_norm()
        assert members({"a": shared, "b": shared}) == [("a", "checkpoint", ["bn"])]

    def test_a_long_list_before_the_model_does_not_hide_it(self, members, make):
        described = {"losses": [[float(i)] for i in range(30_000)], "model": make.batch_norm()}
        assert members(described) == [("model", "checkpoint", ["bn"])]

    @pytest.mark.parametrize(
        "key",
        ["optimizer", "optimizer_states", "optim_g", "lr_scheduler", "grad_scaler", "rng_state"],
    )
    def test_what_is_beside_a_model_is_none(self, members, make, key):
        described = {"model": make.batch_norm(), key: make.batch_norm(prefix="x")}
        assert members(described) == [("model", "checkpoint", ["bn"])]

    @pytest.mark.parametrize("key", ["optimal_weights", "generator", "best", "optimized_model"])
    def test_names_that_only_look_like_it(self, members, make, key):
        assert members({key: make.batch_norm()}) == [(key, "checkpoint", ["bn"])]

    def test_an_optimizer_is_known_under_any_name(self, members, make):
        state = {"state": make.batch_norm(), "param_groups": []}
        assert members({"model": make.batch_norm(), "opt": state}) == [
            ("model", "checkpoint", ["bn"])
        ]

    def test_their_number_is_bounded(self, members, make, monkeypatch):
        described = [make.batch_norm() for _ in range(4)]
        monkeypatch.setattr(checkpoint, "MAX_MEMBERS", 4)
        assert len(members(described)) == 4
        monkeypatch.setattr(checkpoint, "MAX_MEMBERS", 3)
        with pytest.raises(UnreadableModel, match="over 3 models"):
            members(described)

    def test_the_number_of_their_layers_is_bounded_together(self, members, make, monkeypatch):
        described = {"a": make.batch_norm(), "b": make.batch_norm()}
        monkeypatch.setattr(limits, "MAX_LAYERS", 2)
        assert len(members(described)) == 2
        monkeypatch.setattr(limits, "MAX_LAYERS", 1)
        with pytest.raises(UnreadableModel, match="over 1 normalization layers"):
            members(described)


class TestNoModel:
    @pytest.mark.parametrize(
        ("value", "what"),
        [
            (lambda make: OPTIMIZER, "the state of an optimizer"),
            (lambda make: make.tensor("bias", (4,)), "a single tensor"),
            (lambda make: {"epoch": 3, "lr": 0.1}, "a dictionary with 'epoch', 'lr'"),
            (lambda make: dict.fromkeys("abcdef", 1), "a dictionary with 'a', 'b', 'c', 'd', ..."),
            (lambda make: {"x" * 999: 1}, f"a dictionary with '{'x' * 60}'$"),
            (lambda make: {"\x1b[2J\n": 1}, r"a dictionary with '\\x1b\[2J\\n'"),
            (
                lambda make: make.Call("transformers.TrainingArguments", (), {"a": 1}),
                "a pickled trans",
            ),
            (lambda make: [], "a pickled list"),
            (lambda make: {}, "a pickled dict"),
            (lambda make: None, "nothing"),
            (lambda make: 3, "a pickled int"),
            (lambda make: [make.tensor("bias", (4,))], "a pickled list"),
            (lambda make: {"mean": make.tensor("bias", (4,))}, "a dictionary with 'mean'"),
        ],
    )
    def test_says_what_it_is_instead(self, members, make, value, what):
        with pytest.raises(NotAModel, match=f"^holds no model: it is {what}"):
            members(value(make))

    def test_a_model_in_a_thousand_lists_is_refused(self, make, read_bytes):
        state_dict = make.pickle(make.batch_norm())[2:-1]
        pickled = b"\x80\x02" + b"]" * 1001 + state_dict + b"a" * 1001 + b"."
        with pytest.raises(UnreadableModel, match="nested over 1000 deep"):
            read_bytes(make.zip(make.Entry("a/data.pkl", pickled)))


def test_a_call_of_the_system_is_no_model_and_is_not_made(make, read_bytes, tmp_path):
    marker = tmp_path / "marker"
    call = make.Call("posix.system", (f"touch {marker}",))
    models = read_bytes(make.torch({"model": make.batch_norm(), "x": call}, make.batch_norm_data()))
    assert models[0].layers[0].running_var.finite
    with pytest.raises(NotAModel, match=r"a pickled posix\.system"):
        read_bytes(make.torch(call))
    assert not marker.exists()
