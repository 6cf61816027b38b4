#include "train/optimizer.h"

#include <algorithm>
#include <cmath>
#include <sstream>

#include "base/fields.h"
#include "kernels/scale.h"

namespace taipan {

double GradientNorm(ModelParams& gradients) {
  double sum = 0;
  gradients.ForEach([&](Weight& g) { sum += SquaredNorm(g.F32(), g.f32.size()); });
  return std::sqrt(sum);
}

void ScaleNewWeights(ModelParams& params, double width) {
  if (width == 1) return;
  params.ForEach([&](Weight& w) {
    if (SumsOverWidth(w.spec)) Scale(w.f32.Matrix(), static_cast<float>(1 / std::sqrt(width)), w.f32.Matrix());
  });
}

Optimizer::Optimizer(ModelParams& params, OptimizerKind kind, Group& group, MomentType type)
    : kind_(kind),
      dtype_(DTypeOf(type)),
      shards_(
          params, group, kind == OptimizerKind::kMuon ? &IsHiddenMatrix : [](const WeightSpec&) { return false; }) {
  params.ForEach([&](Weight& p) {
    const bool one = kind_ == OptimizerKind::kMuon && IsHiddenMatrix(p.spec);
    const auto [begin, end] = shards_.Own(moments_.size());
    const bool all = end - begin == static_cast<int64_t>(p.spec.count());
    const std::vector<int64_t> own = all ? p.spec.shape : std::vector<int64_t>{end - begin};
    moments_.push_back({p.spec.name, p.spec.shape, one, Tensor(own, dtype_), one ? Tensor() : Tensor(own, dtype_)});
  });
}

WeightGroups::WeightGroups(const std::string& names, const std::vector<ParameterGroup>& groups) {
  std::stringstream list(names);
  for (std::string name; std::getline(list, name, ',');) {
    if (std::none_of(groups.begin(), groups.end(), [&](const ParameterGroup& g) { return g.name == name; })) {
      std::string known;
      for (const ParameterGroup& g : groups) known += (known.empty() ? "" : ", ") + g.name;
      throw UserError({"--train-only", "no group of this model's weights", known, "\"" + name + "\""});
    }
    names_.insert(name);
  }
}

namespace {

// The maps within a weight, each a matrix of its own. A step along an orthogonal matrix changes outputs by as much as
// sqrt(inputs) times its size, of which each output gets 1/sqrt(outputs): docs/math/mup.md.
void AppendParts(Weight& p, float* gradient, Tensor& momentum, double width, const RandomKey& key,
                 std::vector<MuonMatrix>& to) {
  constexpr uint64_t kApart = uint64_t{1} << 40;  // elements between the places of two parts' roundings
  const MatrixView g(gradient, p.spec.shape[0], p.spec.shape[1]);
  const MatrixView copy = p.bf16.empty() ? MatrixView() : p.bf16.Matrix();
  int64_t row = 0;
  uint64_t place = 0;
  for (const auto& [rows, grows] : p.spec.Parts()) {
    to.push_back({p.f32.Matrix().Rows(row, rows),
                  g.Rows(row, rows),
                  momentum.Matrix().Rows(row, rows),
                  copy ? copy.Rows(row, rows) : copy,
                  1 / (grows ? std::sqrt(width) : width),
                  {key, place}});
    row += rows;
    place += kApart;
  }
  CHECK_EQ(row, p.spec.shape[0]);
}

}  // namespace

void Optimizer::Step(ModelParams& params, std::span<float* const> gradients, const AdamWSettings& settings,
                     const WeightGroups& trained, double width, uint64_t seed, double momentum) {
  std::vector<MuonMatrix> matrices;
  CHECK_EQ(gradients.size(), moments_.size());
  size_t i = 0;
  params.ForEach([&](Weight& p) {
    AdamWSettings own = settings;
    if (!p.spec.decay) own.weight_decay = 0;
    Moments& moments = moments_[i];
    const auto [begin, end] = shards_.Own(i);
    const RandomKey key{
        .seed = seed, .stream = kRoundingStream + static_cast<uint32_t>(i), .step = static_cast<uint32_t>(own.step)};
    float* const gradient = gradients[i++];
    if (begin == end) return;
    if (!trained.Has(p.spec.group)) {
      std::fill_n(gradient, end - begin, 0.0f);
      return;
    }
    if (moments.one) return AppendParts(p, gradient, moments.m, width, key, matrices);
    if (SumsOverWidth(p.spec)) {
      own.lr /= width;
      own.weight_decay *= width;
    }
    const AdamWAlso also{.bf16 = p.bf16.empty() ? nullptr : p.bf16.As<BF16>() + begin, .clear = gradient};
    float* const param = p.F32() + begin;
    if (dtype_ == DType::kF32) {
      AdamW({param, gradient, moments.m.F32(), moments.v.F32(), end - begin}, own, also);
    } else {
      AdamW({param, gradient, moments.m.As<BF16>(), moments.v.As<BF16>(), end - begin}, own,
            {key, static_cast<uint64_t>(begin)}, also);
    }
  });
  Muon(matrices,
       {.lr = settings.lr,
        .momentum = momentum,
        .weight_decay = settings.weight_decay,
        .gradient_scale = settings.gradient_scale},
       scratch_);
  shards_.GatherWeights(params, trained);
}

std::vector<SafetensorsItem> Optimizer::Items() const {
  std::vector<SafetensorsItem> items;
  const bool gathered = !shards_.group().alone();
  for (const Moments& moments : moments_) {
    for (size_t k = 0; k < moments.count(); ++k) {
      const Tensor& all = gathered ? whole_.at(items.size()) : k == 0 ? moments.m : moments.v;
      items.push_back({(k == 0 ? "m." : "v.") + moments.name, dtype_, moments.shape, all.data()});
    }
  }
  return items;
}

void Optimizer::Save(const std::string& path) const { WriteSafetensors(path, Items()); }

namespace {

Tensor ReadMoment(const SafetensorsFile& file, const std::string& name, const std::vector<int64_t>& shape,
                  DType dtype) {
  const SafetensorsEntry& entry = file.At(name);
  if (entry.dtype != dtype || entry.shape != shape) {
    throw UserError({file.path(), "tensor " + name, std::string(NameOf(dtype)) + " " + ShapeString(shape),
                     std::string(NameOf(entry.dtype)) + " " + ShapeString(entry.shape)});
  }
  return file.Read(name);
}

}  // namespace

void Optimizer::Load(const std::string& path) {
  const SafetensorsFile file(path);
  size_t expected = 0;
  for (const Moments& moments : moments_) {
    expected += moments.count();
    // AdamW has two moments of every weight; one alone is Muon's.
    if (!file.Has("m." + moments.name) || file.Has("v." + moments.name) == !moments.one) continue;
    throw UserError({path, "the state of another optimizer", NameIn(kind_),
                     NameIn(kind_ == OptimizerKind::kMuon ? OptimizerKind::kAdamW : OptimizerKind::kMuon)});
  }
  if (file.entries().size() != expected) {
    throw UserError({path, "not the optimizer state of this model", fmt::format("{} tensors", expected),
                     fmt::format("{} tensors", file.entries().size())});
  }
  whole_.clear();
  const bool scattered = !shards_.group().alone();
  for (Moments& moments : moments_) {
    for (size_t k = 0; k < moments.count(); ++k) {
      Tensor all = ReadMoment(file, (k == 0 ? "m." : "v.") + moments.name, moments.shape, dtype_);
      if (scattered) {
        whole_.push_back(std::move(all));
      } else {
        (k == 0 ? moments.m : moments.v) = std::move(all);
      }
    }
  }
}

// Between the first rank's whole tensors and every rank's own elements; way: of the first rank.
void Optimizer::Move(Message::Way way) {
  Group& group = shards_.group();
  size_t next = 0;
  for (size_t i = 0; i < moments_.size(); ++i) {
    for (size_t k = 0; k < moments_[i].count(); ++k, ++next) {
      Tensor& own = k == 0 ? moments_[i].m : moments_[i].v;
      std::vector<Message> messages;
      if (!group.leads()) {
        messages.push_back({way == Message::kSend ? Message::kReceive : Message::kSend, 0, own.data(), own.bytes()});
        group.Exchange(messages);
        continue;
      }
      std::byte* const all = static_cast<std::byte*>(whole_[next].data());
      const int64_t element = SizeOf(dtype_);
      for (int rank = 1; rank < group.size(); ++rank) {
        const auto [begin, end] = shards_.PieceOf(i, rank);
        messages.push_back({way, rank, all + begin * element, (end - begin) * element});
      }
      group.Exchange(messages);
      const auto [begin, end] = shards_.Own(i);
      if (begin == end) continue;
      std::byte* const here = static_cast<std::byte*>(own.data());
      way == Message::kSend ? std::copy_n(all + begin * element, own.bytes(), here)
                            : std::copy_n(here, own.bytes(), all + begin * element);
    }
  }
}

void Optimizer::Gather() {
  if (shards_.group().alone()) return;
  whole_.clear();
  for (const Moments& moments : moments_) {
    for (size_t k = 0; k < moments.count() && shards_.group().leads(); ++k) whole_.emplace_back(moments.shape, dtype_);
  }
  Move(Message::kReceive);
}

void Optimizer::Scatter() {
  if (shards_.group().alone()) return;
  Move(Message::kSend);
  whole_.clear();
}

}  // namespace taipan
