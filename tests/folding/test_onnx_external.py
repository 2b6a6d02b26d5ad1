"""Models whose weights lie beside them: copied byte by byte, never written over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

from onnx_models import model  # noqa: E402

import bncheck  # noqa: E402

SHAPES = {"w": (16, 3, 5, 5), "u": (3, 16, 3, 3)}


def saved(path: Path, location: str) -> Path:
    """Two convolutions, of which the first has a BatchNorm; all weights in a file of their own."""
    made = model("c = Conv(x, w)\nb = BN16(c)\ny = Conv(b, u)", SHAPES)
    onnx.save(made, path, save_as_external_data=True, location=location, size_threshold=0)
    return path


def output_of(path: Path) -> Any:
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    x = np.random.default_rng(0).normal(0, 1, (2, 3, 8, 8)).astype(np.float32)
    return session.run(None, {"x": x})[0]


def places(path: Path) -> dict[str, dict[str, str]]:
    held = onnx.load(path, load_external_data=False).graph.initializer
    return {t.name: {e.key: e.value for e in t.external_data} for t in held if t.external_data}


def test_new_values_lie_in_a_new_file(tmp_path: Path) -> None:
    source = saved(tmp_path / "in.onnx", "weights.bin")
    result = bncheck.fold(source, tmp_path / "out.onnx")
    assert len(result.folded) == 1
    onnx.checker.check_model(str(tmp_path / "out.onnx"))
    np.testing.assert_allclose(
        output_of(tmp_path / "out.onnx"), output_of(source), rtol=1e-4, atol=1e-4
    )
    assert {each["location"] for each in places(tmp_path / "out.onnx").values()} == {
        "out.onnx.data"
    }


def test_the_folded_model_needs_nothing_of_the_original(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    source = saved(tmp_path / "a" / "in.onnx", "weights.bin")
    before = output_of(source)
    bncheck.fold(source, tmp_path / "b" / "out.onnx")
    for each in (tmp_path / "a").iterdir():
        each.unlink()
    np.testing.assert_allclose(output_of(tmp_path / "b" / "out.onnx"), before, rtol=1e-4, atol=1e-4)


def test_data_of_the_original_are_not_written_over(tmp_path: Path) -> None:
    source = saved(tmp_path / "in.onnx", "out.onnx.data")
    before = (tmp_path / "out.onnx.data").read_bytes()
    bncheck.fold(source, tmp_path / "out.onnx")
    assert (tmp_path / "out.onnx.data").read_bytes() == before
    assert {each["location"] for each in places(tmp_path / "out.onnx").values()} == {
        "out.onnx.2.data"
    }


def test_the_target_is_not_a_data_file(tmp_path: Path) -> None:
    source = saved(tmp_path / "in.onnx", "weights.bin")
    with pytest.raises(bncheck.CannotFold, match="holds data of the model"):
        bncheck.fold(source, tmp_path / "weights.bin")


def test_a_place_that_two_tensors_share_is_copied_once(tmp_path: Path) -> None:
    source = saved(tmp_path / "in.onnx", "weights.bin")
    made = onnx.load(source, load_external_data=False)
    twin = onnx.TensorProto()
    twin.CopyFrom(next(each for each in made.graph.initializer if each.name == "u"))
    twin.name = "twin"
    made.graph.initializer.append(twin)
    made.graph.node.append(onnx.helper.make_node("Conv", ["b", "twin"], ["z"]))
    made.graph.output.append(onnx.helper.make_empty_tensor_value_info("z"))
    source.write_bytes(made.SerializeToString())
    bncheck.fold(source, tmp_path / "out.onnx", verify=False)
    found = places(tmp_path / "out.onnx")
    assert found["u"] == found["twin"]


def test_a_constant_in_a_node_may_lie_beside_the_model(tmp_path: Path) -> None:
    source = saved(tmp_path / "in.onnx", "weights.bin")
    made = onnx.load(source, load_external_data=False)
    held = next(each for each in made.graph.initializer if each.name == "u")
    constant = onnx.helper.make_node("Constant", [], ["u"], value=held)
    made.graph.node.insert(0, constant)
    made.graph.initializer.remove(held)
    source.write_bytes(made.SerializeToString())
    bncheck.fold(source, tmp_path / "out.onnx", verify=False)
    (tmp_path / "weights.bin").unlink()
    loaded = onnx.load(tmp_path / "out.onnx")
    value = next(n for n in loaded.graph.node if n.op_type == "Constant").attribute[0].t
    expected = model("y = Conv(x, u)", SHAPES).graph.initializer
    array = next(onnx.numpy_helper.to_array(each) for each in expected if each.name == "u")
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(value), array)


BROKEN = {
    "offset no number": ({"offset": "x"}, "no sound place"),
    "offset no integer": ({"offset": "1e3"}, "no sound place"),
    "offset below zero": ({"offset": "-8"}, "no sound place"),
    "offset beyond all files": ({"offset": "9" * 30}, "no sound place"),
    "offset beyond the file": ({"offset": "999999"}, "ends at byte"),
    "length below zero": ({"length": "-4"}, "no sound place"),
    "length no integer": ({"length": "1.5"}, "no sound place"),
    "length too short": ({"length": "10"}, "another size"),
    "length too long": ({"length": "99999"}, "another size"),
    "outside the folder": ({"location": "../weights.bin"}, "outside its own folder"),
    "an absolute path": ({"location": "/weights.bin"}, "outside its own folder"),
    "missing": ({"location": "nowhere.bin"}, "is missing"),
    "no name": ({"location": ""}, "is missing"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_place_is_one_line(name: str, tmp_path: Path) -> None:
    changes, words = BROKEN[name]
    source = saved(tmp_path / "in.onnx", "weights.bin")
    made = onnx.load(source, load_external_data=False)
    tensor = next(each for each in made.graph.initializer if each.name == "u")
    for entry in tensor.external_data:
        entry.value = changes.get(entry.key, entry.value)
    source.write_bytes(made.SerializeToString())
    with pytest.raises(bncheck.UnreadableModel, match=words) as caught:
        bncheck.fold(source, tmp_path / "out.onnx", verify=False)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out.onnx").exists()
