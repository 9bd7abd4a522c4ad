// The gradient to an image, from the gradients to the cells of the padded one: each cell takes what all cells that
// hold it have got, of all splits, always in the same order. The end is that of any kernel.
//
// The result is [outer][row][column][inner]: inner are channels where they are neighbours in memory (NHWC), else
// outer are images and channels. A block takes neighbours of one row, a thread one of them.
#include <gpuconv/epilogue/config.cuh>
#include <gpuconv/epilogue/finish.cuh>
#include <gpuconv/params.cuh>
#include <gpuconv/tile/border.cuh>

#ifndef BLOCK_THREADS
#define BLOCK_THREADS 128
#endif
#ifndef BORDER
#define BORDER kReflect
#endif

namespace gpuconv {
namespace {

using Element = ELEMENT;
using Sum = Accumulator<Element>;

// A sum whose error does not grow with the number of terms: what rounding loses is summed apart.
struct LongSum {
  Sum total, lost;

  __device__ __forceinline__ void add(Sum term) {
    const Sum larger = total + term, kept = larger - total;
    lost += (total - (larger - kept)) + (term - kept);
    total = larger;
  }
  __device__ __forceinline__ Sum value() const {
    const Sum whole = total + lost;
    return lost - lost == 0 ? whole : total;  // beyond the finite numbers nothing was lost
  }
};

}  // namespace
}  // namespace gpuconv

extern "C" __global__ void __launch_bounds__(BLOCK_THREADS, 1)
    border_sum(const __grid_constant__ gpuconv::BorderSumParams params) {
  using namespace gpuconv;
  unsigned tile, h, inner, channel;
  const unsigned outer = params.rows.divmod(params.tiles.divmod(blockIdx.x, tile), h);
  const unsigned along = tile * BLOCK_THREADS + threadIdx.x;
  if (along >= static_cast<unsigned>(params.row_elements)) return;
  const unsigned w = params.inner.divmod(along, inner);
  params.channels.divmod(params.inner.divisor > 1 ? inner : outer, channel);

  const Sum* image = static_cast<const Sum*>(params.partial) + outer * params.image + inner;
  const Holders<BORDER> rows(h, params.height, params.top, params.bottom);
  const Holders<BORDER> columns(w, params.width, params.left, params.right);
  LongSum total{0, 0};
#pragma unroll 1
  for (int i = 0; i < rows.count; ++i) {
    int row;
    if (!rows.at(i, row)) continue;
#pragma unroll 1
    for (int j = 0; j < columns.count; ++j) {
      int column;
      if (!columns.at(j, column)) continue;
      const Sum* from = image + (params.top + row) * params.row +
                        static_cast<long long>(params.left + column) * params.inner.divisor;
#pragma unroll 1
      for (int split = 0; split < params.splits; ++split, from += params.split_elements)
        total.add(ptx::ld_global_nc(from));
    }
  }
  const Sum sums[1] = {total.value()};
  const Epilogue<Element, BIAS, RESIDUAL, RELU> finish{static_cast<Element*>(params.out),
                                                       static_cast<const Element*>(params.bias),
                                                       static_cast<const Element*>(params.residual)};
  finish.store(sums, channel, 0, (static_cast<long long>(outer) * params.height + h) * params.row_elements + along, 1);
}
