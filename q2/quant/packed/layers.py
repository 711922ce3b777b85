"""Packed layers: codes and parameters are all they hold; the weight is decoded whenever the layer computes."""

import math
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from q2.errors import Q2Error
from q2.quant.base import Quantizer
from q2.quant.dtypes import cast_to
from q2.quant.kernels import decoding, fused
from q2.quant.kernels.chunks import on_device
from q2.quant.options import NONE, Option
from q2.quant.packed.packing import CODES, pack, packed_bytes, unpack
from q2.quant.quantizers.none import NoQuantizer
from q2.quant.simulated import Part, Quantized, Simulated, like

__all__ = ["Packed", "PackedPart", "pack_layer", "packed_layer", "unpack_layer"]

M = TypeVar("M", bound=nn.Module)
# Codes decoded at a time: a few bytes each beside the result. On a CPU so few that they stay in its cache.
_ELEMENTS = {"cpu": 1 << 16, "cuda": 1 << 24}
# Classes' forwards that compute with a weight and nothing else, and with which function.
_KINDS: dict[Any, Any] = {nn.Linear.forward: F.linear, nn.Conv1d.forward: F.conv1d, nn.Conv2d.forward: F.conv2d}
_READY = "_ready"


@dataclass(frozen=True)
class PackedPart(Part):
    """A part of a packed layer with the quantizer that decodes it."""

    quantizer: Quantizer = field(default_factory=NoQuantizer)

    def check(self, shape: Sequence[int], held: Mapping[str, Tensor]) -> None:
        """Raise `Q2Error` unless `held` are the codes and parameters of a part of this `shape`, by their sizes."""
        bits, codes = self.option.bits, held.get(CODES)
        expected = packed_bytes(math.prod(shape), bits)
        found = 0 if codes is None else codes.numel()
        if found != expected or (codes is not None and codes.dtype != torch.uint8):
            raise Q2Error(f"has {found} bytes of codes, expected {expected} for {self.option} of {tuple(shape)}")
        elements = sum(tensor.numel() for name, tensor in held.items() if name != CODES)
        wanted = self.quantizer.overhead_bits(shape, bits, 16) // 16
        if elements != wanted:
            raise Q2Error(f"has {elements} values beside the codes, expected {wanted} for {self.option}")

    def decode(self, shape: Sequence[int], held: Mapping[str, Tensor], dtype: torch.dtype) -> Tensor:
        """Return the values, of `shape` and `dtype`, that `held` (codes and parameters) stand for.

        By a kernel where the quantizer says what a code is, on a CPU in threads; else a few output channels at a time
        where it says which parameters are theirs.
        """
        codes, bits, device = held.get(CODES), self.option.bits, next(iter(held.values())).device
        decode = _decoder(self.quantizer, codes)
        if decode is not None and codes is not None:
            whole = torch.empty(shape, dtype=dtype, device=device)
            decode.decode(self.quantizer.code, codes, held, bits, whole)
            return whole
        parameters = {name: tensor for name, tensor in held.items() if name != CODES}
        width = math.prod(shape[1:])

        def rows(start: int, stop: int) -> Tensor:
            count, own = (stop - start) * width, parameters
            if stop - start < shape[0]:
                own = {name: tensor[start:stop] if name in (channels or ()) else tensor for name, tensor in own.items()}
            if codes is None:
                numbers = torch.zeros(1, dtype=torch.uint8, device=device).expand(stop - start, *shape[1:])
            else:
                first = start * width * bits // 8  # every eighth row starts a byte
                numbers = unpack(codes[first : first + packed_bytes(count, bits)], bits, count)
            return cast_to(self.quantizer.decode_at(numbers.reshape(stop - start, *shape[1:]), own, bits), dtype)

        channels, compiling = self.quantizer.per_channel, torch.compiler.is_compiling()
        step = max(8, _ELEMENTS.get(device.type, 1 << 20) // width // 8 * 8)
        if channels is None or step >= shape[0] or compiling:
            return rows(0, shape[0])
        out = torch.empty(shape, dtype=dtype, device=device)

        def fill(part: slice) -> None:
            out[part] = rows(part.start, part.stop)

        on_device([slice(start, min(start + step, shape[0])) for start in range(0, shape[0], step)], fill, device)
        return out


def _decoder(quantizer: Quantizer, codes: Tensor | None) -> Any:
    """Return the module whose kernels decode such codes in one pass, if there is one."""
    if not quantizer.code or codes is None or torch.compiler.is_compiling():
        return None
    if codes.device.type == "cpu" and type(codes) is Tensor:
        return decoding
    return fused if fused.is_on(codes.device) else None


class _Ready(NamedTuple):
    """What decodes a layer's weight in one pass, as long as it holds the same tensors; it does not keep them alive."""

    dtype: torch.dtype
    device: torch.device
    names: tuple[str, ...]
    held: tuple[weakref.ref[Tensor], ...]
    fill: fused.Fill | None


class _Decoded(Tensor):
    """A decoded weight: what is written to its ``data``, as PEFT does where an adapter is fused, the layer keeps.

    Nothing computed with it is one.
    """

    __torch_function__: Any = torch._C._disabled_torch_function_impl
    layer: "Packed"

    @property
    def data(self) -> Tensor:
        """The values, a plain tensor."""
        return self.detach().as_subclass(Tensor)

    @data.setter
    def data(self, values: Tensor) -> None:
        self.layer.keep(values)


class Packed(Quantized):
    """Mixed into a layer's own class: `weight` is decoded when it is read, so that the class's own forward serves.

    Part i is held in the buffers ``codes_i`` (uint8, see `q2.quant.packed.packing`) and ``<parameter>_i``, which keep
    their dtype whatever the layer is cast to; a cast says in which dtype the weight is decoded.
    """

    parts: tuple[PackedPart, ...]
    shape: torch.Size
    """Of the weight."""

    @property
    def weight(self) -> Tensor:
        """The quantized weight, of the layer's `shape`, decoded at every access; bitwise that of a simulated layer."""
        whole = self._filled()
        if whole is None:
            dtype = cast(Tensor, self.like).dtype
            each = [part.decode(part.of_shape(self.shape), self.held(i), dtype) for i, part in enumerate(self.parts)]
            whole = each[0] if len(each) == 1 else torch.cat(each, 1)
        if torch.compiler.is_compiling() or whole.is_meta:
            return whole
        decoded = whole.as_subclass(_Decoded)
        decoded.layer = self
        return decoded

    def _filled(self) -> Tensor | None:
        """Return the weight, where it is decoded in one pass: what that takes is kept, as small layers are many."""
        if len(self.parts) > 1 or torch.compiler.is_compiling():
            return None
        buffers = self._buffers
        like = cast(Tensor, buffers["like"])
        ready: _Ready = vars(self).get(_READY) or self._prepared(like)
        tensors = [buffers.get(name) for name in ready.names]
        if ready.dtype != like.dtype or any(
            ref() is not tensor for ref, tensor in zip(ready.held, tensors, strict=True)
        ):
            ready = self._prepared(like)
            tensors = [buffers[name] for name in ready.names]
        if ready.fill is None:
            return None
        out = torch.empty(self.shape, dtype=ready.dtype, device=ready.device)
        packed, first, zero = cast("list[Tensor]", tensors)
        ready.fill(packed, first, zero, out)
        return out

    def _prepared(self, like: Tensor) -> _Ready:
        """Look up what decodes the weight in the dtype of `like`, and keep it."""
        quantizer, bits, codes = self.parts[0].quantizer, self.parts[0].option.bits, self._buffers.get(f"{CODES}_0")
        names = tuple(f"{name}_0" for name in (CODES, *fused.NAMES[quantizer.code])) if quantizer.code else ()
        tensors = [cast(Tensor, self._buffers[name]) for name in names]
        decoder, fill = _decoder(quantizer, codes), None
        if decoder is decoding:
            fill = decoding.prepare(quantizer.code, bits, like.dtype)
        elif decoder is fused:
            fill = fused.prepare(quantizer.code, *tensors, bits=bits, dtype=like.dtype)
        device = like.device if codes is None else codes.device
        ready = _Ready(like.dtype, device, names, tuple(weakref.ref(tensor) for tensor in tensors), fill)
        vars(self)[_READY] = ready
        return ready

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """Compute what the layer's class does; on a GPU few rows are multiplied by codes that are decoded meanwhile."""
        x = inputs[0] if len(inputs) == 1 and not named else None
        if type(x) is not Tensor or (kind := _KINDS.get(self.exact_class.forward)) is None:
            return super().forward(*inputs, **named)
        product = self._product(x) if kind is F.linear and x.is_cuda else None
        if product is not None:
            return product
        weight = self._filled()
        if weight is None:
            return super().forward(x)
        return (
            F.linear(x, weight, self.bias) if kind is F.linear else cast(Any, self)._conv_forward(x, weight, self.bias)
        )

    def _product(self, x: Tensor) -> Tensor | None:
        """Return what a Linear layer makes of `x`, by a kernel; None where there is none, or it would not be faster."""
        channels, width = self.shape
        rows = x.numel() // width
        tile = fused.tile_for(rows, channels, width, x.dtype)
        if tile is None or not rows or width % 8 or len(self.parts) > 1:
            return None
        part, bias, codes = self.parts[0], cast("Tensor | None", self.bias), self._buffers.get("codes_0")
        if codes is None or not part.quantizer.code or torch._C._functorch.is_functorch_wrapped_tensor(x):
            return None
        same = (cast(Tensor, self.like),) if bias is None else (cast(Tensor, self.like), bias)
        if x.shape[-1] != width or any(tensor.dtype != x.dtype or tensor.device != x.device for tensor in same):
            return None  # let torch say what is wrong
        gradients = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (x, *same))
        if gradients or codes.device != x.device or torch.is_autocast_enabled("cuda") or not fused.is_on(x.device):
            return None
        options: Any = {"bits": part.option.bits, "bias": bias, "channels": channels, "tile": tile}
        return fused.linear(part.quantizer.code, x.contiguous(), codes, self.held(0), **options)

    def keep(self, weight: Tensor) -> None:
        """Replace the weight by an unquantized one of the same shape. Raises `Q2Error` for another shape.

        The layer stays a packed layer, with a single part of the option ``none``, so that it is saved and loaded.
        """
        if weight.shape != self.shape:
            raise Q2Error(f"a weight of shape {tuple(weight.shape)} was given to a layer of {tuple(self.shape)}")
        for number in range(len(self.parts)):
            for name in self.held(number):
                del self._buffers[f"{name}_{number}"]
        vars(self).pop(_READY, None)
        self.parts = (PackedPart(Option(NONE, 0)),)
        self.register_buffer("weight_0", weight.detach().to(cast(Tensor, self.like).dtype).contiguous())

    def held(self, number: int) -> dict[str, Tensor]:
        """Return the codes, uint8 (bytes,), and the parameters of part `number`, by name."""
        end = f"_{number}"
        return {
            name.removesuffix(end): tensor
            for name, tensor in self._buffers.items()
            if tensor is not None and name.endswith(end)
        }

    @property
    def bytes(self) -> int:
        """What codes and parameters take, in bytes."""
        return sum(t.nbytes for number in range(len(self.parts)) for t in self.held(number).values())

    def check(self) -> None:
        """Raise `Q2Error` where what is held is not of the size that the options say."""
        for number, part in enumerate(self.parts):
            part.check(part.of_shape(self.shape), self.held(number))

    def __reduce_ex__(self, protocol: Any) -> Any:
        make, given, state = super().__reduce_ex__(protocol)
        return make, given, {name: value for name, value in state.items() if name != _READY}

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Any:
        before = {name: tensor for name, tensor in self._buffers.items() if tensor is not None and name != "like"}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, tensor in before.items():
            moved = self._buffers[name]
            if moved is not None and moved.dtype != tensor.dtype:
                self._buffers[name] = tensor.to(moved.device)
        return self


def pack_layer(module: M) -> M:
    """Return a packed layer that computes what the simulated `module` does; no full-precision weight is needed.

    Raises `Q2Error` for a layer that is not simulated, was only planned, or whose weight was changed since.

    >>> from q2.quant import fit, quantize_layer
    >>> layer = nn.Linear(16, 4)
    >>> simulated = quantize_layer(layer, fit(layer.weight, "kmeans-c-3"))
    >>> packed = pack_layer(simulated)
    >>> type(packed).__name__, isinstance(packed, nn.Linear), torch.equal(packed.weight, simulated.weight)
    ('PackedLinear', True, True)
    """
    if not isinstance(module, Simulated):
        raise Q2Error(f"{type(module).__name__} is not quantized, there is nothing to pack")
    weight = cast(Tensor, module.weight).detach()
    parts: list[PackedPart] = []
    buffers: dict[str, Tensor] = {}
    for number, part in enumerate(module.parts):
        values = part.of(weight).contiguous()
        mine, held = _packed(part, values)
        if not torch.equal(mine.decode(values.shape, held, values.dtype), values):
            raise Q2Error(f"the weight is not what {part.option} made of it; quantize the layer again")
        parts.append(mine)
        buffers |= {f"{name}_{number}": tensor for name, tensor in held.items()}
    return cast(M, packed_layer(module, parts, buffers, weight.dtype))


def packed_layer(module: M, parts: Sequence[PackedPart], buffers: Mapping[str, Tensor], dtype: torch.dtype) -> M:
    """Return a packed layer with the class, bias, names and weight shape of `module`, whose weight may be on meta.

    `buffers` have the names that `Packed` describes; the weight is decoded to `dtype`.
    """
    shape = cast(Tensor, module.weight).shape
    layer = like(module, Packed)
    vars(layer).pop("exact", None)
    vars(layer).pop(_READY, None)
    del layer._parameters["weight"]
    vars(layer).update(parts=tuple(parts), shape=shape)
    for name, tensor in buffers.items():
        layer.register_buffer(name, tensor)
    layer.register_buffer("like", torch.empty(0, dtype=dtype), persistent=False)
    return cast(M, layer)


def unpack_layer(module: M) -> M:
    """Return a layer of the class that a packed or simulated `module` had before, with the quantized weight.

    >>> from q2.quant import fit, quantize_layer
    >>> layer = nn.Linear(2, 1)
    >>> type(unpack_layer(pack_layer(quantize_layer(layer, fit(layer.weight, "uaq-4"))))).__name__
    'Linear'
    """
    assert isinstance(module, Quantized)
    weight = cast(Tensor, module.weight).detach()
    layer = module.exact_class.__new__(module.exact_class)
    own = {"parts", "exact", "shape", _READY}
    state = {name: value for name, value in vars(module).items() if name not in own}
    vars(layer).update({name: v.copy() if isinstance(v, dict | set) else v for name, v in state.items()})
    if isinstance(module, Packed):
        names = [f"{name}_{i}" for i in range(len(module.parts)) for name in module.held(i)]
        for name in (*names, "like"):
            del layer._buffers[name]
        layer._non_persistent_buffers_set.discard("like")
    others = {name: value for name, value in layer._parameters.items() if name != "weight"}
    layer._parameters = {"weight": nn.Parameter(weight, requires_grad=False), **others}
    return cast(M, layer)


def _packed(part: Part, values: Tensor) -> tuple[PackedPart, dict[str, Tensor]]:
    """Return the packed part with its codes and parameters, tensors of its own."""
    if part.option.is_none:
        return PackedPart(part.option, None, part.channels), {"weight": values.clone()}
    if part.fitted is None:
        raise Q2Error(f"{part.option} is only planned: there are no weights to pack")
    quantizer, bits = part.fitted.quantizer, part.option.bits
    parameters = {name: tensor.to(values.device, copy=True) for name, tensor in part.fitted.parameters.items()}
    codes = quantizer.encode(values, parameters, bits)
    return PackedPart(part.option, None, part.channels, quantizer), {CODES: pack(codes, bits), **parameters}
