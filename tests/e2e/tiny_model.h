#pragma once
// A small model directory for tests of the program.

#include <string>

#include "base/files.h"
#include "base/test_folder.h"
#include "e2e/run_program.h"

namespace taipan {

// Two Mamba-2 blocks and a selective attention layer of width 32.
inline std::string TinyConfigText(const std::string& vocab_size = "256") {
  return R"({"model_type": "taipan", "vocab_size": )" + vocab_size + R"(, "hidden_size": 32, "intermediate_size": 64,
    "layer_pattern": ["mamba2", "selective_attention", "mamba2"], "head_dim": 16, "state_size": 16, "chunk_size": 32,
    "num_attention_heads": 2, "num_key_value_heads": 2, "attention_head_dim": 16, "sliding_window": 48})";
}

// Written by `taipan init` into a folder of its own.
class TinyModelFolder {
 public:
  explicit TinyModelFolder(const std::string& vocab_size = "256", const std::string& seed = "1") {
    WriteFileAtomically(folder_ / "given.json", TinyConfigText(vocab_size));
    const ProgramResult init =
        RunTaipan({"init", "--config", folder_ / "given.json", "--out", model(), "--seed", seed, "--gate-bias", "0"});
    if (init.exit_code != 0) throw std::runtime_error(init.err);
  }
  std::string model() const { return folder_ / "model"; }
  std::string operator/(const std::string& name) const { return folder_ / name; }

 private:
  TestFolder folder_;
};

}  // namespace taipan
