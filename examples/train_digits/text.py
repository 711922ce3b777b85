"""The frozen text side of digits-sdxl: two tiny CLIP text encoders with random weights, and their tokenizer.

Each word of the prompts is one token; other text is spelt in bytes, as in CLIP. A frozen random encoder is enough: what
the U-Net has to learn is which of ten vectors means which digit.
"""

from __future__ import annotations

import torch
from tokenizers.pre_tokenizers import ByteLevel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TEMPLATES = ("a photo of the digit {}", "the digit {}", "a handwritten {}", "{}")
LENGTH = 12
WIDTH = 64
Encoders = tuple[CLIPTextModel, CLIPTextModelWithProjection]


def new_tokenizer() -> CLIPTokenizer:
    """Return a byte-level BPE tokenizer whose merges spell the words of the prompts."""
    characters = sorted(ByteLevel.alphabet())
    vocabulary = [*characters, *(character + "</w>" for character in characters)]
    merges: dict[tuple[str, str], None] = {}
    for word in (*" ".join(TEMPLATES).replace("{}", "").split(), *WORDS):
        pieces = [*word[:-1], word[-1] + "</w>"]
        for end in range(1, len(pieces)):
            merges["".join(pieces[:end]), pieces[end]] = None
    vocabulary += [first + second for first, second in merges]
    tokens = dict.fromkeys([*vocabulary, "<|startoftext|>", "<|endoftext|>"])
    return CLIPTokenizer(
        vocab={token: index for index, token in enumerate(tokens)},
        merges=list(merges),  # type: ignore[arg-type]  # pairs, as tokenizers takes them
        model_max_length=LENGTH,
    )


def new_encoders(tokenizer: CLIPTokenizer) -> Encoders:
    """Return the two encoders of SDXL at width 64, frozen as they were drawn."""
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        projection_dim=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=LENGTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    encoders = CLIPTextModel(config), CLIPTextModelWithProjection(config)
    for encoder in encoders:
        words = encoder.get_input_embeddings()
        assert isinstance(words, nn.Embedding)
        nn.init.normal_(words.weight)
        encoder.train(False).requires_grad_(False)
    return encoders


@torch.no_grad()
def encode_prompts(tokenizer: CLIPTokenizer, encoders: Encoders) -> tuple[Tensor, Tensor]:
    """Return what `StableDiffusionXLPipeline` makes of every template with every digit.

    Hidden states (templates, 10, tokens, 2 * 64) and pooled states (templates, 10, 64).
    """
    prompts = [template.format(word) for template in TEMPLATES for word in WORDS]
    tokens = tokenizer(prompts, padding="max_length", max_length=LENGTH, truncation=True, return_tensors="pt").input_ids
    first, second = (encoder(tokens, output_hidden_states=True) for encoder in encoders)
    hidden = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], dim=-1)
    grid = (len(TEMPLATES), len(WORDS))
    return hidden.unflatten(0, grid), second.text_embeds.unflatten(0, grid)
