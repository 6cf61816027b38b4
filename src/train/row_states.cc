#include "train/row_states.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <deque>

#include "base/error.h"
#include "base/parallel.h"
#include "base/rng.h"
#include "formats/safetensors.h"
#include "layers/kv_rows.h"
#include "model/layer_table.h"
#include "model/memory_plan.h"
#include "train/sequence_ranks.h"

namespace taipan {
namespace {

constexpr char kFormat[] = "taipan-rows-1";

bool IsSsm(const StateSpec& spec) { return spec.name == "ssm_state"; }

// f(segment, whether it is the first of its row, whether it is the last). A row lies in one batch.
void ForEachSegment(std::vector<Batch>& batches, const std::function<void(Segment&, bool, bool)>& f) {
  for (Batch& batch : batches) {
    for (size_t j = 0; j < batch.segments.size(); ++j) {
      Segment& s = batch.segments[j];
      const bool first = j == 0 || batch.segments[j - 1].row != s.row;
      f(s, first, j + 1 == batch.segments.size() || batch.segments[j + 1].row != s.row);
    }
  }
}

std::string NameOfState(size_t row, size_t layer, const std::string& state) {
  return fmt::format("rows.{}.layers.{}.{}", row, layer, state);
}

std::string PowerName(size_t layer) { return fmt::format("power.layers.{}", layer); }

int64_t NumberIn(const SafetensorsFile& file, const std::string& key) {
  const auto found = file.metadata().find(key);
  const std::string text = found == file.metadata().end() ? "nothing" : found->second;
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error == std::errc() && end == text.data() + text.size() && value >= 0) return value;
  throw UserError({file.path(), "metadata " + key + " is no number", "digits", "\"" + text + "\""});
}

// Rows of keys or values as they were.
Tensor ReadRows(const SafetensorsFile& file, const std::string& name, int64_t count, int64_t width, DType dtype) {
  Tensor rows = file.Read(name);
  const std::vector<int64_t> shape = {count, width};
  if (rows.dtype() == dtype && rows.shape() == shape) return rows;
  throw UserError({file.path(), "tensor " + name + " is not the window of this run",
                   fmt::format("{} {}", NameOf(dtype), ShapeString(shape)),
                   fmt::format("{} {}", NameOf(rows.dtype()), ShapeString(rows.shape()))});
}

}  // namespace

void CheckRowStates(const TrainSettings& s, const ModelConfig& config) {
  if (s.state == StateStart::kCarry && KeepsAllKeys(config)) {
    throw UserError({"--state", "full attention has no state of a bounded size to carry on",
                     "a model of Mamba-2, selective or sliding-window attention", NameIn(s.state), "--state none"});
  }
  const auto has_ssm = [](const Branch& b) {
    const std::vector<StateSpec> all = b.State();
    return std::any_of(all.begin(), all.end(), IsSsm);
  };
  if (s.state == StateStart::kRandom && !AnyBranch(config, has_ssm)) {
    throw UserError({"--state", "the model has no Mamba-2 layer whose state could be noise", "one that has",
                     NameIn(s.state), "--state none"});
  }
}

RowStates::RowStates(const LanguageModel& model, StateStart start, uint64_t seed)
    : start_(start), seed_(seed), power_(model.layers().size()) {
  ForEachState(model.layers(), [&](size_t i, const StateSpec& spec) {
    if (IsSsm(spec)) power_[i] = Tensor({spec.shape[0]});
  });
}

void RowStates::Bind(const LanguageModel& model, const BatchSource& source, int64_t step, std::vector<Batch>& batches) {
  size_t rows = 0;
  ForEachSegment(batches, [&](const Segment& s, bool, bool) { rows = std::max(rows, static_cast<size_t>(s.row) + 1); });
  before_.resize(rows);
  after_.resize(rows);
  std::vector<bool> empty(rows, true);
  if (start_ == StateStart::kRandom) MakeNoise(model, step, batches);
  ForEachSegment(batches, [&](Segment& s, bool first, bool last) {
    const auto row = static_cast<size_t>(s.row);
    const bool has_state = start_ == StateStart::kCarry && !before_[row].layers.empty();
    if (has_state && first && source.GoesOn(step, s.row)) s.state_in = &before_[row];
    if (last) s.state_out = &after_[row];
    empty[row] = false;
  });
  for (size_t row = 0; row < rows; ++row) {
    if (empty[row]) after_[row] = {};
  }
}

void RowStates::Advance(const LanguageModel& model, Group& group) {
  std::swap(before_, after_);
  if (start_ == StateStart::kRandom) Measure(model, group);
}

void RowStates::BeginAfresh() {
  before_.clear();
  after_.clear();
}

// N(0, power) for each number of an SSM state. A document begins with it as if it had read something long ago: its
// windows of the convolution and of attention are empty.
void RowStates::MakeNoise(const LanguageModel& model, int64_t step, std::vector<Batch>& batches) {
  if (std::all_of(power_.begin(), power_.end(), [](const Tensor& p) { return p.empty() || p.F32()[0] == 0; })) return;
  std::vector<Segment*> segments;
  ForEachSegment(batches, [&](Segment& s, bool, bool) { segments.push_back(&s); });
  if (noise_.size() < segments.size()) noise_.resize(segments.size());
  for (size_t j = 0; j < segments.size(); ++j) {
    if (noise_[j].layers.empty()) noise_[j] = model.NewState();
    segments[j]->state_in = &noise_[j];
  }
  const auto layers = static_cast<int64_t>(power_.size());
  ParallelFor(static_cast<int64_t>(segments.size()) * layers, [&](int64_t task) {
    const auto j = static_cast<size_t>(task / layers), i = static_cast<size_t>(task % layers);
    const Tensor& power = power_[i];
    if (power.empty()) return;
    Tensor& state = noise_[j].layers[i].ssm;
    const int64_t heads = power.size(), of_head = state.size() / heads;
    RandomKey key{seed_, kStateStream + static_cast<uint32_t>(i), static_cast<uint32_t>(step)};
    // A state may have more numbers than an index could count beside row and place: these make a seed.
    const auto place = static_cast<uint64_t>(segments[j]->row) << 32 | static_cast<uint64_t>(segments[j]->row_begin);
    const std::array<uint32_t, 4> bits = RandomBits(key, place);
    key.seed = static_cast<uint64_t>(bits[0]) << 32 | bits[1];
    for (int64_t h = 0; h < heads; ++h) {
      const double spread = std::sqrt(static_cast<double>(power.F32()[h]));
      for (int64_t n = h * of_head; n < (h + 1) * of_head; ++n) {
        state.F32()[n] = static_cast<float>(spread * RandomNormal(key, static_cast<uint64_t>(n)));
      }
    }
  });
}

void RowStates::Measure(const LanguageModel& model, Group& group) {
  constexpr double kNewest = 0.1;  // of the average: weights change little in ten steps
  ForEachState(model.layers(), [&](size_t i, const StateSpec& spec) {
    if (!IsSsm(spec)) return;
    const int64_t heads = spec.shape[0], of_head = spec.shape[1] * spec.shape[2];
    std::vector<double> sums(static_cast<size_t>(heads) + 1, 0.0);  // of squares; of rows
    for (const SequenceState& row : before_) {
      if (row.layers.empty()) continue;
      ++sums.back();
      const float* state = row.layers[i].ssm.F32();
      for (int64_t n = 0; n < heads * of_head; ++n, ++state) {
        sums[static_cast<size_t>(n / of_head)] += static_cast<double>(*state) * static_cast<double>(*state);
      }
    }
    group.Sum(std::span<double>(sums));
    const double count = sums.back() * static_cast<double>(of_head);
    for (int64_t h = 0; h < heads; ++h) {
      float& power = power_[i].F32()[h];
      const double now = count > 0 ? sums[static_cast<size_t>(h)] / count : 0, old = static_cast<double>(power);
      power = static_cast<float>(old == 0 ? now : old + kNewest * (now - old));
    }
  });
}

// By row: 1 + the tokens read, 0 where it has no state.
std::vector<double> RowStates::Positions(int64_t rows) const {
  std::vector<double> positions(static_cast<size_t>(rows), 0.0);
  for (size_t row = 0; row < std::min(positions.size(), before_.size()); ++row) {
    if (!before_[row].layers.empty()) positions[row] = 1 + static_cast<double>(before_[row].position);
  }
  return positions;
}

RowStates RowStates::Gathered(const LanguageModel& model, Group& group, int64_t rows) const {
  RowStates all = *this;
  if (group.alone() || start_ != StateStart::kCarry) return all;
  all.before_.resize(static_cast<size_t>(rows));
  std::vector<double> positions = Positions(rows);
  group.Sum(std::span<double>(positions));
  for (int64_t row = 0; row < rows; ++row) {
    const int owner = static_cast<int>(row / (rows / group.size()));
    const auto r = static_cast<size_t>(row);
    if (owner == 0 || positions[r] == 0 || (owner != group.rank() && !group.leads())) continue;
    const auto position = static_cast<int64_t>(positions[r]) - 1;
    std::vector<std::byte> bytes(static_cast<size_t>(StateBytes(model, position)));
    if (!group.leads()) PackState(model, before_[r], bytes.data());
    const Message message{group.leads() ? Message::kReceive : Message::kSend, group.leads() ? owner : 0, bytes.data(),
                          static_cast<int64_t>(bytes.size())};
    group.Exchange({&message, 1});
    if (group.leads()) all.before_[r] = UnpackState(model, position, bytes.data());
  }
  return all;
}

void RowStates::Scatter(const LanguageModel& model, Group& group, int64_t rows) {
  if (group.alone()) return;
  for (Tensor& power : power_) {
    if (!power.empty())
      group.Broadcast(std::as_writable_bytes(std::span(power.F32(), static_cast<size_t>(power.size()))));
  }
  if (start_ != StateStart::kCarry) return;
  std::vector<double> positions = Positions(rows);
  group.Broadcast(std::as_writable_bytes(std::span<double>(positions)));
  std::vector<SequenceState> own(static_cast<size_t>(rows));
  for (int64_t row = 0; row < rows; ++row) {
    const int owner = static_cast<int>(row / (rows / group.size()));
    const auto r = static_cast<size_t>(row);
    if (positions[r] == 0 || (owner != group.rank() && !group.leads())) continue;
    if (owner == 0) {
      own[r] = std::move(before_[r]);
      continue;
    }
    const auto position = static_cast<int64_t>(positions[r]) - 1;
    std::vector<std::byte> bytes(static_cast<size_t>(StateBytes(model, position)));
    if (group.leads()) PackState(model, before_[r], bytes.data());
    const Message message{group.leads() ? Message::kSend : Message::kReceive, group.leads() ? owner : 0, bytes.data(),
                          static_cast<int64_t>(bytes.size())};
    group.Exchange({&message, 1});
    if (!group.leads()) own[r] = UnpackState(model, position, bytes.data());
  }
  before_ = std::move(own);
  after_.clear();
}

void RowStates::Save(const LanguageModel& model, const std::string& path) const {
  std::vector<SafetensorsItem> items;
  std::map<std::string, std::string> metadata = {{"format", kFormat}};
  std::deque<Tensor> windows;  // items point into it
  if (start_ == StateStart::kCarry) {
    metadata["rows"] = std::to_string(before_.size());
    for (size_t r = 0; r < before_.size(); ++r) {
      if (before_[r].layers.empty()) continue;
      metadata[fmt::format("rows.{}.position", r)] = std::to_string(before_[r].position);
      ForEachState(model.layers(), [&](size_t i, const StateSpec& spec) {
        const LayerState& layer = before_[r].layers[i];
        const std::string name = NameOfState(r, i, spec.name);
        if (!spec.per_token) return items.push_back({name, DType::kF32, spec.shape, layer.Fixed(spec).data()});
        windows.push_back(CopyCache(layer, spec, model.dtype()).rows);
        items.push_back({name, model.dtype(), windows.back().shape(), windows.back().data()});
      });
    }
  }
  for (size_t i = 0; i < power_.size() && start_ == StateStart::kRandom; ++i) {
    if (!power_[i].empty()) items.push_back({PowerName(i), DType::kF32, power_[i].shape(), power_[i].data()});
  }
  WriteSafetensors(path, items, metadata);
}

void RowStates::Load(const LanguageModel& model, const std::string& path) {
  const SafetensorsFile file(path);
  const auto format = file.metadata().find("format");
  if (format == file.metadata().end() || format->second != kFormat) {
    throw UserError({path, "not the states of a run's rows", kFormat,
                     format == file.metadata().end() ? "no format" : "\"" + format->second + "\""});
  }
  before_.clear();
  after_.clear();
  for (size_t i = 0; i < power_.size() && start_ == StateStart::kRandom; ++i) {
    if (!power_[i].empty()) power_[i] = file.ReadF32(PowerName(i), power_[i].shape());
  }
  if (start_ != StateStart::kCarry) return;
  before_.resize(static_cast<size_t>(NumberIn(file, "rows")));
  for (size_t r = 0; r < before_.size(); ++r) {
    const std::string position = fmt::format("rows.{}.position", r);
    if (file.metadata().count(position) == 0) continue;
    before_[r] = model.NewState();
    before_[r].position = NumberIn(file, position);
    ForEachState(model.layers(), [&](size_t i, const StateSpec& spec) {
      LayerState& layer = before_[r].layers[i];
      if (!spec.per_token) layer.Fixed(spec) = file.ReadF32(NameOfState(r, i, spec.name), spec.shape);
      if (spec.name != "k") return;
      const int64_t count = spec.tokens(before_[r].position), width = layer.kv.width();
      const Tensor k = ReadRows(file, NameOfState(r, i, "k"), count, width, model.dtype());
      const Tensor v = ReadRows(file, NameOfState(r, i, "v"), count, width, model.dtype());
      layer.kv.Restore(before_[r].position, {.k = k.Matrix(), .v = v.Matrix()});
    });
  }
}

}  // namespace taipan
