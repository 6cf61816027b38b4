#pragma once
// Several corpora in given shares: which of them a row comes from.

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace taipan {

struct MixPick {
  int64_t source = 0, index = 0;  // the source, and which of its rows, counted over all its epochs
};

// In each block of 1024 rows every source has its share, rounded so that the shares of all rows so far are right to one
// row, in a random order of its own: a function of the row's number and the seed, nothing else.
class MixSchedule {
 public:
  // weights: of the sources, positive, in any scale; at most 32.
  MixSchedule(const std::vector<double>& weights, uint64_t seed);
  MixPick At(int64_t row) const;

 private:
  std::vector<int64_t> Before(int64_t block) const;  // rows of each source

  std::vector<double> shares_;
  int64_t heaviest_ = 0;  // takes what rounding leaves
  uint64_t seed_;
};

// --data as it is given: PATH=WEIGHT where nothing has this whole name.
struct WeightedPath {
  std::string path;
  double weight = 0;  // 0: none was given
};
// exists: whether something has a name. UserError where some have a weight and some have not, for a weight that is
// none, and for more than 32.
std::vector<WeightedPath> ReadWeights(const std::vector<std::string>& data,
                                      const std::function<bool(const std::string&)>& exists);

}  // namespace taipan
