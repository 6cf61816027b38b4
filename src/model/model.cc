#include "model/model.h"

#include <algorithm>

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

void ModelParams::ForEach(const ParamVisitor& visit) {
  visit({"model.embeddings.weight", true, Init::kNormal, {}}, embedding.master);
  for (size_t i = 0; i < blocks.size(); ++i) {
    blocks[i]->ForEach([&](const ParamInfo& info, Tensor& t) {
      ParamInfo full = info;
      full.name = fmt::format("model.layers.{}.{}", i, info.name);
      visit(full, t);
    });
  }
  visit({"model.norm.weight", false, Init::kOnes, {}}, norm);
  if (!lm_head.master.empty()) visit({"lm_head.weight", true, Init::kNormal, {}}, lm_head.master);
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
int64_t ForwardContext::peak_bytes() const { return impl_->results.peak_bytes() + impl_->scratch.peak_bytes(); }

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
  c.gates.resize(static_cast<size_t>(config_.num_sals()));
  c.positions.clear();
  for (const Segment& s : batch.segments) {
    c.positions.push_back(s.position());
    if (s.state_out && s.state_out->layers.empty()) s.state_out->layers = NewState().layers;
  }
  c.h = c.results.Matrix(batch.size(), config_.hidden_size);
  Embed(params_.embedding.master.Matrix(), batch.tokens, c.h);
  if (after_block) after_block(-1, c.h);
  int64_t sal = 0;
  for (size_t i = 0; i < blocks_.size(); ++i) {
    c.segments.clear();
    for (size_t j = 0; j < batch.segments.size(); ++j) {
      const Segment& s = batch.segments[j];
      c.segments.push_back({s.begin, s.length, s.row, s.row_begin, c.positions[j],
                            s.state_in ? &s.state_in->layers[i] : nullptr,
                            s.state_out ? &s.state_out->layers[i] : nullptr});
    }
    ForwardCall call{c.segments, &c.scratch, &c.results, keep, &gate, nullptr, 0};
    if (blocks_[i]->selective()) {
      call.report = &c.gates[static_cast<size_t>(sal)];
      call.sal_index = sal++;
    }
    if (keep && !c.saved[i]) c.saved[i] = blocks_[i]->NewSaved();
    blocks_[i]->Forward(*params_.blocks[i], call, c.h, c.saved[i].get());
    if (after_block) after_block(static_cast<int64_t>(i), c.h);
  }
  for (size_t j = 0; j < batch.segments.size(); ++j) {
    const Segment& s = batch.segments[j];
    if (s.state_out) s.state_out->position = c.positions[j] + s.length;
  }
}

}  // namespace taipan
