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
    weight: float = 1.0


class DenoiserSettings(_Section):
    """`[denoiser]`: which denoiser, with which weights, in which precision and on which device.

    `name` is one that q2 knows; `model` and `config`, or `checkpoint` alone, name any other (see `q2.denoisers.load`),
    and `component` the part of its pipeline that denoises, if not its transformer or unet. `arguments` are given to the
    pipeline for every image, by their names in diffusers. `subfolder`, `variant` and `revision` say which files of the
    checkpoint, `loras` what is fused into its weights.
    """

    name: str = ""
    checkpoint: str = ""
    model: str = ""
    config: str | Table = ""
    component: str = ""
    arguments: Table = {}
    weights: Literal["pretrained", "random", "meta"] = "pretrained"
    tiny: bool = False
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    device: str = "auto"
    refiner: str = ""
    subfolder: str = ""
    variant: str = ""
    revision: str = ""
    loras: tuple[LoraSettings, ...] = ()


class ComponentSettings(_Section):
    """`[components.<name>]`: how the Linear layers of another part of the pipeline are quantized.

    An option for all, or a table of rules as those of the pass ``quantize``.
    """

    quantize: str | Table = "none"


class ModelSettings(_Section):
    """`[model]`: a module that is no denoiser, instead of `[denoiser]`.

    `name` is one that q2 ships; `import` is ``"package:factory"``, called with `arguments`. `weights` is a state dict
    (safetensors, or a tensors-only file of torch), ``pretrained`` (those that q2 ships) or ``random`` (by the seed);
    empty: pretrained for a `name`, what the factory returns for an `import`. `saved` is a folder that
    ``q2 transform --save`` wrote for a module, instead of all of these. `inputs` are the shapes of the forward's
    arguments, where no data say them.
    """

    name: str = ""
    factory: str = pydantic.Field(default="", alias="import")
    arguments: Table = {}
    weights: str = ""
    inputs: dict[str, tuple[int, ...]] = {}
    device: str = "auto"
    saved: str = ""

    @property
    def given(self) -> bool:
        """Whether the run file is about a module."""
        return bool(self.name or self.factory or self.saved)


class DataSettings(_Section):
    """`[data]`: what a module is trained and evaluated on.

    `name` is one that q2 ships (``jets``, ``digits``; empty: the model's own), `import` a ``"package:factory"`` called
    with `arguments`; `path` is the file of real jets. `validation` and `test` are shares of data that come unsplit.
    """

    name: str = ""
    factory: str = pydantic.Field(default="", alias="import")
    arguments: Table = {}
    path: str = ""
    batch: int = pydantic.Field(default=128, ge=1)
    workers: int = pydantic.Field(default=0, ge=0)
    validation: float = pydantic.Field(default=0.15, gt=0, lt=1)
    test: float = pydantic.Field(default=0.15, gt=0, lt=1)
    seed: int = pydantic.Field(default=0, ge=0, lt=2**63)


class TrainSettings(_Section):
    """`[train]`: how a module is trained. `steps` bounds the steps of an epoch (0: all of the data)."""

    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    epochs: int = pydantic.Field(default=10, ge=1)
    learning_rate: float = pydantic.Field(default=1e-2, gt=0)
    weight_decay: float = pydantic.Field(default=0.0, ge=0)
    steps: int = pydantic.Field(default=0, ge=0)


class PluginSettings(_Section):
    """`[plugins]`: local files or modules to load, and installed plugins to leave out."""

    modules: tuple[str, ...] = ()
    disable: tuple[str, ...] = ()


class SampleSettings(_Section):
    """`[samples]`: how many images to compare with full precision (0: none), and how many to make at a time."""

    images: int = pydantic.Field(default=0, ge=0)
    batch: int = pydantic.Field(default=100, ge=1)


class BankSettings(_Section):
    """`[bank]`: where the bank is (empty: ``bank/<denoiser>``, if it is there), and the options that it holds.

    A `calibrated` one is in ``bank/<denoiser>-calibrated``: its options are fitted to outputs, not to weights alone.
    """

    path: str = ""
    calibrated: bool = False
    options: tuple[str, ...] = (
        "kmeans-c-4",
        "kmeans-a-4",
        "uaq-4",
        "kmeans-c-3",
        "kmeans-a-3",
        "uaq-3",
        "kmeans-c-2",
    )


class CalibrationSettings(_Section):
    """`[calibration]`: rows of layers' inputs, and where they are (empty: ``calibration/<denoiser>``).

    `images` are denoised in `steps` steps (0: the protocol's), `batch` at a time, from noise of `seed`, which is none
    that recipes are measured with; they show `prompts` in turn (empty: the denoiser's own, or its classes). Of every
    input at most `rows` rows are kept.
    """

    images: int = pydantic.Field(default=20, ge=1)
    steps: int = pydantic.Field(default=0, ge=0)
    rows: int = pydantic.Field(default=4096, ge=1)
    seed: int = pydantic.Field(default=20_000, ge=0, lt=2**63)
    batch: int = pydantic.Field(default=4, ge=1)
    prompts: tuple[str, ...] = ()
    path: str = ""


class EvaluationSettings(_Section):
    """`[search.evaluation]`: how a recipe is measured, and by what beside the target's metrics.

    `fidelity` says how far: ``weights`` (sizes and errors, free), ``forward`` (the denoiser's outputs for `inputs`
    inputs of full precision's own), ``few-step`` (`few_images` images in `few_steps` steps), ``full`` (`images` images
    in `steps` steps, 0: the protocol's). `reference` is a folder of real images or a file of their statistics,
    `inception` and `clip` the local weights of these networks.
    """

    fidelity: Fidelity = "full"
    images: int = pydantic.Field(default=1000, ge=2)
    steps: int = pydantic.Field(default=0, ge=0)
    few_images: int = pydantic.Field(default=64, ge=2)
    few_steps: int = pydantic.Field(default=4, ge=1)
    inputs: int = pydantic.Field(default=32, ge=1)
    batch: int = pydantic.Field(default=100, ge=1)
    seed: int = pydantic.Field(default=0, ge=0, lt=2**63)
    metrics: tuple[str, ...] = ()
    reference: str = ""
    inception: str = ""
    clip: str = ""


class EngineSettings(_Section):
    """`[search.engine]`: where trials run. `workers` 0: one a GPU, or half the cores; `address` is a Ray cluster's."""

    name: str = "local"
    workers: int = pydantic.Field(default=0, ge=0)
    address: str = ""
    retries: int = pydantic.Field(default=2, ge=0)


class BuildSettings(_Section):
    """`[search.build]`: at which level recipes are built from scores, and within how many bits (0: no bound)."""

    level: Literal["unit", "node"] = "unit"
    avg_bits: float = pydantic.Field(default=0.0, ge=0)


class ObjectiveSettings(_Section):
    """`[search.metrics.<name>]`: a metric as an objective of its own, for strategies that take several."""

    direction: Literal["maximize", "minimize"]
    scale: float = pydantic.Field(default=1.0, gt=0)


class SpaceSettings(_Section):
    """`[search.space]`: `files` of reduced spaces of a denoiser; or lists of values of a module.

    ``space = "top-3.toml"`` means one of `files`; of several, a layer or unit may have what any of them lets it have.
    A module's layers are found `by` ``type``, ``name`` or ``regex``:
    ``[search.space.lists.linear]`` holds a list for each setting of a layer: the keys of a rule of the `transform`,
    which is ``quantize`` or ``channel-width``. ``"NA"`` as a fraction's width means half the width.
    """

    files: tuple[str, ...] = ()
    transform: Literal["quantize", "channel-width"] = "quantize"
    by: Literal["type", "name", "regex"] = "type"
    lists: dict[str, dict[str, tuple[int | float | str | bool, ...]]] = {}


def _or_files(schema: dict[str, Any]) -> None:
    """Let the JSON schema of `search.space` also be a file's name, or several; `q2.config` reads these as `files`."""
    table = {"$ref": schema.pop("$ref")}
    schema["anyOf"] = [table, {"type": "string"}, {"type": "array", "items": {"type": "string"}}]


class RunnerSettings(_Section):
    """`[search.runner]`: how a trial of a module is measured: as it is, or trained first as `[train]` says.

    `samples` of the `split` are evaluated (0: all of them).
    """

    name: Literal["evaluate", "train"] = "evaluate"
    split: Literal["train", "validation", "test"] = "validation"
    samples: int = pydantic.Field(default=0, ge=0)


class SearchSettings(_Section):
    """`[search]`: what is looked for, among which options, by which strategy, in how many trials.

    `options` are those of every choice (empty: the bank's); `layers` gives others to the choices whose name a regular
    expression finds, the first that does: one option alone is fixed. `constraints` are bounds such as
    ``"avg_bits <= 3.7"``. A table in `strategies` holds a strategy's own options. `baselines`, each option everywhere,
    are evaluated first: as an ``extra``, ``counted`` among the trials, or ``off``.
    """

    strategy: str = "random"
    target: str = "latent-SQNR - 4*avg_bits"
    trials: int = pydantic.Field(default=100, ge=1)
    baselines: Literal["extra", "counted", "off"] = "extra"
    options: tuple[str, ...] = ()
    layers: dict[str, tuple[str, ...]] = {}
    ties: bool = True
    constraints: tuple[str, ...] = ()
    evaluation: EvaluationSettings = EvaluationSettings()
    engine: EngineSettings = EngineSettings()
    build: BuildSettings = BuildSettings()
    metrics: dict[str, ObjectiveSettings] = {}
    strategies: dict[str, Table] = {}
    space: SpaceSettings = pydantic.Field(default=SpaceSettings(), json_schema_extra=_or_files)
    runner: RunnerSettings = RunnerSettings()


class Settings(_Section):
    """Everything a run file can say. `passes` keeps the file's order; each pass checks its own table.

    `prec` is how many bits a centroid, a scale, a zero point and a weight that is not quantized take.
    """

    seed: int = pydantic.Field(default=0, ge=0, lt=2**63)
    prec: Literal[16, 32] = 16
    denoiser: DenoiserSettings = DenoiserSettings()
    model: ModelSettings = ModelSettings()
    data: DataSettings = DataSettings()
    train: TrainSettings = TrainSettings()
    plugins: PluginSettings = PluginSettings()
    passes: dict[str, Table] = {}
    components: dict[str, ComponentSettings] = {}
    samples: SampleSettings = SampleSettings()
    bank: BankSettings = BankSettings()
    calibration: CalibrationSettings = CalibrationSettings()
    search: SearchSettings = SearchSettings()
