#pragma once
// What somebody who opens or loads a model may choose.

namespace taipan {

struct OpenOptions {
  bool ignore_extra = false;  // leave out tensors that the config does not have, with a warning; else they are refused
};

// What weights are bound for.
enum class Binding {
  kMasters,  // f32 in memory of our own: to run, and training may change it
  kBF16,     // to run with products in bf16, of which no f32 is kept
  kStored,   // to run, quantized matrices as the file has them; others in what products are fastest in (FastDType)
  kView,     // f32 to be read once: a view of the mapped file where that holds it
};

}  // namespace taipan
