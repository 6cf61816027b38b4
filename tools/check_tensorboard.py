#!/usr/bin/env python3
"""Reads the event files of a run with TensorBoard's own reader and compares them with metrics.jsonl.

    python3 -m venv /tmp/tb && /tmp/tb/bin/pip install tensorboard setuptools
    /tmp/tb/bin/python tools/check_tensorboard.py RUN_DIR
"""
import json
import struct
import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

TAGS = {"train/loss": "ce", "train/gradient_norm": "grad_norm", "train/learning_rate": "lr"}


def as_float(value):
    return struct.unpack("<f", struct.pack("<f", value))[0]


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    run = sys.argv[1]
    events = EventAccumulator(run + "/tensorboard", size_guidance={"scalars": 0})
    events.Reload()
    with open(run + "/metrics.jsonl") as file:
        lines = [json.loads(line) for line in file]
    steps = [line for line in lines if "ce" in line]
    for tag, key in TAGS.items():
        found = [(e.step, e.value) for e in events.Scalars(tag)]
        expected = [(line["step"], as_float(line[key])) for line in steps]
        if found != expected:
            sys.exit(f"{tag}: {len(found)} points differ from the {len(expected)} of metrics.jsonl")
    valid = [(line["step"], as_float(line["valid_ce"])) for line in lines if "valid_ce" in line]
    found = [(e.step, e.value) for e in events.Scalars("valid/loss")] if valid else []
    if found != valid:
        sys.exit(f"valid/loss: {found} instead of {valid}")
    tags = events.Tags()["scalars"]
    print(f"{run}: TensorBoard reads {len(steps)} steps and {len(valid)} validations as metrics.jsonl has them; {len(tags)} tags")


main()
