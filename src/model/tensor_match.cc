#include "model/tensor_match.h"

#include <algorithm>
#include <array>
#include <set>
#include <string_view>

#include "base/error.h"
#include "formats/gguf.h"
#include "model/gguf_config.h"

namespace taipan {
namespace {

using Words = std::vector<std::string_view>;  // of a name, at its dots

Words WordsOf(std::string_view name) {
  Words words;
  for (size_t begin = 0; begin <= name.size();) {
    const size_t end = std::min(name.find('.', begin), name.size());
    words.push_back(name.substr(begin, end - begin));
    begin = end + 1;
  }
  return words;
}

template <size_t kSize>
bool IsIn(const std::array<std::string_view, kSize>& list, std::string_view word) {
  return std::find(list.begin(), list.end(), word) != list.end();
}

// Modules that wrap another one, wherever they stand: torch.compile, DataParallel, FSDP, checkpointing.
constexpr std::array<std::string_view, 5> kWrappers = {"_orig_mod", "module", "_fsdp_wrapped_module",
                                                       "_checkpoint_wrapped_module", "_forward_module"};
// What a model may be called in the one around it; which of these a file has depends on which of the two was saved.
using Outer = std::set<std::string, std::less<>>;

// The part of a name that the programs agree on.
std::string Core(const std::string& name, const Outer& outer) {
  Words words = WordsOf(name);
  std::erase_if(words, [](std::string_view word) { return IsIn(kWrappers, word); });
  const auto first =
      std::find_if(words.begin(), words.end(), [&](std::string_view word) { return outer.count(word) == 0; });
  words.erase(words.begin(), first);
  if (words.size() == 2 && words[0] == "embedding") words[0] = "embeddings";  // transformers reads mamba_ssm's name
  return fmt::format("{}", fmt::join(words, "."));
}

// The usual words, and those before the first of these tensors that stands in one place of a larger model.
Outer OuterWords(const std::vector<std::string>& cores, const TensorSource& tensors) {
  const Outer usual = {"base_model", "model", "backbone"};
  for (const std::string& core : cores) {
    Outer places;
    for (const std::string& name : tensors.Names()) {
      const std::string found = Core(name, usual);
      if (found == core) return usual;
      if (found.ends_with("." + core)) places.insert(found.substr(0, found.size() - core.size() - 1));
    }
    if (places.empty()) continue;
    if (places.size() > 1) return usual;  // nobody knows which is meant
    Outer outer = usual;
    for (const std::string_view word : WordsOf(*places.begin())) outer.emplace(word);
    return outer;
  }
  return usual;
}

constexpr std::array<std::string_view, 13> kBuffers = {
    "inv_freq",     "original_inv_freq", "cos_cached",  "sin_cached", "cos_cache",    "sin_cache",          "freqs_cis",
    "position_ids", "masked_bias",       "causal_mask", "attn_mask",  "_extra_state", "num_batches_tracked"};

// Follows from the config, or is no part of the computation.
bool IsBuffer(const std::string& name, const TensorSource& tensors) {
  const Words words = WordsOf(name);
  const std::string_view last = words.back(), before = words.size() > 1 ? words[words.size() - 2] : "";
  if (IsIn(kBuffers, last) || (last == "freqs" && before == "rope")) return true;
  if (last == "weight") return before == "attn_rot_embd";  // of old GGUF files
  // GPT-like code registers its causal mask under the name of a bias.
  if (last != "bias" || (before != "attn" && before != "attention" && before != "self_attn")) return false;
  const std::vector<int64_t> shape = tensors.Stored(name).shape;
  return shape.size() >= 2 && shape[shape.size() - 1] == shape[shape.size() - 2];
}

class Renamed : public TensorSource {
 public:
  Renamed(std::shared_ptr<const TensorSource> tensors, std::map<std::string, std::string> names)
      : tensors_(std::move(tensors)), names_(std::move(names)) {}

  const std::string& path() const override { return tensors_->path(); }
  std::vector<std::string> Names() const override {
    std::vector<std::string> names;
    for (const auto& [name, stored] : names_) names.push_back(name);
    return names;
  }
  bool Has(const std::string& name) const override { return names_.count(name) != 0; }
  StoredTensor Stored(const std::string& name) const override { return tensors_->Stored(NameOf(name)); }

 private:
  const std::string& NameOf(const std::string& name) const {
    const auto found = names_.find(name);
    if (found == names_.end()) RefuseMissingTensor(path(), name, Names());
    return found->second;
  }

  std::shared_ptr<const TensorSource> tensors_;
  std::map<std::string, std::string> names_;
};

}  // namespace

TensorMatch MatchTensors(const std::vector<ForeignTensor>& expected, Naming naming, bool tied,
                         const TensorSource& tensors) {
  TensorMatch match;
  std::map<std::string, std::string> of_core;  // -> expected name
  for (const ForeignTensor& t : expected) {
    const auto [known, added] = of_core.emplace(Core(t.name, {"model", "backbone"}), t.name);
    CHECK(added || (t.rows > 0 && known->second == t.name));
    if (tensors.Has(t.name)) match.stored[t.name] = t.name;  // goes before any other that could be meant
  }
  const std::string head = naming == Naming::kGguf ? "output.weight" : "lm_head.weight";
  const std::string& embedding = expected.front().name;
  std::vector<std::string> landmarks = {Core(embedding, {"model", "backbone"})};
  if (tied) landmarks.push_back(head);
  const Outer outer = OuterWords(landmarks, tensors);
  for (const std::string& name : tensors.Names()) {
    if (match.stored.count(name) != 0) continue;
    const std::string core = Core(name, outer);
    const auto meant = of_core.find(core);
    if (meant != of_core.end()) {
      if (!match.stored.emplace(meant->second, name).second) match.extra.push_back(name);
    } else if (tied && core == head && match.tied_head.empty()) {
      match.tied_head = name;
    } else if (IsBuffer(name, tensors)) {
      match.buffers.push_back(name);
    } else if (naming != Naming::kGguf || name != kRopeDivisorsName) {  // those are read with the config
      match.extra.push_back(name);
    }
  }
  if (!match.tied_head.empty() && match.stored.emplace(embedding, match.tied_head).second) match.tied_head.clear();
  return match;
}

std::shared_ptr<const TensorSource> RenamedTensors(std::shared_ptr<const TensorSource> tensors,
                                                   std::map<std::string, std::string> names) {
  return std::make_shared<Renamed>(std::move(tensors), std::move(names));
}

}  // namespace taipan
