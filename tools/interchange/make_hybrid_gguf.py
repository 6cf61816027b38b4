#!/usr/bin/env python3
"""Makes GGUF files of the golden hybrids with llama.cpp's own converter, and their logits: models/NAME.gguf, logits/NAME-gguf.

    python3 tools/interchange/make_hybrid_gguf.py --llama-cpp DIR [--program build/taipan] [--out tests/golden] [NAME...]

DIR is a checkout of llama.cpp. `taipan convert` writes each model as a folder of transformers first, in the words of older
releases that the converter knows; the files have no vocabulary. The logits are made like those of make_hybrid_golden.py,
without limits of time steps, which llama.cpp does not have.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import safetensors.torch
import torch
import transformers

from make_hybrid_golden import logits_of

NAMES = ["granite", "granite-hybrid", "nemotron-h", "falcon-h1"]


def converted(folder, target, llama_cpp):
    sys.path[:0] = [str(llama_cpp), str(llama_cpp / "gguf-py")]
    import conversion  # of llama.cpp
    import gguf
    config = json.loads((folder / "config.json").read_text())
    conversion.ModelBase.load_hparams = staticmethod(lambda *_, **__: dict(config))  # without the defaults of newer classes
    kind = conversion.get_model_class(config["architectures"][0])
    kind.set_vocab = lambda model: model._set_vocab_none()
    multiplied = "lm_head_multiplier" in config  # into the weights, which bf16 would round
    kind(folder, gguf.LlamaFileType.ALL_F32 if multiplied else gguf.LlamaFileType.MOSTLY_BF16, target).write()


def without_limits(folder):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    if "time_step_min" in config:
        config["time_step_min"] = 0.0
        config["mamba_d_head"] = config["mamba_head_dim"]  # else the converter expects 64
    if "time_step_limit" in config:
        config["time_step_limit"] = [0.0, {"__float__": "Infinity"}]
    path.write_text(json.dumps(config))


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--llama-cpp", type=pathlib.Path, required=True)
    parser.add_argument("--program", default="build/taipan")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parents[2] / "tests/golden")
    parser.add_argument("names", nargs="*", help="some of the models; none: all")
    args = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    for name in args.names or NAMES:
        model, from_logits = args.out / "models" / name, args.out / "logits" / name
        target, logits = args.out / "models" / f"{name}.gguf", args.out / "logits" / f"{name}-gguf"
        with tempfile.TemporaryDirectory() as temporary:
            folder = pathlib.Path(temporary) / name
            subprocess.run([args.program, "convert", model, folder, "--to", "hf"], check=True)
            without_limits(folder)
            target.unlink(missing_ok=True)
            converted(folder, target, args.llama_cpp)
            sequences = [json.loads(line) for line in (from_logits / "tokens.jsonl").read_text().splitlines()]
            exact, single = (logits_of(folder, dtype, sequences) for dtype in (torch.float64, torch.float32))
        logits.mkdir(parents=True, exist_ok=True)
        (logits / "tokens.jsonl").write_text((from_logits / "tokens.jsonl").read_text())
        safetensors.torch.save_file({str(i): x.to(torch.float32).contiguous() for i, x in enumerate(exact)},
                                    logits / "logits.safetensors")
        info = {"model": f"models/{name}.gguf", "lengths": [len(tokens) for tokens in sequences],
                "max_abs_logit": max(x.abs().max().item() for x in exact),
                "oracle_float32_max_abs_error": max((a.double() - b).abs().max().item() for a, b in zip(single, exact))}
        (logits / "info.json").write_text(json.dumps(info, indent=1) + "\n")
        print(f"{name:16} {target.stat().st_size / 1024:.0f} KB")


if __name__ == "__main__":
    main()
