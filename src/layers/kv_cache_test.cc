// KvCache against a naive one: a map from position to row, copied outright.

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <vector>

#include "base/rng.h"
#include "layers/state.h"

namespace taipan {
namespace {

constexpr int64_t kPage = 128;  // positions of a page

class Random {
 public:
  explicit Random(uint64_t seed) : key_{.seed = seed, .stream = kTestStream} {}
  int64_t Below(int64_t n) { return static_cast<int64_t>(RandomBelow(key_, next_++, static_cast<uint64_t>(n))); }

 private:
  RandomKey key_;
  uint64_t next_ = 0;
};

// Every value ever appended is another number, so that a row in the wrong place shows.
class Rows {
 public:
  Rows(int64_t n, int64_t width, float* counter) : n_(n), width_(width) {
    for (int64_t i = 0; i < 2 * n * width; ++i) values_.push_back((*counter)++);
  }
  ConstMatrixView K() const { return {values_.data(), n_, width_}; }
  ConstMatrixView V() const { return {values_.data() + n_ * width_, n_, width_}; }

 private:
  int64_t n_, width_;
  std::vector<float> values_;
};

struct NaiveCache {
  int64_t width = 0, window = 0, first = 0, end = 0;
  std::map<int64_t, std::vector<float>> k, v;

  void Append(ConstMatrixView rows_k, ConstMatrixView rows_v) {
    for (int64_t i = 0; i < rows_k.rows; ++i, ++end) {
      k[end] = {rows_k.F32(i), rows_k.F32(i) + width};
      v[end] = {rows_v.F32(i), rows_v.F32(i) + width};
    }
    if (window > 0) first = std::max(first, end - window);
  }
  // The token at `to` would see the last window - 1 positions before it, as far as the sequence has any.
  bool CanTruncate(int64_t to) const {
    return to >= end || (to >= first && (window == 0 || first <= std::max<int64_t>(0, to - window + 1)));
  }
  void RestartAt(int64_t position) { first = end = position; }
};

const float* KeysOf(const KeySpan& span) {
  EXPECT_TRUE(span.dtype == DType::kF32);
  return static_cast<const float*>(span.k);
}
const float* ValuesOf(const KeySpan& span) { return static_cast<const float*>(span.v); }

// The spans from `from` on hold the naive rows, one after the other, and none crosses a page.
void ExpectSpans(const KvCache& cache, const NaiveCache& naive, int64_t from) {
  std::vector<KeySpan> spans(static_cast<size_t>(cache.pages()));
  const int64_t n = cache.Spans(from, spans.data());
  ASSERT_LE(n, cache.pages());
  int64_t position = std::max(from, naive.first);
  for (int64_t s = 0; s < n; ++s) {
    const KeySpan& span = spans[static_cast<size_t>(s)];
    ASSERT_EQ(span.position, position);
    ASSERT_GT(span.count, 0);
    ASSERT_GE(span.stride, cache.width());
    ASSERT_EQ(span.position / kPage, (span.position + span.count - 1) / kPage);
    for (int64_t i = 0; i < span.count; ++i, ++position) {
      const float *k = KeysOf(span) + i * span.stride, *v = ValuesOf(span) + i * span.stride;
      ASSERT_TRUE(std::equal(k, k + cache.width(), naive.k.at(position).begin())) << "key at " << position;
      ASSERT_TRUE(std::equal(v, v + cache.width(), naive.v.at(position).begin())) << "value at " << position;
    }
  }
  ASSERT_EQ(position, std::max(naive.end, std::max(from, naive.first)));
}

void ExpectSame(const KvCache& cache, const NaiveCache& naive) {
  ASSERT_EQ(cache.first(), naive.first);
  ASSERT_EQ(cache.end(), naive.end);
  ASSERT_EQ(cache.count(), naive.end - naive.first);
  ExpectSpans(cache, naive, 0);
  ExpectSpans(cache, naive, (naive.first + naive.end) / 2);
  ExpectSpans(cache, naive, naive.end);
}

struct Pair {
  KvCache cache;
  NaiveCache naive;
};

void Truncate(Pair& pair, int64_t to) {
  if (pair.naive.CanTruncate(to)) {
    pair.cache.Truncate(to);
    pair.naive.end = std::min(pair.naive.end, to);
  } else {
    EXPECT_THROW(pair.cache.Truncate(to), UserError);
  }
}

class KvCacheTest : public testing::TestWithParam<int64_t> {};  // the window

TEST_P(KvCacheTest, FamilyOfCopiesAgainstNaiveOnes) {
  const int64_t window = GetParam(), width = 3;
  Random random(static_cast<uint64_t>(window) + 1);
  float counter = 1;
  std::vector<Pair> family = {{KvCache(width, window), NaiveCache{width, window, 0, 0, {}, {}}}};
  for (int step = 0; step < 400; ++step) {
    Pair& pair = family[static_cast<size_t>(random.Below(static_cast<int64_t>(family.size())))];
    switch (random.Below(8)) {
      case 0: {
        const Pair copy = pair;
        if (family.size() < 5) family.push_back(copy);
        break;
      }
      case 1:
        pair = family[static_cast<size_t>(random.Below(static_cast<int64_t>(family.size())))];
        break;
      case 2: {
        const int64_t most = std::min<int64_t>(pair.naive.end, random.Below(2) == 0 ? 3 : 200);
        Truncate(pair, pair.naive.end - random.Below(most + 1));
        break;
      }
      case 3: {
        if (random.Below(4) != 0) break;
        const int64_t position = random.Below(400);
        pair.cache.RestartAt(position);
        pair.naive.RestartAt(position);
        break;
      }
      default: {
        const Rows rows(random.Below(random.Below(3) == 0 ? 300 : 4), width, &counter);
        pair.cache.Append(rows.K(), rows.V());
        pair.naive.Append(rows.K(), rows.V());
      }
    }
    for (const Pair& each : family) ExpectSame(each.cache, each.naive);
    if (HasFatalFailure()) FAIL() << "at step " << step;
  }
}

// A window needs the pages that it can touch and no more, however long the sequence.
TEST_P(KvCacheTest, MemoryOfAWindowIsBounded) {
  const int64_t window = GetParam(), width = 2;
  KvCache cache(width, window);
  float counter = 1;
  for (int step = 0; step < 700; ++step) {
    const Rows rows(step % 7 == 0 ? 2 : 1, width, &counter);
    cache.Append(rows.K(), rows.V());
    const int64_t kept = window > 0 ? std::min(window, cache.end()) : cache.end();
    ASSERT_LE(cache.pages(), (kept + kPage - 2) / kPage + 1);
    ASSERT_EQ(cache.bytes(), cache.pages() * kPage * width * 2 * 4);
  }
}

TEST_P(KvCacheTest, RowsOfWiderMatrices) {
  KvCache cache(2, GetParam());
  const std::vector<float> wide = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10};  // [2, 5]
  const ConstMatrixView all(wide.data(), 2, 5);
  cache.Append(all.Cols(1, 2), all.Cols(3, 2));
  std::vector<KeySpan> spans(static_cast<size_t>(cache.pages()));
  ASSERT_EQ(cache.Spans(1, spans.data()), 1);
  EXPECT_EQ(KeysOf(spans[0])[0], 7);
  EXPECT_EQ(ValuesOf(spans[0])[1], 10);
}

INSTANTIATE_TEST_SUITE_P(Windows, KvCacheTest, testing::Values(0, 1, 2, 7, 127, 128, 129, 200, 256, 300));

TEST(KvCache, CopiesShareUntilOneWrites) {
  float counter = 1;
  KvCache parent(4, 0);
  const Rows first(130, 4, &counter), more(1, 4, &counter);
  parent.Append(first.K(), first.V());
  KvCache child = parent;
  KeySpan of_parent[2], of_child[2];
  ASSERT_EQ(parent.Spans(0, of_parent), 2);
  ASSERT_EQ(child.Spans(0, of_child), 2);
  EXPECT_EQ(of_parent[0].k, of_child[0].k);
  EXPECT_EQ(of_parent[1].k, of_child[1].k);
  child.Append(more.K(), more.V());
  child.Spans(0, of_child);
  EXPECT_EQ(of_parent[0].k, of_child[0].k) << "a full page is never copied";
  EXPECT_NE(of_parent[1].k, of_child[1].k) << "the page that was written to is the child's own";
}

// Behind eight pages they come from blocks, which a copy goes on filling beside what it was copied from.
TEST(KvCache, CopiesOfALongOneDoNotMeetInABlock) {
  float counter = 1;
  Pair parent;
  parent.cache = KvCache(4, 0);
  parent.naive.width = 4;
  const auto append = [&](Pair& to, int64_t n) {
    const Rows rows(n, 4, &counter);
    to.cache.Append(rows.K(), rows.V());
    to.naive.Append(rows.K(), rows.V());
  };
  append(parent, 10 * kPage);
  Pair child = parent;
  for (int i = 0; i < 3; ++i) {
    append(parent, kPage + 5);
    append(child, kPage - 7);
  }
  ExpectSame(parent.cache, parent.naive);
  ExpectSame(child.cache, child.naive);
}

TEST(KvCache, AWindowReusesItsPages) {
  float counter = 1;
  KvCache cache(4, 100);
  std::vector<const float*> seen;
  for (int i = 0; i < 3000; ++i) {
    const Rows rows(1, 4, &counter);
    cache.Append(rows.K(), rows.V());
    std::vector<KeySpan> spans(static_cast<size_t>(cache.pages()));
    spans.resize(static_cast<size_t>(cache.Spans(cache.end() - 1, spans.data())));
    const float* page = KeysOf(spans.back()) - (cache.end() - 1) % kPage * spans.back().stride;
    if (std::find(seen.begin(), seen.end(), page) == seen.end()) seen.push_back(page);
  }
  EXPECT_LE(seen.size(), 3u) << "a steady window allocates nothing";
}

// The kept rows as floats, and that they have the cache's type.
std::vector<float> KeptRows(const KvCache& cache, bool values) {
  std::vector<KeySpan> spans(static_cast<size_t>(cache.pages()));
  spans.resize(static_cast<size_t>(cache.Spans(0, spans.data())));
  std::vector<float> rows;
  for (const KeySpan& span : spans) {
    EXPECT_TRUE(span.dtype == cache.dtype());
    const void* from = values ? span.v : span.k;
    for (int64_t i = 0; i < span.count * span.stride; ++i) {
      rows.push_back(span.dtype == DType::kF32 ? static_cast<const float*>(from)[i]
                                               : ToFloat(static_cast<const BF16*>(from)[i]));
    }
  }
  return rows;
}

TEST(KvCache, ConvertsWhatItKeepsToTheTypeAppended) {
  constexpr int64_t kWidth = 3, kCount = 150;
  KvCache cache(kWidth, 0);
  float counter = 1;  // 1 ... 900: bf16 rounds those beyond 256
  const Rows rows(kCount, kWidth, &counter);
  Tensor k({kCount, kWidth}, DType::kBF16), v({kCount, kWidth}, DType::kBF16);
  std::vector<float> expected_k, expected_v;
  for (int64_t i = 0; i < kCount * kWidth; ++i) {
    k.As<BF16>()[i] = ToBF16(rows.K().F32()[i]);
    v.As<BF16>()[i] = ToBF16(rows.V().F32()[i]);
    expected_k.push_back(ToFloat(k.As<BF16>()[i]));
    expected_v.push_back(ToFloat(v.As<BF16>()[i]));
  }
  cache.Append(rows.K(), rows.V());
  EXPECT_EQ(cache.bytes(), 2 * kPage * kWidth * 2 * 4);
  const KvCache before = cache;
  const auto join = [](std::vector<float> first, const std::vector<float>& second) {
    first.insert(first.end(), second.begin(), second.end());
    return first;
  };
  cache.Append(k.Matrix(), v.Matrix());
  EXPECT_TRUE(cache.dtype() == DType::kBF16);
  EXPECT_EQ(cache.bytes(), 3 * kPage * kWidth * 2 * 2);
  EXPECT_EQ(KeptRows(cache, false), join(expected_k, expected_k));
  EXPECT_EQ(KeptRows(cache, true), join(expected_v, expected_v));
  const std::vector<float> all_k(rows.K().F32(), rows.K().F32() + kCount * kWidth);
  EXPECT_EQ(KeptRows(before, false), all_k) << "a copy keeps its own type and pages";
  cache.Append(rows.K().Rows(0, 1), rows.V().Rows(0, 1));
  EXPECT_TRUE(cache.dtype() == DType::kF32);
  const std::vector<float> last(rows.V().F32(), rows.V().F32() + kWidth);
  EXPECT_EQ(KeptRows(cache, true), join(join(expected_v, expected_v), last));
}

}  // namespace
}  // namespace taipan
