// The gradient to a bias: out[k] = Σ over images and pixels of from[n, k, i, j], always in the same order.
//
//            channels, CHANNEL_LANES to a block
//         +-----------+-----------+--
//  rows   |  block 0  |  block 1  |     a row is one pixel of one image
//  of one |           |           |     thread (r, c) adds channel c of every ROW_LANES-th row from r on,
//  part   +-----------+-----------+--   then the block adds its threads' sums in halves, through shared memory
//         |  the next part        |
//
// Sums of several parts go to a workspace, part by part, and kernels/split_sum.cu adds these. In NCHW a block has one
// channel, and its threads read neighbouring pixels; in NHWC they read neighbouring channels.
//
// Shared memory: one sum for each thread.
#include <gpuconv/params.cuh>
#include <gpuconv/ptx/global.cuh>
#include <gpuconv/ptx/shared.cuh>
#include <gpuconv/tile/element.cuh>

#ifndef ELEMENT
#define ELEMENT f32
#endif
// channels of a block: a power of two
#ifndef CHANNEL_LANES
#define CHANNEL_LANES 1
#endif
// whether sums are those of one part of several, and stay in the accumulator's type
#ifndef PARTIAL
#define PARTIAL 0
#endif
#ifndef BLOCK_THREADS
#define BLOCK_THREADS 256
#endif

namespace gpuconv {
namespace {

using Element = ELEMENT;
using Sum = Accumulator<Element>;

constexpr int kRowLanes = BLOCK_THREADS / CHANNEL_LANES;
static_assert(kRowLanes * CHANNEL_LANES == BLOCK_THREADS, "lanes fill the block");
static_assert((kRowLanes & (kRowLanes - 1)) == 0, "sums are added in halves");

// Every kRowLanes-th row from the first one on, before the end.
__device__ __forceinline__ Sum sum_of_rows(const BiasGradParams& params, long long row, long long end, int channel) {
  const long long image = row / params.cells;
  int cell = static_cast<int>(row - image * params.cells);
  const Element* at = static_cast<const Element*>(params.from) + image * params.image + channel * params.channel + cell;
  Sum sum = 0;
#pragma unroll 4
  for (; row < end; row += kRowLanes) {
    sum += widen(ptx::ld_global_nc(at));
    at += params.step;
    cell += params.step_cells;
    if (cell >= params.cells) {
      cell -= params.cells;
      at += params.next_image;
    }
  }
  return sum;
}

}  // namespace
}  // namespace gpuconv

extern "C" __global__ void __launch_bounds__(BLOCK_THREADS)
    bias_grad(const __grid_constant__ gpuconv::BiasGradParams params) {
  using namespace gpuconv;
  unsigned tile;
  const long long part = params.tiles.divmod(blockIdx.x, tile);
  const int lane = threadIdx.x % CHANNEL_LANES, row_lane = threadIdx.x / CHANNEL_LANES;
  const long long channel = static_cast<long long>(tile) * CHANNEL_LANES + lane;
  const long long first = part * params.part_rows;
  const long long behind = first + params.part_rows;
  Sum sum = 0;
  if (channel < params.channels)
    sum = sum_of_rows(params, first + row_lane, behind < params.rows ? behind : params.rows, static_cast<int>(channel));

  Sum* const sums = reinterpret_cast<Sum*>(ptx::dynamic_shared());
  ptx::st_shared(sums + threadIdx.x, sum);
#pragma unroll
  for (int half = kRowLanes / 2; half > 0; half /= 2) {
    __syncthreads();
    if (row_lane < half) {
      sum += ptx::ld_shared(sums + threadIdx.x + half * CHANNEL_LANES);
      ptx::st_shared(sums + threadIdx.x, sum);
    }
  }
  if (row_lane != 0 || channel >= params.channels) return;
  if constexpr (PARTIAL) ptx::st_global(static_cast<Sum*>(params.to) + part * params.channels + channel, sum);
  else ptx::st_global(static_cast<Element*>(params.to) + channel, narrow<Element>(sum));
}
