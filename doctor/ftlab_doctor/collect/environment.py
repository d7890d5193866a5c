"""The environment variables that matter: values of an allow-list, mere presence of secrets."""

from __future__ import annotations

import os
import re
from typing import Any

from ftlab_doctor.collect.reading import put, text

ALLOWED = re.compile(
    r"(PATH|HOME|SHELL|TMPDIR|LANG|LC_ALL|XDG_CACHE_HOME|XDG_RUNTIME_DIR|container|CC|CXX|OMP_NUM_THREADS"
    r"|LD_LIBRARY_PATH|LD_PRELOAD|LIBRARY_PATH|CPATH|CUDA_[A-Z_]+|NVIDIA_[A-Z_\d]+|(?:NCCL|GLOO)_[A-Z_]+|NVCC_[A-Z_]+"
    r"|PYTHON[A-Z]+|VIRTUAL_ENV|CONDA_(PREFIX|DEFAULT_ENV|SHLVL|EXE)|PYENV_ROOT|MAMBA_ROOT_PREFIX"
    r"|TRITON_[A-Z_]+|TORCH[A-Z_]*|PYTORCH_[A-Z_]+|BNB_[A-Z_]+|XFORMERS_[A-Z_]+|FLASH_ATTENTION_[A-Z_]+"
    r"|HF_(HOME|HUB_[A-Z_]+|DATASETS_[A-Z_]+|ENDPOINT|XET_[A-Z_]+)|TRANSFORMERS_[A-Z_]+|ACCELERATE_[A-Z_]+"
    r"|(HTTPS?|ALL|NO|FTP)_PROXY|(https?|all|no|ftp)_proxy|SSL_CERT_(FILE|DIR)|REQUESTS_CA_BUNDLE"
    r"|CURL_CA_BUNDLE|PIP_[A-Z_]+|DOCKER_(HOST|CONTEXT|CONFIG)|APPTAINER_CONTAINER|SINGULARITY_CONTAINER"
    r"|KUBERNETES_SERVICE_HOST|SLURM_(JOB_ID|GPUS[A-Z_]*|JOB_GPUS|LOCALID|NTASKS)|WORLD_SIZE|RANK|LOCAL_RANK"
    r"|MASTER_PORT|WSL_DISTRO_NAME|WSL_INTEROP|PROTOCOL_BUFFERS_[A-Z_]+|FTLAB_[A-Z_]+|BITSANDBYTES_[A-Z_]+)\Z"
)  # fmt: skip
SECRET = re.compile(r"TOKEN|API_?KEY|SECRET|PASSWORD|PASSWD|CREDENTIAL|AUTH", re.IGNORECASE)
PRESENCE = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HUGGINGFACEHUB_API_TOKEN", "WANDB_API_KEY")


def collect(facts: dict[str, Any]) -> None:
    """Fill `env`; a secret is only said to be "<set>", "<empty>" or "<malformed>"."""
    found = {}
    for name, value in sorted(os.environ.items()):
        if name in PRESENCE:
            found[name] = _shape(name, value)
        elif ALLOWED.match(name) and not SECRET.search(name):
            found[name] = value[:4096]
    facts["env"] = found
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_DIR"):
        if os.environ.get(name):
            put(facts, "files", f"${name}", os.path.exists(os.environ[name]))
    facts["token"] = _saved()


def _saved() -> dict[str, str]:
    """The shape and the mode of the saved token; its content stays where it is."""
    home = os.environ.get("HF_HOME") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "huggingface"
    )
    path = os.environ.get("HF_TOKEN_PATH") or os.path.join(home, "token")
    content = text(path, 512)
    if not isinstance(content, str):
        return {}
    shape = "well" if re.fullmatch(r"hf_\w{8,}", content.strip()) else "malformed"
    return {"path": path, "shape": shape, "mode": oct(os.stat(path).st_mode & 0o777)}


def _shape(name: str, value: str) -> str:
    """What can be said of a secret without saying it."""
    if not value.strip():
        return "<empty>"
    if "HUGG" in name or name.startswith("HF_"):
        return "<set>" if re.fullmatch(r"hf_\w{8,}", value) else "<malformed>"
    return "<set>"
