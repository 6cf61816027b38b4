#include "kernels/gemm/gemm_tile.h"

#include <algorithm>
#include <atomic>
#include <dnnl.hpp>
#include <map>
#include <tuple>
#include <vector>

#include "base/memory.h"
#include "base/parallel.h"
#include "base/signals.h"
#include "kernels/gemm/gemm_amx.h"
#include "kernels/gemm/tile_bf16.h"

namespace taipan {
namespace {

using dnnl::memory;

// oneDNN generates code for a kind of product when it meets the first, and writes to address 0 where memory ran out.
constexpr int64_t kRoomForCode = int64_t{16} << 20;

void RequireRoomOnce(bool a_transposed, bool b_transposed, bool add, bool vector) {
  static std::atomic<bool> done[16];
  std::atomic<bool>& mine = done[a_transposed + 2 * b_transposed + 4 * add + 8 * vector];
  if (mine.load(std::memory_order_relaxed)) return;
  RequireRoom(kRoomForCode);
  mine = true;
}

void Sgemm(int64_t k, TileOperand a, TileOperand b, MatrixView c, bool add) {
  RequireRoomOnce(a.transposed, b.transposed, add, c.rows == 1 || c.cols == 1);
  const dnnl_status_t status =
      dnnl_sgemm(a.transposed ? 'T' : 'N', b.transposed ? 'T' : 'N', c.rows, c.cols, k, 1.0f,
                 static_cast<const float*>(a.data), std::max<int64_t>(a.stride, 1), static_cast<const float*>(b.data),
                 std::max<int64_t>(b.stride, 1), add ? 1.0f : 0.0f, c.F32(), c.stride);
  if (status == dnnl_out_of_memory) throw std::bad_alloc();
  if (status != dnnl_success) {
    CheckFailed(__FILE__, __LINE__,
                fmt::format("dnnl_sgemm failed with status {} (m {}, n {}, k {})", static_cast<int>(status), c.rows,
                            c.cols, k));
  }
}

memory::data_type TypeOf(DType dtype) {
  switch (dtype) {
    case DType::kBF16:
      return memory::data_type::bf16;
    case DType::kU8:
      return memory::data_type::u8;
    case DType::kI8:
      return memory::data_type::s8;
    case DType::kI32:
      return memory::data_type::s32;
    default:
      CHECK(dtype == DType::kF32);
      return memory::data_type::f32;
  }
}

memory::desc Descriptor(int64_t rows, int64_t cols, DType dtype, int64_t stride, bool transposed) {
  const memory::dims strides = transposed ? memory::dims{1, stride} : memory::dims{stride, 1};
  return {memory::dims{rows, cols}, TypeOf(dtype), strides};
}

struct Shape {
  int64_t m, n, k, a_stride, b_stride, c_stride;
  DType a_dtype, c_dtype;
  bool a_transposed, b_transposed, add;
  auto Key() const {
    return std::tie(m, n, k, a_stride, b_stride, c_stride, a_dtype, c_dtype, a_transposed, b_transposed, add);
  }
  bool operator<(const Shape& other) const { return Key() < other.Key(); }
};

const dnnl::engine& Cpu() {
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

// A primitive for products of operands of one type and shape.
struct Product {
  dnnl::matmul::primitive_desc descriptor;
  dnnl::matmul primitive;

  explicit Product(const Shape& s) {
    dnnl::primitive_attr attributes;
    attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    if (s.add) {
      dnnl::post_ops sum;
      sum.append_sum(1.0f);
      attributes.set_post_ops(sum);
    }
    const DType b_dtype = s.a_dtype == DType::kU8 ? DType::kI8 : s.a_dtype;
    const memory::desc a = Descriptor(s.m, s.k, s.a_dtype, s.a_stride, s.a_transposed);
    const memory::desc b = Descriptor(s.k, s.n, b_dtype, s.b_stride, s.b_transposed);
    const memory::desc c = Descriptor(s.m, s.n, s.c_dtype, s.c_stride, false);
#if DNNL_VERSION_MAJOR >= 3
    descriptor = dnnl::matmul::primitive_desc(Cpu(), a, b, c, attributes);
#else
    descriptor = dnnl::matmul::primitive_desc({a, b, c}, attributes, Cpu());
#endif
    primitive = dnnl::matmul(descriptor);
  }
};

// Primitives that this thread has used: making one costs as much as a small product, and some kernels are generated
// for their shape. The shapes of a run are few: the model's layers by the row counts of a tile.
struct ThreadProducts {
  std::map<Shape, Product> products;
  std::vector<uint8_t> scratchpad;
  dnnl::stream stream{Cpu()};

  Product& Find(const Shape& shape) {
    constexpr size_t kMost = 4096;
    const auto found = products.find(shape);
    if (found != products.end()) return found->second;
    if (products.size() >= kMost) products.clear();
    RequireRoom(kRoomForCode);
    return products.emplace(shape, Product(shape)).first->second;
  }
};

void CachedProduct(int64_t k, DType dtype, TileOperand a, TileOperand b, MatrixView c, bool add) {
  thread_local ThreadProducts mine;
  const Shape shape{c.rows, c.cols, k, a.stride, b.stride, c.stride, dtype, c.dtype, a.transposed, b.transposed, add};
  Product& product = mine.Find(shape);
  const auto bind = [](const memory::desc& desc, const void* data) {
    return memory(desc, Cpu(), const_cast<void*>(data));  // oneDNN's API knows no const; inputs are only read
  };
  const size_t needed = product.descriptor.scratchpad_desc().get_size();
  if (mine.scratchpad.size() < needed) mine.scratchpad.resize(needed);
  product.primitive.execute(
      mine.stream, {{DNNL_ARG_SRC, bind(product.descriptor.src_desc(), a.data)},
                    {DNNL_ARG_WEIGHTS, bind(product.descriptor.weights_desc(), b.data)},
                    {DNNL_ARG_DST, bind(product.descriptor.dst_desc(), c.data)},
                    {DNNL_ARG_SCRATCHPAD, bind(product.descriptor.scratchpad_desc(), mine.scratchpad.data())}});
}

// Where the CPU has no bf16 instructions (AVX2, ARM; oneDNN emulates them on AVX-512, slower than this): in f32, exact
// products all the same.
float* Widened(TileOperand x, int64_t rows, int64_t cols, std::vector<float>& to) {
  if (x.transposed) std::swap(rows, cols);
  to.resize(static_cast<size_t>(rows * cols));
  for (int64_t r = 0; r < rows; ++r) {
    const BF16* from = static_cast<const BF16*>(x.data) + r * x.stride;
    for (int64_t c = 0; c < cols; ++c) to[static_cast<size_t>(r * cols + c)] = ToFloat(from[c]);
  }
  return to.data();
}
void ProductInF32(int64_t k, TileOperand a, TileOperand b, MatrixView c, bool add) {
  thread_local std::vector<float> wide_a, wide_b, wide_c;
  const TileOperand fa{Widened(a, c.rows, k, wide_a), a.transposed ? c.rows : k, a.transposed};
  const TileOperand fb{Widened(b, k, c.cols, wide_b), b.transposed ? k : c.cols, b.transposed};
  if (c.dtype == DType::kF32) {
    Sgemm(k, fa, fb, c, add);
    return;
  }
  wide_c.resize(static_cast<size_t>(c.rows * c.cols));
  Sgemm(k, fa, fb, MatrixView(wide_c.data(), c.rows, c.cols), false);
  for (int64_t r = 0; r < c.rows; ++r) {
    for (int64_t j = 0; j < c.cols; ++j) c.As<BF16>(r)[j] = ToBF16(wide_c[static_cast<size_t>(r * c.cols + j)]);
  }
}

bool UsesAmxProducts() { return UsesAmxInstructions() && ActiveProductIsa() == ProductIsa::kAmx; }
bool HasAvx512() { return dnnl_get_effective_cpu_isa() >= dnnl_cpu_isa_avx512_core; }

}  // namespace

TileOperand TileColumns(TileOperand b, DType dtype, int64_t from) {
  const int64_t offset = (b.transposed ? from * b.stride : from) * SizeOf(dtype);
  return {static_cast<const uint8_t*>(b.data) + offset, b.stride, b.transposed};
}

TileOperand TileRows(TileOperand b, DType dtype, int64_t from) {
  return {TileColumns({b.data, b.stride, !b.transposed}, dtype, from).data, b.stride, b.transposed};
}

void TileProduct(int64_t k, DType dtype, TileOperand a, TileOperand b, MatrixView c, bool add) {
  const OneThread one;        // with threads of its own oneDNN cuts K and changes the sums
  const HoldSignals signals;  // while its code has the stack pointer
  if (dtype == DType::kF32) {
    Sgemm(k, a, b, c, add);
    return;
  }
  CHECK(dtype == DType::kBF16 || dtype == DType::kU8);
  CHECK(!add || c.dtype == DType::kF32);
  if (dtype == DType::kBF16 && ActiveProductIsa() < ProductIsa::kAvx512BF16) {
    ProductInF32(k, a, b, c, add);
    return;
  }
  if (dtype == DType::kBF16 && UsesAmxProducts()) return AmxProduct(k, a, b, c, add);
  try {
    CachedProduct(k, dtype, a, b, c, add);
  } catch (const dnnl::error& e) {
    if (e.status == dnnl_out_of_memory) throw std::bad_alloc();
    CheckFailed(__FILE__, __LINE__, fmt::format("oneDNN: {} (m {}, n {}, k {})", e.what(), c.rows, c.cols, k));
  }
}

bool LimitProductIsa(ProductIsa isa) {
  constexpr dnnl_cpu_isa_t kIsas[] = {dnnl_cpu_isa_all,
                                      dnnl_cpu_isa_sse41,
                                      dnnl_cpu_isa_avx2,
                                      dnnl_cpu_isa_avx512_core_vnni,
                                      dnnl_cpu_isa_avx512_core_bf16,
                                      dnnl_cpu_isa_all};
  // Asking oneDNN what it has fixes what it uses, so the limit comes first.
  if (dnnl_set_max_cpu_isa(kIsas[static_cast<int>(isa)]) != dnnl_success) return false;
  return isa <= ProductIsa::kSse || ActiveProductIsa() >= isa;
}

ProductIsa ActiveProductIsa() {
  const dnnl_cpu_isa_t isa = dnnl_get_effective_cpu_isa();
  if (isa > dnnl_cpu_isa_avx512_core_bf16) return ProductIsa::kAmx;
  if (isa >= dnnl_cpu_isa_avx512_core_bf16) return ProductIsa::kAvx512BF16;
  if (isa >= dnnl_cpu_isa_avx512_core) return ProductIsa::kAvx512;
  if (isa >= dnnl_cpu_isa_avx2) return ProductIsa::kAvx2;
  return ProductIsa::kSse;
}

bool HasInt8Products() {
  const dnnl_cpu_isa_t isa = dnnl_get_effective_cpu_isa();
  return isa >= dnnl_cpu_isa_avx512_core_vnni || isa == dnnl_cpu_isa_avx2_vnni;
}

RowRule RowRuleOf(DType dtype) {
  if (dtype == DType::kBF16 && UsesAmxProducts()) return {NumThreads() <= 4 ? 512 : 128, 1, 1, 192};
  if (dtype == DType::kBF16 && ActiveProductIsa() >= ProductIsa::kAvx512BF16) return {256, 16, 16};
  return HasAvx512() ? RowRule{256, 16, 1, 512, 384} : RowRule{96, 18, 6, 512, 256};
}

}  // namespace taipan
