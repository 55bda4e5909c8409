"""OpenVINO: reads any model it knows, picks what the processor does well, and runs it.

The slots of the server stand beside it in openvino_slots.py; no other module of the runtime imports openvino.
"""

import platform
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType

import openvino as ov

from atalaya_serving.engines.base import Hint, Precision
from atalaya_serving.errors import ModelLoadFailed

NOTHING: Mapping[str, str] = MappingProxyType({})
# In order of preference: where a folder holds several formats, the one that needs no conversion wins.
_FILE_PATTERNS = ("model.xml", "*.xml", "model.onnx", "*.onnx", "saved_model.pb", "*.tflite", "*.pdmodel", "*.pb")


@cache
def core() -> ov.Core:
    """The one OpenVINO runtime of this process: plugins load once and compiled kernels are shared."""
    return ov.Core()


def processor_flags() -> frozenset[str]:
    """What the processor can do, in the kernel's words; empty where the kernel does not tell."""
    return frozenset(_told_by_the_kernel("flags").split())


def processor_vendor() -> str:
    """Its maker, in the kernel's words, such as `GenuineIntel`; empty where the kernel does not tell."""
    return _told_by_the_kernel("vendor_id")


@cache
def _told_by_the_kernel(field: str) -> str:
    """Of the first processor."""
    info = Path("/proc/cpuinfo")
    if not info.is_file():
        return ""
    for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == field:
            return value.strip()
    return ""


@cache
def processor_name() -> str:
    """The processor as OpenVINO names it."""
    return str(core().get_property("CPU", "FULL_DEVICE_NAME")).strip() or platform.processor() or platform.machine()


def best_precision() -> Precision:
    """bf16 where the processor multiplies it faster than f32, f32 on other x86, and OpenVINO's own choice elsewhere.

    OpenVINO itself takes bf16 on every AVX-512 processor. Measured with the baseline network, CPU time an image: AMX,
    and AVX512-BF16 of AMD, halve f32's (858 against 1,660 µs on an EPYC 9004). AVX512-BF16 of an Intel without AMX does
    not (2,319 against 1,643 µs on a Xeon whose host hides its AMX); without either, bf16 is emulated.
    """
    flags = processor_flags()
    if not flags:
        return "auto"
    is_fast = "amx_bf16" in flags or ("avx512_bf16" in flags and processor_vendor() == "AuthenticAMD")
    return "bf16" if is_fast else "f32"


def find_model_file(path: Path) -> Path:
    """The file OpenVINO shall read: `path` itself, or what lies in the version folder `path`.

    For a SavedModel that is its folder. Raises ModelLoadFailed when there is none.
    """
    if path.is_file():
        return path
    for folder in (path, path / "saved_model", path / "model.savedmodel"):
        for pattern in _FILE_PATTERNS:
            found = sorted(folder.glob(pattern))
            if found:
                return folder if pattern == "saved_model.pb" else found[0]
    raise ModelLoadFailed(
        f"{path} holds no model; put model.xml with model.bin, model.onnx, saved_model.pb or a .tflite file there."
    )


def read_model(path: Path) -> ov.Model:
    """Read a version folder or a file. Raises ModelLoadFailed in one line when OpenVINO cannot."""
    file = find_model_file(path)
    try:
        return core().read_model(file)
    except (RuntimeError, TypeError) as error:
        raise ModelLoadFailed(
            f"{file} is not a model that OpenVINO can read: {one_line(error)}; export it again."
        ) from error


def compile_model(
    model_path: Path,
    *,
    device: str = "CPU",
    hint: Hint = "THROUGHPUT",
    precision: Precision = "auto",
    threads: int | None = None,
    extra: Mapping[str, str] = NOTHING,
) -> ov.CompiledModel:
    """Read and compile any model OpenVINO reads, from a version folder or a file.

    `extra` are OpenVINO properties and win over what the other arguments set. Raises ModelLoadFailed.
    """
    return compile_read(read_model(model_path), device, properties(device, hint, precision, threads, extra), model_path)


def properties(
    device: str, hint: Hint, precision: Precision, threads: int | None, extra: Mapping[str, str] = NOTHING
) -> dict[str, str]:
    """The OpenVINO properties behind compile_model's arguments."""
    chosen = {"PERFORMANCE_HINT": str(hint)}
    if precision == "auto" and device.startswith("CPU"):
        precision = best_precision()
    if precision != "auto":
        chosen["INFERENCE_PRECISION_HINT"] = precision
    if threads is not None:
        chosen["INFERENCE_NUM_THREADS"] = str(threads)
    return chosen | {key: str(value) for key, value in extra.items()}


def compile_read(model: ov.Model, device: str, chosen: Mapping[str, str], where: Path) -> ov.CompiledModel:
    """Compile a model that is read already; `where` only names it in messages."""
    try:
        return core().compile_model(model, device, dict(chosen))
    except (RuntimeError, TypeError) as error:
        raise ModelLoadFailed(
            f"{where} cannot run on {device}: {one_line(error)}; check the device and its flags."
        ) from error


def one_line(error: Exception, limit: int = 300) -> str:
    """A library's message on one line, without the source positions that OpenVINO's errors start with."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip() and not line.startswith("Exception from")]
    told = " ".join(lines) or type(error).__name__
    return told if len(told) <= limit else told[: limit - 1] + "…"
