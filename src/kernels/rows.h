#pragma once
// Rows of a matrix picked by index, and back. Indices are checked; where rows are written to they ascend.

#include "tensor/tensor.h"

namespace taipan {

// to [n, d] = rows of `from`, of one type.
void GatherRows(ConstMatrixView from, const int64_t* rows, MatrixView to);
// to[rows[i]] = from[i], f32; rows that are not named are zero afterwards.
void ScatterRows(ConstMatrixView from, const int64_t* rows, MatrixView to);
// to[rows[i]] += from[i], f32.
void AddRows(ConstMatrixView from, const int64_t* rows, MatrixView to);
void ZeroRows(MatrixView m);

}  // namespace taipan
