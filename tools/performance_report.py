#!/usr/bin/env python3
"""Writes docs/performance.md and its charts from the measurements in bench/results.

bench-*.json are reports of `taipan bench ... --json`, compare-*.json those of scripts/compare.sh; remarks.md holds what
people have to say (a section "## NAME" goes under the part of the page with that name, for example "## roof-bf16").

  tools/performance_report.py                          from what is there; says what is missing
  tools/performance_report.py --check                  fails if the page or a chart is not what the results give
  tools/performance_report.py --measure build/taipan   first measures every bench-*.json again
"""
import argparse
import html
import json
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent

# File below bench/results: what it says, arguments of `taipan bench`.
BENCHES = {
    "bench-train-mamba2-130m": ("One training step: mamba2-130m",
                                ["train", "--model", "mamba2-130m", "--context", "1024"]),
    "bench-train-llama-190m": ("One training step: llama-190m",
                               ["train", "--model", "llama-190m", "--context", "1024", "--batch-size", "2"]),
    "bench-train-taipan-130m": ("One training step: taipan-130m",
                                ["train", "--model", "taipan-130m", "--context", "4096"]),
    "bench-prefill-mamba2-130m": ("One prefill: mamba2-130m",
                                  ["prefill", "--model", "mamba2-130m", "--prompt", "4096"]),
    "bench-prefill-taipan-130m": ("One prefill: taipan-130m",
                                  ["prefill", "--model", "taipan-130m", "--prompt", "4096"]),
    "bench-decode-taipan-130m": ("Decoding: taipan-130m",
                                 ["decode", "--model", "taipan-130m", "--context", "4096", "--tokens", "64"]),
}
ROOF = "bench-roof"
COMPARISONS = ["train-mamba2", "train-llama", "train-small", "train-taipan", "roof-bf16", "roof-f32", "prefill-mamba2",
               "prefill-llama", "prefill-long", "decode-q8", "decode-q4", "decode-bf16", "decode-bandwidth",
               "decode-batch", "decode-busy", "openvino", "first-token", "train-context", "attention", "memory"]
GIB = 1 << 30


class Results:
    """Everything in the folder of results."""

    def __init__(self, folder):
        self.folder = folder
        self.reports, self.missing = {}, []
        for name in [*BENCHES, ROOF, *(f"compare-{row}" for row in COMPARISONS)]:
            path = folder / f"{name}.json"
            if path.is_file():
                self.reports[name] = self.load(path)
            else:
                self.missing.append(path)
        self.remarks = self.load_remarks(folder / "remarks.md")

    @staticmethod
    def load(path):
        try:
            report = json.loads(path.read_text(encoding="utf-8"))
        except json.JSONDecodeError as error:
            sys.exit(f"error: {path}: not JSON: {error}")
        if not isinstance(report, dict):
            sys.exit(f"error: {path}: expected an object, found {type(report).__name__}")
        return report

    @staticmethod
    def load_remarks(path):
        sections = {}
        if path.is_file():
            for part in ("\n" + path.read_text(encoding="utf-8")).split("\n## ")[1:]:
                name, _, text = part.partition("\n")
                sections[name.strip()] = text.strip()
        return sections

    def get(self, name):
        return self.reports.get(name)


def table(header, rows, left=1):
    """A Markdown table; the first `left` columns are text."""
    rule = ["---" if i < left else "--:" for i in range(len(header))]
    lines = [header, rule, *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def spread(value, form="{:.0f}"):
    return f"{form.format(value['median'])} ({form.format(value['min'])} to {form.format(value['max'])})"


def cell(value, form):
    return form.format(value) if value else ""


class Operation:
    """Forward and backward of one operation: work, floor, time."""

    def __init__(self, name):
        self.name, self.flops, self.bytes, self.floor, self.seconds = name, 0.0, 0.0, 0.0, 0.0

    def row(self, total):
        reached = self.floor / self.seconds if self.seconds else 0
        return [self.name, cell(self.flops * 1e-9, "{:.1f}"), cell(self.bytes * 1e-6, "{:.0f}"),
                cell(self.floor * 1e3, "{:.1f}"), f"{self.seconds * 1e3:.1f}", f"{100 * self.seconds / total:.1f}",
                cell(100 * reached, "{:.0f}")]


def operations(report):
    """Those of a report, forward and backward together, longest first; "other" last."""
    known = {}

    def find(name):
        name = name.removesuffix(" backward")
        return known.setdefault(name, Operation(name))

    for cost in report["floor"]:
        op = find(cost["op"])
        op.flops += cost["flops"]
        op.bytes += cost["bytes"]
        op.floor += cost.get("seconds", 0)
    for time in report["breakdown"]:
        find(time["op"]).seconds += time["seconds"]
    return sorted(known.values(), key=lambda op: (op.name == "other", -op.seconds))


def describe(report):
    """The workload in words."""
    parts = []
    if report["bench"] == "prefill":
        parts.append(f"a prompt of {report['prompt']} tokens in pieces of {report['piece']}")
    elif report["bench"] == "decode":
        parts.append(f"{report['tokens']} tokens after {report['context']}")
    else:
        parts.append(f"context {report['context']}")
    if report.get("batch_size", 1) > 1:
        parts.append(f"{report['batch_size']} sequences")
    if report.get("recompute", "none") != "none":
        parts.append(f"recompute {report['recompute']}")
    parts += [report["dtype"], f"{report['threads']} threads"]
    if report["selected_share"]:
        shares = ", ".join(f"{s:.3f}" for s in report["selected_share"])
        parts.append(f"selected shares {shares} ({report['selection']})")
    return ", ".join(parts)


def floor_section(name, report):
    title = BENCHES[name][0]
    ops = operations(report)
    total = sum(op.seconds for op in ops)
    whole = Operation("**all**")
    for op in ops:
        whole.flops += op.flops
        whole.bytes += op.bytes
        whole.floor += op.floor
        whole.seconds += op.seconds
    lines = [f"### {title}", "", describe(report)[0].upper() + describe(report)[1:] + ".", ""]
    lines.append(table(["operation", "GFLOP", "MB", "floor ms", "time ms", "% of time", "floor / time %"],
                       [op.row(total) for op in [*ops, whole]]))
    roof = report["roof"]
    if not roof:
        sys.exit(f"error: {name}.json: measured with --no-roof; the page needs the roof")
    against = (f"{roof['read_gbytes_per_second']:.1f} GB/s of memory" if roof["bound"] == "memory"
               else f"{roof['gflops']:.0f} GFLOP/s")
    memory = report["peak_rss_bytes"] / GIB
    lines += ["", f"{spread(report['tokens_per_second'], '{:.1f}')} tokens/s, "
              f"**{100 * report['share_of_roof']:.1f} % of the roof** of {against}; peak memory {memory:.2f} GiB; "
              f"{100 * (1 - other_share(report)):.1f} % of the time belongs to a named operation.", "",
              f"![{title}: time by operation]({chart_name(name)})", ""]
    return lines


def chart_name(name):
    return f"performance-{name.removeprefix('bench-')}.svg"


def other_share(report):
    return next((op["share"] for op in report["breakdown"] if op["op"] == "other"), 0.0)


def roof_section(report):
    lines = ["## The roof", "",
             f"{report['cpu']}, {report['threads']} threads, instruction set: {report['isa']}; "
             f"medians of {report['runs']} runs.", "", "Matrix products [m, k] x [n, k]^T:", ""]
    rates = {}
    for product in report["matmul"]:
        key = f"{product['m']} x {product['n']} x {product['k']}"
        rates.setdefault(key, {})[(product["dtype"], product["threads"])] = product["gflops"]["median"]
    columns = sorted({c for row in rates.values() for c in row}, key=lambda c: (c[0] != "f32", c))
    header = ["m x n x k"] + [f"{d}, {t} thread{'s' if t > 1 else ''}" for d, t in columns]
    lines.append(table(header, [[key] + [f"{row[c]:.0f}" if c in row else "" for c in columns]
                                for key, row in rates.items()]))
    lines += ["", "GFLOP/s. Memory, GB/s (1e9 bytes):", ""]
    lines.append(table(["buffer", "threads", "read", "write"],
                       [[f"{m['bytes'] / 1024:.0f} KiB", str(m["threads"]),
                         f"{m['read_gbytes_per_second']['median']:.1f}",
                         f"{m['write_gbytes_per_second']['median']:.1f}"] for m in report["memory"]]))
    return lines + [""]


def number(value):
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def contender_text(contender):
    text = contender["label"]
    if "tokens_per_second" in contender:
        text += f" {number(contender['tokens_per_second']['median'])} tokens/s"
    return text + f", {contender['peak_rss_bytes'] / GIB:.1f} GiB"


def case_row(case):
    if "error" in case:
        return [case["case"], "failed", "", case["error"].replace("|", "/")]
    value = f"{case['value']:.2f} {case['unit']} ({case['min']:.2f} to {case['max']:.2f})"
    target = ""
    if "target" in case:
        sign = "≤" if case["target_kind"] == "at most" else "≥"
        target = f"{sign} {case['target']:g} {'**met**' if case['met'] else 'missed'}"
    return [case["case"], value, target, "; ".join(contender_text(c) for c in case["contenders"])]


def commands_of(record):
    seen = {}
    for case in record["cases"]:
        for contender in case.get("contenders", []):
            versions = ", ".join(f"{key} {contender[key]}" for key in ("torch", "transformers", "commit")
                                 if key in contender)
            seen.setdefault(contender["command"], versions)
    return [f"    {command}" + (f"    # {versions}" if versions else "") for command, versions in seen.items()]


def comparison_section(name, record, remark):
    what = record["what"]
    machine = record["machine"]
    rounds = max((case.get("rounds", 0) for case in record["cases"]), default=0)
    lines = [f"### {what[0].upper() + what[1:]}", "", table(["case", "result", "asked for", "medians, peak memory"],
                                                           [case_row(case) for case in record["cases"]], left=4), ""]
    if remark:
        lines += [remark, ""]
    lines += [f"<details><summary>{machine['cpu']}, {machine['threads']} threads, "
              f"{rounds} alternating rounds: what ran</summary>", "", *commands_of(record), "", "</details>", ""]
    if name == "attention" and attention_report(record):
        lines += ["![Time of the attention core over the share of queries](performance-attention.svg)", ""]
    return lines


def attention_report(record):
    for case in record["cases"]:
        for contender in case.get("contenders", []):
            if "kernels" in contender.get("last_report", {}):
                return contender["last_report"]
    return None


# Charts: transparent, of medium brightness, so that they read on white and on black.
COLORS = ["#1f83d1", "#e0641a"]
INK = "#808080"


def svg(width, height, parts):
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
            f'viewBox="0 0 {width} {height}" font-family="system-ui, sans-serif" font-size="12" '
            f'fill="{INK}">\n' + "\n".join(parts) + "\n</svg>\n")


def text(x, y, value, anchor="start", size=12):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">{html.escape(value)}</text>'


def bars(title, rows, unit):
    """rows: (label, value, mark or None)."""
    width, left, right, top, step = 800, 190, 740, 40, 22
    most = max(max(value, mark or 0) for _, value, mark in rows) or 1
    parts = [text(width / 2, 24, title, "middle", 16)]
    for i, (label, value, mark) in enumerate(rows):
        y = top + i * step
        end = left + value / most * (right - left)
        parts.append(text(left - 6, y + 14, label, "end"))
        parts.append(f'<rect x="{left}" y="{y + 3}" width="{end - left:.1f}" height="16" fill="{COLORS[0]}"/>')
        at = left + (mark or 0) / most * (right - left)
        parts.append(text(max(end, at) + 5, y + 15, number(value)))
        if mark:
            parts.append(f'<rect x="{at - 1.5:.1f}" y="{y + 2}" width="3" height="18" fill="{COLORS[1]}"/>')
    height = top + len(rows) * step + 34
    parts.append(text((left + right) / 2, height - 10, unit, "middle"))
    return svg(width, height, parts)


def operation_chart(title, report):
    rows = [(op.name, op.seconds * 1e3, op.floor * 1e3 or None) for op in operations(report)]
    return bars(f"{title}, {report['dtype']}", rows, "ms; orange: the floor")


def attention_chart(report):
    width, height, left, right, top, bottom = 640, 360, 64, 480, 40, 312
    lines = {}
    for kernel in report["kernels"]:
        if "selected_share" in kernel:
            lines.setdefault(kernel["op"], []).append((kernel["selected_share"], kernel["seconds"]["median"] * 1e3))
    most = 1.05 * max(y for points in lines.values() for _, y in points)

    def place(x, y):
        return left + x * (right - left), bottom - y / most * (bottom - top)

    def path(points, more):
        return '<path fill="none" ' + more + ' d="M' + " L".join(f"{x:.1f},{y:.1f}" for x, y in points) + '"/>'

    parts = [text(width / 2, 24, f"Attention core, {report['tokens']} tokens, {report['dtype']}", "middle", 16)]
    for i in range(6):
        share, value = i / 5, most * i / 5
        parts.append(path([place(0, value), place(1, value)], f'stroke="{INK}" stroke-opacity="0.25"'))
        parts.append(text(place(share, 0)[0], bottom + 18, f"{share:g}", "middle"))
        parts.append(text(left - 6, place(0, value)[1] + 4, f"{value:.3g}", "end"))
    for color, (name, points) in zip(COLORS, lines.items()):
        points.sort()
        full = points[-1][1]
        parts.append(path([place(0, 0), place(1, full)], f'stroke="{color}" stroke-dasharray="3 4"'))
        parts.append(path([place(*p) for p in points], f'stroke="{color}" stroke-width="2"'))
        parts.append(text(place(1, full)[0] + 8, place(1, full)[1] + 4, name))
    caption = "share of queries selected; ms a call; dotted: in proportion"
    parts.append(text((left + right) / 2, height - 10, caption, "middle"))
    return svg(width, height, parts)


INTRODUCTION = """# Performance

<!-- Written by tools/performance_report.py from bench/results; edit those. -->

What one training step and one prefill must cost at least on this machine, what they cost, and how other programs fare.

## The floor

Only useful work counts. FLOPs are two a multiplication with addition, in matrix products, convolution, scan and
attention: no recomputation, no queries that were not selected, no padding, Mamba-2's scan as the recurrence
(4 d_inner d_state a token), a causal query with half of a full context; a backward counts twice its forward. Bytes are
what an operation must read and write once: operands, results, weights once a forward, gradients of weights in f32,
30 bytes a parameter for AdamW with bf16 copies. The floor of an operation is the longer of FLOPs at the model's roof
and bytes at the rate of reading memory; operands that stay in a cache can beat the latter, and so can writing beside
reading. The model's roof is the FLOP-weighted rate of its own matrix shapes, nothing but matrix products. Forward and
backward of an operation stand together. Weights and tokens are random.
"""


def page(results):
    """The text of the page and the charts by file name."""
    lines, charts = INTRODUCTION.splitlines() + [""], {}
    for name, (title, _) in BENCHES.items():
        report = results.get(name)
        if report is None:
            continue
        lines += floor_section(name, report)
        if name in results.remarks:
            lines += [results.remarks[name], ""]
        charts[chart_name(name)] = operation_chart(title, report)
    if results.get(ROOF):
        lines += roof_section(results.get(ROOF))
    if any(results.get(f"compare-{row}") for row in COMPARISONS):
        lines += ["## Against other programs, and against ourselves", "",
                  "Every program runs in turns with the others of its table, each at its best settings; medians of the "
                  "rounds, with the least and most of single rounds. `scripts/compare.sh` measures all of it again.",
                  ""]
    for row in COMPARISONS:
        record = results.get(f"compare-{row}")
        if record is None:
            continue
        lines += comparison_section(row, record, results.remarks.get(row))
        if row == "attention" and attention_report(record):
            charts["performance-attention.svg"] = attention_chart(attention_report(record))
    if "limits" in results.remarks:
        lines += ["## What limits it", "", results.remarks["limits"], ""]
    return "\n".join(lines).rstrip() + "\n", charts


def measure(program, folder, threads, runs):
    """Runs every bench of the page; the machine should have nothing else to do."""
    if not program.is_file():
        sys.exit(f"error: {program}: no such program; scripts/build.sh builds it")
    folder.mkdir(parents=True, exist_ok=True)
    commands = {name: [*arguments, "--dtype", "bf16"] for name, (_, arguments) in BENCHES.items()}
    commands[ROOF] = ["roof"]
    for name, arguments in commands.items():
        if "--model" in arguments:
            at = arguments.index("--model") + 1
            arguments[at] = str(ROOT / "bench/models" / f"{arguments[at]}.json")
        command = [str(program), "bench", *arguments, "--json", "--refresh", "--runs", str(runs)]
        command += ["--threads", str(threads)] if threads else []
        print(" ".join(command), file=sys.stderr)
        done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
        if done.returncode != 0:
            sys.exit(f"error: {name}: exit {done.returncode}")
        report = json.loads(done.stdout)
        if "model" in report:
            report["model"] = pathlib.Path(report["model"]).stem  # where the folder lies says nothing
        (folder / f"{name}.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def stale_files(files):
    return [path for path, content in files.items()
            if not path.is_file() or path.read_text(encoding="utf-8") != content]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=pathlib.Path, default=ROOT / "bench/results", metavar="DIR")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "docs", metavar="DIR", help="folder of the page")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a file is not up to date")
    parser.add_argument("--measure", type=pathlib.Path, metavar="PROGRAM", help="run the benches first")
    parser.add_argument("--threads", type=int, help="with --measure (default: all)")
    parser.add_argument("--runs", type=int, default=5, help="with --measure (default 5)")
    args = parser.parse_args()
    if args.measure:
        measure(args.measure, args.results, args.threads, args.runs)
    results = Results(args.results)
    for path in results.missing:
        how = "scripts/compare.sh" if path.name.startswith("compare-") else "--measure build/taipan"
        print(f"missing: {path.name} ({how} writes it)", file=sys.stderr)
    if not results.reports:
        sys.exit(f"error: {args.results}: no results")
    text_of_page, charts = page(results)
    files = {args.out / "performance.md": text_of_page}
    files.update({args.out / name: content for name, content in charts.items()})
    if args.check:
        stale = stale_files(files)
        for path in stale:
            print(f"stale: {path} (tools/performance_report.py writes it)", file=sys.stderr)
        return 1 if stale else 0
    for path, content in files.items():
        path.write_text(content, encoding="utf-8")
    print(f"wrote {args.out / 'performance.md'} and {len(charts)} charts", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
