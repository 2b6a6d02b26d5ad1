"""Every attack on readers of models that is known to us, and the test that makes it as a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

HERE = Path(__file__).parent

# attack -> the test's file, and words in it
INDEX: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "zip": {
        "a name twice: torch takes the first, Python the last": ("test_ziparchive", "a name twice"),
        "two archives in a row": ("test_ziparchive", "two archives, the second says so"),
        "an entry that points at another's header": ("test_ziparchive", "points at another"),
        "entries that overlap": ("test_ziparchive", "points into another"),
        "a local header of another name (CVE-2025-1944)": ("test_ziparchive", "another name in"),
        "flags of a password (CVE-2025-1945)": ("test_ziparchive", "an encrypted directory"),
        "a wrong checksum (CVE-2025-10156)": ("test_odd_files_and_places", "test_a_wrong_checksum"),
        "an entry marked as a folder": ("test_ziparchive", "a folder that holds data"),
        "an entry that is a link": ("test_odd_files_and_places", "test_an_entry_that_is_a_link"),
        "absolute names, names with ..": ("test_odd_files_and_places", "test_names_that_lead_out"),
        "bytes before and behind": ("test_ziparchive", "bytes before that nobody counts"),
        "an end record in the comment": ("test_ziparchive", "an end record in the comment"),
        "64-bit records that lie": ("test_ziparchive", "64-bit end record of another count"),
        "a million entries": ("test_ziparchive", "a million entries"),
        "bombs": ("test_ziparchive", "class TestBombs"),
        "a bomb of code": ("test_torchscript_attacks", "a bomb"),
        "a bomb in each storage": ("test_costly_files", "test_bombs"),
        "names that differ in case alone": ("test_ziparchive", "in_two_spellings"),
        "several top folders": ("test_torch_zip", "top folder"),
    },
    "pickle": {
        "functions that no blocklist names (CVE-2025-1716)": ("test_nothing_is_run", "DANGEROUS"),
        "submodules (CVE-2025-10157)": (
            "test_nothing_is_run",
            "torch.utils.bottleneck",
        ),
        "calls of every kind: REDUCE, NEWOBJ, INST, OBJ": ("test_nothing_is_run", "CALLS"),
        "BUILD with __setstate__ or slots": ("test_nothing_is_run", "__setstate__"),
        "changes of a tensor after it was made": ("test_torch_values", "changes a tensor"),
        "extension codes": ("test_pickle_machine", "the extension registry"),
        "buffers from outside": ("test_pickle_machine", "a buffer from outside"),
        "persistent ids that are no storage": ("test_torch_storage", "another reference"),
        "a storage of two types": ("test_torch_package", "a_storage_of_two_types"),
        "memo bombs": ("test_pickle_attacks", "a far place in the memo"),
        "huge sizes": ("test_pickle_attacks", "bytes of eight exabytes"),
        "huge frames": ("test_pickle_attacks", "a frame of eight exabytes"),
        "huge bytearrays by opcode": ("test_pickle_attacks", "a byte array of eight exabytes"),
        "huge bytearrays by a call": ("test_pickle_attacks", "a bytearray of 8 gigabytes"),
        "huge numbers": ("test_pickle_attacks", "a number of 50 megabytes"),
        "numbers of many digits": ("test_pickle_attacks", "a number of a million digits"),
        "50 MB of }": ("test_pickle_attacks", "50 million dictionaries"),
        "keys of one hash": ("test_pickle_attacks", "150,000 keys of one hash"),
        "deep tuples as keys": ("test_pickle_attacks", "a deep tuple as a key"),
        "deep nesting": ("test_pickle_attacks", "a deep list"),
        "billion laughs": ("test_pickle_attacks", "laughs"),
        "values in themselves": ("test_pickle_attacks", "a dictionary in itself"),
        "modules in themselves": ("test_pickle_attacks", "a module in itself"),
        "quadratic arguments": ("test_pickle_attacks", "arguments of many calls"),
        "keys that cannot be hashed": ("test_nothing_is_run", "test_keys_that_cannot_be_hashed"),
        "odd protocols": ("test_pickle_machine", "a protocol to come"),
        "expanded tensors": ("test_pickle_attacks", "a trillion elements"),
        "offsets and strides out of bounds": ("test_torch_storage", "a_view_beyond_its_storage"),
        "the tar of torch 0.1 (CVE-2025-32434)": ("test_sniff", "torch 0.1"),
    },
    "safetensors": {
        "a header of 90 MB": ("test_safetensors", "a header of 90 MB"),
        "a length that is not there": ("test_safetensors", "a header of a terabyte"),
        "overlap": ("test_safetensors", "overlap"),
        "holes": ("test_safetensors", "a hole at the start"),
        "bytes out of the file": ("test_safetensors", "bytes that are not there"),
        "a name twice": ("test_safetensors", "a name twice"),
        "a size that the type does not give": ("test_safetensors", "the shape does not have"),
        "deep JSON": ("test_safetensors", "deep JSON"),
    },
    "ONNX": {
        "external data: ../ (CVE-2022-25882)": ("test_onnx_values", '"../w.bin"'),
        "external data: a/../ (CVE-2024-27318)": ("test_onnx_values", "sub/../../w.bin"),
        "external data: a symbolic link": ("test_onnx_values", "may_not_link_out"),
        "external data: a hard link": ("test_odd_files_and_places", "test_a_hard_link"),
        "external data: a pipe or a device": ("test_odd_files_and_places", "test_pipes"),
        "external data: out of range": ("test_onnx_values", "1 << 62"),
        "an initializer twice": ("test_onnx_inline", "twice"),
        "two graphs, which protobuf merges": ("test_onnx_hostile", "2 graphs"),
        "groups": ("test_protobuf", "a group"),
        "overlong numbers": ("test_protobuf", "more than 64 bits"),
        "negative lengths": ("test_protobuf", "a negative length"),
        "deep subgraphs": ("test_onnx_hostile", "graph_of_graphs"),
        "functions that call themselves": ("test_costly_files", "a function that calls itself"),
        "functions that call each other, doubling": ("test_costly_files", "functions that double"),
        "loops in loops": ("test_costly_files", "loops in loops"),
        "packed numbers": ("test_onnx_hostile", "the same, packed"),
        "a packed number of values": ("test_costly_files", "many packed values"),
        "tensors without end in one place": (
            "test_costly_files",
            "test_one_place_for_many_tensors",
        ),
        "many empty messages": ("test_onnx_hostile", "empty nodes"),
        "text tensors": ("test_costly_files", "a tensor of text"),
        "a huge shape": ("test_onnx_hostile", "huge_shape"),
    },
    "TorchScript": {
        "deep code": ("test_torchscript_attacks", "brackets"),
        "exponential calls": ("test_torchscript_attacks", "exponential calls"),
        "loops in loops": ("test_torchscript_attacks", "loops in loops"),
        "long code": ("test_torchscript_attacks", "empty lines"),
        "many functions": ("test_torchscript_attacks", "many functions"),
    },
    "torch.export": {
        "pickles that torch.export.load runs": (
            "test_nothing_is_run",
            "data/sample_inputs/model.pt",
        ),
        "deep JSON": ("test_exported_archive", 'b"[" * 200_000'),
        "large JSON": ("test_exported_archive", "BOMBS"),
        "graphs in graphs": ("test_exported_archive", "deep(40)"),
        "paths of weights": ("test_exported_archive", "leads_no_further_than_the_archive"),
        "tables that lie": ("test_exported_archive", "tables_of_weights_that_do_harm"),
    },
    "folders": {
        "shards elsewhere": ("test_shards", '"../a.safetensors"'),
        "an index in itself": ("test_shards", '"x": INDEX'),
        "an index of many files": ("test_shards", "an_index_of_too_many_files"),
        "a shard that links out": ("test_shards", "a_link_out_of_the_folder"),
        "chunks elsewhere": ("test_distributed", "a_file_outside_the_folder"),
        "chunks that overlap": ("test_distributed", "two_tensors_in_one_place"),
        "a configuration that links out": ("test_companions", "links_out_of_the_folder"),
        "companions that are pipes": ("test_odd_files_and_places", "test_pipes"),
        "companions with a pickle": ("test_nothing_is_run", "training_args.bin"),
    },
    "files": {
        "another extension (CVE-2025-1889, CVE-2025-10155)": (
            "test_odd_files_and_places",
            "test_any_name",
        ),
        "pipes": ("test_source", "a_pipe_is_not_waited_for"),
        "devices": ("test_source", "test_device"),
        "links in a circle": ("test_source", "a_circle_of_links"),
        "a file that shrinks": ("test_source", "a_file_that_shrinks"),
        "Git LFS pointers": ("test_sniff", "git lfs pull"),
        "truncated downloads": ("test_torch_zip", "a_truncated_download"),
    },
}
LISTED = {f"{kind}: {name}": test for kind, some in INDEX.items() for name, test in some.items()}


@pytest.mark.parametrize("attack", LISTED)
def test_there_is_a_test(attack: str) -> None:
    file, words = LISTED[attack]
    (path,) = HERE.rglob(f"{file}.py")
    assert words in path.read_text(encoding="utf-8")
