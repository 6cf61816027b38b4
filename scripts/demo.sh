#!/usr/bin/env bash
# Sets everything up, lets the shipped model write, trains a small Taipan on the shipped books for five minutes, shows
# what it learned, lets it write.
# TAIPAN_DEMO_SECONDS (default 300) is the time for training.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

seconds=${TAIPAN_DEMO_SECONDS:-300}
model=taipan-1m
context=256
batch=16
# 0.088 = 1/sqrt(128), the width: with the usual 0.02 so narrow a model takes longer to get going.
train_flags=(--learning-rate 2e-3 --min-learning-rate 1e-4 --initializer-range 0.088 --seed 1)
valid_tokens=32768 # of each of six validations; the last one reads 16 times as many, the whole book
prompt="The old man "
generate_flags=(--max-tokens 600 --temperature 0.8 --top-p 0.95 --seed 1)
probe_steps=12

cd "$root"
case $seconds in *[!0-9]* | "" | 0) die "TAIPAN_DEMO_SECONDS: expected whole seconds, found \"$seconds\"" ;; esac
scripts/build.sh
say "what a Taipan of 9 million parameters writes that was trained before (models/taipan-books)"
build/taipan generate --prompt "$prompt" --max-tokens 120 --temperature 0.8 --top-p 0.95 --seed 1
printf '\n'
run=runs/demo-$(date +%Y%m%d-%H%M%S)
mkdir -p "$run"

train=(build/taipan train --model "$model" --data data/books/train --context "$context" --batch-size "$batch"
  "${train_flags[@]}")

# numbers KEY FILE: the values of a key in JSON lines; a list comes with its brackets.
numbers() { sed -n 's/.*"'"$1"'": *\(\[[^]]*\]\|[-+.0-9eE]*\).*/\1/p' "$2"; }

# The learning-rate schedule needs the number of steps beforehand: a few steps tell the machine's rate.
say "measuring the training rate"
"${train[@]}" --steps "$probe_steps" --out "$run/probe" 2>"$run/probe.log" || { cat "$run/probe.log" >&2 && exit 1; }
rate=$(numbers tokens_per_second "$run/probe/metrics.jsonl" | tail -n +3 | sort -g | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }')
steps=$(awk -v r="$rate" -v s="$seconds" -v n=$((context * batch)) 'BEGIN { n = int(0.93 * s * r / n); print n < 10 ? 10 : n }')
rm -r "$run/probe" "$run/probe.log"

say "training $model for $steps steps of $((context * batch)) bytes, about $seconds s at ${rate%.*} bytes/s"
"${train[@]}" --steps "$steps" --time-limit "$seconds" --valid-data data/books/valid \
  --valid-every $(((steps + 5) / 6)) --valid-tokens "$valid_tokens" --out "$run"

metrics=$run/metrics.jsonl
say "what it writes"
build/taipan generate --model "$run/model" --prompt "$prompt" "${generate_flags[@]}" | tee "$run/sample.txt"
printf '\n'

# The last value of a key, rounded; of a list also the mean.
last() {
  numbers "$1" "$metrics" | tail -n 1 | tr -d '[]' | awk -F, '
    { for (i = 1; i <= NF; i++) { printf "%.3f ", $i; sum += $i } if (NF > 1) printf "(mean %.3f)", sum / NF }'
}
say "which bytes attend"
build/taipan inspect "$run/model" --selection --text data/books/valid/*.txt --context "$context" --out "$run/selection.html" |
  awk '/^most selected/ { on = 1 } on'
awk -f scripts/chart.awk "$metrics"
cat <<END

  validation book         $(last valid_bits_per_byte)bits per byte, over the whole book in windows of $context
  selected share a SAL    $(last valid_selected_share)
  curve                   $run/curve.svg
  every selected byte     $run/selection.html
  model                   $run/model

More text:  build/taipan generate --model $run/model --prompt "She said" --max-tokens 500
END
