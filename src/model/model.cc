#include "model/model.h"

#include <algorithm>

#include "base/op_timer.h"
#include "kernels/convert.h"
#include "kernels/embedding.h"
#include "model/block_table.h"
#include "model/forward_context.h"
#include "model/init.h"

namespace taipan {
namespace {

ModelParams NewParams(const ModelConfig& c, const std::vector<std::unique_ptr<Block>>& blocks) {
  ModelParams p;
  p.embedding.master = Tensor({c.vocab_size, c.hidden_size});
  for (const auto& block : blocks) p.blocks.push_back(block->NewParams());
  p.norm = Tensor({c.hidden_size});
  if (!c.tie_word_embeddings) p.lm_head.master = Tensor({c.vocab_size, c.hidden_size});
  return p;
}

void CheckBatch(const Batch& batch, const ModelConfig& config) {
  for (size_t i = 0; i < batch.tokens.size(); ++i) {
    if (batch.tokens[i] < 0 || batch.tokens[i] >= config.vocab_size) {
      throw UserError({fmt::format("token {}", i), "id out of range", fmt::format("0 to {}", config.vocab_size - 1),
                       fmt::format("{}", batch.tokens[i]), ""});
    }
  }
  int64_t at = 0;
  for (const Segment& s : batch.segments) {
    CHECK_EQ(s.begin, at);
    CHECK_GE(s.length, 0);
    at += s.length;
  }
  CHECK_EQ(at, batch.size());
}

}  // namespace

std::vector<LayerSegment> LayerSegments(const Batch& batch, const std::vector<int64_t>& positions, size_t layer) {
  std::vector<LayerSegment> out;
  for (size_t j = 0; j < batch.segments.size(); ++j) {
    const Segment& s = batch.segments[j];
    out.push_back({s.begin, s.length, s.row, s.row_begin, positions[j],
                   s.state_in ? &s.state_in->layers[layer] : nullptr,
                   s.state_out ? &s.state_out->layers[layer] : nullptr});
  }
  return out;
}

void ModelParams::ForEach(const ParamVisitor& visit) {
  visit({"model.embeddings.weight", true, Init::kNormal, {}, lm_head.master.empty() ? &embedding.bf16 : nullptr},
        embedding.master);
  for (size_t i = 0; i < blocks.size(); ++i) {
    blocks[i]->ForEach([&](const ParamInfo& info, Tensor& t) {
      ParamInfo full = info;
      full.name = fmt::format("model.layers.{}.{}", i, info.name);
      visit(full, t);
    });
  }
  visit({"model.norm.weight", false, Init::kOnes, {}}, norm);
  if (!lm_head.master.empty()) visit({"lm_head.weight", true, Init::kNormal, {}, &lm_head.bf16}, lm_head.master);
}

void ModelParams::Zero() {
  ForEach([](const ParamInfo&, Tensor& t) { t.Zero(); });
}

int64_t SequenceState::bytes() const {
  int64_t sum = 0;
  for (const LayerState& s : layers) sum += s.bytes();
  return sum;
}

ForwardContext::ForwardContext() : impl_(std::make_unique<Impl>()) {}
ForwardContext::~ForwardContext() = default;
ForwardContext::ForwardContext(ForwardContext&&) noexcept = default;
ForwardContext& ForwardContext::operator=(ForwardContext&&) noexcept = default;
const std::vector<GateReport>& ForwardContext::gates() const { return impl_->gates; }
void ForwardContext::SetRecompute(Recompute recompute) { impl_->recompute = recompute; }
int64_t ForwardContext::peak_bytes() const {
  return impl_->results.peak_bytes() + impl_->scratch.peak_bytes() + impl_->again.peak_bytes();
}

Model::Model(ModelConfig config) : config_(std::move(config)) {
  ValidateModelConfig(config_, "model config");
  for (LayerKind kind : config_.layer_pattern) blocks_.push_back(MakeBlock(kind, config_));
  params_ = NewParams(config_, blocks_);
}

ModelParams Model::NewGradients() const { return NewParams(config_, blocks_); }

void Model::Initialise(uint64_t seed, double gate_bias) {
  int branches = 0;
  for (const auto& block : blocks_) branches += block->residual_branches();
  uint32_t index = 0;
  params_.ForEach([&](const ParamInfo& info, Tensor& t) {
    InitialiseParameter(info, t, {seed, kInitStream + index++, 0}, config_.initializer_range, branches, gate_bias);
  });
}

void Model::SetDType(DType dtype) {
  CHECK(dtype == DType::kF32 || dtype == DType::kBF16);
  if (dtype == DType::kBF16) CheckAllowsBF16(config_);
  dtype_ = dtype;
  params_.ForEach([&](const ParamInfo& info, Tensor& t) {
    if (info.bf16 != nullptr) *info.bf16 = dtype == DType::kBF16 ? Tensor(t.shape(), DType::kBF16) : Tensor();
  });
  RefreshCopies();
}

void Model::RefreshCopies() {
  if (dtype_ == DType::kF32) return;
  params_.ForEach([&](const ParamInfo& info, Tensor& t) {
    if (info.bf16 != nullptr) Convert(t.Matrix(), info.bf16->Matrix());
  });
}

SequenceState Model::NewState() const {
  SequenceState state;
  for (const auto& block : blocks_) state.layers.push_back(block->NewState());
  return state;
}

void Model::Forward(const Batch& batch, const GateOptions& gate, bool keep, ForwardContext& context,
                    const std::function<void(int64_t, ConstMatrixView)>& after_block) const {
  CheckBatch(batch, config_);
  ForwardContext::Impl& c = *context.impl_;
  c.results.Reset();
  c.scratch.Reset();
  c.kept = keep;
  c.saved.resize(blocks_.size());
  c.entries.assign(blocks_.size(), {});
  c.gates.resize(static_cast<size_t>(config_.num_sals()));
  c.positions.clear();
  for (const Segment& s : batch.segments) {
    c.positions.push_back(s.position());
    if (s.state_out && s.state_out->layers.empty()) s.state_out->layers = NewState().layers;
  }
  c.h = c.results.Matrix(batch.size(), config_.hidden_size);
  {
    const OpTimer timer("embedding");
    Embed(params_.embedding.master.Matrix(), batch.tokens, c.h);
  }
  if (after_block) after_block(-1, c.h);
  int64_t sal = 0;
  const bool again = keep && c.recompute == Recompute::kBlock;
  for (size_t i = 0; i < blocks_.size(); ++i) {
    if (again) {
      c.entries[i] = c.results.Matrix(batch.size(), config_.hidden_size);
      Convert(c.h, c.entries[i]);
    }
    c.segments = LayerSegments(batch, c.positions, i);
    for (const LayerSegment& s : c.segments) CHECK(!again || s.state_in == nullptr || s.state_in != s.state_out);
    const bool selective = blocks_[i]->selective();
    ForwardBlock(i, gate, keep && !again, context, c.results, c.h,
                 selective ? &c.gates[static_cast<size_t>(sal)] : nullptr, sal);
    if (selective) ++sal;
    if (after_block) after_block(static_cast<int64_t>(i), c.h);
  }
  for (size_t j = 0; j < batch.segments.size(); ++j) {
    const Segment& s = batch.segments[j];
    if (s.state_out) s.state_out->position = c.positions[j] + s.length;
  }
}

void Model::ForwardBlock(size_t index, const GateOptions& gate, bool keep, ForwardContext& context, Arena& results,
                         MatrixView h, GateReport* report, int64_t sal) const {
  ForwardContext::Impl& c = *context.impl_;
  const ForwardCall call{.segments = c.segments,
                         .scratch = &c.scratch,
                         .results = &results,
                         .keep = keep,
                         .keep_mixer = c.recompute != Recompute::kMixer,
                         .dtype = dtype_,
                         .gate = &gate,
                         .report = report,
                         .sal_index = sal};
  if (keep && !c.saved[index]) c.saved[index] = blocks_[index]->NewSaved();
  blocks_[index]->Forward(*params_.blocks[index], call, h, c.saved[index].get());
}

}  // namespace taipan
