#include "train/sequence_ranks.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "base/op_timer.h"
#include "layers/kv_rows.h"

namespace taipan {
namespace {

// Of a sequence of which `position` tokens are read.
int64_t Elements(const StateSpec& spec, int64_t position) { return static_cast<int64_t>(spec.count(position)); }

int64_t GradientBytes(const LanguageModel& model, int64_t position) {
  int64_t bytes = 0;
  ForEachState(model.layers(), [&](size_t, const StateSpec& spec) { bytes += Elements(spec, position) * 4; });
  return bytes;
}

void PackGradient(const LanguageModel& model, SequenceStateGradient& gradient, int64_t position, std::byte* to) {
  ForEachState(model.layers(), [&](size_t i, const StateSpec& spec) {
    const Tensor& from = gradient.layers[i].Of(spec);
    const int64_t bytes = Elements(spec, position) * 4;
    CHECK_EQ(from.bytes(), bytes);
    std::memcpy(to, from.data(), static_cast<size_t>(bytes));
    to += bytes;
  });
}

SequenceStateGradient UnpackGradient(const LanguageModel& model, int64_t position, const std::byte* from) {
  SequenceStateGradient gradient;
  gradient.layers.resize(model.layers().size());
  ForEachState(model.layers(), [&](size_t i, const StateSpec& spec) {
    std::vector<int64_t> shape(spec.shape.begin(), spec.shape.end());
    const int64_t n = Elements(spec, position);
    if (spec.per_token) shape = {spec.tokens(position), spec.shape[0] * spec.shape[1]};
    Tensor& to = gradient.layers[i].Of(spec) = Tensor::Unset(shape, DType::kF32);
    std::memcpy(to.data(), from, static_cast<size_t>(n * 4));
    from += n * 4;
  });
  return gradient;
}

}  // namespace

int64_t StateBytes(const LanguageModel& model, int64_t position) {
  int64_t bytes = 0;
  ForEachState(model.layers(), [&](size_t, const StateSpec& spec) {
    bytes += Elements(spec, position) * (spec.per_token ? SizeOf(model.dtype()) : 4);
  });
  return bytes;
}

void PackState(const LanguageModel& model, const SequenceState& state, std::byte* to) {
  const auto append = [&](const Tensor& from) {
    std::memcpy(to, from.data(), static_cast<size_t>(from.bytes()));
    to += from.bytes();
  };
  ForEachState(model.layers(), [&](size_t i, const StateSpec& spec) {
    const LayerState& layer = state.layers[i];
    if (!spec.per_token) return append(layer.Fixed(spec));
    append(CopyCache(layer, spec, model.dtype()).rows);
  });
}

SequenceState UnpackState(const LanguageModel& model, int64_t position, const std::byte* from) {
  SequenceState state = model.NewState();
  state.position = position;
  ForEachState(model.layers(), [&](size_t i, const StateSpec& spec) {
    LayerState& layer = state.layers[i];
    const int64_t n = Elements(spec, position);
    if (!spec.per_token) {
      std::memcpy(layer.Fixed(spec).data(), from, static_cast<size_t>(n * 4));
      from += n * 4;
      return;
    }
    const int64_t bytes = n * SizeOf(model.dtype());
    if (spec.name == "k") {  // values follow them
      const int64_t width = layer.kv.width(), count = spec.tokens(position);
      Tensor k = Tensor::Unset({count, width}, model.dtype()), v = Tensor::Unset({count, width}, model.dtype());
      std::memcpy(k.data(), from, static_cast<size_t>(bytes));
      std::memcpy(v.data(), from + bytes, static_cast<size_t>(bytes));
      layer.kv.Restore(position, {.k = k.Matrix(), .v = v.Matrix()});
    }
    from += bytes;
  });
  return state;
}

SequenceRanks::SequenceRanks(Group& group, const LanguageModel& model, int64_t count)
    : group_(group), model_(model), part_{group.rank() % count, count} {
  before_ = part_.index > 0 ? group.rank() - 1 : -1;
  behind_ = part_.index + 1 < count ? group.rank() + 1 : -1;
}

void SequenceRanks::Exchange(int to, std::vector<std::byte>& out, int from, std::vector<std::byte>& in) {
  const OpTimer timer("ranks");
  std::vector<Message> messages;
  const auto bytes = [](const std::vector<std::byte>& all) { return static_cast<int64_t>(all.size()); };
  if (to >= 0 && !out.empty()) messages.push_back({Message::kSend, to, out.data(), bytes(out)});
  if (from >= 0 && !in.empty()) messages.push_back({Message::kReceive, from, in.data(), bytes(in)});
  if (!messages.empty()) group_.Exchange(messages);
  out.clear();
}

// What leaves a micro-batch goes with what enters the next one.
void SequenceRanks::Forward(std::deque<SegmentedPass>& passes, const std::function<void(SegmentedPass&)>& run) {
  std::vector<std::byte> in, out;
  for (SegmentedPass& pass : passes) {
    int64_t bytes = 0;
    for (const auto& [row, position] : pass.enters()) bytes += StateBytes(model_, position);
    in.resize(static_cast<size_t>(bytes));
    Exchange(behind_, out, before_, in);
    const std::byte* next = in.data();
    for (const auto& [row, position] : pass.enters()) {
      pass.entering(row) = UnpackState(model_, position, next);
      next += StateBytes(model_, position);
    }
    run(pass);
    for (const auto& [row, position] : pass.leaves()) {
      const size_t begin = out.size();
      out.resize(begin + static_cast<size_t>(StateBytes(model_, position)));
      PackState(model_, pass.leaving().at(row), out.data() + begin);
    }
    pass.leaving().clear();
  }
  in.clear();
  Exchange(behind_, out, before_, in);
}

void SequenceRanks::Backward(std::deque<SegmentedPass>& passes,
                             const std::function<void(SegmentedPass&, RowGradients&)>& run) {
  std::vector<std::byte> in, out;
  for (auto pass = passes.rbegin(); pass != passes.rend(); ++pass) {
    int64_t bytes = 0;
    for (const auto& [row, position] : pass->leaves()) bytes += GradientBytes(model_, position);
    in.resize(static_cast<size_t>(bytes));
    Exchange(before_, out, behind_, in);
    RowGradients ends;
    const std::byte* next = in.data();
    for (const auto& [row, position] : pass->leaves()) {
      ends[row] = UnpackGradient(model_, position, next);
      next += GradientBytes(model_, position);
    }
    run(*pass, ends);
    for (const auto& [row, position] : pass->enters()) {
      const size_t begin = out.size();
      out.resize(begin + static_cast<size_t>(GradientBytes(model_, position)));
      PackGradient(model_, ends.at(row), position, out.data() + begin);
    }
  }
  in.clear();
  Exchange(before_, out, behind_, in);
}

}  // namespace taipan
