#!/usr/bin/env python3
"""Compares what `taipan inspect` makes of config.json files that leave a key out, or say null, with transformers' config classes.

    python3 tools/interchange/check_defaults.py [--program build/taipan]

Of each architecture a small config, without each of its keys in turn and with each as null, and the empty one. Where the
class refuses a file, any answer passes but a crash. mamba_ssm's defaults are compared where that package is installed.
Exits 1 where a value differs, 77 where transformers is not installed (torch is not needed).
"""
import argparse
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
}
HEADS = {"bamba": {"mamba_n_heads": 32}}
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


def pattern(config):
    layers = config.num_hidden_layers
    if config.model_type == "mamba2":
        return ["mamba2"] * layers
    if config.model_type == "bamba":
        attention = config.attn_layer_indices or []
        return ["attention" if i in attention else "mamba2_mlp" for i in range(layers)]
    sliding = config.model_type == "mistral" and config.sliding_window is not None
    return ["sliding_attention" if sliding else "attention"] * layers


def expected(config):
    """Our config.json of an instance of a class."""
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
    flags = [("use_bias", False), ("use_conv_bias", True), ("mamba_conv_bias", True), ("mamba_proj_bias", False)]
    return all(bool(getattr(config, name, value)) == value for name, value in flags)


def differences(program, kind, given, what):
    try:
        config = transformers.CONFIG_MAPPING[kind].from_dict(dict(given))
        wanted = expected(config)
    except Exception:  # the class's own refusal, of whatever type
        inspected(program, given)
        return []
    if any(value is None for name, value in wanted.items() if not name.endswith("token_id")):
        inspected(program, given)  # the class takes it, the model cannot
        return []
    found, error = inspected(program, given)
    if found is None:
        return [f"{kind}, {what}: {error}"] if supported(config) else []
    found = {"initializer_range": 0.02, "partial_rotary_factor": 1.0} | found  # not written where they are this
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
