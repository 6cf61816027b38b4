#!/usr/bin/env python3
"""Brings the books that models/taipan-books was trained on into a folder: FOLDER/train and FOLDER/heldout; others to
train on into FOLDER/more.

Needs a network and nothing but Python. The list is models/taipan-books/books.jsonl: three public collections of texts in
the public domain. What is there already is left alone; a file appears whole or not at all. The collections' forms are
made plain: Markdown's marks of headings go, the body of TEI is taken, lines of a paragraph are joined (indented ones,
such as verse, stay). The list has each text's digest as it was trained on; how many come out otherwise is said.
"""
import argparse
import hashlib
import json
import pathlib
import re
import sys
import urllib.error
import urllib.parse
import urllib.request
import xml.etree.ElementTree as xml

ROOT = pathlib.Path(__file__).resolve().parent.parent
BRANCHES = ("master", "main")
BLOCKS = {"head", "p", "l", "trailer", "quote"}


def paragraphs_joined(text):
    blocks = []
    for block in re.split(r"\n\s*\n", text.replace("\r\n", "\n").strip("\ufeff\n")):
        lines = [line.rstrip() for line in block.split("\n") if line.strip()]
        verse = any(line.startswith(" ") for line in lines)
        blocks.append(("\n" if verse else " ").join(line if verse else line.strip() for line in lines))
    return "\n\n".join(block for block in blocks if block) + "\n"


def from_markdown(text):
    return re.sub(r"^#+ *", "", text, flags=re.M).strip("\n") + "\n"


def from_tei(text):
    body = xml.fromstring(text).find(".//{*}body")
    blocks = []

    def walk(node):
        for child in node:
            if child.tag.rpartition("}")[2] in BLOCKS:
                blocks.append(" ".join("".join(child.itertext()).split()))
            else:
                walk(child)

    walk(body)
    return "\n\n".join(block for block in blocks if block) + "\n"


def plain(path, data):
    text = data.decode("utf-8", errors="replace")
    return {".md": from_markdown, ".xml": from_tei}.get(pathlib.PurePath(path).suffix, paragraphs_joined)(text)


def fetch(book, args):
    for branch in BRANCHES:
        path = urllib.parse.quote(f"{book['source']}/{branch}/{book['path']}")
        try:
            with urllib.request.urlopen(f"{args.mirror}/{path}", timeout=args.timeout) as answer:
                return plain(book["path"], answer.read())
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
    raise FileNotFoundError("not found: " + f"{book['source']}/{book['path']}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--list", type=pathlib.Path, default=ROOT / "models/taipan-books/books.jsonl")
    parser.add_argument("--mirror", default="https://raw.githubusercontent.com", metavar="URL")
    parser.add_argument("--timeout", type=float, default=60, metavar="SECONDS")
    args = parser.parse_args()
    books = [json.loads(line) for line in args.list.read_text(encoding="utf-8").splitlines()]
    missing, differing = [], 0
    for number, book in enumerate(books, 1):
        target = args.folder / book["split"] / book["file"]
        print(f"\r{number} of {len(books)}", end="", file=sys.stderr)
        if not target.exists():
            try:
                text = fetch(book, args)
            except (OSError, xml.ParseError, AttributeError) as error:
                missing.append(f"{book['file']}: {error}")
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            part = target.with_suffix(".part")
            part.write_text(text, encoding="utf-8")
            part.rename(target)
        differing += not hashlib.sha256(target.read_bytes()).hexdigest().startswith(book["sha256"])
    print(f"\n{len(books) - len(missing)} books, {differing} not byte for byte as they were trained on", file=sys.stderr)
    for line in missing:
        print(line, file=sys.stderr)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
