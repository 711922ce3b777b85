"""Damage: bytes flipped, values of another type, huge numbers, deep nesting, wrong shapes and offsets."""

import copy
import io
import json
import pickle
import random
import re
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["damaged", "damaged_text", "damaged_value"]

DEEP = 3000
"""Nested deeper than Python calls functions."""
SPECIAL: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    1,
    7,
    2**31,
    2**63,
    2**64,
    -(2**63),
    10**30,
    1.5,
    -0.0,
    1e308,
    float("nan"),
    float("inf"),
    float("-inf"),
    "",
    " ",
    "none",
    "uaq-4",
    "uaq-99",
    "1e999",
    "../../../etc/passwd",
    "/dev/zero",
    "a\nb",
    "\x00",
    "\x1b[31m",
    "é😀\u202e",
    "\ud800",
    "x" * 5000,
    [],
    {},
    [[]],
    [0],
    [-1],
    [2**40, 2**40],
    [1e9],
    ["a"],
    {"a": 1},
    {"": None},
    [None],
]
TEXTS = [
    "",
    "\x00",
    "\ufeff",
    "é😀",
    "\u202e",
    "\r",
    "\t",
    "\n\n",
    '"',
    "'",
    '"""',
    "'''",
    "\\",
    "\\u12",
    "{",
    "}",
    "[",
    "]",
    "=",
    ",",
    "#",
    "..",
    "[" * DEEP,
    "{a=" * DEEP,
    "a." * DEEP,
    "-" * DEEP,
    "(" * DEEP,
    "9" * 5000,
    "1e99999",
    "-9223372036854775809",
    "nan",
    "inf",
    "0x",
    "1_0",
    "2024-01-01",
    "12:00:00",
    "true",
    "null",
    "{}",
    "[]",
    "a" * 100_000,
    "**" * 60,
]
Path = tuple[str | int, ...]


def damaged(name: str, data: bytes, rng: random.Random) -> bytes:
    """Return the bytes of a valid file called `name` with something wrong in them."""
    kind = name.rpartition(".")[2]
    kinds: dict[str, Callable[[bytes, random.Random], bytes]] = {
        "json": _json,
        "jsonl": _jsonl,
        "npz": _npz,
        "safetensors": _safetensors,
        "pkl": _pickle,
        "toml": _toml,
    }
    inside = kinds.get(kind)
    if inside is None or rng.random() < 0.3:
        return _bytes(data, rng)
    return inside(data, rng)


def damaged_text(text: str, rng: random.Random) -> str:  # noqa: PLR0911 (a way each)
    """Return a text with a value, a sign or a line of it changed."""
    way = rng.randrange(7)
    if way == 0:  # the value behind a sign
        spots = [match.span(1) for match in re.finditer(r"=\s*([^\n,{}]+)", text)]
        if spots:
            start, stop = rng.choice(spots)
            return text[:start] + str(rng.choice([_literal(rng), rng.choice(TEXTS)])) + text[stop:]
    if way == 1:
        lines = text.split("\n")
        lines.insert(rng.randrange(len(lines) + 1), rng.choice(lines))  # a key twice
        return "\n".join(lines)
    if way == 2:
        lines = text.split("\n")
        del lines[rng.randrange(len(lines))]
        return "\n".join(lines)
    if way == 3:
        words = re.findall(r"[\w.-]+", text) or ["x"]
        word, other = str(rng.choice(words)), str(rng.choice([*words, *TEXTS]))
        at = text.find(word)
        return text[: max(at, 0)] + other + text[max(at, 0) + len(word) :]
    at = rng.randrange(len(text) + 1)
    if way == 4:
        return text[:at] + rng.choice(TEXTS) + text[at:]
    if way == 5:
        return text[:at] + text[min(len(text), at + rng.randrange(1, 20)) :]
    return text[:at] + chr(rng.choice([rng.randrange(32, 127), rng.randrange(0x110000)])) + text[at + 1 :]


def damaged_value(value: Any, rng: random.Random) -> Any:
    """Return a nest of tables, lists and values with one or a few things in it replaced, renamed, added or removed."""
    value = copy.deepcopy(value)
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        paths = list(_paths(value))
        path = rng.choice(paths)
        if not path or rng.random() < 0.02:
            return _nested(rng) if rng.random() < 0.3 else _special(rng)
        owner = value
        for part in path[:-1]:
            owner = owner[part]
        _change(owner, path[-1], rng)
    return value


def _change(owner: Any, key: str | int, rng: random.Random) -> None:
    way = rng.randrange(7)
    old = owner[key]
    if way == 0:
        del owner[key]
    elif way == 1 and isinstance(owner, dict):
        owner[rng.choice(["", "x", "é", str(key).upper(), "__class__", f"{key}/../.."])] = owner.pop(key)
    elif way == 2 and isinstance(old, list):
        old += rng.choice([old[:], [_special(rng)]])
    elif way == 3 and isinstance(old, int | float) and not isinstance(old, bool):
        owner[key] = rng.choice([old + 1, old - 1, -old, old * 1000, float(old), str(old), [old]])
    elif way == 4:
        owner[key] = rng.choice([[old], {"a": old}, str(old), _nested(rng)])
    else:
        owner[key] = _special(rng)


def _paths(value: Any, above: Path = ()) -> Any:
    yield above
    items = value.items() if isinstance(value, dict) else enumerate(value[:50]) if isinstance(value, list) else ()
    for key, inner in items:
        yield from _paths(inner, (*above, key))


def _nested(rng: random.Random) -> Any:
    """Return lists or tables within each other; JSON text is written by hand where Python cannot go so deep."""
    value: Any = 0
    for _ in range(rng.choice([20, 150])):
        value = [value] if rng.random() < 0.5 else {"a": value}
    return value


def _special(rng: random.Random) -> Any:
    return copy.deepcopy(rng.choice(SPECIAL))


def _literal(rng: random.Random) -> str:
    value = _special(rng)
    if value is None or (isinstance(value, dict) and None in value.values()):
        return "null"
    return json.dumps(value).replace("NaN", "nan").replace("Infinity", "inf").replace('":', '"=')


def _bytes(data: bytes, rng: random.Random) -> bytes:
    found = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 8])):
        at = rng.randrange(len(found) + 1)
        way = rng.randrange(6)
        if way == 0 and at < len(found):
            found[at] ^= 1 << rng.randrange(8)
        elif way == 1:
            del found[at:]
        elif way == 2:
            del found[at : at + rng.randrange(1, 64)]
        elif way == 3:
            found[at:at] = rng.randbytes(rng.randrange(1, 16))
        elif way == 4:
            found[at : at + 8] = rng.choice([b"\xff" * 8, b"\x00" * 8, (2**40).to_bytes(8, "little")])
        else:
            found[at:at] = found[max(0, at - 64) : at] * rng.randrange(1, 4)
    return bytes(found)


def _dumped(value: Any, rng: random.Random) -> bytes:
    text = json.dumps(value)
    way = rng.randrange(30)
    if way == 0:
        text = text.replace('": ', '": ' + "[" * 100_000, 1)
    elif way == 1:
        text = re.sub(r"\d+", "9" * 5000, text, count=1)
    elif way == 2:
        text = text.replace("{", '{"q2": 0, "version": [], ', 1)
    elif way == 3:
        text = text.replace(": ", ": " + '{"a":' * 100_000, 1)
    return text.encode("utf-8", "surrogatepass")


def _toml(data: bytes, rng: random.Random) -> bytes:
    return damaged_text(data.decode(), rng).encode("utf-8", "surrogatepass")


def _json(data: bytes, rng: random.Random) -> bytes:
    return _dumped(damaged_value(json.loads(data), rng), rng)


def _jsonl(data: bytes, rng: random.Random) -> bytes:
    """Damage a record of a trial store; mostly its checksum is made to fit again."""
    from hashlib import sha256

    lines = data.splitlines()
    at = rng.randrange(len(lines))
    _, (kind, value) = json.loads(lines[at]).items()
    body = _dumped(damaged_value(value, rng), rng)
    digest = sha256(body).hexdigest()[:16]
    lines[at] = f'{{"sha256":"{digest}","{kind}":'.encode() + body + b"}"
    return b"\n".join(lines) + b"\n"


def _npz(data: bytes, rng: random.Random) -> bytes:
    with np.load(io.BytesIO(data)) as file:
        arrays = dict(file)
    name = rng.choice(["head", *arrays]) if "head" in arrays else rng.choice(list(arrays))
    raw: dict[str, bytes] = {}
    if name == "head":
        head = _dumped(damaged_value(json.loads(arrays["head"].tobytes()), rng), rng)
        arrays["head"] = np.frombuffer(head, dtype=np.uint8)
    else:
        _array(arrays, name, raw, rng)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as packed:
        for key, array in arrays.items():
            own = io.BytesIO()
            np.lib.format.write_array(own, np.asarray(array))
            packed.writestr(f"{key}.npy", raw.get(key, own.getvalue()))
    return out.getvalue()


def _array(arrays: dict[str, Any], name: str, raw: dict[str, bytes], rng: random.Random) -> None:
    array = arrays[name]
    own = io.BytesIO()
    np.lib.format.write_array(own, array)
    ways: list[Callable[[], Any]] = [
        lambda: array.reshape(-1),
        lambda: array[..., None],
        lambda: array[: len(array) // 2] if array.ndim else array,
        lambda: array.astype(rng.choice(["f4", "c16", "i1", "U8", "?"])),
        lambda: np.full(array.shape, rng.choice([-1, 0, 127])),
        lambda: np.full(array.shape, rng.choice([np.nan, np.inf, 1e300])),
        lambda: np.zeros((0, *array.shape[1:])),
        lambda: np.float64(3),
        lambda: np.zeros((3, 3, 3)),
    ]
    way = rng.randrange(len(ways) + 3)
    if way < len(ways):
        arrays[name] = ways[way]()
    elif way == len(ways):
        del arrays[name]
    elif way == len(ways) + 1:
        shape = re.sub(rb"'shape': \([^)]*\)", b"'shape': (%d,)" % rng.choice([10**12, 2**62, 10**30]), own.getvalue())
        raw[name] = shape
    else:
        raw[name] = _bytes(own.getvalue(), rng)


def _safetensors(data: bytes, rng: random.Random) -> bytes:
    length = int.from_bytes(data[:8], "little")
    head = _dumped(damaged_value(json.loads(data[8 : 8 + length]), rng), rng)
    head += b" " * (-len(head) % 8)
    size = rng.choice([len(head)] * 20 + [0, 2**63, len(data) * 2])
    return size.to_bytes(8, "little") + head + data[8 + length :]


def _pickle(data: bytes, rng: random.Random) -> bytes:
    value = damaged_value(pickle.loads(data), rng)
    found = pickle.dumps(value, protocol=rng.randrange(6))
    way = rng.randrange(8)
    if way == 0:
        return b"(" * DEEP + found
    if way == 1:
        return found[:-1] + rng.choice(
            [b"cos\nsystem\n(S'true'\ntR.", b"\x8d" + b"\xff" * 8, b"]" * DEEP + b"a" * DEEP + b"."]
        )
    return found
