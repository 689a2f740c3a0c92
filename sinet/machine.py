"""The machine a figure is measured on: device, threads, precision, versions, memory."""

import contextlib
import ctypes
import functools
import importlib.metadata
import logging
import os
import platform
import resource
import time
import timeit

import torch

from sinet.errors import UserError

log = logging.getLogger("sinet")

PACKAGES = ("torch", "transformers", "tokenizers", "snakemake", "fvcore", "numpy", "pandas", "matplotlib")
PRECISIONS = ("float32", "bfloat16")
# the share of float32's time that a product in bfloat16 may take; far from the halves and doubles that are met
WORTH_BFLOAT16 = 0.8
# CPUs that others may keep busy while something is timed
DISTURBED = 0.1
FEW_KERNELS = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "16", "LRU_CACHE_CAPACITY": "16"}
"""What oneDNN and torch's layer over it read from the environment when they first compute."""


def available_device() -> torch.device:
    """The GPU if there is one, else the CPU; nothing is set."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def use_device() -> torch.device:
    """The device, and this process set up for it: deterministic, one thread for each CPU that was granted.

    Raises:
        UserError: SLURM granted a GPU that torch does not see: a training on the CPU beside it would be no help.
    """
    torch.set_num_threads(granted_cpus())
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    chosen = available_device()
    on_gpu = chosen.type == "cuda"
    if not on_gpu and os.environ.get("SLURM_STEP_GPUS"):
        raise UserError(
            f"SLURM granted a GPU, torch {torch.__version__} sees none: install torch's CUDA build of that version, or "
            "write gpus: 0 into site.yaml"
        )
    # a GPU has no deterministic cumulative sum (PFN's gates): it warns there, where the CPU gives the same bits
    torch.use_deterministic_algorithms(True, warn_only=on_gpu)
    # no figure here depends on memory that was not written; filling it first would cost a twentieth of a training
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # the module has a class
    # denormal numbers (vanishing gradients, saturated softmax) cost a CPU a hundred times an ordinary one
    torch.set_flush_denormal(True)
    _keep_freed_memory()
    return chosen


def remember_few_kernels() -> None:
    """For a stream, before its first product: oneDNN remembers the kernels of a few shapes instead of 1,024.

    Batches of a stream hardly ever have the same number of rows, so that most are of no use, and with half a megabyte
    each, and holes in the memory between them, they keep it growing for thousands of batches. Repeated passes over the
    same sentences do gain by them. What is set in the environment already stays.
    """
    for name, value in FEW_KERNELS.items():
        os.environ.setdefault(name, value)


def granted_cpus() -> int:
    """CPUs this process may use: those of its affinity mask, of which `os.cpu_count()` takes no notice, or fewer where
    SLURM granted fewer without setting a mask (TaskPlugin=task/none), or where OMP_NUM_THREADS says so, as Snakemake
    does of a step's share of one machine."""
    granted = os.environ.get("SLURM_CPUS_PER_TASK") or os.environ.get("SLURM_CPUS_ON_NODE")
    share = None if os.environ.get("SINET_WHOLE_GRANT") else os.environ.get("OMP_NUM_THREADS")
    limits = [int(text) for text in (granted, share) if text and text.isdigit()]
    affinity = getattr(os, "sched_getaffinity", None)  # Linux alone has it
    return max(1, min([len(affinity(0)) if affinity else os.cpu_count() or 1, *limits]))


def _keep_freed_memory() -> None:
    """Let glibc reuse large blocks instead of giving them back: mapping fresh pages for each tensor costs a tenth of
    SINET's training and half of the table-sequence encoders'."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # other C libraries have their own ways
        m_trim_threshold, m_top_pad, m_mmap_max = -1, -2, -4
        mallopt(m_mmap_max, 0)
        mallopt(m_trim_threshold, (1 << 31) - 1)
        mallopt(m_top_pad, 1 << 26)


def native_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 in hardware; a CPU that emulates it is two hundred times slower."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("amx_bf16", "avx512_bf16", "bf16"))


def faster_in_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 in hardware and gains by it: CPUs with the same instruction do so at half
    or at twice the speed of float32, so a small product is tried in both (tens of milliseconds)."""
    if device.type == "cuda" or not native_bfloat16(device):
        return native_bfloat16(device)
    fastest = {}
    for dtype in (torch.float32, torch.bfloat16):
        a, b = torch.ones(256, 384, dtype=dtype), torch.ones(384, 1536, dtype=dtype)
        fastest[dtype] = min(timeit.repeat(functools.partial(torch.mm, a, b), number=1, repeat=10))
    return fastest[torch.bfloat16] < WORTH_BFLOAT16 * fastest[torch.float32]


def resolve_precision(setting: str, device: torch.device) -> str:
    """`auto` is bfloat16 where the device gains by it, else float32; the others are themselves."""
    if setting not in ("auto", *PRECISIONS):
        raise UserError(f'precision: {setting!r} should be "auto", "float32" or "bfloat16"')
    if setting == "auto":
        return "bfloat16" if faster_in_bfloat16(device) else "float32"
    return setting


def usable_precision(precision: str, device: torch.device) -> str:
    """The precision a run was trained in, or float32, with a message, where the device would have to emulate it."""
    if precision == "bfloat16" and not native_bfloat16(device):
        log.warning("trained in bfloat16, which %s does not multiply in hardware: float32 is used", device_name(device))
        return "float32"
    return precision


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager:
    """Autocast to bfloat16 (weights stay float32), or nothing for float32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16")


class OtherWork:
    """How many CPUs others than this process kept busy while it was open, `cpus`, on average; None where the system
    does not tell (no /proc/stat). What a hypervisor gave to its other guests counts."""

    cpus: float | None = None

    def __enter__(self) -> "OtherWork":
        self._began = time.perf_counter(), _others_seconds()
        return self

    def __exit__(self, *raised: object) -> None:
        (began, before), now, after = self._began, time.perf_counter(), _others_seconds()
        if before is not None and after is not None:
            self.cpus = round(max(0.0, after - before) / max(now - began, 1e-9), 2)
        if self.cpus is not None and self.cpus > DISTURBED:
            log.warning("other processes kept %.1f CPUs busy meanwhile: these times are no good", self.cpus)


def _others_seconds() -> float | None:
    """CPU seconds that all other processes have used since the machine started."""
    try:
        with open("/proc/stat") as statistics:
            user, nice, system, _, _, irq, softirq, steal, *_ = map(int, statistics.readline().split()[1:])
    except (OSError, ValueError):
        return None
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK") - time.process_time()


def synchronise(device: torch.device) -> None:
    """Wait for the device, so that a clock read afterwards has seen all the work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def device_name(device: torch.device) -> str:
    """As a table can print it: the GPU's name, or the CPU's model."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as info:
        for line in info:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def libraries() -> dict[str, str | None]:
    """What the environment says of the kernels that are remembered, on which times depend; None for 1,024."""
    return {name: os.environ.get(name) for name in FEW_KERNELS}


def describe(device: torch.device, precision: str) -> dict:
    """What a record says of the machine."""
    return {
        "device": device.type,
        "device_name": device_name(device),
        "threads": torch.get_num_threads(),
        "precision": precision,
        "versions": {"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in PACKAGES},
    }


def _peak_resident_kib() -> int:
    """Linux's getrusage starts a new program with the peak of the process that started it; its own is in /proc."""
    with contextlib.suppress(OSError), open("/proc/self/status") as status:
        for line in status:
            if line.startswith("VmHWM:"):
                return int(line.split()[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def peak_memory_mib(device: torch.device) -> dict[str, float]:
    """Peak resident memory of this process, and of the GPU's allocator, in MiB."""
    peak = {"resident": round(_peak_resident_kib() / 1024, 1)}
    if device.type == "cuda":
        peak["cuda"] = round(torch.cuda.max_memory_allocated(device) / (1 << 20), 1)
    return peak
