#include "model/checkpoint.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "base/logging.h"
#include "formats/safetensors_header.h"
#include "model/gguf_config.h"
#include "model/tensor_match.h"

namespace taipan {
namespace {

constexpr const char* kHeadWeight = "lm_head.weight";

// For people: "Llama (transformers)".
std::string FormatName(const CheckpointConfig& read) {
  switch (read.naming) {
    case Naming::kTaipan:
      return "Taipan";
    case Naming::kMambaSsm:
      return "Mamba-2 (mamba_ssm)";
    case Naming::kGguf:
      return "GGUF";
    default:
      return read.format + " (transformers)";
  }
}

std::string ShapeText(const std::vector<int64_t>& shape) {
  return shape.size() <= 8 ? ShapeString(shape) : fmt::format("{} dimensions", shape.size());
}

// Why a tensor may have another shape than the config says; "" where nothing comes to mind.
std::string LikelyCause(const ModelConfig& c, const ForeignTensor& t, const std::vector<int64_t>& found) {
  if (found.empty() || found.size() != t.shape.size()) return "";
  const auto is = [&](const char* end) { return t.parameter.ends_with(end); };
  if ((is("embeddings.weight") || is(kHeadWeight)) && found.back() == t.shape.back()) {
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

// A head beside a tied embedding must be the embedding.
void CheckTiedHead(const TensorSource& tensors, const std::string& embedding, const std::string& head,
                   const std::vector<int64_t>& shape) {
  const StoredTensor stored = tensors.Stored(head);
  const std::string problem = fmt::format("tensor \"{}\" is not the embedding although the config ties them", head);
  const std::string hint = "the head is not tied: tie_word_embeddings should be false";
  if (stored.shape != shape) throw UserError({stored.file, problem, ShapeText(shape), ShapeText(stored.shape), hint});
  constexpr int64_t kRows = 1024;
  for (int64_t row = 0; row < shape[0]; row += kRows) {
    const RowRange rows{row, std::min(kRows, shape[0] - row)};
    Tensor a({rows.count, shape[1]}), b({rows.count, shape[1]});
    tensors.ReadInto(head, shape, rows, a);
    tensors.ReadInto(embedding, shape, rows, b);
    if (std::memcmp(a.data(), b.data(), static_cast<size_t>(a.bytes())) == 0) continue;
    throw UserError({stored.file, problem, "equal values", "others", hint});
  }
}

// The first names of a list, and how many more there are.
std::string ShortList(const std::vector<std::string>& names) {
  constexpr size_t kMost = 3;
  std::string list;
  for (size_t i = 0; i < std::min(names.size(), kMost); ++i) list += (i == 0 ? "" : ", ") + QuoteName(names[i]);
  return names.size() > kMost ? list + fmt::format(" and {} more", names.size() - kMost) : list;
}

std::string Counted(const std::vector<std::string>& names, const char* what) {
  return fmt::format("{} {}{}", names.size(), what, names.size() == 1 ? "" : "s");
}

[[noreturn]] void RefuseMissing(const TensorSource& tensors, const ForeignTensor& t) {
  std::string hint;
  if (t.parameter == kHeadWeight) hint = "the head is tied: tie_word_embeddings should be true";
  if (hint.empty()) {
    const std::string near = NearestName(t.name, tensors.Names());
    if (!near.empty()) hint = "the nearest is " + QuoteName(near);
  }
  throw UserError(
      {tensors.path(), "a tensor is missing", t.name + " " + ShapeText(t.shape), "none of that name", hint});
}

[[noreturn]] void RefuseExtra(const TensorSource& tensors, const TensorMatch& match,
                              const std::vector<ForeignTensor>& expected) {
  std::vector<std::string> known;
  for (const ForeignTensor& t : expected) known.push_back(t.name);
  const std::string near = NearestName(match.extra.front(), known);
  throw UserError({tensors.Stored(match.extra.front()).file,
                   Counted(match.extra, "tensor") + " that the config does not have", "only the model's own tensors",
                   ShortList(match.extra),
                   (near.empty() ? "" : "nearest: " + near + "; ") + std::string("--ignore-extra loads the rest")});
}

void NoteLeftOut(const TensorSource& tensors, const TensorMatch& match) {
  if (!match.buffers.empty()) {
    LogInfo("{}: left out {} that the config determines: {}", tensors.path(), Counted(match.buffers, "buffer"),
            ShortList(match.buffers));
  }
  if (!match.extra.empty()) {
    LogWarning("{}: left out {} that the config does not have: {}", tensors.path(), Counted(match.extra, "tensor"),
               ShortList(match.extra));
  }
}

}  // namespace

std::map<std::string, int64_t> Checkpoint::ElementTypes() const {
  std::map<std::string, int64_t> types;
  for (const std::string& name : Tensors().Names()) ++types[Tensors().Stored(name).type];
  return types;
}

const TensorSource& Checkpoint::Tensors() const {
  if (!tensors_) tensors_ = TensorsFor(config);
  return *tensors_;
}

std::shared_ptr<const TensorSource> Checkpoint::TensorsFor(const ModelConfig& other) const {
  std::shared_ptr<const TensorSource> stored = gguf;
  if (!stored) stored = OpenTensors(path);
  return CheckedTensors(other, naming, std::move(stored), options);
}

std::shared_ptr<const TensorSource> CheckedTensors(const ModelConfig& config, Naming naming,
                                                   std::shared_ptr<const TensorSource> tensors,
                                                   const OpenOptions& options) {
  const std::vector<ForeignTensor> expected = ForeignTensors(config, naming);
  const TensorMatch match = MatchTensors(expected, naming, config.tie_word_embeddings, *tensors);
  for (const ForeignTensor& t : expected) {
    const auto name = match.stored.find(t.name);
    if (name == match.stored.end()) RefuseMissing(*tensors, t);
    const StoredTensor stored = tensors->Stored(name->second);
    if (HasShape(stored, t.shape)) continue;
    throw UserError({stored.file, fmt::format("tensor \"{}\" has another shape than the config says", name->second),
                     ShapeText(t.shape), ShapeText(stored.shape), LikelyCause(config, t, stored.shape)});
  }
  if (!match.tied_head.empty()) {
    CheckTiedHead(*tensors, match.stored.at(expected.front().name), match.tied_head, expected.front().shape);
  }
  if (!match.extra.empty() && !options.ignore_extra) RefuseExtra(*tensors, match, expected);
  NoteLeftOut(*tensors, match);
  return RenamedTensors(std::move(tensors), match.stored);
}

Checkpoint OpenCheckpoint(const std::string& path, const OpenOptions& options) {
  Checkpoint checkpoint;
  checkpoint.path = ModelPathOf(path);
  checkpoint.options = options;
  CheckpointConfig read;
  if (IsGgufPath(checkpoint.path)) {
    checkpoint.gguf = std::make_shared<GgufFile>(checkpoint.path);
    read = {GgufModelConfig(*checkpoint.gguf), Naming::kGguf};
  } else {
    read = LoadCheckpointConfig(checkpoint.path + "/config.json");
  }
  checkpoint.format = FormatName(read);
  checkpoint.config = std::move(read.config);
  checkpoint.naming = read.naming;
  return checkpoint;
}

Tensor ReadParameter(const TensorSource& tensors, const ForeignTensor& t) {
  Tensor values = Tensor::Unset(t.part_shape(), DType::kF32);
  ReadParameterInto(tensors, t, values);
  return values;
}

void ReadParameterInto(const TensorSource& tensors, const ForeignTensor& t, Tensor& values) {
  tensors.ReadInto(t.name, t.shape, t.part(), values);
  if (t.layout == Layout::kDecayRate) {
    const bool negative =
        std::all_of(values.F32(), values.F32() + values.size(), [](float a) { return a < 0 && a >= -3e38f; });
    if (!negative) {
      throw UserError({tensors.path(), fmt::format("tensor \"{}\" has impossible values", t.name),
                       "negative rates of decay", "others"});
    }
  }
  FromLayout(t, values);
}

}  // namespace taipan
