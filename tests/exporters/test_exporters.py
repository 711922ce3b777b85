"""Exports are read by the tools they are for, and say what they lose."""

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch

import q2
from q2.commands.export import export as export_command
from q2.commands.sample import sample as sample_command
from q2.config import RunFile
from q2.denoisers import Denoiser, load
from q2.denoisers.saving.save import save_packed
from q2.errors import CheckpointError, ConfigError, Q2Error
from q2.exporters.dequantized import Dequantized
from q2.exporters.gguf import Gguf
from q2.exporters.kinds import EXPORTERS
from q2.passes.transform.quantize import Quantize
from q2.quant import parts_of
from q2.session.export import export
from q2.session.session import Session
from q2.session.transform import transform

PLUGIN = """
from pathlib import Path
from q2.exporters import Exported, Exporter
from q2.plugins import hookimpl

class Names(Exporter):
    name = "names"

    def export(self, denoiser, out, progress=None):
        out.write_text("\\n".join(denoiser.model.state_dict()))
        return Exported(f"{out}")

@hookimpl
def q2_exporters():
    return {"names": Names}
"""


def quantized() -> Denoiser:
    denoiser = load("dit", tiny=True, device="cpu")
    graph = q2.trace(denoiser.model, denoiser.example_inputs())
    table = {"by": "regex", "default": "uaq-4", "to_": "kmeans-c-3"}
    q2.run_passes(graph, [Quantize.from_table(table, str)], denoiser=denoiser)
    return denoiser


def test_a_dequantized_folder_is_plain_and_holds_the_quantized_weights(tmp_path: Path) -> None:
    from diffusers import DiTPipeline

    denoiser: Any = quantized()
    save_packed(denoiser, tmp_path / "packed")
    weight = denoiser.model.transformer_blocks[0].attn1.to_q.weight.detach().half()
    Dequantized().export(denoiser, tmp_path / "plain")
    config = json.loads((tmp_path / "plain" / "transformer" / "config.json").read_text(encoding="utf-8"))
    assert "quantization_config" not in config
    model = DiTPipeline.from_pretrained(tmp_path / "plain", torch_dtype=torch.float16).transformer
    layer = model.transformer_blocks[0].attn1.to_q
    assert type(layer) is torch.nn.Linear
    assert torch.equal(layer.weight, weight)
    export(Session(RunFile.load()), "dequantized", tmp_path / "again", tmp_path / "packed")
    files = [tmp_path / name / "transformer" / "diffusion_pytorch_model.safetensors" for name in ("plain", "again")]
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 8])
def test_gguf_has_the_nearest_block_type_and_reports_the_loss(tmp_path: Path, bits: int) -> None:
    denoiser: Any = load("digits-dit", device="cpu")
    graph = q2.trace(denoiser.model, denoiser.example_inputs())
    q2.run_passes(graph, [Quantize.from_table({"by": "regex", "block|pos": f"uaq-{bits}"}, str)], denoiser=denoiser)
    weights = {name: m.weight.numpy() for name, m in layers(denoiser.model)}
    done = Gguf().export(denoiser, tmp_path / "model.gguf")
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(tmp_path / "model.gguf").tensors}
    expected = {2: "Q4", 3: "Q4", 4: "Q4", 5: "Q5", 6: "Q8", 8: "Q8"}[bits]
    error = energy = 0.0
    for name, weight in weights.items():
        tensor = tensors[f"{name}.weight"]
        blocks = weight.shape[-1] % 32 == 0
        assert tensor.tensor_type.name.startswith(expected if blocks else "F16")
        assert list(reversed(tensor.shape.tolist())) == list(weight.shape)
        if blocks:
            values = gguf.quants.dequantize(tensor.data, tensor.tensor_type).reshape(weight.shape)
            error += float(np.square(values - weight, dtype=np.float64).sum())
            energy += float(np.square(weight, dtype=np.float64).sum())
    assert set(tensors) == set(denoiser.model.state_dict())
    assert tensors["proj_out_2.weight"].tensor_type.name == "F16"
    rows = [row for row in done.tables[0].rows if row[1] != "F16"]
    assert {row[0] for row in rows} == {"Linear"}
    assert len(rows) > 1 or rows[0][5] == pytest.approx(10 * np.log10(energy / error))
    assert all(float(row[5]) > 15 for row in rows)


def layers(model: torch.nn.Module) -> list[tuple[str, Any]]:
    return [(name, m) for name, m in model.named_modules() if not parts_of(m)[0].option.is_none]


def test_a_name_that_is_no_gguf_files(tmp_path: Path) -> None:
    with pytest.raises(Q2Error, match=r"expected a name that ends in \.gguf"):
        Gguf().export(quantized(), tmp_path / "model.bin")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_nothing_quantized_has_nothing_to_export(tmp_path: Path) -> None:
    load("dit", tiny=True, device="cpu").pipeline().save_pretrained(tmp_path / "plain")
    with pytest.raises(CheckpointError, match="nothing in it is quantized"):
        export(Session(RunFile.load()), "gguf", tmp_path / "x.gguf", tmp_path / "plain")
    with pytest.raises(CheckpointError, match="already exists"):
        Dequantized().export(quantized(), tmp_path / "plain")


def test_a_saved_folder_with_a_local_files_quantizer_needs_the_run_file_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = "from q2.plugins import hookimpl\nfrom q2.quant.quantizers.uniform import Uaq\n"
    text += "class Mine(Uaq):\n    name = 'mine'\n"
    Path("mine.py").write_text(text + "@hookimpl\ndef q2_quantizers():\n    return {'mine': Mine}\n", encoding="utf-8")
    lines = ["plugins.modules = ['mine.py']", "passes.quantize.default = 'mine-4'", "denoiser.name = 'digits-dit'"]
    Path("run.toml").write_text("\n".join(lines), encoding="utf-8")
    transform(Session(RunFile.load("run.toml")), tmp_path / "run", packed=Path("saved"))
    with pytest.raises(CheckpointError, match="'mine' comes from the plugin 'mine.py' .local.; give --config with"):
        export_command("dequantized", Path("plain"), saved=Path("saved"))
    export_command("dequantized", Path("plain"), config="run.toml", saved=Path("saved"))
    assert (tmp_path / "plain" / "model_index.json").is_file()
    with pytest.raises(ConfigError, match="digits-dit.toml, --from saved: .* 'mine' comes from the plugin 'mine.py'"):
        sample_command(saved="saved", n=1, steps=1, out=Path("none"))
    sample_command(config="run.toml", saved="saved", n=1, steps=1, out=Path("drawn"))
    assert (tmp_path / "drawn" / "grid.png").is_file()


def test_a_plugin_brings_a_format(tmp_path: Path) -> None:
    (tmp_path / "names.py").write_text(PLUGIN.replace("\\\\\\\\", "\\\\"), encoding="utf-8")
    run = RunFile.load(overrides=[f'plugins.modules=["{tmp_path / "names.py"}"]'])
    export(Session(run), "names", tmp_path / "names.txt")
    assert "transformer_blocks.0.attn1.to_q.weight" in (tmp_path / "names.txt").read_text(encoding="utf-8")


CODES = """
import json
from q2.exporters import Exported, Exporter
from q2.plugins import hookimpl
from q2.quant import read_parts

class Codes(Exporter):
    name = "codes"

    def export(self, denoiser, out, progress=None):
        held = {
            f"{name}/{i}": [str(part.option), part.codes.tolist(), {k: v.tolist() for k, v in part.parameters.items()}]
            for name, module in denoiser.model.named_modules()
            for i, part in enumerate(read_parts(module))
        }
        out.write_text(json.dumps(held, sort_keys=True))
        return Exported(f"{out}: {len(held)} parts")

@hookimpl
def q2_exporters():
    return {"codes": Codes}
"""


def test_an_exporter_reads_the_same_from_a_run_file_and_from_its_saved_folder(tmp_path: Path) -> None:
    (tmp_path / "codes.py").write_text(CODES, encoding="utf-8")
    text = (
        '[plugins]\nmodules = ["codes.py"]\n[passes.quantize]\nby = "regex"\ndefault = "uaq-3"\n"to_" = "kmeans-c-2"\n'
    )
    (tmp_path / "run.toml").write_text(text, encoding="utf-8")
    run = RunFile.load(str(tmp_path / "run.toml"))
    export(Session(run), "codes", tmp_path / "run.json")
    transform(Session(run), tmp_path / "run", packed=tmp_path / "packed")
    saved: Any = load(checkpoint=str(tmp_path / "packed"))
    Session(run).plugins.of(EXPORTERS).load("codes")().export(saved, tmp_path / "saved.json")
    first = (tmp_path / "run.json").read_text(encoding="utf-8")
    assert first == (tmp_path / "saved.json").read_text(encoding="utf-8")
    assert len(json.loads(first)) == 39


def test_an_export_of_nothing_quantized_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text("[passes.size]\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"run\.toml: passes: nothing is quantized, there is nothing to export"):
        export(Session(RunFile.load(str(tmp_path / "run.toml"))), "dequantized", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    undone = '[passes.quantize]\ndefault = "uaq-4"\n[passes.undo]\npass = "quantize"\nby = "regex"\n"." = "none"\n'
    (tmp_path / "undone.toml").write_text(undone, encoding="utf-8")
    with pytest.raises(ConfigError, match="nothing is quantized"):
        export(Session(RunFile.load(str(tmp_path / "undone.toml"))), "gguf", tmp_path / "out.gguf")
