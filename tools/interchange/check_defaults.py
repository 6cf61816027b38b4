#!/usr/bin/env python3
"""Compares what `taipan inspect` makes of config.json files that leave a key out, or say null, with transformers' config classes.

    python3 tools/interchange/check_defaults.py [--program build/taipan]

Of each architecture a small config, without each of its keys in turn and with each as null, and the empty one. Where the
class refuses a file, any answer passes but a crash. mamba_ssm's defaults are compared where that package is installed.
Exits 1 where a value differs, 77 where transformers is not installed (torch is not needed).
"""
import argparse
import copy
import dataclasses
import importlib
import inspect
import json
import os
import pathlib
import subprocess
import sys
import tempfile

os.environ["TRANSFORMERS_VERBOSITY"] = "critical"
try:
    import transformers
except ImportError:
    sys.exit(77)

COMMON = {
    "vocab_size": 300, "hidden_size": 128, "num_hidden_layers": 3, "hidden_act": "silu", "initializer_range": 0.03,
    "tie_word_embeddings": True, "bos_token_id": 5, "eos_token_id": 6}
ATTENTION = COMMON | {
    "intermediate_size": 96, "num_attention_heads": 8, "num_key_value_heads": 4, "rms_norm_eps": 3e-5,
    "max_position_embeddings": 77}
MULTIPLIERS = {
    "embedding_multiplier": 12.0, "residual_multiplier": 0.25, "attention_multiplier": 0.125, "logits_scaling": 8.0}
SMALL = {
    "mamba2": COMMON | {
        "num_heads": 16, "head_dim": 16, "state_size": 24, "expand": 2, "n_groups": 2, "conv_kernel": 3, "chunk_size": 32,
        "layer_norm_epsilon": 3e-5, "time_step_limit": [0.01, 0.3], "use_bias": False, "use_conv_bias": True},
    "llama": ATTENTION | {
        "head_dim": 24, "attention_bias": False, "mlp_bias": False,
        "rope_parameters": {"rope_type": "default", "rope_theta": 5e5}},
    "mistral": ATTENTION | {
        "head_dim": 24, "sliding_window": 33, "rope_parameters": {"rope_type": "default", "rope_theta": 5e5}},
    "bamba": ATTENTION | {
        "attn_layer_indices": [1], "mamba_n_heads": 16, "mamba_d_head": 16, "mamba_d_conv": 3, "mamba_d_state": 24,
        "mamba_expand": 2, "mamba_n_groups": 2, "mamba_chunk_size": 32, "mamba_conv_bias": True, "mamba_proj_bias": False,
        "time_step_limit": [0.01, 0.3], "attention_bias": False, "mlp_bias": False,
        "rope_parameters": {"rope_type": "default", "rope_theta": 5e5, "partial_rotary_factor": 0.5}},
    "granite": ATTENTION | MULTIPLIERS | {
        "attention_bias": False, "mlp_bias": False, "rope_parameters": {"rope_type": "default", "rope_theta": 5e5}},
    "granitemoehybrid": ATTENTION | MULTIPLIERS | {
        "layer_types": ["mamba", "attention", "mamba"], "shared_intermediate_size": 80, "num_local_experts": 0,
        "position_embedding_type": "rope", "mamba_n_heads": 16, "mamba_d_head": 16, "mamba_d_conv": 3, "mamba_d_state": 24,
        "mamba_expand": 2, "mamba_n_groups": 2, "mamba_chunk_size": 32, "mamba_conv_bias": True, "mamba_proj_bias": False,
        "time_step_limit": [0.01, 0.3], "attention_bias": False,
        "rope_parameters": {"rope_type": "default", "rope_theta": 5e5}},
    "nemotron_h": {
        "vocab_size": 300, "hidden_size": 128, "layers_block_type": ["mamba", "mlp", "attention"], "initializer_range": 0.03,
        "tie_word_embeddings": True, "bos_token_id": 5, "eos_token_id": 6, "intermediate_size": 96,
        "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 24, "max_position_embeddings": 77,
        "mlp_hidden_act": "relu2", "mlp_bias": False, "attention_bias": False, "mamba_num_heads": 16, "mamba_head_dim": 12,
        "mamba_hidden_act": "silu", "n_groups": 2, "ssm_state_size": 24, "conv_kernel": 3, "chunk_size": 32,
        "use_bias": False, "use_conv_bias": True, "time_step_min": 0.002, "layer_norm_epsilon": 3e-5},
    "falcon_h1": ATTENTION | {
        "mamba_d_ssm": 96, "mamba_n_heads": 6, "mamba_d_head": 16, "mamba_d_conv": 3, "mamba_d_state": 24,
        "mamba_expand": 2, "mamba_n_groups": 2, "mamba_chunk_size": 32, "mamba_conv_bias": True, "mamba_proj_bias": False,
        "mamba_rms_norm": True, "mamba_norm_before_gate": False, "projectors_bias": False, "attention_bias": False,
        "mlp_bias": False, "time_step_limit": [0.01, 0.3], "embedding_multiplier": 2.0, "lm_head_multiplier": 0.5,
        "key_multiplier": 0.5, "attention_in_multiplier": 2.0, "attention_out_multiplier": 0.25, "ssm_in_multiplier": 2.0,
        "ssm_out_multiplier": 0.75, "ssm_multipliers": [0.5, 0.25, 2.0, 4.0, 1.5], "mlp_multipliers": [0.5, 0.75],
        "rope_parameters": {"rope_type": "default", "rope_theta": 5e5}},
}
HEADS = {"bamba": {"mamba_n_heads": 32}, "granitemoehybrid": {"mamba_n_heads": 32}}
LINEAR = {"type": "linear", "factor": 2.0}
ROPE = [
    {"rope_theta": 7.0}, {"rope_theta": 7.0, "rope_scaling": LINEAR}, {"rope_scaling": LINEAR | {"rope_theta": 9.0}},
    {"rope_theta": 7.0, "rope_parameters": {"rope_type": "default"}},
    {"rope_theta": 7.0, "rope_parameters": {"rope_type": "default", "rope_theta": 9.0}},
    {"rope_scaling": LINEAR, "rope_parameters": {"rope_type": "default", "rope_theta": 9.0}},
    {"rope_scaling": LINEAR, "rope_parameters": {}}, {"rope_scaling": {}, "rope_parameters": LINEAR},
    {"rope_scaling": None, "rope_parameters": {"rope_type": "default", "rope_theta": 9.0}},
    {"partial_rotary_factor": 0.25},
    {"rope_parameters": {"rope_type": "default", "rope_theta": 9.0, "partial_rotary_factor": 0.25}}]
# Not written where they are this.
WITHOUT = {"initializer_range": 0.02, "partial_rotary_factor": 1.0, "gated_norm": "gate_first",
           "ssm_multipliers": [1.0] * 5, "embedding_multiplier": 1.0, "logits_scaling": 1.0, "mlp_gate_multiplier": 1.0,
           "ssm_out_multiplier": 1.0, "attention_out_multiplier": 1.0, "mlp_out_multiplier": 1.0}
# What the models hold for a key of theirs that has another name here.
OURS = {
    "layer_norm_epsilon": "rms_norm_eps", "mamba_d_head": "head_dim", "mamba_d_conv": "conv_kernel",
    "mamba_d_state": "state_size", "mamba_expand": "expand", "mamba_n_groups": "n_groups",
    "mamba_chunk_size": "chunk_size"}
SAME = [
    "vocab_size", "hidden_size", "num_hidden_layers", "initializer_range", "tie_word_embeddings", "bos_token_id",
    "eos_token_id", "time_step_limit"]
OF_MAMBA2 = ["head_dim", "state_size", "expand", "n_groups", "conv_kernel", "chunk_size"]
OF_ATTENTION = ["intermediate_size", "num_attention_heads", "num_key_value_heads", "rms_norm_eps", "max_position_embeddings"]


WORDS = {"linear_attention": "mamba2", "full_attention": "attention_only", "mlp": "relu2_mlp", "moe": "moe"}


def pattern(config):
    layers = config.num_hidden_layers
    if config.model_type == "granitemoehybrid":
        return ["attention" if word == "full_attention" else "mamba2_mlp" for word in config.layer_types]
    if config.model_type == "nemotron_h":
        return [WORDS[word] for word in config.layers_block_type]
    if config.model_type == "falcon_h1":
        return ["mamba2_attention"] * layers
    if config.model_type == "mamba2":
        return ["mamba2"] * layers
    if config.model_type == "bamba":
        attention = config.attn_layer_indices or []
        return ["attention" if i in attention else "mamba2_mlp" for i in range(layers)]
    sliding = config.model_type == "mistral" and config.sliding_window is not None
    return ["sliding_attention" if sliding else "attention"] * layers


def multiplied(config):
    """What multipliers and variants of a class become."""
    kind, head = config.model_type, getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    if kind.startswith("granite"):
        ours = {name: config.residual_multiplier
                for name in ("ssm_out_multiplier", "attention_out_multiplier", "mlp_out_multiplier")}
        names = ("embedding_multiplier", "attention_multiplier", "logits_scaling")
        return ours | {name: getattr(config, name) for name in names}
    into = config.attention_in_multiplier
    scores = into * into * config.key_multiplier
    norm = "norm_first" if config.mamba_norm_before_gate else "gate_first"
    return {"embedding_multiplier": config.embedding_multiplier, "logits_scaling": 1 / config.lm_head_multiplier,
            "attention_multiplier": None if scores == 1 else scores / head ** 0.5,
            "attention_out_multiplier": into * config.attention_out_multiplier,
            "mlp_gate_multiplier": config.mlp_multipliers[0], "mlp_out_multiplier": config.mlp_multipliers[1],
            "ssm_multipliers": [x * config.ssm_in_multiplier for x in config.ssm_multipliers],
            "ssm_out_multiplier": config.ssm_out_multiplier, "gated_norm": norm if config.mamba_rms_norm else "none"}


def nemotron(config):
    inner = config.mamba_num_heads * config.mamba_head_dim
    ours = {"layer_pattern": pattern(config), "tie_word_embeddings": False, "head_dim": config.mamba_head_dim,
            "time_step_limit": [config.time_step_min, None], "state_size": config.ssm_state_size,
            "rms_norm_eps": config.layer_norm_epsilon, "attention_head_dim": config.head_dim,
            "ssm_num_heads": config.mamba_num_heads if inner % config.hidden_size else None}
    same = ["vocab_size", "hidden_size", "num_hidden_layers", "initializer_range", "bos_token_id", "eos_token_id",
            "intermediate_size", "num_attention_heads", "num_key_value_heads", "max_position_embeddings", "n_groups",
            "conv_kernel", "chunk_size"]
    return ours | {name: getattr(config, name) for name in same}


def expected(config):
    """Our config.json of an instance of a class."""
    if config.model_type == "nemotron_h":
        return nemotron(config)
    ours = {"layer_pattern": pattern(config)}
    names = SAME + (OF_MAMBA2 if config.model_type == "mamba2" else OF_ATTENTION) + list(OURS)
    for name in names:
        if hasattr(config, name):
            ours[OURS.get(name, name)] = getattr(config, name)
    if "time_step_limit" in ours:
        ours["time_step_limit"] = [None if x == float("inf") else x for x in ours["time_step_limit"]]
    if config.model_type != "mamba2":
        ours["attention_head_dim"] = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        ours["rope_theta"] = config.rope_parameters["rope_theta"]
        rope = config.rope_parameters
        ours["partial_rotary_factor"] = rope.get("partial_rotary_factor", 1.0) if config.model_type == "bamba" else 1.0
        linear = {"rope_type": "linear", "factor": rope.get("factor")}
        ours["rope_scaling"] = linear if rope["rope_type"] == "linear" else None
    if config.model_type.startswith(("granite", "falcon")):
        ours |= multiplied(config)
    if config.model_type == "granitemoehybrid":
        ours["intermediate_size"] = config.shared_intermediate_size
        if config.position_embedding_type != "rope":
            ours |= {"rope_theta": None, "rope_scaling": None}
        if "mamba2_mlp" not in ours["layer_pattern"]:
            ours = {name: value for name, value in ours.items() if name not in [*OURS.values(), "time_step_limit"]
                    or name == "rms_norm_eps"}
    if config.model_type == "falcon_h1":
        ours.pop("expand")
        ours["ssm_num_heads"] = config.mamba_n_heads if config.mamba_d_ssm % config.hidden_size else None
    if config.model_type == "mistral" and config.sliding_window is not None:
        ours["sliding_window"] = config.sliding_window
    return ours


def inspected(program, given):
    """Our config.json of a file, or the error."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "config.json"
        path.write_text(json.dumps(given))
        run = subprocess.run([program, "inspect", path, "--json"], capture_output=True, text=True, check=False)
    if run.returncode == 0:
        return json.loads(run.stdout)["config"], ""
    if run.returncode != 1 or run.stderr.count("\n") != 1:
        raise SystemExit(f"{given}: exit code {run.returncode}: {run.stderr}")
    return None, run.stderr.strip()


def supported(config):
    """Of what a class takes, what runs here."""
    if getattr(config, "num_local_experts", 0) and config.model_type == "granitemoehybrid":
        return False
    if "moe" in pattern(config):
        return False
    flags = [("use_bias", False), ("projectors_bias", False), ("use_conv_bias", True), ("mamba_conv_bias", True), ("mamba_proj_bias", False)]
    return all(bool(getattr(config, name, value)) == value for name, value in flags)


def differences(program, kind, given, what):
    try:
        config = transformers.CONFIG_MAPPING[kind].from_dict(copy.deepcopy(given))  # some change what is in it
        wanted = expected(config)
    except Exception:  # the class's own refusal, of whatever type
        inspected(program, given)
        return []
    nulls = ("token_id", "rope_theta", "rope_scaling", "attention_multiplier", "ssm_num_heads")
    if any(value is None for name, value in wanted.items() if not name.endswith(nulls)):
        inspected(program, given)  # the class takes it, the model cannot
        return []
    found, error = inspected(program, given)
    if found is None:
        return [f"{kind}, {what}: {error}"] if supported(config) else []
    found = WITHOUT | found
    return [f"{kind}, {what}: {name} is {found.get(name)}, expected {value}"
            for name, value in wanted.items() if found.get(name) != value]


def check_mamba_ssm(program):
    try:
        config = importlib.import_module("mamba_ssm.models.config_mamba").MambaConfig()
        layer = inspect.signature(importlib.import_module("mamba_ssm.modules.mamba2").Mamba2).parameters
    except ImportError:
        return None
    given = {name: value for name, value in dataclasses.asdict(config).items() if name == "d_model"}
    found, error = inspected(program, given | {"ssm_cfg": {"layer": "Mamba2"}})
    if found is None:
        return [f"mamba_ssm: {error}"]
    multiple = config.pad_vocab_size_multiple
    wanted = {"vocab_size": -(-config.vocab_size // multiple) * multiple, "num_hidden_layers": config.n_layer,
              "tie_word_embeddings": config.tie_embeddings}
    names = {"d_state": "state_size", "d_conv": "conv_kernel", "expand": "expand", "headdim": "head_dim",
             "ngroups": "n_groups", "chunk_size": "chunk_size"}
    wanted |= {ours: layer[theirs].default for theirs, ours in names.items()}
    return [f"mamba_ssm: {name} is {found[name]}, expected {value}"
            for name, value in wanted.items() if found[name] != value]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", type=pathlib.Path, default=pathlib.Path("build/taipan"))
    program = parser.parse_args().program
    problems, files = [], 0
    for kind, small in SMALL.items():
        cases = {"all keys": small, "no keys": {}}
        for key in small:
            cases[f"without {key}"] = {name: value for name, value in small.items() if name != key}
            cases[f"{key} null"] = small | {key: None}
        if "rope_parameters" in small:
            plain = {name: value for name, value in small.items() if name != "rope_parameters"}
            plain["hidden_size"] = 256  # a quarter of a head is even
            cases |= {json.dumps(rope): plain | rope | HEADS.get(kind, {}) for rope in ROPE}
        for what, given in cases.items():
            problems += differences(program, kind, {"model_type": kind} | given, what)
            files += 1
    ssm = check_mamba_ssm(program)
    problems += ssm or []
    print("\n".join(problems + [
        f"{files} files compared with transformers {transformers.__version__}, {len(problems)} differences"
        + ("; mamba_ssm is not installed" if ssm is None else "")]))
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
