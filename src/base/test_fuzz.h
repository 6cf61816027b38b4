#pragma once
// For the fuzz tests of readers: random draws, changes of bytes, and the loop. TAIPAN_FUZZ_INPUTS sets how many inputs
// (default: what the test names), TAIPAN_FUZZ_SEED which ones. Input i is a function of (seed, i) alone, so that a
// failure can be run again. Meant for a build with AddressSanitizer too.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <set>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/rng.h"

namespace taipan {

inline int64_t FromEnvironment(const char* name, int64_t otherwise) {
  const char* text = std::getenv(name);
  return text != nullptr ? std::atoll(text) : otherwise;
}

class Draws {
 public:
  Draws(uint64_t seed, uint32_t input) : key_{.seed = seed, .stream = kTestStream, .step = input} {}
  size_t Below(size_t n) { return static_cast<size_t>(RandomBelow(key_, next_++, n)); }
  template <class T>
  const T& OneOf(const std::vector<T>& choices) {
    return choices[Below(choices.size())];
  }

 private:
  RandomKey key_;
  uint64_t next_ = 0;
};

inline void ChangeBytes(std::string& text, Draws& draw) {
  const size_t at = draw.Below(text.size() + 1);
  const size_t run = std::min(draw.Below(16) + 1, text.size() - at);
  switch (draw.Below(6)) {
    case 0:
      if (run > 0) text[at] = static_cast<char>(text[at] ^ (1 << draw.Below(8)));
      break;
    case 1:
      for (size_t i = 0; i < run; ++i) text[at + i] = static_cast<char>(draw.Below(256));
      break;
    case 2:
      text.erase(at, run);
      break;
    case 3:
      text.insert(at, text.substr(draw.Below(text.size() + 1), draw.Below(64)));
      break;
    case 4:
      text.resize(at);
      break;
    default:
      text.insert(at, 1 + draw.Below(8), static_cast<char>(draw.Below(256)));
  }
}

struct FuzzCounts {
  int64_t inputs = 0, parsed = 0;
  std::set<std::string> problems;
};

// Calls read(draw) for every input: it makes the input, which it calls `name` ("": has names of its own), and reads it.
// A UserError of one short line that begins with that name is a refusal, anything else a failure.
template <class Read>
FuzzCounts Fuzz(const std::string& name, Read&& read, int64_t usual_inputs = 5000) {
  FuzzCounts counts;
  counts.inputs = FromEnvironment("TAIPAN_FUZZ_INPUTS", usual_inputs);
  const auto seed = static_cast<uint64_t>(FromEnvironment("TAIPAN_FUZZ_SEED", 1));
  for (int64_t i = 0; i < counts.inputs; ++i) {
    Draws draw(seed, static_cast<uint32_t>(i));
    try {
      read(draw);
      ++counts.parsed;
    } catch (const UserError& error) {
      const std::string line = error.what();
      EXPECT_EQ(line.find('\n'), line.npos) << "input " << i;
      EXPECT_LT(line.size(), 1000u) << "input " << i;
      EXPECT_EQ(line.find(name), 0u) << "input " << i << ": " << line;
      counts.problems.insert(line.substr(0, line.find(',')));
    } catch (const std::exception& error) {
      ADD_FAILURE() << "input " << i << " of seed " << seed << ": " << error.what();
    }
    if (testing::Test::HasFailure()) break;
  }
  testing::Test::RecordProperty("parsed", static_cast<int>(counts.parsed));
  testing::Test::RecordProperty("problems", static_cast<int>(counts.problems.size()));
  return counts;
}

}  // namespace taipan
