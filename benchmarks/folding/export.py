"""Writes a network as ONNX with its BatchNorms kept, and what it computes in float64.

``python -m benchmarks.folding.export NETWORK MODEL.onnx TRUTH.npz``
"""

from __future__ import annotations

import sys
import warnings

import numpy as np
import torch

from benchmarks.folding.networks import network


@torch.no_grad()
def main() -> None:
    name, path, truth = sys.argv[1:]
    warnings.filterwarnings("ignore")
    model, data = network(name)
    torch.onnx.export(
        model,
        (data,),
        path,
        dynamo=False,
        opset_version=17,
        training=torch.onnx.TrainingMode.PRESERVE,
        do_constant_folding=False,
    )
    expected = model.double()(data.double())
    np.savez(truth, feed=data.numpy(), truth=expected.numpy())


if __name__ == "__main__":
    main()
