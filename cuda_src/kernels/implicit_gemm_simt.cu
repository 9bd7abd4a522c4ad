// Convolution as one matrix product without a patch matrix: fprop, dgrad and wgrad as the correlation of
// tile/correlation.cuh, by fused multiply-add.
//
//   rows m      a pixel (i, j) of the result and an image, of one residue class
//   columns n   filters of one group
//   depth k     a channel and a tap (r, s); only those that a class meets
//
// One block computes BLOCK_M × BLOCK_N results of one group and class, or with SPLIT a part of each sum. It walks the
// depth in stages of BLOCK_K:
//
//                      BLOCK_N                       shared memory
//                  ┌────────────┐                      table  twice: offset and cell of each place of a stage
//          BLOCK_K │    taps    │                      in     twice: [k][m]
//                  └────────────┘                      taps   twice: [k][n]
//        BLOCK_K                                       rows a little longer than the block, which keeps banks apart
//       ┌───────┐  ┌──────┬─────┐
//       │       │  │ warp │     │ WARP_M              a warp: lanes hold quads of 4 × 4 results, as far apart as the
// BLOCK │  in   │  ├──────┼─────┤                     lanes reach, so that they read shared memory by quads
//     M │       │  │WARP_N│     │
//       └───────┘  └──────┴─────┘
//
// While the block multiplies stage t, every thread has its vectors of stage t + 1 in flight in registers, and the
// first BLOCK_K threads fill the table of stage t + 2. Vectors join shared memory, widened, once stage t is done; one
// barrier a stage. Cells outside the input and places beyond the end of the sum are zeros on their way.
//
// Sums have two levels, the stage's and the total, and so stay in bounds whatever the data.
//
// tile/operand.cuh and tile/depth.cuh load operands for any such product; include/gpuconv/gemm/ holds the rooms of
// this one: config, tiles, block, sums.
#include <gpuconv/gemm/sums.cuh>

namespace gpuconv {
namespace {

template <bool Aligned>
__device__ __forceinline__ void multiply(const GemmParams& params, const Block& block, const Place& place, Sums& sums) {
  Table* tables = reinterpret_cast<Table*>(ptx::dynamic_shared());
  Sum* stages = reinterpret_cast<Sum*>(ptx::dynamic_shared() + kTableBytes);
  const int writer = threadIdx.x;
  Cursor cursor(params.channels, block.rows, block.columns, block.first, writer);
  const int count = block.last - block.first;
  auto write = [&](int t) {
    if (writer < BLOCK_K) cursor.write(tables + t % 2, writer, params, t < count);
    cursor.next();
  };
  In in;
  Taps taps;
  locate_in(in, params, block);
  locate_taps(taps, params, block);
  auto load = [&](int t) {
    in.load<Aligned>(Tabled<DepthPlace>{tables[t % 2].in}, params.rows.in_size, params.columns.in_size);
    taps.load<Aligned>(Tabled<DepthOffset>{tables[t % 2].taps});
  };
  auto put = [&](int t) {
    Sum* stage = stages + t % 2 * kStageCells;
    in.flight.store(stage);
    taps.flight.store(stage + BLOCK_K * kPitchM);
  };

  write(0);
  write(1);
  __syncthreads();
  load(0);
  put(0);
  __syncthreads();
#pragma unroll 1
  for (int t = 0; t < count; ++t) {
    load(t + 1);  // nothing but zeros where the block's part of the sum is over
    const Sum* stage = stages + t % 2 * kStageCells;
    sums.add_stage<Aligned ? kUnroll : 4>(stage + place.m, stage + BLOCK_K * kPitchM + place.n);
    put(t + 1);
    write(t + 2);
    __syncthreads();
  }
}

}  // namespace
}  // namespace gpuconv

extern "C" __global__ void __launch_bounds__(gpuconv::kThreads, 1)
    implicit_gemm_simt(const __grid_constant__ gpuconv::GemmParams params) {
  using namespace gpuconv;
  const Block block(params);
  if (block.m >= block.count_m) return;  // this class has fewer
  const Place place;
  Sums sums;
  if (block.first < block.last) {
    const bool aligned = is_aligned<Pack<Element, IN_VECTOR>>(params.in) &&
                         is_aligned<Pack<Element, TAPS_VECTOR>>(params.taps);
    if (aligned) multiply<true>(params, block, place, sums);
    else multiply<false>(params, block, place, sums);
  }

  if constexpr (SPLIT) {
    const Epilogue<Sum, false, false, false> partial{static_cast<Sum*>(params.out), nullptr, nullptr};
    store(partial, params, block, place, sums);
  } else {
    const Epilogue<Element, BIAS, RESIDUAL, RELU> finish{static_cast<Element*>(params.out),
                                                         static_cast<const Element*>(params.bias),
                                                         static_cast<const Element*>(params.residual)};
    store(finish, params, block, place, sums);
  }
}
