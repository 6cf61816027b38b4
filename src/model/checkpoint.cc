#include "model/checkpoint.h"

#include <algorithm>
#include <cstring>
#include <set>

#include "base/error.h"
#include "base/files.h"
#include "formats/gguf.h"
#include "formats/safetensors_header.h"
#include "model/gguf_config.h"

namespace taipan {
namespace {

constexpr const char* kHead = "lm_head.weight";

const char* FormatName(Naming naming, const std::string& path) {
  switch (naming) {
    case Naming::kTaipan:
      return "Taipan";
    case Naming::kMamba2:
      return "Mamba-2 (transformers)";
    case Naming::kMambaSsm:
      return "Mamba-2 (mamba_ssm)";
    case Naming::kLlama:
      return "Llama (transformers)";
    case Naming::kBamba:
      return "Bamba (transformers)";
    case Naming::kGguf:
      return "GGUF";
  }
  CheckFailed(__FILE__, __LINE__, "unknown Naming of " + path);
}

std::string Shape(const std::vector<int64_t>& shape) {
  return shape.size() <= 8 ? ShapeString(shape) : fmt::format("{} dimensions", shape.size());
}

// Why a tensor may have another shape than the config says; "" where nothing comes to mind.
std::string LikelyCause(const ModelConfig& c, const ForeignTensor& t, const std::vector<int64_t>& found) {
  if (found.empty() || found.size() != t.shape.size()) return "";
  const auto is = [&](const char* end) { return t.parameter.ends_with(end); };
  if ((is("embeddings.weight") || is(kHead)) && found.back() == t.shape.back()) {
    return fmt::format("the vocabulary is {}: vocab_size should be {}", found[0] > c.vocab_size ? "padded" : "smaller",
                       found[0]);
  }
  if (is("mixer.in_proj.weight") || is("mixer.conv1d.weight") || is("mixer.conv1d.bias")) {
    const int64_t fixed = is("in_proj.weight") ? 2 * c.d_inner() + c.ssm_heads() : c.d_inner();
    const int64_t group = 2 * c.state_size, rest = found[0] - fixed;
    if (rest > 0 && rest % group == 0 && rest / group != c.n_groups) {
      return fmt::format("n_groups should be {}", rest / group);
    }
    return "n_groups, state_size, head_dim or expand is wrong";
  }
  if (is("k_proj.weight") || is("v_proj.weight")) return "num_key_value_heads or the head's width is wrong";
  if (is("q_proj.weight") || is("o_proj.weight")) return "num_attention_heads or the head's width is wrong";
  if (t.parameter.find(".mlp.") != std::string::npos) return "intermediate_size is wrong";
  return "";
}

// Buffers that some programs save although they follow from the config.
bool IsRedundant(const std::string& name) { return name.ends_with(".rotary_emb.inv_freq"); }

// A head beside a tied embedding must be the embedding.
void CheckTiedHead(const TensorSource& tensors, const ForeignTensor& embedding, const std::string& head) {
  const StoredTensor stored = tensors.Stored(head);
  const std::string problem = fmt::format("tensor \"{}\" is not the embedding although the config ties them", head);
  const std::string hint = "the head is not tied: tie_word_embeddings should be false";
  if (stored.shape != embedding.shape) {
    throw UserError({stored.file, problem, Shape(embedding.shape), Shape(stored.shape), hint});
  }
  const Tensor a = tensors.ReadF32(head, stored.shape), b = tensors.ReadF32(embedding.name, embedding.shape);
  if (std::memcmp(a.data(), b.data(), static_cast<size_t>(a.bytes())) != 0) {
    throw UserError({stored.file, problem, "equal values", "others", hint});
  }
}

std::string HeadName(Naming naming) { return naming == Naming::kGguf ? "output.weight" : kHead; }

void RefuseMissing(const TensorSource& tensors, const ForeignTensor& t) {
  std::string hint;
  if (t.parameter == kHead) hint = "the head is tied: tie_word_embeddings should be true";
  if (hint.empty()) {
    const std::string near = NearestName(t.name, tensors.Names());
    if (!near.empty()) hint = "the nearest is " + QuoteName(near);
  }
  throw UserError({tensors.path(), "a tensor is missing", t.name + " " + Shape(t.shape), "none of that name", hint});
}

}  // namespace

bool IsGgufPath(const std::string& path) { return path.ends_with(".gguf") && !IsDirectory(path); }

std::map<std::string, int64_t> Checkpoint::ElementTypes() const {
  std::map<std::string, int64_t> types;
  for (const std::string& name : tensors->Names()) ++types[tensors->Stored(name).type];
  return types;
}

CheckpointConfig ReadCheckpointConfig(const std::string& path) {
  if (IsGgufPath(path)) return {GgufModelConfig(GgufFile(path)), Naming::kGguf};
  return LoadCheckpointConfig(path + "/config.json");
}

void CheckTensors(const ModelConfig& config, Naming naming, const TensorSource& tensors) {
  const std::vector<ForeignTensor> expected = ForeignTensors(config, naming);
  std::set<std::string> known;
  for (const ForeignTensor& t : expected) {
    known.insert(t.name);
    if (!tensors.Has(t.name)) RefuseMissing(tensors, t);
    const StoredTensor stored = tensors.Stored(t.name);
    if (stored.shape == t.shape) continue;
    throw UserError({stored.file, fmt::format("tensor \"{}\" has another shape than the config says", t.name),
                     Shape(t.shape), Shape(stored.shape), LikelyCause(config, t, stored.shape)});
  }
  for (const std::string& name : tensors.Names()) {
    if (known.count(name) != 0 || IsRedundant(name)) continue;
    if (naming == Naming::kGguf && name == kRopeDivisorsName) continue;  // read with the config
    if (config.tie_word_embeddings && name == HeadName(naming)) {
      CheckTiedHead(tensors, expected.front(), name);
      continue;
    }
    const std::string near = NearestName(name, {known.begin(), known.end()});
    throw UserError({tensors.Stored(name).file, "a tensor that the config does not have",
                     "only the model's own tensors", QuoteName(name), near.empty() ? "" : "nearest: " + near});
  }
}

Checkpoint OpenCheckpoint(const std::string& path) {
  if (!IsDirectory(path) && !IsGgufPath(path)) {
    throw UserError({path, "not a model", "a folder with config.json and model.safetensors, or a .gguf file",
                     PathExists(path) ? "a file" : "nothing of that name", ""});
  }
  CheckpointConfig read;
  Checkpoint checkpoint;
  checkpoint.path = path;
  if (IsGgufPath(path)) {
    auto file = std::make_unique<GgufFile>(path);
    read = {GgufModelConfig(*file), Naming::kGguf};
    checkpoint.tensors = std::move(file);
  } else {
    read = ReadCheckpointConfig(path);
    checkpoint.tensors = OpenTensors(path);
  }
  checkpoint.config = std::move(read.config);
  checkpoint.naming = read.naming;
  checkpoint.format = FormatName(read.naming, path);
  CheckTensors(checkpoint.config, checkpoint.naming, *checkpoint.tensors);
  return checkpoint;
}

Tensor ReadParameter(const TensorSource& tensors, const ForeignTensor& t) {
  Tensor values = tensors.ReadF32(t.name, t.shape);
  if (t.layout == Layout::kDecayRate) {
    const bool negative =
        std::all_of(values.F32(), values.F32() + values.size(), [](float a) { return a < 0 && a >= -3e38f; });
    if (!negative) {
      throw UserError({tensors.path(), fmt::format("tensor \"{}\" has impossible values", t.name),
                       "negative rates of decay", "others", ""});
    }
  }
  FromLayout(t, values);
  return values;
}

}  // namespace taipan
