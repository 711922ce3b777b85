"""The frozen text side of digits-sdxl and scenes-sd3: two tiny CLIP text encoders with random weights, and a tokenizer.

Each word of the prompts is one token; other text is spelt in bytes, as in CLIP. A frozen random encoder is enough: what
the denoiser has to learn is which of a few vectors means which word.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import torch
from tokenizers.pre_tokenizers import ByteLevel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TEMPLATES = ("a photo of the digit {}", "the digit {}", "a handwritten {}", "{}")
LENGTH = 12
WIDTH = 64
Encoder = CLIPTextModel | CLIPTextModelWithProjection
Encoders = tuple[Encoder, ...]


def spell(word: str, merges: list[tuple[str, str]]) -> list[str]:
    """Return the pieces that byte-pair encoding makes of a word: the earliest merge first, wherever it fits."""
    pieces = [*word[:-1], word[-1] + "</w>"]
    while found := [pair for pair in pairwise(pieces) if pair in merges]:
        first = min(found, key=merges.index)
        place = list(pairwise(pieces)).index(first)
        pieces[place : place + 2] = ["".join(first)]
    return pieces


def new_tokenizer(words: Iterable[str], length: int) -> CLIPTokenizer:
    """Return a byte-level BPE tokenizer whose merges spell these words, for prompts of `length` tokens."""
    characters = sorted(ByteLevel.alphabet())
    vocabulary = [*characters, *(character + "</w>" for character in characters)]
    merges: list[tuple[str, str]] = []
    for word in words:
        pieces = spell(word, merges)
        while len(pieces) > 1:  # an earlier word's merges may cut this one anywhere: "red" cuts "green" after its g
            merges.append((pieces[0], pieces[1]))
            pieces = spell(word, merges)
    vocabulary += [first + second for first, second in merges]
    tokens = dict.fromkeys([*vocabulary, "<|startoftext|>", "<|endoftext|>"])
    return CLIPTokenizer(
        vocab={token: index for index, token in enumerate(tokens)},
        merges=merges,  # type: ignore[arg-type]  # pairs, as tokenizers takes them
        model_max_length=length,
    )


def new_encoders(tokenizer: CLIPTokenizer, kinds: Iterable[type[Encoder]], gain: float, places: float) -> Encoders:
    """Return encoders of width 64, one of each kind, frozen as they were drawn.

    Weights are `gain` times CLIP's, so that tokens mix more; `places` is the deviation of the positions' embeddings,
    CLIP's own if 0.
    """
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        projection_dim=WIDTH,
        num_hidden_layers=2,
        initializer_factor=gain,
        num_attention_heads=4,
        max_position_embeddings=tokenizer.model_max_length,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    encoders = tuple(kind(config) for kind in kinds)
    for encoder in encoders:
        words = encoder.get_input_embeddings()
        assert isinstance(words, nn.Embedding)
        nn.init.normal_(words.weight)
        for name, module in encoder.named_modules():
            if name.endswith("position_embedding") and places and isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=places)
        encoder.train(False).requires_grad_(False)
    return encoders


def text_side(
    words: Iterable[str], kinds: Iterable[type[Encoder]], length: int, gain: float = 1.0, places: float = 0.0
) -> tuple[CLIPTokenizer, Encoders]:
    """Return the tokenizer and the encoders, drawn from a seed of their own: the same at every call."""
    with torch.random.fork_rng():
        torch.manual_seed(2024)
        tokenizer = new_tokenizer(words, length)
        return tokenizer, new_encoders(tokenizer, kinds, gain, places)


@torch.no_grad()
def encode_prompts(tokenizer: CLIPTokenizer, encoders: Encoders, prompts: list[str]) -> tuple[Tensor, list[Tensor]]:
    """Return what the pipelines of SDXL and SD3 make of prompts.

    Hidden states of all encoders (N, tokens, 2 * 64), and the pooled states (N, 64) of each that projects them.
    """
    tokens = tokenizer(prompts, padding="max_length", truncation=True, return_tensors="pt").input_ids
    outputs = [encoder(tokens, output_hidden_states=True) for encoder in encoders]
    pooled = [output.text_embeds for output in outputs if "text_embeds" in output]
    return torch.cat([output.hidden_states[-2] for output in outputs], dim=-1), pooled


def digit_side() -> tuple[CLIPTokenizer, Encoders]:
    """Return the text side of digits-sdxl."""
    words = (*" ".join(TEMPLATES).replace("{}", "").split(), *WORDS)
    return text_side(words, (CLIPTextModel, CLIPTextModelWithProjection), LENGTH)


def encode_digits() -> tuple[Tensor, Tensor]:
    """Return hidden states (templates, 10, tokens, 2 * 64) and pooled states (templates, 10, 64) of every prompt."""
    prompts = [template.format(word) for template in TEMPLATES for word in WORDS]
    hidden, (pooled,) = encode_prompts(*digit_side(), prompts)
    grid = (len(TEMPLATES), len(WORDS))
    return hidden.unflatten(0, grid), pooled.unflatten(0, grid)
