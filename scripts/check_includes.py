#!/usr/bin/env python3
"""Rejects includes that point up or sideways between the folders of src/, and dependencies outside their one file.

Reads #include lines only; needs no build. Prints every violation, exits 1 if there is one.
"""
import pathlib
import re
import sys

LEVELS = {
    "base": 0,
    "tensor": 1, "plot": 1,
    "kernels": 2, "formats": 2, "text": 2, "dist": 2,
    "layers": 3,
    "model": 4, "data": 4,
    "train": 5, "infer": 5,
    "eval": 6, "server": 6, "api": 6,
    "cli": 7,
}

# header -> files that may include it
CONFINED = [
    (re.compile(r"(oneapi/dnnl/|dnnl).*"), re.compile(r"kernels/gemm/gemm\w*\.cc"), "oneDNN stays in kernels/gemm/gemm*.cc"),
    (re.compile(r"omp\.h"), re.compile(r"base/parallel\.cc"), "OpenMP stays in base/parallel.cc"),
    (re.compile(r"mpi\.h"), re.compile(r"dist/mpi_plugin\.cc"), "MPI stays in dist/mpi_plugin.cc"),
    (re.compile(r"CLI/.*"), re.compile(r"cli/.*"), "CLI11 stays in cli"),
    (re.compile(r"taipan/.*"), re.compile(r"api/.*"), "the public header is for api alone"),
]
TEST_ONLY = re.compile(r"(.*/)?(test_\w+|\w+_reference|\w+_test_\w+)\.h")
MAY_USE_TEST_ONLY = re.compile(r".*_(test|bench)\.cc|.*_reference\.(h|cc)|(.*/)?test_\w+\.(h|cc)")
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')
HIGHWAY_TARGET = re.compile(r'^\s*#\s*define\s+HWY_TARGET_INCLUDE\s+"([^"]+)"')


def problems_of(path, src):
    name = path.relative_to(src).as_posix()
    folder = name.split("/")[0]
    if folder not in LEVELS:
        yield 0, f"folder {folder} has no level"
        return
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        target = HIGHWAY_TARGET.match(line)
        if target and target.group(1) != name:
            yield number, f"HWY_TARGET_INCLUDE names {target.group(1)}, this is {name}"
        match = INCLUDE.match(line)
        if not match:
            continue
        quote, header = match.groups()
        for what, where, rule in CONFINED:
            if what.fullmatch(header) and not where.fullmatch(name):
                yield number, f"{header}: {rule}"
        if quote == "<" or header.startswith(("hwy/", "taipan/")):
            continue
        if not (src / header).is_file():
            yield number, f"{header}: no such file below src/ (includes are relative to src/)"
            continue
        other = header.split("/")[0]
        if other != folder and not LEVELS.get(other, 99) < LEVELS[folder]:
            yield number, f"{header}: {other} (level {LEVELS.get(other, '?')}) from {folder} (level {LEVELS[folder]})"
        if TEST_ONLY.fullmatch(header) and not MAY_USE_TEST_ONLY.fullmatch(name):
            yield number, f"{header}: for tests only"


def main():
    src = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent.parent / "src")
    files = sorted(p for p in src.rglob("*") if p.suffix in (".h", ".cc"))
    count = 0
    for path in files:
        for number, problem in problems_of(path, src):
            print(f"{path}:{number}: {problem}")
            count += 1
    print(f"includes: {len(files)} files, {count} problems")
    return 1 if count or not files else 0


if __name__ == "__main__":
    sys.exit(main())
