#!/usr/bin/env python3
"""Brings the public data sets of `taipan eval` into a folder, in the layout that docs/evaluation.md describes.

Needs a network and nothing but Python. What is there already is left alone; a file appears whole or not at all.
Each data set keeps its own licence, which is printed; RACE is for research that is not commercial.
"""
import argparse
import io
import json
import pathlib
import sys
import tarfile
import time
import urllib.parse
import urllib.request
import zipfile

AI2 = "https://ai2-public-datasets.s3.amazonaws.com/"
MOSAIC = "https://storage.googleapis.com/ai2-mosaic/public/"
ROWS = "https://datasets-server.huggingface.co/rows?"

# task: (licence, [(target, items or None, address, member of an archive)])
SETS = {
    "arc": ("CC BY-SA 4.0", [
        ("arc/ARC-Easy-Test.jsonl", 2376, AI2 + "arc/ARC-V1-Feb2018.zip", "ARC-Easy/ARC-Easy-Test.jsonl"),
        ("arc/ARC-Challenge-Test.jsonl", 1172, AI2 + "arc/ARC-V1-Feb2018.zip",
         "ARC-Challenge/ARC-Challenge-Test.jsonl")]),
    "openbookqa": ("Apache-2.0", [
        ("openbookqa/test.jsonl", 500, AI2 + "open-book-qa/OpenBookQA-V1-Sep2018.zip", "Data/Main/test.jsonl")]),
    "piqa": ("AFL-3.0", [
        ("piqa/valid.jsonl", 1838, MOSAIC + "physicaliqa/physicaliqa-train-dev.zip", "dev.jsonl"),
        ("piqa/valid-labels.lst", 1838, MOSAIC + "physicaliqa/physicaliqa-train-dev.zip", "dev-labels.lst")]),
    "winogrande": ("CC BY 4.0", [
        ("winogrande/dev.jsonl", 1267, MOSAIC + "winogrande/winogrande_1.1.zip", "winogrande_1.1/dev.jsonl"),
        ("winogrande/dev-labels.lst", 1267, MOSAIC + "winogrande/winogrande_1.1.zip",
         "winogrande_1.1/dev-labels.lst")]),
    "hellaswag": ("MIT", [
        ("hellaswag/hellaswag_val.jsonl", 10042,
         "https://raw.githubusercontent.com/rowanz/hellaswag/master/data/hellaswag_val.jsonl", None)]),
    "truthfulqa": ("Apache-2.0", [
        ("truthfulqa/mc_task.json", None,
         "https://raw.githubusercontent.com/sylinrl/TruthfulQA/main/data/mc_task.json", None)]),
    "boolq": ("CC BY-SA 3.0", [
        ("boolq/val.jsonl", 3270, "https://dl.fbaipublicfiles.com/glue/superglue/data/v2/BoolQ.zip", "BoolQ/val.jsonl")]),
    "race": ("for research that is not commercial", [
        ("race/test/high", 1045, "https://www.cs.cmu.edu/~glai1/data/race/RACE.tar.gz", "RACE/test/high/"),
        ("race/test/middle", 362, "https://www.cs.cmu.edu/~glai1/data/race/RACE.tar.gz", "RACE/test/middle/")]),
    "lambada": ("CC BY 4.0", [
        ("lambada/lambada_test.jsonl", 5153,
         "https://openaipublic.blob.core.windows.net/gpt-2/data/lambada_test.jsonl", None)]),
    "squad": ("CC BY-SA 4.0", [
        ("squad/squad.jsonl", None, ROWS + "dataset=hazyresearch/based-squad&config=default&split=validation", "rows")]),
    "swde": ("none stated", [
        ("swde/swde.jsonl", None, ROWS + "dataset=hazyresearch/based-swde-v2&config=default&split=validation", "rows")]),
    "fda": ("none stated", [
        ("fda/fda.jsonl", None, ROWS + "dataset=hazyresearch/based-fda&config=default&split=validation", "rows")]),
}


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path, help="becomes --data of `taipan eval`")
    parser.add_argument("--sets", default=",".join(SETS), metavar="LIST", help="of these (default: %(default)s)")
    parser.add_argument("--mirror", metavar="URL",
                        help="ask this address instead: host and path of each source behind it")
    parser.add_argument("--timeout", type=float, default=60, metavar="SECONDS")
    args = parser.parse_args()
    args.sets = args.sets.split(",")
    unknown = [name for name in args.sets if name not in SETS]
    if unknown:
        parser.error(f"no such set: {', '.join(unknown)}")
    return args


class Source:
    """Downloads; an archive that several files come from is asked for once."""

    def __init__(self, args):
        self.mirror, self.timeout, self.kept = args.mirror, args.timeout, {}

    def get(self, address):
        if address not in self.kept:
            asked = address
            if self.mirror:
                parts = urllib.parse.urlsplit(address)
                asked = self.mirror.rstrip("/") + "/" + parts.netloc + parts.path + ("?" + parts.query if parts.query else "")
            print(f"  {asked}", flush=True)
            request = urllib.request.Request(asked, headers={"User-Agent": "taipan"})
            with urllib.request.urlopen(request, timeout=self.timeout) as answer:
                self.kept = {address: answer.read()}
        return self.kept[address]

    def rows(self, address):
        """All rows of a data set that is served in pages."""
        lines, total = [], 1
        while len(lines) < total:
            page = json.loads(self.get(f"{address}&offset={len(lines)}&length=100"))
            if not page["rows"]:
                raise ValueError(f"{len(lines)} rows where {total} are announced")
            total = page["num_rows_total"]
            lines += [json.dumps(row["row"], ensure_ascii=False) for row in page["rows"]]
            time.sleep(0.2)
        return ("\n".join(lines) + "\n").encode()


def members(archive, name):
    """(path, bytes) of an archive's files whose path ends with `name`, or has it within where it ends with a slash."""
    def wanted(path):
        return name in path and path.endswith(".txt") if name.endswith("/") else ("/" + path).endswith("/" + name)

    if zipfile.is_zipfile(io.BytesIO(archive)):
        with zipfile.ZipFile(io.BytesIO(archive)) as files:
            return [(path, files.read(path)) for path in files.namelist()
                    if wanted(path) and "__MACOSX" not in path]
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        return [(member.name, files.extractfile(member).read()) for member in files
                if member.isfile() and wanted(member.name)]


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_bytes(content)
    part.replace(path)


def require(found, expected, what):
    if expected is not None and found != expected:
        raise ValueError(f"{what}: {found} items, {expected} expected")


def fetch(source, folder, target, items, address, member):
    path = folder / target
    if member == "rows":
        put(path, source.rows(address))
    elif member is None:
        content = source.get(address)
        json.loads(content.splitlines()[0] if target.endswith(".jsonl") else content)
        require(len(content.splitlines()), items, target)
        put(path, content)
    elif member.endswith("/"):  # a folder of passages
        files = members(source.get(address), member)
        require(len(files), items, target)
        part = path.with_name(path.name + ".part")
        for name, content in files:
            put(part / name.rsplit("/", 1)[1], content)
        part.replace(path)
    else:
        files = members(source.get(address), member)
        if len(files) != 1:
            raise ValueError(f"{len(files)} files {member} in {address}")
        require(len(files[0][1].splitlines()), items, target)
        put(path, files[0][1])


def main():
    args = parse_args()
    source, failed = Source(args), []
    for name in args.sets:
        licence, files = SETS[name]
        print(f"{name} (licence: {licence})", flush=True)
        for target, items, address, member in files:
            if (args.folder / target).exists():
                print(f"  {target} is there")
                continue
            try:
                fetch(source, args.folder, target, items, address, member)
                print(f"  {target}")
            except (OSError, ValueError, KeyError, tarfile.TarError, zipfile.BadZipFile) as error:
                failed.append(target)
                print(f"  FAILED: {target}: {error}", file=sys.stderr)
    if failed:
        print(f"{len(failed)} of the files could not be had: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
