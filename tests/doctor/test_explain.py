"""Pasted logs: the cause where it is known, and "unknown" where it is not."""

from __future__ import annotations

import pytest

from ftlab_doctor import explain, registry

LOGS = {
    "RuntimeError: The NVIDIA driver on your system is too old (found version 11040).": "driver.cuda",
    "ImportError: libcusparse.so.12: undefined symbol: __nvJitLinkComplete_12_4, version libnvJitLink.so.12": "lib.foreign",
    "RuntimeError: CUDA error: no kernel image is available for execution on the device": "torch.arch",
    "RuntimeError: Triton Error [CUDA]: no kernel image is available": "triton.ptxas",
    "Failed to initialize NVML: Driver/library version mismatch": "driver.mismatch",
    "ImportError: flash_attn_2_cuda.cpython-311.so: undefined symbol: _ZN3c105ErrorC2ENS_14SourceLocationE": "lib.symbols",
    "OSError: libcudart.so.13: cannot open shared object file: No such file or directory": "lib.needs",
    "KeyError: 'getpwuid(): uid not found: 1000'": "cache.user",
    "RuntimeError: Unrecognized CachingAllocator option: max_split": "vars.allocator",
    "ValueError: Fast download using 'hf_transfer' is enabled (HF_HUB_ENABLE_HF_TRANSFER=1)": "vars.transfer",
    "nvidia-container-cli: mount error: stat failed: /usr/lib/libcuda.so.535.161.07: no such file": "docker.cdi",
    "RuntimeError: Found no NVIDIA driver on your system.": "driver.loaded",
    "ImportError: cannot import name 'PreTrainedConfig' from 'transformers'": "conflict.metadata",
    "OSError: [Errno 28] No space left on device: '/home/x'": "disk.models",
    "ImportError: Found an incompatible version of torchao. Found version 0.10.0, but only versions above 0.16.0 are supported": "conflict.torchao-peft",
    "NotImplementedError: Loading a dataset cached in a LocalFileSystem is not supported.": "conflict.datasets-fsspec",
    "ValueError: Your currently installed version of Keras is Keras 3, but this is not yet supported in Transformers.": "conflict.keras3-transformers",
    "ImportError: cannot import name 'EncoderDecoderCache' from 'transformers' (/x/__init__.py)": "conflict.peft-transformers-cache",
    "ImportError: cannot import name 'HybridCache' from 'transformers' (/x/__init__.py)": "conflict.peft-transformers-hybrid",
    "TypeError: Trainer.__init__() got an unexpected keyword argument 'tokenizer'": "conflict.trl-transformers5",
    "ModuleNotFoundError: No module named 'pkg_resources'": "conflict.tensorboard-setuptools",
    "deepspeed.ops.op_builder.builder.MissingCUDAException: CUDA_HOME does not exist, unable to compile CUDA op(s)": "build.deepspeed",
    "FileNotFoundError: [Errno 2] No such file or directory: '/usr/local/cuda/bin/nvcc'": "build.deepspeed",
    "ImportError: libtorch_cuda.so: undefined symbol: ncclCommRegister": "lib.foreign",
    "safetensors_rust.SafetensorError: Error while deserializing header: HeaderTooLarge": "config.model",
    "Exception: data did not match any variant of untagged enum ModelWrapper at line 1 column 2": "conflict.metadata",
    "RuntimeError: can't start new thread": "platform.processes",
    "error: -- unsupported GNU version! gcc versions later than 12 are not supported!": "build.gcc",
    "NVRM: installed in this system is not supported by the NVIDIA 550.120 driver release.": "driver.branch",
}  # fmt: skip


@pytest.mark.parametrize(("log", "check"), LOGS.items())
def test_known_messages(log: str, check: str) -> None:
    assert (
        explain.explain(f"Traceback (most recent call last):\n  File ...\n{log}\n")[0].check
        == check
    )


def test_the_last_message_comes_first() -> None:
    first, second = list(LOGS)[:2]
    assert [c.check for c in explain.explain(f"{first}\n{second}\n")] == [
        "lib.foreign",
        "driver.cuda",
    ]


def test_unknown_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert explain.main("Traceback ...\nKeyError: 'labels'\n") == 4
    out = capsys.readouterr().out
    assert out.startswith("unknown")
    assert "KeyError: 'labels'" in out


def test_what_is_printed_is_redacted(capsys: pytest.CaptureFixture[str]) -> None:
    explain.main(
        "OSError: [Errno 28] No space left on device: '/home/marvin/x' token hf_abcdefghij123\n"
    )
    out = capsys.readouterr().out
    assert "marvin" not in out
    assert "hf_abc" not in out


def test_every_row_names_a_check_that_exists() -> None:
    checks = registry.load()
    assert len(explain.known()) >= 75
    assert not [
        row["check"] for row in explain.known() if row["check"] and row["check"] not in checks
    ]
