"""What files beside a model say of it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bncheck.facts import Evidence
from bncheck.model import Model, NormLayer
from bncheck.readers import read, source
from bncheck.readers.folders import mlflow
from bncheck.readers.folders.transformers_config import EPS_KEYS

posix = pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
BERT = {"model_type": "bert", "architectures": ["BertForMaskedLM"], "layer_norm_eps": 1e-12}
EFFICIENT = {
    "model_type": "efficientnet",
    "architectures": ["EfficientNetForImageClassification"],
    "batch_norm_eps": 1e-3,
}
MOBILE = {
    "model_type": "mobilenet_v1",
    "architectures": ["MobileNetV1Model"],
    "layer_norm_eps": 1e-3,
}


@pytest.fixture
def model(make, read_bytes, tmp_path) -> Callable[..., Model]:
    """A state_dict of a BatchNorm and a LayerNorm, with a config.json beside it."""

    def build(config: object, name: str = "pytorch_model.bin") -> Model:
        if config is not None:
            text = config if isinstance(config, bytes) else json.dumps(config).encode()
            (tmp_path / "config.json").write_bytes(text)
        norm = {f"ln.{role}": make.tensor(role, (4,)) for role in ("weight", "bias")}
        data = make.torch({**make.batch_norm(), **norm}, make.batch_norm_data())
        return read_bytes(data, name)[0]

    return build


def eps_of(model: Model) -> dict[str, float | None]:
    return {layer.name: layer.eps for layer in model.layers if layer.knows(NormLayer.eps)}


class TestConfig:
    @pytest.mark.parametrize(
        ("config", "expected"),
        [
            (BERT, {"ln": 1e-12}),
            ({**BERT, "layer_norm_eps": 1}, {"ln": 1.0}),
            ({**BERT, "architectures": ["BertModel"]}, {"ln": 1e-12}),
            (EFFICIENT, {"bn": 1e-3}),
            (MOBILE, {"bn": 1e-3}),
        ],
    )
    def test_gives_eps_where_one_key_governs_all_layers(self, model, config, expected):
        found = model(config)
        assert eps_of(found) == expected
        assert found.holds == f"6 tensors, model_type {config['model_type']}"
        assert Evidence.METADATA in found.evidence

    @pytest.mark.parametrize(
        "config",
        [
            {**BERT, "model_type": "swin"},  # some of its LayerNorms ignore the key
            {**BERT, "model_type": "resnet"},
            {**BERT, "architectures": ["BertWithMyHead"]},
            {**BERT, "architectures": ["MyBertModel"]},
            {**BERT, "architectures": ["BertModel", "BertModel"]},
            {**BERT, "architectures": None},
            {**BERT, "auto_map": {"AutoModel": "modeling.BertModel"}},
            {"model_type": "bert", "architectures": ["BertModel"]},
            {**BERT, "layer_norm_eps": "1e-12"},
            {**BERT, "layer_norm_eps": None},
            {**BERT, "layer_norm_eps": True},
            {**BERT, "layer_norm_eps": [1e-12]},
            {**BERT, "layer_norm_eps": 10**400},
            {**BERT, "layer_norm_eps": float("nan")},
            {**BERT, "layer_norm_eps": float("inf")},
        ],
    )
    def test_leaves_the_rest_unknown(self, model, config):
        found = model(config)
        assert eps_of(found) == {}
        assert found.holds == f"6 tensors, model_type {config['model_type']}"
        assert Evidence.METADATA not in found.evidence

    @pytest.mark.parametrize(
        "config",
        [
            None,
            b"",
            b"{",
            b"[]",
            b"\xff\xfe",
            b'{"model_type": "bert", "model_type": "vit"}',
            b"[" * 10**5,
            b'{"a": [' + b"[]," * 10**5 + b"0]}",
            {"architecture": "resnet50"},
            {"model_type": ["bert"]},
            {"model_type": "\x1b[31m"},
            {"model_type": "b" * 65},
        ],
    )
    def test_broken_or_foreign_ones_are_ignored(self, model, config):
        found = model(config)
        assert (eps_of(found), found.holds) == ({}, "6 tensors")

    def test_it_belongs_to_the_files_of_save_pretrained_only(self, model):
        found = model(BERT, "head.pt")
        assert (eps_of(found), found.holds) == ({}, "6 tensors")

    @posix
    def test_one_that_links_out_of_the_folder_is_ignored(self, model, tmp_path_factory, tmp_path):
        outside = tmp_path_factory.mktemp("outside") / "config.json"
        outside.write_text(json.dumps(BERT))
        (tmp_path / "config.json").symlink_to(outside)
        assert eps_of(model(None)) == {}


def test_a_lone_file_costs_one_look_for_a_neighbour(model, monkeypatch, make, read_bytes):
    asked: list[str] = []

    def sibling(self: source.FileSource, name: str) -> None:
        asked.append(name)

    monkeypatch.setattr(source.FileSource, "sibling", sibling)
    model(None, "model.pt")
    assert asked == ["training_args.bin"]
    asked.clear()
    read_bytes(make.torch({"ln.weight": make.tensor("w", (4,))}), "model.safetensors")
    assert asked == ["config.json"]


MLMODEL = """\
artifact_path: model
flavors:
  python_function:
    config:
      device: null
    data: data
    env:
      conda: conda.yaml
    loader_module: mlflow.pytorch
    pickle_module_name: mlflow.pytorch.pickle_module
  pytorch:
    code: null
    model_data: data
mlflow_version: 2.9.2
signature:
  inputs: '[{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 3]}}]'
"""


class TestMLflow:
    @pytest.fixture
    def module(self, make, tmp_path) -> Callable[..., Model]:
        def build(text: str | None, folder: str = "data", training: bool = True) -> Model:
            path = tmp_path / "artifact" / folder / "model.pth"
            path.parent.mkdir(parents=True)
            norm = make.module("torch.nn.modules.batchnorm.BatchNorm2d", training=training)
            path.write_bytes(make.torch(norm))
            if text is not None:
                (tmp_path / "artifact" / "MLmodel").write_text(text)
            return read(path)[0]

        return build

    def test_the_pyfunc_flavor_calls_eval(self, module):
        assert module(MLMODEL).loader_calls_eval == "MLflow's pyfunc flavor"

    @pytest.mark.parametrize(
        "text",
        [
            None,
            "",
            "\0\xff",
            MLMODEL.replace("python_function", "pytorch_function"),
            MLMODEL.replace("mlflow.pytorch\n", "my.loader\n"),
            MLMODEL.replace("    data: data", "    data: other"),
            MLMODEL.replace("flavors:", "flavours:"),
            MLMODEL.replace("    loader_module", "loader_module"),
            MLMODEL.replace("    data: data", "    data: data\n    data: data"),
        ],
    )
    def test_others_do_not(self, module, text):
        assert module(text).loader_calls_eval is None

    def test_only_in_the_folder_that_mlflow_makes(self, module):
        assert module(MLMODEL, "weights").loader_calls_eval is None

    def test_it_is_not_asked_for_a_module_in_eval_mode(self, module):
        assert module(MLMODEL, training=False).loader_calls_eval is None

    def test_a_file_in_the_current_folder(self, module, monkeypatch, tmp_path):
        module(MLMODEL)
        monkeypatch.chdir(tmp_path / "artifact" / "data")
        assert read("model.pth")[0].loader_calls_eval == "MLflow's pyfunc flavor"

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("a: 1\nb:\n  c: 'x'\n  d: \"y\"\n", {"a": "1", "b": "", "b.c": "x", "b.d": "y"}),
            ("a:\n    b:\n        c: 1\nd: 2", {"a": "", "a.b": "", "a.b.c": "1", "d": "2"}),
            ("- a: 1\n# b: 2\n\tc: 3\n{d: 4}", {}),
            ("a: 1\na: 2", {"a": ""}),
        ],
    )
    def test_the_scan(self, text, expected):
        assert mlflow.scan(text.encode()) == expected

    def test_the_scan_of_a_long_file_is_quick(self):
        lines = "\n".join(" " * (i % 1000) + f"k{i}:" for i in range(2000))
        assert len(mlflow.scan(lines.encode())) == 2000


def test_config_of_an_index(make, tmp_path):
    """All files of a model share one configuration."""
    data = make.batch_norm_data()
    (tmp_path / "a.bin").write_bytes(make.torch(make.batch_norm(), data))
    where = dict.fromkeys(make.batch_norm(), "a.bin")
    index: Path = tmp_path / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"weight_map": where}))
    (tmp_path / "config.json").write_text(json.dumps(EFFICIENT))
    assert eps_of(read(tmp_path)[0]) == {"bn": 1e-3}


@pytest.mark.parametrize("model_type", sorted(EPS_KEYS))
def test_the_library_agrees(model_type):
    """Every normalization layer of the library's own class takes its eps from that key."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    config = transformers.CONFIG_MAPPING[model_type]()
    marked = 0.0123
    setattr(config, EPS_KEYS[model_type], marked)
    with torch.device("meta"):
        built = transformers.AutoModel.from_config(config)
    norms = [module for module in built.modules() if "norm" in type(module).__name__.lower()]
    held = {getattr(m, "eps", getattr(m, "variance_epsilon", None)) for m in norms}
    assert held == {marked}
