"""The architectures of transformers: model, configuration, options, shapes of the arguments.

Shapes lack the batch. All are small, but for those of which the size is part of the architecture.
"""

from __future__ import annotations

from typing import Any

Shapes = dict[str, tuple[int, ...]]
Recipe = tuple[str, str, dict[str, Any], Shapes]

VOCABULARY = 64
PIXELS: Shapes = {"pixel_values": (3, 64, 64)}
TOKENS: Shapes = {"input_ids": (12,)}
SOUND: Shapes = {"input_values": (2000,)}
WIDTH = {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 64}
ENCODER = {**WIDTH, "num_hidden_layers": 3}
IMAGE = {**ENCODER, "image_size": 64, "patch_size": 16}
TEXT = {**ENCODER, "vocab_size": VOCABULARY, "max_position_embeddings": 64}
DECODER = {**TEXT, "num_key_value_heads": 2, "head_dim": 8, "pad_token_id": 0}
STAGES = {"hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 2, 1]}
SPEECH = {
    **ENCODER,
    "conv_dim": [16, 16, 16],
    "conv_kernel": [10, 3, 3],
    "conv_stride": [5, 2, 2],
    "num_feat_extract_layers": 3,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "layerdrop": 0.0,
}
SERIES = {"context_length": 32, "patch_length": 8, "num_input_channels": 3, "prediction_length": 8}
PAST: Shapes = {"past_values": (32, 3)}


def _images(family: str, **options: Any) -> Recipe:
    return f"{family}Model", f"{family}Config", options, PIXELS


def _texts(family: str, **options: Any) -> Recipe:
    return f"{family}Model", f"{family}Config", options, TOKENS


def _decoder(family: str, **options: Any) -> Recipe:
    return f"{family}ForCausalLM", f"{family}Config", {**DECODER, **options}, TOKENS


def _sounds(family: str, **options: Any) -> Recipe:
    return f"{family}Model", f"{family}Config", {**SPEECH, **options}, SOUND


CONVOLUTIONAL: dict[str, Recipe] = {
    "resnet": _images("ResNet", embedding_size=16, **STAGES),
    "regnet": _images("RegNet", embedding_size=16, groups_width=8, **STAGES),
    "regnet_y": _images("RegNet", embedding_size=16, groups_width=8, layer_type="y", **STAGES),
    "mobilenet_v1": _images("MobileNetV1", depth_multiplier=0.25),
    "mobilenet_v2": _images("MobileNetV2", depth_multiplier=0.35),
    "efficientnet": _images("EfficientNet", width_coefficient=0.5, hidden_dim=640),
    "hgnet_v2": ("HGNetV2ForImageClassification", "HGNetV2Config", {}, PIXELS),
    "pp_lcnet": ("PPLCNetForImageClassification", "PPLCNetConfig", {}, PIXELS),
    "textnet": _images("TextNet"),
    "bit": _images(
        "Bit", embedding_size=16, hidden_sizes=[32, 64, 96, 128], depths=[1, 1, 1, 1], num_groups=4
    ),
    "convnext": _images("ConvNext", **STAGES),
    "convnext_v2": _images("ConvNextV2", **STAGES),
    "focalnet": _images("FocalNet", embed_dim=16, depths=[1, 1, 1, 1], image_size=64),
    "poolformer": _images("PoolFormer", **STAGES),
}
HYBRID: dict[str, Recipe] = {
    "levit": _images("Levit", image_size=64, hidden_sizes=[32, 48, 64], depths=[2, 2, 2]),
    "cvt": _images("Cvt", embed_dim=[16, 32, 64], depth=[1, 2, 3], num_heads=[1, 2, 4]),
    "mobilevit": _images("MobileViT", image_size=64),
    "mobilevit_v2": _images("MobileViTV2", image_size=64, width_multiplier=0.5),
    "swiftformer": _images("SwiftFormer", image_size=64),
    "segformer": (
        "SegformerForSemanticSegmentation",
        "SegformerConfig",
        {"decoder_hidden_size": 32, "hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1]},
        PIXELS,
    ),
    "dpt": (
        "DPTForDepthEstimation",
        "DPTConfig",
        {
            **IMAGE,
            "num_hidden_layers": 4,
            "backbone_out_indices": [0, 1, 2, 3],
            "neck_hidden_sizes": [16, 16, 32, 32],
            "fusion_hidden_size": 16,
            "use_batch_norm_in_fusion_residual": True,
            "is_hybrid": False,
        },
        PIXELS,
    ),
    "beit_segmentation": (
        "BeitForSemanticSegmentation",
        "BeitConfig",
        {**IMAGE, "num_hidden_layers": 4, "out_indices": [1, 2, 3, 4]},
        PIXELS,
    ),
    "glpn": _images("GLPN"),
    "pvt": _images("Pvt", image_size=64),
    "pvt_v2": _images("PvtV2", image_size=64),
    "superpoint": ("SuperPointForKeypointDetection", "SuperPointConfig", {}, PIXELS),
    "vitpose": (
        "VitPoseForPoseEstimation",
        "VitPoseConfig",
        {"use_simple_decoder": False},
        {"pixel_values": (3, 256, 192)},
    ),
    "yolos": _images("Yolos", **{**IMAGE, "image_size": [64, 64]}),
    "detr": (
        "DetrModel",
        "DetrConfig",
        {
            "use_timm_backbone": False,
            "backbone_config": {"model_type": "resnet", "out_features": ["stage4"]},
            "backbone": None,
        },
        PIXELS,
    ),
    "rt_detr": ("RTDetrModel", "RTDetrConfig", {"num_queries": 20}, PIXELS),
    "d_fine": ("DFineModel", "DFineConfig", {"num_queries": 20}, PIXELS),
    "upernet": ("UperNetForSemanticSegmentation", "UperNetConfig", {}, PIXELS),
}
VISION: dict[str, Recipe] = {
    "vit": _images("ViT", **IMAGE),
    "deit": _images("DeiT", **IMAGE),
    "dinov2": _images("Dinov2", **IMAGE),
    "swin": _images("Swin", image_size=64, embed_dim=16, depths=[1, 1], num_heads=[2, 4]),
    "swin_v2": _images("Swinv2", image_size=64, embed_dim=16, depths=[1, 1], num_heads=[2, 4]),
    "hiera": _images("Hiera", embed_dim=16, image_size=[64, 64], depths=[1, 1, 1, 1]),
}
LANGUAGE: dict[str, Recipe] = {
    "bert": _texts("Bert", **TEXT),
    "roberta": _texts("Roberta", **TEXT),
    "distilbert": _texts(
        "DistilBert", dim=32, n_layers=3, n_heads=4, hidden_dim=64, vocab_size=VOCABULARY
    ),
    "deberta_v2": _texts("DebertaV2", **TEXT),
    "gpt2": _texts("GPT2", n_embd=32, n_layer=3, n_head=4, vocab_size=VOCABULARY),
    "opt": _texts("OPT", **{**TEXT, "ffn_dim": 64, "word_embed_proj_dim": 32}),
    "bloom": _texts("Bloom", hidden_size=32, n_layer=3, n_head=4, vocab_size=VOCABULARY),
    "gpt_neox": _texts("GPTNeoX", **TEXT),
    "llama": _decoder("Llama"),
    "mistral": _decoder("Mistral"),
    "gemma": _decoder("Gemma"),
    "gemma2": _decoder("Gemma2"),
    "qwen2": _decoder("Qwen2"),
    "qwen3": _decoder("Qwen3"),
    "phi3": _decoder("Phi3"),
    "olmo2": _decoder("Olmo2"),
    "cohere": _decoder("Cohere"),
    "mamba": _texts("Mamba", hidden_size=32, num_hidden_layers=3, vocab_size=VOCABULARY),
    "t5": (
        "T5Model",
        "T5Config",
        {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4, "vocab_size": 64},
        {"input_ids": (12,), "decoder_input_ids": (7,)},
    ),
    "bart": (
        "BartModel",
        "BartConfig",
        {"d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "vocab_size": VOCABULARY},
        {"input_ids": (12,), "decoder_input_ids": (7,)},
    ),
}
SOUND_AND_SERIES: dict[str, Recipe] = {
    "wav2vec2": _sounds("Wav2Vec2"),
    "wav2vec2_layer": _sounds("Wav2Vec2", feat_extract_norm="layer", do_stable_layer_norm=True),
    "wav2vec2_conformer": _sounds("Wav2Vec2Conformer", conv_depthwise_kernel_size=7),
    "hubert": _sounds("Hubert"),
    "hubert_batch_norm": _sounds("Hubert", conv_pos_batch_norm=True),
    "whisper": (
        "WhisperModel",
        "WhisperConfig",
        {
            "d_model": 32,
            "encoder_layers": 2,
            "decoder_layers": 2,
            "encoder_attention_heads": 4,
            "decoder_attention_heads": 4,
            "encoder_ffn_dim": 64,
            "decoder_ffn_dim": 64,
            "num_mel_bins": 16,
            "max_source_positions": 32,
            "vocab_size": VOCABULARY,
            "pad_token_id": 0,
        },
        {"input_features": (16, 64), "decoder_input_ids": (7,)},
    ),
    "audio_spectrogram_transformer": (
        "ASTModel",
        "ASTConfig",
        {**ENCODER, "max_length": 64, "num_mel_bins": 32},
        {"input_values": (64, 32)},
    ),
    "fastspeech2_conformer": (
        "FastSpeech2ConformerModel",
        "FastSpeech2ConformerConfig",
        {"hidden_size": 32, "vocab_size": VOCABULARY, "encoder_layers": 1, "decoder_layers": 1},
        TOKENS,
    ),
    "patchtst": ("PatchTSTModel", "PatchTSTConfig", SERIES, PAST),
    "patchtsmixer": (
        "PatchTSMixerModel",
        "PatchTSMixerConfig",
        {**SERIES, "norm_mlp": "BatchNorm"},
        PAST,
    ),
}
RECIPES = {**CONVOLUTIONAL, **HYBRID, **VISION, **LANGUAGE, **SOUND_AND_SERIES}
