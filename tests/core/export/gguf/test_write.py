"""The file: what a reader gets back is what was in the model; other programs compute the same."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ftlab.errors import EnvironmentUnfit
from ftlab.export.gguf import write
from ftlab.models.load import Loaded, load_model
from ftlab.starter import convert

# transformers reads GGUF of these itself, by code that shares nothing with ours; of others it
# leaves out a number that these small models have otherwise.
READ_BY_TRANSFORMERS = ("llama", "qwen2")
FAMILIES = (
    "llama", "llama-biases", "llama3", "linear", "mistral", "qwen2", "yarn", "qwen3", "gemma",
    "gemma2", "gemma3", "gemma3-vision", "phi", "phi-partial", "phi-long", "smollm3",
)  # fmt: skip


def made(loaded: Loaded, kind: str, path: Path, name: str = "small") -> Path:
    write.write(write.gather(loaded.model, loaded.tokenizer, loaded.spec, kind, name), path)
    return path


def fields(path: Path) -> dict[str, Any]:
    from gguf import GGUFReader

    return {name: field.contents() for name, field in GGUFReader(str(path)).fields.items()}


def logits(model: Any, prompt: list[int]) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(torch.tensor([prompt])).logits[0, -1]
    return found


@pytest.fixture(scope="module")
def real(smollm2: Path) -> Loaded:
    return load_model(str(smollm2))


@pytest.fixture(scope="module")
def real_files(real: Loaded, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same model in two kinds, exact and rounded."""
    folder = tmp_path_factory.mktemp("real")
    return {kind: made(real, kind, folder / kind, "SmolLM2 run") for kind in ("bf16", "q8_0")}


@pytest.mark.parametrize("kind", ["bf16", "q8_0"])
def test_the_real_small_model_comes_back(
    real: Loaded, real_files: dict[str, Path], kind: str
) -> None:
    """Read by the starter's converter, which read the file that the model was made from."""
    from gguf import GGUFReader

    reader = GGUFReader(str(real_files[kind]))
    convert._check(reader)  # sizes and number of tensors are those of that file
    state = real.model.state_dict()
    count = 0
    for name, values in convert._tensors(reader):
        wanted = state[name]
        found = torch.tensor(values)
        if kind == "q8_0" and wanted.dim() == 2:
            # One of 255 values, the largest of 32 exactly: half a step of that, and its fp16.
            blocks = wanted.reshape(-1, 32)
            step = blocks.abs().amax(1, keepdim=True) / 127
            assert (
                (found.reshape(-1, 32) - blocks).abs() <= step * 0.5 * 1.01 + 127e-3 * step
            ).all()
        else:
            assert torch.equal(found, wanted), name
        count += 1
    assert count == 272


def test_what_the_file_says_of_itself(real_files: dict[str, Path]) -> None:
    """But for name, kind and head size, what the file says that the model was converted from."""
    found = fields(real_files["bf16"])
    assert {
        "general.architecture": "llama", "general.type": "model", "general.name": "SmolLM2 run",
        "general.file_type": 32, "general.quantization_version": 2, "llama.block_count": 30,
        "llama.context_length": 8192, "llama.embedding_length": 576,
        "llama.feed_forward_length": 1536, "llama.attention.head_count": 9,
        "llama.attention.head_count_kv": 3, "llama.rope.freq_base": 100000.0,
        "llama.vocab_size": 49152, "llama.rope.dimension_count": 64,
        "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.add_space_prefix": False, "tokenizer.ggml.add_bos_token": False,
    }.items() <= found.items()  # fmt: skip
    assert real_files["bf16"].stat().st_size > 2 * 134_000_000
    assert found["llama.attention.layer_norm_rms_epsilon"] == pytest.approx(1e-5)


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        ("fp32", torch.float32),
        ("bf16", torch.bfloat16),
        ("fp16", torch.float16),
    ],
)
def test_matrices_are_rounded_once(
    kind: str, dtype: torch.dtype, model_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    from gguf import GGUFReader, dequantize

    loaded = load_model(str(model_folder("qwen2")))
    reader = GGUFReader(str(made(loaded, kind, tmp_path / "small.gguf")))
    found = {t.name: dequantize(t.data, t.tensor_type) for t in reader.tensors}
    own = loaded.model.model.layers[1].mlp.up_proj.weight.detach()
    values = torch.tensor(found["blk.1.ffn_up.weight"]).reshape(own.shape)
    assert torch.equal(values, own.to(dtype).float())
    assert (kind == "fp32") == torch.equal(values, own)


@pytest.mark.parametrize("name", READ_BY_TRANSFORMERS)
def test_transformers_computes_the_same_from_it(
    name: str, model_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    folder = model_folder(name)
    made(load_model(str(folder)), "fp32", tmp_path / "small.gguf")
    arguments = {"dtype": torch.float32, "attn_implementation": "eager"}
    again = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="small.gguf", **arguments)
    before = AutoModelForCausalLM.from_pretrained(folder, **arguments)
    prompt = list(range(3, 43))
    torch.testing.assert_close(logits(again, prompt), logits(before, prompt), atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_value_of_every_family_is_there_once(
    name: str, model_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    """Whatever the order of rows: the values of each tensor, sorted, stand in one of the file."""
    from gguf import GGUFReader

    loaded = load_model(str(model_folder(name)))
    reader = GGUFReader(str(made(loaded, "fp32", tmp_path / "small.gguf")))
    tied = loaded.spec.tied_embeddings
    inside = f"{loaded.spec.root}."
    state = {key: t for key, t in loaded.model.state_dict().items() if key.startswith(inside)}
    if not tied:
        state["lm_head.weight"] = loaded.model.lm_head.weight
    wanted = sorted(
        tuple(((t.float() + loaded.spec.norm_offset) if "norm" in key else t.float())
              .flatten().sort().values[:50].tolist()) for key, t in state.items()
    )  # fmt: skip
    found = sorted(
        tuple(torch.tensor(t.data).flatten().sort().values[:50].tolist())
        for t in reader.tensors if not t.name.startswith("rope_")
    )  # fmt: skip
    assert found == wanted


@pytest.mark.parametrize("name", FAMILIES)
def test_llamacpp_computes_the_same_from_it(
    name: str, model_folder: Callable[[str], Path], llamacpp: Callable[..., Any], tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    file = made(load_model(str(model_folder(name))), "fp32", tmp_path / "small.gguf")
    reference = AutoModelForCausalLM.from_pretrained(
        model_folder(name), dtype=torch.float32, attn_implementation="eager"
    )
    draw = torch.Generator().manual_seed(3)
    prompts = [torch.randint(2, 290, (n,), generator=draw).tolist() for n in (5, 39, 41, 60)]
    seen = 0
    for prompt, found in zip(prompts, llamacpp(file, prompts=prompts)["logprobs"], strict=True):
        if not found:
            continue
        wanted = torch.log_softmax(logits(reference, prompt).double(), -1)
        worst = max(abs(wanted[int(i)].item() - value) for i, value in found.items())
        # llama.cpp looks gelu up in a table of fp16.
        assert worst < (2e-2 if name.startswith("gemma") else 1e-4)
        seen += len(found)
    assert seen >= 300


def test_the_same_model_gives_the_same_bytes(
    model_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    for name in ("one", "two"):
        made(load_model(str(model_folder("gemma3"))), "bf16", tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@pytest.mark.parametrize("kind", write.KINDS)
def test_the_size_is_known_before(
    kind: str, model_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    from gguf import GGUFReader

    loaded = load_model(str(model_folder("phi")))
    content = write.gather(loaded.model, loaded.tokenizer, loaded.spec, kind, "x")
    write.write(content, tmp_path / "x")
    reader = GGUFReader(str(tmp_path / "x"))
    assert write.size(content) == sum(int(tensor.n_bytes) for tensor in reader.tensors)


def test_rows_that_do_not_divide_are_not_quantised() -> None:
    assert write.stored_kind(torch.ones(4), "q8_0") == "F32"
    assert write.stored_kind(torch.ones(4, 64), "q8_0") == "Q8_0"
    assert write.stored_kind(torch.ones(4, 33), "q8_0") == "F16"
    assert write.stored_kind(torch.ones(4, 33), "bf16") == "BF16"


def test_what_fp16_cannot_hold_is_refused() -> None:
    large = torch.full((2, 32), 70_000.0)
    with pytest.raises(EnvironmentUnfit, match="too large for fp16; take bf16"):
        write.encoded("blk.0.ffn_up.weight", large, "fp16")
    assert write.encoded("blk.0.ffn_up.weight", large, "bf16").shape == (2, 64)


def test_phi_is_told_by_its_name_and_nothing_else_is(
    model_folder: Callable[[str], Path],
) -> None:
    loaded = load_model(str(model_folder("phi")))
    content = write.gather(loaded.model, loaded.tokenizer, loaded.spec, "bf16", "my-Phi-3-mini x")
    assert write.fitting_name(content.name, content.words) == "my-phi 3-mini x"
    assert write.notes(content) == []
    tokens = ["</s>", "<unk>", "<s>", "<|endoftext|>", "<|end|>"]
    phi = dataclasses.replace(content.words, tokens=tokens, swallowing=["<|end|>"])
    assert write.fitting_name("mine", phi) == "mine phi-3"
    assert write.fitting_name("Phi-3-mini", phi) == "Phi-3-mini"
    other = dataclasses.replace(content.words, swallowing=["<|end|>"])
    assert "white space after <|end|>" in write.notes(
        dataclasses.replace(content, words=other))[0]  # fmt: skip
