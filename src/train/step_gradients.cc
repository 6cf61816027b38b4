#include "train/step_gradients.h"

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>

#include "base/op_timer.h"
#include "base/parallel.h"
#include "base/signals.h"
#include "kernels/adamw.h"
#include "model/layer_table.h"
#include "train/optimizer.h"

namespace taipan {

// Sums buckets over the ranks, in the order in which they are posted: in a thread of its own where the group allows it,
// beside the backward that fills the next.
class StepGradients::Sums {
 public:
  // done: takes a bucket's own sums out of its packed floats.
  using Done = std::function<void(const Shards::Bucket&, const float*)>;
  Sums(Group& group, Done done) : group_(group), done_(std::move(done)) {}
  ~Sums() {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      ends_ = true;
    }
    changed_.notify_all();
    if (thread_.joinable()) thread_.join();
  }

  // Memory for a bucket; waits while all is on its way.
  float* Room(int64_t size) {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [&] { return !free_.empty() || error_; });
    Check();
    std::vector<float>& buffer = buffers_[free_.front()];
    if (static_cast<int64_t>(buffer.size()) < size) buffer.resize(static_cast<size_t>(size));
    return buffer.data();
  }

  // The bucket lies in what Room gave last.
  void Post(const Shards::Bucket& bucket) {
    std::unique_lock<std::mutex> lock(mutex_);
    jobs_.push_back({&bucket, free_.front()});
    free_.pop_front();
    if (!thread_.joinable() && !StartThread()) {
      Work(lock);
      return Check();
    }
    lock.unlock();
    changed_.notify_all();
  }

  void Wait() {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [&] { return free_.size() == kBuffers || error_; });
    Check();
  }

 private:
  // One is filled while another one travels.
  static constexpr size_t kBuffers = 2;
  struct Job {
    const Shards::Bucket* bucket;
    size_t buffer;
  };

  void Check() const {
    if (error_) std::rethrow_exception(error_);
  }

  bool StartThread() {
    if (!group_.any_thread()) return false;
    try {
      thread_ = std::thread([this] { Serve(); });
      return true;
    } catch (const std::system_error&) {  // the system allows no more
      return false;
    }
  }

  void Serve() {
    TakeNoSignals();
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      changed_.wait(lock, [&] { return ends_ || !jobs_.empty(); });
      if (jobs_.empty()) return;
      Work(lock);
    }
  }

  // The oldest job.
  void Work(std::unique_lock<std::mutex>& lock) {
    const Job job = jobs_.front();
    lock.unlock();
    std::exception_ptr error;
    try {
      const Group::Beside beside(group_);
      const std::span<float> packed(buffers_[job.buffer].data(), static_cast<size_t>(job.bucket->size()));
      group_.SumPieces(packed, job.bucket->bounds);
      done_(*job.bucket, packed.data());
    } catch (...) {
      error = std::current_exception();
    }
    lock.lock();
    jobs_.pop_front();
    free_.push_back(job.buffer);
    if (error) {
      error_ = error;
      jobs_.clear();
    }
    changed_.notify_all();
  }

  Group& group_;
  const Done done_;
  std::vector<float> buffers_[kBuffers];
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<size_t> free_ = {0, 1};
  std::deque<Job> jobs_;
  std::exception_ptr error_;
  bool ends_ = false;
  std::thread thread_;
};

namespace {

constexpr int64_t kLine = 64;  // bytes: weights of a unit begin where vectors like them

int64_t RoomOf(const Weight& w) {
  const auto bytes = static_cast<int64_t>(w.spec.count()) * int64_t{sizeof(float)};
  return (bytes + kLine - 1) / kLine * kLine;
}

// f(weight, unit). A tied embedding is part of the head, too: it is done with last.
template <class Params, class F>
void ForEachInUnits(Params& params, F&& f) {
  const size_t layers = params.layers.size();
  f(params.norm, 0);
  if (!params.tied()) f(params.lm_head, 0);
  for (size_t i = layers; i-- > 0;) {
    for (const auto& branch : params.layers[i]) branch->ForEach([&](Weight& w) { f(w, layers - i); });
  }
  f(params.embedding, layers + 1);
}

}  // namespace

int64_t StepGradients::ElementsAtOnce(const ModelParams& params) {
  std::vector<int64_t> bytes(params.layers.size() + 2, 0);
  ForEachInUnits(params, [&](const Weight& w, size_t unit) { bytes[unit] += RoomOf(w); });
  const int64_t tied = params.tied() ? bytes.back() : 0;
  if (params.tied()) bytes.back() = 0;
  return (tied + *std::max_element(bytes.begin(), bytes.end())) / int64_t{sizeof(float)};
}

StepGradients::StepGradients(const LanguageModel& model, Shards& shards, const WeightGroups& trained)
    : shards_(shards), trained_(trained), gradients_(DeclareParams(model.config(), model.layers())) {
  gradients_.ForEach([&](Weight& w) { weights_.push_back(&w); });
  units_.resize(gradients_.layers.size() + 2);
  unit_of_.resize(weights_.size());
  own_.resize(weights_.size());
  std::vector<size_t> order;
  ForEachInUnits(gradients_, [&](Weight& w, size_t unit) {
    const size_t i = static_cast<size_t>(std::find(weights_.begin(), weights_.end(), &w) - weights_.begin());
    units_[unit].push_back(&w);
    unit_of_[i] = unit;
    if (trained.Has(w.spec.group)) order.push_back(i);
  });
  if (shards.group().alone()) {
    BindWhole();
    return;
  }
  buckets_ = shards.BucketsOf(order);
  sums_ = std::make_unique<Sums>(shards.group(), [this](const Shards::Bucket& bucket, const float* packed) {
    const int rank = shards_.group().rank();
    const float* next = packed + bucket.bounds[static_cast<size_t>(rank)];
    for (const Shards::Part& part : bucket.parts) {
      const auto [begin, end] = shards_.Range(part, rank);
      std::copy_n(next, end - begin, own_[part.weight] + begin - shards_.Own(part.weight).first);
      next += end - begin;
    }
  });
}

StepGradients::~StepGradients() = default;

void StepGradients::BindWhole() {
  whole_ = true;
  room_ = own_sums_ = Tensor();
  gradients_.BindZeros();
  for (size_t i = 0; i < weights_.size(); ++i) own_[i] = weights_[i]->F32() + shards_.Own(i).first;
  zero_ = true;
}

// Room for the largest unit, and for a tied embedding, whose gradient begins with the head's.
void StepGradients::BindUnits() {
  whole_ = false;
  gradients_.ForEach([](Weight& w) { w.f32 = Tensor(); });
  room_ = Tensor({ElementsAtOnce(gradients_)});
  std::vector<int64_t> begins = {0};
  for (size_t i = 0; i < weights_.size(); ++i) {
    const auto [begin, end] = shards_.Own(i);
    begins.push_back(begins.back() + (end - begin + 15) / 16 * 16);  // a line of the cache
  }
  own_sums_ = Tensor({begins.back()});
  for (size_t i = 0; i < weights_.size(); ++i) own_[i] = own_sums_.F32() + begins[i];
  zero_ = true;
}

void StepGradients::BindUnit(size_t unit) {
  int64_t next = 0;
  const auto bind = [&](Weight& w) {
    w.f32 = Tensor::PartOf(room_, next, w.spec.shape, DType::kF32);
    next += RoomOf(w);
  };
  if (gradients_.tied()) bind(gradients_.embedding);
  for (Weight* w : units_[unit]) {
    if (w->f32.empty()) bind(*w);
  }
}

ModelParams& StepGradients::Begin(bool once) {
  const bool whole = shards_.group().alone() || !once;
  if (whole && !whole_) BindWhole();
  if (!whole && (whole_ || room_.empty())) BindUnits();
  if (!zero_) whole ? gradients_.Zero() : room_.Zero();
  if (!whole) BindUnit(0);
  zero_ = false;
  bucket_ = part_ = 0;
  return gradients_;
}

GradientsDone StepGradients::Done() {
  if (shards_.group().alone()) return nullptr;
  return [this](int64_t part) { Leave(static_cast<size_t>(static_cast<int64_t>(gradients_.layers.size()) - part)); };
}

void StepGradients::SumAll() {
  for (size_t unit = 0; !shards_.group().alone() && unit < units_.size(); ++unit) Leave(unit);
}

// Parts [first, last) of a bucket; leaves zeros.
void StepGradients::Pack(const Shards::Bucket& bucket, size_t first, size_t last, float* to) {
  ParallelFor(shards_.group().size(), [&](int64_t rank) {
    float* next = to + bucket.bounds[static_cast<size_t>(rank)];
    for (size_t k = 0; k < last; ++k) {
      const Shards::Part& part = bucket.parts[k];
      const auto [begin, end] = shards_.Range(part, static_cast<int>(rank));
      if (k >= first) {
        float* const from = weights_[part.weight]->F32() + begin;
        std::copy_n(from, end - begin, next);
        std::fill_n(from, end - begin, 0.0f);
      }
      next += end - begin;
    }
  });
}

void StepGradients::Leave(size_t unit) {
  const OpTimer timer("ranks");
  while (bucket_ < buckets_.size()) {
    const Shards::Bucket& bucket = buckets_[bucket_];
    size_t last = part_;
    while (last < bucket.parts.size() && unit_of_[bucket.parts[last].weight] == unit) ++last;
    if (last > part_) Pack(bucket, part_, last, sums_->Room(bucket.size()));
    part_ = last;
    if (last < bucket.parts.size()) break;
    sums_->Post(bucket);
    ++bucket_;
    part_ = 0;
  }
  for (Weight* w : units_[unit]) {
    if (!trained_.Has(w->spec.group)) std::fill_n(w->F32(), w->f32.size(), 0.0f);
    if (!whole_) w->f32 = Tensor();
  }
  if (!whole_ && unit + 1 < units_.size()) BindUnit(unit + 1);
}

void StepGradients::Finish() {
  if (!shards_.group().alone()) {
    const OpTimer timer("ranks");
    CHECK_EQ(bucket_, buckets_.size());
    return sums_->Wait();
  }
  gradients_.ForEach([&](Weight& g) {
    if (!trained_.Has(g.spec.group)) std::fill_n(g.F32(), g.f32.size(), 0.0f);
  });
}

std::vector<double> StepGradients::SquaredNorms() {
  const OpTimer timer("gradient norm");
  std::vector<double> squares;
  for (size_t i = 0; i < own_.size(); ++i) {
    const auto [begin, end] = shards_.Own(i);
    squares.push_back(SquaredNorm(own_[i], end - begin));
  }
  shards_.group().Sum(std::span<double>(squares));
  return squares;
}

}  // namespace taipan
