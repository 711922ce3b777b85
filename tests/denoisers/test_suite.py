"""The denoisers that ship keep to the suite that plugins' denoisers are held to."""

from q2.denoisers import published
from q2.denoisers.digits import DigitsDiT, DigitsSDXL
from q2.denoisers.dit import DiT
from q2.denoisers.hunyuan import Hunyuan
from q2.denoisers.pixart import PixArtAlpha, PixArtSigma
from q2.denoisers.scenes import ScenesSD3
from q2.denoisers.sdv15 import StableDiffusion15
from q2.denoisers.sdxl import SDXL
from q2.testing import DenoiserSuite


class TestDiT(DenoiserSuite):
    denoiser = DiT


class TestDigitsDiT(DenoiserSuite):
    denoiser = DigitsDiT


class TestDigitsSDXL(DenoiserSuite):
    denoiser = DigitsSDXL


class TestScenesSD3(DenoiserSuite):
    denoiser = ScenesSD3
    draws = False


class TestPixArtAlpha(DenoiserSuite):
    denoiser = PixArtAlpha


class TestPixArtSigma(DenoiserSuite):
    denoiser = PixArtSigma


class TestHunyuan(DenoiserSuite):
    denoiser = Hunyuan


class TestSDXL(DenoiserSuite):
    denoiser = SDXL


class TestStableDiffusion15(DenoiserSuite):
    denoiser = StableDiffusion15


class _Published(DenoiserSuite):
    draws = False


class TestFluxDev(_Published):
    denoiser = published.FluxDev


class TestFluxSchnell(_Published):
    denoiser = published.FluxSchnell


class TestSD35Large(_Published):
    denoiser = published.SD35Large


class TestSD35Medium(_Published):
    denoiser = published.SD35Medium


class TestSana(_Published):
    denoiser = published.Sana


class TestQwenImage(_Published):
    denoiser = published.QwenImage


class TestZImage(_Published):
    denoiser = published.ZImage


class TestLumina2(_Published):
    denoiser = published.Lumina2


class TestWan21(_Published):
    denoiser = published.Wan21
