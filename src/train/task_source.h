#pragma once
// Synthetic tasks as data without end: --data mqar:pairs=16,length=128 and the like. A row is a function of the task,
// its seed and the row's number.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "text/tokenizer.h"
#include "train/batch_source.h"

namespace taipan {

// Whether it is a task and not a path: NAME: or NAME:KEY=NUMBER,...
bool IsTask(const std::string& given);

// mqar: key-value pairs, then keys among blanks that ask for their values (recall_task.h). copy: random tokens, a mark,
// the same tokens again. passkey: a number in a long text, asked for at its end; its text is tokenized. context: tokens
// of a row where the task names no length. UserError for an unknown task or key, and for numbers that do not go
// together or into the vocabulary. The tokenizer is needed by passkey alone and only while the source is made.
std::shared_ptr<const BatchSource> MakeTask(const std::string& task, int64_t context, int64_t batch_size,
                                            int64_t vocab_size, const Tokenizer* tokenizer);

bool TaskNeedsTokenizer(const std::string& task);

}  // namespace taipan
