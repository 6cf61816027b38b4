#!/usr/bin/env python3
"""Checks that the tokenizer of a model survives `taipan convert` between folders and GGUF files.

For each model, a .gguf file or a folder with a tokenizer, or a tokenizer.model (a tiny model is made around it): the
model is written in the other form and back, and every text is tokenized by this program on the folder, by transformers
(AutoTokenizer) on the same folder and by llama.cpp on the GGUF file. All of the ids must be equal. Exits 1 where they
are not, 77 where the packages are not installed.
"""
import argparse
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

try:
    import llama_cpp
    import transformers
except ImportError as error:
    print(f"skipped: {error.name} is not installed")
    sys.exit(77)

TINY = {"model_type": "taipan", "hidden_size": 32, "intermediate_size": 32, "layer_pattern": ["attention"],
        "num_attention_heads": 1, "num_key_value_heads": 1, "attention_head_dim": 32, "rope_theta": 10000.0}


def run(program, *arguments, text=None):
    result = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, input=text)
    if result.returncode != 0:
        sys.exit(f"error: {' '.join(map(str, arguments))}: {result.stderr.strip()}")
    for line in result.stderr.splitlines():
        if "tokenizer" in line or "GGUF" in line:
            print("  note:", line)
    return result.stdout


def around_pieces(program, model, work):
    """A folder with a tiny model of this tokenizer.model's vocabulary."""
    import sentencepiece
    size = sentencepiece.SentencePieceProcessor(model_file=str(model)).get_piece_size()
    (work / "given.json").write_text(json.dumps(TINY | {"vocab_size": size}))
    run(program, "init", "--config", work / "given.json", "--out", work / "tiny")
    shutil.copy(model, work / "tiny/tokenizer.model")
    (work / "tiny/tokenizer_config.json").write_text(
        '{"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}')
    return work / "tiny"


def pieces_of(path, size=3000, most=200):
    """Parts of a file that end between lines, so that no part is long."""
    parts, part = [], ""
    for line in path.read_text(errors="ignore").splitlines(keepends=True):
        part += line
        if len(part) > size:
            parts.append(part)
            part = ""
    return (parts + [part])[:most] if part or parts else []


def llama_ids(llama, text):
    return llama.tokenize(text.encode(), add_bos=False, special=False)


def check(program, model, texts, work):
    model = pathlib.Path(model)
    if model.is_file() and model.suffix != ".gguf":
        model = around_pieces(program, model, work)
    if model.is_dir():
        folder, gguf, back = model, work / "a.gguf", work / "back"
        run(program, "convert", folder, gguf)
        run(program, "convert", gguf, back)
    else:
        folder, gguf, back = work / "folder", work / "back.gguf", work / "again"
        run(program, "convert", model, folder)
        run(program, "convert", folder, gguf)
        run(program, "convert", gguf, back)
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
    ours = [json.loads(line)["ids"]
            for line in run(program, "tokenizer", "encode", "--tokenizer", folder, "--jsonl", "-", text=lines).splitlines()]
    again = [json.loads(line)["ids"]
             for line in run(program, "tokenizer", "encode", "--tokenizer", back, "--jsonl", "-", text=lines).splitlines()]
    llama = llama_cpp.Llama(str(gguf), vocab_only=True, verbose=False)
    original = llama_cpp.Llama(str(model), vocab_only=True, verbose=False) if model.is_file() else llama
    transformed = transformers.AutoTokenizer.from_pretrained(str(back))
    different = dict.fromkeys(("there and back", "transformers", "llama.cpp", "llama.cpp on the original"), 0)
    for i, text in enumerate(texts):
        different["there and back"] += ours[i] != again[i]
        different["transformers"] += ours[i] != transformed.encode(text, add_special_tokens=False)
        different["llama.cpp"] += ours[i] != llama_ids(llama, text)
        different["llama.cpp on the original"] += ours[i] != llama_ids(original, text)
    print(f"  {len(texts)} texts, {sum(len(text.encode()) for text in texts)} bytes, {sum(map(len, ours))} tokens;",
          "different:", ", ".join(f"{name} {count}" for name, count in different.items()))
    begin = [transformed.encode("a")[:1], llama.tokenize(b"a", add_bos=True)[:1]]
    print(f"  first ids of a text with special tokens: transformers {begin[0]}, llama.cpp {begin[1]}")
    return sum(different.values())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default="build/taipan")
    parser.add_argument("--texts", nargs="+", required=True, help="UTF-8 files")
    parser.add_argument("models", nargs="+")
    options = parser.parse_args()
    texts = [part for name in options.texts for part in pieces_of(pathlib.Path(name))]
    failures = 0
    for model in options.models:
        print(model)
        with tempfile.TemporaryDirectory() as work:
            failures += check(options.program, model, texts, pathlib.Path(work))
    sys.exit(failures > 0)


if __name__ == "__main__":
    main()
