"""Sentences of small grammars: what is nearly, or really, a target, a constraint, a setting, an option, a pipeline."""

import random
import re
from collections.abc import Mapping, Sequence

__all__ = ["CONSTRAINT", "OPTION", "PIPELINE", "SETTING", "TARGET", "sentence"]

Rules = Mapping[str, Sequence[str]]
_NUMBER = ["0", "1", "3.7", "1e3", ".5", "1e308", "1e999", "-2", "00", "9" * 400]
TARGET: Rules = {
    "start": ["<sum>", "<sum> <sum>", "<sum>)", "(<sum>"],
    "sum": ["<sum> + <sum>", "<sum>-<sum>", "<product>", "<product>", "<product>"],
    "product": ["<sum> * <sum>", "<atom>//<atom>", "<atom> % <sum>", "<atom>/<atom>", "<atom>", "<atom>", "<atom>"],
    "atom": [
        "<name>",
        "<number>",
        "-<atom>",
        "(<sum>)",
        "<atom>**<atom>",
        "<function>(<sum>)",
        "<function>(<sum>, <sum>)",
    ],
    "name": ["FID-GT-1k", "avg_bits", "a", "a-b", "a-c", "é", "np", "__import__"],
    "function": ["log", "exp", "np.sqrt", "clip", "min", "eval", "power", "expm1"],
    "number": _NUMBER,
}
CONSTRAINT: Rules = {
    "start": ["<name> <sign> <number>", "<name><sign><number>", "<number> <sign> <name>"],
    "name": ["avg_bits", "bops", "avgbits", "", "é"],
    "sign": ["<=", ">=", "<", "==", "<=<=", "=<"],
    "number": [*_NUMBER, "nan", "inf", "1_000", "０", "0x1", "1e-400"],
}
OPTION: Rules = {
    "start": ["<name>-<width>", "<name><width>", "<name>-<width>.<form>", "<name>"],
    "name": ["uaq", "kmeans-c", "integer", "minifloat", "mxfp", "mxint", "none", "NA", "é", ""],
    "width": ["4", "0", "8", "9", "-3", "999999999", "1" * 50, "４"],
    "form": ["4", "-4", "e4m3", "e0m0", "e99m99", "m3e2", "e3m2", "999999999", ""],
}
SETTING: Rules = {
    "start": ["<key>=<value>", "<key>.<key>=<value>", "<key>.<key>.<key> = <value>", "<key>"],
    "key": [
        "seed",
        "denoiser",
        "passes",
        "search",
        "bank",
        "quantize",
        "options",
        "layers",
        "arguments",
        "loras",
        "strategies",
        '"^a.b"',
        "''",
        "é",
        "metrics",
        "space",
        "files",
        "plugins",
        "disable",
        "components",
        "model",
    ],
    "value": [
        "<number>",
        "true",
        "text",
        '"text"',
        "'te\"xt'",
        "[<value>, <value>]",
        "{<key>=<value>}",
        "[[]]",
        "",
        "2020-01-01",
        "<key>",
        "[",
        "{",
        '"""a"""',
        "uaq-4",
    ],
    "number": [*_NUMBER, "nan", "-inf", "0xff", "1_0"],
}
PIPELINE: Rules = {
    "start": ["<pass>", "<pass>,<start>", "<pass> <pass>", ",<pass>"],
    "pass": ["<name>", "<name>{<options>}", "<word>:<name>{<options>}", "<name>{", "<name>{}"],
    "name": ["stats", "size", "quantize", "bops", "verify", "quantize-activations", "calibrate", "dag", "<word>"],
    "options": ["<key>=<value>", "<key>=<value>,<options>"],
    "key": ["default", "by", "layers", "samples", "steps", "rules", "bits", "format", "recipe", "'a b'", "<word>"],
    "value": [
        "<word>",
        "<number>",
        "[<value>,<value>]",
        "{<options>}",
        "'text'",
        '"te\\nxt"',
        '"\\x"',
        "uaq-4",
        "regex",
        "[]",
    ],
    "word": ["x", "é", "a.b", "*", "(", "none", "true", "1e5", "\\"],
    "number": [*_NUMBER, "nan", "inf"],
}
_RULE = re.compile(r"<(\w+)>")
_MOST = 60


def sentence(rules: Rules, rng: random.Random) -> str:
    """Return a sentence of a grammar from ``start``; after some steps the shortest ends are taken."""
    text = "<start>"
    for step in range(10 * _MOST):
        found = _RULE.search(text)
        if found is None:
            return text
        ways = rules[found[1]]
        way = rng.choice(ways) if step < _MOST else min(ways, key=lambda each: (each.count("<"), len(each)))
        text = text[: found.start()] + way + text[found.end() :]
    return text
