#!/usr/bin/env python3
"""Makes the golden models of transformers' hybrids: tests/golden/models/NAME and logits/NAME.

    python3 tools/interchange/make_hybrid_golden.py [--out tests/golden] [NAME...]

Tiny random models of Granite, Granite hybrid, Nemotron-H and Falcon-H1 as save_pretrained writes them, with the logits
that transformers gives for random tokens in double precision (where its classes go to float32 they are kept in double)
and its own error in float32. Needs torch and transformers 5.23 or later. The same versions give the same files.
"""
import argparse
import contextlib
import json
import pathlib

import safetensors.torch
import torch
import transformers

LENGTHS = [1, 3, 80]
SSM_MULTIPLIERS, MLP_MULTIPLIERS = [0.375, 1.625, 0.75, 1.25, 0.8125], [0.7, 1.4]  # the former are a buffer in f32
SIZES = {"vocab_size": 61, "hidden_size": 32, "intermediate_size": 40, "initializer_range": 0.25, "num_attention_heads": 4}
MODELS = {
    # Dense, RoPE, untied.
    "granite": transformers.GraniteConfig(
        **SIZES, num_hidden_layers=2, num_key_value_heads=2, embedding_multiplier=3.0, residual_multiplier=0.6,
        attention_multiplier=0.21, logits_scaling=1.7, rope_parameters={"rope_type": "default", "rope_theta": 5e4}),
    # No positions, tied, two groups, limits of time steps.
    "granite-hybrid": transformers.GraniteMoeHybridConfig(
        **SIZES, num_hidden_layers=3, num_key_value_heads=2, layer_types=["mamba", "attention", "mamba"],
        shared_intermediate_size=40, num_local_experts=0, num_experts_per_tok=0, mamba_n_heads=8, mamba_d_head=8,
        mamba_n_groups=2, mamba_d_state=12, mamba_chunk_size=16, time_step_limit=(0.01, 0.5), embedding_multiplier=3.0,
        residual_multiplier=0.6, attention_multiplier=0.3, logits_scaling=1.7, tie_word_embeddings=True),
    # RoPE in a hybrid, untied, one group.
    "granite-hybrid-rope": transformers.GraniteMoeHybridConfig(
        **SIZES, num_hidden_layers=2, num_key_value_heads=1, layer_types=["attention", "mamba"],
        position_embedding_type="rope", shared_intermediate_size=24, num_local_experts=0, num_experts_per_tok=0,
        mamba_n_heads=4, mamba_d_state=16, mamba_chunk_size=16, attention_multiplier=0.4, residual_multiplier=0.5),
    # SSM heads that are no multiple of the width, two groups.
    "nemotron-h": transformers.NemotronHConfig(
        **SIZES, layers_block_type=["mamba", "mlp", "attention", "mamba", "mlp"], num_key_value_heads=2, head_dim=12,
        mamba_num_heads=6, mamba_head_dim=8, n_groups=2, ssm_state_size=12, conv_kernel=3, chunk_size=16),
    # Every multiplier, no norm behind the scan, mamba_d_ssm that is no multiple of the width.
    "falcon-h1": transformers.FalconH1Config(
        **SIZES, num_hidden_layers=2, num_key_value_heads=2, mamba_d_ssm=48, mamba_n_heads=6, mamba_d_head=8,
        mamba_n_groups=2, mamba_d_state=12, mamba_chunk_size=16, embedding_multiplier=2.5, lm_head_multiplier=0.45,
        key_multiplier=0.6, attention_in_multiplier=1.3, attention_out_multiplier=0.8, ssm_in_multiplier=0.9,
        ssm_out_multiplier=0.55, ssm_multipliers=SSM_MULTIPLIERS, mlp_multipliers=MLP_MULTIPLIERS,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6}),
    # The norm after the gate, tied.
    "falcon-h1-norm": transformers.FalconH1Config(
        **SIZES, num_hidden_layers=1, num_key_value_heads=2, mamba_d_ssm=64, mamba_n_heads=8, mamba_d_head=8,
        mamba_n_groups=2, mamba_d_state=12, mamba_chunk_size=16, mamba_rms_norm=True, mamba_norm_before_gate=False,
        ssm_out_multiplier=0.7, tie_word_embeddings=True),
    # The norm before the gate.
    "falcon-h1-norm-first": transformers.FalconH1Config(
        **SIZES, num_hidden_layers=1, num_key_value_heads=1, mamba_d_ssm=64, mamba_n_heads=8, mamba_d_head=8,
        mamba_n_groups=2, mamba_d_state=8, mamba_chunk_size=16, mamba_rms_norm=True, mamba_norm_before_gate=True),
}


def draw(model, generator):
    """Values of every parameter that the classes set to constants, so that each of them matters."""
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if name.endswith("A_log"):
            parameter.copy_(torch.log(0.3 + 4 * torch.rand(parameter.shape, generator=generator)))
        elif name.endswith("dt_bias"):
            step = 0.01 * 50 ** torch.rand(parameter.shape, generator=generator)
            parameter.copy_(step + torch.log(-torch.expm1(-step)))
        elif name.endswith("conv1d.weight"):
            parameter.copy_(0.5 * noise)
        elif name.endswith("bias"):
            parameter.copy_(0.1 * noise)
        elif parameter.dim() == 1:
            parameter.copy_(1 + 0.2 * noise)


@contextlib.contextmanager
def double_precision():
    """What the classes convert to float32 on the way stays in double."""
    kept = torch.float32, torch.float, torch.Tensor.float
    torch.set_default_dtype(torch.float64)
    torch.float32 = torch.float = torch.float64
    torch.Tensor.float = torch.Tensor.double
    try:
        yield
    finally:
        torch.float32, torch.float, torch.Tensor.float = kept
        torch.set_default_dtype(torch.float32)


def logits_of(folder, dtype, sequences):
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="eager").eval()
    with double_precision() if dtype == torch.float64 else contextlib.nullcontext():
        for module in model.modules():
            if dtype == torch.float64 and hasattr(module, "inv_freq"):
                module.inv_freq = module.compute_default_rope_parameters(model.config)[0]
        return [model(torch.tensor([tokens]), use_cache=False).logits[0] for tokens in sequences]


def write(name, config, seed, out):
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(config)
    draw(model, generator)
    folder, results = out / "models" / name, out / "logits" / name
    model.to(torch.bfloat16).save_pretrained(folder)  # half the size
    (folder / "generation_config.json").unlink(missing_ok=True)
    sequences = [torch.randint(0, config.vocab_size, (n,), generator=generator).tolist() for n in LENGTHS]
    single = logits_of(folder, torch.float32, sequences)
    exact = logits_of(folder, torch.float64, sequences)
    results.mkdir(parents=True, exist_ok=True)
    (results / "tokens.jsonl").write_text("".join(json.dumps(tokens) + "\n" for tokens in sequences))
    safetensors.torch.save_file({str(i): x.to(torch.float32).contiguous() for i, x in enumerate(exact)},
                                results / "logits.safetensors")
    error = max((a.double() - b).abs().max().item() for a, b in zip(single, exact))
    info = {"model": f"models/{name}", "lengths": LENGTHS, "max_abs_logit": max(x.abs().max().item() for x in exact),
            "oracle_float32_max_abs_error": error}
    (results / "info.json").write_text(json.dumps(info, indent=1) + "\n")
    size = sum(path.stat().st_size for path in [*folder.iterdir(), *results.iterdir()])
    print(f"{name:22} {size / 1024:.0f} KB, largest logit {info['max_abs_logit']:.2f}, error in float32 {error:.1e}")


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parents[2] / "tests/golden")
    parser.add_argument("names", nargs="*", help="some of the models; none: all")
    args = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    for seed, (name, config) in enumerate(MODELS.items()):
        if not args.names or name in args.names:
            write(name, config, seed + 1, args.out)


if __name__ == "__main__":
    main()
