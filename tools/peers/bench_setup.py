"""Where the programs, models and results of a comparison are, and the settings found fastest on this machine."""
import dataclasses
import json
import os
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


def say(text):
    print(f"== {text}", file=sys.stderr, flush=True)


class SettingsFile:
    """Settings by peer and task, kept so that a search is made once."""

    def __init__(self, path, threads, search_again=False):
        self.path, self.threads = path, threads
        self.known = {} if search_again or not path.exists() else json.loads(path.read_text(encoding="utf-8"))

    def find(self, task, search):
        key = f"{task}, {self.threads} threads"
        if key not in self.known:
            self.known[key] = search()
            self.path.write_text(json.dumps(self.known, indent=1) + "\n", encoding="utf-8")
        return self.known[key]


@dataclasses.dataclass(frozen=True)
class Setup:
    peers: pathlib.Path  # the folder that compare.sh fills: venv, llama, gguf
    program: pathlib.Path
    models: pathlib.Path
    threads: int
    lock: str | None
    settings: SettingsFile
    text_model: pathlib.Path | None = None  # a GGUF file with a tokenizer
    thorough: bool = False  # settings whose search takes a quarter of an hour too

    @property
    def python(self):
        return self.peers / "venv/bin/python"

    @property
    def openvino_python(self):
        return self.peers / "openvino/bin/python"

    @property
    def llama_completion(self):
        return self.peers / "llama/bin/llama-completion"

    @property
    def llama_bench(self):
        return self.peers / "llama/bin/llama-bench"

    def gguf(self, model, kind):
        return self.peers / f"gguf/{model}-{kind}.gguf"

    def say(self, text):
        say(text)


def add_flags(parser):
    parser.add_argument("--peers", type=pathlib.Path, metavar="DIR",
                        default=pathlib.Path(os.environ.get("TAIPAN_PEERS", ROOT / "build/peers")),
                        help="folder of the peers (default: TAIPAN_PEERS, else build/peers)")
    parser.add_argument("--program", type=pathlib.Path, metavar="FILE", default=ROOT / "build/taipan")
    parser.add_argument("--models", type=pathlib.Path, metavar="DIR", default=ROOT / "bench/models")
    parser.add_argument("--threads", type=int, metavar="N", default=len(os.sched_getaffinity(0)),
                        help="of every program (default: the CPUs allowed)")
    parser.add_argument("--text-model", type=pathlib.Path, metavar="GGUF",
                        default=os.environ.get("TAIPAN_TEXT_MODEL"),
                        help="a Llama with its tokenizer, such as SmolLM2-135M in Q8_0, for the rows openvino and "
                        "first-token (default: TAIPAN_TEXT_MODEL; without it they are left out)")
    parser.add_argument("--lock", metavar="FILE", help="lock file to hold while something is timed")
    parser.add_argument("--thorough", action="store_true",
                        help="try PyTorch's compilation of whole models of 100 M parameters too (a quarter of an hour)")
    parser.add_argument("--retune", action="store_true", help="search the peers' fastest settings again")


def from_flags(args):
    if not args.peers.is_dir() and not args.list:
        sys.exit(f"error: {args.peers}: no such folder: scripts/compare.sh --setup makes it")
    settings = SettingsFile(args.peers / "settings.json", args.threads, args.retune)
    return Setup(args.peers.resolve(), args.program.resolve(), args.models.resolve(), args.threads, args.lock, settings,
                 args.text_model and pathlib.Path(args.text_model).resolve(), args.thorough)
