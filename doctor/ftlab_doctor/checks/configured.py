"""--for CONFIG: can what this config asks for run here?"""

from __future__ import annotations

import re
from typing import Any

from ftlab_doctor import rules, stack
from ftlab_doctor.checks.driver import USABLE
from ftlab_doctor.finding import Finding, fail, ok, skip, unknown, warn
from ftlab_doctor.host import Host
from ftlab_doctor.registry import check

GIB = 1 << 30
LATER = 75  # how ftrun ends when trying again later may help
YES = ("true", "yes", "on", "1")


def _asked(host: Host, *names: str) -> str:
    asked = host.section("config").get("asked") or {}
    return next((str(asked[n]).lower() for n in names if n in asked), "")


@check("config.readable", "Can the config be read?")
def readable(host: Host) -> Finding:
    """The file of --for."""
    if not host.has("config"):
        return skip("no --for CONFIG")
    path = host.section("config").get("path", "")
    if host.section("config").get("readable"):
        return ok(path)
    return fail(
        f"The config {path} cannot be read", expected="a YAML file", fix="ftrun init > run.yaml"
    )


@check(
    "config.precision",
    "Does every card compute in the precision asked for?",
    ("config.readable", *USABLE),
)
def precision(host: Host) -> Finding:
    """bf16 and tf32 from 8.0, LLM.int8 from 7.5, NF4 from 6.0."""
    lowest = min(stack.capabilities(host), default=None)
    if not host.has("config") or lowest is None:
        return skip("no --for CONFIG" if not host.has("config") else "no GPU")
    wanted = [
        ("bf16", _asked(host, "precision") == "bf16" or _asked(host, "bf16") in YES, "precision: fp16  # or auto"),
        ("tf32", _asked(host, "tf32") in YES, "tf32: false"),
        ("int8", _asked(host, "precision") == "int8" or _asked(host, "load_in_8bit") in YES, "precision: nf4"),
        ("nf4", _asked(host, "precision") == "nf4" or _asked(host, "load_in_4bit") in YES, "precision: fp16"),
    ]  # fmt: skip
    for name, is_wanted, instead in wanted:
        needs = rules.capability(name)
        if is_wanted and lowest < needs:
            return fail(
                f"The config asks for {name}, which sm_{lowest[0]}{lowest[1]} does not have in hardware",
                observed=f"{lowest[0]}.{lowest[1]}",
                expected=f">= {needs[0]}.{needs[1]}",
                evidence=[("config", name)],
                fix=f"set in the config: {instead}",
                blocks=(name,),
                why="torch.cuda.is_bf16_supported() says True for emulation"
                if name == "bf16"
                else "",
            )
    return ok(f"sm_{lowest[0]}{lowest[1]}")


@check(
    "config.attention",
    "Can the attention asked for run here?",
    ("config.readable", *USABLE, "torch.installed"),
)
def attention(host: Host) -> Finding:
    """flash-attn must be installed and the card new enough."""
    value = _asked(host, "attn_implementation") or (
        "flash" if _asked(host, "flash_attention", "flash_attn") in YES else ""
    )
    if not host.has("config") or "flash" not in value:
        return skip("no flash attention is asked for")
    lowest = min(stack.capabilities(host), default=None)
    if lowest is not None and lowest < rules.capability("flash-attn"):
        return fail(
            f"The config asks for FlashAttention, which needs an Ampere card; this is sm_{lowest[0]}{lowest[1]}",
            observed=value,
            expected="sdpa",
            blocks=("flash",),
            fix="set in the config: attn_implementation: sdpa",
        )
    if not host.package("flash-attn"):
        return fail(
            "The config asks for FlashAttention, and flash-attn is not installed",
            observed=value,
            expected="flash-attn",
            blocks=("flash",),
            fix="set in the config: attn_implementation: sdpa",
        )
    return ok(value)


@check(
    "config.plan",
    "Does `ftrun plan` accept it here?",
    ("config.readable", "config.model", *USABLE, "torch.installed", "config.precision"),
)
def plan(host: Host) -> Finding:
    """Its own words, if not."""
    config = host.section("config")
    if not host.has("config") or "planned" not in config:
        return skip("no config of ftrun")
    if not config["planned"]:
        return unknown("ftrun is not installed beside this doctor")
    if config.get("rc") == 0:
        return ok("; ".join(config.get("warnings", [])[:2]) or "accepted")
    said = str(config.get("said", "")).strip()
    lines = [line.removeprefix("error: ") for line in said.splitlines() if line.strip()]
    first = lines[0] if lines else "no answer"
    if config.get("rc") == LATER and config.get("elsewhere"):
        return unknown(first)
    shown: dict[str, Any] = {
        "observed": f"exit {config.get('rc')}",
        "evidence": [("ftrun plan", line[:300]) for line in lines[:6]],
    }
    if re.search(r"\b(401|403)\b|gated|restricted", said, re.IGNORECASE):
        return fail(
            "The model is gated: this token may not read it",
            blocks=("gated",),
            why="401: no valid token. 403: the licence was not accepted, or the token lacks the gated scope",
            fix=["hf auth login", "accept the licence on the model's page"], **shown,
        )  # fmt: skip
    if "HF_HUB_OFFLINE" in said:
        shown["fix"] = f"HF_HUB_OFFLINE=0 hf download {_name(host)}"
        return fail(
            f"The model {_name(host)} is not on this disk, and the hub is switched off",
            why=first,
            **shown,
        )
    if config.get("rc") is None:
        return fail(
            f"`ftrun plan` did not end: {first}", fix=f"ftrun plan {config.get('path')}", **shown
        )
    if config.get("rc") == LATER:
        return fail(
            f"`ftrun plan` cannot say it now: {first}",
            fix="ftdoctor --deep --check net.hub",
            **shown,
        )
    more = f" (and {len(lines) - 1} more)" if len(lines) > 1 else ""
    title, hints = _refusal(first)
    return fail(
        f"`ftrun plan` refuses this config: {title}{more}",
        fix=hints or f"ftrun plan {config.get('path')}",
        **shown,
    )


def _refusal(line: str) -> tuple[str, list[str]]:
    """What `ftrun` objects to, and what it advises: "objection (advice)"."""
    match = re.fullmatch(r"(.*\S) \(([^()]*(?:\([^()]*\)[^()]*)*)\)", line)
    if not match or match[2].startswith("line "):
        return line, []
    return match[1], [match[2] if match[2].startswith("did you") else f"in the config: {match[2]}"]


def _name(host: Host) -> str:
    asked = host.section("config").get("asked") or {}
    return str(
        next((asked[n] for n in ("name", "base_model", "model_name_or_path") if n in asked), "")
    )


@check("config.model", "Are the files of the local model whole?", ("config.readable",))
def model(host: Host) -> Finding:
    """A clone without Git LFS holds pointers; a download that was cut off lacks shards or their ends."""
    found = host.section("config").get("model")
    if not found:
        return skip("no --for CONFIG" if not host.has("config") else "the model is no folder here")
    path, files = found.get("path", ""), found.get("files") or {}
    facts: dict[str, Any] = {"expected": "every file of the model", "blocks": ("train",)}
    if pointers := found.get("pointers"):
        return fail(
            f"{pointers[0]} in {path} is a pointer of Git LFS, not the file", observed=", ".join(pointers[:3]), evidence=[(f"{path}/{pointers[0]}", f"{files.get(pointers[0], 0)} bytes")],
            why="the model was cloned without Git LFS", fix=[f"cd {path} && git lfs install && git lfs pull", "hf download <the model's id> --local-dir " + path], **facts,
        )  # fmt: skip
    if missing := found.get("missing"):
        return fail(
            f"{len(missing)} of the files that the index of {path} names are missing: {missing[0]}", observed=", ".join(missing[:3]),
            evidence=[(f"{path}/*.index.json", missing[0])], why="a download that was cut off", fix="hf download <the model's id> --local-dir " + path, **facts,
        )  # fmt: skip
    if short := found.get("short"):
        return fail(
            f"{short[0]} in {path} ends before its header says", observed=f"{files.get(short[0], 0)} bytes", evidence=[(f"{path}/{short[0]}", f"{files.get(short[0], 0)} bytes")],
            why="a download that was cut off, or a full disk", fix="hf download <the model's id> --local-dir " + path, **facts,
        )  # fmt: skip
    if "config.json" not in files:
        return warn(f"{path} holds no config.json", observed=", ".join(list(files)[:4]) or "no file of a model", **facts)  # fmt: skip
    return ok(f"{len(files)} files, {sum(files.values()) / 1e9:.1f} GB")


@check("config.memory", "Does the run fit into the card?", ("config.plan",))
def memory(host: Host) -> Finding:
    """The plan's peak against what is free now."""
    need, free = host.section("config").get("memory"), _free(host)
    if not need or not free:
        return skip("no plan")
    if need <= free:
        return ok(f"{need / GIB:.1f} of {free / GIB:.1f} GiB")
    return fail(f"The run needs {need / GIB:.1f} GiB and {free / GIB:.1f} GiB are free", observed=f"{free / GIB:.1f} GiB", expected=f"{need / GIB:.1f} GiB",
                fix=["set in the config: model.precision: nf4, train.micro_batch_size: 1", "nvidia-smi  # who else holds memory?"])  # fmt: skip


def _free(host: Host) -> int:
    """Bytes that are free where the plan computes: on a card, or in the machine."""
    if host.section("config").get("device") == "cpu":
        return int((host.system.get("memory") or {}).get("MemAvailable", 0))
    return max((g.facts.get("free") or g.total for g in stack.gpus(host)), default=0)


@check("config.disk", "Is there room for what the run writes?", ("config.plan",))
def disk(host: Host) -> Finding:
    """The plan's disk against the volume of the runs."""
    need, free = host.section("config").get("disk"), host.place("runs").get("free")
    if not need or free is None:
        return skip("no plan")
    if need <= free:
        return ok(f"{need / 1e9:.1f} of {free / 1e9:.1f} GB")
    return fail(f"The run writes up to {need / 1e9:.1f} GB and {free / 1e9:.1f} GB are free", observed=f"{free / 1e9:.1f} GB", expected=f"{need / 1e9:.1f} GB",
                fix="set in the config: train.keep: 1  # or export FTLAB_RUNS=/path/on/a/big/disk")  # fmt: skip


@check(
    "config.token", "Is there a token, should the model be gated?", ("config.readable", "net.token")
)
def token(host: Host) -> Finding:
    """Families whose licence must be accepted."""
    name = _name(host)
    gated = re.match(
        r"(meta-llama|google/gemma|mistralai|bigcode|stabilityai|databricks|cohereforai|nvidia)/",
        name.lower(),
    )
    if not host.has("config") or not name:
        return skip("no --for CONFIG")
    have = bool(host.env("HF_TOKEN") or host.section("token").get("shape"))
    if not gated or have or name.startswith(("/", "./", "~")):
        return ok("a token is set" if have else "not known to be gated")
    return warn(
        f"{name} is often gated, and there is no token of the hub",
        observed="no token",
        expected="hf_...",
        blocks=("gated",),
        fix="hf auth login",
    )


def verdict(host: Host, findings: list[Finding]) -> Finding | None:
    """The answer to --for in one line: yes, no, or not known, and why."""
    if not host.has("config"):
        return None
    path, config = host.section("config").get("path", ""), host.section("config")
    bad = [
        f
        for f in findings
        if f.status in ("fail", "crash")
        and {"train", "gpu", "gated", *_features(f)} & set(f.blocks)
    ]
    if bad:
        return Finding(
            "",
            "fail",
            f"{path} cannot run here before this is mended: {', '.join(f.id for f in bad)}",
        )
    asked = {f.id: f for f in findings}
    planned = asked.get("config.plan")
    if planned is None or planned.status != "ok":
        why = planned.title if planned is not None else ""
        return Finding(
            "",
            "unknown",
            f"{path}: nothing found that speaks against it, but it is not planned: {why}",
        )
    device = config.get("device") or "this machine"
    parts = [f"on {device}"] + [
        f"{asked[name].observed} {what}" for name, what in (("config.memory", "of memory"), ("config.disk", "of disk"))
        if name in asked and asked[name].status == "ok"
    ]  # fmt: skip
    return Finding("", "ok", f"{path} can run here: {', '.join(parts)}")


def _features(finding: Finding) -> set[str]:
    """What a failing check of the config itself blocks: all of it is needed."""
    return set(finding.blocks) if finding.id.startswith("config.") else set()
