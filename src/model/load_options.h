#pragma once
// What somebody who loads a model may choose.

namespace taipan {

struct LoadOptions {
  bool ignore_extra = false;  // leave out tensors that the config does not have, with a warning; else they are refused
};

}  // namespace taipan
