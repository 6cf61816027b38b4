#pragma once
// Where the files of a model are, for the path that somebody gave: besides a folder with config.json or a GGUF file
// this may be a file in such a folder, a run folder, a folder that holds one GGUF file, or a cache of downloads.

#include <string>

namespace taipan {

// The folder with config.json, or the GGUF file; a path that is either already is returned without its trailing
// slashes. "" where `given` leads to neither. UserError where there are several to choose from.
std::string FindModel(const std::string& given);

// FindModel, with a UserError for what leads to no model that says what is there.
std::string ModelPathOf(const std::string& given);

// True for a file that begins as GGUF does or is called so, in a folder or not.
bool IsGgufPath(const std::string& path);

}  // namespace taipan
