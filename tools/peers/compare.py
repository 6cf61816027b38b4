#!/usr/bin/env python3
"""Lets taipan and its peers run in turns on this machine and writes what came out, a JSON file a row.

The programs of a row alternate: ours, peer, ours, peer, ...; each sample runs alone, a peer that stays alive sleeps
meanwhile. Medians of the samples are compared. scripts/compare.sh sets the peers up and then calls this.
"""
import argparse
import datetime
import json
import os
import pathlib
import platform
import statistics
import sys

import bench_setup
import charts
import contenders
import quiet
import rows


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                                     epilog="rows:\n" + "\n".join(f"  {r.name:16} {r.what}" for r in rows.ROWS))
    parser.add_argument("--only", action="append", metavar="ROW[/CASE]", default=[],
                        help="this row alone, or its cases with CASE in their name; may be repeated")
    parser.add_argument("--quick", action="store_true", help="two rounds")
    parser.add_argument("--rounds", type=int, metavar="N", help="samples of each program (default 5, --quick 2)")
    parser.add_argument("--out", type=pathlib.Path, metavar="DIR", default=bench_setup.ROOT / "bench/results",
                        help="folder of the results (default bench/results)")
    parser.add_argument("--list", action="store_true", help="the cases and what they run, without running")
    bench_setup.add_flags(parser)
    args = parser.parse_args()
    args.rounds = args.rounds or (2 if args.quick else 5)
    names = [row.name for row in rows.ROWS]
    for only in args.only:
        if only.partition("/")[0] not in names:
            parser.error(f"--only {only}: expected one of {', '.join(names)}")
    return args


def chosen_cases(row, setup, only):
    if not only:
        return row.cases(setup)
    parts = [o.partition("/")[2] for o in only if o.partition("/")[0] == row.name]
    return [case for case in row.cases(setup) if any(part in case.name for part in parts)] if parts else []


def run_case(case, setup, rounds):
    """[contender][round] samples."""
    samples = [[] for _ in case.contenders]
    try:
        for contender in case.contenders:
            with quiet.locked(setup.lock):
                contender.start()
        for _ in range(case.rounds or rounds):
            for contender, own in zip(case.contenders, samples):
                own.append(quiet.least_disturbed(contender.sample, setup.lock))
    finally:
        for contender in case.contenders:
            contender.stop()
    return samples


def contender_record(contender, samples):
    rates = [s["tokens_per_second"] for s in samples if s.get("tokens_per_second")]
    record = {"label": contender.label, "command": contender.describe()}
    if rates:
        record["tokens_per_second"] = {"median": statistics.median(rates), "min": min(rates), "max": max(rates)}
    record["peak_rss_bytes"] = max(s["peak_rss_bytes"] for s in samples)
    record["others_share"] = max(s["others_share"] for s in samples)
    record.update({key: samples[-1][key] for key in ("torch", "transformers", "commit") if key in samples[-1]})
    record["samples"] = [{k: v for k, v in s.items() if k in ("tokens_per_second", "share_of_roof", "others_share")}
                         for s in samples]
    if "report" in samples[-1]:
        record["last_report"] = samples[-1]["report"]
    return record


def case_record(case, setup, rounds):
    bench_setup.say(case.name)
    try:
        samples = run_case(case, setup, rounds)
        reading = case.read(samples)
        target = case.target(samples) if callable(case.target) else case.target
    except quiet.Failure as error:
        return {"case": case.name, "error": str(error)}
    except KeyError as error:
        return {"case": case.name, "error": f"a report lacks {error}"}
    record = {"case": case.name, "date": datetime.date.today().isoformat(), "unit": case.unit.strip(),
              "value": reading.value, "min": reading.least, "max": reading.most, "rounds": len(samples[0])}
    if target:
        record.update(target=target.bound, target_kind="at most" if target.at_most else "at least",
                      met=target.met(reading.value))
    record["contenders"] = [contender_record(c, s) for c, s in zip(case.contenders, samples)]
    return record


def short_number(value):
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def table_line(record):
    """A line of the Markdown table: case, value, target, rates."""
    if "error" in record:
        return f"| {record['case']} | failed | | {record['error'].replace('|', '/')} |"
    unit = " " + record["unit"]
    value = f"{record['value']:.2f}{unit} ({record['min']:.2f}–{record['max']:.2f})"
    target = ""
    if "target" in record:
        sign = "≤" if record["target_kind"] == "at most" else "≥"
        target = f"{sign} {record['target']:g} {'met' if record['met'] else 'missed'}"
    rates = [f"{c['label']} {short_number(c['tokens_per_second']['median'])} tok/s"
             for c in record["contenders"] if "tokens_per_second" in c]
    others = max(c["others_share"] for c in record["contenders"])
    if others > quiet.NOISY:
        rates.append(f"disturbed: others took up to {100 * others:.0f} %")
    return f"| {record['case']} | {value} | {target} | {', '.join(rates)} |"


def machine_record(setup):
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    return {"cpu": names[0] if names else platform.machine(), "cpus": os.cpu_count(), "threads": setup.threads,
            "memory_bytes": contenders.machine_memory_bytes(), "system": platform.platform()}


def with_earlier_cases(path, row, setup, machine, cases):
    """The cases of this run, among those of earlier runs on this machine that it left out; in the row's order."""
    known = {}
    if path.exists():
        earlier = json.loads(path.read_text(encoding="utf-8"))
        if earlier["machine"] == machine:
            known = {case["case"]: case for case in earlier["cases"]}
    known.update({case["case"]: case for case in cases})
    return [known[case.name] for case in row.cases(setup) if case.name in known]


def write_row(out, row, setup, cases):
    path, machine = out / f"compare-{row.name}.json", machine_record(setup)
    record = {"row": row.name, "what": row.what, "machine": machine,
              "cases": with_earlier_cases(path, row, setup, machine, cases)}
    path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if row.name == "attention" and "contenders" in cases[0]:
        charts.write_attention(out / "compare-attention.svg", cases[0]["contenders"][0]["last_report"])


def list_cases(setup, only):
    for row in rows.ROWS:
        for case in chosen_cases(row, setup, only):
            print(f"{row.name}/{case.name}")
            for contender in case.contenders:
                print(f"    {contender.describe()}")


def main():
    args = parse_args()
    setup = bench_setup.from_flags(args)
    if args.list:
        list_cases(setup, args.only)
        return 0
    if not args.program.is_file():
        sys.exit(f"error: {args.program} is missing: scripts/build.sh builds it")
    args.out.mkdir(parents=True, exist_ok=True)
    failed = 0
    print("| case | result | target | medians |\n|---|---|---|---|")
    for row in rows.ROWS:
        cases = chosen_cases(row, setup, args.only)
        if not cases:
            continue
        print(f"| **{row.what}** | | | |", flush=True)
        records = []
        for case in cases:
            records.append(case_record(case, setup, args.rounds))
            print(table_line(records[-1]), flush=True)
        write_row(args.out, row, setup, records)
        failed += sum("error" in record for record in records)
    bench_setup.say(f"results in {args.out}" + (f", {failed} cases failed" if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
