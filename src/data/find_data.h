#pragma once
// Which files the paths of --data and --valid-data mean.

#include <string>
#include <vector>

namespace taipan {

enum class DataUse { kTraining, kValidation };

struct DataFiles {
  std::vector<std::string> files;
  std::vector<std::string> valid;  // of a folder that holds training and validation data, for training: the latter
  std::vector<std::string> notes;  // what was left out and why, a line each
};

// paths: files, "-" for standard input, pipes, and folders. Of a folder everything below counts, sorted by path;
// hidden and empty files do not, nor do files that are no data (notes say so). A folder with training and validation
// data (train.bin and val.bin, fineweb_train_000001.bin and fineweb_val_000000.bin, the folders train and valid) gives
// the files of one use; other files beside them are left out.
// UserError for a path that is missing, a folder without data, and one that holds both text and token files.
DataFiles FindData(const std::vector<std::string>& paths, DataUse use);

// Whether any of the files is text and so needs a tokenizer. Missing paths and files that are no data are no text.
bool HoldsText(const std::vector<std::string>& paths, DataUse use);

}  // namespace taipan
