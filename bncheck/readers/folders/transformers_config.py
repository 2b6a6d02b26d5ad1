"""What the config.json of transformers says of the norm layers beside it.

The names of its keys mislead: MobileNet's layer_norm_eps is that of its BatchNorms, and Swin has
LayerNorms that ignore theirs. So eps is taken only for architectures in which one key gives that
of every normalization layer, in each of the library's classes; found by building them all with a
marked value (transformers 5.23), and held by a test.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from bncheck.errors import UnreadableModel
from bncheck.model import NormLayer
from bncheck.readers import strict_json
from bncheck.readers.source import Source

NAME = "config.json"
MAX_BYTES = 2**20
MAX_VALUES = 50_000
MAX_EPS = 1e6
# model types whose normalization layers are all BatchNorm -> the key of their eps
_OF_BATCH_NORMS = {
    "efficientnet": "batch_norm_eps",
    "mobilenet_v1": "layer_norm_eps",
    "swiftformer": "batch_norm_eps",
    "textnet": "batch_norm_eps",
}
# Those that have none but LayerNorm or RMSNorm.
_OF_OTHERS = {
    model_type: key
    for key, types in {
        "layer_norm_eps": (
            "albert bert big_bird camembert convbert deberta deberta-v2 deit dinov2 "
            "dinov2_with_registers electra ernie gpt_neox layoutlm longformer luke mpnet "
            "nystromformer rembert roberta roformer vit vit_mae vit_msn xlm-roberta "
            "xlm-roberta-xl xlnet yolos"
        ),
        "layer_norm_epsilon": (
            "bloom codegen falcon gpt2 gpt_bigcode gpt_neo gptj imagegpt longt5 mpt mt5 "
            "switch_transformers t5 umt5"
        ),
        "norm_epsilon": "starcoder2",
        "norm_eps": "lfm2 modernbert",
        "rms_norm_eps": (
            "gemma gemma2 gemma3_text glm4 gpt_oss granite helium llama mistral mixtral olmo2 "
            "phi3 qwen2 qwen2_moe qwen3 qwen3_moe smollm3"
        ),
    }.items()
    for model_type in types.split()
}
EPS_KEYS: Mapping[str, str] = _OF_BATCH_NORMS | _OF_OTHERS
_MODEL_TYPE = re.compile(r"[A-Za-z0-9_.-]{1,64}")
# The library's own classes are called after the type, and end so.
_ENDINGS = re.compile(
    r"(encoder|lmhead|doubleheads)?model|for(causallm|maskedlm|pretraining|nextsentenceprediction|"
    r"(sequence|token|image)classification|questionanswering|multiplechoice|"
    r"conditionalgeneration|maskedimagemodeling|objectdetection)"
)


@dataclass(frozen=True, slots=True)
class Config:
    """``eps``: of every normalization layer; None where that is not certain."""

    model_type: str
    eps: float | None

    def governs(self, layer: NormLayer) -> bool:
        """Whether a layer of a state_dict is one of those that are meant."""
        return layer.is_batch_norm == (self.model_type in _OF_BATCH_NORMS)


def beside(source: Source) -> Config | None:
    """The configuration beside a model; None where there is none, or none that is sound."""
    try:
        file = source.sibling(NAME)
        if file is None or file.size > MAX_BYTES:
            return None
        held = strict_json.parse(file.read(0, file.size), "a configuration", MAX_VALUES)
    except UnreadableModel:  # the model itself is sound
        return None
    return _config(held)


def _config(held: Mapping[str, object]) -> Config | None:
    model_type = held.get("model_type")
    if not isinstance(model_type, str) or not _MODEL_TYPE.fullmatch(model_type):
        return None
    key = EPS_KEYS.get(model_type)
    certain = key is not None and _is_the_librarys(held, model_type)
    return Config(model_type, _number(held.get(key)) if key and certain else None)


def _is_the_librarys(held: Mapping[str, object], model_type: str) -> bool:
    """Whether a class of the library itself is configured, rather than one derived from it."""
    match held.get("architectures"):
        case [str(name)] if "auto_map" not in held:
            family, low = re.sub(r"[^a-z0-9]", "", model_type.lower()), name.lower()
            return low.startswith(family) and bool(_ENDINGS.fullmatch(low[len(family) :]))
    return False


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if -MAX_EPS < value < MAX_EPS else None
