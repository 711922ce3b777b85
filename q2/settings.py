"""What a run file can say: typed, frozen sections with their defaults. `q2.config` reads them."""

from typing import Any, Literal

import pydantic
from pydantic.fields import FieldInfo

__all__ = [
    "DataSettings",
    "EngineSettings",
    "EvaluationSettings",
    "Fidelity",
    "ModelSettings",
    "SearchSettings",
    "Settings",
    "Table",
    "TrainSettings",
    "keys_of",
]

Table = dict[str, Any]
Fidelity = Literal["weights", "forward", "few-step", "full"]


class _Section(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", serialize_by_alias=True)


def keys_of(kind: type[pydantic.BaseModel]) -> dict[str, FieldInfo]:
    """Return the fields of a section by the keys that a run file gives them.

    >>> list(keys_of(ModelSettings))[:2]
    ['name', 'import']
    """
    return {info.alias or name: info for name, info in kind.model_fields.items()}


class LoraSettings(_Section):
    """`[denoiser] loras`: a LoRA's file, folder or Hub id, and the weight with which it is fused."""

    path: str
    """A `.safetensors` file, its folder, or a Hub id."""
    weight: float = 1.0
    """The weight with which the LoRA is fused."""


class DenoiserSettings(_Section):
    """`[denoiser]`: which denoiser, with which weights, in which precision and on which device."""

    name: str = ""
    """A denoiser that q2 knows (`q2 list denoisers`); left out where `model` or `checkpoint` alone names another."""
    checkpoint: str = ""
    """A local pipeline folder, a component's folder alone, one `.safetensors` file, or a Hub id; empty: the
    denoiser's own (docs/denoisers.md)."""
    model: str = ""
    """Any other class of diffusers, as `package.module:Class` (docs/denoisers.md)."""
    config: str | Table = ""
    """Of `model`: a table of constructor arguments, a config.json, or its folder. Of a checkpoint that is one file:
    the pipeline folder or Hub id with its configs."""
    component: str = ""
    """Which part of a `checkpoint`'s pipeline is the denoiser, by its name in model_index.json; empty: the first of
    `transformer`, `unet`, `prior`, `decoder`."""
    arguments: Table = {}
    """A table of arguments of the pipeline's call, by their names in diffusers: `height`, `num_frames`,
    `negative_prompt`, `strength`, … (docs/pipelines.md)."""
    weights: Literal["pretrained", "random", "meta"] = "pretrained"
    """`pretrained` ones come from the checkpoint, `random` ones from a seed, `meta` ones have no values; the last
    two need no files."""
    tiny: bool = False
    """The same class at toy width, for tests; its weights are random."""
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    """The dtype in which the denoiser is loaded and computes."""
    device: str = "auto"
    """A device of PyTorch; `auto` takes CUDA where there is one."""
    refiner: str = ""
    """Of `sdxl`: a refiner's folder or Hub id, such as `stabilityai/stable-diffusion-xl-refiner-1.0`; it makes the
    last fifth of the steps, at full precision."""
    subfolder: str = ""
    """Where in a folder or Hub repository the pipeline, or the component, lies."""
    variant: str = ""
    """Which of several precisions a folder has, as in `model.fp16.safetensors`; empty: the plain files, else `fp16`
    or `bf16`."""
    revision: str = ""
    """A branch, tag or commit of the Hub; empty: `main`."""
    loras: tuple[LoraSettings, ...] = ()
    """LoRAs that are fused before anything is looked at: tables with `path` (a `.safetensors` file, its folder, or
    a Hub id) and `weight` (1)."""


class ComponentSettings(_Section):
    """`[components.<name>]`: how the Linear layers of another part of the pipeline are quantized.

    An option for all, or a table of rules as those of the pass ``quantize``.
    """

    quantize: str | Table = "none"
    """An option for all Linear layers, or a table of rules as in the pass `quantize`."""


class ModelSettings(_Section):
    """`[model]`: a module that is no denoiser, instead of `[denoiser]`."""

    name: str = ""
    """A module that q2 ships: `jsc-tiny`, `jsc-new`, `jsc-three-linear` or `digits-cnn` (docs/mase.md)."""
    factory: str = pydantic.Field(default="", alias="import")
    """Any other module, as `package:factory`."""
    arguments: Table = {}
    """A table of the factory's arguments."""
    weights: str = ""
    """A state dict (safetensors, or a torch file of tensors alone), `pretrained`, or `random`; empty: `pretrained`
    for a `name`, what the factory returns for an `import`."""
    inputs: dict[str, tuple[int, ...]] = {}
    """Shapes of the forward's arguments, as in `inputs.x = [4, 16]`, where there are no data."""
    device: str = "auto"
    """A device of PyTorch; `auto` takes CUDA where there is one."""
    saved: str = ""
    """A folder that `q2 transform --save` wrote for a module, in place of all of these."""

    @property
    def given(self) -> bool:
        """Whether the run file is about a module."""
        return bool(self.name or self.factory or self.saved)


class DataSettings(_Section):
    """`[data]`: what a module is trained and evaluated on."""

    name: str = ""
    """`jets` or `digits`; empty: the data of the model that q2 ships."""
    factory: str = pydantic.Field(default="", alias="import")
    """Any other data, as `package:factory`, which returns tensors, a data set, or a mapping of the three splits."""
    arguments: Table = {}
    """A table of the factory's arguments."""
    path: str = ""
    """Of `jets`: the file of the real ones, HDF5 or OpenML's ARFF; empty: synthetic ones."""
    batch: int = pydantic.Field(default=128, ge=1)
    """Samples at a time."""
    workers: int = pydantic.Field(default=0, ge=0)
    """Processes that load samples."""
    validation: float = pydantic.Field(default=0.15, gt=0, lt=1)
    """The share of the validation split, of data that come unsplit."""
    test: float = pydantic.Field(default=0.15, gt=0, lt=1)
    """The share of the test split, of data that come unsplit."""
    seed: int = pydantic.Field(default=0, ge=0, lt=2**63)
    """The seed by which unsplit data are split."""


class TrainSettings(_Section):
    """`[train]`: how a module is trained."""

    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    """The optimizer."""
    epochs: int = pydantic.Field(default=10, ge=1)
    """How many epochs."""
    learning_rate: float = pydantic.Field(default=1e-2, gt=0)
    """The highest learning rate of a one-cycle schedule."""
    weight_decay: float = pydantic.Field(default=0.0, ge=0)
    """The weight decay of the optimizer."""
    steps: int = pydantic.Field(default=0, ge=0)
    """Steps of an epoch at most; 0: all of the data."""


class PluginSettings(_Section):
    """`[plugins]`: local files or modules to load, and installed plugins to leave out."""

    modules: tuple[str, ...] = ()
    """Local files or importable modules with hooks."""
    disable: tuple[str, ...] = ()
    """Installed plugins to leave out."""


class SampleSettings(_Section):
    """`[samples]`: images that compare the result with full precision."""

    images: int = pydantic.Field(default=0, ge=0)
    """How many images are compared with full precision; 0: none."""
    batch: int = pydantic.Field(default=100, ge=1)
    """How many of them are made at a time."""


class BankSettings(_Section):
    """`[bank]`: where the bank is, and the options that it holds."""

    path: str = ""
    """The bank's folder; empty: `bank/<denoiser>`, with the checkpoint's name where that is not the denoiser's own and
    `-calibrated` for a calibrated bank, used if it is there. A search builds the bank where there is none, and fits
    what it lacks."""
    calibrated: bool = False
    """Fit options to what layers put out, from rows of their inputs (docs/calibration.md)."""
    device: str = "auto"
    """Where options are fitted to outputs: a device of PyTorch; `auto` takes CUDA where there is one. Options of a
    bank that is not calibrated are always fitted on the CPU."""
    options: tuple[str, ...] = (
        "kmeans-c-4",
        "kmeans-a-4",
        "uaq-4",
        "kmeans-c-3",
        "kmeans-a-3",
        "uaq-3",
        "kmeans-c-2",
    )
    """The options that `q2 bank` fits."""


class CalibrationSettings(_Section):
    """`[calibration]`: rows of layers' inputs, to which a calibrated bank is fitted."""

    images: int = pydantic.Field(default=20, ge=1)
    """How many images are denoised to collect rows."""
    steps: int = pydantic.Field(default=0, ge=0)
    """Their denoising steps; 0: as the denoiser's protocol says."""
    rows: int = pydantic.Field(default=4096, ge=1)
    """How many rows of every different input are kept at most."""
    seed: int = pydantic.Field(default=20_000, ge=0, lt=2**63)
    """The seed of the images' noise and of which rows are kept; neither that of a search's images nor `seed`."""
    batch: int = pydantic.Field(default=4, ge=1)
    """Images at a time; decides which rows are kept, and how much memory is used."""
    prompts: tuple[str, ...] = ()
    """What the images show, in turn; empty: the denoiser's own prompts. A denoiser of classes takes none and draws
    its classes."""
    path: str = ""
    """The folder of the rows; empty: `calibration/<denoiser>`."""


class EvaluationSettings(_Section):
    """`[search.evaluation]`: how a recipe is measured, and by what beside the target's metrics."""

    fidelity: Fidelity = "full"
    """How far a recipe is measured: `weights` (sizes and errors, free), `forward` (outputs of the denoiser),
    `few-step` (a few images in a few steps) or `full`."""
    images: int = pydantic.Field(default=1000, ge=2)
    """Images of a trial at the fidelity `full`."""
    steps: int = pydantic.Field(default=0, ge=0)
    """Their denoising steps; 0: as the denoiser's protocol says."""
    few_images: int = pydantic.Field(default=64, ge=2)
    """Images at the fidelity `few-step`."""
    few_steps: int = pydantic.Field(default=4, ge=1)
    """Their denoising steps, and those from which the inputs of `forward` are taken."""
    inputs: int = pydantic.Field(default=32, ge=1)
    """For how many inputs `forward` compares the denoiser's outputs."""
    batch: int = pydantic.Field(default=100, ge=1)
    """Images at a time; changes none of them."""
    seed: int = pydantic.Field(default=0, ge=0, lt=2**63)
    """The seed of the images' noise."""
    metrics: tuple[str, ...] = ()
    """Metrics that are measured beside those of the target."""
    reference: str = ""
    """A folder of real images, or of FID an npz file with their `mu` and `sigma`."""
    inception: str = ""
    """Inception's file `inception-2015-12-05.pt`, or its folder; empty: where clean-fid keeps it."""
    clip: str = ""
    """A CLIP model's folder or Hub id."""


class EngineSettings(_Section):
    """`[search.engine]`: where trials run."""

    name: str = "local"
    """Where trials run: `local`, `ray`, or a plugin's engine."""
    workers: int = pydantic.Field(default=0, ge=0)
    """How many trials at a time; 0: one for each GPU, or half the cores."""
    address: str = ""
    """The address of a Ray cluster; empty: one is started on this machine."""
    retries: int = pydantic.Field(default=2, ge=0)
    """How often a trial is tried again whose worker died."""


class BuildSettings(_Section):
    """`[search.build]`: at which level recipes are built from scores, and within how many bits."""

    level: Literal["unit", "node"] = "unit"
    """Whether the predictor builds recipes from scores of units or of nodes (layers)."""
    avg_bits: float = pydantic.Field(default=0.0, ge=0)
    """A bound on the average bits, like a constraint; 0: none."""


class ObjectiveSettings(_Section):
    """`[search.metrics.<name>]`: a metric as an objective of its own, for strategies that take several."""

    direction: Literal["maximize", "minimize"]
    """Whether more or less of the metric is better."""
    scale: float = pydantic.Field(default=1.0, gt=0)
    """What the metric is divided by in a sum of objectives."""


class SpaceSettings(_Section):
    """`[search.space]`: `files` of reduced spaces of a denoiser; or lists of values of a module.

    ``[search.space.lists.linear]`` holds a list for each setting of a layer: the keys of a rule of the `transform`.
    ``"NA"`` as a fraction's width means half the width.
    """

    files: tuple[str, ...] = ()
    """Of a denoiser: files of reduced spaces (docs/predictor.md); of several, a layer or unit may have what any of
    them lets it have. `space = "top-3.toml"` means one."""
    transform: Literal["quantize", "channel-width"] = "quantize"
    """Which pass the values are settings of."""
    by: Literal["type", "name", "regex"] = "type"
    """How the lists match layers: `type`, `name` or `regex`."""
    lists: dict[str, dict[str, tuple[int | float | str | bool, ...]]] = {}
    """Tables of lists, `[search.space.lists.linear]`: the values of every setting of these layers."""


def _or_files(schema: dict[str, Any]) -> None:
    """Let the JSON schema of `search.space` also be a file's name, or several; `q2.config` reads these as `files`."""
    table = {"$ref": schema.pop("$ref")}
    schema["anyOf"] = [table, {"type": "string"}, {"type": "array", "items": {"type": "string"}}]


class RunnerSettings(_Section):
    """`[search.runner]`: how a trial of a module is measured: as it is, or trained first as `[train]` says."""

    name: Literal["evaluate", "train"] = "evaluate"
    """A module's trial is evaluated as it is, or after `train`."""
    split: Literal["train", "validation", "test"] = "validation"
    """The split on which a trial is evaluated."""
    samples: int = pydantic.Field(default=0, ge=0)
    """On how many of its samples; 0: all."""


class SearchSettings(_Section):
    """`[search]`: what is looked for, among which options, by which strategy, in how many trials."""

    strategy: str = "random"
    """Which strategy: a name (`q2 list strategies`), or the title of a table of `search.strategies`."""
    target: str = "latent-SQNR - 4*avg_bits"
    """What is maximized: arithmetic over metrics (docs/trials.md)."""
    trials: int = pydantic.Field(default=100, ge=1)
    """How many recipes are tried."""
    baselines: Literal["extra", "counted", "off"] = "extra"
    """Each option everywhere is evaluated first: `extra` to the trials, `counted` among them, or `off`."""
    options: tuple[str, ...] = ()
    """The options of every choice; empty: the bank's."""
    layers: dict[str, tuple[str, ...]] = {}
    """A regular expression, and the options of the choices whose name it finds; the first that matches counts, and
    a single option is fixed."""
    ties: bool = True
    """Layers with the same weights are one choice."""
    constraints: tuple[str, ...] = ()
    """Bounds on sums over layers, such as `"avg_bits <= 3.7"`."""
    evaluation: EvaluationSettings = EvaluationSettings()
    engine: EngineSettings = EngineSettings()
    build: BuildSettings = BuildSettings()
    metrics: dict[str, ObjectiveSettings] = {}
    """Tables `search.metrics.<name>` with `direction` (`maximize` or `minimize`) and `scale` (1): objectives for
    strategies that take several."""
    strategies: dict[str, Table] = {}
    """Tables `search.strategies.<title>` with a strategy's options; `strategy` names the strategy where the title
    does not."""
    space: SpaceSettings = pydantic.Field(default=SpaceSettings(), json_schema_extra=_or_files)
    runner: RunnerSettings = RunnerSettings()


class Settings(_Section):
    """Everything a run file can say. `passes` keeps the file's order; each pass checks its own table."""

    seed: int = pydantic.Field(default=0, ge=0, lt=2**63)
    """The seed of every random choice."""
    prec: Literal[16, 32] = 16
    """Bits of a centroid, a scale, a zero point, and of a weight that is not quantized: 16 or 32."""
    denoiser: DenoiserSettings = DenoiserSettings()
    model: ModelSettings = ModelSettings()
    data: DataSettings = DataSettings()
    train: TrainSettings = TrainSettings()
    plugins: PluginSettings = PluginSettings()
    passes: dict[str, Table] = {}
    """Passes by title, run in file order. A table takes the name of its pass, or says `pass = "size"`, so that one
    pass can run twice under two titles."""
    components: dict[str, ComponentSettings] = {}
    """Tables `components.<name>` with `quantize`: an option, or a table of rules, for the Linear layers of another
    part of the pipeline (docs/saving.md)."""
    samples: SampleSettings = SampleSettings()
    bank: BankSettings = BankSettings()
    calibration: CalibrationSettings = CalibrationSettings()
    search: SearchSettings = SearchSettings()
