#pragma once
// A training run in a folder: metrics.jsonl, checkpoints, the newest model, the curve; begun, interrupted, continued.
//
//   RUN_DIR/run.json        resolved settings          RUN_DIR/metrics.jsonl   a line a step, lines of validation
//   RUN_DIR/data.json       stamps of the data         RUN_DIR/trainer.json    how far it is, and how it ended
//   RUN_DIR/.lock           while a process trains     RUN_DIR/curve.svg
//   RUN_DIR/model/          the newest model           RUN_DIR/checkpoints/step-N/{model/, optimizer.safetensors, ...}

#include <functional>
#include <optional>
#include <string>

#include "model/checkpoint.h"
#include "train/ranks.h"
#include "train/run_saver.h"
#include "train/settings.h"
#include "train/trainer.h"

namespace taipan {

struct RunRequest {
  TrainSettings settings;             // settings.out is the folder
  std::optional<ModelConfig> config;  // of the model asked for; none where a resumed run names none
  std::optional<Checkpoint> weights;  // none: this run initialises them
  bool preset = false;                // the vocabulary follows the tokenizer
  bool resume = false;
};

struct RunHooks {
  // Shows what the model writes, and returns it; null: never. The tokenizer is null where the data is token files.
  std::function<std::string(const LanguageModel&, const Tokenizer*, int64_t step)> sample;
  // Tokens a second that the machine's matrix products would allow; null, or 0: not known. again: what was measured
  // before cannot be.
  std::function<double(const ModelConfig&, const TrainSettings&, bool again)> roof;
  SavePatience patience = {};  // with a disk that refuses checkpoints
  Ranks* ranks = nullptr;      // that train together, of which this is the first; null: it trains alone
};

enum class RunEnd { kFinished, kAlreadyFinished, kTimeLimit, kInterrupted };

// The settings that a command asks for: the defaults, or those of the run in its folder where one is resumed; over them
// the run file (path, "": none), over them `given` (keys as in a run file; the flags of the command line).
TrainSettings RequestedSettings(const std::string& run_file, const Json& given, bool resume);

// Trains until the end, the time limit or an interrupt, and saves. UserError for everything that stops it; the
// checkpoints that were complete stay, and nothing stays of a run that made no step. One process at a time in a folder.
RunEnd RunTraining(const RunRequest& request, const RunHooks& hooks);

}  // namespace taipan
