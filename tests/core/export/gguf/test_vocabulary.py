"""Tokenizers in llama.cpp's words: kinds, splitting, scores; one it has not is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ftlab.errors import EnvironmentUnfit
from ftlab.export.gguf import vocabulary
from ftlab.export.gguf.vocabulary import describe, piece_scores

PIECES = ["▁", "a", "b", "c", "▁a", "bc", "▁abc", "\n"]


def spm(
    merges: list[tuple[str, str]] | None = None, pieces: list[str] = PIECES, **changed: Any
) -> Any:
    """A tokenizer as SentencePiece's are converted, in small."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers
    from transformers import PreTrainedTokenizerFast

    vocab = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *pieces]
    merges = [("▁", "a"), ("b", "c"), ("▁a", "bc")] if merges is None else merges
    model = models.BPE(
        {token: i for i, token in enumerate(vocab)}, merges, unk_token="<unk>", fuse_unk=True,
        byte_fallback=True,
    )  # fmt: skip
    made = Tokenizer(model)
    made.normalizer = changed.get("normalizer", normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]))  # fmt: skip
    if "splitter" in changed:
        made.pre_tokenizer = changed["splitter"]
    made.decoder = decoders.Replace("▁", " ")
    made.add_special_tokens([AddedToken(t, special=True) for t in ("<unk>", "<s>", "</s>")])
    made.add_tokens([AddedToken(token) for token in changed.get("added", ())])
    return PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


def test_bytes_are_known_by_how_they_are_split(words: Any) -> None:
    found = describe(words, 310, ends=[1, 5])
    assert (found.model, found.pre) == ("gpt2", "gpt-2")
    assert found.tokens[:2] == ["<s>", "</s>"]
    assert found.tokens[309] == "[PAD309]"
    assert (found.kinds[0], found.kinds[5], found.kinds[309]) == (3, 1, 5)
    assert found.merges[0] == "t h" or " " in found.merges[0]
    assert found.ids == {"bos_token_id": 0, "eos_token_id": 1, "eot_token_id": 5}
    assert found.flags == {
        "add_space_prefix": False, "add_bos_token": False, "add_eos_token": False,
    }  # fmt: skip


def test_the_real_small_model_is_told_as_by_those_who_made_its_file(smollm2: Path) -> None:
    """The values are those of the GGUF file that the checkpoint was converted from."""
    from transformers import AutoTokenizer

    found = describe(AutoTokenizer.from_pretrained(smollm2), 49_152, 2)
    assert (found.model, found.pre) == ("gpt2", "smollm")
    assert len(found.tokens) == 49_152
    assert found.kinds.count(3) == 17
    assert len(found.merges) == 48_900
    assert found.merges[:4] == ["Ġ t", "Ġ a", "i n", "h e"]
    assert found.ids == {
        "bos_token_id": 1, "eos_token_id": 2, "unknown_token_id": 0, "padding_token_id": 2,
    }  # fmt: skip
    assert found.flags["add_bos_token"] is False
    assert found.template.startswith("{% for message in messages %}")


# The patterns that stand in the tokenizer.json of Qwen2 and of Llama 3.
QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
    r"\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA3 = QWEN2.replace(r"\p{N}| ", r"\p{N}{1,3}| ")


@pytest.mark.parametrize(("pattern", "whole", "name"), [
    (QWEN2, False, "qwen2"), (LLAMA3, True, "llama-bpe"), (LLAMA3, False, "dbrx"),
])  # fmt: skip
def test_patterns_of_well_known_models(pattern: str, whole: bool, name: str) -> None:
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE({"a": 0, "b": 1}, [], ignore_merges=whole))
    made.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(pattern), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])  # fmt: skip
    assert describe(PreTrainedTokenizerFast(tokenizer_object=made), 2).pre == name


def test_sentencepiece_is_told_by_scores() -> None:
    found = describe(spm(), 280)
    number = {token: i for i, token in enumerate(found.tokens)}
    assert (found.model, found.pre, found.merges) == ("llama", "default", [])
    assert [found.scores[number[p]] for p in ("▁a", "bc", "▁abc", "b")] == [0, -1, -2, 0]
    kinds = {token: found.kinds[number[token]] for token in ("<unk>", "<s>", "<0x0A>", "a")}
    assert kinds == {"<unk>": 2, "<s>": 3, "<0x0A>": 6, "a": 1}
    assert found.flags["add_space_prefix"]


def test_where_a_mark_of_space_comes_first() -> None:
    from tokenizers import normalizers, pre_tokenizers

    only = normalizers.Replace(" ", "▁")
    gemma = pre_tokenizers.Split(" ", "merged_with_previous")
    assert not describe(spm(normalizer=only, splitter=gemma), 280).flags["add_space_prefix"]
    first = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    assert describe(spm(normalizer=None, splitter=first), 280).flags["add_space_prefix"]


def test_an_added_token_of_spaces_is_written_as_it_is_found_in_text() -> None:
    from tokenizers import normalizers, pre_tokenizers

    only = {"normalizer": normalizers.Replace(" ", "▁"),
            "splitter": pre_tokenizers.Split(" ", "merged_with_previous")}  # fmt: skip
    found = describe(spm(added=["▁▁", "<x>"], **only), 280)
    assert {"  ", "<x>"} <= set(found.tokens)
    assert found.kinds[found.tokens.index("  ")] == 4
    # Where a mark is put first, text never holds this token, and llama.cpp would make it.
    assert "lack '▁' with '▁'" in refused(spm(added=["▁▁"]))


def test_mixed_merges_had_one_score() -> None:
    """Sorted by the lengths of their parts, as Hugging Face does; any other order is not scores."""
    tied = [("aa", "a"), ("bb", "b"), ("a", "aa"), ("b", "bb")]
    assert piece_scores([("a", "a"), *tied]) == {"aa": 0, "aaa": -1, "bbb": -1}
    with pytest.raises(EnvironmentUnfit, match="do not follow"):
        piece_scores([("a", "aa"), ("bb", "b"), ("aa", "a")])


def refused(tokenizer: Any, rows: int = 280) -> str:
    with pytest.raises(EnvironmentUnfit) as refusal:
        describe(tokenizer, rows)
    return str(refusal.value)


def test_what_llamacpp_has_not_is_refused(words: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    assert "a token 274, the embedding has 200 rows" in refused(words, 200)
    assert "lack 'a' with 'b'" in refused(spm(pieces=[*PIECES, "ab"]))
    assert "normalise text by Lowercase" in refused(spm(normalizer=normalizers.Lowercase()))
    split = pre_tokenizers.Metaspace(split=True)
    assert "split text by Metaspace" in refused(spm(normalizer=None, splitter=split))
    other = Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
    assert "WordLevel" in refused(PreTrainedTokenizerFast(tokenizer_object=other))
    plain = Tokenizer(models.BPE({"a": 0}, []))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    assert "no splitting of this kind" in refused(PreTrainedTokenizerFast(tokenizer_object=plain))
    assert "library tokenizers" in refused(object())


def test_the_space_after_a_token_may_be_its_own() -> None:
    from tokenizers import AddedToken

    made = spm()
    made.add_special_tokens({"additional_special_tokens": [AddedToken("<|end|>", rstrip=True)]})
    assert describe(made, 280).swallowing == ["<|end|>"]


@pytest.mark.parametrize("name", ["words", "spm"])
def test_llamacpp_gives_the_same_tokens(
    name: str, words: Any, model_folder: Callable[[str], Path], llamacpp: Callable[..., Any],
    tmp_path: Path,
) -> None:  # fmt: skip
    from ftlab.export.gguf import write
    from ftlab.models.load import load_model

    tokenizer = words if name == "words" else spm()
    loaded = load_model(str(model_folder("llama")))
    file = tmp_path / "words.gguf"
    write.write(write.gather(loaded.model, tokenizer, loaded.spec, "fp16", "x"), file)
    texts = ["the cat  sat\non 123 <s>the hat</s>", "a abc  ab é 日本\n\n", " bc a"]
    found = llamacpp(file, texts=texts)["tokens"]
    assert found == [tokenizer(text)["input_ids"] for text in texts]


def test_the_splittings_are_told_apart() -> None:
    assert len(set(vocabulary.SPLITS.values())) == len(vocabulary.SPLITS) == 7
