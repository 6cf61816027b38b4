#pragma once
// How a text is cut into words, by the names of tokenizer.ggml.pre.

#include <string>
#include <vector>

namespace taipan {

struct PreTokenization {
  std::vector<const char*> names;     // the first is the one that we write
  std::vector<std::string> patterns;  // each cuts what the one before it left
  bool ignore_merges = false, add_bos = false;
  // The models' own tokenizer.json where it says it in another way, and what the difference is, "" for none.
  std::vector<std::string> original = {};
  const char* remark = "";
};

const std::vector<PreTokenization>& KnownPreTokenizations();
// "": "default". UserError naming `where` for a name that is not known.
const PreTokenization& FindPreTokenization(const std::string& name, const std::string& where);

}  // namespace taipan
