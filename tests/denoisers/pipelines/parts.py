"""The parts of tiny pipelines: text encoders of width 32 with tokenizers made here, and autoencoders."""

from functools import cache
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import CLIPTokenizer, PreTrainedTokenizerFast

from q2.denoisers.digits import DigitsSDXL

WIDTH = 32
TOKENS = 16
WORDS = [
    "a",
    "photo",
    "of",
    "the",
    "digit",
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "red",
    "fox",
    "in",
    "fresh",
    "snow",
]
CHAT = "{% for m in messages %}{{ m['content'] }}{% endfor %}"


def clip_tokenizer() -> Any:
    found = CLIPTokenizer.from_pretrained(Path(DigitsSDXL.default_checkpoint()) / "tokenizer")
    found.model_max_length = TOKENS
    return found


@cache
def _pieces() -> Tokenizer:
    letters = "▁abcdefghijklmnopqrstuvwxyz<>|_\n.,:"
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *[("▁" + word, -2.0) for word in WORDS if len(word) > 1]]
    tokens = Tokenizer(models.Unigram([*pieces, *[(letter, -5.0) for letter in letters]], unk_id=2))
    tokens.pre_tokenizer = pre_tokenizers.Metaspace()
    tokens.post_processor = processors.TemplateProcessing("$A </s>", "$A $B </s>", [("</s>", 1)])
    return tokens


def tokenizer(length: int = TOKENS) -> Any:
    """Return a tokenizer of words and letters, which takes chat messages too."""
    found = PreTrainedTokenizerFast(
        tokenizer_object=_pieces(), pad_token="<pad>", eos_token="</s>", unk_token="<unk>", bos_token="</s>",
        model_max_length=length,
    )  # fmt: skip
    found.chat_template = CHAT
    return found


def clip(*, projected: bool = False, tokens: int = TOKENS) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=len(clip_tokenizer()) + 8, hidden_size=WIDTH, intermediate_size=37, num_attention_heads=4,
        num_hidden_layers=2, projection_dim=WIDTH, max_position_embeddings=max(tokens, TOKENS),
        bos_token_id=0, eos_token_id=len(clip_tokenizer()) - 1, pad_token_id=1,
    )  # fmt: skip
    kind: Any = CLIPTextModelWithProjection if projected else CLIPTextModel
    return kind(config).eval()


def clip_vision(size: int = 8) -> Any:
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    config = CLIPVisionConfig(
        hidden_size=WIDTH, intermediate_size=37, num_attention_heads=4, num_hidden_layers=2, projection_dim=WIDTH,
        image_size=size, patch_size=4,
    )  # fmt: skip
    return CLIPVisionModelWithProjection(config).eval()


def clip_images(size: int = 8) -> Any:
    from transformers import CLIPImageProcessorPil

    return CLIPImageProcessorPil(size={"shortest_edge": size}, crop_size={"height": size, "width": size})


def _plain(name: str) -> dict[str, Any]:
    return {
        "vocab_size": 128, "hidden_size": WIDTH, "intermediate_size": 37, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 1024,
        "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1,
    }  # fmt: skip


def t5(name: str = "T5") -> Any:
    """Return the encoder of T5, or of UMT5."""
    import transformers

    config = getattr(transformers, f"{name}Config")(
        vocab_size=128, d_model=WIDTH, d_kv=8, d_ff=37, num_layers=2, num_heads=4, decoder_start_token_id=0
    )
    return getattr(transformers, f"{name}EncoderModel")(config).eval()


def bert() -> Any:
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=128, hidden_size=WIDTH, intermediate_size=37, num_attention_heads=4, num_hidden_layers=2
    )
    return BertModel(config).eval()


def language_model(name: str, *, causal: bool = False) -> Any:
    """Return a decoder of transformers by its family's name: Gemma, Gemma2, Llama, Qwen3, Glm, …"""
    import transformers

    config = getattr(transformers, f"{name}Config")(**_plain(name))
    return getattr(transformers, f"{name}ForCausalLM" if causal else f"{name}Model")(config).eval()


def qwen_vl() -> Any:
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    text = {**_plain("Qwen2"), "rope_scaling": {"type": "mrope", "mrope_section": [1, 1, 2], "rope_type": "default"}}
    vision = {
        "depth": 2, "hidden_size": WIDTH, "intermediate_size": 37, "num_heads": 2, "out_hidden_size": WIDTH,
        "fullatt_block_indexes": [1],
    }  # fmt: skip
    return Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(text_config=text, vision_config=vision)).eval()


def kl(channels: int = 4, **more: Any) -> Any:
    """Return an image autoencoder with `channels` latents for 2 x 2 pixels."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        **{
            "down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2,
            "block_out_channels": (4, 8), "norm_num_groups": 2, "latent_channels": channels, "sample_size": 16,
            **more,
        }
    ).eval()  # fmt: skip


def seeded(build: Any) -> Any:
    """Return what `build` makes with torch's numbers at seed 0."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build()
