#pragma once
// How a text is cut into words, by the names of tokenizer.ggml.pre.

#include <string>
#include <vector>

namespace taipan {

struct PreTokenization {
  std::vector<const char*> names;     // the first is the one that we write
  std::vector<const char*> patterns;  // each cuts what the one before it left
  bool ignore_merges = false, add_bos = false;
};

const std::vector<PreTokenization>& KnownPreTokenizations();
// "": "default". UserError naming `where` for a name that is not known.
const PreTokenization& FindPreTokenization(const std::string& name, const std::string& where);

}  // namespace taipan
