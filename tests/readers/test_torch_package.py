"""torch.package archives."""

from __future__ import annotations

import pytest

from bncheck.errors import NotAModel, UnreadableModel

STORED = {"weight": 1.5, "bias": 0.5, "running_mean": 0.25, "running_var": 2.0}


def net(make, **attributes):
    """A module with one BatchNorm whose storages have numbers for names, as packages have."""
    parts = {name: make.tensor(str(i), (4,)) for i, name in enumerate(STORED)}
    norm = make.module(
        "torch.nn.modules.batchnorm.BatchNorm2d",
        parameters={name: parts[name] for name in ("weight", "bias")},
        buffers={name: parts[name] for name in ("running_mean", "running_var")},
        eps=1e-5,
        num_features=4,
    )
    return make.module("my.code.Net", {"bn": norm}, **attributes)


def package(make, resources, more=(), **notes):
    data = [bytes(make.batch_norm_data()[name]) for name in STORED]
    entries = {f".data/{i}.storage": each for i, each in enumerate(data)}
    for name, held in resources.items():
        entries[name] = held if isinstance(held, bytes) else make.pickle(held)
    entries |= {".data/extern_modules": b"torch\n", ".data/version": b"6\n", **notes}
    named = [make.Entry(f"p/{name}", content) for name, content in entries.items()]
    return make.zip(*named, *more)


def test_reads_a_module(make, read_bytes):
    data = package(make, {"model/model.pkl": net(make), "my/code.py": b"import os\n"})
    (model,) = read_bytes(data)
    (layer,) = model.layers
    assert (model.format, model.content, model.member) == ("torch-package", "module", None)
    assert (layer.name, layer.eps, layer.training) == ("bn", 1e-5, False)
    for name, value in STORED.items():
        assert list(getattr(layer, name).values) == [value] * 4


@pytest.mark.parametrize("name", ["model/model.pkl", "weights", "a/b/c.bin", "x.txt"])
def test_a_pickle_may_have_any_name(name, make, read_bytes):
    assert read_bytes(package(make, {name: net(make)}))[0].layers


def test_what_is_no_model_is_passed_over(make, read_bytes):
    resources = {
        "a/settings.pkl": {"lr": 0.1},
        "a/readme.txt": b"hello",
        "a/empty": b"",
        "a/table.pkl": b"\x80",
        "a/image": b"\x89PNG\r\n",
        "m/m.pkl": net(make),
    }
    (model,) = read_bytes(package(make, resources))
    assert model.member is None


def test_several_models_are_told_apart(make, read_bytes):
    both = {"ema": net(make), "model": net(make)}
    models = read_bytes(package(make, {"a/net.pkl": net(make), "b/both.pkl": both}))
    assert [m.member for m in models] == ["a/net.pkl", "b/both.pkl:ema", "b/both.pkl:model"]
    (ema, model) = read_bytes(package(make, {"b/both.pkl": both}))
    assert (ema.member, model.member) == ("ema", "model")


def test_one_without_a_model(make, read_bytes):
    with pytest.raises(NotAModel, match="without a model"):
        read_bytes(package(make, {"a/settings.pkl": {"lr": 0.1}}))


def rebuilt(make):
    reduced = ("reduce_package", 1, make.Name("torch.fx.graph_module.f"), ())
    return make.module("my.Net", {"inner": make.Reference(reduced)})


class TestRefused:
    def test_a_module_that_only_the_package_can_rebuild(self, make, read_bytes):
        with pytest.raises(UnreadableModel, match=r"code of the package rebuilds \(torch.fx"):
            read_bytes(package(make, {"m.pkl": rebuilt(make)}))

    @pytest.mark.parametrize("other", ["data.pkl", "constants.pkl"])
    def test_what_torch_load_reads_otherwise(self, other, make, read_bytes):
        with pytest.raises(UnreadableModel, match=r"as torch.package and as torch.save"):
            read_bytes(package(make, {"m.pkl": net(make), other: {}}))

    def test_a_second_top_folder(self, make, read_bytes):
        more = (make.Entry("q/m.pkl", make.pickle({})),)
        with pytest.raises(UnreadableModel, match="more than one top folder"):
            read_bytes(package(make, {"m.pkl": net(make)}, more))

    def test_a_damaged_pickle(self, make, read_bytes):
        with pytest.raises(UnreadableModel, match="pickle"):
            read_bytes(package(make, {"m.pkl": b"\x80\x02]]]"}))

    def test_too_many_pickles(self, make, read_bytes):
        with pytest.raises(UnreadableModel, match="over 100 pickles"):
            read_bytes(package(make, {f"{i}.pkl": {} for i in range(101)}))

    @pytest.mark.parametrize("key", ["../../m", "9", "", "0.storage\0"])
    def test_a_storage_that_is_not_there(self, key, make, read_bytes):
        held = {"bn.running_mean": make.tensor(key, (4,)), "bn.running_var": make.tensor("0", (4,))}
        (model,) = read_bytes(package(make, {"m.pkl": held}))
        with pytest.raises(UnreadableModel, match="lacks the tensor data"):
            model.layers[0].running_mean.values  # noqa: B018

    def test_a_storage_of_two_types(self, make, read_bytes):
        held = {
            "a.weight": make.tensor("0", (4,)),
            "b.weight": make.tensor("0", (2,), kind="LongStorage"),
        }
        with pytest.raises(UnreadableModel, match="two types"):
            read_bytes(package(make, {"m.pkl": held}))

    def test_code_named_by_a_pickle_is_not_run(self, make, read_bytes):
        call = make.Call("os.system", ("exit 1",))
        assert read_bytes(package(make, {"m.pkl": net(make, extra=call)}))[0].layers
