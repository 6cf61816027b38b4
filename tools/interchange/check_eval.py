#!/usr/bin/env python3
"""Compares `taipan eval` with lm-evaluation-harness: its task files render the items, its HFLM scores them.

Needs torch, transformers, datasets and lm_eval 0.4.13. The model is a Hugging Face directory that both can read; the data
is the folder that `taipan eval --data` takes. Every item is compared: log p of each choice, the choice by acc and acc_norm.
Choices must agree where the margin between the two best is above --margin; the others are listed.
Exit code 1 where a choice differs beyond it or a log-probability is further off than --tolerance.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import time


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def labels(path):
    return path.read_text(encoding="utf-8").split()


def first(folder, *names):
    for name in names:
        if (folder / name).exists():
            return folder / name
    raise FileNotFoundError(f"{folder}: none of {', '.join(names)}")


# The rows of the data sets that the task files ask for, made of the published files.
def arc(data, name):
    for row in lines(data / "arc" / name):
        choices = row["question"]["choices"]
        yield {"question": row["question"]["stem"], "answerKey": row["answerKey"],
               "choices": {"text": [c["text"] for c in choices], "label": [c["label"] for c in choices]}}


def openbookqa(data):
    for row in lines(data / "openbookqa/test.jsonl"):
        choices = row["question"]["choices"]
        yield {"question_stem": row["question"]["stem"], "answerKey": row["answerKey"],
               "choices": {"text": [c["text"] for c in choices], "label": [c["label"] for c in choices]}}


def piqa(data):
    for row, label in zip(lines(data / "piqa/valid.jsonl"), labels(data / "piqa/valid-labels.lst")):
        yield {"goal": row["goal"], "sol1": row["sol1"], "sol2": row["sol2"], "label": int(label)}


def winogrande(data):
    for row in lines(data / "winogrande/dev.jsonl"):
        yield {key: row[key] for key in ("sentence", "option1", "option2", "answer")}


def hellaswag(data):
    for row in lines(data / "hellaswag/hellaswag_val.jsonl"):
        yield {"activity_label": row["activity_label"], "ctx_a": row["ctx_a"], "ctx_b": row["ctx_b"],
               "endings": row["endings"], "label": str(row["label"])}


def race(data):
    for row in lines(data / "race/test.high.jsonl"):
        problems = [{"question": q, "options": o, "answer": a}
                    for q, o, a in zip(row["questions"], row["options"], row["answers"])]
        yield {"article": row["article"], "problems": str(problems)}


def truthfulqa(data):
    for row in json.loads((data / "truthfulqa/mc_task.json").read_text(encoding="utf-8")):
        yield {"question": row["question"],
               **{key: {"choices": list(row[key]), "labels": list(row[key].values())}
                  for key in ("mc1_targets", "mc2_targets")}}


def boolq(data):
    for row in lines(first(data, "boolq/val.jsonl", "boolq/val.superglue.jsonl")):
        yield {"passage": row["passage"], "question": row["question"], "label": int(row["label"])}


def lambada(data):
    for row in lines(data / "lambada/lambada_test.jsonl"):
        yield {"text": row["text"]}


# our task: (the harness's task file, rows)
TASKS = {
    "winogrande": ("winogrande/default.yaml", winogrande),
    "piqa": ("piqa/piqa.yaml", piqa),
    "hellaswag": ("hellaswag/hellaswag.yaml", hellaswag),
    "arc_easy": ("arc/arc_easy.yaml", lambda data: arc(data, "ARC-Easy-Test.jsonl")),
    "arc_challenge": ("arc/arc_challenge.yaml", lambda data: arc(data, "ARC-Challenge-Test.jsonl")),
    "openbookqa": ("openbookqa/openbookqa.yaml", openbookqa),
    "truthfulqa_mc1": ("truthfulqa/truthfulqa_mc1.yaml", truthfulqa),
    "truthfulqa_mc2": ("truthfulqa/truthfulqa_mc2.yaml", truthfulqa),
    "race": ("race/race.yaml", race),
    "boolq": ("super_glue/boolq/default.yaml", boolq),
    "lambada": ("lambada/lambada_openai.yaml", lambada),
}


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", type=pathlib.Path, default=pathlib.Path("build/taipan"))
    parser.add_argument("--model", type=pathlib.Path, required=True, metavar="DIR")
    parser.add_argument("--data", type=pathlib.Path, required=True, metavar="DIR")
    parser.add_argument("--tasks", default=",".join(TASKS), metavar="LIST", help="of %(default)s")
    parser.add_argument("--items", type=int, default=200, help="the first items of each task (default 200)")
    parser.add_argument("--batch-size", type=int, default=8, help="of the harness's model")
    parser.add_argument("--margin", type=float, default=1e-3, help="nats within which a choice may differ")
    parser.add_argument("--tolerance", type=float, default=1e-2, help="nats a continuation (default 0.01)")
    parser.add_argument("--keep", type=pathlib.Path, metavar="FOLDER", help="of our results (default: a temporary one)")
    return parser.parse_args()


def harness_task(name, data, items):
    import datasets
    from lm_eval.api.task import ConfigurableTask
    from lm_eval import tasks
    from lm_eval.tasks._yaml_loader import load_yaml

    file, rows = TASKS[name]
    config = load_yaml(pathlib.Path(tasks.__file__).parent / file, resolve_func=True)
    config = {key: value for key, value in config.items() if key not in ("tag", "group")}
    asked = datasets.Dataset.from_list([row for row, _ in zip(rows(data), range(items))])
    config["custom_dataset"] = lambda **_: {split: asked for split in ("train", "validation", "test")}
    return ConfigurableTask(config=config)


def harness_results(task, lm):
    """For each item: log p of its choices, whether greedy, and what the harness makes of them."""
    docs = list(task.eval_docs)
    requests = []
    for doc in docs:
        made = task.construct_requests(doc, task.fewshot_context(doc, 0), metadata=("", 0, 1))
        requests.append(made if isinstance(made, list) else [made])
    scores = iter(lm.loglikelihood([r for made in requests for r in made], disable_tqdm=True))
    results = []
    for doc, made in zip(docs, requests):
        own = [next(scores) for _ in made]
        values = task.process_results(doc, own)
        results.append({"logprobs": [s for s, _ in own], "greedy": [bool(g) for _, g in own], "values": values})
    return results


def our_results(args, name, folder):
    command = [args.program, "eval", args.model, "--tasks", name, "--data", args.data, "--limit", str(args.items),
               "--out", folder, "--dtype", "f32", "--json"]
    out = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout
    kept = [json.loads(line) for line in (folder / f"items/{name}.jsonl").read_text(encoding="utf-8").splitlines()[1:]]
    asked = [item for item in kept if item["item"] < args.items]  # a folder may hold more
    return json.loads(out)["tasks"][0], sorted(asked, key=lambda item: item["item"])


def best(values):
    return max(range(len(values)), key=values.__getitem__)


def margin(values):
    ranked = sorted(values, reverse=True)
    return ranked[0] - ranked[1] if len(ranked) > 1 else float("inf")


def check(name, args, lm, folder):
    start = time.monotonic()
    summary, mine = our_results(args, name, folder)
    middle = time.monotonic()
    theirs = harness_results(harness_task(name, args.data, args.items), lm)
    end = time.monotonic()
    if len(mine) != len(theirs):
        print(f"{name}: {len(mine)} items here, {len(theirs)} there")
        return False
    furthest, wrong, close = 0.0, 0, []
    for i, (a, b) in enumerate(zip(mine, theirs)):
        furthest = max([furthest] + [abs(x - y) for x, y in zip(a["logprobs"], b["logprobs"])])
        if len(a["logprobs"]) != len(b["logprobs"]) or best(a["logprobs"]) != best(b["logprobs"]):
            if margin(b["logprobs"]) > args.margin:
                wrong += 1
            else:
                close.append(i)
        wrong += name == "lambada" and a["greedy"] != b["greedy"]
    metrics = []
    for metric in ("acc", "acc_norm"):
        if metric in theirs[0]["values"]:
            there = sum(float(t["values"][metric]) for t in theirs) / len(theirs)
            metrics.append(f"{metric} {summary[metric]:.4f} against {there:.4f}")
    print(f"{name}: {len(mine)} items, {sum(len(b['logprobs']) for b in theirs)} continuations: choices that differ "
          f"{wrong}, within the margin {close}; log p at most {furthest:.2e} apart; {', '.join(metrics)}; "
          f"{middle - start:.0f} s, harness {end - middle:.0f} s", flush=True)
    return wrong == 0 and furthest <= args.tolerance


def main():
    args = parse_args()
    import torch
    import transformers
    from lm_eval.models.huggingface import HFLM

    model = transformers.AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32)
    tokenizer = transformers.AutoTokenizer.from_pretrained(args.model)
    lm = HFLM(pretrained=model, tokenizer=tokenizer, device="cpu", batch_size=args.batch_size)
    good = True
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.keep or pathlib.Path(temporary) / "results"
        for name in args.tasks.split(","):
            good &= check(name, args, lm, folder)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
