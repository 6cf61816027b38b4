#!/usr/bin/env python3
"""Selection on text: the same data, tokens and parameters for every way to select, and controls.

    tools/studies/gate.py --out DIR [--size 1m] [--steps 600] [--seeds 1,2,3] [--only "NAME;NAME"]

Trains what is not yet trained below DIR (a run that was cut is resumed; runs go on where they were), then writes
DIR/results.json and prints a table: validation loss in bits a byte, the loss on recall hits (tokens that complete a
bigram of further back in their context) and on all others in nats, and the share of tokens that each selective layer
selects by the rule of use.
"""
import argparse
import json
import pathlib
import statistics
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]

# name -> preset, flags ({half}: half of the steps) and changes of the config
VARIANTS = {
    "mamba2": ("mamba2", []),
    "transformer": ("transformer", []),
    "jamba": ("jamba", []),
    "samba": ("samba", []),
    "paper": ("taipan", ["--paper"]),
    "paper, lambda 3": ("taipan", ["--paper", "--budget-loss-weight", "3"]),
    "paper, lambda 300": ("taipan", ["--paper", "--budget-loss-weight", "300"]),
    "mix, no noise": ("taipan", ["--paper", "--gumbel-noise", "off"]),
    "residual, argmax, no noise": ("taipan", ["--selection", "argmax", "--gumbel-noise", "off"]),
    "residual, threshold": ("taipan", []),
    "residual, threshold, no ramp": ("taipan", ["--budget-ramp", "0:0"]),
    "mix, threshold": ("taipan", ["--refinement", "mix"]),
    "residual, random": ("taipan", ["--selection", "random"]),
    "residual, periodic": ("taipan", ["--selection", "periodic"]),
    "residual, all": ("taipan", ["--selection", "all"]),
    "residual, threshold, straight-through all": ("taipan", ["--straight-through", "all"]),
    "residual, argmax, noise": ("taipan", ["--selection", "argmax"]),
    "residual, argmax, noise until half": ("taipan", ["--selection", "argmax", "--gumbel-noise-until", "{half}"]),
    "residual, threshold, noise": ("taipan", ["--gumbel-noise", "on"]),
    "residual, argmax, no noise, lambda 1": ("taipan", ["--selection", "argmax", "--gumbel-noise", "off",
                                                        "--budget-loss-weight", "1"]),
    "residual, argmax, no noise, lambda 30 from the start": (
        "taipan", ["--selection", "argmax", "--gumbel-noise", "off", "--budget-ramp", "0:0"]),
    "residual, threshold, gate bias 0": ("taipan", ["--gate-bias", "0"]),
    "residual, threshold, gate bias 1": ("taipan", ["--gate-bias", "1"]),
    "residual, threshold, budget 0.05": ("taipan", ["--budget", "0.05"]),
    "residual, threshold, budget 0.5": ("taipan", ["--budget", "0.5"]),
    "residual, threshold, RoPE": ("taipan", [], {"rope_theta": 10000.0}),
    # of 1m's six layers
    "residual, threshold, early": ("taipan", [], {"layer_pattern": ["mamba2", "selective_attention"] * 2 + ["mamba2"] * 2}),
    "residual, threshold, late": ("taipan", [], {"layer_pattern": ["mamba2"] * 4 + ["selective_attention"] * 2}),
}


def changed_config(preset, changes, file, args):
    """The preset's config.json with some keys changed."""
    if not file.exists():
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run([args.program, "init", "--preset", preset, "--out", f"{folder}/model"], check=True)
            config = json.loads(pathlib.Path(folder, "model/config.json").read_text())
        if args.tokenizer:
            tokenizer = json.loads(pathlib.Path(args.tokenizer).read_text())
            config["vocab_size"] = len(tokenizer["model"]["vocab"])
        file.write_text(json.dumps({**config, **changes}, indent=1) + "\n")
    return str(file)


def train(name, seed, args):
    preset, flags, *changes = VARIANTS[name]
    model = f"{preset}-{args.size}"
    flags = [flag.replace("{half}", str(args.steps // 2)) for flag in flags]
    run = args.out / f"{name.replace(', ', '_').replace(' ', '-')}-{seed}"
    if changes:
        model = changed_config(model, changes[0], run.with_suffix(".json"), args)
    command = [args.program, "train", "--out", str(run)]
    if (run / "trainer.json").exists():
        if json.loads((run / "trainer.json").read_text())["ended"] == "finished":
            return run
        command += ["--resume"]
    command += ["--model", model, "--data", *args.data, "--valid-data", args.valid, "--context",
                str(args.context), "--batch-size", str(args.batch_size), "--steps", str(args.steps), "--seed",
                str(seed), "--learning-rate", args.learning_rate, "--initializer-range", args.initializer_range,
                "--valid-tokens", str(args.valid_tokens), "--valid-every", "0", "--save-every", "200", "--keep", "1"]
    command += ["--tokenizer", args.tokenizer] if args.tokenizer else []
    subprocess.run(command + flags, check=True)
    return run


def result(name, seed, run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    valid = [line for line in lines if "valid_ce" in line][-1]
    steps = [line for line in lines if "ce" in line]
    return {
        "variant": name,
        "seed": seed,
        "learning_rate": json.loads((run / "run.json").read_text())["learning_rate"],
        "bits_per_byte": valid["valid_bits_per_byte"],
        "recall_hit_ce": valid["valid_recall_hit_ce"],
        "other_ce": valid["valid_other_ce"],
        "share_in_use": valid["valid_selected_share"],
        "share_in_training": steps[-1]["selected_share"],
        "tokens_per_second": statistics.median(line["tokens_per_second"] for line in steps),
    }


def table(results):
    rows = ["| variant | seed | bits/byte | recall hits | others | share in use |", "|---|---|---|---|---|---|"]
    for r in results:
        shares = ", ".join(f"{share:.3f}" for share in r["share_in_use"])
        rows.append(f"| {r['variant']} | {r['seed']} | {r['bits_per_byte']:.4f} | {r['recall_hit_ce']:.4f} | "
                    f"{r['other_ce']:.4f} | {shares} |")
    return "\n".join(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--program", default=str(ROOT / "build/taipan"))
    parser.add_argument("--size", default="1m")
    parser.add_argument("--data", nargs="+", default=[str(ROOT / "data/books/train")])
    parser.add_argument("--valid", default=str(ROOT / "data/books/valid"))
    parser.add_argument("--tokenizer", default="")
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seeds", default="1")
    parser.add_argument("--only", default=";".join(VARIANTS), help="variants, separated by ;")
    parser.add_argument("--learning-rate", default="2e-3")
    parser.add_argument("--initializer-range", default="0.088")
    parser.add_argument("--valid-tokens", type=int, default=65536)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    results = []
    for seed in args.seeds.split(","):
        for name in args.only.split(";"):
            results.append(result(name, int(seed), train(name, int(seed), args)))
            (args.out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    print(table(results))


if __name__ == "__main__":
    main()
