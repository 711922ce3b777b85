"""What q2 ships, offered through the same hooks as any plugin."""

from collections.abc import Mapping

from q2.plugins.spec import hookimpl

__all__ = ["DENOISERS", "ENGINES", "EXPORTERS", "METRICS", "PASSES", "QUANTIZERS", "STRATEGIES"]

PASSES: Mapping[str, str] = {
    "report": "q2.passes.analysis.report:ReportGraph",
    "stats": "q2.passes.analysis.stats:Stats",
    "errors": "q2.passes.analysis.errors:OptionErrors",
    "sensitivity": "q2.passes.analysis.sensitivity:LayerSensitivity",
    "bops": "q2.passes.analysis.bops:Bops",
    "size": "q2.passes.analysis.size:Size",
    "units": "q2.passes.analysis.units:Units",
    "dag": "q2.passes.analysis.dag:Dag",
    "report-graph": "q2.passes.analysis.graph_report:GraphReport",
    "profile-statistics": "q2.passes.analysis.profile:ProfileStatistics",
    "report-node-meta": "q2.passes.analysis.node_meta:NodeMeta",
    "avg-bits": "q2.passes.analysis.avg_bits:AvgBits",
    "flops": "q2.passes.analysis.flops:Flops",
    "latency": "q2.passes.analysis.latency:CallLatency",
    "model-size": "q2.passes.analysis.model_size:ModelBytes",
    "change-table": "q2.passes.analysis.change_table:ChangeTable",
    "weights-histogram": "q2.passes.analysis.histogram:WeightsHistogram",
    "verify": "q2.passes.analysis.verify:Verify",
    "fuse-bn": "q2.passes.transform.fuse_bn:FuseBn",
    "channel-width": "q2.passes.transform.channel_width:ChannelWidth",
    "quantize": "q2.passes.transform.quantize:Quantize",
    "calibrate": "q2.passes.transform.calibrate:Calibrate",
    "quantize-activations": "q2.passes.transform.quantize_activations:QuantizeActivations",
}

QUANTIZERS: Mapping[str, str] = {
    "uaq": "q2.quant.quantizers.uniform:Uaq",
    "kmeans-c": "q2.quant.quantizers.kmeans:KMeansC",
    "kmeans-a": "q2.quant.quantizers.kmeans:KMeansA",
    "integer": "q2.quant.quantizers.integer:IntegerQuantizer",
    "minifloat": "q2.quant.quantizers.minifloat:MiniFloatQuantizer",
    "mxfp": "q2.quant.quantizers.mx:MxFloat",
    "mxint": "q2.quant.quantizers.mx:MxInteger",
    "none": "q2.quant.quantizers.none:NoQuantizer",
}

DENOISERS: Mapping[str, str] = {
    "digits-dit": "q2.denoisers.digits:DigitsDiT",
    "digits-sdxl": "q2.denoisers.digits:DigitsSDXL",
    "scenes-sd3": "q2.denoisers.scenes:ScenesSD3",
    "dit": "q2.denoisers.dit:DiT",
    "pixart-alpha": "q2.denoisers.pixart:PixArtAlpha",
    "pixart-sigma": "q2.denoisers.pixart:PixArtSigma",
    "hunyuan": "q2.denoisers.hunyuan:Hunyuan",
    "sdxl": "q2.denoisers.sdxl:SDXL",
    "sdv15": "q2.denoisers.sdv15:StableDiffusion15",
    "flux": "q2.denoisers.published:FluxDev",
    "flux-schnell": "q2.denoisers.published:FluxSchnell",
    "sd35-large": "q2.denoisers.published:SD35Large",
    "sd35-medium": "q2.denoisers.published:SD35Medium",
    "sana": "q2.denoisers.published:Sana",
    "qwen-image": "q2.denoisers.published:QwenImage",
    "z-image": "q2.denoisers.published:ZImage",
    "lumina2": "q2.denoisers.published:Lumina2",
    "wan21": "q2.denoisers.published:Wan21",
}

EXPORTERS: Mapping[str, str] = {
    "dequantized": "q2.exporters.dequantized:Dequantized",
    "gguf": "q2.exporters.gguf:Gguf",
}

METRICS: Mapping[str, str] = {
    "avg_bits": "q2.search.metrics.costs:AvgBits",
    "quantized_size": "q2.search.metrics.costs:QuantizedSize",
    "model_size": "q2.search.metrics.costs:ModelSize",
    "output_error": "q2.search.metrics.costs:OutputError",
    "quantized_error": "q2.search.metrics.costs:QuantizedError",
    "bops": "q2.search.metrics.costs:BitOperations",
    "SQNR": "q2.search.metrics.outputs:Sqnr",
    "latency": "q2.search.metrics.outputs:Latency",
    "latent-SQNR": "q2.search.metrics.paired:LatentSqnr",
    "PSNR": "q2.search.metrics.paired:Psnr",
    "SSIM": "q2.search.metrics.paired:Ssim",
    "FID-GT-1k": "q2.search.metrics.inception:FidGt",
    "FID-FP-1k": "q2.search.metrics.inception:FidFp",
    "KID": "q2.search.metrics.inception:Kid",
    "CMMD": "q2.search.metrics.clip:Cmmd",
    "CLIP-score": "q2.search.metrics.clip:ClipScore",
    "judge-accuracy": "q2.search.metrics.judged:JudgeAccuracy",
    "judge-fid": "q2.search.metrics.judged:JudgeFid",
    "judge-fid-fp": "q2.search.metrics.judged:JudgeFidFull",
}

STRATEGIES: Mapping[str, str] = {
    "random": "q2.search.strategies.random:Random",
    "optuna": "q2.search.strategies.optuna:Optuna",
    "evolution": "q2.search.strategies.evolution:Evolution",
    "exhaustive": "q2.search.strategies.exhaustive:Exhaustive",
    "greedy": "q2.search.strategies.greedy:Greedy",
    "ilp-error": "q2.search.strategies.ilp:IlpError",
    "sensitivity": "q2.search.strategies.sensitivity:Sensitivity",
    "mixdq": "q2.search.strategies.mixdq:MixDQ",
    "fisher": "q2.search.strategies.fisher:Fisher",
    "predictor": "q2.search.strategies.predictor:Predictor",
}

ENGINES: Mapping[str, str] = {
    "local": "q2.search.engines.local:Local",
    "ray": "q2.search.engines.ray:Ray",
}


@hookimpl
def q2_passes() -> Mapping[str, str]:
    return PASSES


@hookimpl
def q2_quantizers() -> Mapping[str, str]:
    return QUANTIZERS


@hookimpl
def q2_denoisers() -> Mapping[str, str]:
    return DENOISERS


@hookimpl
def q2_exporters() -> Mapping[str, str]:
    return EXPORTERS


@hookimpl
def q2_metrics() -> Mapping[str, str]:
    return METRICS


@hookimpl
def q2_strategies() -> Mapping[str, str]:
    return STRATEGIES


@hookimpl
def q2_engines() -> Mapping[str, str]:
    return ENGINES
