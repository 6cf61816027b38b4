"""The programs that compare.py lets run against each other.

A contender gives one sample at a time, a dictionary with tokens_per_second, peak_rss_bytes and others_share (the share
of the machine that went to other programs meanwhile); start and stop frame its samples. A peer finds its fastest
settings when it starts, once for a machine.
"""
import contextlib
import json
import pathlib
import statistics
import subprocess
import time

import bench_llama
import quiet

TOOLS = pathlib.Path(__file__).resolve().parent
MOST_MEMORY = 0.55  # of the machine's, in a peer that stays alive: beyond it starts afresh
TUNING_SAMPLES = 2

# What PyTorch's tuning guide advises for CPUs.
JEMALLOC = {
    "LD_PRELOAD": "libjemalloc.so.2",
    "MALLOC_CONF": "oversize_threshold:1,background_thread:true,metadata_thp:auto,dirty_decay_ms:-1,"
                   "muzzy_decay_ms:-1,thp:always",
    "THP_MEM_ALLOC_ENABLE": "1",
}


def machine_memory_bytes():
    with open("/proc/meminfo", encoding="utf-8") as file:
        return int(file.readline().split()[1]) * 1024


def text_of(options):
    return " ".join(f"--{name} {value}" for name, value in options.items())


class Ours:
    """taipan bench COMMAND; a process a sample. A model of bench/models with random weights, its GGUF file where a
    type is given, a preset, or any file."""

    def __init__(self, setup, command, model, options, label="taipan", type=None, file=None):
        file = file or (setup.gguf(model, type) if type else setup.models / f"{model}.json")
        preset = not type and not file.exists()
        self.label, self.busy = label, False
        self.flags = f"taipan bench {command} --model {model if preset else file.name} {text_of(options)}"
        self.command = [str(setup.program), "bench", command, "--model", model if preset else str(file),
                        *text_of(options).split(), "--threads", str(setup.threads), "--json"]

    def with_flag(self, flag):
        self.flags += " " + flag
        self.command.append(flag)
        return self

    def beside_busy_process(self):
        """Samples run while another program keeps one CPU busy, with no priority over it."""
        self.busy = True
        return self

    def describe(self):
        return self.flags + (" (beside a busy process)" if self.busy else "")

    def start(self):
        pass

    def sample(self):
        with quiet.busy_cpu() if self.busy else contextlib.nullcontext():
            output, peak, others = quiet.run(self.command, priority=0 if self.busy else quiet.PRIORITY)
        try:
            report = json.loads(output)
        except json.JSONDecodeError as error:
            raise quiet.Failure(f"{self.flags}: its report is not JSON: {error}") from None
        if "model" in report:
            report["model"] = pathlib.Path(report["model"]).stem  # where the folder lies says nothing
        sample = {"peak_rss_bytes": peak, "others_share": 0.0 if self.busy else others, "report": report}
        if "tokens_per_second" in report:
            sample["tokens_per_second"] = report["tokens_per_second"]["median"]
        if report.get("share_of_roof") is not None:
            sample["share_of_roof"] = report["share_of_roof"]
        return sample

    def stop(self):
        pass


class Torch:
    """bench_torch.py, started and warmed up once, asleep between samples. `candidates` are options to choose from; a
    sample is the median of `repeat` passes."""

    def __init__(self, setup, model, options, candidates, repeat=1):
        self.setup, self.model, self.options, self.candidates, self.repeat = setup, model, options, candidates, repeat
        self.label, self.process, self.errors, self.chosen, self.versions = "PyTorch", None, None, candidates[0], {}

    def describe(self):
        return f"bench_torch.py --model {self.model}.json {text_of({**self.options, **self.chosen})}"

    def start(self):
        if len(self.candidates) > 1:
            of = ", ".join(text_of(candidate) for candidate in self.candidates)
            self.chosen = self.setup.settings.find(f"PyTorch {self.model} {text_of(self.options)}, best of {of}",
                                                   self.tune)
        self.open()

    def tune(self):
        rates = []
        for self.chosen in self.candidates:
            self.open()
            rates.append(max(quiet.least_disturbed(self.once)["tokens_per_second"] for _ in range(TUNING_SAMPLES)))
            self.stop()
            self.setup.say(f"{self.describe()}: {rates[-1]:.1f} tokens/s")
        return self.candidates[rates.index(max(rates))]

    def open(self):
        command = [str(self.setup.python), str(TOOLS / "bench_torch.py"), "--serve",
                   "--model", str(self.setup.models / f"{self.model}.json"), "--threads", str(self.setup.threads),
                   *text_of({**self.options, **self.chosen}).split()]
        self.errors = open(self.setup.peers / "torch.log", "w", encoding="utf-8")  # compilers write much
        self.process = quiet.start(command, JEMALLOC, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   stderr=self.errors)
        ready = self.read()
        self.versions = {name: ready[name] for name in ("torch", "transformers")}

    def read(self):
        line = self.process.stdout.readline()
        if line:
            return json.loads(line)
        status = self.process.wait()
        words = quiet.last_words(pathlib.Path(self.errors.name).read_text(encoding="utf-8"))
        raise quiet.Failure(f"{self.describe()}: exit {status}: {words or 'no message'}")

    def once(self):
        meter, before = quiet.Meter(), quiet.process_cpu_seconds(self.process.pid)
        try:
            print(file=self.process.stdin, flush=True)
        except BrokenPipeError:
            pass  # read() says what happened
        result = self.read()
        result["others_share"] = meter.others_share(quiet.process_cpu_seconds(self.process.pid) - before)
        return result

    def sample(self):
        passes = [self.once() for _ in range(self.repeat)]
        if passes[-1]["peak_rss_bytes"] > MOST_MEMORY * machine_memory_bytes():
            self.stop()
            self.open()
        return {"tokens_per_second": statistics.median(p["tokens_per_second"] for p in passes),
                "peak_rss_bytes": passes[-1]["peak_rss_bytes"],
                "others_share": statistics.mean(p["others_share"] for p in passes), **self.versions}

    def stop(self):
        if self.process is None:
            return
        try:
            self.process.stdin.close()
        except BrokenPipeError:
            pass
        self.process.wait()
        self.errors.close()
        self.process = None


class Llama:
    """llama-bench at its fastest type, micro batch and attention for this model and prompt; a process a sample."""

    def __init__(self, setup, model, prompt, repeat=1):
        self.setup, self.model, self.prompt, self.repeat = setup, model, prompt, repeat
        self.label, self.settings = "llama.cpp", bench_llama.Settings()

    def describe(self):
        return f"llama-bench {self.model}, {self.prompt} tokens, {self.settings.describe()}"

    def start(self):
        prompt = min(self.prompt, bench_llama.TUNE_PROMPT)
        self.settings = bench_llama.Settings(**self.setup.settings.find(
            f"llama.cpp {self.model} {prompt} tokens",
            lambda: bench_llama.search(self.setup, self.model, prompt, TUNING_SAMPLES).to_json()))

    def sample(self):
        return self.settings.sample(self.setup, self.model, self.prompt, self.repeat)

    def stop(self):
        pass


class LlamaDecode:
    """llama-bench generating from files of one type, at its fastest number of threads; a process a sample."""

    def __init__(self, setup, model, type, context=0, label=None, cache="f16"):
        self.setup, self.model, self.type, self.context, self.cache = setup, model, type, context, cache
        self.label, self.threads, self.busy = label or f"llama.cpp {type}", setup.threads, False

    def describe(self):
        return (f"llama-bench {self.model}-{self.type}, {bench_llama.DECODE_TOKENS} tokens after {self.context}, "
                f"keys and values in {self.cache}, {self.threads} threads" + (" (beside a busy process)" if self.busy else ""))

    def beside_busy_process(self):
        self.busy = True
        return self

    def start(self):
        self.threads = self.setup.settings.find(f"llama.cpp {self.model} {self.type} decoding", self.tune)

    def tune(self):
        rates = {threads: max(quiet.least_disturbed(lambda: bench_llama.decode(
            self.setup, self.model, self.type, 0, threads))["tokens_per_second"] for _ in range(TUNING_SAMPLES))
                 for threads in range(1, self.setup.threads + 1)}
        self.setup.say(f"llama.cpp, {self.model}-{self.type}, tokens/s by threads: {rates}")
        return max(rates, key=rates.get)

    def sample(self):
        with quiet.busy_cpu() if self.busy else contextlib.nullcontext():
            sample = bench_llama.decode(self.setup, self.model, self.type, self.context, self.threads,
                                        0 if self.busy else quiet.PRIORITY, self.cache)
        return {**sample, "others_share": 0.0} if self.busy else sample

    def stop(self):
        pass


class OpenVino:
    """bench_openvino.py with a GGUF file; a process a sample, loading not timed."""

    def __init__(self, setup, mode, file, tokens):
        self.label, self.file = "OpenVINO", file
        self.command = [str(setup.openvino_python), str(TOOLS / "bench_openvino.py"), "--mode", mode,
                        "--model", str(file), "--tokens", str(tokens), "--threads", str(setup.threads)]

    def describe(self):
        return " ".join([pathlib.Path(self.command[1]).name, *self.command[2:]]).replace(str(self.file), self.file.name)

    def start(self):
        pass

    def sample(self):
        output, peak, others = quiet.run(self.command)
        return {**json.loads(output.splitlines()[-1]), "peak_rss_bytes": peak, "others_share": others}

    def stop(self):
        pass


class WholeProgram:
    """A command from its start to its end, files in the page cache; the rate is of runs."""

    def __init__(self, label, command, file):
        self.label, self.command, self.file = label, command, file

    def describe(self):
        words = [pathlib.Path(self.command[0]).name, *self.command[1:]]
        return " ".join(words).replace(str(self.file), self.file.name)

    def start(self):
        self.sample()

    def sample(self):
        start = time.monotonic()
        _, peak, others = quiet.run(self.command)
        return {"tokens_per_second": 1 / (time.monotonic() - start), "peak_rss_bytes": peak, "others_share": others}

    def stop(self):
        pass
