#pragma once
// Which tensor of a checkpoint is which of its model: programs put names around those of the architecture, leave the
// first word out, store a tied matrix under either name, and save buffers that follow from the config.

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "formats/tensor_source.h"
#include "model/tensor_names.h"

namespace taipan {

struct TensorMatch {
  std::map<std::string, std::string> stored;  // of each expected tensor that is there: the name in the file
  std::string tied_head;                      // in the file beside the embedding that it is tied to; "" for none
  std::vector<std::string> buffers, extra;    // names in the file: known to follow from the config, and unknown
};

// `expected`: the embedding first, as ForeignTensors gives them. tied: the head is the embedding.
TensorMatch MatchTensors(const std::vector<ForeignTensor>& expected, Naming naming, bool tied,
                         const TensorSource& tensors);

// `tensors` under other names, and only those of the map (new name -> name in the file).
std::shared_ptr<const TensorSource> RenamedTensors(std::shared_ptr<const TensorSource> tensors,
                                                   std::map<std::string, std::string> names);

}  // namespace taipan
