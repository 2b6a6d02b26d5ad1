from __future__ import annotations

import pytest

from bncheck.facts import Evidence, UnknownFact
from bncheck.model import BatchSize, Model

OPTIMIZER = {"state": {}, "param_groups": []}
NAMESPACE = "argparse.Namespace"


@pytest.fixture
def model(make, read_bytes):
    """The first model of a checkpoint with one BatchNorm and further entries."""

    def build(**beside) -> Model:
        described = {"state_dict": make.batch_norm(), **beside}
        return read_bytes(make.torch(described, make.batch_norm_data()), "model.ckpt")[0]

    return build


class TestTrainingState:
    @pytest.mark.parametrize(
        ("beside", "said"),
        [
            ({"optimizer": OPTIMIZER}, "it holds the state of an optimizer"),
            ({"optimizer_states": [OPTIMIZER]}, "it holds the state of an optimizer"),
            ({"opt": OPTIMIZER, "epoch": 3}, "it holds the state of an optimizer"),
            ({"epoch": 0}, "it holds epoch 0"),
            ({"global_step": 500, "x": 1}, "it holds global_step 500"),
        ],
    )
    def test_training_checkpoints(self, model, beside, said):
        assert model(**beside).training_state == said

    @pytest.mark.parametrize(
        "beside",
        [
            {},
            {"optimizer": None},
            {"optimizer_states": []},
            {"epoch": -1},  # Ultralytics, of a finished training
            {"epoch": True},
            {"epoch": "last"},
            {"epoch": 2**70},
        ],
    )
    def test_others(self, model, beside):
        assert model(**beside).training_state is None


def size_of(found: Model) -> BatchSize | str:
    try:
        return found.batch_size
    except UnknownFact as error:
        return error.unknown.why


class TestBatchSize:
    @pytest.mark.parametrize("key", ["hyper_parameters", "datamodule_hyper_parameters"])
    @pytest.mark.parametrize("name", ["batch_size", "train_batch_size", "batch_size_per_gpu"])
    def test_lightning(self, model, key, name):
        found = model(**{key: {name: 2, "lr": 0.1}})
        assert size_of(found) == BatchSize(2, f"{key}: {name}")
        assert Evidence.METADATA in found.evidence

    def test_hyper_parameters_may_be_a_namespace(self, model, make):
        found = model(hyper_parameters=make.Call(NAMESPACE, (), {"batch_size": 8}))
        assert size_of(found) == BatchSize(8, "hyper_parameters: batch_size")

    def test_the_first_that_tells_is_asked(self, model):
        found = model(hyper_parameters={"lr": 1.0}, datamodule_hyper_parameters={"batch_size": 4})
        assert size_of(found) == BatchSize(4, "datamodule_hyper_parameters: batch_size")

    @pytest.mark.parametrize("flag", ["sync_batchnorm", "sync_bn"])
    def test_synchronised_over_devices(self, model, flag):
        found = model(hyper_parameters={"batch_size": 2, flag: True})
        assert "unknown number of devices" in size_of(found)

    @pytest.mark.parametrize("size", [0, -1, 0.5, True, None, "8", [8], 2**40])
    def test_what_is_no_size(self, model, size):
        assert size_of(model(hyper_parameters={"batch_size": size})) == "no batch size in this file"

    @pytest.mark.parametrize("hyper", [None, [], "x", {1: 2}])
    def test_what_are_no_hyper_parameters(self, model, hyper):
        assert size_of(model(hyper_parameters=hyper)) == "no batch size in this file"

    @pytest.mark.parametrize(
        ("batch", "device", "expected"),
        [
            (16, 0, 16),
            (16, "0", 16),
            (16, "cpu", 16),
            (16, "cuda:1", 16),
            (16, "0,1", 8),
            (16, "0, 1, 2, 3", 4),
            (16, [0, 1, 2, 3], 4),
            (3, [0, 1, 2, 3], 1),
            (16, None, "unknown number of devices"),
            (16, "", "unknown number of devices"),
            (-1, 0, "chosen automatically"),
            (0.7, 0, "chosen automatically"),
            (None, 0, "chosen automatically"),
        ],
    )
    @pytest.mark.parametrize("as_namespace", [False, True])
    def test_ultralytics(self, model, make, batch, device, expected, as_namespace):
        arguments = {"batch": batch, "device": device}
        held = make.Call(NAMESPACE, (), arguments) if as_namespace else arguments
        found = size_of(model(model=None, train_args=held))
        assert found.samples == expected if isinstance(expected, int) else expected in found

    @pytest.mark.parametrize(
        ("device", "expected"), [("0", 16), ("0,1", 8), ("", "unknown number")]
    )
    def test_yolov5(self, model, device, expected):
        opt = {"batch_size": 16, "device": device, "hyp": {}, "imgsz": 640, "multi_scale": False}
        found = size_of(model(model=None, opt=opt))
        assert found.samples == expected if isinstance(expected, int) else expected in found

    def test_an_opt_of_somebody_else(self, model):
        assert size_of(model(model=None, opt={"batch_size": 16})) == "no batch size in this file"


class TestLoader:
    def test_ultralytics_switches_a_module_to_eval_mode(self, make, read_bytes):
        norm = make.module("torch.nn.modules.batchnorm.BatchNorm2d", buffers={"running_mean": None})
        net = make.module("ultralytics.nn.tasks.DetectionModel", {"0": norm}, training=True)
        (found,) = read_bytes(make.torch({"model": net, "ema": None, "train_args": {"batch": 16}}))
        assert found.loader_calls_eval == "Ultralytics' loader"
        assert found.layers[0].training is False

    @pytest.mark.parametrize("beside", [{}, {"train_args": {}}])
    def test_others_do_not(self, model, beside):
        assert model(**beside).loader_calls_eval is None


class TestTrainingArguments:
    """transformers writes training_args.bin beside the model."""

    @pytest.fixture
    def beside(self, make, tmp_path):
        def write(**arguments) -> None:
            described = make.Call("transformers.training_args.TrainingArguments", (), arguments)
            (tmp_path / "training_args.bin").write_bytes(make.torch(described))

        return write

    def test_batch_size(self, model, beside):
        beside(per_device_train_batch_size=2, train_batch_size=16)
        found = model()
        assert size_of(found) == BatchSize(2, "training_args.bin: per_device_train_batch_size")
        assert Evidence.METADATA in found.evidence

    def test_the_file_itself_comes_first(self, model, beside):
        beside(per_device_train_batch_size=2)
        assert size_of(model(hyper_parameters={"batch_size": 9})).samples == 9

    @pytest.mark.parametrize("content", [b"", b"PK\3\4 damaged", b"\x80\x02N."])
    def test_a_broken_one_does_not_hide_the_model(self, model, tmp_path, content):
        (tmp_path / "training_args.bin").write_bytes(content)
        assert size_of(model()) == "no batch size in this file"

    def test_it_is_not_asked_for_a_model_without_batch_norm(self, make, read_bytes, beside):
        beside(per_device_train_batch_size=2)
        described = {name: make.tensor("bias", (4,)) for name in ("ln.weight", "ln.bias")}
        (found,) = read_bytes(make.torch(described))
        assert size_of(found) == "no batch size in this file"


class TestNestedHyperParameters:
    """Lightning keeps what the user gave, Hydra's configuration among it."""

    @pytest.mark.parametrize(
        ("hyper", "expected"),
        [
            ({"data": {"batch_size": 2}}, BatchSize(2, "hyper_parameters: data.batch_size")),
            (
                {"a": {"b": {"c": {"batch_size_per_gpu": 3}}}},
                BatchSize(3, "hyper_parameters: a.b.c.batch_size_per_gpu"),
            ),
            (
                {"batch_size": 8, "aux": {"batch_size": 2}},
                BatchSize(8, "hyper_parameters: batch_size"),
            ),
            (
                {"data": {"batch_size": 2}, "copy": {"batch_size": 2}},
                BatchSize(2, "hyper_parameters: data.batch_size"),
            ),
            (
                {
                    "train": {"batch_size": 8},
                    "val": {"batch_size": 1},
                    "test_data": {"batch_size": 1},
                },
                BatchSize(8, "hyper_parameters: train.batch_size"),
            ),
        ],
    )
    def test_found(self, model, hyper, expected):
        assert size_of(model(hyper_parameters=hyper)) == expected

    @pytest.mark.parametrize(
        ("hyper", "why"),
        [
            (
                {"source": {"batch_size": 2}, "target": {"batch_size": 8}},
                "several (hyper_parameters.source.batch_size = 2, ",
            ),
            ({"val": {"batch_size": 1}}, "no batch size"),
            ({"deepspeed": {"train_batch_size": 2}}, "no batch size"),  # a total
            ({"data": {"batch_size": 2}, "trainer": {"sync_batchnorm": True}}, "synchronised"),
        ],
    )
    def test_left_open(self, model, hyper, why):
        assert why in size_of(model(hyper_parameters=hyper))

    def test_each_object_is_looked_at_once(self, model):
        """Six levels that refer twenty times to the next would be 20**6 places."""
        hyper = {"batch_size": 2}
        for _ in range(6):
            hyper = {f"x{i}": hyper for i in range(20)}
        assert size_of(model(hyper_parameters=hyper)).samples == 2

    def test_too_deep_is_too_deep(self, model):
        hyper = {"batch_size": 2}
        for _ in range(50):
            hyper = {"x": hyper}
        assert size_of(model(hyper_parameters=hyper)) == "no batch size in this file"


class TestOmegaConf:
    @staticmethod
    def config(make, **entries):
        """A DictConfig as it is pickled: its nodes know their parent."""
        content: dict = {}
        config = make.Call(
            "omegaconf.dictconfig.DictConfig", (), {"_metadata": {}, "_content": content}, new=True
        )
        for name, value in entries.items():
            node = make.Call(
                "omegaconf.nodes.AnyNode", (), {"_parent": None, "_val": value}, new=True
            )
            content[name] = value if isinstance(value, make.Call) else node
        return config

    def test_values_are_unboxed(self, model, make):
        inner = self.config(make, batch_size=2, workers=4)
        found = model(hyper_parameters=self.config(make, data=inner, lr=0.1))
        assert size_of(found) == BatchSize(2, "hyper_parameters: data.batch_size")

    @pytest.mark.parametrize("value", ["${data.size}", "???", None])
    def test_an_interpolation_is_no_number(self, model, make, value):
        found = model(hyper_parameters=self.config(make, batch_size=value))
        assert size_of(found) == "no batch size in this file"

    @pytest.mark.parametrize("content", ["${other}", "???", None, []])
    def test_a_whole_configuration_may_be_one_too(self, model, make, content):
        path = "omegaconf.dictconfig.DictConfig"
        config = make.Call(path, (), {"_content": content}, new=True)
        assert size_of(model(hyper_parameters=config)) == "no batch size in this file"


TIMM = {"dist_bn": "reduce", "split_bn": False, "sync_bn": False}
DISTRIBUTED = {"dist_url": "env://", "world_size": 8}


class TestScripts:
    """``args`` means what the script makes of it: the size of each process, or of all."""

    @pytest.mark.parametrize(
        ("arguments", "script"),
        [
            (TIMM, "timm"),
            ({"data_path": "", "print_freq": 10, "test_only": False, **DISTRIBUTED}, "torchvision"),
            ({"dist_on_itp": False, **DISTRIBUTED}, "MAE, BEiT, ConvNeXt"),
            ({"repeated_aug": True, **DISTRIBUTED}, "DeiT"),
            ({"max_tokens": None, "update_freq": [1], "distributed_world_size": 8}, "fairseq"),
        ],
    )
    @pytest.mark.parametrize("as_namespace", [False, True])
    def test_known_scripts(self, model, make, arguments, script, as_namespace):
        held = {"batch_size": 2, **arguments}
        found = model(args=make.Call(NAMESPACE, (), held) if as_namespace else held)
        assert size_of(found) == BatchSize(2, f"args: batch_size, in the script of {script}")

    @pytest.mark.parametrize("name", ["batch_size_per_gpu", "samples_per_gpu"])
    def test_a_name_that_says_it(self, model, name):
        assert size_of(model(args={name: 2})) == BatchSize(2, f"args: {name}")

    def test_max_sentences_of_old_fairseq(self, model):
        arguments = {"max_tokens": None, "update_freq": [1], "distributed_world_size": 8}
        found = model(args={"max_sentences": 4, **arguments}, last_optimizer_state=OPTIMIZER)
        assert size_of(found).samples == 4

    def test_cfg_of_new_fairseq(self, model):
        dataset = {"num_workers": 1, "max_tokens": None, "batch_size": 4}
        assert size_of(model(cfg={"dataset": dataset})).source.startswith("cfg: dataset.batch_size")
        assert size_of(model(cfg={"dataset": {"batch_size": 4}})) == "no batch size in this file"

    @pytest.mark.parametrize("key", ["args", "cfg"])
    def test_any_other_script(self, model, key):
        assert size_of(model(**{key: {"batch_size": 2}})) == (
            f"{key}: batch_size is 2, and whether on each device or in total is not in this file"
        )

    def test_synchronised(self, model):
        assert "synchronised" in size_of(model(args={"batch_size": 2, **TIMM, "sync_bn": True}))
        assert "synchronised" in size_of(model(args={"batch_size": 2, **TIMM, "split_bn": True}))

    @pytest.mark.parametrize("size", [None, 0, -1, "8", 2.0, True])
    def test_no_size(self, model, size):
        assert size_of(model(args={"batch_size": size, **TIMM})) == "no batch size in this file"
