#!/usr/bin/env python3
"""Times llama.cpp's prefill on a model of bench/models with llama-bench, or finds its fastest settings.

Without --tune: one sample a line for the settings given. With --tune: tries the weight types, then micro batches, then
(with attention layers) no flash attention, keeping the fastest so far; says each try and prints the best.
A sample is {"tokens_per_second", "peak_rss_bytes", "others_share"}.
"""
import argparse
import dataclasses
import json
import statistics
import sys

import bench_setup
import model_file
import quiet

TYPES = ["BF16", "Q8_0", "Q4_0"]
MICRO_BATCHES = [128, 256, 1024]  # beside llama.cpp's default of 512
DECODE_TOKENS = 64
TUNE_PROMPT = 4096  # tokens: longer prompts take the settings of this length
WARM_PROMPT = 4096  # tokens: longer prompts run without a warm-up, as it costs as much as the sample


@dataclasses.dataclass(frozen=True)
class Settings:
    type: str = "BF16"
    micro_batch: int = 512
    flash_attention: bool = True

    def to_json(self):
        return dataclasses.asdict(self)

    def describe(self):
        return f"{self.type}, micro batch {self.micro_batch}, flash attention {'on' if self.flash_attention else 'off'}"

    def command(self, setup, model, prompt, repeat):
        command = [str(setup.llama_bench), "-m", str(setup.gguf(model, self.type)), "-p", str(prompt), "-n", "0",
                   "-r", str(repeat), "-o", "json", "-t", str(setup.threads), "-ub", str(self.micro_batch),
                   "-b", str(max(2048, self.micro_batch)), "-fa", str(int(self.flash_attention))]
        return command + (["--no-warmup"] if prompt > WARM_PROMPT else [])

    def sample(self, setup, model, prompt, repeat=1):
        return sample_of(self.command(setup, model, prompt, repeat))


def sample_of(command, priority=quiet.PRIORITY):
    output, peak, others = quiet.run(command, {"OMP_PROC_BIND": "close", "OMP_PLACES": "cores"}, priority)
    try:
        report = json.loads(output)[0]
        rate = statistics.median(report["samples_ts"])
    except (json.JSONDecodeError, KeyError, IndexError) as error:
        raise quiet.Failure(f"{' '.join(command)}: unexpected report ({error!r})") from None
    return {"tokens_per_second": rate, "peak_rss_bytes": peak, "others_share": others,
            "commit": report.get("build_commit")}


def decode(setup, model, type, context, threads, priority=quiet.PRIORITY, cache="f16"):
    """DECODE_TOKENS tokens, one at a time, after `context` others, keys and values of type `cache`; median of three
    runs."""
    return sample_of([str(setup.llama_bench), "-m", str(setup.gguf(model, type)), "-p", "0", "-n", str(DECODE_TOKENS),
                      "-d", str(context), "-r", "3", "-o", "json", "-t", str(threads), "-fa", "1", "-ctk", cache,
                      "-ctv", cache], priority)


def search(setup, model, prompt, samples):
    """The fastest settings, one of them varied after the other."""
    best, best_rate = Settings(), 0.0
    attention = model_file.load(setup.models / f"{model}.json").kind == "llama"
    for field, values in (("type", TYPES), ("micro_batch", MICRO_BATCHES),
                          ("flash_attention", [False] if attention else [])):
        for value in values:
            settings = dataclasses.replace(best, **{field: value})
            rate = max(quiet.least_disturbed(lambda: settings.sample(setup, model, prompt))["tokens_per_second"]
                       for _ in range(samples))
            setup.say(f"llama.cpp, {model}, {prompt} tokens, {settings.describe()}: {rate:.1f} tokens/s")
            if rate > best_rate:
                best, best_rate = settings, rate
    return best


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="name of a model in bench/models, for example mamba2-130m")
    parser.add_argument("--prompt", type=int, default=512, help="tokens (default 512)")
    parser.add_argument("--type", choices=TYPES, default="BF16", help="of the weights (default BF16)")
    parser.add_argument("--micro-batch", type=int, default=512, help="tokens at once (default 512)")
    parser.add_argument("--no-flash-attention", action="store_true")
    parser.add_argument("--runs", type=int, default=3, help="samples (default 3), with --tune of a try")
    parser.add_argument("--tune", action="store_true")
    bench_setup.add_flags(parser)
    return parser.parse_args()


def main():
    args = parse_args()
    setup = bench_setup.from_flags(args)
    settings = Settings(args.type, args.micro_batch, not args.no_flash_attention)
    try:
        with quiet.locked(args.lock):
            if args.tune:
                print(json.dumps(search(setup, args.model, args.prompt, args.runs).to_json()))
            for _ in range(0 if args.tune else args.runs):
                print(json.dumps(settings.sample(setup, args.model, args.prompt)), flush=True)
    except (quiet.Failure, ValueError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
