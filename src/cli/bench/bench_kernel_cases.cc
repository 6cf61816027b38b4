#include "cli/bench/bench_kernel_cases.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <set>

#include "base/rng.h"
#include "cli/bench/bench_roof.h"
#include "kernels/adamw.h"
#include "kernels/attention/attention.h"
#include "kernels/causal_conv1d.h"
#include "kernels/cross_entropy.h"
#include "kernels/rms_norm.h"
#include "kernels/ssd/ssd.h"
#include "kernels/swiglu.h"
#include "model/layer_table.h"
#include "model/parameters.h"

namespace taipan {
namespace {

using Call = std::function<void()>;

double Real(int64_t n) { return static_cast<double>(n); }

// Numbers in [-0.5, 0.5), shifted.
Tensor Random(std::vector<int64_t> shape, DType dtype = DType::kF32, float shift = 0) {
  Tensor t(std::move(shape), dtype);
  const RandomKey key{1, kTestStream};
  for (int64_t i = 0; i < t.size(); ++i) {
    const float value = static_cast<float>(RandomUniform(key, static_cast<uint64_t>(i))) - 0.5f + shift;
    if (dtype == DType::kBF16) {
      t.As<BF16>()[i] = ToBF16(value);
    } else {
      t.F32()[i] = value;
    }
  }
  return t;
}

// Cases of one model; each lambda keeps its operands in a shared block.
class Cases {
 public:
  Cases(const ModelConfig& config, int64_t tokens, DType dtype, const std::function<void(const KernelCase&)>& visit)
      : c_(config),
        t_(tokens),
        dtype_(dtype),
        visit_(visit),
        e_(Real(SizeOf(dtype))),
        rows_(Real(tokens)),
        ops_(CostByOperation(config, {.phase = Phase::kPrefill})) {}

  void All() {
    AddProducts();
    if (Has("ssd")) AddSsd();
    if (Has("conv")) AddConv();
    if (Has("gated norm")) AddGatedNorm();
    if (Has("attention")) AddAttentionCases();
    if (Has("swiglu")) AddSwiglu();
    AddNorm();
    AddHead();
    AddAdamW();
  }

 private:
  bool Has(const char* op) const {
    return std::any_of(ops_.begin(), ops_.end(), [&](const OpCost& cost) { return cost.op == op; });
  }

  void Add(const std::string& op, double flops, double bytes, std::function<Call()> prepare,
           std::optional<double> share = std::nullopt) {
    visit_({op, share, flops, bytes, std::move(prepare)});
  }

  Weight NewWeight(int64_t n, int64_t k) const {
    Weight w;
    w.f32 = Random({n, k});
    if (dtype_ == DType::kBF16) w.bf16 = Random({n, k}, dtype_);
    return w;
  }

  void AddProducts() {
    std::set<std::string> known;
    for (const MatrixProduct& p : ProductsOf(c_, {.phase = Phase::kPrefill})) {
      if (known.insert(p.name).second) AddProduct(p.name, p.n, p.k);
    }
  }

  void AddProduct(const std::string& name, int64_t n, int64_t k) {
    struct Data {
      Weight w;
      Tensor x, y, dw;
    };
    const double flops = 2 * rows_ * Real(n) * Real(k);
    const double bytes = e_ * (rows_ * Real(n + k) + Real(n * k));
    auto data = [=, this] {
      return std::make_shared<Data>(
          Data{NewWeight(n, k), Random({t_, k}, dtype_), Random({t_, n}, dtype_), Tensor({n, k})});
    };
    Add(name, flops, bytes, [=] { return [d = data()] { Linear(d->x.Matrix(), d->w, d->y.Matrix()); }; });
    Add(name + " backward, input", flops, bytes,
        [=] { return [d = data()] { LinearBackwardInput(d->y.Matrix(), d->w, d->x.Matrix()); }; });
    Add(name + " backward, weight", flops, e_ * rows_ * Real(n + k) + 8 * Real(n * k),
        [=] { return [d = data()] { LinearBackwardWeight(d->y.Matrix(), d->x.Matrix(), d->dw.Matrix()); }; });
  }

  struct Ssd {
    SsdShape shape;
    Tensor x, dt, b, c, a, d, y, dy, dx, ddt, db, dc, da, dd, entering;
    std::vector<SsdSegment> segments;
    Arena scratch;
    SsdInputs in() const { return {x.Matrix(), dt.Matrix(), b.Matrix(), c.Matrix(), a.F32(), d.F32()}; }
  };

  std::shared_ptr<Ssd> NewSsd() const {
    auto s = std::make_shared<Ssd>();
    const Mamba2Dims dims = Mamba2DimsOf(c_);
    const int64_t heads = dims.ssd.heads, inner = dims.d_inner(), state = dims.group_state();
    s->shape = dims.ssd;
    s->x = Random({t_, inner}, dtype_);
    s->dt = Random({t_, heads}, DType::kF32, 0.55f);  // 0.05 to 1.05
    s->b = Random({t_, state}, dtype_);
    s->c = Random({t_, state}, dtype_);
    s->a = Random({heads}, DType::kF32, -1.0f);  // -1.5 to -0.5
    s->d = Random({heads});
    s->y = Tensor({t_, inner}, dtype_);
    s->dy = Random({t_, inner}, dtype_);
    s->dx = Tensor({t_, inner}, dtype_);
    s->ddt = Tensor({t_, heads});
    s->db = Tensor({t_, state}, dtype_);
    s->dc = Tensor({t_, state}, dtype_);
    s->da = Tensor({heads});
    s->dd = Tensor({heads});
    s->segments = {{.begin = 0, .length = t_}};
    s->entering = Tensor({SsdEnteringBytes(s->shape, s->segments, dtype_)}, DType::kU8);
    return s;
  }

  void AddSsd() {
    const Mamba2Dims dims = Mamba2DimsOf(c_);
    const double inner = Real(dims.d_inner()), state = 2 * Real(dims.group_state()), heads = Real(dims.ssd.heads);
    const double flops = 4 * rows_ * Real(dims.ssd.state_size());
    const double in = rows_ * (e_ * (inner + state) + 4 * heads), out = rows_ * e_ * inner;
    Add("ssd", flops, in + out, [this] {
      return [s = NewSsd()] {
        s->scratch.Reset();
        SsdForward(s->shape, s->in(), s->segments, s->y.Matrix(), s->entering.data(), s->scratch);
      };
    });
    Add("ssd backward", 2 * flops, 2 * in + out, [this] {
      auto s = NewSsd();
      SsdForward(s->shape, s->in(), s->segments, s->y.Matrix(), s->entering.data(), s->scratch);
      return [s] {
        s->scratch.Reset();
        const SsdGradients gradients = {s->dy.Matrix(), s->dx.Matrix(), s->ddt.Matrix(), s->db.Matrix(),
                                        s->dc.Matrix(), s->da.F32(),    s->dd.F32()};
        SsdBackward(s->shape, s->in(), s->segments, s->entering.data(), gradients, s->scratch);
      };
    });
  }

  void AddConv() {
    struct Data {
      Tensor x, w, bias, y, dy, dx, dw, db;
      std::vector<ConvSegment> segments;
      ConvInputs in() const { return {x.Matrix(), w.F32(), bias.F32(), w.shape()[1], segments}; }
    };
    const int64_t channels = Mamba2DimsOf(c_).conv_channels(), width = c_.conv_kernel;
    const double flops = 2 * rows_ * Real(channels * width), bytes = rows_ * e_ * Real(channels);
    auto data = [=, this] {
      return std::make_shared<Data>(Data{Random({t_, channels}, dtype_), Random({channels, width}), Random({channels}),
                                         Tensor({t_, channels}, dtype_), Random({t_, channels}, dtype_),
                                         Tensor({t_, channels}, dtype_), Tensor({channels, width}), Tensor({channels}),
                                         std::vector<ConvSegment>{{.begin = 0, .length = t_}}});
    };
    Add("conv", flops, 2 * bytes, [=] { return [d = data()] { CausalConv1dSilu(d->in(), d->y.Matrix()); }; });
    Add("conv backward", 2 * flops, 3 * bytes, [=] {
      return [d = data()] {
        CausalConv1dSiluBackward(d->in(), {d->dy.Matrix(), d->dx.Matrix(), d->dw.F32(), d->db.F32()});
      };
    });
  }

  void AddGatedNorm() {
    struct Data {
      Tensor y, z, w, out, inv_rms, dz, dw;
      GatedNormInputs in = {};
      Arena scratch = {};
    };
    const int64_t inner = c_.d_inner(), groups = c_.n_groups;
    const float eps = static_cast<float>(c_.rms_norm_eps);
    auto data = [=, this] {
      auto d = std::make_shared<Data>(Data{Random({t_, inner}, dtype_), Random({t_, inner}, dtype_), Random({inner}),
                                           Random({t_, inner}, dtype_), Tensor({t_, groups}),
                                           Tensor({t_, inner}, dtype_), Tensor({inner})});
      d->in = {d->y.Matrix(), d->z.Matrix(), d->w.F32(), groups, eps};
      return d;
    };
    Add("gated norm", 0, 3 * rows_ * e_ * Real(inner),
        [=] { return [d = data()] { GatedRmsNorm(d->in, d->out.Matrix(), d->inv_rms.F32(), d->scratch); }; });
    Add("gated norm backward", 0, 5 * rows_ * e_ * Real(inner), [=, this] {
      auto d = data();
      auto dy = std::make_shared<Tensor>(std::vector<int64_t>{t_, inner}, dtype_);
      GatedRmsNorm(d->in, dy->Matrix(), d->inv_rms.F32(), d->scratch);
      return [=] {
        GatedRmsNormBackward(d->in, d->inv_rms.F32(), {d->out.Matrix(), dy->Matrix(), d->dz.Matrix(), d->dw.F32()});
      };
    });
  }

  struct Attention {
    AttentionShape shape;
    Tensor q, k, v, out, lse, dout, dq, dk, dv;
    std::vector<int64_t> positions;
    std::vector<KeySpan> keys;
    std::vector<KeyGradientSpan> gradients;
    std::vector<AttentionSegment> segments;
    Arena scratch;
    void Forward() {
      AttentionForward(shape, {q.Matrix(), positions.data(), segments}, out.Matrix(), lse.F32(), scratch);
    }
  };

  // The queries of one sequence, drawn token by token.
  std::shared_ptr<Attention> NewAttention(int64_t window, double share) const {
    auto a = std::make_shared<Attention>();
    const AttentionDims dims = AttentionDimsOf(c_, window, {});
    a->shape = dims.shape;
    a->positions = Positions(share);
    const int64_t n = static_cast<int64_t>(a->positions.size());
    const int64_t q = dims.q_width(), kv = dims.kv_width();
    a->q = Random({n, q}, dtype_);
    a->k = Random({t_, kv}, dtype_);
    a->v = Random({t_, kv}, dtype_);
    a->out = Tensor({n, q}, dtype_);
    a->lse = Tensor({n, c_.num_attention_heads});
    a->dout = Random({n, q}, dtype_);
    a->dq = Tensor({n, q}, dtype_);
    a->dk = Tensor({t_, kv});
    a->dv = Tensor({t_, kv});
    a->keys = {{a->k.data(), a->v.data(), dtype_, kv, 0, t_}};
    a->gradients = {{a->dk.F32(), a->dv.F32()}};
    a->segments = {{0, n, a->keys, a->gradients}};
    return a;
  }

  std::vector<int64_t> Positions(double share) const {
    std::vector<int64_t> positions;
    for (int64_t i = 0; i < t_; ++i) {
      if (RandomUniform({1, kTestStream + 1}, static_cast<uint64_t>(i)) < share) positions.push_back(i);
    }
    if (positions.empty()) positions.push_back(t_ - 1);
    return positions;
  }

  void AddAttention(const std::string& name, int64_t window, double share, std::optional<double> shown) {
    const std::vector<int64_t> positions = Positions(share);
    double pairs = 0;
    for (const int64_t p : positions) pairs += Real(window > 0 ? std::min(p + 1, window) : p + 1);
    const AttentionDims dims = AttentionDimsOf(c_, window, {});
    const double q = Real(dims.q_width()), kv = Real(dims.kv_width()), n = Real(static_cast<int64_t>(positions.size()));
    const double flops = 4 * pairs * q, in = e_ * (n * q + 2 * rows_ * kv), out = e_ * n * q;
    Add(
        name, flops, in + out,
        [=, this] {
          return [a = NewAttention(window, share)] {
            a->scratch.Reset();
            a->Forward();
          };
        },
        shown);
    Add(
        name + " backward", 2 * flops, 2 * in + out,
        [=, this] {
          auto a = NewAttention(window, share);
          a->Forward();
          return [a] {
            a->scratch.Reset();
            AttentionBackward(a->shape, {a->q.Matrix(), a->positions.data(), a->segments}, a->out.Matrix(),
                              a->lse.F32(), {.dout = a->dout.Matrix(), .dq = a->dq.Matrix()}, a->scratch);
          };
        },
        shown);
  }

  void AddAttentionCases() {
    if (CountBlocks(c_, LayerKind::kSelectiveAttention) > 0) {
      for (const double share : {0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0}) {
        AddAttention("attention", c_.sliding_window, share, share);
      }
    }
    if (CountBlocks(c_, LayerKind::kSlidingAttention) > 0) {
      AddAttention("sliding attention", c_.sliding_window, 1, std::nullopt);
    }
    for (const LayerKind kind : {LayerKind::kAttention, LayerKind::kAttentionOnly, LayerKind::kMamba2Attention}) {
      if (CountBlocks(c_, kind) > 0) return AddAttention("full attention", 0, 1, std::nullopt);
    }
  }

  void AddSwiglu() {
    struct Data {
      Tensor gate, up, y, dgate, dup;
    };
    const int64_t ff = c_.intermediate_size;
    auto data = [=, this] {
      return std::make_shared<Data>(Data{Random({t_, ff}, dtype_), Random({t_, ff}, dtype_), Random({t_, ff}, dtype_),
                                         Tensor({t_, ff}, dtype_), Tensor({t_, ff}, dtype_)});
    };
    Add("swiglu", 0, 3 * rows_ * e_ * Real(ff),
        [=] { return [d = data()] { Swiglu(d->gate.Matrix(), d->up.Matrix(), d->y.Matrix()); }; });
    Add("swiglu backward", 0, 5 * rows_ * e_ * Real(ff), [=] {
      return [d = data()] {
        SwigluBackward(d->gate.Matrix(), d->up.Matrix(), d->y.Matrix(), d->dgate.Matrix(), d->dup.Matrix());
      };
    });
  }

  void AddNorm() {
    struct Data {
      Tensor h, w, u, inv_rms, dh, dw;
    };
    const int64_t width = c_.hidden_size;
    const float eps = static_cast<float>(c_.rms_norm_eps);
    auto data = [=, this] {
      return std::make_shared<Data>(Data{Random({t_, width}), Random({width}), Random({t_, width}, dtype_),
                                         Random({t_}, DType::kF32, 1.0f), Tensor({t_, width}), Tensor({width})});
    };
    const double f32 = rows_ * 4 * Real(width), narrow = rows_ * e_ * Real(width);
    Add("norm", 0, f32 + narrow,
        [=] { return [=, d = data()] { RmsNorm(d->h.Matrix(), d->w.F32(), eps, d->u.Matrix(), d->inv_rms.F32()); }; });
    Add("norm backward", 0, 3 * f32 + narrow, [=] {
      return [d = data()] {
        RmsNormBackward(d->h.Matrix(), d->w.F32(), d->inv_rms.F32(),
                        {d->u.Matrix(), d->dh.Matrix(), Accumulate::kAdd, d->dw.F32()});
      };
    });
  }

  void AddHead() {
    struct Data {
      Weight w;
      Tensor h, dh, dw;
      std::vector<int32_t> targets;
      Arena scratch;
    };
    const int64_t width = c_.hidden_size, vocab = c_.vocab_size;
    Add("head, loss", 6 * rows_ * Real(width * vocab), 2 * rows_ * e_ * Real(width) + (e_ + 8) * Real(width * vocab),
        [=, this] {
          auto d = std::make_shared<Data>();
          d->w = NewWeight(vocab, width);
          d->h = Random({t_, width}, dtype_);
          d->dh = Tensor({t_, width}, dtype_);
          d->dw = Tensor({vocab, width});
          d->targets.resize(static_cast<size_t>(t_));
          for (size_t i = 0; i < d->targets.size(); ++i) {
            d->targets[i] = static_cast<int32_t>(RandomBelow({1, kTestStream}, i, static_cast<uint64_t>(vocab)));
          }
          return [d] {
            d->scratch.Reset();
            const HeadGradients out = {.scale = 1e-3f, .dh = d->dh.Matrix(), .dw = d->dw.Matrix()};
            HeadCrossEntropy({d->h.Matrix(), d->w, d->targets, {}}, nullptr, &out, d->scratch);
          };
        });
  }

  void AddAdamW() {
    struct Data {
      Tensor p, g, m, v, copy;
    };
    // No more than fits beside the rest of a machine; far more than any cache.
    const int64_t n = std::min<int64_t>(CountParameters(c_), int64_t{64} << 20);
    // As the trainer calls it: gradients are cleared on the way, bf16 copies written.
    const bool copies = dtype_ == DType::kBF16;
    Add("adamw", 0, ((copies ? e_ : 0) + 32) * Real(n), [n, copies] {
      auto d = std::make_shared<Data>(
          Data{Random({n}), Random({n}), Tensor({n}), Tensor({n}), copies ? Tensor({n}, DType::kBF16) : Tensor()});
      return [d, n] {
        AdamW({d->p.F32(), d->g.F32(), d->m.F32(), d->v.F32(), n}, {.lr = 1e-4, .weight_decay = 0.01},
              {.bf16 = d->copy.empty() ? nullptr : d->copy.As<BF16>(), .clear = d->g.F32()});
      };
    });
  }

  const ModelConfig& c_;
  const int64_t t_;
  const DType dtype_;
  const std::function<void(const KernelCase&)>& visit_;
  const double e_, rows_;          // bytes of an element; tokens
  const std::vector<OpCost> ops_;  // that the model has
};

}  // namespace

void ForEachKernelCase(const ModelConfig& config, int64_t tokens, DType dtype,
                       const std::function<void(const KernelCase&)>& visit) {
  Cases(config, tokens, dtype, visit).All();
}

}  // namespace taipan
