#include "dist/group.h"

#include <algorithm>
#include <cstdlib>

#include "base/error.h"
#include "base/parallel.h"

namespace taipan {
namespace {

// Below it every rank adds up everything itself: one round of messages instead of two.
constexpr size_t kFewBytes = 32768;

template <class T>
std::span<std::byte> BytesOf(std::vector<T>& values) {
  return std::as_writable_bytes(std::span<T>(values));
}

// out[i] = terms[0][i] + terms[1][i] + ...; one of them may be `out` itself.
template <class T>
void AddInOrder(const std::vector<const T*>& terms, T* out, int64_t n, bool one_thread) {
  constexpr int64_t kBlock = 2048;  // stays in the first cache
  const auto add = [&](int64_t first, int64_t last) {
    T sums[kBlock];
    for (int64_t begin = first; begin < last; begin += kBlock) {
      const int64_t count = std::min(kBlock, last - begin);
      std::copy_n(terms[0] + begin, count, sums);
      for (size_t t = 1; t < terms.size(); ++t) {
        const T* const term = terms[t] + begin;
        for (int64_t i = 0; i < count; ++i) sums[i] += term[i];
      }
      std::copy_n(sums, count, out + begin);
    }
  };
  one_thread ? add(0, n) : ParallelForRanges(n, 8 * kBlock, add);
}

}  // namespace

void GroupOfOne::Exchange(std::span<const Message> messages) { CHECK(messages.empty()); }
void GroupOfOne::Abort(int exit_code) { std::exit(exit_code); }

Group& Alone() {
  static GroupOfOne group;
  return group;
}

std::vector<int64_t> EvenBounds(int64_t count, int n, int64_t unit) {
  std::vector<int64_t> bounds(static_cast<size_t>(n) + 1);
  const int64_t units = (count + unit - 1) / unit, each = units / n, rest = units % n;
  for (int i = 0; i <= n; ++i) {
    bounds[static_cast<size_t>(i)] = std::min(count, unit * (i * each + std::min<int64_t>(i, rest)));
  }
  return bounds;
}

template <class T>
void Group::SumOwnPiece(std::span<T> values, std::span<const int64_t> bounds) {
  CHECK_EQ(bounds.size(), static_cast<size_t>(size_) + 1);
  const int64_t begin = bounds[static_cast<size_t>(rank_)], own = bounds[static_cast<size_t>(rank_) + 1] - begin;
  const int64_t own_bytes = own * static_cast<int64_t>(sizeof(T));
  received_.resize(static_cast<size_t>(own_bytes * (size_ - 1)));
  std::vector<Message> messages;
  std::vector<const T*> terms;
  std::byte* next = received_.data();
  for (int peer = 0; peer < size_; ++peer) {
    if (peer == rank_) {
      terms.push_back(values.data() + begin);
      continue;
    }
    const int64_t theirs = bounds[static_cast<size_t>(peer)], end = bounds[static_cast<size_t>(peer) + 1];
    messages.push_back(
        {Message::kSend, peer, values.data() + theirs, (end - theirs) * static_cast<int64_t>(sizeof(T))});
    messages.push_back({Message::kReceive, peer, next, own_bytes});
    terms.push_back(reinterpret_cast<const T*>(next));
    next += own_bytes;
  }
  Exchange(messages);
  AddInOrder(terms, values.data() + begin, own, beside_);
}

template <class T>
void Group::SumInRankOrder(std::span<T> values) {
  if (alone()) return;
  if (values.size_bytes() > kFewBytes) {
    std::vector<int64_t> bounds = EvenBounds(static_cast<int64_t>(values.size()), size_);
    SumOwnPiece(values, bounds);
    for (int64_t& bound : bounds) bound *= static_cast<int64_t>(sizeof(T));
    return GatherPieces(std::as_writable_bytes(values), bounds);
  }
  std::vector<T> all(values.size() * static_cast<size_t>(size_));
  const auto n = static_cast<int64_t>(values.size());
  std::copy(values.begin(), values.end(), all.begin() + rank_ * n);
  std::vector<int64_t> bounds;
  std::vector<const T*> terms;
  for (int r = 0; r <= size_; ++r) bounds.push_back(r * static_cast<int64_t>(values.size_bytes()));
  for (int r = 0; r < size_; ++r) terms.push_back(all.data() + r * n);
  GatherPieces(BytesOf(all), bounds);
  AddInOrder(terms, values.data(), n, beside_);
}

void Group::Sum(std::span<float> values) { SumInRankOrder(values); }
void Group::Sum(std::span<double> values) { SumInRankOrder(values); }

void Group::SumPieces(std::span<float> values, std::span<const int64_t> bounds) {
  if (!alone()) SumOwnPiece(values, bounds);
}

void Group::GatherPieces(std::span<std::byte> bytes, std::span<const int64_t> bounds) {
  if (alone()) return;
  CHECK_EQ(bounds.size(), static_cast<size_t>(size_) + 1);
  CHECK_LE(bounds.back(), static_cast<int64_t>(bytes.size()));
  const auto piece = [&](int r) { return bytes.data() + bounds[static_cast<size_t>(r)]; };
  const auto size = [&](int r) { return bounds[static_cast<size_t>(r) + 1] - bounds[static_cast<size_t>(r)]; };
  std::vector<Message> messages;
  for (int peer = 0; peer < size_; ++peer) {
    if (peer == rank_) continue;
    messages.push_back({Message::kSend, peer, piece(rank_), size(rank_)});
    messages.push_back({Message::kReceive, peer, piece(peer), size(peer)});
  }
  Exchange(messages);
}

// A binomial tree: who has it gives it to a rank that has not, in as many rounds as the size has binary digits.
void Group::Broadcast(std::span<std::byte> bytes, int from) {
  const int own = (rank_ - from + size_) % size_;
  int step = 1;
  const auto exchange = [&](Message::Way way, int other) {
    const Message message{way, (other + from) % size_, bytes.data(), static_cast<int64_t>(bytes.size())};
    Exchange({&message, 1});
  };
  while (step < size_ && (own & step) == 0) step <<= 1;
  if (step < size_) exchange(Message::kReceive, own - step);
  for (step >>= 1; step > 0; step >>= 1) {
    if (own + step < size_) exchange(Message::kSend, own + step);
  }
}

void Group::Barrier() {
  double nothing = 0;
  Sum(std::span<double>(&nothing, 1));
}

namespace {

// bounds of pieces in bytes.
std::vector<int64_t> GatherBounds(Group& group, size_t own_bytes) {
  std::vector<double> sizes(static_cast<size_t>(group.size()), 0.0);
  sizes[static_cast<size_t>(group.rank())] = static_cast<double>(own_bytes);
  group.Sum(std::span<double>(sizes));
  std::vector<int64_t> bounds = {0};
  for (const double size : sizes) bounds.push_back(bounds.back() + static_cast<int64_t>(size));
  return bounds;
}

}  // namespace

std::vector<std::string> GatherTexts(Group& group, const std::string& own) {
  const std::vector<int64_t> bounds = GatherBounds(group, own.size());
  std::string all(static_cast<size_t>(bounds.back()), '\0');
  own.copy(all.data() + bounds[static_cast<size_t>(group.rank())], own.size());
  group.GatherPieces(std::as_writable_bytes(std::span<char>(all)), bounds);
  std::vector<std::string> texts;
  for (size_t r = 0; r + 1 < bounds.size(); ++r) {
    texts.push_back(all.substr(static_cast<size_t>(bounds[r]), static_cast<size_t>(bounds[r + 1] - bounds[r])));
  }
  return texts;
}

std::vector<float> GatherFloats(Group& group, std::span<const float> own) {
  const std::vector<int64_t> bounds = GatherBounds(group, own.size_bytes());
  std::vector<float> all(static_cast<size_t>(bounds.back()) / sizeof(float));
  const int64_t begin = bounds[static_cast<size_t>(group.rank())] / static_cast<int64_t>(sizeof(float));
  std::copy(own.begin(), own.end(), all.begin() + begin);
  group.GatherPieces(BytesOf(all), bounds);
  return all;
}

std::string BroadcastText(Group& group, const std::string& text) {
  double size = static_cast<double>(text.size());
  group.Broadcast(std::as_writable_bytes(std::span<double>(&size, 1)));
  std::string all(static_cast<size_t>(size), '\0');
  if (group.leads()) all = text;
  group.Broadcast(std::as_writable_bytes(std::span<char>(all)));
  return all;
}

}  // namespace taipan
