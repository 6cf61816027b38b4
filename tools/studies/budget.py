#!/usr/bin/env python3
"""Loss and speed of one trained model against the share of tokens that attend.

    tools/studies/budget.py --model DIR --text FILE|DIR --out DIR [--calibrate FILE|DIR] [--budgets 0.02,0.05,...]

The gate's thresholds are fitted to the text of --calibrate (default: --text) in a copy of the model's folder; the
model stays as it is. Then `taipan score` reads --text at every budget: once with the tokens that the gate picks, once
with as many drawn at random, and at the ends with none and all. What OUT/results.json has is not measured again.
Writes OUT/results.json and OUT/budget.svg and prints a table.
"""
import argparse
import json
import pathlib
import shutil
import statistics
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]


def first_bytes(path, count, out):
    """The first `count` bytes of a file, or of a folder's files in their order, cut at a line."""
    path = pathlib.Path(path)
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    text = b""
    for file in files:
        with open(file, "rb") as f:
            text += f.read(count - len(text))
    if len(text) == count:
        text = text[:text.rfind(b"\n") + 1] or text
    out.write_bytes(text)
    return out


def variant(model, folder, changes):
    """A folder with the model's files by links and a config of its own."""
    folder.mkdir(exist_ok=True)
    for file in model.iterdir():
        link = folder / file.name
        if file.name not in ("config.json", "selection.json") and not link.exists():
            link.symlink_to(file.resolve())
    config = json.loads((model / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}, indent=1) + "\n")
    return folder


def score(folder, text, args, flags):
    command = [args.program, "score", "--model", str(folder), "--text", str(text), "--json", "--recall-hits",
               "--context", str(args.context), "--stride", str(args.context), "--threads", str(args.threads), *flags]
    runs = [json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            for _ in range(args.repeats)]
    return {
        "bits_per_byte": runs[0]["bits_per_byte"],
        "recall_hit_nll": runs[0]["recall_hits"]["nll"],
        "other_nll": runs[0]["recall_hits"]["other_nll"],
        "selected_share": runs[0]["selected_share"],
        "tokens": runs[0]["tokens"],
        "dtype": runs[0]["dtype"],
        "tokens_per_second": statistics.median(run["tokens_per_second"] for run in runs),
    }


def measure(args):
    file = args.out / "results.json"
    settings = {"model": str(pathlib.Path(args.model).resolve()), "text": args.text, "calibrate": args.calibrate,
                "bytes": args.bytes, "context": args.context, "threads": args.threads, "repeats": args.repeats}
    kept = json.loads(file.read_text()) if file.exists() else {"settings": settings, "results": []}
    if kept["settings"] != settings:
        raise SystemExit(f"{file}: measured with other settings: {kept['settings']}; --out names another folder")
    results = kept["results"]
    known = {(r["selection"], r["budget"]) for r in results}
    text = first_bytes(args.text, args.bytes, args.out / "text.txt")
    model = pathlib.Path(args.model)
    gate = variant(model, args.out / "gate", {})
    if not (gate / "selection.json").exists():
        fitted = first_bytes(args.calibrate or args.text, args.bytes, args.out / "calibration.txt")
        subprocess.run([args.program, "calibrate", str(gate), "--text", str(fitted)], check=True)
    points = [("none", 0.0)] + [(s, b) for b in args.budgets for s in ("gate", "random")] + [("all", 1.0)]
    for selection, budget in points:
        if (selection, budget) in known:
            continue
        if selection == "gate":
            folder, flags = gate, ["--budget", str(budget)]
        else:
            changes = {"selection": selection, "selection_threshold": []}
            if selection == "random":
                changes["attention_budget"] = budget
            folder, flags = variant(model, args.out / selection, changes), []
        results.append({"selection": selection, "budget": budget, **score(folder, text, args, flags)})
        file.write_text(json.dumps(kept, indent=1) + "\n")
    shutil.rmtree(args.out / "random", ignore_errors=True)
    return sorted(results, key=lambda r: (r["budget"], r["selection"]))


def table(results):
    rows = ["| tokens by | budget | share in use | bits/byte | recall hits, nats | others, nats | tokens/s |",
            "|---|---|---|---|---|---|---|"]
    for r in results:
        shares = ", ".join(f"{share:.3f}" for share in r["selected_share"])
        rows.append(f"| {r['selection']} | {r['budget']:g} | {shares} | {r['bits_per_byte']:.4f} | "
                    f"{r['recall_hit_nll']:.4f} | {r['other_nll']:.4f} | {r['tokens_per_second']:.0f} |")
    return "\n".join(rows)


def panel(title, series, top, colours):
    """One chart of curves over the share in use: SVG elements."""
    left, width, height = 70, 520, 220
    values = [y for points in series.values() for _, y in points]
    low, high = min(values), max(values)
    low, high = low - 0.05 * (high - low or 1), high + 0.05 * (high - low or 1)
    at = lambda x, y: (left + width * x, top + height * (1 - (y - low) / (high - low)))
    out = [f'<text x="{left}" y="{top - 10}" font-weight="600">{title}</text>']
    for i in range(5):
        value = low + (high - low) * i / 4
        y = at(0, value)[1]
        digits = max(0, 4 - len(str(int(high))))
        out.append(f'<line x1="{left}" x2="{left + width}" y1="{y:.1f}" y2="{y:.1f}" stroke="#8886"/>'
                   f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.{digits}f}</text>')
    for x in (0, 0.2, 0.4, 0.6, 0.8, 1):
        out.append(f'<text x="{at(x, low)[0]:.1f}" y="{top + height + 16}" text-anchor="middle">{x:g}</text>')
    for i, (name, points) in enumerate(series.items()):
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in (at(x, y) for x, y in points))
        out.append(f'<polyline points="{path}" fill="none" stroke="{colours[i]}" stroke-width="2"/>')
        out += [f'<circle cx="{at(x, y)[0]:.1f}" cy="{at(x, y)[1]:.1f}" r="3" fill="{colours[i]}"/>' for x, y in points]
        out.append(f'<text x="{left + width + 10}" y="{top + 14 + 16 * i}" style="fill:{colours[i]}">{name}</text>')
    return out


def svg(results):
    share = lambda r: statistics.mean(r["selected_share"])
    ends = [r for r in results if r["selection"] in ("none", "all")]
    curves = {name: sorted(ends + [r for r in results if r["selection"] == name], key=share)
              for name in ("gate", "random")}
    curve = lambda key: {f"by {name}": [(share(r), r[key]) for r in rows] for name, rows in curves.items()}
    colours = ["#3b82c4", "#c2703d"]
    body = panel("bits a byte, by the share of tokens that attend", curve("bits_per_byte"), 40, colours)
    body += panel("tokens/s", curve("tokens_per_second"), 340, colours)
    return ('<svg xmlns="http://www.w3.org/2000/svg" width="690" height="600" viewBox="0 0 690 600">'
            '<style>text{font:12px sans-serif;fill:#888}</style>' + "".join(body) + "</svg>\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--text", required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--calibrate", help="text for the thresholds, better another than --text")
    parser.add_argument("--program", default=str(ROOT / "build/taipan"))
    parser.add_argument("--budgets", type=lambda s: [float(x) for x in s.split(",")],
                        default=[0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0])
    parser.add_argument("--bytes", type=int, default=300_000, help="of each text")
    parser.add_argument("--context", type=int, default=1024, help="tokens of a window, read from a fresh state")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=1, help="readings; the median of their speeds is kept")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    results = measure(args)
    (args.out / "budget.svg").write_text(svg(results))
    print(table(results))


if __name__ == "__main__":
    main()
