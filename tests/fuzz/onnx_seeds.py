"""Seeds in ONNX and in the format of onnxruntime."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from seed import Seed, as_file, in_folder
from torch_seeds import example, network

ONNX = {
    "functions and bodies": """
<ir_version: 10, producer_name: "seed", opset_import: ["" : 18, "local" : 1]>
g (float[2, 3, 4, 4] x, bool c) => (y)
<float[3] bn_weight = {1, 2, 3}, float[3] bn_bias = {4, 5, 6}, int64[1] axes = {0},
 float[3] bn_mean = {7, 8, 9}, double[3] bn_var = {1, 2, 3}, float[1, 3, 1, 1] r = {1, 2, 3}> {
  s = Squeeze(r, axes)
  v = Cast<to = 1>(bn_var)
  h = local.norm<e = 0.01>(x, bn_weight, bn_bias, bn_mean, v)
  d, mask = Dropout(h)
  i = If (c) <then_branch = t () => (float[2, 3, 4, 4] o) { o = Mul(d, s) },
    else_branch = f () => (float[2, 3, 4, 4] p) <float[3] k = {1, 2, 3}>
      { p = InstanceNormalization(d, k, k) }>
  y = Conv<kernel_shape = [1, 1], auto_pad = "VALID">(i, x)
}
<domain: "local", opset_import: ["" : 18]> norm<e>(a, b, c, d, f) => (r) {
  r = BatchNormalization<epsilon : float = @e>(a, b, c, d, f)
}
""",
    "a loop": """
<ir_version: 8, opset_import: ["" : 15]>
g (float[N, 3, 4, 4] x, int64 n, bool go) => (float[N, 3, 4, 4] y)
<float[3] s = {1, 2, 3}, float[3] b = {0, 0, 0}, float[3] m = {0, 1, 2}, float[3] v = {1, 1, 2}> {
  y = Loop (n, go, x) <body = l (int64 i, bool c, float[N, 3, 4, 4] a)
    => (bool d, float[N, 3, 4, 4] z) {
      d = Identity(c)
      z, p, q = BatchNormalization<training_mode = 1, momentum = 0.8>(a, s, b, m, v)
    }>
}
""",
    "an old opset": """
<ir_version: 3, opset_import: ["" : 6]>
g (float[1, 3, 4, 4] x, float[3] s, float[3] b, float[3] m, float[3] v) => (float[1, 3, 4, 4] y)
<float[3] s = {1, 2, 3}, float[3] b = {0, 0, 0}, float[3] m = {0, 1, 2}, float[3] v = {1, 1, 2}> {
  n = BatchNormalization<is_test = 1, spatial = 1, epsilon = 0.001>(x, s, b, m, v)
  a = Add<broadcast = 1, axis = 1>(n, b)
  y, mask = Dropout<is_test = 1, ratio = 0.5>(a)
}
""",
}


def onnx_models() -> Iterator[Seed]:
    import onnx
    import torch

    for name, text in ONNX.items():
        data = onnx.parser.parse_model(text).SerializeToString()
        yield Seed("onnx", name, {"model": data})
    for name, training in (("eval", False), ("train", True)):
        options = {"dynamo": False, "do_constant_folding": False}
        if training:
            options["training"] = torch.onnx.TrainingMode.TRAINING
        net = network().train(training)
        files = as_file(lambda path, n=net, o=options: torch.onnx.export(n, example(), path, **o))
        yield Seed("onnx", f"exported, {name}", files)
    model = onnx.load_from_string(files["model"])
    outside = in_folder(
        lambda folder: onnx.save(
            model,
            folder / "model.onnx",
            save_as_external_data=True,
            size_threshold=0,
            location="model.data",
        )
    )
    yield Seed("onnx", "external data", outside, "model.onnx")


def ort_models() -> Iterator[Seed]:
    import onnx
    import onnxruntime

    for name in ("functions and bodies", "a loop"):
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.add_session_config_entry("session.save_model_format", "ORT")
        data = onnx.parser.parse_model(ONNX[name]).SerializeToString()

        def write(path: Path, options: Any = options, data: bytes = data) -> None:
            options.optimized_model_filepath = str(path)
            onnxruntime.InferenceSession(data, options)

        yield Seed("ort", name, as_file(write))
