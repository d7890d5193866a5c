"""--for CONFIG: can what this config asks for run here?"""

from __future__ import annotations

import re

from ftlab_doctor import rules, stack
from ftlab_doctor.checks.driver import USABLE
from ftlab_doctor.finding import Finding, fail, ok, skip, unknown, warn
from ftlab_doctor.host import Host
from ftlab_doctor.registry import check

GIB = 1 << 30
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
    ("config.readable", *USABLE, "torch.installed", "config.precision"),
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
    if re.search(r"\b(401|403)\b|gated|restricted", said, re.IGNORECASE):
        return fail(
            "The model is gated: this token may not read it",
            observed=lines[-1][:200] if lines else "",
            blocks=("gated",),
            why="401: no valid token. 403: the licence was not accepted, or the token lacks the gated scope",
            fix=["hf auth login", "accept the licence on the model's page"],
        )
    return fail(f"`ftrun plan` refuses this config: {lines[0][:140] if lines else 'no answer'}", observed=f"exit {config.get('rc')}",
                evidence=[("ftrun plan", line[:200]) for line in lines[:5]], fix=f"ftrun plan {config.get('path')}")  # fmt: skip


@check("config.memory", "Does the run fit into the card?", ("config.plan",))
def memory(host: Host) -> Finding:
    """The plan's peak against what is free now."""
    need, cards = host.section("config").get("memory"), stack.gpus(host)
    if not need or not cards or host.section("config").get("device") == "cpu":
        return skip("no plan or no GPU")
    free = max(g.facts.get("free") or g.total for g in cards)
    if need <= free:
        return ok(f"{need / GIB:.1f} of {free / GIB:.1f} GiB")
    return fail(f"The run needs {need / GIB:.1f} GiB and {free / GIB:.1f} GiB are free", observed=f"{free / GIB:.1f} GiB", expected=f"{need / GIB:.1f} GiB",
                fix=["set in the config: model.precision: nf4, train.micro_batch_size: 1", "nvidia-smi  # who else holds memory?"])  # fmt: skip


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
    name = _asked(host, "name", "base_model", "model_name_or_path")
    gated = re.match(
        r"(meta-llama|google/gemma|mistralai|bigcode|stabilityai|databricks|cohereforai|nvidia)/",
        name or "",
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
