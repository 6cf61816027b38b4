#!/usr/bin/env bash
# The study of docs/results.md: trains the patterns at equal parameters and tokens, asks them the paper's questions.
# Days on two cores; every part goes on where it was stopped, and what is finished is not done again.
#   scripts/study.sh --books DIR --eval-data DIR [--out DIR] [--sizes "1m 8m"] [--seeds 1,2,3]
#     --books       DIR/train and DIR/heldout, as tools/fetch_books.py brings them
#     --eval-data   the published tasks, as tools/fetch_eval_data.py brings them
#     --out         runs and results (default runs/study)
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

out=$root/runs/study books= eval_data= sizes="1m 8m" seeds=1,2,3
while [ $# -gt 0 ]; do
  case $1 in -h | --help) usage "$0" && exit ;; esac
  [ $# -ge 2 ] || die "$1: expected a value"
  case $1 in
    --books) books=$2 ;;
    --eval-data) eval_data=$2 ;;
    --out) out=$2 ;;
    --sizes) sizes=$2 ;;
    --seeds) seeds=$2 ;;
    *) die "unknown option $1" ;;
  esac
  shift 2
done
[ -d "$books/train" ] && [ -d "$books/heldout" ] || die "--books: expected a folder with train and heldout, found \"$books\""
[ -d "$eval_data" ] || die "--eval-data: no such folder: \"$eval_data\""

"$root/scripts/build.sh" taipan_program taipan_recall
taipan=$root/build/taipan
mkdir -p "$out"
tokenizer=$out/tokenizer.json
[ -f "$tokenizer" ] || "$taipan" tokenizer train --vocab-size 4096 --data "$books/train" --out "$tokenizer"

forms= # of Taipan, at the smaller size alone
# train SIZE FOLDER SEEDS STEPS OPTION...
train() {
  local size=$1 folder=$out/$2 seeds=$3 steps=$4
  shift 4
  "$root/tools/studies/gate.py" --size "$size" --out "$folder" --data "$books/train" --valid "$books/heldout" \
    --tokenizer "$tokenizer" --context 1024 --batch-size 4 --valid-tokens 16384 --steps "$steps" --seeds "$seeds" \
    --only "transformer;mamba2;jamba;samba;residual, threshold;paper;residual, random$forms" "$@"
}

# evaluations NAME: of the runs in the folder of that name
evaluations() {
  say "the paper's evaluations, $1"
  "$root/tools/studies/paper.py" --runs "$out/$1" --held "$books/heldout" --data "$eval_data" --out "$out/paper-$1"
  cp "$out/paper-$1/results.json" "$root/bench/studies/paper-$1.json"
}

for size in $sizes; do
  say "training, $size"
  case $size in
    1m)
      forms=";residual, threshold, RoPE;residual, threshold, budget 0.05;residual, threshold, budget 0.5" train 1m 1m "$seeds" 1500
      train 1m 1m-6e-3 "$seeds" 1500 --learning-rate 6e-3
      cp "$out/1m-6e-3/results.json" "$root/bench/studies/rates-1m.json"
      evaluations 1m-6e-3 ;;
    8m)
      train 8m 8m 1 1000 --learning-rate 1.5e-3 --initializer-range 0.056
      cp "$out/8m/results.json" "$root/bench/studies/gate-text-8m.json" ;;
    *) die "--sizes: expected 1m or 8m, found \"$size\"" ;;
  esac
  evaluations "$size"
done
say "associative recall"
"$root/tools/studies/recall.py" --out "$out/recall" --tasks 64x8,zoology-64x4 --rates 0.006 --steps 2600 --seeds "$seeds"
cp "$out/recall/results.json" "$root/bench/studies/recall.json"
cp "$out/recall/recall.svg" "$root/docs/recall-bytes.svg"
"$root/tools/studies/results.py"
