"""What a run costs before and beside its work: imports, and bytes read. Each in a fresh process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import bncheck

FIXTURES = Path(__file__).parent.parent / "fixtures"
HEAVY = {"torch", "onnx", "onnxruntime", "numpy", "tabulate", "pickle", "safetensors"}
HEAVY |= {"jinja2", "junitparser", "markdown_it", "multiprocessing"}
FILES = {
    "module": "BN101-training-mode/good-module.pt",
    "state_dict": "BN202-negative-variance/good-state-dict.pt",
    "checkpoint": "BN101-training-mode/info-training-checkpoint.pt",
    "hyper-parameters beside": "BN301-tiny-batch/warning-transformers/model.safetensors",
    "safetensors": "BN101-training-mode/unknown.safetensors",
    "onnx": "BN202-negative-variance/good.onnx",
}


def imported_by(code: str) -> set[str]:
    """The modules that code imports beyond those of a bare interpreter."""
    script = f"import sys; bare = set(sys.modules); {code}\nprint(*(set(sys.modules) - bare))"
    return {name.partition(".")[0] for name in run(script).splitlines()[-1].split()}


def run(script: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(Path(bncheck.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_bncheck_imports_next_to_nothing():
    imported = imported_by("import bncheck")
    assert imported.isdisjoint(HEAVY | {"click"})
    assert "bncheck" in imported


@pytest.mark.parametrize("name", FILES)
def test_inspecting_imports_nothing_heavy(name):
    path = str(FIXTURES / FILES[name])
    code = f"import bncheck; assert bncheck.inspect({path!r})[0].layers"
    assert imported_by(code).isdisjoint(HEAVY | {"click"})


@pytest.mark.parametrize("name", FILES)
def test_checking_imports_nothing_heavy(name):
    path = str(FIXTURES / FILES[name])
    assert imported_by(f"from bncheck.cli import main; main([{path!r}])").isdisjoint(HEAVY)


HELP = (["--help"], ["check", "--help"], ["explain", "BN101"], ["rules"])
MODEL_LIBRARIES = HEAVY - {"tabulate"}


@pytest.mark.parametrize("words", HELP, ids=" ".join)
def test_help_and_pages_import_no_library_of_models(words):
    imported = imported_by(f"from bncheck.cli import main; main({words!r})")
    assert imported.isdisjoint(MODEL_LIBRARIES)


def test_a_state_dict_needs_no_fold_planner():
    path = str(FIXTURES / FILES["state_dict"])
    code = (
        f"from bncheck.cli import main; main([{path!r}]); print('bncheck.folding' in sys.modules)"
    )
    assert run(f"import sys; {code}").splitlines()[-1] == "False"


def test_the_format_of_before_1_6_imports_nothing_heavy(tmp_path):
    torch = pytest.importorskip("torch")
    path = tmp_path / "model.pt"
    torch.save(torch.nn.BatchNorm2d(2), path, _use_new_zipfile_serialization=False)
    code = f"from bncheck.cli import main; main([{str(path)!r}])"
    assert imported_by(code).isdisjoint(HEAVY)


COUNT = """
import json, os
counts, plain = [0, 0], os.pread
def counted(descriptor, length, offset):
    data = plain(descriptor, length, offset)
    counts[0] += 1
    counts[1] += len(data)
    return data
os.pread = counted
import bncheck
report = bncheck.check({path!r})
assert report.layers
print(json.dumps(counts))
"""


def bytes_read(path: Path) -> int:
    """Bytes that a check reads of a file."""
    return json.loads(run(COUNT.format(path=str(path))))[1]


@pytest.mark.skipif(sys.platform == "win32", reason="no pread")
@pytest.mark.parametrize("form", ["module", "state_dict", "old module", "safetensors"])
def test_bytes_read_do_not_grow_with_the_other_weights(form, tmp_path):
    torch = pytest.importorskip("torch")

    def saved(name: str, width: int) -> Path:
        nn, path = torch.nn, tmp_path / name
        net = nn.Sequential(nn.Linear(width, width), nn.BatchNorm1d(4), nn.Linear(width, width))
        if form == "safetensors":
            pytest.importorskip("safetensors.torch").save_file(net.state_dict(), path)
        elif form == "state_dict":
            torch.save(net.state_dict(), path)
        else:
            torch.save(net, path, _use_new_zipfile_serialization=form == "module")
        return path

    small, large = saved("small.pt", 64), saved("large.pt", 2600)
    assert large.stat().st_size > 50 * 2**20
    allowed = 2**20 if form == "old module" else 2**12  # the old format is read ahead
    assert bytes_read(large) - bytes_read(small) < allowed
