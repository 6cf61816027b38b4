#pragma once
// What other programs call the tensors of a model, and how they store them.

#include <string>
#include <vector>

#include "formats/tensor_source.h"
#include "model/config.h"

namespace taipan {

enum class Naming { kTaipan, kMamba2, kMambaSsm, kLlama, kBamba, kGraniteHybrid, kNemotronH, kGguf };

enum class Layout {
  kSame,
  kRopePairs,  // rows of each head: pairs that rotate together stand side by side (j, j + 1), ours are (j, j + dh / 2)
  kDecayRate,  // A = -exp(A_log)
};

struct ForeignTensor {
  std::string name;            // in the file
  std::vector<int64_t> shape;  // in the file
  std::string parameter;       // our name
  Layout layout = Layout::kSame;
  int64_t heads = 0;  // kRopePairs: in the tensor's rows
  // The parameter is these rows of the tensor; 0 rows: all of it. Parameters of one tensor follow each other.
  int64_t row_begin = 0, rows = 0;

  RowRange part() const { return {row_begin, rows}; }
  std::vector<int64_t> part_shape() const {
    std::vector<int64_t> of_part = shape;
    if (rows > 0) of_part[0] = rows;
    return of_part;
  }
};

// The head stands in such files even where it is the embedding.
bool NamesTiedHead(Naming naming);

// Every tensor of the model, in the order of WeightSpecs.
std::vector<ForeignTensor> ForeignTensors(const ModelConfig& config, Naming naming);

// Where the tensor has row `row` of its parameter; of layouts that move rows at most.
int64_t StoredRowOf(const ForeignTensor& tensor, int64_t row);

// Between our values and those of the layout, in place. f32, or for kSame and kRopePairs any type.
void ToLayout(const ForeignTensor& tensor, Tensor& values);
void FromLayout(const ForeignTensor& tensor, Tensor& values);

}  // namespace taipan
