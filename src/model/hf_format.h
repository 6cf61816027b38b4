#pragma once
// One architecture of transformers each: how its config.json is read and written. A new one is a file of its own, a row
// of HfFormats and, where its tensors have other names, a row of the namings (tensor_names.cc).

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "model/config.h"
#include "model/tensor_names.h"

namespace taipan {

using OrderedJson = nlohmann::ordered_json;

struct HfFormat {
  const char* model_type;    // of config.json
  const char* name;          // for people
  const char* architecture;  // "LlamaForCausalLM"
  Naming naming;
  ModelConfig (*read)(const Json& json, const std::string& where);  // UserErrors name `where`; ranges not yet checked
  bool (*fits)(const ModelConfig& config);                          // has the layers and variants of such a model
  // Adds its own keys. UserError naming `where` (the model) and what the format cannot say.
  void (*write)(const ModelConfig& config, const std::string& where, OrderedJson& json);
};

extern const HfFormat kHfMamba2, kHfLlama, kHfMistral, kHfBamba, kHfGranite, kHfGraniteHybrid, kHfNemotronH,
    kHfFalconH1;

// mamba_ssm's config has no model_type.
ModelConfig ReadMambaSsm(const Json& json, const std::string& where);
OrderedJson MambaSsmJson(const ModelConfig& config, const std::string& where);

// For writers.
[[noreturn]] void CannotSay(const std::string& where, const char* program, const std::string& what,
                            const std::string& expected, const std::string& found);
void WriteAttention(const ModelConfig& config, OrderedJson& json);
void WriteMamba(const ModelConfig& config, OrderedJson& json);  // keys that begin with "mamba_"
void WriteTimeStepLimit(const ModelConfig& config, OrderedJson& json);
double ScoreMultiplier(const ModelConfig& config);  // of attention
bool UnlimitedTimeSteps(const ModelConfig& config);
// Only layers of these kinds.
bool OnlyKinds(const ModelConfig& config, std::initializer_list<LayerKind> kinds);
// Nothing but the kinds of layers differs from the models of old: no multipliers, gated norm, SSM heads by expand.
bool HasPlainLayers(const ModelConfig& config);

}  // namespace taipan
