#!/usr/bin/env python3
"""AdamW and Muon at equal tokens: validation loss, speed, and how many steps Muon needs for AdamW's loss.

    tools/studies/optimizer.py --out DIR [--model taipan-1m] [--steps 600] [--seeds 1] --runs "adamw:2e-3:1;muon:2e-3:1;muon:2e-3:0.75"

A run is OPTIMIZER:LEARNING-RATE:SHARE, where SHARE is of the steps, each run with a schedule of its own. Trains what is
not yet trained below DIR, writes DIR/MODEL.json and prints a table.
"""
import argparse
import json
import pathlib
import statistics
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]


def train(run, seed, args):
    optimizer, rate, share = run.split(":")
    steps = round(args.steps * float(share))
    out = args.out / f"{args.model}-{optimizer}-{rate}-{steps}-{seed}"
    command = [args.program, "train", "--out", str(out)]
    if (out / "trainer.json").exists():
        if json.loads((out / "trainer.json").read_text())["ended"] == "finished":
            return out
        command += ["--resume"]
    command += ["--model", args.model, "--data", *args.data, "--valid-data", args.valid, "--tokenizer", args.tokenizer,
                "--context", str(args.context), "--batch-size", str(args.batch_size), "--steps", str(steps), "--seed",
                str(seed), "--optimizer", optimizer, "--learning-rate", rate, "--initializer-range",
                args.initializer_range, "--valid-tokens", str(args.valid_tokens), "--valid-every", "0", "--keep", "1"]
    subprocess.run(command + args.flags.split(), check=True)
    return out


def result(run, seed, out, model):
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    valid = [line for line in lines if "valid_ce" in line][-1]
    steps = [line for line in lines if "ce" in line]
    optimizer, rate, _ = run.split(":")
    return {
        "model": model,
        "optimizer": optimizer,
        "learning_rate": float(rate),
        "steps": len(steps),
        "seed": seed,
        "bits_per_byte": valid["valid_bits_per_byte"],
        "training_ce": statistics.mean(line["ce"] for line in steps[-50:]),
        "tokens_per_second": statistics.median(line["tokens_per_second"] for line in steps),
    }


def table(results):
    rows = ["| model | optimizer | rate | steps | seed | bits/byte | training loss | tokens/s |", "|---|---|---|---|---|---|---|---|"]
    for r in results:
        rows.append(f"| {r['model']} | {r['optimizer']} | {r['learning_rate']} | {r['steps']} | {r['seed']} | "
                    f"{r['bits_per_byte']:.4f} | {r['training_ce']:.4f} | {r['tokens_per_second']:.0f} |")
    return "\n".join(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--program", default=str(ROOT / "build/taipan"))
    parser.add_argument("--model", default="taipan-1m")
    parser.add_argument("--runs", required=True)
    parser.add_argument("--data", nargs="+", default=[str(ROOT / "data/books/train")])
    parser.add_argument("--valid", default=str(ROOT / "data/books/valid"))
    parser.add_argument("--tokenizer", default="byte")
    parser.add_argument("--context", type=int, default=1024)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seeds", default="1")
    parser.add_argument("--initializer-range", default="0.088")
    parser.add_argument("--valid-tokens", type=int, default=16384)
    parser.add_argument("--flags", default="", help="other flags of train")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    results = []
    for seed in args.seeds.split(","):
        for run in args.runs.split(";"):
            results.append(result(run, int(seed), train(run, int(seed), args), args.model))
            (args.out / f"{args.model}.json").write_text(json.dumps(results, indent=1) + "\n")
    print(table(results))


if __name__ == "__main__":
    main()
