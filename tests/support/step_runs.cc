#include "support/step_runs.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <utility>

#include "support/random_model.h"

namespace taipan::test {
namespace {

int64_t Size(const std::vector<int32_t>& tokens) { return static_cast<int64_t>(tokens.size()); }

// Where each document begins in its row and in flat order.
struct Place {
  int64_t in_row = 0, flat = 0;
};
std::vector<std::vector<Place>> PlacesOf(const StepSpec& spec) {
  std::vector<std::vector<Place>> places;
  int64_t flat = 0;
  for (const auto& row : spec.rows) {
    int64_t in_row = 0;
    places.emplace_back();
    for (const Document& document : row) {
      places.back().push_back({in_row, flat});
      in_row += Size(document.tokens);
      flat += Size(document.tokens);
    }
  }
  return places;
}

// One batch of the plan with all that its forward and backward need; states live as long as the step.
struct PlannedBatch {
  std::vector<StepPiece> pieces;
  Batch batch;
  GateOptions gate;
  std::vector<int64_t> flat;  // [T] flat index of each row
  std::vector<std::vector<float>> noise;
  ForwardContext context;
};
using DocumentKey = std::pair<int64_t, int64_t>;

struct StepRunner {
  StepRunner(const LanguageModel& m, const StepSpec& s) : model(m), spec(s), places(PlacesOf(s)) {}

  const LanguageModel& model;
  const StepSpec& spec;
  std::vector<std::vector<Place>> places;
  std::vector<std::unique_ptr<PlannedBatch>> batches;
  std::vector<std::unique_ptr<SequenceState>> states;
  std::map<DocumentKey, SequenceState*> last_state;

  void AddPiece(const StepPiece& piece, PlannedBatch& planned);
  void Build(const std::vector<StepPiece>& pieces);
  void Gather(const PlannedBatch& planned, StepOutcome& result) const;
  void Backward(StateGradients carry, ModelParams& grads, StepOutcome& result);
};

void StepRunner::AddPiece(const StepPiece& piece, PlannedBatch& planned) {
  const size_t r = static_cast<size_t>(piece.row), d = static_cast<size_t>(piece.document);
  const Document& document = spec.rows[r][d];
  const Place place = places[r][d];
  Batch& batch = planned.batch;
  SequenceState*& last = last_state[{piece.row, piece.document}];
  Segment segment{.begin = batch.size(), .length = piece.length, .row = piece.row};
  segment.row_begin = place.in_row + piece.begin;
  segment.state_in = piece.begin > 0 ? last : nullptr;
  if (piece.begin + piece.length < Size(document.tokens)) {
    states.push_back(std::make_unique<SequenceState>(model.NewState()));
    segment.state_out = last = states.back().get();
  }
  batch.segments.push_back(segment);
  for (int64_t i = piece.begin; i < piece.begin + piece.length; ++i) {
    const size_t at = static_cast<size_t>(i), flat = static_cast<size_t>(place.flat + i);
    batch.tokens.push_back(document.tokens[at]);
    batch.targets.push_back(document.targets[at]);
    if (!spec.weights.empty()) batch.weights.push_back(spec.weights[flat]);
    planned.flat.push_back(place.flat + i);
    for (size_t g = 0; g < spec.noise.size(); ++g) {
      planned.noise[g].push_back(spec.noise[g][2 * flat]);
      planned.noise[g].push_back(spec.noise[g][2 * flat + 1]);
    }
  }
}

void StepRunner::Build(const std::vector<StepPiece>& pieces) {
  auto planned = std::make_unique<PlannedBatch>();
  planned->pieces = pieces;
  planned->noise.resize(spec.noise.size());
  for (const StepPiece& piece : pieces) AddPiece(piece, *planned);
  planned->gate = spec.gate;
  if (!spec.noise.empty()) {
    planned->gate.noise = GateNoise::kGiven;
    for (const auto& noise : planned->noise) planned->gate.given.push_back(noise.data());
  }
  model.Forward(planned->batch, planned->gate, true, planned->context);
  batches.push_back(std::move(planned));
}

void StepRunner::Gather(const PlannedBatch& planned, StepOutcome& result) const {
  const std::vector<GateReport>& gates = planned.context.gates();
  result.sals.resize(gates.size());
  for (size_t g = 0; g < gates.size(); ++g) {
    SalValues& sal = result.sals[g];
    const size_t n = static_cast<size_t>(spec.tokens());
    sal.selected.resize(n);
    sal.margin.resize(n);
    sal.alpha.resize(n);
    for (size_t i = 0; i < planned.flat.size(); ++i) {
      const size_t to = static_cast<size_t>(planned.flat[i]);
      sal.selected[to] = gates[g].selected[i];
      sal.margin[to] = gates[g].margin[i];
      sal.alpha[to] = gates[g].alpha[i];
    }
  }
}

void StepRunner::Backward(StateGradients carry, ModelParams& grads, StepOutcome& result) {
  std::map<DocumentKey, std::unique_ptr<SequenceStateGradient>> from_later;
  for (size_t b = batches.size(); b-- > 0;) {
    PlannedBatch& planned = *batches[b];
    std::vector<const SequenceStateGradient*> dstate_out;
    std::vector<SequenceStateGradient*> dstate_in;
    std::vector<std::unique_ptr<SequenceStateGradient>> alive;
    for (const StepPiece& piece : planned.pieces) {
      auto& slot = from_later[{piece.row, piece.document}];
      alive.push_back(std::move(slot));
      dstate_out.push_back(alive.back().get());
      if (carry == StateGradients::kExact && piece.begin > 0) slot = std::make_unique<SequenceStateGradient>();
      dstate_in.push_back(slot.get());
    }
    result.nll += model.Backward(planned.context, spec.totals(), result.sums, spec.loss, grads, dstate_out, dstate_in);
  }
}

void CollectGradients(ModelParams& grads, StepOutcome& result) {
  double sum = 0;
  grads.ForEach([&](Weight& weight) {
    NamedGradient gradient{weight.spec.name, weight.spec.decay, weight.spec.stored_shape(), {}};
    gradient.values.assign(weight.F32(), weight.F32() + weight.f32.size());
    sum += Norm(gradient.values) * Norm(gradient.values);
    result.gradients.push_back(std::move(gradient));
  });
  result.grad_norm = std::sqrt(sum);
}

}  // namespace

Document NextTokenDocument(const std::vector<int32_t>& tokens) {
  Document document{tokens, {}};
  if (!tokens.empty()) document.targets.assign(tokens.begin() + 1, tokens.end());
  document.targets.push_back(-1);
  return document;
}

int64_t StepSpec::tokens() const {
  int64_t n = 0;
  for (const auto& row : rows) {
    for (const Document& document : row) n += Size(document.tokens);
  }
  return n;
}

StepTotals StepSpec::totals() const {
  StepTotals totals;
  size_t flat = 0;
  for (const auto& row : rows) {
    totals.row_lengths.push_back(0);
    for (const Document& document : row) {
      totals.row_lengths.back() += Size(document.tokens);
      for (int32_t target : document.targets) {
        const double weight = weights.empty() ? 1.0 : static_cast<double>(weights[flat]);
        if (target >= 0) totals.targets += weight;
        ++flat;
      }
    }
  }
  return totals;
}

StepPlan WholeStep(const StepSpec& spec) {
  StepPlan plan(1);
  for (const auto& batch : RowByRow(spec)) plan[0].insert(plan[0].end(), batch.begin(), batch.end());
  return plan;
}

StepPlan RowByRow(const StepSpec& spec) {
  StepPlan plan;
  for (size_t r = 0; r < spec.rows.size(); ++r) {
    plan.emplace_back();
    for (size_t d = 0; d < spec.rows[r].size(); ++d) {
      plan.back().push_back({static_cast<int64_t>(r), static_cast<int64_t>(d), 0, Size(spec.rows[r][d].tokens)});
    }
  }
  return plan;
}

StepPlan DocumentByDocument(const StepSpec& spec) {
  StepPlan plan;
  for (const auto& batch : RowByRow(spec)) {
    for (const StepPiece& piece : batch) plan.push_back({piece});
  }
  return plan;
}

StepPlan StepInPieces(const StepSpec& spec, uint64_t seed) {
  RandomSource random(seed);
  StepPlan plan;
  for (const auto& batch : RowByRow(spec)) {
    for (const StepPiece& whole : batch) {
      int64_t begin = 0;
      for (size_t k = 0; begin < whole.length; ++k) {
        const uint64_t left = static_cast<uint64_t>(whole.length - begin);
        const uint64_t most = random.Below(3) == 0 ? std::min<uint64_t>(left, 2) : left;
        const int64_t length = static_cast<int64_t>(1 + random.Below(most));
        if (plan.size() <= k) plan.emplace_back();
        plan[k].push_back({whole.row, whole.document, begin, length});
        begin += length;
      }
    }
  }
  return plan;
}

const NamedGradient& StepOutcome::Of(const std::string& name) const {
  const auto found = std::find_if(gradients.begin(), gradients.end(), [&](const auto& g) { return g.name == name; });
  CHECK(found != gradients.end());
  return *found;
}

StepOutcome RunStep(const LanguageModel& model, const StepSpec& spec, const StepPlan& plan, StateGradients carry) {
  StepRunner runner(model, spec);
  StepOutcome result;
  const StepTotals totals = spec.totals();
  for (const auto& pieces : plan) {
    runner.Build(pieces);
    AddBudgetSums(runner.batches.back()->context, static_cast<int64_t>(spec.rows.size()), result.sums);
    runner.Gather(*runner.batches.back(), result);
  }
  result.budget_loss = BudgetLoss(result.sums, totals, spec.loss.budget);
  ModelParams grads = model.NewGradients();
  runner.Backward(carry, grads, result);
  result.ce = totals.targets > 0 ? result.nll / totals.targets : 0;
  result.total = result.ce + spec.loss.budget_weight * result.budget_loss;
  CollectGradients(grads, result);
  return result;
}

double Norm(const std::vector<float>& x) {
  double sum = 0;
  for (float value : x) sum += static_cast<double>(value) * value;
  return std::sqrt(sum);
}

double DistanceOf(const std::vector<float>& a, const std::vector<float>& b) {
  CHECK_EQ(a.size(), b.size());
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double d = static_cast<double>(a[i]) - static_cast<double>(b[i]);
    sum += d * d;
  }
  return std::sqrt(sum);
}

std::string CompareGradients(const StepOutcome& expected, const StepOutcome& actual,
                             const std::vector<double>& bounds) {
  for (size_t i = 0; i < expected.gradients.size(); ++i) {
    const double d = DistanceOf(expected.gradients[i].values, actual.gradients[i].values);
    if (d <= bounds[i]) continue;
    return fmt::format("gradient of {} differs by {:.3g} of norm {:.3g}, bound {:.3g}", expected.gradients[i].name, d,
                       Norm(expected.gradients[i].values), bounds[i]);
  }
  return "";
}

std::vector<double> GradientBounds(const ModelConfig& config, uint64_t weight_seed, const StepSpec& spec) {
  const StepPlan plan = WholeStep(spec);
  const StepOutcome base = RunStep(RandomModel(config, weight_seed), spec, plan);
  std::vector<double> bounds(base.gradients.size(), 0.0);
  for (uint64_t signs = 1; signs <= 3; ++signs) {
    const StepOutcome other = RunStep(RandomModel(config, weight_seed, std::ldexp(1.0, -23), signs), spec, plan);
    for (size_t g = 0; g < base.sals.size(); ++g) {
      if (base.sals[g].selected != other.sals[g].selected) return {};
    }
    for (size_t i = 0; i < bounds.size(); ++i) {
      bounds[i] = std::max(bounds[i], DistanceOf(base.gradients[i].values, other.gradients[i].values));
    }
  }
  for (double& bound : bounds) bound = 16 * bound + std::ldexp(base.grad_norm, -20);
  return bounds;
}

StepSpec RandomStep(const ModelConfig& config, int64_t rows, int64_t documents, int64_t length, uint64_t seed) {
  RandomSource random(seed + 0x57e9);
  StepSpec spec;
  for (int64_t r = 0; r < rows; ++r) {
    spec.rows.emplace_back();
    const int64_t n = 1 + static_cast<int64_t>(random.Below(static_cast<uint64_t>(documents)));
    for (int64_t d = 0; d < n; ++d) {
      const int64_t tokens = 1 + static_cast<int64_t>(random.Below(static_cast<uint64_t>(length)));
      const uint64_t token_seed = seed * 1000 + static_cast<uint64_t>(r * documents + d);
      spec.rows.back().push_back(NextTokenDocument(RandomTokens(config, tokens, token_seed)));
    }
  }
  spec.rows[0][0] = NextTokenDocument(RandomTokens(config, length, seed));  // there is a target
  spec.noise.resize(static_cast<size_t>(config.num_sals()));
  for (auto& noise : spec.noise) {
    const RandomKey key{.seed = random.Below(1u << 30), .stream = kTestStream};
    for (int64_t i = 0; i < spec.tokens(); ++i) {
      const auto pair = RandomGumbelPair(key, static_cast<uint64_t>(i));
      noise.insert(noise.end(), pair.begin(), pair.end());
    }
  }
  if (random.Below(2) != 0) {
    for (int64_t i = 0; i < spec.tokens(); ++i) spec.weights.push_back(static_cast<float>(2 * random.Uniform()));
  }
  spec.gate.tau = static_cast<float>(config.gumbel_temperature);
  spec.gate.attend_all = random.Below(2) != 0;
  spec.loss = {.budget = config.attention_budget, .budget_weight = 0.5 + random.Uniform()};
  return spec;
}

}  // namespace taipan::test
