#pragma once
// Repeated measurements of the bench subcommands.

#include <string>
#include <vector>

#include "base/clock.h"
#include "cli/output.h"

namespace taipan {

struct Spread {
  double median = 0, min = 0, max = 0;
};
Spread SpreadOf(std::vector<double> values);  // at least one
OrderedJson ToJson(const Spread& spread);     // {"median","min","max"}

// How often f must be repeated so that a run takes about `seconds`: f is called at least once to find out.
template <class F>
int64_t Repetitions(double seconds, F&& f);

template <class F>
int64_t Repetitions(double seconds, F&& f) {
  for (int64_t n = 1;; n *= 2) {
    const double start = NowSeconds();
    for (int64_t i = 0; i < n; ++i) f();
    const double took = NowSeconds() - start;
    if (took * 4 >= seconds) return static_cast<int64_t>(static_cast<double>(n) * seconds / took) + 1;
  }
}

}  // namespace taipan
