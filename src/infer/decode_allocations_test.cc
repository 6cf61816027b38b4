// A decode step takes no memory from the system: everything it needs stays from step to step. This program's malloc
// and its kin are replaced by ones that count, so that the libraries' calls (oneDNN's) are seen too.

#include <gtest/gtest.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>

#include "base/parallel.h"
#include "infer/generator.h"
#include "infer/test_model.h"
#include "model/presets.h"

#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define TAIPAN_COUNTS_ALLOCATIONS 1
#else
#define TAIPAN_COUNTS_ALLOCATIONS 0  // sanitizers have replaced malloc themselves
#endif

namespace {

std::atomic<int64_t> allocations{0};

#if TAIPAN_COUNTS_ALLOCATIONS
void Count() { allocations.fetch_add(1, std::memory_order_relaxed); }
#endif

}  // namespace

#if TAIPAN_COUNTS_ALLOCATIONS
extern "C" {
void* __libc_malloc(size_t size);
void* __libc_calloc(size_t count, size_t size);
void* __libc_realloc(void* old, size_t size);
void* __libc_memalign(size_t align, size_t size);

void* malloc(size_t size) {
  Count();
  return __libc_malloc(size);
}
void* calloc(size_t count, size_t size) {
  Count();
  return __libc_calloc(count, size);
}
void* realloc(void* old, size_t size) {
  Count();
  return __libc_realloc(old, size);
}
void* aligned_alloc(size_t align, size_t size) {
  Count();
  return __libc_memalign(align, size);
}
int posix_memalign(void** out, size_t align, size_t size) {
  Count();
  *out = __libc_memalign(align, size);
  return *out == nullptr ? ENOMEM : 0;
}
}

#endif

namespace taipan {
namespace {

constexpr int64_t kPage = 128;  // tokens of a page of keys and values

LanguageModel PatternModel(const std::string& pattern, DType dtype) {
  ModelConfig config = TinyConfig(LayerKind::kAttention);
  config.vocab_size = 1100;  // several tiles of the head
  config.hidden_size = 64;
  config.rope_theta = 10000.0;
  config.layer_pattern = MakePattern(pattern, pattern == "transformer" ? 0 : 2, pattern == "mamba2" ? 0 : 2);
  LanguageModel model(config);
  model.Initialise(1, /*gate_bias=*/0.0);
  model.SetDType(dtype);
  return model;
}

// Allocations of each of `tokens` steps, sampling included: entry i is of the step that read token i.
std::vector<int64_t> AllocationsOfSteps(const LanguageModel& model, int64_t prompt, int64_t tokens) {
  Generator generator(model);
  generator.Read(RandomTokens(prompt));
  std::vector<int64_t> counts;
  counts.reserve(static_cast<size_t>(tokens));
  int64_t before = 0;
  generator.Generate({.sampling = {}, .max_tokens = tokens}, [&](int32_t) {
    const int64_t now = allocations;
    if (before > 0) counts.push_back(now - before);
    before = now;
    return true;
  });
  return counts;
}

class DecodeAllocations : public testing::Test {
 protected:
  void SetUp() override {
    if (!TAIPAN_COUNTS_ALLOCATIONS) GTEST_SKIP() << "nothing counts allocations here";
    SetNumThreads(1);  // a helper takes its own buffers with its first task, whenever that is
  }
  void TearDown() override { SetNumThreads(DefaultNumThreads()); }
};

TEST_F(DecodeAllocations, TheCounterCounts) {
  const int64_t before = allocations;
  const std::vector<int> a(100);
  EXPECT_NE(a.data(), nullptr);  // it is used
  const Tensor b({3, 5});
  EXPECT_EQ(allocations, before + 4);  // b: its shape, its elements and the count of their owners
}

TEST_F(DecodeAllocations, NoneFromTheSecondTokenOn) {
  for (const char* pattern : {"taipan", "mamba2", "transformer", "jamba", "samba"}) {
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      LanguageModel model = PatternModel(pattern, dtype);
      for (const bool quantized : {false, true}) {
        if (quantized) QuantizeMatrices(model);
        const std::vector<int64_t> counts = AllocationsOfSteps(model, 5, 110);
        for (size_t i = 1; i < counts.size(); ++i) ASSERT_EQ(counts[i], 0) << pattern << " token " << i;
      }
    }
  }
}

TEST_F(DecodeAllocations, NoneWithKeysInAnotherType) {
  for (const DType kv : {DType::kI8, DType::kBF16}) {
    LanguageModel model = PatternModel("samba", DType::kF32);
    model.SetKvDType(kv);
    const std::vector<int64_t> counts = AllocationsOfSteps(model, 5, 110);
    for (size_t i = 1; i < counts.size(); ++i) ASSERT_EQ(counts[i], 0) << NameOf(kv) << " token " << i;
  }
}

// Keys and values of a whole context must go somewhere: a page for every 128 tokens. A window's pages are used again.
TEST_F(DecodeAllocations, OnlyNewPagesOfKeysAfterThat) {
  // Of the last step that begins a page; others must take nothing.
  const auto of_new_page = [](const char* pattern, int64_t prompt, int64_t tokens) {
    const std::vector<int64_t> counts = AllocationsOfSteps(PatternModel(pattern, DType::kF32), prompt, tokens);
    int64_t last = -1;
    for (int64_t i = 1; i < static_cast<int64_t>(counts.size()); ++i) {
      const int64_t count = counts[static_cast<size_t>(i)];
      if ((prompt + i) % kPage == 0) {
        last = count;
      } else {
        EXPECT_EQ(count, 0) << pattern << " position " << prompt + i;
      }
    }
    return last;
  };
  EXPECT_GT(of_new_page("transformer", kPage - 10, 20), 0);
  EXPECT_EQ(of_new_page("samba", kPage - 10, kPage + 20), 0);
  EXPECT_EQ(of_new_page("taipan", kPage - 10, kPage + 20), 0);
}

}  // namespace
}  // namespace taipan
